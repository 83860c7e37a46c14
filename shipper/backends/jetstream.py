"""The settings of the backend for NATS JetStream: a replicated log between many machines and the services.

What is published is in `shipper/stream/`; relays deliver it from there (`shipper/relay/`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib.util import find_spec

from .._version import DISTRIBUTION
from ..errors import ConfigurationError, suggest_keywords
from .protocol import Described
from .settings import validators

MAX_EVENTS = 5000  # in one call of `send`; the bytes of a batch bound it earlier
_SERVER = re.compile(r"(?P<scheme>nats|tls)://(?P<user>[^/@]*@)?(?P<host>\[[0-9a-fA-F:]+\]|[^/@:\[\]\s]+)(:\d{1,5})?/?")
_STREAM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DURABLE = re.compile(r"[A-Za-z0-9_-]{1,128}")


@suggest_keywords
@dataclass(frozen=True)
class JetStream(Described):
    """Publishes events to a stream of NATS JetStream.

    ``servers``: addresses such as ``nats://host:4222`` or ``tls://host:4222``. ``stream``: its name ("SHIPPER");
    ``subject``: what its subjects begin with ("shipper"). ``user`` and ``password``, or ``credentials``, the path of a
    .creds file: who publishes. ``ca_bundle``: a file or folder of CA certificates; ``client_cert``: the files of a
    certificate and its key. ``durables``: consumers that must exist before anything is published, such as
    ``relay-http``; without any, at least one must exist in a stream that drops what nobody consumes. ``create``: make
    the stream when there is none (False), with ``replicas``, 1, 3 or 5 (3), ``max_bytes``, a number at which it refuses
    more (10 GiB), and ``window``, the seconds in which a message that comes again is recognised (120). ``replicas`` is
    also what `shipper check` expects. ``timeout``: seconds until a message is acknowledged (5). ``max_in_flight``: the
    most batches at the same time (4); with 1 the order of events is kept. ``level``: the lowest level that is published
    (NOTSET).

    Raises ConfigurationError for a wrong value, and where nats-py is not installed.
    """

    servers: Sequence[str]
    _: KW_ONLY
    stream: str = "SHIPPER"
    subject: str = "shipper"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    credentials: str | None = None
    ca_bundle: str | None = None
    client_cert: Sequence[str] | None = None
    durables: Sequence[str] = ()
    create: bool = False
    replicas: int = 3
    max_bytes: int = 10 * 1024**3
    window: float = 120.0
    timeout: float = 5.0
    level: int = logging.NOTSET
    max_in_flight: int = 4
    name: str = "jetstream"

    def __post_init__(self) -> None:
        if find_spec("nats") is None:
            allowed = f"needs nats-py: pip install '{DISTRIBUTION}[nats]'"
            raise ConfigurationError("JetStream", self.servers, allowed)
        self._set("servers", _servers(self.servers))
        for setting, pattern in (("stream", _STREAM), ("subject", _STREAM)):
            if not isinstance(value := getattr(self, setting), str) or not pattern.fullmatch(value):
                raise ConfigurationError(f"JetStream.{setting}", value, "must be 1 to 64 letters, digits, - or _")
        self._check_who()
        self._set("ca_bundle", validators.readable_path("JetStream.ca_bundle", self.ca_bundle))
        self._set("client_cert", validators.client_cert("JetStream.client_cert", self.client_cert))
        self._set("durables", validators.texts("JetStream.durables", self.durables))
        for each in self.durables:
            if not _DURABLE.fullmatch(each):
                raise ConfigurationError("JetStream.durables", each, "must be letters, digits, - or _")
        validators.flag("JetStream.create", self.create)
        validators.one_of("JetStream.replicas", self.replicas, (1, 3, 5))
        _whole("max_bytes", self.max_bytes)
        for setting in ("window", "timeout"):
            if not validators.seconds(f"JetStream.{setting}", getattr(self, setting)):
                raise ConfigurationError(f"JetStream.{setting}", 0, "must be more than 0 seconds")
        validators.in_flight("JetStream.max_in_flight", self.max_in_flight)
        self._set("level", validators.level("JetStream.level", self.level))
        validators.name("JetStream.name", self.name)

    def _check_who(self) -> None:
        for setting in ("user", "password"):
            if getattr(self, setting) is not None:
                validators.secret(f"JetStream.{setting}", getattr(self, setting))
        if (self.user is None) != (self.password is None):
            raise ConfigurationError("JetStream.user", self.user, "needs a password, and a password needs a user")
        if self.credentials is not None:
            self._set("credentials", validators.client_cert("JetStream.credentials", self.credentials)[0])  # type: ignore[index]

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the class is frozen

    @property
    def max_events(self) -> int:
        return MAX_EVENTS

    @property
    def initial_in_flight(self) -> int:
        return min(2, self.max_in_flight)

    @property
    def destination(self) -> tuple[object, ...]:
        """Servers, stream and who publishes: equal for backends that send to the same place."""
        return self.servers, self.stream, self.subject, self.user, self.password, self.credentials

    @property
    def endpoint(self) -> str:
        """The first of the servers: where the status says that events go."""
        return self.servers[0]

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted; the server may ask for it all the same."""
        return bool(self.ca_bundle or self.client_cert) or any(each.startswith("tls:") for each in self.servers)

    @property
    def dead_stream(self) -> str:
        """The name of the stream of dead letters."""
        return f"{self.stream}_DEAD"

    @property
    def dead_subject(self) -> str:
        """What the subjects of dead letters begin with; the backend's name and the event's id follow."""
        return f"{self.subject}-dead"

    @property
    def relays_subject(self) -> str:
        """The subject on which relays say how they do."""
        return f"{self.subject}-relays.status"


def _servers(value: object) -> tuple[str, ...]:
    given = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
    servers = validators.texts("JetStream.servers", given)
    allowed = "must be addresses such as nats://host:4222 or tls://host:4222"
    for each in servers:
        found = _SERVER.fullmatch(each)
        if found is not None and found["user"]:
            shown = validators.without_password(each)
            raise ConfigurationError("JetStream.servers", shown, "must not hold a password: give user= and password=")
        if found is None:
            raise ConfigurationError("JetStream.servers", validators.without_password(each), allowed)
    if not servers:
        raise ConfigurationError("JetStream.servers", servers, allowed)
    return servers


def _whole(setting: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"JetStream.{setting}", value, "must be a whole number of at least 1")
