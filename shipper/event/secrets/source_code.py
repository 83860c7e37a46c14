"""Expressions of programs, as tracebacks show them: ``password=password)``, ``token = self.next()``, ``token: str``.

They name secrets. An expression contains a secret itself only in a literal or a repr: see `holds_secret`.
"""

from __future__ import annotations

from ..._support.lazy_pattern import LazyPattern
from .keys import names_secret

_ANNOTATION = LazyPattern(r"(?:typing\.|t\.)?[A-Z][a-z]\w{1,30}\[|(?:list|dict|tuple|type|set|frozenset)\[")
_SUBSCRIPT = LazyPattern(r"[A-Za-z_][\w.]{0,64}\[(?:[\"'\]]|-?\d{1,2}[\]:]|[A-Za-z_.]{0,64}[\]:(\[])")
_IN_SUBSCRIPT = LazyPattern(r"\[(?=[A-Za-z]*\d)(?=[^A-Z]*[A-Z])\w{12,}")  # Optional[aB3dE6gH9jK2], as Rust prints it
_NAME = LazyPattern(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")
_OPERATOR = LazyPattern(r"\s(?:[-+*%|/]|or|and|if|not|in|is|else)\s")
_ASSIGNED = LazyPattern(r"(?:\s|[-+|:])==?\s\Z")
_CLASS = LazyPattern(r"[a-z][A-Z]|[A-Z]{2}[a-z]")
_WORDS = frozenset({"await", "not", "lambda", "yield", "value", "default", "key", "auth", "token", "password"})
_SHORT_NAMES = frozenset({"tok", "creds"})
_IN_CALL = LazyPattern(r"\w\((?:[^()\r\n]{1,200}, )?\w{1,64}=\Z")
_JOINED = LazyPattern(r"[\"'](?:\s?[%+]\s|\.(?:join|format|encode|split|strip|replace)\()")

_READS = LazyPattern(
    r"(?:[A-Za-z_]\w*\.){1,8}(?:get|pop|read|load|fetch|find|create|generate|make|decode|encode|strip|format|join|split"
    r"|replace|lower|upper|hexdigest|token_|random|choice|uuid\d|compare_digest)\w*\Z"
)
_CONVERTS = frozenset({
    "bytearray", "bytes", "memoryview", "array", "str", "repr", "unicode", "set", "frozenset", "list", "tuple", "dict",
    "string", "quote", "b64decode", "b64encode", "unhexlify", "fromhex",
})  # fmt: skip
_TEXT_LIKE_SECRET = LazyPattern(
    r"[\"'](?!utf-?8|latin-?1|sha-?\d|md5|[\w.+-]+\.[a-z]{2,4}[\"'])(?=[^\"'\s]{0,64}\d)(?=[^\"'\sA-Za-z]{0,64}[A-Za-z])"
    r"[^\"'\s\\(){}\[\]]{5,}"
)
_BARE_LIKE_SECRET = LazyPattern(r"(?<![A-Za-z_])(?=[A-Za-z_]*\d)[\w.~+/-]{4,}")
_LONGEST = 400  # characters of a call that are looked at


def is_expression(text: str, key: str, start: int, end: int) -> bool:
    """Whether the text between ``start`` and ``end``, which has no quotes, is an expression."""
    found = text[start:end].partition(")")[0].rstrip(":;")
    if "[" in found and (_SUBSCRIPT.match(text, start) or _ANNOTATION.match(text, start)):
        return not _IN_SUBSCRIPT.search(found)
    if not _NAME.fullmatch(found):
        return False
    is_assigned = text[start - 1] == " " and _ASSIGNED.search(text, max(0, start - 4), start) is not None
    if is_assigned and (_OPERATOR.match(text, end) or key.startswith(("self.", "cls.")) or found in _WORDS):
        return True
    if text[start - 2 : start] == ": " and _CLASS.search(found) and names_secret(found):
        return True
    last = found.rpartition(".")[2]
    if last != found:
        return is_assigned or names_secret(found) or found.startswith(("self.", "cls."))
    if "_" in found and (names_secret(found) or (is_assigned and found.isupper())):
        return True
    name = key.rpartition(".")[2].lstrip("_")
    if text[end : end + 1] == ")" and (found in _WORDS or found in _SHORT_NAMES or names_secret(found)):
        return _IN_CALL.search(text, max(0, start - 300), start) is not None  # connect(host, password=pw)
    return found.lower() == name and (is_assigned or "." in key or text[end : end + 1] in (")", ","))


def is_joined(text: str, start: int, end: int) -> bool:
    """Whether a text in quotes, without digits, is part of an expression: ``"Bearer " + token``, ``"; ".join(x)``."""
    return _JOINED.match(text, end) is not None and not any(map(str.isdigit, text[start:end]))


def holds_secret(text: str, name: str, start: int, end: int) -> bool:
    """Whether a call of the name has a secret between its brackets: ``Secret('x')`` has, ``next(tokens)`` has not."""
    inner = text[start + 1 : min(end - 1, start + _LONGEST)]
    if not inner.strip("bB'\"*"):  # empty, or masked by the object itself
        return False
    last = name.rpartition(".")[2]
    if '"' not in inner and "'" not in inner:
        return text[start] != "[" and _is_said_bare(last, inner)
    if last in _CONVERTS or (last[:1].isupper() and not last.isupper() and last not in _DECLARES):
        return True
    return not _READS.match(name) and _TEXT_LIKE_SECRET.search(inner) is not None


def shows_secret(text: str, start: int, end: int) -> bool:
    """Whether the brackets at ``start`` hold a text in quotes, or one without that looks like a secret."""
    inner = text[start : min(end, start + _LONGEST)]
    return '"' in inner or "'" in inner or _BARE_LIKE_SECRET.search(inner) is not None


_DECLARES = frozenset({"Option", "Argument", "Parameter", "Setting", "Config"})


def _is_said_bare(last: str, inner: str) -> bool:
    """Whether an object's repr without quotes, such as ``Token(id=5, value=a1b2c3)``, shows a secret."""
    return (last[:1].isupper() or last in _CONVERTS) and _BARE_LIKE_SECRET.search(inner) is not None
