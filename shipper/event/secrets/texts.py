"""Mask secrets in a text: the values of secret keys, and what has the shape of a secret.

The time is linear in the length of the text: when `effort` is used up, all the rest of the text is masked.

Words that make a key secret are searched for in the text in lower case. A match includes the rest of the key. The
beginning of the key is looked for only if the next character may follow a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from string import ascii_letters

from ..._support.lazy_pattern import LazyPattern
from . import phrases, shapes, sql, tokens
from .effort import Effort, estimated, same_length
from .extents import Value
from .keys import KeyRules, is_name
from .names import HIDDEN, LOOSE, OPEN, SHAPED
from .values import second_of_pair, value_in_form, value_in_markup, value_of_call, value_of_option, value_of_pair

_WORD_EFFORT = 0.5
_OBVIOUS_EFFORT = 1.0
_KEY_EFFORT = 0.9
_NEW_KEY_EFFORT = 3.0
_SEPARATOR_EFFORT = 2.0
_VALUE_EFFORT = 6.2
_BARE_EFFORT = 4.5  # in addition for a value without quotes, which may be an expression
_CHARACTERS_OF_VALUE = 64  # characters of a value that cost one unit more
_CHARACTERS_OF_CALL = 8  # the same for a value that is not masked, whose content is searched again
_WORDS_EFFORT = 1.8
_PHRASE_EFFORT = 5.0
_FIRST_LETTERS = "pkscuxj"
_LETTER_EFFORT = 0.03
_MAX_BEFORE = 64  # characters of a key in front of the word
_MAX_BEHIND = 64


def _may_hold_key(low: str) -> bool:
    """Whether a text, given in lower case, may have a secret key; much cheaper than a search for keys."""
    # In groups, and no loop, which takes half as long again: this is called for every text.
    return (
        ("ss" in low and ("pass" in low or "sess" in low or "ssn" in low))
        or ("ke" in low and ("token" in low or "key" in low))
        or ("cre" in low and ("secret" in low or "credential" in low))
        or "auth" in low or "cookie" in low or "pw" in low or "card" in low or "srf" in low or "cv" in low
        or "jwt" in low or "otp" in low or "psk" in low or "sig" in low or "social" in low or "saml" in low
        or "community" in low or "t.sid" in low or "pin" in low or "contrase" in low
    )  # fmt: skip


def _is_suspicious(text: str) -> bool:
    if len(text) > _LONG:
        return True
    low = text.lower()
    if "=" in low or ":" in low or "'" in low or '"' in low or "-" in low or "<" in low or "%" in low:
        return _may_hold_key(low) or shapes.is_likely(text, low) or phrases.is_likely(low)
    # Most texts have none of these signs. Then only the following make a text suspicious.
    return (
        "pass" in low or "phrase" in low or "token" in low or "key " in low or "otp " in low or "bearer" in low
        or "basic" in low or "aws" in low or "auth " in low or "eyJ" in text
        or "secret" in low or "mqctl" in low or "net use" in low or "sha}" in low or "pw" in low or "$" in low
        or ("@" in low and "sqlplus" in low) or ("code" in low and phrases.has_code(low))
        or shapes.may_have_card(text, low)
        or tokens.is_likely(text)
    )  # fmt: skip


_WORDS = (  # or ends of words, where rare letters make the search faster
    r"p(?:ass|w|sk|in(?<![a-z]pin)(?=code|_code|[^a-z\d_.-])|(?<=otp))|k(?:en(?<=token)|ey)|s(?:e(?:cret|ss)|sn|ig|ocial|aml)|uth(?<=auth)|xsrf|jwt"
    "|c(?:redential|ookie|srf|ard|v[cv]|ommunity|onnect\\.sid|ontrase)"
)
_BEFORE = frozenset("_.-")
_MORE = frozenset("ncisp123456789")  # what number, no, code, id, string, phrase and digits begin with
_LAST_WORDS = frozenset({"key", "card", "number", "no", "code", "id", "token", "auth", "passe"})
"""The last words of keys with spaces: "API key:"."""

# What stands between a key and its value.
#   assigned  key=value  key: value  'key': 'value'  "key": "value"  \"key\": \"value\"  key => value  user[key]=value
#   named     {"name": "key", "value": "value"}  <add key="key" value="value">  name: key⏎ value: value
#   markup    <param name="key">value</param>
#   form      name="key"⏎⏎value
#   listed    ('key', 'value')  [b'key', b'value']
#   called    set_key('value')
_SEPARATOR = LazyPattern(
    r"(?P<more>[ \t](?:number|no|code|id|string|phrase|\d)(?=\s{0,4}[:=]))?"
    r"(?:[ \t](?:provided|given|received|supplied|used|generated|created|issued|rotated)"
    r"(?=\s{0,2}[:=](?!\s?\w{1,64}=)))?"
    r"(?:(?:%5d|%22|&quot;|\\{1,2}u0022|\\{0,4}[\"'`]?(?:\[[\w.-]{0,32}\])?\]?)\s{0,24}"
    r"(?:(?::?\s{0,2}(?:string|str|text)\s{0,4})?={1,3}>?|:(?!:)=?|::(?=\s[\w+/=]{8})|->|\u2192|%3d|%3a(?:%20)?(?:%22)?)\s{0,24}"
    r"(?:&quot;|\\{1,2}u0022)?"
    r"|(?:\\{0,4}[\"'][,\s]{1,4}|\s{1,24}|,\s?|&)\\{0,4}[\"']?value\\{0,4}[\"']?\s{0,4}[:=]\s{0,4}"
    r"|</(?:key|name)>\s{0,24}<(?:string|value)>(?:\s{0,24}<string>)?"
    r"|\r?\n[ \t]{1,8}[^\r\n\[]{1,300}\[type=\w{1,64}, input_value=(?!\{)"
    r"|[\"'][\])], ?(?:[\"']msg[\"']: ?(?:'[^'\n]{0,200}'|\"[^\"\n]{0,200}\"), ?)?[\"']input[\"']: ?(?!\{)"
    r"|(?P<cell>\s{1,24}\|\s{1,24}(?=[^\s|]{4,256}\s{0,64}\|\s*?(?:[\r\n]|\Z)))"
    r"|(?P<markup>[\"']\s{0,4}>)|(?P<form>\\{0,4}[\"'](?:\r?\n|(?:\\r)?\\n){2})"
    r"|(?P<listed>\\{0,4}[\"'],\s{0,4}(?=[bru]{0,2}\\{0,4}[\"']))|(?P<called>\((?:(?:value|token|key|secret)=(?=[\w\"'])|(?=[bru]{0,2}\\{0,4}[\"']))))"
)
_OBVIOUS = LazyPattern(  # most secrets: letters and digits, in a pair of quotes or up to a space
    r"[\"']?[=:] ?(?:([\"'])(?=[A-Za-z_-]{0,24}\d)(?=[\d_-]{0,24}[A-Za-z])([\w-]{6,128})\1"
    r"|(?=[A-Za-z_-]{0,24}\d)(?=[\d_-]{0,24}[A-Za-z])(?!0x)([\w-]{6,128})(?=[\s&]|\Z))"
)
_IN_PARTS = ("card", "number", "no", "cookie", "cookies", "CARD", "COOKIE", "COOKIES", "Cookie", "Cookies")
_NOT_BEFORE = ("nexpected ", ":", "/", "<")
_OF_KEY = "abcdefghijklmnopqrstuvwxyz0123456789_.-"
_NAMED = LazyPattern(r"(?:name|key)\s?=\s?\\{0,4}[\"']\Z")
_VALUE_IN_FRONT = LazyPattern(  # {"value": "x", "name": "key"}
    r"[\"']value\\{0,4}[\"']: ?\\{0,4}[\"']([^\"'\\]{1,200})\\{0,4}[\"'], ?\\{0,4}[\"']"
    r"(?:name|key)\\{0,4}[\"']: ?\\{0,4}[\"']\Z"
)
_LONG_VALUE = 260
_IN_TAG = LazyPattern(r"(?:\s[^<>]{0,200})?(?:>|&gt;)")
_OPENS_TAG = LazyPattern(r"(?:<|&lt;)(?:\w{1,32}:)?\Z")
_ASKS = ("--ask-", "--prompt-")  # options without a value
_LONGEST_WORD = 16
_JOINS = frozenset("<-_/")  # signs that join a key's first word to a word in front, which is not read
_BEHIND_OPTION = LazyPattern(r"\s{1,4}(?=[^\s-])|[\"'],\s{0,4}(?=[bru]{0,2}[\"'])")
_IN_QUERY = LazyPattern(r"=(?=[\w-]{20})")
_OF_A_PAIR = frozenset("=:\"'`%\\[](-,<>& \t\n\r\x0b\x0c")
"""Characters that may follow a key."""


_LONG = 4096  # characters; a longer text is masked without a check whether that is necessary
_MANY = 800  # characters; the search for keys in so long a text costs effort itself
_PIECE = 200  # characters of each piece of a long text by which its effort is estimated
_PIECE_EFFORT = 18.0
_PIECES = 4
_SURE = 0.85  # share of the estimated length: the last searches need some effort too


class TextMasker:
    """Masks a text's secrets; ``rules`` say which keys are secret, ``mask`` stands in place of a value."""

    def __init__(self, rules: KeyRules, mask: str) -> None:
        self._rules = rules
        self._mask = mask
        words = "|".join([_WORDS, *map(re.escape, rules.hints)])
        self._words = LazyPattern(f"(?:{words})[\\w.-]{{0,{_MAX_BEHIND}}}")
        self.is_suspicious: Callable[[str], bool] = self._is_hinted if rules.hints else _is_suspicious
        """Whether anything in a text may have to be masked; cheap."""

    def _is_hinted(self, text: str) -> bool:
        return _is_suspicious(text) or self._has_hint(text.lower())

    def _has_hint(self, low: str) -> bool:
        return any(hint in low for hint in self._rules.hints)

    def __call__(self, text: str) -> str:
        effort = Effort(len(text))
        if len(text) > _LONG:
            text = effort.cut(text, self._affordable(text, effort))
        return effort.ended(self._masked(text, effort, is_long=len(text) > _LONG), self._mask)

    def _affordable(self, text: str, all_of_it: Effort) -> int:
        """Estimate how many characters of a long text the effort allows, by masking a few pieces of it."""
        spent = 0.0
        for start in range(0, len(text), len(text) // _PIECES + 1):
            effort = Effort(_PIECE)
            effort.left = _PIECE_EFFORT
            self._masked(text[start : start + _PIECE], effort, is_long=True)
            all_of_it.left -= _PIECE_EFFORT - effort.left
            spent += (_PIECE_EFFORT - effort.left) * _PIECE / max(1, _PIECE - effort.left_out)
        affordable = int(_SURE * all_of_it.left * _PIECES * _PIECE / max(spent, 1.0))
        if affordable >= len(text):
            return len(text)
        # Cut behind a space, comma or line end, so that no secret is cut in two; inside a word if there is none.
        return max(text.rfind(sign, max(0, affordable - _LONG), affordable) for sign in " \n,") + 1 or affordable

    def _masked(self, text: str, effort: Effort, *, is_long: bool) -> str:
        low = same_length(text)
        if is_long or shapes.is_likely(text, low):
            masked = shapes.masked(text, low, self._mask, effort)
            if masked is not text:
                text, low = masked, same_length(masked)
        if is_long or phrases.is_likely(low):
            masked = phrases.masked(text, low, self._mask, effort)
            if masked is not text:
                text, low = masked, same_length(masked)
        if is_long or _may_hold_key(low) or self._has_hint(low):
            if sql.is_likely(low):
                text = sql.masked(text, self._rules, self._mask, effort)
                low = same_length(text)
            text = self._without_values(text, low, effort)
        return text

    def _without_values(self, text: str, low: str, effort: Effort) -> str:
        """Return the text with the values behind secret keys masked."""
        if len(text) >= _MANY:
            text = effort.spend(text, _LETTER_EFFORT * estimated(low, _FIRST_LETTERS))
            low = low[: len(text)]
        kept: list[str] = []
        done = position = 0
        left = effort.left
        search = self._words.search
        while match := search(low, position):
            word, position = match.span()
            end = position
            left -= _WORD_EFFORT
            if low[end : end + 1] in _OF_A_PAIR:
                value, spent = self._value_at(text, low, word, end)
                left -= spent
                if value is not None and value.end > value.start >= done:
                    kept += text[done : value.start], self._mask
                    done = value.end
                    if changed := phrases.value_after_change(text, value.start, done):
                        kept += text[done : changed[0]], self._mask
                        done = changed[1]
                    position = max(position, done)
            if left < 0:
                break
        effort.left = left
        if left < 0:
            return "".join([*kept, effort.cut(text, position)[done:]])
        return "".join([*kept, text[done:]]) if kept else text

    def _value_at(self, text: str, low: str, word: int, end: int) -> tuple[Value | None, float]:
        """Return the value to mask behind the key from around ``word`` to ``end``, or None; and the effort spent."""
        first = max(0, word - _MAX_BEFORE)
        start = first + len(low[first:word].rstrip(_OF_KEY))
        while start > first and (low[start - 1].isalnum() or low[start - 1] in _BEFORE):
            start -= 1
        key = text[start:end]
        effort = _KEY_EFFORT if self._rules.is_known(key) else _NEW_KEY_EFFORT
        verdict = self._rules.verdict(key)
        if (
            verdict == HIDDEN
            and (obvious := _OBVIOUS.match(text, end))
            and not (key.endswith(_IN_PARTS) or text.endswith(_NOT_BEFORE, 0, start))
        ):
            return Value(*obvious.span(obvious.lastindex or 0), True), effort + _OBVIOUS_EFFORT
        is_more = low[end : end + 1] in (" ", "\t") and low[end + 1 : end + 2] in _MORE
        if verdict == OPEN and not is_more and low[word:end] not in _LAST_WORDS and low[start - 1 : start] != "\\":
            return None, effort
        if verdict == OPEN:
            effort += _WORDS_EFFORT
        separator = _SEPARATOR.match(low, end)
        if is_more and separator is not None and separator["more"]:
            end = separator.end("more")
            key = text[start:end]
            verdict = self._rules.verdict(key)
        if verdict == OPEN or (verdict >= LOOSE and start):
            is_phrase = verdict == OPEN
            verdict = self._verdict_after(text, start, key, verdict)
            effort += _PHRASE_EFFORT if is_phrase and verdict != OPEN else 0
        if verdict == OPEN:
            return None, effort + _SEPARATOR_EFFORT
        value = self._find(text, low, start, end, separator, verdict)
        if value is None:
            return None, effort + _SEPARATOR_EFFORT + _VALUE_EFFORT / 2
        effort += 0 if value.is_delimited else _BARE_EFFORT
        return value, effort + _SEPARATOR_EFFORT + _VALUE_EFFORT + (value.end - end) // (
            _CHARACTERS_OF_CALL if value.is_empty else _CHARACTERS_OF_VALUE
        )

    def _find(
        self, text: str, low: str, start: int, end: int, separator: re.Match[str] | None, verdict: int
    ) -> Value | None:
        key = low[start:end]
        if low[start - 1 : start] in ("<", ":", ";") and _OPENS_TAG.search(low, max(0, start - 40), start):
            tag = _IN_TAG.match(low, end)
            if tag and tag[0].endswith("/>"):
                return None
            if tag and (low[start - 1] != ":" or f"{key}>" in low[tag.end() : tag.end() + _LONG]):
                return value_in_markup(text, text[start:end], tag.end(), verdict)
            return None
        if separator is None:
            front = max(0, start - _LONG_VALUE)
            if low[end] in "\"'\\" and low.find("value", front, start) >= 0:
                valued = _VALUE_IN_FRONT.search(low, front, start)
                return Value(*valued.span(1), True) if valued else None
            if key.startswith(_ASKS):
                return None
            if key.startswith("-") and text[start:end] != "-Pw" and (option := _BEHIND_OPTION.match(low, end)):
                return value_of_option(text, key, option.end(), verdict)
            if (verdict >= LOOSE or key == "pass") and (told := phrases.secret_behind(text, key, start, end)):
                return Value(*told, True)
            return None
        if separator["markup"] is not None:
            if not _NAMED.search(low, max(0, start - 12), start):
                return None
            value = value_in_markup(text, key, separator.end(), verdict)
            return None if value is None or text[value.start : value.end].strip().isalpha() else value
        if separator["form"] is not None:
            return value_in_form(text, separator.end()) if _NAMED.search(low, max(0, start - 12), start) else None
        if separator["listed"] is not None:
            if key.startswith("-"):
                return value_of_option(text, key, separator.end(), verdict)
            return second_of_pair(text, start, separator.end(), verdict)
        if separator["cell"] is not None:
            value = value_of_pair(text, key, start, separator.end(), verdict)
            return value if low[start - 2 : start] == "| " and not is_name(text[value.start : value.end]) else None
        if separator["called"] is not None:
            return value_of_call(text, key, start, separator.end(), verdict)
        quote = text[start - 1 : start]
        if quote in ("'", '"', "`") and quote not in separator[0] and text.startswith(quote, separator.end()):
            return None  # the text in quotes ends here: "Password: "
        return value_of_pair(text, key, start, separator.end(), verdict)

    def _verdict_after(self, text: str, start: int, key: str, verdict: int) -> int:
        """Return the verdict on a key, given the text in front of it."""
        before = text[start - 1 : start]
        if verdict >= LOOSE:
            if before == " " and text[max(0, start - 11) : start].lower() == "unexpected ":  # from a parser
                return OPEN
            if before == "/" and key == "passwd" and text[max(0, start - 5) : start] == "/etc/":
                return OPEN
            if before == ":" and text[start - 3 : start] == "_r:":  # a type of SELinux
                return OPEN
            if before == "{" and text.startswith((":?", ":+"), start + len(key)):  # ${PASSWORD:?is missing}
                return OPEN
            return OPEN if before == ":" and "arn:aws" in text[max(0, start - 60) : start] else verdict
        if key.lower().rstrip(" 123456789") in _LAST_WORDS:
            if before in ("?", "&"):
                return SHAPED if key == "key" and _IN_QUERY.match(text, start + len(key)) else OPEN
            nearest = _word_before(text, start)
            first = _word_before(text, nearest)
            if nearest == start or text[first - 1 : first] in _JOINS:
                return OPEN
            verdict = self._rules.verdict(text[first:start] + key)
            if verdict == OPEN and first < nearest:  # "invalid api key: …"
                verdict = self._rules.verdict(text[nearest:start] + key)
            return verdict
        if start and before == "\\" and key[0] in "nrt":  # behind an escaped line end or tab
            return self._rules.verdict(key[1:])
        return OPEN


def _word_before(text: str, end: int) -> int:
    """Return where the word begins that is followed by a space or tab at ``end - 1``; ``end`` without one."""
    if text[end - 1 : end] not in (" ", "\t"):
        return end
    front = text[max(0, end - 1 - _LONGEST_WORD) : end - 1]
    letters = len(front) - len(front.rstrip(ascii_letters))
    return end - 1 - letters if letters else end
