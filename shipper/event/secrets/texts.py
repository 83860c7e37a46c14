"""Masks secrets in a text: the values of secret keys, and what has the shape of a secret.

The time is linear in the length of the text. A text with thousands of keys to look at is masked from there to its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..._support.lazy_pattern import LazyPattern
from . import shapes
from .effort import MAX_EFFORT, rest_masked, substitute
from .keys import HIDDEN, OPEN, SHAPED, WEAK, KeyRules, is_outcome, is_secret

_NEW_KEY_EFFORT = 6
_VALUE_EFFORT = 4


def _may_hold_key(low: str) -> bool:
    """False for a text in lower case in which no key can be secret; much cheaper than looking for them."""
    # Spelt out: it is asked of every text, and a loop takes half as long again.
    return ("=" in low or ":" in low or "'" in low or '"' in low or "--" in low or "</" in low or "lt;/" in low) and (
        "pass" in low or "token" in low or "key" in low or "auth" in low or "secret" in low or "sess" in low
        or "cookie" in low or "credential" in low or "pw" in low or "card" in low or "csrf" in low or "xsrf" in low
        or "cvv" in low or "cvc" in low or "ssn" in low or "jwt" in low or "otp" in low or "sig" in low
        or "social" in low or "saml" in low or "identified" in low or "-u" in low
    )  # fmt: skip


_WORDS = "pass|pw|token|secret|credential|cookie|auth|sess|csrf|xsrf|key|card|cvv|cvc|ssn|jwt|otp|social|sig|saml"
_LAST_WORDS = frozenset(
    {"key", "card", "number", "no", "code", "id", "token", "auth"}
)  # of keys with spaces: "API key:"

# How a key and its value stand in a text, {words} being words that make a key secret. First comes a check whether the
# run of characters is followed by what may end a key: it is cheaper than looking for the words, and mostly fails.
#   assigned  key=value  key: value  'key': 'value'  "key": "value"  \"key\": \"value\"  key => value  user[key]=value
#   named     {{"name": "key", "value": "value"}}  <add key="key" value="value">
#   listed    ('key', 'value')  [b'key', b'value']
_PAIR = (
    r"(?<![\w.-])(?=[\w.-]{{1,128}}(?:\s{{0,4}}[=:]|[\"'\\%\[\]]))"
    r"(?P<key>[\w.-]{{0,64}}?(?:{words}|(?<=[ \t])(?:number|no|code|id)(?=\s{{0,4}}[:=]))[\w.-]{{0,64}})(?![\w.-])"
    r"(?:(?:%5d|\\{{0,4}}[\"']?(?:\[[\w.-]{{0,32}}\])?\]?)\s{{0,4}}(?:={{1,3}}>?|:=?)\s{{0,4}}"
    r"|\\{{0,4}}[\"'][,\s]{{1,4}}\\{{0,4}}[\"']?value\\{{0,4}}[\"']?\s{{0,4}}[:=]\s{{0,4}}"
    r"|(?P<listed>\\{{0,4}}[\"'],\s{{0,4}}(?=[bru]{{0,2}}\\{{0,4}}[\"'])))"
)
_TAG = r"(?:<|&lt;)(?:\w{{1,32}}:)?(?P<key>[\w.-]{{0,64}}?(?:{words})[\w.-]{{0,64}})(?:\s[^<>]{{0,200}})?(?:>|&gt;)"
_OPTION = (
    r"(?<![\w.-])(?P<key>--?(?:[a-z][\w-]{{0,64}}?)?(?:{words})[\w-]{{0,64}})"
    r"(?:\s{{1,4}}(?=[^\s-])|[\"'],\s{{0,4}}(?=[bru]{{0,2}}[\"']))"
)
_FIRST_WORDS = LazyPattern(r"(?:[A-Za-z]{1,16}[ \t]){1,2}\Z")
_OPENING_PAIR = LazyPattern(r"[(\[]\s{0,4}[bruBRU]{0,2}\\{0,4}[\"']\Z")
_CLOSING_PAIR = LazyPattern(r"\\{0,4}[\"']\s{0,4},?\s{0,4}[)\]]")

_QUOTED = frozenset("\"'\\bBrRuUfF")
_BRACKETS = frozenset("{[(")
_QUOTE = LazyPattern(r"[bBrRuUfF]{0,2}(\\{0,4}[\"'])")
_CALL = LazyPattern(r"[A-Za-z_][\w.]{0,64}(?=\()")
_TAG_END = LazyPattern(r"<!\[CDATA\[.*?(?:\]\]>|\Z)|(?:[^<&]|&(?!lt;))*", re.DOTALL)
_ANGLE = LazyPattern(r"<[^<>\r\n]{1,500}>?")
_END = r"\\[nrt](?=[\w.-]{1,64}[\"']?\s{0,4}[:=]|[\"'\s\\]|\Z)"  # of a line in a repr or in JSON
_BARE = LazyPattern(rf"(?:[^\s&;\"'<>,\\]|\\(?![nrt])|(?!{_END})\\|,(?!\s{{0,4}}[\w.-]{{1,64}}[=:]))+")
_LINE = LazyPattern(r"(?:[^\r\n\\]|\\(?![nr]))*")
_SCHEME = LazyPattern(
    r"(?i)(?:bearer|basic|token|apikey|negotiate|ntlm)\s{1,4}(?![\w-]{1,64}=[\"'])"
    r"(?=\[?[\w.~+/=*-]+(?:[\s,;)\]}\"'\\]|\Z))"
)
_ANY_SCHEME = LazyPattern(r"[A-Za-z][\w-]{0,64}\s{1,4}(?=\S)")
_PROSE = LazyPattern(r"[a-z ,.]*")
_COOKIES = LazyPattern(r"[^\s=;,\"'&\\]{1,256}=[^\s;\"'\\]*(?:;\s{0,4}[^\s;\"'\\]+)*")
_CARD = LazyPattern(r"\d[\dA-Za-z]*(?:[ -](?=[A-Za-z]{0,8}\d)\w{2,8}){1,5}")
_BRACKET = LazyPattern(r"[\[\](){}]|\\*[\"']")
_MAX_BRACKETS = 2000  # in one value; after so many it is taken to go on to the text's end
_SAYS_HOW = LazyPattern(r"token|session|cookie|csrf|xsrf|credential|auth")  # "token: not yet valid"
_PLAIN_WORD = LazyPattern(r"[a-z_]{1,24}")
_IN_SQL = LazyPattern(r"(?i)\b((?:identified\s{1,4}by|with\s{1,4}(?:encrypted\s{1,4})?password)\s{1,4}')([^']*)")
_USER_OPTION = LazyPattern(
    r"(?<!\S)((?:-u|--user)[ =]|[\"'](?:-u|--user)[\"'],\s{0,4}[\"'])([^\s:\"']{1,64}):([^\s\"']+)"
)


class _Value(NamedTuple):
    """Where a value stands in a text, and whether quotes or brackets delimit it."""

    start: int
    end: int
    is_delimited: bool


def _is_suspicious(text: str) -> bool:
    low = text.lower()
    return _may_hold_key(low) or shapes.is_likely(text, low)


_Find = Callable[[str, "re.Match[str]", int], "_Value | None"]


class TextMasker:
    """Masks a text's secrets; ``rules`` say which keys are secret, ``mask`` stands in place of a value."""

    def __init__(self, rules: KeyRules, mask: str) -> None:
        self._rules = rules
        self._mask = mask
        words = "|".join([_WORDS, *map(re.escape, rules.hints)])
        self._pair, self._tag, self._option = (
            LazyPattern(source.format(words=words)) for source in (_PAIR, _TAG, _OPTION)
        )

        self.is_suspicious: Callable[[str], bool] = self._is_hinted if rules.hints else _is_suspicious
        """Whether anything in a text may have to be masked; cheap."""

    def _is_hinted(self, text: str) -> bool:
        return _is_suspicious(text) or self._has_hint(text.lower())

    def _has_hint(self, low: str) -> bool:
        return any(hint in low for hint in self._rules.hints)

    def __call__(self, text: str) -> str:
        low = text.lower()
        if shapes.is_likely(text, low):
            text = shapes.masked(text, low, self._mask)
            low = text.lower()
        if not _may_hold_key(low) and not self._has_hint(low):
            return text
        if "identified" in low or "password '" in low:
            text = substitute(_IN_SQL, text, lambda match: match[1] + self._mask, self._mask)
        if "-u" in low:
            text = substitute(_USER_OPTION, text, self._masked_user_option, self._mask)
        if "</" in low or "&lt;/" in low:
            text = self._masked_values(self._tag, text, _value_in_tag)
        if " -" in low or "'-" in low or '"-' in low or low.startswith("-"):
            text = self._masked_values(self._option, text, _value_of_option)
        return self._masked_values(self._pair, text, _value_of_pair)

    def _masked_user_option(self, match: re.Match[str]) -> str:
        if match[2].isdigit() and match[3].isdigit():  # ids of a user and a group
            return match[0]
        return f"{match[1]}{match[2]}:{self._mask}"

    def _masked_values(self, pattern: LazyPattern, text: str, find_value: _Find) -> str:
        """The text without the values that stand behind secret keys as ``pattern`` finds them."""
        low = text.lower()
        if len(low) != len(text):  # some capital letters are two small ones
            low = "".join(map(_lower, text))
        kept: list[str] = []
        done = position = effort = 0
        search, is_known, verdict_on = pattern.search, self._rules.is_known, self._rules.verdict
        while match := search(low, position):
            start, end = match.span(1)
            position = match.end()
            effort += 1
            key = text[start:end]
            if not is_known(key):
                effort += _NEW_KEY_EFFORT
            verdict = verdict_on(key)
            if verdict == OPEN or (verdict == HIDDEN and start):
                verdict = self._verdict_after(text, start, key, verdict)
            if verdict != OPEN:
                value = find_value(text, match, verdict)
                if value is not None:
                    effort += _VALUE_EFFORT
                    kept += text[done : value.start], self._mask
                    done = position = value.end
            if effort > MAX_EFFORT:
                return "".join([*kept, text[done:position], rest_masked(text, position, self._mask)])
        return "".join([*kept, text[done:]]) if kept else text

    def _verdict_after(self, text: str, start: int, key: str, verdict: int) -> int:
        """The verdict on a key by what stands in front of it."""
        if verdict == HIDDEN:
            is_a_parsers = text[start - 1] == " " and text[max(0, start - 11) : start].lower() == "unexpected "
            return OPEN if is_a_parsers else HIDDEN
        if key.lower() in _LAST_WORDS:
            before = _FIRST_WORDS.search(text[max(0, start - 34) : start])
            return self._rules.verdict(f"{before[0]}{key}") if before else OPEN
        if start and text[start - 1] == "\\" and key[0] in "nrt":  # the end of a line in a repr
            return self._rules.verdict(key[1:])
        return OPEN


def _lower(char: str) -> str:
    low = char.lower()
    return low if len(low) == 1 else char


def is_plain_word(value: object) -> bool:
    """Whether it is a word such as a field's name, in lower case: of two of them, one is not the other's value."""
    return type(value) is str and _PLAIN_WORD.fullmatch(value) is not None


# Values ---------------------------------------------------------------------------------------------------------------


def _value_of_option(text: str, match: re.Match[str], verdict: int) -> _Value | None:
    return _secret_at(text, match.end(), verdict)


def _value_in_tag(text: str, match: re.Match[str], verdict: int) -> _Value | None:
    start = match.end()
    found = _TAG_END.match(text, start)
    end = found.end() if found else start
    value = text[start:end].strip()
    if not value:  # it is in elements of its own
        closing = text.find(f"</{text[match.start(1) : match.end(1)]}", start, start + 2000)
        return _Value(start, closing, True) if closing > end else None
    return _Value(start, end, True) if is_secret(value, verdict) else None


def _value_of_pair(text: str, match: re.Match[str], verdict: int) -> _Value | None:
    """What is to be masked behind a key; None when that is no secret."""
    start, key_start, key = match.end(), match.start(1), match[1]
    if match["listed"] is not None:
        return _second_of_pair(text, key_start, start, verdict)
    if "cookie" in key and (cookies := _COOKIES.match(text, start)):
        return _Value(start, cookies.end(), True)
    if "auth" in key and not _QUOTE.match(text, start) and (credentials := _credentials_at(text, key_start, start)):
        return credentials
    if ("card" in key or key in _LAST_WORDS) and (card := _CARD.match(text, start)):
        return _Value(start, card.end(), True)
    value = _secret_at(text, start, verdict)
    if value is None or value.is_delimited:
        return value
    if key in ("pwd", "oldpwd") and text[value.start] == "/":  # the working directory, in an environment
        return None
    if ":" in text[start - 6 : start] and _SAYS_HOW.search(key) and is_plain_word(text[value.start : value.end]):
        return None
    return value


def _secret_at(text: str, start: int, verdict: int) -> _Value | None:
    value = _value_at(text, start)
    found = text[value.start : value.end]
    if not found or not is_secret(found, verdict):
        return None
    if (
        not value.is_delimited
        and verdict != SHAPED
        and (is_outcome(found) or (verdict == WEAK and is_plain_word(found)))
    ):
        return None
    return value


def _second_of_pair(text: str, key_start: int, start: int, verdict: int) -> _Value | None:
    """The second of two texts in brackets, unless it is a plain word: ('password', 'email') are two names."""
    if not _OPENING_PAIR.search(text[max(0, key_start - 12) : key_start]):
        return None
    value = _value_at(text, start)
    found = text[value.start : value.end]
    if not _CLOSING_PAIR.match(text, value.end) or _PLAIN_WORD.fullmatch(found):
        return None
    return value if is_secret(found, verdict) else None


def _credentials_at(text: str, key_start: int, start: int) -> _Value | None:
    """The value of an Authorization header that is not quoted: one token after a usual scheme, else the whole line."""
    if scheme := _SCHEME.match(text, start):
        value = _value_at(text, scheme.end())
        found = text[value.start : value.end]
        return None if is_outcome(found) or is_plain_word(found) else value
    word = _ANY_SCHEME.match(text, start)
    if not word or is_outcome(word[0].rstrip()):
        return None
    line = _LINE.match(text, start)
    end = line.end() if line else start
    quote = text[key_start - 1 : key_start]
    if quote in ("'", '"'):
        closing = text.find(quote, start, end)
        end = closing if closing >= 0 else end
    return _Value(start, start if _PROSE.fullmatch(text[start:end]) else end, True)


def _value_at(text: str, start: int) -> _Value:
    """The value that begins there; up to the text's end when the text was cut inside of it."""
    first = text[start : start + 1]
    if first in _QUOTED and (quote := _QUOTE.match(text, start)):
        return _Value(quote.end(), _closing_quote(text, quote.end(), quote[1]), True)
    if first in _BRACKETS:
        end = _closing_bracket(text, start)
        return _Value(start, end if end > start + 2 else start, True)
    if first == "<":
        angle = _ANGLE.match(text, start)
        is_value = angle is not None and not _PLAIN_WORD.fullmatch(angle[0].strip("<>"))
        return _Value(start, angle.end() if angle and is_value else start, True)
    bare = _BARE.match(text, start)
    if bare is None:
        return _Value(start, start, False)
    if "(" in bare[0] and (call := _CALL.match(text, start)):
        return _Value(start, _closing_bracket(text, call.end()), True)
    return _Value(start, start + len(bare[0].rstrip(",.)]}")), False)


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
    """The end of what a bracket opens, whatever brackets are in quotes in it."""
    depth, position = 0, start
    for _ in range(_MAX_BRACKETS):
        found = _BRACKET.search(text, position)
        if found is None:
            break
        position = found.end()
        if found[0][-1] in "\"'":
            position = _closing_quote(text, position, found[0]) + len(found[0])
            continue
        depth += 1 if found[0] in "[({" else -1
        if depth == 0:
            return position
    return len(text)
