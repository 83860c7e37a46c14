"""jKool (now meshIQ): one event as JSON per POST; a handshake on every connection, the key on every request."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from .._support.lazy_pattern import LazyPattern
from .._version import __version__
from ..errors import ConfigurationError, DeliveryError, UnauthorisedError, suggest_keywords
from ..event.model import Event
from .protocol import AppContext, HttpResponse
from .settings import validators
from .settings.http_settings import HttpSettings

_ACCESS_RESPONSE = LazyPattern(r"\s*(<\?xml[^>]*>\s*)?<access-resp\b", re.IGNORECASE)
_SUCCESS = LazyPattern(r"<success>([^<]*)</success>", re.IGNORECASE)
_REASON = LazyPattern(r"<reason>([^<]*)</reason>", re.IGNORECASE)

@suggest_keywords
@dataclass(frozen=True)
class JKool(HttpSettings):
    """Sends events to jKool. Raises ConfigurationError for a wrong value.

    ``token`` is sent with each request and in the handshake. ``url``: the service's address
    (https://data.jkoolcloud.com). ``source_fqn``: the source of all events
    (``APPL=<app>#SERVER=<host>#NETADDR=<address>``). ``handshake``: whether an access-request opens every connection
    (True). ``keys``: "2016" (the default), or "tnt4j" for the newer names. ``special_numbers``: NaN and infinities are
    left out ("suppress", the default) or quoted ("enquote"). ``batch``: "array" or "lines" (one object per line) of at
    most 500 events per request, for gateways that take them (None: one event per request).

    `Trakerr` describes what all backends over HTTP have: ``level`` (INFO), ``timeout`` (10, 10), ``max_in_flight``
    (16), ``initial_in_flight`` (1), ``name`` ("jkool"), ``ca_bundle``, ``client_cert``, ``compress`` (of batches only),
    ``max_idle`` (45), ``max_age`` (120), ``keepalive`` (15).
    """

    token: str = field(repr=False)
    url: str = "https://data.jkoolcloud.com"
    _: KW_ONLY
    source_fqn: str | None = None
    handshake: bool = True
    level: int = logging.INFO
    keys: str = "2016"
    special_numbers: str = "suppress"
    name: str = "jkool"

    def __post_init__(self) -> None:
        validators.secret("JKool.token", self.token)
        validators.url("JKool.url", self.url)
        if self.source_fqn is not None:
            self._check_fqn(self.source_fqn)
        validators.flag("JKool.handshake", self.handshake)
        self._set("keys", validators.one_of("JKool.keys", self.keys, ("2016", "tnt4j")))
        choices = ("suppress", "enquote")
        self._set("special_numbers", validators.one_of("JKool.special_numbers", self.special_numbers, choices))
        self._check_http("JKool", (None, "array", "lines"))

    @staticmethod
    def _check_fqn(value: object) -> None:
        from .wire.jkool_event import fqn_problem  # few applications set it

        if problem := fqn_problem(value):
            raise ConfigurationError("JKool.source_fqn", value, f"must be TYPE=name#TYPE=name…; {problem}")

    @property
    def max_events(self) -> int:
        return 1 if self.batch is None else 500

    @property
    def destination(self) -> tuple[str, str]:
        """URL and token: equal for backends that send to the same place."""
        return self.endpoint, self.token

    @property
    def endpoint(self) -> str:
        """The URL without query and fragment, as tnt4py sends it."""
        parts = validators.split(self.url)
        return parts._replace(path=parts.path or "/", query="", fragment="").geturl()

    def headers(self, context: AppContext) -> Mapping[str, str]:
        import platform  # used in the shipper process only

        own = {
            "Content-Type": "application/x-ndjson" if self.batch == "lines" else "application/json",
            "X-API-Key": self.token,
            "X-API-Host-Name": context.host,
            "X-API-Host-Addr": context.address,
            "X-API-Runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "X-API-Version": __version__,
        }
        return {**own, "Content-Encoding": "gzip"} if self.compress else own

    def request_headers(self, events: Sequence[Event]) -> Mapping[str, str]:
        return {}

    def body(self, events: Sequence[Event], context: AppContext) -> bytes:
        from .wire import jkool_body  # only where requests are made

        # A derived class may encode events in another way, or may not be hashable.
        return jkool_body.body(self, events, context, is_plain=type(self) is JKool)

    def handshake_request(self) -> tuple[Mapping[str, str], bytes] | None:
        """The access-request, which opens every connection (module streaming of tnt4py, 2016)."""
        if not self.handshake:
            return None
        import html  # used in the shipper process only: its table of entities is large

        token = html.escape(self.token, quote=False)
        body = f"<access-request><token>{token}</token></access-request>"
        return {"Content-Type": "text/plain", "X-API-Key": self.token}, body.encode()

    def classify_response(self, response: HttpResponse) -> DeliveryError | None:
        """UnauthorisedError for an access-resp whose success is not true, whatever the status is."""
        if not _ACCESS_RESPONSE.match(response.body):
            return None
        success = _SUCCESS.search(response.body)
        if success is None or success[1].strip().lower() == "true":
            return None
        import html

        given = _REASON.search(response.body)
        reason = html.unescape(given[1].strip()) if given else f"success={success[1].strip()}"
        return UnauthorisedError(f"access refused: {reason}", status=response.status, body=response.body)

    def wire_event(self, event: Event, context: AppContext) -> dict[str, Any]:
        """The event's JSON object, without keys that the client set to None."""
        from .wire import jkool_body

        return jkool_body.wire_event(self, event, context)
