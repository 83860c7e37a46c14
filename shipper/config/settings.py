"""The settings of an app, shared by its processes and its shipper process, and how the latter gets them."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .._support.hashing import sha256_hex
from .._version import __version__
from ..backends.deprecated import is_http_backend, warn_of_old_methods
from ..backends.protocol import Backend, Described
from ..backends.settings.http_settings import HttpSettings
from ..errors import ConfigurationError
from ..event.redact import Redact
from .limits import OVERFLOW_SIZE, Batching, Retry, Size, Spooling, check_seconds, check_whole, size

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Settings:
    """What the application and its shipper process must agree on. Frozen, picklable; its `repr` shows no secret.

    ``backends``: where events go. ``app``: the name of the app. ``spool``: the whole path of its folder. ``level``: the
    lowest level that is shipped. ``overflow``: bytes that a process may hold while the pipe is full. ``grace``: seconds
    without progress after which the shipper process ends once its last writer has ended. ``python``: the interpreter of
    the shipper process, "" for the application's. ``exit_wait``: whether the end of a process waits until its events
    are delivered, or only until they are journaled; None: delivered in a container. ``exit_timeout``: seconds that it
    waits at most. ``owner``: the user that the application is going to be, "" for its present one. ``cwd``: the
    application's working directory. ``report_deaths``: whether the shipper process reports processes of the application
    that end without a clean close. ``is_named``: whether ``app`` was set, rather than derived from the program.
    ``name_from``: what ``app`` was derived from, see `config.app_name.DerivedName`.
    ``joined``: names of the backends that clients have added; only records that name such a backend go there.
    ``variables``: the settings that come from the environment, each with its variable's name.
    """

    backends: tuple[Any, ...]
    app: str
    spool: str
    level: int = logging.NOTSET
    batching: Batching = field(default_factory=Batching)
    retry: Retry = field(default_factory=Retry)
    spooling: Spooling = field(default_factory=Spooling)
    redact: Redact = field(default_factory=Redact)
    overflow: Size = OVERFLOW_SIZE
    grace: float = 30.0
    python: str = ""
    exit_wait: bool | None = None
    exit_timeout: float = 5.0
    owner: str = ""
    report_deaths: bool = False
    cwd: str = ""
    is_named: bool = True
    name_from: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    joined: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.app, str) or not _NAME.fullmatch(self.app):
            raise ConfigurationError("app", self.app, "must be 1 to 100 letters, digits, dots, dashes and underscores")
        if not is_path(self.spool):
            raise ConfigurationError("spool", self.spool, "must be the path of a folder")
        for name, kind in (("batching", Batching), ("retry", Retry), ("spooling", Spooling), ("redact", Redact)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(name, getattr(self, name), f"must be a shipper.{kind.__name__}")
        if not isinstance(self.python, str) or "\0" in self.python:
            raise ConfigurationError("python", self.python, "must be the path of a Python interpreter")
        object.__setattr__(self, "overflow", size("overflow", self.overflow, least=65536))
        check_seconds("grace", self.grace)
        check_seconds("exit_timeout", self.exit_timeout)
        if self.exit_wait is not None and not isinstance(self.exit_wait, bool):
            raise ConfigurationError("exit_wait", self.exit_wait, "must be True, False or None")
        if not isinstance(self.report_deaths, bool):
            raise ConfigurationError("report_deaths", self.report_deaths, "must be True or False")
        if not isinstance(self.owner, str):
            raise ConfigurationError("owner", self.owner, 'must be a user, or "user:group"')
        _check_backends(self.backends)

    def with_joined(self, backends: Sequence[Any]) -> Settings:
        """These settings with further backends, which clients have added."""
        if not backends:
            return self
        names = (*self.joined, *(backend.name for backend in backends))
        return dataclasses.replace(self, backends=(*self.backends, *backends), joined=names)

    def merge_joined(self, other: Settings) -> Settings:
        """These settings with the backends that clients have added to ``other``."""
        known = {backend.name for backend in self.backends}
        return self.with_joined([each for each in other.joined_backends if each.name not in known])

    @property
    def joined_backends(self) -> list[Any]:
        """The backends that clients have added."""
        return [each for each in self.backends if each.name in self.joined]

    @property
    def digest(self) -> str:
        """64 hex digits that are the same for equal settings in any process."""
        return self._digest_with(self.backends)

    @property
    def base_digest(self) -> str:
        """The digest without clients' backends; a process with older settings and another base digest is replaced."""
        return self._digest_with([each for each in self.backends if each.name not in self.joined])

    def _digest_with(self, backends: Sequence[Any]) -> str:
        joined = sorted(each.name for each in backends if each.name in self.joined)
        lines = [__version__, self.app, *sorted(map(_canonical, backends)), repr(joined)]
        lines += [repr(each) for each in (self.batching, self.retry, self.spooling, self.redact, self.grace)]
        lines += ["report_deaths"] * self.report_deaths
        return sha256_hex("\n".join(lines).encode())

    def for_process(self) -> bytes:
        """The pickle for the shipper process's stdin; ConfigurationError when a backend does not pickle."""
        try:
            return pickle.dumps(self)
        except Exception as error:
            raise ConfigurationError("backends", self.backends, f"must pickle ({error})") from error


def identity(backend: Any) -> str:
    """Eight hex digits that are the same for backends that differ in nothing but their names."""
    return sha256_hex(_canonical(dataclasses.replace(backend, name="x"), without=_LATER_FIELDS).encode())[:8]


def destinations(backends: Sequence[Any]) -> str:
    """Eight hex digits that are the same for backends that send to the same places with the same keys."""
    return sha256_hex(repr(sorted(map(_destination, backends))).encode())[:8]


def _destination(backend: Any) -> str:
    place = getattr(backend, "destination", None)
    if place is None and dataclasses.is_dataclass(backend) and not isinstance(backend, type):
        # Texts only: the repr of anything else may differ from process to process.
        found = [(each.name, getattr(backend, each.name)) for each in dataclasses.fields(backend) if each.init]
        place = [(name, value) for name, value in found if isinstance(value, str)]
    return repr((type(backend).__module__, type(backend).__qualname__, getattr(backend, "name", ""), place))


_LATER_FIELDS = ("client_cert", "initial_in_flight", "keepalive", "max_age", "max_idle")
"""Fields that were added after `identity` became part of names. At its default such a field does not count, so that a
backend keeps its name, and the events waiting for it, after an upgrade."""


def is_path(value: object) -> bool:
    """Whether a value can be the path of a file."""
    if not isinstance(value, str):
        return False
    try:
        name = os.fsencode(value)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return name != b"" and b"\0" not in name


def _canonical(backend: Any, *, without: Sequence[str] = ()) -> str:
    """A text that is the same for equal backends, without the fields ``without`` where they have their defaults."""
    if not dataclasses.is_dataclass(backend):
        return pickle.dumps(backend).hex()
    values = {
        each.name: value
        for each in dataclasses.fields(backend)
        if (value := getattr(backend, each.name)) != each.default or each.name not in without
    }
    return f"{type(backend).__module__}.{type(backend).__qualname__} {sorted(values.items())!r}"


def _check_backends(backends: Sequence[Any]) -> None:
    names: set[str] = set()
    for backend in backends:
        _check_backend(backend)
        if backend.name in names:
            setting = f"{type(backend).__name__}.name"
            raise ConfigurationError(setting, backend.name, "two backends need two names: set name=")
        names.add(backend.name)
        warn_of_old_methods(backend)


def _check_backend(backend: Any) -> None:
    kind = type(backend).__name__
    if not _is_backend(backend) or not isinstance(backend.name, str):
        shown = "***" if isinstance(backend, (str, bytes)) else backend  # a text may be a key
        raise ConfigurationError("backends", shown, "must be a shipper.Trakerr, a shipper.JKool or a Backend")
    check_whole(f"{kind}.level", backend.level, least=0)
    for setting in ("max_events", "max_in_flight"):
        check_whole(f"{kind}.{setting}", getattr(backend, setting), least=1)
    if not _NAME.fullmatch(backend.name):
        raise ConfigurationError(f"{kind}.name", backend.name, "must be letters, digits, dots, dashes and underscores")
    if type(backend).__module__ in ("__main__", "__mp_main__"):
        raise ConfigurationError("backends", backend, "must be of a class that the shipper process can import")


def _is_backend(value: object) -> bool:
    if isinstance(value, (HttpSettings, Described)):  # to check against a protocol, Python 3.12 imports inspect
        return True
    return not isinstance(value, type) and (isinstance(value, Backend) or is_http_backend(value))
