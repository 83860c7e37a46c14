"""Decide by the words of a key whether its value is a secret.

Keys are compared as lower case words joined by underscores: "X-Api-Key", "xApiKey" and "x api key" are "x_api_key".

A name is secret when one of these is in it: password, passphrase, secret, token, session, cookie, credential,
authorization, csrf, jwt, a card's number ..., or ``key`` behind a word such as ``api``. It is not when its last word
describes the secret (``token_url``, ``password_reset_at``), when a word denies it (``invalid_token``), or when it is
the token of a parser or a pager (``end_token``, ``next_page_token``). The table in `keys` says what follows from that.
"""

from __future__ import annotations

from ..._support.lazy_pattern import LazyPattern

OPEN = 0
"""The value is no secret by its key."""

SHAPED = 1
"""The value is a secret if it looks like a token: ``signature``, ``sig``."""

WEAK = 2
"""The value is a secret unless it is a number or a word: ``pass``, ``auth``."""

COUNTED = 3
"""The value is a secret unless it is a number, or names: ``max_tokens``, ``session_count``, ``tokens``."""

LOOSE = 4
"""The value is a secret unless it is a name, signs, or a short number: ``token``, ``session``, ``cookie``."""

HIDDEN = 5
"""The value is a secret: ``password``, ``access_token``."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())  # a literal with so many words would keep them interned


# Each alternative begins with a literal, which `re` finds fast; a lookbehind after it checks what is in front.
_SECRET = LazyPattern(
    r"(?P<strong>pass(?:wor[dt](?!less)|wd(?<!chpasswd)(?<!htpasswd)|_?phrase|code|key(?![a-z]))"
    r"|s(?:ecret(?<!pull_secret)(?!ar|s?_?manager)|ess_?id"
    r"|ocial_?security)|c(?:srf|redit_?card|ard_?(?:number|num|no)(?![a-z])|ommunity_string|onnect_sid"
    r"|ontrase\u00f1a)|xsrf"
    r"|pwd(?![a-z])|mot_de_passe|oauth2?_bearer|amz_signature\Z|goog_signature\Z)"
    r"|authori[sz]ation|credential|cookie|session(?<!obsession)(?<!possession)(?!al)|token(?<!tiktoken)(?!i[sz])"
)
_SHORT = _words("bearer cvv cvv2 cvc cvc2 ssn jwt psk otp totp hotp jwts")
_OF_KEY = tuple(
    _words("""
    api access private secret signing encryption account auth master consumer subscription license licence hmac
    aes fernet pragma shared unseal unlock storage sas ingestion integration webhook function functions client app
    application deploy authentication priv privacy
""")
)
_OF_PASS = tuple(
    _words("""
    user usr db database root admin smtp mail imap ftp ssh sudo sql pg postgres redis mongo rabbit proxy login
    ldap wifi http https keystore store cert vault jdbc app bind bot host server client account service require
    my new old
""")
)
_OF_AUTH = _words("""
    proxy basic master http https db smtp imap ftp ldap redis rediscli mongo git docker npm
""")
_OF_TOKEN = tuple(
    _words("""
    access refresh api auth bearer bot user device push client security id session csrf xsrf personal deploy
    service login oauth jwt slack github gitlab discord telegram verification reset private account admin master
    sas
""")
)  # words in front of "token" that make it `HIDDEN`: it is not a parser's
_BEHIND = ("id", "ids", "key", "token", "hash", "string", "value")  # session_id
_MEASURES = _words("""
    count counts total num number_of max min maximum minimum avg length len size limit used usage left remaining
    budget rate index history attempts age ttl timeout lifetime duration interval seconds minutes hours days ms
    expiry expire expires expiration version strength logprob logprobs
    tokens sessions cookies credentials secrets passwords keys
""")
_CARDS = _words("card creditcard credit cardnumber cvv cvv2 cvc cvc2 ssn")
_DESCRIBES = _words("""
    start started end ended at on date time timestamp created updated changed url uri endpoint path file
    filename dir directory folder type kind status state name policy policies enabled disabled required
    supported strength method mode provider server host port stdin alg algorithm format error failed failure
    attempt retries domain scope issuer backend engine class store manager middleware hasher validator handler
    samesite prefix suffix field param header consent storage user owner username ref arn expired exception
    invalid missing warning revoked denied valid verified secure httponly only exempt result check source
    validation reset hint label rule service controller embd embedding weight serializer lexer parser option interface
    mixin adapter factory generator callback func function pattern regex template help title message msg prompt
    placeholder form view button page screen table schema model grant flow origin version encryption rotation py
    pyc pyi pyo js jsx ts tsx htm html css java rb php go rs c cs cpp h hh log txt md json yaml yml toml ini cfg
    conf xml sql sh pem crt env envvar
""")
_DESCRIBE_TOGETHER = (
    "file_name", "not_found", "http_only", "key_file", "ref_key", "credential_id", "credentials_id", "last_used",
)  # fmt: skip
_DENIES = _words("""
    invalid missing expired bad wrong unknown unexpected no has have is needs requires forgot use enable disable
    allow supports should can
""")
_OF_PARSERS = _words("""
    page paging pagination continuation next previous prev starting cursor resume sync skip bos eos uos pad unk
    sep cls mask stop
""")


def normalized(key: str) -> str:
    if not (key.islower() or key.isupper()):
        key = _HUMP.sub("_", key)
    if not key.isidentifier() or "__" in key:
        key = _SEPARATORS.sub("_", key)
    return key.strip("_").lower()


_HUMP = LazyPattern(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = LazyPattern(r"[\W_]+")


def verdict_on(normal: str) -> int:
    """The verdict on a normalized key."""
    words = normal.split("_")
    last = words[-1]
    found = secrecy(normal, words)
    if normal.endswith("secret_id"):  # often its name
        found = LOOSE
    if found and not _is_description(normal, words):
        return COUNTED if is_measure(words) and _CARDS.isdisjoint(words) else found
    if last == "pass" or normal in ("auth", "x_auth"):
        return WEAK
    return SHAPED if _is_shaped(normal, words) else OPEN


def is_measure(words: list[str]) -> bool:
    """Whether the words of a name say that it counts or measures something."""
    last = words[-1]
    return (
        not _MEASURES.isdisjoint(words)
        or last.endswith("keys")
        or (last in ("id", "ids") and words[-2:-1] in (["token"], ["key"]))
    )


def secrecy(normal: str, words: list[str]) -> int:
    """Return `HIDDEN` or `LOOSE` for a name with a word for a secret, whatever its other words; else `OPEN`."""
    found = OPEN
    for match in _SECRET.finditer(normal):
        if match["strong"] or normal.endswith(_OF_TOKEN, 0, match.start() - (normal[match.start() - 1] == "_")):
            return HIDDEN
        if normal.startswith(_BEHIND, match.end() + normal.startswith("_", match.end())):
            return HIDDEN
        found = LOOSE
    if not _SHORT.isdisjoint(words) or _is_key(words) or _is_pass(words):
        return HIDDEN
    return found


def _is_key(words: list[str]) -> bool:
    for place, word in enumerate(words):
        stem = word.rstrip("0123456789s")
        if stem.endswith("key") and (stem[:-3] or (place and words[place - 1]) or "").endswith(_OF_KEY):
            return True
    return False


def _is_pass(words: list[str]) -> bool:
    last = words[-1]
    before = words[-2] if len(words) > 1 else ""
    if last.endswith("pass"):
        return (last[:-4] or before).endswith(_OF_PASS)
    if last.endswith("auth"):
        return (last[:-4] or before) in _OF_AUTH
    return last in ("pw", "bindpw", "rootpw") or last.endswith("dbpw")


def _is_shaped(normal: str, words: list[str]) -> bool:
    if normal.endswith(("pin_code", "pincode")):
        return words[-2:] == ["pin", "code"] or words[-1] == "pincode"
    last = words[-2] if words[-1].isdigit() and len(words) > 1 else words[-1]
    return last.endswith("signature") or words[-1] in ("sig", "pin") or normal.endswith(_SAML)


_SAML = ("saml_response", "samlresponse", "saml_request", "samlrequest")


def _is_description(normal: str, words: list[str]) -> bool:
    last = words[-1]
    if len(words) == 1:
        return False
    if last in _DESCRIBES or (last[-1:] == "s" and last[:-1] in _DESCRIBES) or normal.endswith(_DESCRIBE_TOGETHER):
        return True
    if last == "token" and words[-2] in _OF_PARSERS:
        return True
    return not _DENIES.isdisjoint(words[:-1])
