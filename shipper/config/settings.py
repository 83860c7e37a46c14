"""What can be set: keyword, environment, defaults; checked at birth; and how it reaches the shipper process."""

from __future__ import annotations

import collections.abc
import logging
import os
import pickle
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .._support.hashing import fingerprint
from .._support.lazy_pattern import Expression
from .._support.values import Values, field, parts, replaced
from .._version import __version__
from ..backends import registry
from ..backends.deprecated import is_http_backend, warn_of_old_methods
from ..backends.jkool import JKool
from ..backends.protocol import Backend
from ..backends.trakerr import Trakerr
from ..errors import ConfigurationError
from ..event.redact import Redact
from .limits import OVERFLOW_SIZE, Batching, Retry, Spooling, check_seconds, check_whole
from .state_folder import default_folder

T = TypeVar("T")
PREFIX = "SHIPPER_"
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODULE = Expression(r"[A-Za-z_][\w.]*")

_KINDS: dict[str, tuple[str, type[Any]]] = {"trakerr": ("api_key", Trakerr), "jkool": ("token", JKool)}
"""Backends that can come from the environment: prefix → the setting without which there is none, and its class."""


class Settings(Values):
    """Everything that the application and the shipper process must agree on. Pickles; `repr` shows no secret."""

    backends: tuple[Any, ...]
    app: str
    spool: str
    level: int = logging.NOTSET
    batching: Batching = field(default_factory=Batching)
    retry: Retry = field(default_factory=Retry)
    spooling: Spooling = field(default_factory=Spooling)
    redact: Redact = field(default_factory=Redact)
    overflow: int = OVERFLOW_SIZE
    grace: float = 30.0
    python: str = ""
    cwd: str = ""
    is_named: bool = True  # False: the app is named after its program
    joined: tuple[str, ...] = ()  # names of the backends that clients have joined: only what names them goes there

    def __post_init__(self) -> None:
        if not isinstance(self.app, str) or not _APP.fullmatch(self.app):
            raise ConfigurationError("app", self.app, "1 to 100 letters, digits, dots, dashes and underscores")
        if not _can_be_a_path(self.spool):
            raise ConfigurationError("spool", self.spool, "must be the path of a folder")
        for name, kind in (("batching", Batching), ("retry", Retry), ("spooling", Spooling), ("redact", Redact)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(name, getattr(self, name), f"must be a shipper.{kind.__name__}")
        if not isinstance(self.python, str) or "\0" in self.python:
            raise ConfigurationError("python", self.python, "must be the path of a Python interpreter")
        check_whole("overflow", self.overflow, least=65536)
        check_seconds("grace", self.grace)
        self._check_backends()

    def _check_backends(self) -> None:
        names = set()
        for backend in self.backends:
            name = getattr(backend, "name", None)
            if not _is_backend(backend) or not isinstance(name, str):
                shown = "***" if isinstance(backend, (str, bytes)) else backend  # a key that was given in its place
                raise ConfigurationError("backends", shown, "must be a shipper.Trakerr, a shipper.JKool or a Backend")
            check_whole(f"{type(backend).__name__}.level", backend.level, least=0)
            for each in ("max_events", "max_in_flight"):
                check_whole(f"{type(backend).__name__}.{each}", getattr(backend, each), least=1)
            if not _APP.fullmatch(name):
                raise ConfigurationError(f"{type(backend).__name__}.name", name, "letters, digits, dots, dashes")
            if name in names:
                raise ConfigurationError(f"{type(backend).__name__}.name", name, "two backends need two names (name=)")
            if type(backend).__module__ in ("__main__", "__mp_main__"):
                raise ConfigurationError(
                    "backends", backend, "its class must live in a module that the shipper process can import"
                )
            names.add(name)
            warn_of_old_methods(backend)

    def with_joined(self, backends: Sequence[Any]) -> Settings:
        """These settings, and backends that clients have joined; itself when there are none."""
        if not backends:
            return self
        names = (*self.joined, *(backend.name for backend in backends))
        return replaced(self, backends=(*self.backends, *backends), joined=names)

    def merge_joined(self, other: Settings) -> Settings:
        """These settings plus the joined backends of others that they lack; itself when they lack none."""
        known = {backend.name for backend in self.backends}
        return self.with_joined([each for each in other.joined_backends if each.name not in known])

    @property
    def joined_backends(self) -> list[Any]:
        return [each for each in self.backends if each.name in self.joined]

    @property
    def digest(self) -> str:
        """The same for equal settings in any process."""
        return self._digest_with(self.backends)

    @property
    def base_digest(self) -> str:
        """The digest without joined backends. A running process with another, older one is replaced."""
        return self._digest_with([each for each in self.backends if each.name not in self.joined])

    def _digest_with(self, backends: Sequence[Any]) -> str:
        joined = sorted(each.name for each in backends if each.name in self.joined)
        parts = [__version__, self.app, *sorted(map(_canonical, backends)), repr(joined)]
        parts += [repr(each) for each in (self.batching, self.retry, self.spooling, self.redact, self.grace)]
        return fingerprint("\n".join(parts).encode())

    def for_process(self) -> bytes:
        """What goes through the shipper process's stdin; ConfigurationError when a backend does not pickle."""
        try:
            return pickle.dumps(self)
        except Exception as error:
            raise ConfigurationError("backends", self.backends, f"must pickle ({error})") from error


def _is_backend(value: object) -> bool:
    # To look through a protocol Python 3.12 imports inspect.
    return isinstance(value, (Trakerr, JKool)) or (
        not isinstance(value, type) and (isinstance(value, Backend) or is_http_backend(value))
    )


def _can_be_a_path(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        name = os.fsencode(value)
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return name != b"" and b"\0" not in name


def _canonical(backend: Any) -> str:
    names = parts(type(backend))
    if names is None:
        return pickle.dumps(backend).hex()
    values = {name: getattr(backend, name) for name in names}
    return f"{type(backend).__module__}.{type(backend).__qualname__} {sorted(values.items())!r}"


def identity(backend: Any) -> str:
    """Eight digits that are the same for equal backends, whatever their names."""
    return fingerprint(_canonical(replaced(backend, name="x")).encode())[:8]


def resolve(backends: tuple[Any, ...], given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from keywords (None is "not given"), the environment, or defaults. ConfigurationError if wrong."""
    # A variable that is set to nothing is not set; but an empty key is a mistake, and no wish to do without a backend.
    environ = {name: value for name, value in environ.items() if value or name.endswith(("_API_KEY", "_TOKEN"))}
    found = backends or tuple(_backends_from(environ))
    if not found:
        raise ConfigurationError(
            "backends",
            (),
            'give one, as in shipper.start(shipper.Trakerr("api-key"), shipper.JKool("access-token")), '
            "or set SHIPPER_TRAKERR_API_KEY or SHIPPER_JKOOL_TOKEN in the environment",
        )
    values = {name: value for name, value in given.items() if value is not None}
    for name, group in (("batching", Batching), ("retry", Retry), ("spooling", Spooling), ("redact", Redact)):
        values.setdefault(name, _from_environment(group, f"{PREFIX}{name.upper()}_", environ))
    hints = typing.get_type_hints(Settings)
    for name in ("app", "spool", "level", "overflow", "grace", "python"):
        variable = f"{PREFIX}{name.upper()}"
        if name not in values and variable in environ:
            annotation = int | str if name == "level" else hints[name]
            values[name] = _parse(variable, environ[variable], annotation)
    values["is_named"] = "app" in values
    values.setdefault("app", default_app())
    if isinstance(values["app"], str) and "spool" not in values:
        values["spool"] = default_folder(values["app"])
    for name in ("spool", "python"):
        if isinstance(values.get(name), os.PathLike):
            values[name] = os.fspath(values[name])
    if _can_be_a_path(values["spool"]):
        # The shipper process works elsewhere; and in a variable that no shell has set, ~ comes as it is.
        values["spool"] = os.path.join(_cwd(), os.path.expanduser(values["spool"]))
    python = values.get("python")
    if python and isinstance(python, str) and not _is_program(python):
        raise ConfigurationError("python", python, "must be the path of a Python interpreter that can be run")
    values["level"] = level_number("level", values.get("level", logging.NOTSET))
    return Settings(backends=found, cwd=_cwd(), **values)


def _cwd() -> str:
    """The working directory, or the root when somebody has deleted it."""
    try:
        return os.getcwd()
    except OSError:
        return os.sep


def level_number(setting: str, level: object) -> int:
    """A logging level as a number; names are taken in any case. ConfigurationError for anything else."""
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    known = logging.getLevelName(level.upper()) if isinstance(level, str) else None
    if not isinstance(known, int):
        raise ConfigurationError(setting, level, "must be a logging level: a number, or a name such as 'INFO'")
    return known


def _backends_from(environ: Mapping[str, str]) -> list[Any]:
    """Those named in SHIPPER_BACKENDS, by default each of ours whose key or token is set."""
    named = environ.get(f"{PREFIX}BACKENDS")
    if named:
        words = [word.strip() for word in named.split(",") if word.strip()]
        return [_from_environment(registry.find(word), _prefix(word), environ) for word in words]
    return [
        _from_environment(kind, _prefix(name), environ)
        for name, (needed, kind) in _KINDS.items()
        if f"{_prefix(name)}{needed.upper()}" in environ
    ]


def _prefix(name: str) -> str:
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_"


def _from_environment(kind: Callable[..., T], prefix: str, environ: Mapping[str, str]) -> T:
    """An instance of a dataclass, with the fields whose variables are set."""
    names = parts(kind) if isinstance(kind, type) else None
    if names is None:  # then it reads its own variables
        return kind()
    hints = {**typing.get_type_hints(kind), "level": int | str}
    values = {}
    for name in names:
        variable = f"{prefix}{name.upper()}"
        if variable in environ:
            values[name] = _parse(variable, environ[variable], hints[name])
    missing = [name for name, is_required in names.items() if is_required and name not in values]
    if missing:
        raise ConfigurationError(f"{prefix}{missing[0].upper()}", None, "must be set in the environment")
    return kind(**values)


def _parse(variable: str, text: str, annotation: Any) -> Any:
    """The value of a variable as its field wants it. Commas separate lists; "" is None where None is allowed."""
    kinds = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    if text == "" and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _parse_as(kind, text)
        except ValueError:
            continue
    allowed = " or ".join(_spelled(kind) for kind in kinds if kind is not type(None))
    raise ConfigurationError(variable, text, f"must be {allowed}")


def _spelled(kind: Any) -> str:
    if typing.get_origin(kind) is None:
        return _WORDS.get(kind) or str(kind.__name__)
    return f"{', '.join(_spelled(each) for each in typing.get_args(kind) if each is not ...)}, separated by commas"


_WORDS = {bool: "yes or no", int: "a whole number", float: "a number", str: "a text"}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Union or type(annotation).__name__ == "UnionType"


def _parse_as(kind: Any, text: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (tuple, collections.abc.Sequence):
        items = [item.strip() for item in text.split(",") if item.strip()]
        return tuple(_parse_as(typing.get_args(kind)[0], item) for item in items)
    if origin is typing.Literal or kind is str:
        return text
    if kind is bool:
        return _yes_or_no(text)
    return kind(text)


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def default_app() -> str:
    """A name for the running program, the same in all its workers, whoever started them.

    A script is named after its file. A server that is installed in the environment (gunicorn, uvicorn, celery …) serves
    many applications, so there it is the server, the working directory and the arguments that name loaded modules.
    """
    program = _program()
    if program is None:
        return _named("python", ["interactive", _cwd()])
    stem = os.path.splitext(os.path.basename(program))[0]
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(program))
    stem = re.sub(r"[^A-Za-z0-9_-]", "-", stem).strip("-_") or "app"
    if not _is_installed(program):
        return _named(stem, [os.path.realpath(program)])
    modules = sorted({word for word in sys.argv[1:] if _names_a_loaded_module(word)})
    return _named(stem, [stem, _cwd(), *modules])


def _named(stem: str, identity: list[str]) -> str:
    return f"{stem[:60]}-{fingerprint(chr(0).join(identity).encode(errors='surrogateescape'))[:8]}"


def _program() -> str | None:
    """The file of the main program: of the parent's, in a spawned worker. None for `-c`, stdin and the prompt."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if isinstance(file, str) and os.path.isfile(file):
        return os.path.abspath(file)
    first = sys.argv[0] if sys.argv else ""
    return os.path.abspath(first) if first not in ("", "-", "-c") and os.path.isfile(first) else None


def _is_installed(program: str) -> bool:
    """Whether it belongs to a Python environment rather than to an application."""
    folder = os.path.dirname(os.path.abspath(program))
    if f"{os.sep}site-packages{os.sep}" in program or f"{os.sep}dist-packages{os.sep}" in program:
        return True
    if os.path.realpath(program).startswith(os.path.dirname(os.path.realpath(os.__file__)) + os.sep):
        return True  # python -m unittest and its like
    return os.path.basename(folder) in ("bin", "sbin") or os.path.exists(os.path.join(folder, "python3"))


def _names_a_loaded_module(word: str) -> bool:
    name = word.partition(":")[0].removesuffix(".py")
    return bool(_MODULE.fullmatch(name)) and name in sys.modules


def _is_program(name: str) -> bool:
    import shutil

    return shutil.which(name) is not None
