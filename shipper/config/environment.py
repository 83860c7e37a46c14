"""Settings from keywords, environment variables and defaults, in this order.

A variable is called ``SHIPPER_<SETTING>``, ``SHIPPER_<GROUP>_<FIELD>`` (such as ``SHIPPER_RETRY_MAXIMUM``) or
``SHIPPER_<BACKEND>_<FIELD>`` (such as ``SHIPPER_TRAKERR_API_KEY``). The annotation of the field decides how its text is
read.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import logging
import os
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..backends import registry, validators
from ..errors import ConfigurationError
from ..event.redact import Redact
from .app_name import default_app, working_directory
from .limits import Batching, Retry, Spooling
from .settings import Settings, is_path
from .state_folder import default_folder

T = TypeVar("T")
PREFIX = "SHIPPER_"

_SUFFICIENT = {"trakerr": "api_key", "jkool": "token", "otlp": "endpoint", "http": "url"}
"""Backends that exist as soon as one variable is set: name → the setting of that variable."""

_GROUPS: dict[str, type[Any]] = {"batching": Batching, "retry": Retry, "spooling": Spooling, "redact": Redact}
_PLAIN: dict[str, Any] = {
    "app": str,
    "spool": str,
    "level": int | str,
    "overflow": int,
    "grace": float,
    "python": str,
    "exit_wait": bool,
    "exit_timeout": float,
}


def resolve(backends: tuple[Any, ...], given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Make the settings of `shipper.start`: ``given`` keywords (None is "not given"), variables, defaults.

    Raises ConfigurationError when a value is wrong or no backend is configured.
    """
    variables = _set_variables(environ)
    found = backends or tuple(_backends(variables))
    if not found:
        raise ConfigurationError(
            "backends",
            (),
            'give one, as in shipper.start(shipper.Trakerr("api-key"), shipper.JKool("access-token")), '
            f"or set SHIPPER_TRAKERR_API_KEY or SHIPPER_JKOOL_TOKEN in the environment{_otlp_hint(variables)}",
        )
    values = _values(given, variables)
    values["is_named"] = "app" in values
    values.setdefault("app", default_app())
    values["spool"] = _spool(values)
    values["python"] = _python(values.get("python", ""))
    values["level"] = validators.level("level", values.get("level", logging.NOTSET))
    return Settings(backends=found, cwd=working_directory(), **values)


def _otlp_hint(variables: Mapping[str, str]) -> str:
    """How to ship to the collector of an application that uses OpenTelemetry: nothing is sent there unasked."""
    if not any(name in variables for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")):
        return ""
    return "; to ship to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, give shipper.Otlp() or set SHIPPER_BACKENDS=otlp"


def _set_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that count as set. An empty one does not, except that an empty key, token or URL is an error."""
    return {name: value for name, value in environ.items() if value or name.endswith(("_API_KEY", "_TOKEN", "_URL"))}


def _values(given: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    values = {name: value for name, value in given.items() if value is not None}
    for name, group in _GROUPS.items():
        values.setdefault(name, _instance(group, _prefix(name), variables))
    for name, annotation in _PLAIN.items():
        variable = f"{PREFIX}{name.upper()}"
        if name not in values and variable in variables:
            values[name] = _parse(variable, variables[variable], annotation)
    return values


def _spool(values: Mapping[str, Any]) -> Any:
    """The whole path of the spool: the shipper process has another working directory."""
    if "spool" not in values:
        return default_folder(values["app"]) if isinstance(values["app"], str) else ""
    spool = os.fspath(values["spool"]) if isinstance(values["spool"], os.PathLike) else values["spool"]
    if not is_path(spool):
        return spool  # `Settings` refuses it
    # No shell has replaced ~ in a keyword.
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
        words = [word.strip() for word in named.split(",") if word.strip()]
        return [_instance(registry.find(word), _prefix(word), variables) for word in words]
    return [
        _instance(registry.find(name), _prefix(name), variables)
        for name, needed in _SUFFICIENT.items()
        if f"{_prefix(name)}{needed.upper()}" in variables
    ]


def _prefix(name: str) -> str:
    return f"{PREFIX}{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_"


def _instance(kind: Callable[..., T], prefix: str, variables: Mapping[str, str]) -> T:
    """An instance of a dataclass with the fields whose variables are set; of any other class, without arguments."""
    if not _is_dataclass(kind):
        return kind()
    fields = [each for each in dataclasses.fields(kind) if each.init]  # type: ignore[arg-type]
    hints = {**typing.get_type_hints(kind), "level": int | str}
    values = {}
    for each in fields:
        variable = f"{prefix}{each.name.upper()}"
        if variable in variables:
            values[each.name] = _parse(variable, variables[variable], hints[each.name])
    missing = [each.name for each in fields if _is_required(each) and each.name not in values]
    if missing:
        raise ConfigurationError(f"{prefix}{missing[0].upper()}", None, "must be set in the environment")
    return kind(**values)


def _is_dataclass(kind: object) -> bool:
    return isinstance(kind, type) and dataclasses.is_dataclass(kind)


def _is_required(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


# -- texts -------------------------------------------------------------------------------------------------------------


def _parse(variable: str, text: str, annotation: Any) -> Any:
    """The text of a variable as the annotation wants it. Commas separate the items of a list."""
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
    allowed = " or ".join(_in_words(kind) for kind in kinds if kind is not type(None))
    raise ConfigurationError(variable, text, f"must be {allowed}")


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


def _in_words(kind: Any) -> str:
    if typing.get_origin(kind) is None:
        return _WORDS.get(kind) or str(kind.__name__)
    return f"{', '.join(_in_words(each) for each in typing.get_args(kind) if each is not ...)}, separated by commas"


_WORDS = {bool: "yes or no", int: "a whole number", float: "a number", str: "a text"}


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Union or type(annotation).__name__ == "UnionType"
