"""Secrets that are known by their shape, whatever key they stand under.

The shapes of tokens follow the rules of detect-secrets 1.5 and gitleaks 8. What stands in front of a token must not be
a letter or a digit: identifiers that merely contain such a shape stay.

Patterns begin with a literal or a small set of characters where they can, because that is what `re` finds fast, and
none looks at a run of characters again and again.
"""

from __future__ import annotations

import re

from ..._support.lazy_pattern import LazyPattern
from .effort import substitute

_PRIVATE_KEY = LazyPattern(
    r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?"
    r"(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\Z)",
    re.DOTALL,
)
_JOSE = LazyPattern(  # a JWS has three parts, a JWE five; the first one is JSON, which begins with {"
    r"eyJ(?<![A-Za-z0-9]eyJ)[\w-]{4,}(\.[\w-]*\.[\w-]*(?:\.[\w-]*){0,2})?"
)
_TOKEN = LazyPattern(
    r"gh[pousr]_[A-Za-z0-9]{30,255}|github_pat_\w{22,255}"  # GitHub
    r"|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[\w.-]{16,255}"  # GitLab
    r"|xox[abeoprs](?:\.xox[bp])?-[\w-]{10,255}|xapp-\d-[\w-]{10,255}"  # Slack
    r"|T[A-Z0-9]{8,12}/B[A-Z0-9]{8,12}/[A-Za-z0-9]{20,28}"  # the path of Slack's webhooks
    r"|[rs]k_(?:live|test|prod)_[A-Za-z0-9]{10,255}|whsec_[A-Za-z0-9+/=]{20,255}"  # Stripe
    r"|AIza[\w-]{35}|ya29\.[\w-]{20,2000}|GOCSPX-[\w-]{28}"  # Google
    r"|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"  # AWS
    r"|sntry[su]_[\w+/=.-]{40,500}"  # Sentry
    r"|SG\.[\w-]{16,32}\.[\w-]{16,64}|SK[0-9a-f]{32}(?![A-Za-z0-9])|key-[0-9a-f]{32}(?![A-Za-z0-9])"  # Twilio …
    r"|npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[\w-]{50,1000}|rubygems_[a-f0-9]{48}|dckr_pat_[\w-]{27}"
    r"|do[opr]_v1_[a-f0-9]{64}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|sq0[ac][ts]p-[\w-]{22,43}"
    r"|sk-(?:proj-|ant-|svcacct-|or-)?[\w-]{20,255}|hf_[A-Za-z0-9]{30,100}|gsk_[A-Za-z0-9]{40,100}|xai-[A-Za-z0-9]{60,100}"
    r"|hv[sbr]\.[\w-]{24,255}|dapi[a-h0-9]{32}(?![A-Za-z0-9])|lin_api_[A-Za-z0-9]{40}|NRAK-[A-Z0-9]{27}"
    r"|PMAK-[a-f0-9]{24}-[a-f0-9]{34}|gl(?:sa|c)_[\w+/=-]{32,500}|ATATT3[\w=-]{60,255}|AGE-SECRET-KEY-1[0-9A-Z]{58}"
    r"|pul-[a-f0-9]{40}|EAAA[\w-]{60}"
)
_TOKEN_WITH_SIGNS = LazyPattern(  # these begin with characters that any text has
    r"(?<![A-Za-z0-9])(?:[A-Za-z0-9]{14}\.atlasv1\.[\w-]{60,70}|\d{8,10}:AA[\w-]{33}(?![\w-])|[A-Za-z0-9+/]{86}=="
    r"|[\w~.]{3}\dQ~[\w~.-]{31,34}|1//0[\w-]{40,255})"
)
_AWS_SECRET = LazyPattern(
    r"(?<![A-Za-z0-9+/=_-])(?=[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=_-]))"
    r"(?=[^A-Z]{0,39}[A-Z])(?=[^a-z]{0,39}[a-z])(?=[^0-9]{0,39}[0-9])[A-Za-z0-9+/]{40}"
)
_CARD = LazyPattern(r"(?<![\w-])(?:(?:\d{4}[ -]){3}\d{4}|3[47]\d{2}[ -]\d{6}[ -]\d{5})(?![\w-])")
_BEARER = LazyPattern(
    r"([Bb](?<!\w[Bb])(?i:earer)\s{1,4})(?!(?i:tokens?\b|auth))(?=[a-z]{0,64}[^a-z\s'\",;:)])([\w.~+/=-]{6,})"
)
_BASIC = LazyPattern(r"([Bb](?<!\w[Bb])(?i:asic)\s{1,4})([A-Za-z0-9+/=_-]{4,})")

# user:password@ or token@ in a URL. A password may have / # ? in it; digits in front of one of them are a port.
_URL = LazyPattern(
    r"://([^\s/?#@:\"'<>\[\]]{0,255})(?::(?!\d{1,5}[/?#])"
    r"(?:([^\s/?#\"'<>]{1,1000}(?=@)"
    r"|(?=[^\s@\"'<>]{1,64}@)[^\s\"'<>]{1,128}?(?=@[^\s@/?#\"'<>]{0,255}(?:[\s/?#\"'<>]|\Z))))|:?(?=@))"
)
_USER_NAME = LazyPattern(r"[a-z][a-z._-]{0,15}")
_MIXED_TOKEN = LazyPattern(r"(?=.*\d)(?=.*[A-Z])(?=.*[a-z])[\w.~%+=-]{8,}")
_NO_PASSWORDS = ("x-oauth-basic", "x", "none")  # what stands behind a token that is the user
_LONG_TOKEN = LazyPattern(r"(?=\D*\d)[\w.~%+=-]{16,}")


def is_likely(text: str, low: str) -> bool:
    """False for a text that holds no secret of such a shape; ``low`` is the text in lower case."""
    # Spelt out, and in groups: it is asked of every text, and most have none of these characters.
    if "_" in low and (
        "gh" in low or "pat_" in low or "sk_" in low or "rk_" in low or "sec_" in low or "npm_" in low or "_v1_" in low
        or "hf_" in low or "shp" in low or "gls" in low or "sntry" in low
    ):  # fmt: skip
        return True
    if "-" in low and (
        "gl" in low or "xox" in low or "xapp-" in low or "sk-" in low or "gocspx-" in low or "pypi-" in low
        or "key-" in low or "---" in low
    ):  # fmt: skip
        return True
    return (
        "://" in low or "bearer" in low or "basic" in low or "card" in low or "akia" in low or "asia" in low
        or "aiza" in low or "dapi" in low or ":aa" in low or "==" in low or "1//0" in low
        or "eyJ" in text or "SK" in text
        or ("." in low and ("ya29." in low or "sg." in low or "hvs." in low))
    )  # fmt: skip


def masked(text: str, low: str, mask: str) -> str:
    """The text without secrets of these shapes."""
    if "private key" in low:
        text = _PRIVATE_KEY.sub(lambda match: mask, text)
    if "://" in text and "@" in text:
        text = substitute(_URL, text, lambda match: _masked_url(match, mask), mask)
    if "bearer" in low:
        text = _BEARER.sub(lambda match: match[1] + mask, text)
    if "basic" in low:
        text = substitute(_BASIC, text, lambda match: _masked_basic(match, mask), mask)
    if "eyJ" in text:
        text = _JOSE.sub(lambda match: mask if match[1] else match[0], text)
    if "card" in low:
        text = _CARD.sub(lambda match: mask, text)
    text = _TOKEN.sub(lambda match: match[0] if _is_inside_a_word(match) else mask, text)
    if "==" in low or "q~" in low or ":aa" in low or "1//0" in low or "atlasv1" in low:
        text = _TOKEN_WITH_SIGNS.sub(lambda match: mask, text)
    if "aws" in low or "akia" in low or "asia" in low:
        text = _AWS_SECRET.sub(lambda match: mask, text)
    return text


def _is_inside_a_word(match: re.Match[str]) -> bool:
    start = match.start()
    return start > 0 and match.string[start - 1].isalnum()


def _masked_url(match: re.Match[str], mask: str) -> str:
    user, password = match.groups()
    if password is not None:
        is_token = _LONG_TOKEN.fullmatch(user) or _MIXED_TOKEN.fullmatch(user) or password in _NO_PASSWORDS
        return f"://{mask if is_token else user}:{mask}"
    is_web = match.string.endswith(("http", "https"), max(0, match.start() - 5), match.start())
    is_name = not user or _USER_NAME.fullmatch(user) if is_web else not _LONG_TOKEN.fullmatch(user)
    return match[0] if is_name else f"://{mask}"


def _masked_basic(match: re.Match[str], mask: str) -> str:
    """Masked when it decodes to ``user:password``; "basic authentication" does not."""
    import base64  # few texts need it

    try:
        decoded = base64.b64decode(match[2].rstrip("=") + "===", altchars=b"-_")
    except ValueError:
        return match[0]
    return match[1] + mask if b":" in decoded else match[0]
