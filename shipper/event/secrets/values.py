"""Decide whether the value behind a secret key in a text is a secret, by its key, place and form."""

from __future__ import annotations

from ..._support.lazy_pattern import LazyPattern
from .extents import QUOTE, Value, value_at
from .keys import is_name, is_outcome, is_secret, names_secret
from .names import HIDDEN, SHAPED, WEAK
from .source_code import is_expression, is_joined

_LINE = LazyPattern(r"(?:[^\r\n\\]+|\\(?![nr]))*")
_SCHEME = LazyPattern(
    r"(?i)(?:bearer|basic|token|apikey|negotiate|ntlm):?\s{1,4}(?![\w-]{1,64}=[\"'])"
    r"(?=\[?[\w.~+/=*-]+(?:[\s,;)\]}\"'\\]|\Z))"
)
_NUMBER_PAIR = LazyPattern(r"[a-z_]{1,24}=\d{1,12}")
_OTHER_PAIR = LazyPattern(r"[A-Za-z_.-]{1,64}=[^=\s]")
_ANY_SCHEME = LazyPattern(r"[A-Za-z][\w-]{0,64}\s{1,4}(?=\S)")
_VARIABLE = LazyPattern(r"[A-Za-z]+\s{1,4}(?:\$\w+|\$?\{[^{}\s]*\}|\$\([^()]*\)|<[^<>]*>|\*+|\.{3})\s*(?=[\"'\\]|\Z)")
_PROSE = LazyPattern(r"[a-z ,.]*")
_COOKIES = LazyPattern(
    r"[^\s=;,\"'&\\]{1,256}=(?:\"[^\"\r\n]{1,4000}\"|'[^'\r\n]{1,4000}'|[^\s;\"'\\]*)"
    r"(?:;\s{0,4}[^\s;\"'\\]+(?:(?<==)(?:\"[^\"\r\n]{1,4000}\"|'[^'\r\n]{1,4000}'))?)*"
)
_SIGNATURES = LazyPattern(r"t=\d{1,20}(?:,v\d=[0-9a-f]{1,256}){1,8}")  # of Stripe
_CARD = LazyPattern(r"\d[\dA-Za-z]*(?:[ -](?=[A-Za-z]{0,8}\d)\w{2,8}){1,5}")
_SAYS_HOW = LazyPattern(r"token|session|cookie|csrf|xsrf|credential|auth")  # "token: not yet valid"
_SCOPE = LazyPattern(r"(?:read|write|list|get|create|update|delete|admin|manage|view|edit)(?![^_:.-])")
_PREFIX = LazyPattern(r"[a-z_.-]{1,40}:")  # of a message
_IN_SENTENCE = LazyPattern(r"[A-Za-z][a-z-]{1,24}(?:\.{3})? [A-Za-z][a-z]{0,24}(?![\w=:-]|\s{1,4}[=:])")
_SECRET_WORDS = frozenset({"secret", "password", "token", "key", "cookie", "session"})
_PLAIN_WORD = LazyPattern(r"[a-z_]{1,24}")
_OPENING_PAIR = LazyPattern(r"[(\[]\s{0,4}[bruBRU]{0,2}\\{0,4}[\"']#?\Z")
_CLOSING_PAIR = LazyPattern(r"\\{0,4}[\"']\s{0,4},?\s{0,4}[)\]]")
_TAKES_SECRET = LazyPattern(
    r"(?:(?:set|with|hash|make|check|verify|change|update)_?)?(?:new_?|user_?|db_?)?(?:password|passwd|passphrase|pwd)"
    r"|(?:set|with|use)_?\w{0,20}(?:token|secret|api_?key)"
)
_ROLE = LazyPattern(r":?(?:[a-z]{2,8}:){1,2}`")
_APOSTROPHE = LazyPattern(r"'(?:t|s|re|ll|ve|d|m)\b")
_VERSION = LazyPattern(r"\d+(?:\.\w+)+")
_FIRST_ARGUMENT = LazyPattern(r"([\"'])[^\"'\\]{0,200}\1, ?(?=[\"'])")
_CLASS = LazyPattern(r"\w{0,20}(?:token|secret|password|api_?key)")  # Token(value="a1b2c3d4")
_LONG = 8
_COUNT = 3  # digits
_COUNTED = LazyPattern(r" [a-z]{3,24}\b")
_WRAPPED = LazyPattern(r"[A-Za-z_][\w.]{0,64}\([bru]?[\"']([^\"']{1,64})[\"']\)")  # Decimal('4253')
_PIN = LazyPattern(r"[\"']?(?:[A-Za-z_][\w.]{0,64}\([bru]?[\"'])?\d{3}")
_COMMAND = LazyPattern(r"\b(?:[HM]?[GS]ET|HGETALL|DEL|EXPIRE|P?TTL|EXISTS|INCR|UNLINK) \Z")  # of Redis
_TYPE = LazyPattern(r"[A-Z][A-Za-z]{1,30}!?")  # of GraphQL
_ENDS_ARGUMENT = LazyPattern(r"(?:\\{0,4}[\"'])?\s{0,4}[,)]")


def is_plain_word(value: object) -> bool:
    """Whether the value is a lower-case word, as field names are: of two such words, neither is the other's value."""
    return type(value) is str and _PLAIN_WORD.fullmatch(value) is not None


def value_of_option(text: str, key: str, start: int, verdict: int) -> Value:
    """Return the secret at ``start``, behind ``--key``; empty for ``--key KEY`` in a help text."""
    if text[start - 1] == " " and text[start] in "([":  # the option's short form, or a remark
        return Value(start, start, True)
    value = secret_at(text, start, verdict)
    is_explained = text[start - 2 : start].isspace() and _IN_SENTENCE.match(text, start)  # in a table of options
    if value.is_delimited or is_explained:
        return value.seen() if is_explained else value
    word = text[value.start : value.end].rstrip("])>")
    low = word.lower()
    is_metavar = word.isupper() and (word.isalpha() or low in key) and (names_secret(word) or key.endswith(low))
    return value.seen() if is_metavar else value


def value_in_markup(text: str, key: str, start: int, verdict: int) -> Value:
    """Return the content of ``<key>``, with elements in it, if it is a secret."""
    if text.startswith("<![CDATA[", start):
        end = text.find("]]>", start)
        return Value(start, len(text) if end < 0 else end + 3, True)
    bracket = "&lt;" if text[start - 1] == ";" else "<"
    end = text.find(bracket, start)
    end = len(text) if end < 0 else end
    value = text[start:end].strip()
    if not value:  # the content begins with an element
        closing = text.find(f"</{key}", start, start + 2000)
        return Value(start, closing, True) if closing > end else Value(end, end, True)
    if not text.startswith(f"{bracket}/", end) and (
        end < len(text) or " " in value or not value[0].isalnum()
    ):  # "<token>-<n>" in a sentence
        return Value(end, end, True)
    return Value(start if is_secret(value, verdict) else end, end, True)


def value_of_pair(text: str, key: str, key_start: int, start: int, verdict: int) -> Value:
    """Return what is to be masked behind ``key``, which is in lower case."""
    if "cookie" in key and (cookies := _COOKIES.match(text, start)):
        return Value(start, cookies.end(), True)
    if "auth" in key:
        quote = QUOTE.match(text, start)
        if quote and _VARIABLE.match(text, quote.end()):
            return Value(start, start, True)
        credentials = None if quote else _credentials_at(text, key_start, start, is_header="authori" in key)
        if credentials:
            return credentials
    if ("card" in key or key in ("number", "no")) and (card := _CARD.match(text, start)):
        return Value(start, card.end(), True)
    if key.endswith("signature") and (signatures := _SIGNATURES.match(text, start)):
        return Value(start, signatures.end(), True)
    if key.endswith("pin") and not _PIN.match(text, start):
        return Value(start, start, True)  # not a number: the pin of a plug
    is_compared = text[start - 4 : start] == " == "  # compared with a constant
    value = secret_at(text, start, SHAPED if is_compared else verdict)
    if is_compared and text[value.start : value.end].isdecimal():
        return value.seen()
    if value.is_delimited and text[value.end : value.end + 1] in ("'", '"') and is_joined(text, value.start, value.end):
        return value.seen()
    is_in_cache = text[start - 1] == ":" and _COMMAND.search(text, max(0, key_start - 12), key_start)
    if is_in_cache and is_name(text[value.start : value.end]):
        return value.seen()
    if text[key_start - 1 : key_start] == "$" and _TYPE.fullmatch(text[value.start : value.end]):
        return value.seen()
    is_test = text.startswith("PASS: ", key_start) and "test" in text[value.start : value.end].lower()
    return value if not is_test and (value.is_delimited or not _is_other(text, key, value)) else value.seen()


def _is_other(text: str, key: str, value: Value) -> bool:
    """Whether a value without quotes is no secret, by its key, place or form."""
    start = value.start
    found = text[start : value.end]
    if text[start - 1] == ":" and _SCOPE.match(found):
        return True
    if found[-1] == "=" and found[:-1].isidentifier() and text[value.end : value.end + 1] in ("'", '"'):
        return True  # the next key
    if text[start - 1] == ":" and key in ("session", "token", "cookie") and len(found) < 10 and found.isdigit():
        return True  # "session:42" is a name in a cache
    if text[start - 3 : start].lower().endswith(("==", "%3a")) and _VERSION.match(found):  # the version of a package
        return True
    if found.isdecimal() and len(found) <= _COUNT and _COUNTED.match(text, value.end):  # "8 characters minimum"
        return True
    if found.isalnum() and not found.isalpha():  # as most secrets are: no word and no expression
        return False
    if key in ("pwd", "oldpwd") and found.startswith("/"):  # the working directory, in an environment
        return True
    if text[start - 1] == "\n" and (found[-1:] == ":" or text[value.end : value.end + 1] == ":"):  # a key of its own
        return True
    if found[-1] == ":" and _PREFIX.fullmatch(found):
        return True
    if text[start - 2 : start] in (": ", "= ") and text[start - 3] != " " and _IN_SENTENCE.match(text, start):
        return True
    if found[-3:].lower() == "ing" and found.isalpha() and text.startswith("...", value.end):  # progress: "loading..."
        return True
    if "`" in found and _ROLE.match(found):  # a role in reStructuredText
        return True
    if found.startswith("--"):  # the next option of a command
        return True
    if text[value.end : value.end + 1] == "'" and found.isalpha() and _APOSTROPHE.match(text, value.end):
        return True
    if ":" in text[start - 6 : start] and _SAYS_HOW.search(key) and _is_word_or_pair(found):
        return True
    if found in _SECRET_WORDS and text[value.end : value.end + 2] in (' "', " '"):  # : secret "shop" not found
        return True
    return is_expression(text, key, start, value.end)


def _is_word_or_pair(found: str) -> bool:
    return is_plain_word(found.lower() if found.isupper() else found) or _NUMBER_PAIR.fullmatch(found) is not None


def value_in_form(text: str, start: int) -> Value:
    """Return the value of a multipart form's field: the line that begins at ``start``."""
    line = _LINE.match(text, start)
    return Value(start, line.end() if line else start, True)


def second_of_pair(text: str, key_start: int, start: int, verdict: int) -> Value:
    """The second of two texts in brackets, unless it is a plain word: ('password', 'email') are two names."""
    if not _OPENING_PAIR.search(text[max(0, key_start - 12) : key_start]):
        return Value(start, start, True)
    value = value_at(text, start)
    found = text[value.start : value.end]
    if not _CLOSING_PAIR.match(text, value.end) or _PLAIN_WORD.fullmatch(found):
        return value.seen()
    if (verdict == WEAK or " " in found) and is_name(found):
        return value.seen()
    return value if is_secret(found, verdict) else value.seen()


def value_of_call(text: str, key: str, key_start: int, start: int, verdict: int) -> Value:
    """The text that a function such as ``set_password``, or a class such as ``Token``, is called with.

    ``key`` is its name in lower case, which begins at ``key_start``.
    """
    if key.endswith("basicauth") and (user := _FIRST_ARGUMENT.match(text, start)):
        return value_at(text, user.end())
    value = value_at(text, start)
    found = text[value.start : value.end]
    name = key.rpartition(".")[2]
    is_told = _TAKES_SECRET.fullmatch(name) or (
        _CLASS.fullmatch(name) and text[key_start].isupper() and len(found) >= _LONG
    )
    is_told = is_told and _ENDS_ARGUMENT.match(text, value.end) is not None
    is_words = " " in found or is_name(found)
    return value if is_told and not is_words and is_secret(found, verdict) else value.seen()


def secret_at(text: str, start: int, verdict: int) -> Value:
    """Return the value at ``start``, empty unless it is a secret under a key with this verdict."""
    if verdict == WEAK and text[start : start + 1] == "{":
        return Value(start, start, True)  # its parts have keys of their own
    value = value_at(text, start)
    found = text[value.start : value.end]
    shown = found if value.is_delimited else found.rstrip(":;")
    if verdict == SHAPED and (wrapped := _WRAPPED.fullmatch(found)):
        shown = wrapped[1]
    if not shown or not is_secret(shown, verdict):
        return value.seen()
    if value.is_delimited or verdict == SHAPED:
        return value
    is_word = is_name if text[start - 2 : start] == ": " else is_plain_word
    return value.seen() if is_outcome(found) or (verdict == WEAK and is_word(found)) else value


def _credentials_at(text: str, key_start: int, start: int, *, is_header: bool) -> Value | None:
    """Return the unquoted credentials behind an ``auth`` key: one token after a usual scheme.

    With another scheme in an Authorization header, the whole line; None without a scheme.
    """
    if scheme := _SCHEME.match(text, start):
        value = value_at(text, scheme.end())
        found = text[value.start : value.end]
        return (
            value.seen()
            if is_outcome(found)
            or (found.isalpha() and is_name(found))
            or _OTHER_PAIR.match(found)
            or not is_secret(found, HIDDEN)
            else value
        )
    word = _ANY_SCHEME.match(text, start) if is_header else None
    if not word or is_outcome(word[0].rstrip()):
        return None
    quote = text[key_start - 1 : key_start]
    closing = text.find(quote, start) if quote in ("'", '"') else -1
    line = _LINE.match(text, start, closing if closing >= 0 else len(text))
    end = line.end() if line else start
    is_no_secret = _PROSE.fullmatch(text[start:end]) or _VARIABLE.fullmatch(text[start:end])
    return Value(end if is_no_secret else start, end, True)
