"""Masks secrets in an event."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._support.lazy_pattern import LazyPattern
from ..errors import ConfigurationError, suggest_keywords
from .codec import sanitize_event
from .model import Event

_WIRE = ("trakerr", "jkool")  # kinds, and extras, whose fields a client sets on purpose
_VERDICTS = 4096  # keys whose verdict is remembered


@suggest_keywords
@dataclass(frozen=True)
class Redact:
    """What is masked, and with what.

    ``enabled``: False masks nothing. ``keys``: more words that make a key secret. ``patterns``: more regular
    expressions; what they match in any text is masked, their group 1 alone when they have groups. ``mask``: what is put
    in place of a secret. ``allow``: whole keys that look secret but are not.

    Words are compared without regard to case and separators: "card-code" is also cardCode, CARD_CODE, "card code".
    Raises `ConfigurationError` for what is none of that.
    """

    enabled: bool = True
    keys: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    mask: str = "[redacted]"
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise ConfigurationError("redact.enabled", self.enabled, "True or False")
        if not isinstance(self.mask, str):
            raise ConfigurationError("redact.mask", self.mask, "a text")
        for setting in ("keys", "patterns", "allow"):
            object.__setattr__(self, setting, _texts(f"redact.{setting}", getattr(self, setting)))
        for setting in ("keys", "allow"):
            for word in getattr(self, setting):
                if not _normal(word):
                    raise ConfigurationError(f"redact.{setting}", word, "a word with a letter or a digit in it")
        for pattern in self.patterns:
            _compiled(pattern)


def _texts(setting: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in values):
        raise ConfigurationError(setting, values, "a tuple of texts")
    return tuple(values)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as exc:
        raise ConfigurationError("redact.patterns", pattern, f"a regular expression ({exc})") from exc
    if compiled.match(""):
        raise ConfigurationError("redact.patterns", pattern, "a regular expression that does not match an empty text")
    return compiled


# Keys ----------------------------------------------------------------------------------------------------------------

_SECRET = LazyPattern(
    r"password|passwd|passphrase|passcode|authori[sz]ation|credential|csrf|xsrf|secret(?!ar)|cookie"
    r"|token(?!i[sz])|session(?!al)|sess_?id"
    r"|(?:api|access|private|secret|signing|encryption|account)_?key(?![a-z])|credit_?card|card_?(?:number|num|no)(?![a-z])"
    r"|pwd(?![a-z])|(?<![a-z])(?:cvv2?|cvc2?|ssn|jwt|otp)(?![a-z])|social_?security"
    r"|\A(?:proxy_|http_|x_)?auth\Z"
)
_MEASURE = LazyPattern(
    r"(?:\A|_)(?:counts?|total|num|number_of|max|min|maximum|minimum|avg|length|len|size|limit|used|usage|left|remaining"
    r"|budget|rate|index|age|ttl|timeout|lifetime|duration|seconds|minutes|hours|days|ms|expiry|expires?|expiration"
    r"|version)(?:_|\Z)|(?:tokens|sessions|cookies|credentials|secrets|passwords)\Z"
)
_NOT_CARD = LazyPattern(r"(?:\A|_)(?:card_?(?:number|num|no)|credit_?card|cvv2?|cvc2?|ssn)(?:_|\Z)")
_NUMBER = LazyPattern(r"[-+]?\d{1,15}(?:\.\d{1,15})?\Z")
_NOTHING = frozenset({"", "none", "null", "nil", "true", "false", "undefined"})

_OPEN, _COUNTED, _HIDDEN = 0, 1, 2


def _normal(key: str) -> str:
    """Lower case words joined by underscores: "X-Api-Key", "xApiKey" and "x api key" are "x_api_key"."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[\W_]+", "_", apart).strip("_").lower()


# Text ----------------------------------------------------------------------------------------------------------------

def _has_hint(text: str) -> bool:
    """False for a text that holds nothing to mask; much cheaper than the expressions."""
    low = text.lower()
    # Spelt out: it is asked of every text, and a loop takes half as long again.
    return (
        "://" in low or "pass" in low or "token" in low or "secret" in low or "key" in low or "auth" in low
        or "cookie" in low or "sess" in low or "credential" in low or "csrf" in low or "xsrf" in low or "card" in low
        or "bearer" in low or "basic" in low or "pwd" in low or "cvv" in low or "cvc" in low or "ssn" in low
        or "jwt" in low or "otp" in low or "eyj" in low or "akia" in low or "asia" in low or "-----begin" in low
        or "social" in low
    )  # fmt: skip


# Each begins at a place where the one before it can't have begun, so that none of them is tried twice on the same text.
_URL = LazyPattern(r"(://[^\s/?#@:\"'<>]*:)([^\s/?#\"'<>]+)(?=@)")
_BEARER = LazyPattern(r"(?i)(?<![\w])(bearer\s{1,4})(?!tokens?\b|auth)([\w.~+/=-]{6,})")
_BASIC = LazyPattern(r"(?i)(?<![\w])(basic\s{1,4})([a-z0-9+/=_-]{4,})")
_JWT = LazyPattern(r"(?<![\w-])eyJ[\w-]{4,}\.[\w-]{2,}(?:\.[\w-]*){1,3}")
_PEM = LazyPattern(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
)
_AWS = LazyPattern(r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])")
# key=value, 'key': 'value', "key": "value", \"key\": \"value\", key => value, --key value
_PAIR = LazyPattern(
    r"(?<![\w.-])(?:(?P<option>--[\w-]{1,64})(?:\s{1,4}|=)"
    r"|(?P<key>[\w.-]{1,128})\\{0,4}[\"']?\]?\s{0,4}(?:={1,3}>?|:=?)\s{0,4})"
)
_QUOTE = LazyPattern(r"[bBrRuUfF]{0,2}(\\{0,4}[\"'])")
_BARE = LazyPattern(r"(?:[^\s&;\"'<>,]|,(?!\s{0,4}[\w.-]{1,64}[=:]))+")
_SCHEME = LazyPattern(r"(?i)(?:bearer|basic|token|apikey|negotiate|ntlm)\s{1,4}")
_LISTED = LazyPattern(r"(?i)(?:digest|aws4-hmac-sha256|oauth|signature|hawk)\s[^\r\n]*")
_COOKIES = LazyPattern(r"[^\s=;,\"'&]{1,256}=[^\s;\"']*(?:;\s{0,4}[^\s;\"']+)*")
_BRACKET = LazyPattern(r"[\[\](){}]")
_LAST_WORDS = frozenset({"key", "card", "number", "code", "id", "token"})  # of keys written with spaces: "API key: ..."
_FIRST_WORDS = LazyPattern(r"(?:[A-Za-z]{1,16}[ \t]){1,2}\Z")


class Redactor:
    """Masks secrets in an event, in place.

    A value is secret when its key - in ``extra`` or ``context`` at any depth, in ``data`` below the top level - has a
    word like password, passwd, pwd, secret, token, authorization, api key, access key, private key, credential,
    cookie, session, csrf, credit card, card number, cvv or ssn in it, or one of ``keys``. All of such a value is
    masked, but for

    * booleans, None and empty values, and
    * numbers whose key says that they measure something: session_count, max_tokens, token_ttl, prompt_tokens.

    The top-level keys of ``data``, and of an extra named "trakerr" or "jkool", are fields of these services that
    were set on purpose (event_session, apiKey): they are no secret keys. {"name": "password", "value": "x"} and
    ["password", "x"] count as a key and its value.

    In every text - message, exceptions' messages and notes, stack, values - these are masked: the same keys written as
    ``key=value``, ``'key': 'value'``, ``"key": "value"``, ``key: value`` or ``--key value``; the password of a URL;
    bearer and basic tokens; JSON web tokens; PEM private keys; AWS access key ids; and what ``patterns`` match.
    """

    def __init__(self, settings: Redact) -> None:
        self._enabled = settings.enabled
        self._mask = settings.mask
        self._keys = tuple(f"_{_normal(word)}_" for word in settings.keys)
        self._joined = frozenset(word.replace("_", "") for word in self._keys)
        self._allow = frozenset(_normal(word).replace("_", "") for word in settings.allow)
        self._patterns = tuple(_compiled(pattern) for pattern in settings.patterns)
        self._hints = tuple(word.split("_")[1] for word in self._keys)
        self._verdicts: dict[str, int] = {}
        self._is_hinted: Callable[[str], bool] = self._has_any_hint if self._hints else _has_hint

    def __call__(self, event: Event, *, is_sanitized: bool = False) -> None:
        """Mask the event. ``is_sanitized``: whether it is known to hold plain data only."""
        if not self._enabled:
            return
        if not is_sanitized:
            sanitize_event(event)
        event.message = self._text(event.message)
        if event.stack:
            event.stack = self._text(event.stack)
        for exc in event.exceptions:
            exc.message = self._text(exc.message)
            if exc.notes:
                exc.notes = [self._text(note) for note in exc.notes]
        if event.extra:
            self._fields(event.extra)
        if event.context:
            self._fields(event.context)
        if event.data:
            self._wire_fields(event.data)

    # Values -----------------------------------------------------------------------------------------------------------

    def _fields(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if key in _WIRE and type(value) is dict:
                self._wire_fields(value)
                continue
            masked = self._under(key, value)
            if masked is not value:
                values[key] = masked

    def _wire_fields(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            values[key] = self._value(value)

    def _under(self, key: str, value: Any) -> Any:
        """The value as it may travel under the key."""
        verdict = self._verdict(key)
        if verdict != _OPEN and _is_secret(value, verdict):
            return self._mask
        return self._value(value)

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is dict:
            self._mapping(value)
        elif kind is list:
            self._list(value)
        elif kind is bytes:
            return self._octets(value)
        return value

    def _mapping(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            values[key] = self._under(key, value)
        name = values.get("name")
        if type(name) is str and "value" in values:
            values["value"] = self._under(name, values["value"])

    def _list(self, values: list[Any]) -> None:
        if len(values) == 2 and type(values[0]) is str and self._verdict(values[0]) != _OPEN:
            values[1] = self._under(values[0], values[1])
            return
        for place, value in enumerate(values):
            values[place] = self._value(value)

    def _octets(self, value: bytes) -> bytes:
        text = value.decode("latin-1")
        masked = self._text(text)
        return value if masked == text else masked.encode("latin-1", "replace")

    # Keys -------------------------------------------------------------------------------------------------------------

    def _verdict(self, key: str) -> int:
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        verdict = self._judge(key)
        if len(self._verdicts) >= _VERDICTS:
            self._verdicts.clear()
        self._verdicts[key] = verdict
        return verdict

    def _judge(self, key: str) -> int:
        normal = _normal(key[:256])
        joined = normal.replace("_", "")
        if joined in self._allow:
            return _OPEN
        if joined in self._joined or any(word in f"_{normal}_" for word in self._keys):
            return _COUNTED if _MEASURE.search(normal) else _HIDDEN
        if not _SECRET.search(normal):
            return _OPEN
        return _COUNTED if _MEASURE.search(normal) and not _NOT_CARD.search(normal) else _HIDDEN

    # Text -------------------------------------------------------------------------------------------------------------

    def text(self, text: str) -> str:
        """The text with its secrets masked."""
        return self._text(text) if self._enabled else text

    def is_open(self, key: str) -> bool:
        """Whether the key says nothing of its value."""
        return not self._enabled or self._verdict(key) == _OPEN

    def suspicion(self) -> Callable[[str], bool]:
        """What says whether anything in a text may have to be masked."""
        if not self._enabled:
            return lambda text: False
        return (lambda text: True) if self._patterns else self._is_hinted

    def _has_any_hint(self, text: str) -> bool:
        low = text.lower()
        return _has_hint(low) or any(hint in low for hint in self._hints)

    def _text(self, text: str) -> str:
        if self._is_hinted(text):
            text = self._masked(text, text.lower())
        for pattern in self._patterns:
            text = pattern.sub(self._matched, text)
        return text

    def _matched(self, match: re.Match[str]) -> str:
        group = 1 if match.re.groups else 0
        start, end = match.span(group)
        if start < 0:
            return match[0]
        whole = match.start()
        return f"{match[0][: start - whole]}{self._mask}{match[0][end - whole :]}"

    def _masked(self, text: str, low: str) -> str:
        mask = self._mask
        if "-----begin" in low:
            text = _PEM.sub(lambda match: mask, text)
        if "://" in text:
            text = _URL.sub(lambda match: match[1] + mask, text)
        if "=" in text or ":" in text or "--" in text:
            text = self._pairs(text)
        if "bearer" in low:
            text = _BEARER.sub(lambda match: match[1] + mask, text)
        if "basic" in low:
            text = _BASIC.sub(self._basic, text)
        if "eyJ" in text:
            text = _JWT.sub(lambda match: mask, text)
        if "akia" in low or "asia" in low:
            text = _AWS.sub(lambda match: mask, text)
        return text

    def _basic(self, match: re.Match[str]) -> str:
        """Masked when it decodes to ``user:password``; "basic authentication" does not."""
        import base64  # seldom comes to that

        try:
            decoded = base64.b64decode(match[2].rstrip("=") + "===", altchars=b"-_")
        except ValueError:
            return match[0]
        return match[1] + self._mask if b":" in decoded else match[0]

    def _pairs(self, text: str) -> str:
        parts: list[str] = []
        done = position = 0
        while match := _PAIR.search(text, position):
            position = match.end()
            verdict = self._verdict_in_text(text, match)
            if verdict == _OPEN:
                continue
            start, position = _value_span(text, position, match["key"] or "")
            if _is_secret(text[start:position], verdict):
                parts += text[done:start], self._mask
                done = position
        return "".join([*parts, text[done:]]) if parts else text

    def _verdict_in_text(self, text: str, match: re.Match[str]) -> int:
        key = match["key"]
        if key is None:
            return self._verdict(match["option"])
        verdict = self._verdict(key)
        if verdict != _OPEN or key.lower() not in _LAST_WORDS:
            return verdict
        before = _FIRST_WORDS.search(text[max(0, match.start() - 34) : match.start()])
        return self._verdict(f"{before[0]}{key}") if before else verdict


def _value_span(text: str, start: int, key: str) -> tuple[int, int]:
    """From where to where the value goes that begins at ``start``; to the end of a text that was cut inside of it."""
    low = key.lower()
    if "cookie" in low and (cookies := _COOKIES.match(text, start)):
        return start, cookies.end()
    if "auth" in low and (listed := _LISTED.match(text, start)):
        return start, listed.end()
    if "auth" in low and (scheme := _SCHEME.match(text, start)):
        start = scheme.end()
    if quote := _QUOTE.match(text, start):
        return quote.end(), _closing_quote(text, quote.end(), quote[1])
    if text[start : start + 1] in ("{", "[", "("):
        return start, _closing_bracket(text, start)
    bare = _BARE.match(text, start)
    if bare is None:
        return start, start
    return start, start + len(bare[0].rstrip(",.)]}"))


def _closing_quote(text: str, start: int, quote: str) -> int:
    """Where the quote comes again that has as many backslashes before it as the first one."""
    mark, slashes = quote[-1], len(quote) - 1
    position = text.find(mark, start)
    while position >= 0:
        first = position
        while first > start and text[first - 1] == "\\":
            first -= 1
        count = position - first
        if count == slashes or (count > slashes and (count - slashes) % (2 * slashes + 2) == 0):
            return position - slashes
        position = text.find(mark, position + 1)
    return len(text)


def _closing_bracket(text: str, start: int) -> int:
    depth = 0
    for bracket in _BRACKET.finditer(text, start):
        depth += 1 if bracket[0] in "[({" else -1
        if depth == 0:
            return bracket.end() if bracket.start() > start + 1 else start
    return len(text)


def _is_secret(value: Any, verdict: int) -> bool:
    """Whether a value is to be masked under a key of that verdict."""
    kind = type(value)
    if value is None or kind is bool:
        return False
    if kind is int or kind is float:
        return verdict == _HIDDEN
    if kind is str and (value.lower() in _NOTHING or (verdict == _COUNTED and _NUMBER.match(value))):
        return False
    return bool(value)
