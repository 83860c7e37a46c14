"""The fast path: one function that makes a usual record into its event's bytes.

Nearly every record has a message, a few short extras, and neither an exception nor a stack. From such a record the
function makes the same bytes as `from_record`, `Redactor` and `pack` one after the other. At a thousand records per
second most of a call's cost is code and data that have left the processor's caches, so it uses little of both.
The fields that tell where a record comes from are checked and packed once for each place in the program.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from ...event.codec import idle_packers, new_packer, pack_values, packed_head
from ...event.model import MAX_EVENT, Event
from ...event.redact import Redactor
from ...event.scalars import END_OF_TIME, FIRST_SECOND, MAX_KEY, MAX_NAME, MAX_TEXT
from .record import task_name
from .surroundings import Fields, bound_fields, current_span

FastPacker = Callable[[logging.LogRecord], bytes]

_MADE = [*logging.LogRecord("", 0, "", 0, "", (), None).__dict__]  # attributes of every record, in this order
_COUNT = len(_MADE)
_HAS_TASK = "taskName" in _MADE  # since Python 3.12
_ADDED = frozenset({"message", "asctime"})  # by formatters; they are not extras
_SHORT = frozenset({int, float, bool, type(None)})
_MAX_EXTRAS = 50
_CACHE_SIZE = 1000  # entries in each cache: of origins, of keys of extras, of bound fields

_rest_of = itemgetter("created", "exc_info", "exc_text", "stack_info", "msg", "args")
_origin_of = itemgetter(
    "levelno", "levelname", "name", "pathname", "lineno", "funcName", "process", "processName", "thread", "threadName"
)
_KINDS = (int, str, str, str, int, str, int, str, int, str)  # the types of an origin's values

_format = logging.LogRecord.getMessage
_usual = _format if getattr(_format, "__globals__", None) is vars(logging) else None  # None if it was replaced

_NO_TASK = pack_values(None)
_UNRAISED = pack_values([], None)  # neither exceptions nor stack
_NO_EXTRA = pack_values({})
_NO_CONTEXT = pack_values({})
_NO_DATA = pack_values({})


class FastPathUnavailable(Exception):
    """The record has to go through `from_record`."""


def build_fast_packer(redactor: Redactor) -> FastPacker:
    """Return a function that packs a usual record, masked, for all backends.

    For any other record the function raises FastPathUnavailable, or what formatting it raises, and changes nothing.
    """
    begin = packed_head("log")
    origins: dict[object, tuple[bytes, bytes]] = {}
    keys: dict[object, bool] = {}  # key → whether it is an extra
    masked_bound = _masker_of_bound_fields(redactor)
    is_suspicious = redactor.is_suspicious

    def pack(record: logging.LogRecord) -> bytes:
        values = record.__dict__
        names = [*values]
        time, exc_info, exc_text, stack, message, args = _rest_of(values)
        if names[:_COUNT] != _MADE or exc_info is not None or exc_text is not None or stack is not None:
            raise FastPathUnavailable
        task = values["taskName"] if _HAS_TASK else task_name()
        if task is not None and (type(task) is not str or len(task) > MAX_NAME):
            raise FastPathUnavailable
        before, after = origins.get(_origin_of(values)) or _new_origin(origins, values)
        extra: dict[str, Any] = {}
        text = ""
        for name in names[_COUNT:]:
            is_extra = keys.get(name)
            if is_extra is None:
                is_extra = _new_key(keys, name, redactor)
            if is_extra:
                extra[name] = value = values[name]
                if type(value) is str:
                    text = f"{text}\0{value}"
                elif type(value) not in _SHORT:
                    raise FastPathUnavailable
        if type(time) is not float or not FIRST_SECOND <= time < END_OF_TIME or len(extra) > _MAX_EXTRAS:
            raise FastPathUnavailable
        if type(message) is not str or type(record).getMessage is not _usual:
            if issubclass(type(message), dict):  # structlog's event dict
                raise FastPathUnavailable
            message = record.getMessage()
        elif args:
            message = message % args
        if type(message) is not str or len(message) > MAX_TEXT or len(text) > MAX_NAME:
            raise FastPathUnavailable
        if is_suspicious(f"{message}{text}"):
            message = _mask(redactor, message, extra)
        context = current_span()
        bound = bound_fields()
        if bound is not None:
            context = {**(context or {}), **masked_bound(bound)}
        try:
            pack_value = idle_packers.pop()
        except IndexError:
            pack_value = new_packer()
        payload = b"".join((
            begin, pack_value(time), before, pack_value(message), after,
            _NO_TASK if task is None else pack_value(task), _UNRAISED,
            pack_value(extra) if extra else _NO_EXTRA, pack_value(context) if context else _NO_CONTEXT, _NO_DATA,
        ))  # fmt: skip
        idle_packers.append(pack_value)
        if len(payload) > MAX_EVENT:
            raise FastPathUnavailable
        return payload

    return pack


def _masker_of_bound_fields(redactor: Redactor) -> Callable[[Fields], Fields]:
    """Return a function that masks bound fields, once for each set of them."""
    known: dict[int, tuple[Fields, Fields]] = {}  # by identity: a mapping of bound fields never changes

    def masked(fields: Fields) -> Fields:
        found = known.get(id(fields))
        if found is None or found[0] is not fields:
            event = Event(context=copy.deepcopy(dict(fields)))
            redactor(event, is_sanitized=True)
            found = fields, event.context
            _remember(known, id(fields), found)
        return found[1]

    return masked


def _new_origin(known: dict[object, tuple[bytes, bytes]], values: dict[str, Any]) -> tuple[bytes, bytes]:
    """The bytes before and after the message in the events of one place in the program and one thread."""
    key = _origin_of(values)
    if tuple(map(type, key)) != _KINDS:
        raise FastPathUnavailable
    for value in key:
        if len(value) > MAX_NAME if type(value) is str else not 0 <= value < 2**63:
            raise FastPathUnavailable
    found = pack_values(*key[:3]), pack_values(*key[3:])
    _remember(known, key, found)
    return found


def _new_key(known: dict[object, bool], name: object, redactor: Redactor) -> bool:
    if type(name) is not str or len(name) > MAX_KEY or name.startswith("_shipper") or name == "taskName":
        raise FastPathUnavailable
    if not redactor.is_open(name):
        raise FastPathUnavailable
    found = name not in _ADDED
    _remember(known, name, found)
    return found


def _remember(known: dict[Any, Any], key: object, found: object) -> None:
    if len(known) >= _CACHE_SIZE:  # threads come and go, and each makes new origins
        known.clear()
    known[key] = found


def _mask(redactor: Redactor, message: str, extra: dict[str, Any]) -> str:
    """The message, masked; the extras are masked in place."""
    for name, value in extra.items():
        if type(value) is str:
            extra[name] = redactor.mask_text(value)
    return redactor.mask_text(message)
