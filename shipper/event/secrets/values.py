"""The value that stands behind a secret key in a text: where it begins and ends, and whether it is a secret at all."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..._support.lazy_pattern import LazyPattern
from .keys import SHAPED, WEAK, is_outcome, is_secret, names_secret

_QUOTED = frozenset("\"'`\\bBrRuUfFnN")
_BRACKETS = frozenset("{[(")
_QUOTE = LazyPattern(r"[bBrRuUfFnN]{0,2}(\\{0,4}[\"'`])")
_CALL = LazyPattern(r"[A-Za-z_][\w.:]{0,64}(?=[({\[])")
_FUNCTION = LazyPattern(
    r"(?:[A-Za-z_]\w*\.){1,8}(?:get|pop|read|load|fetch|find|create|generate|make|decode|encode|strip|format|join|split|strip|replace|lower|upper|hexdigest"
    r"|token_|random|choice|uuid\d|compare_digest)\w*\Z"
)
_GOES_ON = LazyPattern(r"\.[a-z_]{1,40}\(|\[[\"']")  # with what a call returns
_ASKS = frozenset({"input", "getpass", "open", "next"})
_DECLARATION = LazyPattern(
    r"(?:\w+\.)*(?:[Ff]ield|Column|mapped_column|Depends|Query|Header|Form|Body|Security|Cookie|\w{1,20}Field|attrib)\Z"
)
_TEMPLATE = LazyPattern(
    r"\$\{[^{}\s]*\}|\$?\{\{[^{}]*\}\}|\$\([^()\n]*\)|%\(\w+\)[sdr]"
    r"|!(?:secret|env|env_var|Ref|Sub)[ \t][\w.-]{1,64}"
)
_BLOCK = LazyPattern(r"([|>][-+]?\d?[ \t]{0,9})(?:\r?\n[ \t]+[^\r\n]*)+")  # the lines of a text in YAML
_YAML_TYPE = LazyPattern(r"!!\w{1,10}\s{1,2}")
_NAMES_ONLY = LazyPattern(r"\([A-Za-z_.]{1,40}(?:, ?[A-Za-z_.]{1,40}){0,4}\)")
_SHORT_ARGUMENT = LazyPattern(r"\([^(),]{0,100}(?:, ?(?:\"\"|''|[A-Za-z_.]{1,40}))?\)")
_SUBSCRIPT = LazyPattern(r"[A-Za-z_][\w.]{0,64}\[[\"']")
_DUMPED = LazyPattern(r"\s?\"")  # string(5) "value", as PHP dumps it
_ANGLE = LazyPattern(r"<[^<>\r\n]{1,500}>?")
_END = r"\\[nrt](?=[\w.-]{1,64}[\"']?\s{0,4}[:=]|[\"'\s\\]|\Z)"  # of a line in a repr or in JSON
_BARE = LazyPattern(rf"(?:[^\s&;\"'<>,\\]+|\\(?![nrt])|(?!{_END})\\|,(?!\s{{0,4}}[\w.-]{{1,64}}[=:]))+")
_IN_PERCENT = LazyPattern(r"(?:[^\s&;\"'<>,\\%]+|%(?!26|22|0[ad]))+")
_LINE = LazyPattern(r"(?:[^\r\n\\]+|\\(?![nr]))*")
_SCHEME = LazyPattern(
    r"(?i)(?:bearer|basic|token|apikey|negotiate|ntlm)\s{1,4}(?![\w-]{1,64}=[\"'])"
    r"(?=\[?[\w.~+/=*-]+(?:[\s,;)\]}\"'\\]|\Z))"
)
_NUMBER_PAIR = LazyPattern(r"[a-z_]{1,24}=\d{1,12}")
_OTHER_PAIR = LazyPattern(r"[A-Za-z_.-]{1,64}=[^=\s]")
_ANY_SCHEME = LazyPattern(r"[A-Za-z][\w-]{0,64}\s{1,4}(?=\S)")
_VARIABLE = LazyPattern(r"[A-Za-z]+\s{1,4}(?:\$\w+|\$?\{[^{}\s]*\}|\$\([^()]*\)|<[^<>]*>|\*+|\.{3})\s*(?=[\"'\\]|\Z)")
_PROSE = LazyPattern(r"[a-z ,.]*")
_COOKIES = LazyPattern(r"[^\s=;,\"'&\\]{1,256}=[^\s;\"'\\]*(?:;\s{0,4}[^\s;\"'\\]+)*")
_SIGNATURES = LazyPattern(r"t=\d{1,20}(?:,v\d=[0-9a-f]{1,256}){1,8}")  # of Stripe
_CARD = LazyPattern(r"\d[\dA-Za-z]*(?:[ -](?=[A-Za-z]{0,8}\d)\w{2,8}){1,5}")
_BRACKET = LazyPattern(r"[\[\](){}]|\\*[\"']")
_PLAIN = LazyPattern(r"(?:[^\[\](){}\"'\\]+|\"[^\"\\]*\"|'[^'\\]*')*")
_FEW_BRACKETS = 120
_CHARACTERS_A_BRACKET = 128  # a value with more of them is taken to go on to the text's end
_SAYS_HOW = LazyPattern(r"token|session|cookie|csrf|xsrf|credential|auth")  # "token: not yet valid"
_SCOPE = LazyPattern(r"(?:read|write|list|get|create|update|delete|admin|manage|view|edit)(?![^_:.-])")
_PREFIX = LazyPattern(r"[a-z_.-]{1,40}:")  # of a message
_PLAIN_WORDS = LazyPattern(
    r"<[a-z_ -]{1,40}>|\((?:sensitive|known|not|hidden|no|unknown|empty|unset|none)[a-z ]{0,40}\)"
)
_IN_SENTENCE = LazyPattern(r"[A-Za-z][a-z-]{1,24}(?:\.{3})? [A-Za-z][a-z]{0,24}(?![\w=:-]|\s{1,4}[=:])")
_PLAIN_WORD = LazyPattern(r"[a-z_]{1,24}")
_OPENING_PAIR = LazyPattern(r"[(\[]\s{0,4}[bruBRU]{0,2}\\{0,4}[\"']#?\Z")
_CLOSING_PAIR = LazyPattern(r"\\{0,4}[\"']\s{0,4},?\s{0,4}[)\]]")
_TAKES_SECRET = LazyPattern(
    r"(?:(?:set|with|hash|make|check|verify|change|update)_?)?(?:new_?|user_?|db_?)?(?:password|passwd|passphrase|pwd)"
    r"|(?:set|with|use)_?\w{0,20}(?:token|secret|api_?key)"
)
_FIRST_ARGUMENT = LazyPattern(r"([\"'])[^\"'\\]{0,200}\1, ?(?=[\"'])")
_ENDS_ARGUMENT = LazyPattern(r"\\{0,4}[\"']\s{0,4}[,)]")
_ANNOTATION = LazyPattern(r"(?:Optional|Annotated|Union|Literal|Mapped|List|Dict|list|dict|tuple|type)\[")
_NAME = LazyPattern(r"[A-Za-z_]+(?:\.[A-Za-z_]+)*")


class Value(NamedTuple):
    """Where a value stands in a text, and whether quotes or brackets delimit it.

    It is empty when nothing is to be masked; `end` says then how far the text was looked at.
    """

    start: int
    end: int
    is_delimited: bool

    @property
    def is_empty(self) -> bool:
        return self.start == self.end

    def seen(self) -> Value:
        """The same without the value."""
        return Value(self.end, self.end, True)


def is_plain_word(value: object) -> bool:
    """Whether it is a word such as a field's name, in lower case: of two of them, one is not the other's value."""
    return type(value) is str and _PLAIN_WORD.fullmatch(value) is not None


def value_of_option(text: str, key: str, start: int, verdict: int) -> Value:
    """The secret that begins there, behind ``--key``; nothing for a word of a command's help: ``--key KEY``."""
    value = secret_at(text, start, verdict)
    is_explained = text[start - 2 : start].isspace() and _IN_SENTENCE.match(text, start)  # in a table of options
    if value.is_delimited or is_explained:
        return value.seen() if is_explained else value
    word = text[value.start : value.end].rstrip("])>")
    low = word.lower()
    is_metavar = word.isupper() and (word.isalpha() or low in key) and (names_secret(word) or key.endswith(low))
    return value.seen() if is_metavar else value


def value_in_markup(text: str, key: str, start: int, verdict: int) -> Value:
    """The content of ``<key>``, or of elements in it."""
    if text.startswith("<![CDATA[", start):
        end = text.find("]]>", start)
        return Value(start, len(text) if end < 0 else end + 3, True)
    bracket = "&lt;" if text[start - 1] == ";" else "<"
    end = text.find(bracket, start)
    end = len(text) if end < 0 else end
    value = text[start:end].strip()
    if not value:  # it is in elements of its own
        closing = text.find(f"</{key}", start, start + 2000)
        return Value(start, closing, True) if closing > end else Value(end, end, True)
    if not text.startswith(f"{bracket}/", end) and (end < len(text) or " " in value):  # "<token>-<n>" in a sentence
        return Value(end, end, True)
    return Value(start if is_secret(value, verdict) else end, end, True)


def value_of_pair(text: str, key: str, key_start: int, start: int, verdict: int) -> Value:
    """What is to be masked behind a key, which is in lower case."""
    if "cookie" in key and (cookies := _COOKIES.match(text, start)):
        return Value(start, cookies.end(), True)
    if "auth" in key:
        quote = _QUOTE.match(text, start)
        if quote and _VARIABLE.match(text, quote.end()):
            return Value(start, start, True)
        credentials = None if quote else _credentials_at(text, key_start, start, is_header="authori" in key)
        if credentials:
            return credentials
    if ("card" in key or key in ("number", "no")) and (card := _CARD.match(text, start)):
        return Value(start, card.end(), True)
    if key.endswith("signature") and (signatures := _SIGNATURES.match(text, start)):
        return Value(start, signatures.end(), True)
    value = secret_at(text, start, verdict)
    is_test = text.startswith("PASS: ", key_start) and "test" in text[value.start : value.end].lower()
    return value if not is_test and (value.is_delimited or not _is_other(text, key, value)) else value.seen()


def _is_other(text: str, key: str, value: Value) -> bool:
    """Whether a value without quotes is, for its key or its place, something else than a secret."""
    start = value.start
    found = text[start : value.end]
    if text[start - 1] == ":" and _SCOPE.match(found):
        return True
    if text[start - 1] == ":" and key in ("session", "token", "cookie") and len(found) < 10 and found.isdigit():
        return True  # "session:42" is a name in a cache
    if found.isalnum() and not found.isalpha():  # most are: neither a word nor an expression
        return False
    if key in ("pwd", "oldpwd") and found.startswith("/"):  # the working directory, in an environment
        return True
    if text[start - 1] == "\n" and (found[-1:] == ":" or text[value.end : value.end + 1] == ":"):  # a key of its own
        return True
    if _PREFIX.fullmatch(found) or (text[start - 2 : start] == ": " and _IN_SENTENCE.match(text, start)):
        return True
    if ":" in text[start - 6 : start] and _SAYS_HOW.search(key) and _is_word_or_pair(found):
        return True
    return _is_code(text, key, value, found)


def _is_word_or_pair(found: str) -> bool:
    return is_plain_word(found.lower() if found.isupper() else found) or _NUMBER_PAIR.fullmatch(found) is not None


def value_in_form(text: str, start: int) -> Value:
    """The value of a field of a multipart form: the line that begins there."""
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
    return value if is_secret(found, verdict) else value.seen()


def value_of_call(text: str, key: str, start: int, verdict: int) -> Value:
    """The text that a function such as ``set_password``, which is in lower case, is called with."""
    if key.endswith("basicauth") and (user := _FIRST_ARGUMENT.match(text, start)):
        return value_at(text, user.end())
    value = value_at(text, start)
    found = text[value.start : value.end]
    is_told = _TAKES_SECRET.fullmatch(key.rpartition(".")[2]) and _ENDS_ARGUMENT.match(text, value.end)
    is_words = " " in found or is_plain_word(found)
    return value if is_told and not is_words and is_secret(found, verdict) else value.seen()


def secret_at(text: str, start: int, verdict: int) -> Value:
    """The value that begins there, if it is a secret under a key of that verdict."""
    if verdict == WEAK and text[start : start + 1] == "{":
        return Value(start, start, True)  # its parts have keys of their own
    value = value_at(text, start)
    found = text[value.start : value.end]
    if not found or not is_secret(found, verdict):
        return value.seen()
    if value.is_delimited or verdict == SHAPED:
        return value
    return value.seen() if is_outcome(found) or (verdict == WEAK and is_plain_word(found)) else value


def _is_code(text: str, key: str, value: Value, found: str) -> bool:
    """Whether it is an expression of a program that a traceback shows: ``password=password)``, ``self.token``."""
    if _SUBSCRIPT.match(text, value.start) or _ANNOTATION.match(found):
        return True
    if not _NAME.fullmatch(found):
        return False
    last = found.rpartition(".")[2]
    if last != found:
        return names_secret(found)
    if "_" in found and names_secret(found):
        return True
    name = key.rpartition(".")[2].lstrip("_")
    return found.lower() == name and ("." in key or text[value.end : value.end + 1] in (")", ","))


def _credentials_at(text: str, key_start: int, start: int, *, is_header: bool) -> Value | None:
    """The value of an Authorization header that is not quoted: one token after a usual scheme, else the whole line.

    None when nothing there is a scheme.
    """
    if scheme := _SCHEME.match(text, start):
        value = value_at(text, scheme.end())
        found = text[value.start : value.end]
        return value.seen() if is_outcome(found) or is_plain_word(found) or _OTHER_PAIR.match(found) else value
    word = _ANY_SCHEME.match(text, start) if is_header else None
    if not word or is_outcome(word[0].rstrip()):
        return None
    line = _LINE.match(text, start)
    end = line.end() if line else start
    quote = text[key_start - 1 : key_start]
    if quote in ("'", '"'):
        closing = text.find(quote, start, end)
        end = closing if closing >= 0 else end
    is_no_secret = _PROSE.fullmatch(text[start:end]) or _VARIABLE.fullmatch(text[start:end])
    return Value(end if is_no_secret else start, end, True)


def value_at(text: str, start: int) -> Value:
    """The value that begins there; up to the text's end when the text was cut inside of it."""
    first = text[start : start + 1]
    if first in _QUOTED and (quote := _QUOTE.match(text, start)):
        return Value(quote.end(), _closing_quote(text, quote.end(), quote[1]), True)
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
        return Value(start if end > start + 2 else end, end, True)
    if first == "<":
        angle = _ANGLE.match(text, start)
        is_value = angle is not None and not _PLAIN_WORDS.fullmatch(angle[0])
        return Value(start, angle.end() if angle and is_value else start, True)
    if text[start - 3 : start].lower() in ("%3d", "%3a", "%22"):
        encoded = _IN_PERCENT.match(text, start)
        return Value(start, encoded.end() if encoded else start, False)
    bare = _BARE.match(text, start)
    if bare is None:
        return Value(start, start, False)
    if ("(" in bare[0] or "{" in bare[0]) and (call := _CALL.match(text, start)) and text[call.end()] != "[":
        return _call_at(text, start, call)
    return Value(start, start + len(bare[0].rstrip(",.)]}")), False)


def _call_at(text: str, start: int, call: re.Match[str]) -> Value:
    """All of a call, or of an object's text; nothing of one that only reads something: ``config.get("secret")``."""
    if _DECLARATION.match(call[0]) or call[0] in _ASKS or text.startswith("()", call.end()):
        return Value(call.end(), call.end(), True)
    if (_FUNCTION.match(call[0]) or call[0].islower()) and (names := _NAMES_ONLY.match(text, call.end())):
        return Value(names.end(), names.end(), True)
    if _FUNCTION.match(call[0]) and (reads := _SHORT_ARGUMENT.match(text, call.end())):
        return Value(reads.end(), reads.end(), True)
    end = _closing_bracket(text, call.end())
    if "." in call[0] and _GOES_ON.match(text, end):
        return Value(end, end, True)
    if call[0] == "string" and (dumped := _DUMPED.match(text, end)):
        return Value(dumped.end(), _closing_quote(text, dumped.end(), '"'), True)
    return Value(start, end, True)


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
    """The end of what a bracket opens, whatever brackets are in quotes in it; the text's end after very many."""
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
