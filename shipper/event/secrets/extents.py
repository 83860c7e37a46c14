"""Where a value stands in a text: where it begins and ends, in quotes, in brackets, as a call, or bare."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..._support.lazy_pattern import LazyPattern
from .keys import names_secret
from .source_code import holds_secret, shows_secret

_QUOTED = frozenset("\"'`\\bBrRuUfFnN")
_BRACKETS = frozenset("{[(")
QUOTE = LazyPattern(r"[bBrRuUfFnN]{0,2}(\\{0,4}[\"'`])")
_CALL = LazyPattern(r"[A-Za-z_][\w.:]{0,64}(?=[({\[])")
_GOES_ON = LazyPattern(r"\.[a-z_]{1,40}\(|\[[\"']")  # a method or an item of what a call returns
_ASKS = frozenset({"input", "getpass", "open", "next"})
_DECLARATION = LazyPattern(
    r"(?:\w+\.)*(?:[Ff]ield|Column|mapped_column|Depends|Query|Header|Form|Body|Security|Cookie|\w{1,20}Field|attrib)\Z"
)
_TEMPLATE = LazyPattern(
    r"\$\{[^{}\s]*\}|\$?\{\{[^{}]*\}\}|\$\([^()\n]*\)|%\(\w+\)[sdr]"
    r"|!(?:secret|env|env_var|Ref|Sub)[ \t][\w.-]{1,64}|!vault[ \t]\|"
)
_BLOCK = LazyPattern(r"([|>][-+]?\d?[ \t]{0,9})(?:\r?\n[ \t]+[^\r\n]*)+")  # a block of lines in YAML
_YAML_TYPE = LazyPattern(r"!!\w{1,10}\s{1,2}")
_NAMES_ONLY = LazyPattern(r"\([A-Za-z_.]{1,40}(?:, ?[A-Za-z_.]{1,40}){0,4}\)")
_DUMPED = LazyPattern(r"\s?\"")  # string(5) "value", as PHP dumps it
_ANGLE = LazyPattern(r"<[^<>\r\n]{1,500}>?")
_END = r"\\[nrt](?=[\w.-]{1,64}[\"']?\s{0,4}[:=]|[\"'\s\\]|\Z)"  # an escaped line end or tab, in a repr or in JSON
_BARE = LazyPattern(rf"(?:[^\s&;\"'<>,\\]+|\\(?![nrt])|(?!{_END})\\|,(?!\s{{0,4}}[\w.-]{{1,64}}[=:]))+")
_ENCODED = frozenset({"%3d", "%3a", "%22", "022", "ot;"})  # last characters of = : " in a URL, of \\u0022 and of &quot;
_IN_PERCENT = LazyPattern(r"(?:[^\s&;\"'<>,\\%]+|%(?!26|22|0[ad]))+")
_BRACKET = LazyPattern(r"[\[\](){}]|\\*[\"']")
_PLAIN = LazyPattern(r"(?:[^\[\](){}\"'\\]+|\"[^\"\\]*\"|'[^'\\]*')*")
_FEW_BRACKETS = 120
_CHARACTERS_A_BRACKET = 128  # allow one bracket more; a value with more goes on to the text's end
_PLAIN_WORDS = LazyPattern(
    r"<[a-z_ -]{1,40}>|<set to the key '[^'<>]{1,100}' (?:in|of) [a-z ]{1,16}'[^'<>]{1,100}'>"  # of kubectl
    r"|<class '[\w.]{1,100}'>|<[A-Za-z_][\w.]{0,100}(?: [A-Za-z_.]{1,64}){0,3} at 0x[0-9a-fA-F]{4,16}>"
    r"|\((?:sensitive|known|not|hidden|no|unknown|empty|optional|required|unset|none)[a-z ]{0,40}\)"
)
_LONGEST_CALL = 400  # characters; a longer call is masked without a look into it
_BEHIND_CALL = frozenset(("", *" \t\r\n,;:.()[]}\"'`\\"))


class Value(NamedTuple):
    """Where a value stands in a text, and whether quotes or brackets delimit it.

    It is empty when nothing is to be masked; `end` is then how far the text was read.
    """

    start: int
    end: int
    is_delimited: bool

    @property
    def is_empty(self) -> bool:
        return self.start == self.end

    def seen(self) -> Value:
        """Return an empty value with the same end."""
        return Value(self.end, self.end, True)


def value_at(text: str, start: int) -> Value:
    """Return the value at ``start``; it ends with the text when its closing quote is missing."""
    first = text[start : start + 1]
    if first in "\"'" and text.startswith(3 * first, start):
        end = text.find(3 * first, start + 3)
        return Value(start + 3, end if end >= 0 else len(text), True)
    if first in _QUOTED and (quote := QUOTE.match(text, start)):
        end = _closing_quote(text, quote.end(), quote[1])
        if end == quote.end() and text[end + 1 : end + 2].isalnum():  # ''value'' in a string of SQL
            return Value(end + 1, _closing_quote(text, end + 1, quote[1]), True)
        return Value(quote.end(), end, True)
    if first in "$%{!":
        if template := _TEMPLATE.match(text, start):
            return Value(template.end(), template.end(), True)
        if tag := _YAML_TYPE.match(text, start):
            return value_at(text, tag.end())
    if first in "|>" and (block := _BLOCK.match(text, start)):
        return Value(block.end(1), block.end(), True)
    if first in _BRACKETS:
        if words := _PLAIN_WORDS.match(text, start):
            return Value(words.end(), words.end(), True)
        if (names := _NAMES_ONLY.match(text, start)) and names_secret(names[0]):
            return Value(names.end(), names.end(), True)
        end = _closing_bracket(text, start)
        is_code = text[start - 3 : start] == " = " and not shows_secret(text, start, end)
        return Value(end if is_code or end <= start + 2 else start, end, True)
    if first == "<":
        if text.startswith("</", start):  # the end tag of a label, not a value
            return Value(start, start, True)
        angle = _ANGLE.match(text, start)
        is_value = angle is not None and not _PLAIN_WORDS.fullmatch(angle[0])
        return Value(start, angle.end() if angle and is_value else start, True)
    if text[start - 3 : start].lower() in _ENCODED:
        encoded = _IN_PERCENT.match(text, start)
        return Value(start, encoded.end() if encoded else start, False)
    # Before a bare value, whose match may be as long as the text.
    if (call := _CALL.match(text, start)) and text[call.end()] != "[":
        value = _call_at(text, start, call)
        if value.start < value.end or text[value.end : value.end + 1] in _BEHIND_CALL:
            return value
    bare = _BARE.match(text, start)
    if bare is None:
        return Value(start, start, False)
    found = bare[0][:-1] if bare[0].endswith("):") else bare[0]
    return Value(start, start + len(found.rstrip(",.)]}`")), False)


def _call_at(text: str, start: int, call: re.Match[str]) -> Value:
    """Return a whole call or object's repr; empty for one that only reads something: ``config.get("secret")``."""
    if _DECLARATION.match(call[0]) or call[0] in _ASKS or text.startswith("()", call.end()):
        return Value(call.end(), call.end(), True)
    end = _closing_bracket(text, call.end())
    if "." in call[0] and _GOES_ON.match(text, end):
        return Value(end, end, True)
    if call[0] == "string" and (dumped := _DUMPED.match(text, end)):
        return Value(dumped.end(), _closing_quote(text, dumped.end(), '"'), True)
    is_long = end - start > _LONGEST_CALL  # mostly a call without a closing bracket
    return Value(start if is_long or holds_secret(text, call[0], call.end(), end) else end, end, True)


def _closing_quote(text: str, start: int, quote: str) -> int:
    """Return where the quote is closed, with as many backslashes as it is opened; else the text's end."""
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
    """Return the position behind the closing bracket, ignoring those in quotes; the text's end after very many."""
    depth, position = 0, start
    for _ in range(_FEW_BRACKETS + (len(text) - start) // _CHARACTERS_A_BRACKET):
        plain = _PLAIN.match(text, position)
        position = plain.end() if plain else position
        found = _BRACKET.match(text, position)
        if found is None:
            if position == len(text):
                break
            position += 1  # a backslash
            continue
        position = found.end()
        if found[0][-1] in "\"'":
            position = _closing_quote(text, position, found[0]) + len(found[0])
            continue
        depth += 1 if found[0] in "[({" else -1
        if depth == 0:
            return position
    return len(text)
