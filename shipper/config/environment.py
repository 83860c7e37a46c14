"""Settings from keywords, environment variables and defaults: the first that is given counts.

A variable is called ``SHIPPER_<SETTING>``, ``SHIPPER_<GROUP>_<FIELD>`` (such as ``SHIPPER_RETRY_MAXIMUM``) or
``SHIPPER_<BACKEND>_<FIELD>`` (such as ``SHIPPER_TRAKERR_API_KEY``). The annotation of the field decides how its text is
read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import re
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from ..backends import registry
from ..backends.settings import validators
from ..errors import ConfigurationError, nearest
from ..event.redact import Redact
from .app_name import GIVEN_NAME, derive_name, working_directory
from .limits import Batching, Retry, Spooling
from .parsing import parse, parse_field
from .settings import Settings, destinations, is_path
from .state_folder import default_folder

T = TypeVar("T")
PREFIX = "SHIPPER_"

_SUFFICIENT = {"trakerr": "api_key", "jkool": "token", "otlp": "endpoint", "http": "url"}
"""Backends that are used as soon as one variable is set, without SHIPPER_BACKENDS: name → that setting."""

_GROUPS: dict[str, type[Any]] = {"batching": Batching, "retry": Retry, "spooling": Spooling, "redact": Redact}
_PLAIN: dict[str, Any] = {
    "app": str,
    "spool": str,
    "level": int | str,
    "overflow": int | str,
    "grace": float,
    "python": str,
    "exit_wait": bool,
    "exit_timeout": float,
    "owner": str,
    "report_deaths": bool,
}


class UnconfiguredError(ConfigurationError):
    """No backend is given, and none is configured in the environment.

    ``hints``: sentences about misspelt variables and those of OpenTelemetry.
    """

    hints: tuple[str, ...] = ()


def resolve_enabled(given: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to ship: the keyword, else SHIPPER_ENABLED, else True."""
    if given is None:
        text = environ.get(f"{PREFIX}ENABLED", "")
        return bool(parse(f"{PREFIX}ENABLED", text, bool)) if text else True
    return validators.flag("enabled", given)


def resolve_when_unconfigured(given: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """ "raise" or "disable": the keyword, else SHIPPER_WHEN_UNCONFIGURED, else "raise"."""
    variable = f"{PREFIX}WHEN_UNCONFIGURED"
    setting = "when_unconfigured" if given is not None else variable
    value = given if given is not None else environ.get(variable) or "raise"
    return validators.one_of(setting, value, ("raise", "disable"))


def resolve(backends: tuple[Any, ...], given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Make the settings of `shipper.start`: ``given`` keywords (None is "not given"), variables, defaults.

    Warns of unknown variables. Raises ConfigurationError when a value is wrong or no backend is configured.
    """
    variables = _set_variables(environ)
    unknown = unknown_variables(variables)
    found = backends or tuple(_backends(variables))
    if not found:
        hints = (*_otlp_hints(variables), *unknown)
        error = UnconfiguredError(
            "backends",
            (),
            'give one, as in shipper.start(shipper.Trakerr("api-key"), shipper.JKool("access-token")), '
            "or set SHIPPER_TRAKERR_API_KEY or SHIPPER_JKOOL_TOKEN in the environment" + "; ".join(["", *hints]),
        )
        error.hints = hints
        raise error
    for sentence in unknown:
        warnings.warn(sentence, stacklevel=3)
    values, sources = _values(given, variables)
    values["is_named"] = "app" in values
    values["name_from"] = GIVEN_NAME
    if "app" not in values:
        name = derive_name()
        values["app"], values["name_from"] = name if "spool" in values else name.sending_to(destinations(found))
    values["spool"] = _spool(values)
    with names_variables(sources):
        values["python"] = _python(values.get("python", ""))
        values["level"] = validators.level("level", values.get("level", logging.NOTSET))
    with names_variables(sources):
        return Settings(backends=found, cwd=working_directory(), variables=tuple(sources.items()), **values)


def _otlp_hints(variables: Mapping[str, str]) -> list[str]:
    """A hint for an application that uses OpenTelemetry: its collector gets nothing unless that is configured."""
    if not any(name in variables for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")):
        return []
    return ["to ship to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, give shipper.Otlp() or set SHIPPER_BACKENDS=otlp"]


def _set_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that count as set. An empty one does not, except that an empty key, token or URL is an error."""
    return {name: value for name, value in environ.items() if value or name.endswith(("_API_KEY", "_TOKEN", "_URL"))}


def _values(given: Mapping[str, Any], variables: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings except the backends, and setting → variable of those in `_PLAIN` that a variable sets."""
    values = {name: value for name, value in given.items() if value is not None}
    sources: dict[str, str] = {}
    for name, group in _GROUPS.items():
        if name not in values:
            values[name] = _instance(group, _prefix(name), variables)
    for name, annotation in _PLAIN.items():
        variable = f"{PREFIX}{name.upper()}"
        if name not in values and variable in variables:
            values[name] = parse(variable, variables[variable], annotation)
            sources[name] = variable
    return values, sources


@contextlib.contextmanager
def names_variables(sources: Mapping[str, str]) -> Iterator[None]:
    """Let each ConfigurationError of the block name the variable of its setting; ``sources``: setting → variable."""
    try:
        yield
    except ConfigurationError as exc:
        exc.variable = exc.variable or sources.get(exc.setting.rpartition(".")[2])
        raise


def _spool(values: Mapping[str, Any]) -> Any:
    """The absolute path of the spool: the shipper process has another working directory."""
    if "spool" not in values and values.get("owner"):
        raise ConfigurationError("spool", None, "must be given with owner=: the folder that is made for that user")
    if "spool" not in values:
        return default_folder(values["app"]) if isinstance(values["app"], str) else ""
    spool = os.fspath(values["spool"]) if isinstance(values["spool"], os.PathLike) else values["spool"]
    if not is_path(spool):
        return spool  # `Settings` refuses it
    # In a keyword no shell has expanded ~.
    return os.path.join(working_directory(), os.path.expanduser(spool))


def _python(given: Any) -> Any:
    """The interpreter of the shipper process; ConfigurationError when it can't be run."""
    python = os.fspath(given) if isinstance(given, os.PathLike) else given
    if python and isinstance(python, str) and not _is_program(python):
        raise ConfigurationError("python", python, "must be the path of a Python interpreter that can be run")
    return python


def _is_program(name: str) -> bool:
    import shutil  # only where the setting is used

    return shutil.which(name) is not None


# -- objects ----------------------------------------------------------------------------------------------------------


def _backends(variables: Mapping[str, str]) -> list[Any]:
    """The backends that SHIPPER_BACKENDS names; without it, each whose key, token or address is set."""
    named = variables.get(f"{PREFIX}BACKENDS")
    if named:
        return [_instance(_kind(word), _prefix(word), variables) for word in _words(named)]
    return [
        _instance(registry.find(name), _prefix(name), variables)
        for name, needed in _SUFFICIENT.items()
        if f"{_prefix(name)}{needed.upper()}" in variables
    ]


def backend_from(name: str, environ: Mapping[str, str]) -> Any:
    """The backend of that name with the settings of its variables. ConfigurationError when one is wrong."""
    return _instance(_kind(name), _prefix(name), _set_variables(environ))


def _kind(name: str) -> Callable[..., Any]:
    with names_variables({"backend": f"{PREFIX}BACKENDS"}):
        return registry.find(name)


def _words(named: str) -> list[str]:
    return [word.strip() for word in named.split(",") if word.strip()]


def _prefix(name: str) -> str:
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_"


def _instance(kind: Callable[..., T], prefix: str, variables: Mapping[str, str]) -> T:
    """An instance of a dataclass with the fields whose variables are set; of any other class, without arguments."""
    if not _is_dataclass(kind):
        return kind()
    fields = fields_of(kind)
    sources = {each.name: f"{prefix}{each.name.upper()}" for each in fields}
    values = {
        each.name: parse_field(each, source, variables[source], _type_of(kind, each, source, variables[source]))
        for each in fields
        if (source := sources[each.name]) in variables
    }
    missing = [each.name for each in fields if _is_required(each) and each.name not in values]
    if missing:
        raise ConfigurationError(f"{prefix}{missing[0].upper()}", None, "must be set in the environment")
    with names_variables({name: sources[name] for name in values}):
        return kind(**values)


def _type_of(kind: Any, each: dataclasses.Field[Any], variable: str, text: str) -> Any:
    """The type of a dataclass's field. Other fields' types are not evaluated: they may exist for type checkers only.

    ConfigurationError when a name in it isn't defined while the program runs.
    """
    if each.name == "level":
        return int | str
    # A class shares the `Field` with the base that declared it, the last here: the type's names are of its module.
    module = [base for base in kind.__mro__ if vars(base).get(_FIELDS, {}).get(each.name) is each][-1].__module__
    holder = type("Annotations", (), {"__annotations__": {each.name: each.type}, "__module__": module})
    try:
        return typing.get_type_hints(holder)[each.name]
    except NameError as error:
        raise ConfigurationError(variable, text, f"can't be read: in the type of the field, {error}") from None


_FIELDS = "__dataclass_fields__"


def fields_of(kind: object) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that can be given; none for any other class."""
    return [each for each in dataclasses.fields(kind) if each.init] if _is_dataclass(kind) else []  # type: ignore[arg-type]


def _is_dataclass(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _is_required(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


# -- unknown names -----------------------------------------------------------------------------------------------------


def unknown_variables(variables: Mapping[str, str]) -> list[str]:
    """A sentence for each variable with our prefix that no setting reads; it names the most similar one."""
    left = {name for name in variables if name.upper().startswith(PREFIX)} - _plain_variables()
    backends = {*registry.OURS, *_words(variables.get(f"{PREFIX}BACKENDS", ""))}
    # While no variable is unknown, only the classes are imported that one is meant for, and packages are not listed.
    meant = [backend for backend in backends if any(name.startswith(_prefix(backend)) for name in left)]
    left = left.difference(*map(_variables_of, meant))
    if not left:
        return []
    known = _plain_variables() | {name for backend in backends for name in _variables_of(backend)}
    free = tuple(_prefix(backend) for backend in registry.names() if not _variables_of(backend))
    unknown = [name for name in left if not name.startswith(free)]
    return [f"{name} is not a variable of shipper{_suggestion(name, known)}" for name in sorted(unknown)]


def _suggestion(name: str, known: Iterable[str]) -> str:
    # Compared without the prefix, which would make all of them similar.
    found = nearest(name[len(PREFIX) :], [each[len(PREFIX) :] for each in known])
    return found.replace("mean ", f"mean {PREFIX}")


@functools.cache
def _plain_variables() -> frozenset[str]:
    plain = {f"{PREFIX}{name.upper()}" for name in (*_PLAIN, "backends", "enabled", "when_unconfigured")}
    groups = {f"{_prefix(name)}{each.name.upper()}" for name, kind in _GROUPS.items() for each in fields_of(kind)}
    return frozenset(plain | groups)


def _variables_of(backend: str) -> list[str]:
    """The variables of a backend; none when it is not a dataclass, or can't be imported."""
    try:
        kind = registry.find(backend)
    except ConfigurationError:
        return []
    return [f"{_prefix(backend)}{each.name.upper()}" for each in fields_of(kind)]
