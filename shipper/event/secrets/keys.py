"""Decide whether a value is a secret under its key.

`names` gives the verdict on the key. These values are not masked:

=========  ==========================================================  ==============================================
verdict    keys                                                        a value is no secret if it is
=========  ==========================================================  ==============================================
`OPEN`     all others; a last word that describes (``token_url``,      anything
           ``password_reset_at``), a word that denies
           (``invalid_token``), tokens of parsers and pagers
           (``end_token``, ``next_page_token``), ``passwordless``
`SHAPED`   ``signature``, ``sig``, ``pin``; what is compared (``==``)  neither 6+ letters and digits nor 4-8 digits
`WEAK`     ``pass``, ``auth``                                          a number, ``failed`` or ``basic`` and the like
`COUNTED`  a word that measures (``token_count``, ``token_ttl``),      a number, a name
           more than one (``tokens``, ``sessions``)
`LOOSE`    ``token``, ``session``, ``cookie``, ``credential``,         a name: words, a class, a URL (`is_name`), or a
           ``authorization``, if no other word tells whose             list of them; a number of up to four digits;
                                                                       up to three signs
`HIDDEN`   ``password``, ``secret``, ``api_key``, ``access_token``,    empty, a flag, a placeholder (``****``,
           ``session_id`` and the like                                 ``${VAR}``, ``%s``), the name of a file
=========  ==========================================================  ==============================================

What `HIDDEN` does not mask, `WEAK`, `COUNTED` and `LOOSE` do not mask either. A list or dict is never secret under
`SHAPED`. Under the other verdicts it is no secret if empty, a dict of flags, a list of sentences or a JSON schema;
under `COUNTED` and `LOOSE` also if it has only names and numbers. In a text, `values` leaves out more, by the place of
a value: sentences (``password: not set yet``), expressions in programs, command help, versions (``asttokens==3.0``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..._support.lazy_pattern import LazyPattern
from .names import COUNTED, HIDDEN, LOOSE, OPEN, SHAPED, WEAK, is_measure, normalized, secrecy, verdict_on

_MAX_CACHED = 4096  # keys
_MAX_SHAPED = 2048  # characters of a value that are looked at
_MAX_KEY = 256  # characters of a key that are looked at

_NUMBER_OR_DATE = LazyPattern(
    r"[-+]?\d{1,15}(?:[./]\d{1,15})?(?:[mun]?s|[mhdw%]|\|[a-z]{1,2})?|[\[(][-\d., e]{1,400}[\])]"
    r"|\d{1,4}:\d\d(?::\d\d(?:\.\d{1,9})?)?|\d{4}(?:_[a-z]{1,16}){1,8}|\d{4}-\d\d-\d\d(?:[T ][\d:.+Z-]{1,32})?"
)
_TOKEN_LIKE = LazyPattern(
    r"(?!(?i:(?:hmac[-_]?)?sha[-_]?\d(?!\d*=[0-9a-f]{32})|ed25519|[rehp]s\d{3}\Z|rsa|ecdsa|v\d))"
    r"(?:(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[\w.~+/=%:^!@#*-]{6,}|\d{4,8}\Z|\d{3}-\d{3}-\d{3}\Z)"
)

_PLACEHOLDER = LazyPattern(  # of a template, of a command's help, or the mask of another program
    r"\$[A-Z_][A-Z0-9_]*|\$\{[^{}]*\}|\$?\{\{[^{}]*\}\}|(?:\{[\w.()]*(?:\[\w*\])?(?:![rsa])?\}[:/ -]?){1,4}"
    r"|\$\([^()]*\)|%\(\w+\)[sdr]|%[sdr]|os\.environ/\w{1,64}|env:[A-Z_][A-Z0-9_]*|(?:vault|ssm|file|keyring):/[\w./#-]{1,200}"
    r"|\?|:[a-z_]+|\$\d{1,3}|\*+|\u2022+|[xX]{4,}|\.{3}|\u2026"
    r"|VALUE_SPECIFIED_IN_NO_LOG_PARAMETER|0x[0-9a-fA-F]{1,16}"
    r"|[\[<(*_]{0,2}(?i:redacted|masked|filtered|hidden|removed|scrubbed|sanitized|suppressed)[\]>)*_]{0,2}"
)
_FILE = LazyPattern(  # a file's name, not its content
    r"(?:/(?:run|var|etc|home|usr|opt|root|tmp|srv|mnt|app|proc|secrets|vault|Users)|~|[A-Za-z]:)"
    r"(?:[/\\]{1,2}[\w. -]{1,64}){1,16}"
    r"|\.{0,2}(?:/[\w.-]{1,64}){1,16}\.[a-z]{2,8}"
)
_FLAGS = LazyPattern(  # {"active": true, "ttl": 60}
    r"\{(?:\s{0,8}\\{0,4}[\"']\w{1,64}\\{0,4}[\"']\s{0,4}:\s{0,8}(?:[Tt]rue|[Ff]alse|null|None|\d{1,5}),?){1,32}\s{0,8}\}"
)
_TYPES = ("string", "object", "integer", "number", "boolean", "array", "null")
_SCHEMA = LazyPattern(  # a JSON schema
    r"\{[^{}\[\]]{0,200}?[\"']type\\{0,4}[\"']: ?"
    rf"\\{{0,4}}[\"'](?:{'|'.join(_TYPES)})\\{{0,4}}[\"']"
)
_SENTENCES = LazyPattern(
    r"\[(?:\\?(?:\"[A-Z][^\"]{0,200} [^\"]{0,200}\.\\?\"|'[A-Z][^']{0,200} [^']{0,200}\.\\?')(?:, ?)?){1,9}\]"
)
"""A list of sentences, such as the errors of a form's field."""

_WORD = r"(?:[a-z]{1,14}|[A-Z]{1,12}|[a-z]{0,12}[A-Z]{0,6}(?:[A-Z][a-z]{2,14}){1,4})"
_NAME = LazyPattern(  # without words that people choose as passwords
    rf"(?!.{{0,8}}(?:abc|xyz|qwer|asdf|hunter|letmein|changeme|sesame))(?![^aeiouyAEIOUY]{{7}})"
    rf"<?{_WORD}(?:[-_./ ]{{1,2}}{_WORD}){{0,7}}(?:\[\])?[>?]?"
    r"|(?:role|scope|group|realm|read|write|admin):[a-z:]{1,40}|https?://[^\s?@#]*"
)
_SIMPLE = (
    rf"(?:[bru]?\\{{0,4}}[\"'] ?{_WORD}(?:[-_.:/ ]{_WORD}){{0,5}}\\{{0,4}}[\"']"
    rf"|{_WORD}(?:[-_.]{_WORD}){{0,5}}|\d{{1,4}}|\d\.\d{{1,6}}"
    r"|[\"'](?:<\|?/?\w{1,24}\|?>|\[[A-Z]{1,8}\])[\"'])"  # special tokens of a language model
)
_NAMES = LazyPattern(
    rf"[\[({{]\s{{0,8}}(?:{_SIMPLE}(?:\s?[:=]\s?{_SIMPLE})?(?:,\s{{0,8}}|\s{{1,8}}|(?=[\])}}]))){{1,40}}[\])}}]"
)
_KEY_IN_NAMES = LazyPattern(r"([\w-]{1,64})\\{0,4}[\"']?\s?[:=]")
_SHORT_NUMBER_OR_SIGNS = LazyPattern(r"-?\d{1,4}(?:\.\d{1,3})?|[^\w\s]{1,3}")
_SHORTEST_MASK = 4
_LONGEST_NAME = 80
_LONGEST_LIST = 300
_POINTER, _ADDRESS = 18, 42  # characters with 0x: of an address in memory, of an Ethereum account
_MANY = 10_000  # under `LOOSE`, a smaller number is taken for a count

_NOTHING = frozenset({
    "", "-", "n/a", "none", "null", "nil", "true", "false", "undefined", "include", "omit", "same-origin",
    "string", "boolean", "integer", "number", "object",
})  # fmt: skip
_VALUES = frozenset({"value", "default", "example", "examples", "const", "enum"})
_MASKS = frozenset({"redacted", "masked", "filtered", "hidden", "removed", "scrubbed", "sanitized", "suppressed"})
_OUTCOMES = frozenset({
    "ok", "okay", "success", "successful", "succeeded", "passed", "pass", "fail", "fails", "failed", "failure",
    "failing", "error", "denied", "accepted", "rejected", "granted", "refused", "required", "missing",
    "invalid", "valid", "expired", "incorrect", "correct", "wrong", "empty", "unset", "unknown", "changed",
    "reset", "updated", "created", "deleted", "removed", "revoked", "refreshed", "rotated", "renewed",
    "sent", "requires", "require", "needs", "takes", "expects", "started", "starting", "start",
    "ended", "closed", "opened", "open", "active", "inactive",
    "enabled", "disabled", "optional", "forbidden", "unauthorized", "unauthenticated", "authenticated",
    "verified", "unverified", "pending", "skipped", "timeout", "hidden", "redacted", "masked", "protected",
    "encrypted", "stored", "loaded", "saved", "set", "yes", "no", "on", "off", "never", "not", "is", "was", "are",
    "were", "has", "have", "had", "must", "should", "shall", "may", "can", "cannot", "will", "does", "did",
    "via", "using", "as",
    "too", "for", "from", "in", "of", "to", "by", "with", "and", "or", "but", "the", "a", "an", "this", "that",
    "if", "when", "your", "we", "you", "please", "contains", "contain", "length", "string", "text", "field",
    "str", "bytes", "int", "bool", "float", "any", "object", "varchar", "type", "secretstr", "mapped",
    "amd64", "arm64", "i386", "all", "added", "add", "delete", "fix", "fixed", "rename", "renamed", "likewise",
    "deprecated", "new", "use", "uses", "used", "now", "so", "which", "whether", "maybe", "could", "would", "might",
    "only", "also", "option", "options", "flag", "flags", "argument", "arguments", "parameter", "parameters", "setting",
    "settings", "switch", "switches", "command", "description", "defines", "specifies", "defaults", "respectively",
    "gained", "always", "on_create", "mismatch", "matched", "declined", "max", "min", "minimum", "maximum",
})  # fmt: skip
_AUTH_METHODS = frozenset({
    "basic", "digest", "bearer", "oauth", "oauth2", "ntlm", "negotiate", "kerberos", "ldap", "saml", "token",
    "password", "apikey",
})  # fmt: skip
_WEAK_WORDS = _OUTCOMES | _AUTH_METHODS


class KeyRules:
    """The verdict on each key, cached for up to 4096 keys.

    ``keys``: more words that make a key secret. ``allow``: whole keys that look secret but are not.
    """

    def __init__(self, keys: Iterable[str] = (), allow: Iterable[str] = ()) -> None:
        self._keys = tuple(f"_{normalized(word)}_" for word in keys)
        self._joined = frozenset(word.replace("_", "") for word in self._keys)
        self._allow = frozenset(normalized(word).replace("_", "") for word in allow)
        self._verdicts: dict[str, int] = {}
        self.hints = tuple(word.split("_")[1] for word in self._keys)
        """Lower-case texts; each key that ``keys`` makes secret contains one of them."""
        # Compile the patterns that any record with extras needs. A signal handler that logs while a logging call
        # compiles them would compile them again, be interrupted by the next signal, and so on.
        for key in ("name", "password_count"):
            self._judge(key)

    def __len__(self) -> int:
        """How many verdicts are remembered."""
        return len(self._verdicts)

    def verdict(self, key: str) -> int:
        try:
            return self._verdicts[key]
        except KeyError:
            pass
        verdict = self._judge(key)
        if len(self._verdicts) >= _MAX_CACHED:
            self._verdicts.clear()
        self._verdicts[key] = verdict
        return verdict

    def is_known(self, key: str) -> bool:
        return key in self._verdicts

    def _judge(self, key: str) -> int:
        normal = normalized(key[:_MAX_KEY])
        if self._allow and normal.replace("_", "") in self._allow:
            return OPEN
        if self._keys and self._is_own(normal):
            return COUNTED if is_measure(normal.split("_")) else HIDDEN
        return verdict_on(normal)

    def _is_own(self, normal: str) -> bool:
        return normal.replace("_", "") in self._joined or any(word in f"_{normal}_" for word in self._keys)


def is_secret(value: Any, verdict: int) -> bool:
    """Whether a value is to be masked under a key with this verdict."""
    if verdict == OPEN or value is None or type(value) is bool:
        return False
    kind = type(value)
    if kind is int or kind is float:
        return verdict == HIDDEN or (verdict == SHAPED and value >= 1000) or (verdict == LOOSE and value >= _MANY)
    if kind is bytes:
        return bool(value)
    if kind is str:
        return _is_secret_text(value, verdict)
    return bool(value) and verdict != SHAPED and not _is_open(value, verdict) and not _is_schema(value)


def _is_secret_text(value: str, verdict: int) -> bool:
    if verdict == SHAPED:
        return _TOKEN_LIKE.fullmatch(value[:_MAX_SHAPED]) is not None
    if len(value) > _MAX_SHAPED:
        return True
    if value.isalnum() and not value.isalpha() and not value.isdecimal() and verdict >= LOOSE:
        # As most secrets are: letters and digits, no signs. Only an address such as 0x7f3a is none.
        return value[:2] != "0x" or len(value) > (_POINTER if verdict == HIDDEN else _ADDRESS)
    low = value.lower()
    if low in _NOTHING:
        return False
    if value.isalnum():
        if low in _MASKS or (len(low) >= _SHORTEST_MASK and not low.strip("x")):
            return False
    elif _PLACEHOLDER.fullmatch(value) or (value[0] == "[" and _SENTENCES.fullmatch(value)):
        return False
    if value[0] == "$" and value[1:].isidentifier() and names_secret(value[1:]):  # a template's or GraphQL's variable
        return False
    if ("/" in value or "\\" in value) and _FILE.fullmatch(value):
        return False
    if value[0] == "{" and (_FLAGS.fullmatch(value) or (_SCHEMA.match(value) and "value" not in value)):
        return False
    if verdict == HIDDEN:
        return True
    if verdict == WEAK:
        return not _NUMBER_OR_DATE.fullmatch(value) and low not in _WEAK_WORDS
    if is_name(value) or (value[0] in "[({" and _are_names(value)):
        return False
    return not (_SHORT_NUMBER_OR_SIGNS if verdict == LOOSE else _NUMBER_OR_DATE).fullmatch(value)


def is_name(value: str) -> bool:
    """Whether the text consists of words, as the name of a thing or a class does, and not of random characters."""
    return len(value) <= _LONGEST_NAME and _NAME.fullmatch(value) is not None


def _are_names(value: str) -> bool:
    """Whether a list or a mapping in a text holds nothing but names, flags and short numbers, under open keys."""
    return (
        len(value) <= _LONGEST_LIST
        and _NAMES.fullmatch(value) is not None
        and all(verdict_on(normalized(key[1])) == OPEN for key in _KEY_IN_NAMES.finditer(value))
    )


def _is_open(values: Any, verdict: int) -> bool:
    """Whether a structure holds no secret: a dict of flags, a list of sentences, or names where the verdict allows."""
    if type(values) is dict:
        return all(map(_is_flag, values.values())) or (
            verdict in (COUNTED, LOOSE)
            and all(type(key) is str and verdict_on(normalized(key)) == OPEN for key in values)
            and all(_is_name_or_number(value) for value in values.values())
        )
    is_open = _is_name_or_number if verdict in (COUNTED, LOOSE) else _is_sentence
    return type(values) is list and all(_is_sentence(value) or is_open(value) for value in values)


def _is_schema(values: Any) -> bool:
    """Whether the value is a JSON schema, which describes a value but has none in it."""
    return type(values) is dict and values.get("type") in _TYPES and _VALUES.isdisjoint(values)


def _is_sentence(item: Any) -> bool:
    return type(item) is str and item[:1].isupper() and item.endswith(".") and " " in item


def _is_flag(value: Any) -> bool:
    return value is None or type(value) is bool or (type(value) is int and 0 <= value < 100_000)


def _is_name_or_number(item: Any) -> bool:
    return _is_flag(item) or type(item) is int or type(item) is float or (type(item) is str and is_name(item))


def is_outcome(word: str) -> bool:
    """Whether the word is an outcome ("failed") or goes on with a sentence ("is"), and so is no secret."""
    return word.lower() in _OUTCOMES


def names_secret(name: str) -> bool:
    """Whether a name in a program, such as ``self.password``, is that of a secret."""
    normal = normalized(name)
    return secrecy(normal, normal.split("_")) != OPEN
