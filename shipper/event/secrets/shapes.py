"""Secrets that are known by their shape, whatever key they stand under; `tokens` has those of services.

Most patterns begin with a literal, because `re` finds that fast, and none reads characters again and again.
What must be in front of the literal is checked after it, by a lookbehind that includes the literal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from ..._support.lazy_pattern import LazyPattern
from . import tokens
from .effort import Effort, estimated, matches, same_length, without
from .keys import is_name

Spans = Iterator[tuple[int, int]]

_PRIVATE_KEY = LazyPattern(
    r"BEGIN (?<=----BEGIN |--- BEGIN )[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
    r"(?!-?[\"'`](?:[\s,.)]|\Z)).*?"
    r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)",
    re.DOTALL,
)
_JOSE = LazyPattern(  # a JWS has three parts, a JWE five; the first one is JSON, which begins with {"
    r"eyJ(?<![A-Za-z0-9]eyJ)(?:rIjoi[A-Za-z0-9+/]{40,}()|[\w-]{4,}(\.[\w-]*\.[\w-]*(?:\.[\w-]*){0,2})?)"
)
_ENCODED_USER = LazyPattern(r"%3a%2f%2f[^%\s]{0,64}%3a((?:[^%\s&\"'<>]|%(?!40|2f|26)){1,200})%40")
_LONG_KEY = LazyPattern(  # of Azure storage: 64 bytes in base64
    r"==(?<=[A-Za-z0-9+/]{86}==)(?<![A-Za-z0-9+][A-Za-z0-9+/]{86}==)(?<!sha512-[A-Za-z0-9+/]{86}==)"
)
_WEBHOOK = LazyPattern(
    r"hook(?:s(?:\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/(?=([\w/+-]{10,200}))"
    r"|(?<=/api/webhooks)/\d{5,25}/(?=([\w-]{20,100}))|\.zapier\.com/hooks/catch/(?=(\d+/\w+)))"
    r"|(?<=\.com/webhook)(?:b2)?/([\w@./-]{10,300}))"
)
_WEBHOOK_PATH = LazyPattern(  # of Slack, where its host stands elsewhere: in an error of urllib3
    r"/services/(t[a-z0-9]{6,12}/b[a-z0-9]{6,12}/[\w-]{20,40})"
)
_AWS_SECRET = LazyPattern(
    r"(?<![A-Za-z0-9+/=_-])(?=[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=_-]))"
    r"(?=[^A-Z]{0,39}[A-Z])(?=[^a-z]{0,39}[a-z])(?=[^0-9]{0,39}[0-9])[A-Za-z0-9+/]{40}"
)
_HASH = LazyPattern(  # of a password
    r"\$(?:(?:1|2[abxy]|5|6|7|y|apr1|argon2(?:id?|d)|scrypt|pbkdf2-sha\d{1,3})\$(?=[^\s\"']{20})"
    r"|(?<=pbkdf2_sha(?:256|512)\$)\d{1,8}\$)[\w./$=,+-]{20,400}"
)
_CARD_WORDS = (
    "card", "visa", "cvc", "cvv", "amex", "charge", "payment", 'pan"', "pan=", "pan:", "cc=", "cc:", "exp_month",
)  # fmt: skip
_AROUND = 300  # characters before and after "aws" or a key's id that are searched for a secret of AWS
_CARD = LazyPattern(r"[2-6](?<![\w./-]\d)\d{3}(?:([ -]?)\d{4}\1\d{4}\1\d{4}|[ -]?\d{6}[ -]?\d{5})(?![\w-])")
_BEARER = LazyPattern(  # in lower case
    r"bearer(?<!\wbearer)\s{1,4}(?!tokens?\b|auth|[a-z_]{1,20}=[^=\s])([\w.~+/=-]{6,})"
)
_BASIC = LazyPattern(r"basic(?<!\wbasic)\s{1,4}([a-z0-9+/=_-]{4,})")

# user:password@ or token@ in a URL. A password may have / # ? in it; digits in front of one of them are a port.
_URL = LazyPattern(
    r"://([^\s/?#@:\"'<>\[\]]{0,255})(?::(?!\d{1,5}[/?#])"
    r"(?:([^\s/?#\"'<>]{1,1000}(?=@)"
    r"|(?=[^\s@\"'<>]{1,64}@)[^\s\"'<>]{1,128}?(?=@[^\s@/?#\"'<>]{0,255}(?:[\s/?#\"'<>]|\Z))))|:?(?=@))"
)
_USER_NAME = LazyPattern(r"[a-z][a-z._-]{0,15}")
_MIXED_TOKEN = LazyPattern(r"(?=.*\d)(?=.*[A-Z])(?=.*[a-z])[\w.~%+=-]{8,}")
_NO_PASSWORDS = ("x-oauth-basic", "x", "none")  # passwords beside a token that is given as the user
_LONG_TOKEN = LazyPattern(r"(?=\D*\d)[\w.~%+=-]{16,}")
_PLACEHOLDER = LazyPattern(r"\$\w+|%s|%\(\w+\)s|\$?\{[^{}]*\}|<[^<>]*>|\*+")


def is_likely(text: str, low: str) -> bool:
    """Whether a text may hold a secret of these shapes; ``low`` is the text in lower case."""
    # No loop, which takes half as long again: this is called for every text.
    return (
        "://" in low or "bearer" in low or "basic" in low or "aws" in low or "==" in low
        or "hook" in low or "----" in low or "%40" in low or ("$" in low and low.count("$") > 1)
        or may_have_card(text, low) or "eyJ" in text
        or tokens.is_likely(text)
    )  # fmt: skip


def may_have_card(text: str, low: str) -> bool:
    """Whether a text has a number as long as a card's; a text of over 256 characters also a word about payments."""
    if len(text) > _SHORT and not _is_about_payments(low):
        return False
    return len(text) >= _SHORTEST_CARD and _CARD.search(text) is not None


def _is_about_payments(low: str) -> bool:
    return "card" in low or "visa" in low or "charge" in low or "payment" in low


def masked(text: str, low: str, mask: str, effort: Effort) -> str:
    """The text without secrets of these shapes. ``low`` is the text in lower case, of the same length."""
    for literal, cost, find in _SEARCHES:
        if literal in low and (len(text) < _LONG or literal != _RARE):
            changed = without(text, find(text, low, literal, effort, cost), mask, effort)
            if changed is not text:
                text, low = changed, same_length(changed)
    text = _without_cards(text, low, mask, effort)
    if "aws" in low or "AKIA" in text:
        text = without(text, _aws_secrets(text, low[: len(text)], effort), mask, effort)
    return tokens.masked(text, mask, effort)


def _private_keys(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    for match in matches(_PRIVATE_KEY, text, "BEGIN ", effort, cost):
        start, end = match.span()
        yield len(text[max(0, start - 6) : start].rstrip("- ")) + max(0, start - 6), end


def _in_webhooks(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    return (match.span(match.lastindex or 0) for match in matches(_WEBHOOK, text, literal, effort, cost))


def _webhook_paths(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    return (match.span(1) for match in matches(_WEBHOOK_PATH, low, literal, effort, cost))


def _behind_bearer(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    for match in matches(_BEARER, low, literal, effort, cost):
        start, end = match.span(1)
        word = text[start:end].rstrip(".")
        if not (word.isalpha() and is_name(word)):
            yield start, end


def _tokens_of_jose(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    return (match.span() for match in matches(_JOSE, text, "eyJ", effort, cost) if match.lastindex)


def _in_encoded_urls(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    """Yield the password of ``https%3A%2F%2Fuser%3Apassword%40host``."""
    for match in matches(_ENCODED_USER, low, "%3a%2f%2f", effort, cost):
        yield match.span(1)


def _long_keys(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    return ((match.start() - 86, match.end()) for match in matches(_LONG_KEY, text, literal, effort, cost))


def _hashes(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    return (match.span() for match in matches(_HASH, text, literal, effort, cost))


def _in_urls(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    for match in matches(_URL, text, literal, effort, cost):
        user, password = match.groups()
        start, end = match.start() + 3, match.end()
        if password is not None:
            is_token = _LONG_TOKEN.fullmatch(user) or _MIXED_TOKEN.fullmatch(user) or password in _NO_PASSWORDS
            if is_token and user:
                yield start, start + len(user)
            if is_token or not _PLACEHOLDER.fullmatch(password):
                yield match.span(2)
            continue
        is_web = text.endswith(("http", "https"), max(0, start - 8), start - 3)
        is_name = not user or _USER_NAME.fullmatch(user) if is_web else not _LONG_TOKEN.fullmatch(user)
        if not is_name and not _PLACEHOLDER.fullmatch(user):
            yield start, end


def _basic(text: str, low: str, literal: str, effort: Effort, cost: float) -> Spans:
    """What follows "Basic" and decodes to ``user:password``; in "basic authentication" nothing does."""
    import base64  # few texts need it

    for match in matches(_BASIC, low, literal, effort, cost):
        start, end = match.span(1)
        with contextlib.suppress(ValueError):
            if b":" in base64.b64decode(text[start:end].rstrip("=") + "===", altchars=b"-_"):
                yield start, end


def _without_cards(text: str, low: str, mask: str, effort: Effort) -> str:
    if len(text) > _SHORT:
        if not _is_about_payments(low):
            return text
        text = effort.spend(text, _DIGIT_EFFORT * estimated(text, "23456"))
    return without(text, _cards(text, low, effort), mask, effort) if _CARD.search(text) else text


def _cards(text: str, low: str, effort: Effort) -> Spans:
    """Yield where card numbers are; an empty span for each other number."""
    is_card = "card" in low
    is_said = any(word in low for word in _CARD_WORDS)
    for match in _CARD.finditer(text):
        start, end = match.span()
        digits = match[0].replace(" ", "").replace("-", "")
        effort.left -= _CARD_EFFORT
        is_grouped = len(digits) < end - start
        is_one = (is_said or is_grouped) and _is_card(digits)
        is_value = text[start - 1 : start] == "=" and not is_grouped
        is_other = is_value and not text.endswith(("card=", "cc=", "pan="), 0, start)
        yield (start, end if not is_other and (is_one or (is_card and match[1])) else start)


def _is_card(digits: str) -> bool:
    """Whether the number has the length of its brand and the right check digit (Luhn)."""
    if (len(digits) == 15) != digits.startswith(("34", "37")):
        return False
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(doubled)) % 10 == 0


def _aws_secrets(text: str, low: str, effort: Effort) -> Spans:
    """The 40 characters of a secret that stand close to a word that says AWS, or to a key's id."""
    places = [*_places(low, "aws", effort), *_places(text, "AKIA", effort)]
    position = 0
    for place in sorted(places):
        end = place + _AROUND
        if end - position < _AROUND // 2:  # most of the text around this place was searched with the last
            continue
        effort.left -= _AWS_EFFORT
        if effort.left < 0:
            effort.ended_at = position
            return
        for match in _AWS_SECRET.finditer(text, max(position, place - _AROUND), end):
            yield match.span()
        position = end


def _places(text: str, word: str, effort: Effort) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        effort.left -= _PLACE_EFFORT
        if effort.left < 0:
            effort.ended_at = place
            return
        yield place
        place = text.find(word, place + len(word))


_SHORTEST_CARD = 15
_SHORT = 256  # characters; only longer texts need a word about payments
_LONG = 4096  # characters; only shorter texts are searched for `_RARE`
_DIGIT_EFFORT = 0.02
_CARD_EFFORT = 3.0
_AWS_EFFORT = 14.0
_PLACE_EFFORT = 0.3
_RARE = "%40"  # searched for only in texts shorter than `_LONG`
_SEARCHES: tuple[tuple[str, float, Callable[[str, str, str, Effort, float], Spans]], ...] = (
    # a text that all matches contain, in lower case; the effort for each place; and the search
    ("----", 1.0, _private_keys),
    ("://", 0.8, _in_urls),
    ("hook", 0.6, _in_webhooks),
    ("/services/t", 0.6, _webhook_paths),
    ("bearer", 1.3, _behind_bearer),
    ("basic", 2.0, _basic),
    ("eyj", 0.5, _tokens_of_jose),
    ("%40", 0.8, _in_encoded_urls),
    ("==", 0.4, _long_keys),
    ("$", 0.4, _hashes),
)
