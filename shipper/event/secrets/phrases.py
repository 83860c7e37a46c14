"""Secrets that stand in a text without ``=`` or ``:`` between them and their key: in sentences, SQL and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from ..._support.lazy_pattern import LazyPattern
from .effort import Effort, matches, same_length, without
from .keys import is_outcome, is_secret
from .names import HIDDEN

_PASSWORD = frozenset({
    "password", "passwort", "passwd", "passphrase", "passcode", "pwd", "pw", "passwords", "otp", "requirepass",
    "masterauth", "bindpw", "rootpw",
})  # fmt: skip
_PASSWORDS = ("_password", "_pass", "_passwd", "_pwd")  # ends of the names of environment variables
_TOKEN = frozenset({"token", "key", "secret", "tokens"})

# What follows the word. In a sentence, only a value with a digit and a letter in it counts as a secret.
_SHAPED = r"(?=[^\s\d(\"'`]{0,64}\d)(?=[^\sA-Za-z]{0,64}[A-Za-z])"
_ENCODING = (
    r"(?!(?i:base\d|ucs-?\d|s?cram-|sha\d|md5|utf-?\d|pbkdf2|argon2|v\d|[\d.:]{1,8}[a-z]{0,3}[.,;:)\]]{0,2}(?:\s|\Z)"
    r"|\d{4}-\d\d-))"
)
_QUOTED = (
    r"|\s{1,4}[\"'](?P<quoted>(?=[^\s\d\"']{0,64}\d)(?=[^\sA-Za-z\"']{0,64}[A-Za-z])[\w.~+/=-]{6,400})[\"']"
    r"(?![\w.(\[])"
)
_FOR = r"(?i:is\s{1,4}generated\s{1,4})?(?i:for)\s{1,4}[^\s:=]{1,64}(?:\s{1,4}[^\s:=]{1,64}){0,2}"
_BEHIND_PASSWORD = LazyPattern(
    r"(?:\s{1,4}(?:"
    + _FOR
    + r"(?:\s{0,4}[:=]\s{0,4}|\s{1,4}(?i:is|was)\s{1,4})"
    r"|(?:(?i:(?:is|was)\s{1,4})?(?i:changed|set|reset|updated)\s{1,4}(?=to\s))?"
    r"(?i:is|was|to|with|(?:changed\s{1,4})?from(?=\s\S{1,200}\sto\s))\s{0,4}:?\s{1,4}(?i:now\s{1,4})?)"
    r"|\s{1,4}(?=[\"'`]))"
    r"(?:([\"'`])(?P<quoted>(?:(?<!`)|(?![^`]{0,200} ))[^\"'`\r\n]{3,200})\1|"
    + _ENCODING
    + _SHAPED
    + r"(?P<told>[^\s\"'`,;()\]]{4,200}))"
    r"|\s{1,4}(?i:to\s{1,4}proceed\s{1,4}to\s{1,4}\w{1,16}):\s{1,4}(?P<first>[0-9a-f]{32})"  # of Jenkins
    r"|\s{1,4}(?i:is\s{1,4}generated\s{1,4}for)\s{1,4}[^\s:]{1,64}:\s{1,4}(?P<made>\S{6,200})"  # of MySQL
    r"|\s{1,4}(?i:is|was)\s{0,4}:?\s{1,4}(?P<digits>\d{4,10})(?![\w.:/-])(?!\s{1,4}(?i:char|day|sec|min|byte))"
    r"|\s{1,24}" + _ENCODING + _SHAPED + r"(?P<bare>[^\s\"'`,;:/()\[\]=]{6,200})(?![\w:/(=])"
)
_BEHIND_TOKEN = LazyPattern(
    r"\s{1,4}(?:(?i:is|was)\s{0,4}:?\s{1,4}|to\s{1,4}(?=\w{20})|"
    + _FOR
    + r":\s{1,4})?([\"'`]?)(?=(?:[^\s\d]{0,32}\d){3})(?=[^\sA-Za-z]{0,64}[A-Za-z])"
    + _ENCODING
    + r"(?P<bare>[\w.~+-]{10,2000}={0,2})(?![\w/:(=@])(?!\.\w)"
    + _QUOTED
)
_BEHIND_PASS = LazyPattern(r"\s{1,4}([\"'])" + _SHAPED + r"(?P<quoted>[^\"'\r\n\s]{6,200})\1")
_BEHIND_SECRET = LazyPattern(  # the names of secrets in Kubernetes have no capital letters
    r"\s{1,4}(?:(?i:is|was)\s{0,4}:?\s{1,4})?(?:(?=[^\s\d]{0,64}\d)(?=[^\sA-Z]{0,64}[A-Z])(?=[^\sa-z]{0,64}[a-z])"
    r"(?P<bare>[\w.~+/=-]{12,400})|(?P<shared>[A-Z2-7]{16,128}))(?![\w(:])"
)
_CHANGE = LazyPattern(r"[\"'`]?\s{1,4}(?:->|=>|\u2192|(?i:(to)))\s{1,4}([\"'`]?)(?P<new>[^\s\"'`,;]{4,400})\2")
_BEHIND_SECRET_NAME = LazyPattern(  # in a configuration file, or in an error
    r"\s{1,4}([\"'])(?P<quoted>[^\"'\r\n]{4,400})\1\s{0,4};" + _QUOTED.replace("quoted", "shown")
)
_BEHIND_NAME = LazyPattern(
    r"\s{1,4}(?=(?:[^\s\d]{0,64}\d){2})(?=[^\sA-Za-z]{0,64}[A-Za-z])(?P<bare>[\w.~+/=-]{16,2000})(?![\w(:])"
)
_IN_FRONT_OF_KEY = LazyPattern(
    r"(?i)(?:api|access|secret|private|auth|signing|encryption|ingestion|integration|unseal|shared|fernet)[ \t]\Z"
)

_IDENTIFIED = LazyPattern(
    r"identified\s{1,4}(?:with\s{1,4}\S{1,40}\s{1,4})?(?:by|as)\s{1,4}(?:password\s{1,4})?"
    r"(?:'([^']*)|(?=[a-z_]{1,32}\d)([\w$#!]{5,128}))"
)
_USER_OPTION = LazyPattern(
    r"-u(?:ser)?(?:[ =]\s{0,3}|[\"'],\s{0,4}(?=[\"']))(?:([\"'])([^\s:\"']{0,64}):([^\"'\r\n]+)\1"
    r"|([^\s:\"'=/]{1,64}):(?:([\"'])([^\"'\r\n]+)\5|([^\s\"']+)))"
)
_ADDRESS = LazyPattern(r"@(?:tcp|unix)\(")
_USER_IN_FRONT = LazyPattern(r"(?:(?<=[\s\"'=`])|(?<![^/])//|\A)[\w.-]{1,64}:(?=[^\s\"']{1,100}\Z)")
_SHORT_OPTION = LazyPattern(r" -p[ =]?[\"']?([^\s\"']{3,})")
_LISTED_OPTION = LazyPattern(r"'-p',\s?'([^\s\"']{3,})")
_PROTOCOLS = (  # a text to search for, and the pattern from there, whose group is the secret
    (
        "AUTH",
        LazyPattern(
            r"AUTH(?: (?:PLAIN|LOGIN|XOAUTH2) ([A-Za-z0-9+/=]{8,})|\"(?: \"\w{1,32}\")? \"([^\"]+)\""
            r"| default (\S{4,})|(?:\\r\\n|\r\n)\$\d{1,4}(?:\\r\\n|\r\n)([^\s\"'\\]+)"
            r"| (?=[^\s\d]{0,32}\d)(?=[^\sa-z]{0,32}[a-z])([\w.+!@#%~^*-]{8,}))"
        ),
    ),
    (
        "PASS ",
        LazyPattern(
            r"PASS (?:(?<=[\"']PASS )|(?<=> PASS )(?!\d+\s|\S{0,200}(?:test|[/:]))"
            r"|(?<![^\r\n]PASS )(?=[^\s/:_.]{8,64}(?:\s|\Z))(?=\D{0,64}\d)(?=[^A-Z\s]{0,64}[A-Z])"
            r"(?=[^a-z\s]{0,64}[a-z]))"
            r"([^\s\"'\\]+)"
        ),
    ),
    ("snmp-server ", LazyPattern(r"snmp-server community (\S+)")),
    ("SSWS ", LazyPattern(r"SSWS ([\w-]{30,})")),
    ("sqlplus", LazyPattern(r"sqlplus (?:-\w{1,8} ){0,3}[\w$]{1,64}/([^\s@\"']+)@")),
    (
        "Private-Lines: ",  # of PuTTY
        LazyPattern(
            r"Private-Lines: \d{1,3}((?:\r?\n|(?:\\r)?\\n)(?:[A-Za-z0-9+/=]{2,80}(?:\s{1,4}|(?:\\r)?\\n|\Z)){1,99})"
        ),
    ),
    ("net use ", LazyPattern(r"net use (?:\S{1,3}: )?\S{1,200} (?:/user:\S{1,64} )?([^\s/*]\S*)")),
    ("LOGIN ", LazyPattern(r"LOGIN \S{1,64} \\?\"([^\"\\]+)")),
    ("redis-cli", LazyPattern(r"redis-cli[\s'\"][^\n|;&]{0,100}?-a[\"']?,?\s{1,4}[\"']?([^\s\"']+)")),
    ("ipmitool", LazyPattern(r"ipmitool[\s'\"][^\n|;&]{0,200}?-P[\"']?,?\s{1,4}[\"']?([^\s\"']+)")),
    ("ldap", LazyPattern(r"ldap[a-z]{3,8}[\s'\"][^\n|;&]{0,200}?-w[\"']?,?\s{1,4}[\"']?([^\s\"']+)")),
    ("mysql", LazyPattern(r"mysql[a-z]{0,8}[\s'\"][^\n|;&]{0,100}?-p(?<=[ \"']-p)([^\s\"']+)")),
    (
        "rabbitmqctl",
        LazyPattern(
            r"rabbitmqctl\s[^\n|;&]{0,60}?(?:add_user|change_password|authenticate_user)\s{1,4}\S{1,64}\s{1,4}"
            r"[\"']?([^\s\"']+)"
        ),
    ),
    (
        "htpasswd",
        LazyPattern(r"htpasswd -[a-zA-Z]{0,4}b[a-zA-Z]{0,4} (?:-\S{1,8} ){0,3}\S{1,200} \S{1,64} [\"']?([^\s\"']+)"),
    ),
    ("net user ", LazyPattern(r"net user \S{1,32} ([^\s/*]{3,})(?=\s|\Z)")),
    ("-U ", LazyPattern(r"-U [\"']?[\w.\\/-]{1,64}%([^\s\"']+)")),
    (
        "echo ",
        LazyPattern(
            r"echo [\"']?(?:[\w.-]{1,32}:([^\s\"'|]+)[\"']? ?\| ?(?:sudo )?chpasswd|([^\s\"'|]+)[\"']? ?\| ?sudo -S)"
        ),
    ),
    ("credentials ", LazyPattern(r"credentials (?=\S{0,64}\d)[^\s:\"'/@=]{1,64}:([^\s\"',;)/]{3,})")),
    ("secret ", LazyPattern(r"secret \d (\S{6,})")),
    ("password ", LazyPattern(r"password \d (?=\D{0,32}\d)(\w{8,})")),
    ("SHA}", LazyPattern(r"SHA\}([A-Za-z0-9+/=]{16,})")),
    (
        "code=",
        LazyPattern(
            r"code=(?:(?<=[?&]code=)|(?=[^&\s]{16,500}&(?:client_|redirect_|grant_|state)))"
            r"(?=[^&\s\d]{0,64}\d)(?=[^&\sA-Za-z]{0,64}[A-Za-z])([\w./%~+-]{16,})"
        ),
    ),
    ("thin:", LazyPattern(r"thin:[^/\s\"']{1,64}/([^@\s\"']+)@")),
)
_CODES = (
    "verification", "security", "login", "otp", "2fa", "mfa", "sms", "backup", "recovery", "confirmation", "one-time",
    "authentication",
)  # fmt: skip
_CODE_EFFORT = 0.1
_CODE = LazyPattern(
    r"code(?:_verifier[\"']?\s?[=:]\s?[\"']?([\w.~-]{20,200})"  # of OAuth
    r"|(?<=[ _-]code)s?(?:[\"']?\s{0,2}[:=]\s{0,2}[\"']?|\s(?:for\s\S{1,40}\s)?is:?\s)"
    r"(\d{4,10}(?:[ ,]{1,2}\d{4,10}){0,20})(?![\w.]))"
)
_TAKES_PASSWORD = (
    "login",
    "sshpass",
    "mosquitto_",
    "twine",
    "sqlcmd",
    "7z ",
    "zip ",
)  # commands with a password behind -p or -P
_MAX_BETWEEN = 100
_LONG = 4096  # characters; only shorter texts are searched for `_PROTOCOLS`
_END_OF_COMMAND = LazyPattern(r"[\n|;&]")


def is_likely(low: str) -> bool:
    """Whether `masked` may find a secret in the text, given in lower case."""
    return (
        ("-" in low and ("-u" in low or " -p" in low or "'-p" in low or "redis-cli" in low or "ldap" in low
        or "snmp-" in low or "sudo -s" in low or "e-lines" in low))
        or (("'" in low or '"' in low) and ("identified" in low or "login " in low))
        or "pass " in low or "auth" in low or "credentials " in low or "code=" in low or "secret " in low
        or "password " in low or "htpasswd" in low or "chpasswd" in low
        or "rabbitmqctl" in low or "net use" in low or "sha}" in low
        or ("@" in low and ("thin:" in low or "@tcp(" in low or "@unix(" in low or "sqlplus" in low))
        or ("code" in low and has_code(low))
    )  # fmt: skip


def has_code(low: str) -> bool:
    """Whether a text, given in lower case, may hold a code that is used once."""
    return _CODE.search(low) is not None


def masked(text: str, low: str, mask: str, effort: Effort) -> str:
    """The text without the secrets of commands, SQL and protocols. ``low`` is the text in lower case."""
    if len(text) < _LONG:
        for literal, pattern in _PROTOCOLS:
            if literal in text:
                found = (match.span(match.lastindex or 0) for match in matches(pattern, text, literal, effort, 2.4))
                text = without(text, (one for one in found if is_secret(text[slice(*one)], HIDDEN)), mask, effort)
    for literal, find in _SEARCHES:
        if literal in low:
            text = without(text, find(text, same_length(text), effort), mask, effort)
    return text


def _codes(text: str, low: str, effort: Effort) -> Iterator[tuple[int, int]]:
    effort.left -= _CODE_EFFORT * low.count("code")
    for match in _CODE.finditer(low):
        if match[1] or low.endswith(_CODES, 0, match.start() - 1):
            yield match.span(match.lastindex or 0)


def _behind_identified(text: str, low: str, effort: Effort) -> Iterator[tuple[int, int]]:
    return (match.span(match.lastindex or 0) for match in matches(_IDENTIFIED, low, "identified", effort, 0.6))


def _behind_short_options(
    text: str, low: str, effort: Effort, pattern: LazyPattern = _SHORT_OPTION, literal: str = " -p"
) -> Iterator[tuple[int, int]]:
    for match in matches(pattern, low, literal, effort, 1.2):
        start = match.start()
        before = low[max(0, start - _MAX_BETWEEN) : start + 1]
        place = max(map(before.rfind, _TAKES_PASSWORD))
        if place >= 0 and before.startswith("zip ", place) and text[start + 2] != "P":
            continue
        if place >= 0 and not _END_OF_COMMAND.search(before, place) and is_secret(text[slice(*match.span(1))], HIDDEN):
            yield match.span(1)


def _behind_user_options(text: str, low: str, effort: Effort) -> Iterator[tuple[int, int]]:
    for match in matches(_USER_OPTION, text, "-u", effort, 1.0):
        before = text[match.start() - 1 : match.start()]
        user = match[2] if match[1] else match[4]
        group = 3 if match[1] else 6 if match[5] else 7
        password = match[group]
        is_ids = user.isdigit() and password.isdigit()  # numbers of a user and a group
        is_word = before.isalnum() and not text.endswith("-proxy", 0, match.start())
        if not is_ids and not is_word and not user.startswith(("$", "<", "{")) and is_secret(password, HIDDEN):
            yield match.span(group)


def _in_go_names(text: str, low: str, effort: Effort, literal: str = "@tcp(") -> Iterator[tuple[int, int]]:
    """Yield the password of ``user:password@tcp(host)/database``."""
    for match in matches(_ADDRESS, text, literal, effort, 4.0):
        end = match.start()
        if user := _USER_IN_FRONT.search(text, max(0, end - _MAX_BETWEEN), end):
            yield user.end(), end


def secret_behind(text: str, key: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where a secret is behind a word such as "password", in a sentence or SQL.

    ``key``: the word with the rest of its name, in lower case; in the text it is between ``start`` and ``end``.
    """
    if key in _PASSWORD or (key.endswith(_PASSWORDS) and text[start:end].isupper()):
        match = _BEHIND_PASSWORD.match(text, end)
    elif key == "pass":
        match = _BEHIND_PASS.match(text, end)
    elif key == "secret" and (said := _BEHIND_SECRET.match(text, end)):
        match = said
    elif key in _TOKEN and (key.startswith("token") or _IN_FRONT_OF_KEY.search(text, max(0, start - 12), start)):
        match = _BEHIND_TOKEN.match(text, end)
    elif "_" in key or key == "apikey":
        match = _BEHIND_SECRET_NAME.match(text, end) or _BEHIND_NAME.match(text, end)
    else:
        return None
    return _told(match) if match else None


def value_after_change(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where the new value is behind an old, secret one: ``"old" -> "new"``, ``from old to new``; or None."""
    match = _CHANGE.match(text, end)
    if match is None or (match[1] and not text[max(0, start - 6) : start].rstrip("\"'`").lower().endswith("from ")):
        return None
    return match.span("new") if is_secret(match["new"], HIDDEN) and not is_outcome(match["new"]) else None


def _told(match: re.Match[str]) -> tuple[int, int] | None:
    groups = match.groupdict()
    for name, value in groups.items():
        if value is not None:
            shown = value.rstrip(".!?") if name != "quoted" else value
            start = match.start(name)
            return None if is_outcome(shown) or not is_secret(shown, HIDDEN) else (start, start + len(shown))
    return None


_SEARCHES = (
    ("code", _codes),
    ("identified", _behind_identified),
    (" -p", _behind_short_options),
    ("'-p',", partial(_behind_short_options, pattern=_LISTED_OPTION, literal="'-p',")),
    ("-u", _behind_user_options),
    ("@tcp(", _in_go_names),
    ("@unix(", partial(_in_go_names, literal="@unix(")),
)
