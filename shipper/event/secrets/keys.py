"""Decides by its key whether a value is a secret.

Keys are compared as lower case words joined by underscores: "X-Api-Key", "xApiKey" and "x api key" are "x_api_key".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ..._support.lazy_pattern import LazyPattern

OPEN = 0
"""The value is no secret by its key."""

SHAPED = 1
"""The value is a secret if it looks like a token: ``signature``, ``sig``."""

WEAK = 2
"""The value is a secret unless it is a number or a word that says how something went: ``pass``, ``auth``."""

COUNTED = 3
"""The value is a secret unless it is a number: ``max_tokens``, ``session_count``."""

HIDDEN = 4
"""The value is a secret."""

_MAX_CACHED = 4096  # keys
_MAX_SHAPED = 2048  # characters of a value that are looked at
_MAX_KEY = 256  # characters of a key that are looked at

_SECRET = LazyPattern(
    r"passwor[dt](?!less)|passwd|passphrase|passcode|authori[sz]ation|credential|csrf|xsrf|cookie"
    r"|(?<!pull_)secret(?!ar|s?_?manager)"
    r"|(?<!tik)token(?!i[sz])|(?<!ob)(?<!pos)session(?!al)|sess_?id"
    r"|(?:api|access|private|secret|signing|encryption|account|auth|master|consumer|subscription|licen[cs]e|hmac|aes"
    r"|fernet|pragma|webhook|functions?|client|app|application|deploy|authentication|priv|privacy|license)_?key(?![a-z])"
    r"|credit_?card|card_?(?:number|num|no)(?![a-z])"
    r"|pwd(?![a-z])|(?:\A|_)(?:bind|root|[a-z]{0,8}db)?pw\Z|(?<![a-z])(?:cvv2?|cvc2?|ssn|jwt|psk|[th]?otp)(?![a-z])|community_string|oauth2?_bearer|social_?security"
    r"|contrase\u00f1a|mot_de_passe|(?:amz|goog)_signature\Z|passkey(?![a-z])"
    r"|(?:\A|_)(?:proxy|basic|master|https?|db|smtp|imap|ftp|ldap|redis|mongo|git|docker|npm)_?auth\Z"
    r"|(?:user|usr|db|database|root|admin|smtp|mail|imap|ftp|ssh|sudo|sql|pg|postgres|redis|mongo|rabbit|proxy|login|ldap"
    r"|wifi|https?|keystore|store|cert|vault|jdbc|app|bind|bot|host|server|client|account|service|require|my|new|old)_?pass\Z"
)
_WEAK = LazyPattern(r"(?:\A|_)pass\Z|\A(?:x_)?auth\Z")
_SHAPED = LazyPattern(r"signature(?:_\d{1,4})?\Z|(?:\A|_)sig\Z|saml_?(?:response|request)\Z|(?:\A|_)pin(?:_?code)?\Z")
_MEASURE = LazyPattern(
    r"(?:\A|_)(?:counts?|total|num|number_of|max|min|maximum|minimum|avg|length|len|size|limit|used|usage|left|remaining"
    r"|budget|rate|index|history|attempts|age|ttl|timeout|lifetime|duration|seconds|minutes|hours|days|ms|expiry|expires?|expiration"
    r"|version|strength)(?:_|\Z)|(?:token|key)_?ids?\Z|(?:tokens|sessions|cookies|credentials|secrets|passwords)(?:_|\Z)"
)
_NOT_CARD = LazyPattern(r"(?:\A|_)(?:card_?(?:number|num|no)|credit_?card|cvv2?|cvc2?|ssn)(?:_|\Z)")
_DESCRIPTION = LazyPattern(
    r"_(?:(?:start(?:ed)?|end(?:ed)?|at|on|date|time|timestamp|created|updated|changed|ur[il]|endpoint|path|file(?:_?name)?"
    r"|dir(?:ectory)?|folder|type|kind|status|state|name|policy|enabled|disabled|required|supported|strength|method|mode"
    r"|provider|server|host|port|stdin|alg(?:orithm)?|format|error|failed|failure|attempt|retries|domain|scope|issuer|backend"
    r"|engine|class|store|manager|middleware|hasher|validator|handler|samesite|prefix|suffix|field|param|header|consent"
    r"|storage|user|owner|username|ref|ref_key|arn|expired|exception|invalid|missing|not_found|warning|revoked|denied"
    r"|valid|verified|secure|httponly|http_only|only|exempt|result|check|source|validation|reset|hint|label|rule|service|controller|embd|embedding|weight"
    r"|py[cio]?|jsx?|tsx?|html?|css|java|rb|php|go|rs|cs?|cpp|hh?|log|txt|md|json|ya?ml|toml|ini|cfg|conf|xml|sql|sh|pem"
    r"|crt|key_file)s?|policies)\Z|credentials?_ids?\Z"
    r"|(?:\A|_)(?:page|paging|pagination|continuation|next|previous|prev|starting|cursor|resume|sync|skip|[beu]os|pad|unk|sep|cls|mask|stop)_?token\Z"
    r"|(?:\A|_)(?:invalid|missing|expired|bad|wrong|unknown|unexpected|no|has|is|needs|requires|forgot)_"
)
_NUMBER_OR_DATE = LazyPattern(
    r"[-+]?\d{1,15}(?:[./]\d{1,15})?(?:[mun]?s|[mhdw%])?|[\[(][\d., ]{1,400}[\])]"
    r"|\d{4}-\d\d-\d\d(?:[T ][\d:.+Z-]{1,32})?"
)
_TOKEN_LIKE = LazyPattern(
    r"(?!(?i:(?:hmac[-_]?)?sha[-_]?\d(?!\d*=[0-9a-f]{32})|ed25519|[rehp]s\d{3}\Z|rsa|ecdsa|v\d))"
    r"(?:(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[\w.~+/=%:-]{6,}|\d{4,8}\Z)"
)

_PLACEHOLDER = LazyPattern(  # of a template, of a command's help, or of somebody else's mask
    r"\$[A-Z_][A-Z0-9_]*|\$\{[^{}]*\}|\$?\{\{[^{}]*\}\}|\{[\w.]*\}|\$\([^()]*\)|%\(\w+\)[sdr]|%[sdr]|\?|:[a-z_]+|\$\d{1,3}|\*+|\u2022+|[xX]{4,}"
    r"|\.{3}|\u2026|VALUE_SPECIFIED_IN_NO_LOG_PARAMETER|0x[0-9a-fA-F]{1,16}|[\[<(*_]{0,2}(?i:redacted|masked|filtered|hidden|removed|scrubbed|sanitized|suppressed)[\]>)*_]{0,2}"
)
_FILE = LazyPattern(  # whose name is given, not what is in it
    r"(?:/(?:run|var|etc|home|usr|opt|root|tmp|srv|mnt|app|proc|secrets|vault|Users)|~|[A-Za-z]:)"
    r"(?:[/\\]{1,2}[\w. -]{1,64}){1,16}"
    r"|\.{0,2}(?:/[\w.-]{1,64}){1,16}\.[a-z]{2,8}"
)
_FLAGS = LazyPattern(  # {"active": true, "ttl": 60}
    r"\{(?:\s{0,8}\\{0,4}[\"']\w{1,64}\\{0,4}[\"']\s{0,4}:\s{0,8}(?:[Tt]rue|[Ff]alse|null|None|\d{1,5}),?){1,32}\s{0,8}\}"
)
_SCHEMA = LazyPattern(  # of JSON
    r"\{[^{}\[\]]{0,200}?[\"']type\\{0,4}[\"']: ?"
    r"\\{0,4}[\"'](?:string|object|integer|number|boolean|array|null)\\{0,4}[\"']"
)
_SENTENCES = LazyPattern(r"\[(?:\\?[\"'][A-Z][^\"']{0,200} [^\"']{0,200}\.\\?[\"'](?:, ?)?){1,9}\]")
"""Errors of a form's field."""

_NOTHING = frozenset({
    "", "-", "n/a", "none", "null", "nil", "true", "false", "undefined", "include", "omit", "same-origin",
})  # fmt: skip
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
    "amd64", "arm64", "i386", "all",
})  # fmt: skip
_AUTH_METHODS = frozenset({
    "basic", "digest", "bearer", "oauth", "oauth2", "ntlm", "negotiate", "kerberos", "ldap", "saml", "token",
    "password", "apikey",
})  # fmt: skip
_WEAK_WORDS = _OUTCOMES | _AUTH_METHODS


def normalized(key: str) -> str:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[\W_]+", "_", apart).strip("_").lower()


class KeyRules:
    """The verdict on each key, remembered for the last few thousand.

    ``keys``: more words that make a key secret. ``allow``: whole keys that look secret but are not.
    """

    def __init__(self, keys: Iterable[str] = (), allow: Iterable[str] = ()) -> None:
        self._keys = tuple(f"_{normalized(word)}_" for word in keys)
        self._joined = frozenset(word.replace("_", "") for word in self._keys)
        self._allow = frozenset(normalized(word).replace("_", "") for word in allow)
        self._verdicts: dict[str, int] = {}
        self.hints = tuple(word.split("_")[1] for word in self._keys)
        """Lower case texts of which one stands in each key that ``keys`` makes secret."""
        # Any record with extras needs these patterns. A signal handler that logs would interrupt their compilation in
        # a logging call, compile them again, be interrupted again, and so on.
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
        joined = normal.replace("_", "")
        if joined in self._allow:
            return OPEN
        if joined in self._joined or any(word in f"_{normal}_" for word in self._keys):
            return COUNTED if _MEASURE.search(normal) else HIDDEN
        if _SECRET.search(normal) and not _DESCRIPTION.search(normal):
            return COUNTED if _MEASURE.search(normal) and not _NOT_CARD.search(normal) else HIDDEN
        if _WEAK.search(normal):
            return WEAK
        return SHAPED if _SHAPED.search(normal) else OPEN


def is_secret(value: Any, verdict: int) -> bool:
    """Whether a value of a structure is to be masked under a key with that verdict."""
    if verdict == OPEN or value is None or type(value) is bool:
        return False
    kind = type(value)
    if kind is int or kind is float:
        return verdict == HIDDEN or (verdict == SHAPED and value >= 1000)
    if kind is bytes:
        return bool(value)
    if kind is not str:
        is_open = _is_sentence if verdict != COUNTED else _is_sentence_or_number
        is_said = (kind is list and all(map(is_open, value))) or (kind is dict and all(map(_is_flag, value.values())))
        return bool(value) and verdict != SHAPED and not is_said
    if verdict == SHAPED:
        return _TOKEN_LIKE.fullmatch(value[:_MAX_SHAPED]) is not None
    if len(value) > _MAX_SHAPED:
        return True
    if value.lower() in _NOTHING or _PLACEHOLDER.fullmatch(value) or _SENTENCES.fullmatch(value):
        return False
    if ("/" in value or "\\" in value) and _FILE.fullmatch(value):
        return False
    if value[0] == "{" and (_FLAGS.fullmatch(value) or (_SCHEMA.match(value) and "value" not in value)):
        return False
    if verdict == HIDDEN:
        return True
    return not _NUMBER_OR_DATE.fullmatch(value) and not (verdict == WEAK and value.lower() in _WEAK_WORDS)


def _is_sentence(item: Any) -> bool:
    return type(item) is str and item[:1].isupper() and item.endswith(".") and " " in item


def _is_flag(value: Any) -> bool:
    return value is None or type(value) is bool or (type(value) is int and 0 <= value < 100_000)


def _is_sentence_or_number(item: Any) -> bool:
    return type(item) is int or type(item) is float or _is_sentence(item)


def is_outcome(word: str) -> bool:
    """Whether it is a word that says how something went, or how a sentence goes on, rather than a secret."""
    return word.lower() in _OUTCOMES


def names_secret(name: str) -> bool:
    """Whether a name in a program, such as ``self.password``, is that of a secret."""
    return _SECRET.search(normalized(name)) is not None
