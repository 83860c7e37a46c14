"""Any value → plain data: str, int, float, bool, None, bytes, list, dict with str keys; all of it bounded."""

from __future__ import annotations

import datetime
import enum
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from typing import Any

from .library_types import Adapter, find_adapter, named
from .markers import MARKER_KEY, left_out, marker_item
from .scalars import MAX_KEY, MAX_NAME, MAX_TEXT, as_text, bounded, safe_repr, safe_str, type_name

MAX_DEPTH = 8
"""How deep containers may be nested; deeper ones are replaced by a marker."""

MAX_ITEMS = 200
"""The most items that one container keeps; a marker says how many were left out."""

MAX_NODES = 10_000
"""The most values that one `sanitize` keeps, at all depths."""

_MAX_TEXTS = 4 * MAX_TEXT  # characters of all texts of one `sanitize` together
_RESERVED_NODES = 8
_RESERVED_CHARACTERS = MAX_NAME


_SCALARS = frozenset({str, int, float, bool, type(None), bytes})
_ATOMS = frozenset({float, bool, type(None)})


def sanitize(value: object) -> Any:
    """Return any value as plain data that can be packed; never raises, and never returns a container it was given.

    Text keeps lone surrogates, integers of more than 64 bits become decimal text, bytes stay, dates become ISO 8601,
    mappings, dataclasses (without their ``repr=False`` fields) and named tuples become dicts with text keys, sequences
    and sets lists, exceptions "Type: message", enums and durations their `str`, and the rest its `repr`. Values of
    well-known libraries are converted by `library_types`; nothing lazy is evaluated. Depth, items, each text and the
    total are bounded; a marker says what was left out.
    """
    return _Sanitizer().value(value)


class _Sanitizer:
    """One walk over a value: nodes and characters that are left, and ids of the containers around the current item."""

    __slots__ = ("above", "characters", "nodes")

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.characters = _MAX_TEXTS
        self.above: list[int] = []

    def value(self, value: object) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is str:
            return self.text(value)  # type: ignore[arg-type]
        if kind is int:
            return _whole(value)  # type: ignore[arg-type]
        try:
            if kind is dict:
                return self.mapping(value)  # type: ignore[arg-type]
            if kind is list or kind is tuple:
                return self.collection(value)  # type: ignore[arg-type]
            return self.other(value, kind)
        except Exception:
            return self.represented(value)

    def text(self, text: str) -> str:
        most = min(MAX_TEXT, self.characters)
        self.characters -= min(len(text), most)
        return text if len(text) <= most and text.isascii() else bounded(text, most)

    def represented(self, value: object) -> str:
        return self.text(safe_repr(value))

    def other(self, value: Any, kind: type) -> Any:
        """Convert a value of any other type; to its repr when the type has no better form."""
        adapter = find_adapter(kind)
        if adapter is not None:
            return self.adapted(value, adapter)
        if issubclass(kind, str):
            return self.text(str.__str__(value))
        if issubclass(kind, int):
            return _whole(int.__index__(value))
        if issubclass(kind, float):
            return float.__float__(value)
        if issubclass(kind, bytes | bytearray | memoryview):
            return self.octets(value)
        if issubclass(kind, datetime.date | datetime.time):
            return value.isoformat()
        if issubclass(kind, datetime.timedelta | enum.Enum):
            return self.text(safe_str(value))
        if issubclass(kind, BaseException):
            return self.text(f"{kind.__name__}: {safe_str(value, MAX_TEXT)}")
        if issubclass(kind, type):
            return self.represented(value)
        if issubclass(kind, os.PathLike):
            return self.value(os.fspath(value))
        return self.container(value, kind)

    def adapted(self, value: Any, adapter: Adapter) -> Any:
        if closed := self.closed(value, 1):
            return closed
        self.above.append(id(value))
        try:
            return self.value(adapter(value))
        except Exception:
            return self.text(named(value))  # its repr might evaluate a lazy object
        finally:
            self.above.pop()

    def octets(self, value: Any) -> bytes:
        view = memoryview(value)
        most = min(MAX_TEXT, self.characters)
        self.characters -= min(view.nbytes, most)
        if view.nbytes <= most:
            return view.tobytes()
        return view.cast("B")[:most].tobytes() + b"[... %d bytes left out ...]" % (view.nbytes - most)

    def container(self, value: Any, kind: type) -> Any:
        if hasattr(kind, "__dataclass_fields__"):
            from dataclasses import fields  # imported already, where the value's class was made

            return self.mapping({one.name: getattr(value, one.name, None) for one in fields(value) if one.repr}, value)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self.mapping(dict(zip(kind._fields, value, strict=False)), value)
        if issubclass(kind, Mapping):
            return self.mapping(value)
        # Not every class with a length and an iterator: reading a lazy one may send a query.
        if issubclass(kind, Sequence | Set | ValuesView):
            return self.collection(value)
        return self.represented(value)

    def mapping(self, value: Mapping[Any, object], owner: object = None) -> Any:
        """Return the mapping as a dict. ``owner``: the object whose fields it holds, if not the mapping itself."""
        owner = value if owner is None else owner
        size = len(value)
        if closed := self.closed(owner, size):
            return closed
        result: dict[str, Any] = {}
        for key, item in self.inside(owner, value.items(), size):
            name = _key(key)
            if name in result:  # a dict with the keys 1 and "1"
                name = f"{name} <{type_name(key)}>"
            result[name] = self.value(item)
        if size > len(result):
            result[MARKER_KEY] = left_out(size - len(result), "items")
        return result

    def collection(self, value: Collection[object]) -> Any:
        size = len(value)
        if closed := self.closed(value, size):
            return closed
        result = [self.value(item) for item in self.inside(value, value, size)]
        if size > len(result):
            result.append(marker_item(left_out(size - len(result), "items"), result[0] if result else None))
        return result

    def inside(self, owner: object, items: Iterable[Any], size: int) -> Iterator[Any]:
        """Yield as many items as may be kept, all copied first: another thread may be changing their container.

        A part of the nodes and characters left is reserved for each item, so that a large one leaves small ones whole.
        """
        most = min(size, MAX_ITEMS, max(0, self.nodes))
        try:
            kept = list(itertools.islice(items, most))
        except RuntimeError:  # changed by a parallel thread (no GIL): a `list` of all is one step even then
            kept = list(items)[:most]
        self.nodes -= len(kept)
        nodes = min(_RESERVED_NODES, self.nodes // (2 * len(kept))) if kept else 0
        characters = min(_RESERVED_CHARACTERS, self.characters // (2 * len(kept))) if kept else 0
        self.nodes -= nodes * len(kept)
        self.characters -= characters * len(kept)
        self.above.append(id(owner))
        try:
            for item in kept:
                self.nodes += nodes
                self.characters += characters
                yield item
        finally:
            self.above.pop()

    def closed(self, value: object, size: int) -> str | None:
        """The marker for a container that contains itself, or is too deep; None for any other."""
        if id(value) in self.above:
            return f"<cyclic {type_name(value)}>"
        if len(self.above) >= MAX_DEPTH:
            return f"<{type_name(value)} of {size} items, too deep>"
        return None


def _whole(value: int) -> int | str:
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:  # past sys.get_int_max_str_digits()
        return f"<int of {value.bit_length()} bits>"


def _key(key: object) -> str:
    if type(key) is str and len(key) <= MAX_KEY and key.isascii():
        return key
    if type(key) is bytes:
        return bounded(key.decode(errors="backslashreplace"), MAX_KEY)
    return as_text(_Sanitizer().value(key), MAX_KEY)


def json_key(key: object) -> object:
    """A mapping's key, with True, False and None as ``json.dumps`` writes them: "true", "false", "null"."""
    return _JSON_KEYS[key] if key is None or isinstance(key, bool) else key


_JSON_KEYS = {True: "true", False: "false", None: "null"}


def sanitize_mapping(values: Mapping[str, object]) -> dict[str, Any]:
    """Return the mapping as a new dict of plain data; never raises.

    A value that is no mapping becomes ``{"[...]": value}``. Fast when all items are short texts and numbers.
    """
    if type(values) is dict and len(values) <= MAX_ITEMS:
        for key, value in values.items():
            if type(key) is not str or not key.isascii() or len(key) > MAX_KEY or not _is_short(value):
                break
        else:
            return values.copy()
    result = _Sanitizer().value(values)
    return result if type(result) is dict else {"[...]": result}


def _is_short(value: Any) -> bool:
    """Whether the value is a number, a bool, None or a short ASCII text: plain data within all bounds."""
    kind = type(value)
    if kind is str:
        return bool(len(value) <= MAX_NAME and value.isascii())
    if kind is int:
        return bool(-(2**63) <= value < 2**63)
    return kind in _ATOMS


def is_flat(values: dict[Any, Any]) -> bool:
    """Whether a dict holds at most `MAX_ITEMS` scalars under text keys: a fast check that spares `is_plain`."""
    for key, value in values.items():
        if type(key) is not str or type(value) not in _SCALARS:
            return False
    return len(values) <= MAX_ITEMS


def is_plain(value: object) -> bool:
    """Whether a container holds plain data only, about as deep as `sanitize` allows, in up to 40,000 values."""
    depth, visited = 0, 0
    level: list[Any] = [value]
    while level:
        if depth > MAX_DEPTH or visited > 4 * MAX_NODES:
            return False
        below: list[Any] = []
        for container in level:
            if type(container) is dict:
                for key in container:
                    if type(key) is not str:
                        return False
                items: Iterable[Any] = container.values()
            elif type(container) is list:
                items = container
            else:
                return False
            visited += len(container)
            if visited > 4 * MAX_NODES:
                return False
            for item in items:
                if type(item) not in _SCALARS:
                    below.append(item)
        level = below
        depth += 1
    return True
