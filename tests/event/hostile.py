"""Texts that are meant to make masking slow: beginnings of what masking looks for, repeated many times."""

from __future__ import annotations

from collections.abc import Iterator

PIECES = [
    "password=", "eyJ", "eyJaaaa.", "_eyJ", "-eyJaaaa.b", "eyJaaaa.b.c ", "a=", "ab: ", "://a:", "://a:b@", "://a@",
    "://a:b/c", "bearer ", "bearer Ab1234 ", "basic ", "basic YTpi ", "password='", 'password=\\"', "password=,a",
    "token={", "token=[](", "\\", '\\"', "a", "a-", "a.", "--", "--a ", "--token ", "--token x ", "-token",
    "cookie: a=b;", "cookie=", "key: ", "api key ", "\"'", "token==", "password.", "'password', 'x', ",
    "('token', 'a1'), ", "['token',", "-----BEGIN PRIVATE KEY-----", "AKIA", "AKIAIOSFODNN7EXAMPLE ", "glpat-", "sk-",
    "AIza",
    "authorization: digest ", "authorization: basic ", "authorization: x y\n", "[", "]}", " ", "=", ":", ",",
    "password: none ", "token=()", "token=f(", "token=f('a') ", "token=\\n", "\\n", "token: a\\n", "<token>",
    "<token>a</token>", "<token ", "<a:token>", "</token", "aws ", "aws " + "aB3" * 13 + "a ", "A/", "4111 ",
    "card 4111 1111 1111 1111 ", "card number: 4111 ", "identified by '", "-u a:b ", "value=", "token\n",
    '"name": "token", "value": ', "tokentoken", "token_", "session=", "x" * 60 + "token ", "sig=a1b2c3 ", "&sig=",
    "1//0", "12345678:AA", '"token", ', "TOKEN=", "\u0130token=", "tOkEn=", "auth: failed ", "unexpected token: x ",
    "key number: 1 ", "pass pass=pass ", "='", "token='a\\'", "{0}token=1&", "token{0}={0}&", "x{0}={0}&",
    "token_count{0}={0}&", '{{"id": {0}, "password": "hunter{0}"}}, ',
]  # fmt: skip
MORE = [
    "s", "c", "p", "o", "ss", "ke", "cre", "srf", "cv", "pas", "tok", "sec", "aut", "coo", "`", "pwpwpw", "token ",
    "password is a", "password for a: ", "password 'a' ", "token a1b2c3d4e5 ", "--user 'a:b' ", "login -p a ",
    "login x ", "sshpass -p a ", "'-u', '", "4111", "4111111111111111 ", "4539 1488 0343 6467 ", "37", "SG.", "SK",
    "gh", "ghp_", "gl", "glpat-a", "key-", "-us", "hooks.slack.com/services/", "/api/webhooks/12345/", "==",
    "a" * 86 + "==", "Q~", "dp.", "dp.pt.", "dt0", "sha256~", "aws " + "a" * 36, "aws", "akia", "earer", "Bearer ",
    "BEARER a", "basic YTpi ", "---- BEGIN PRIVATE KEY----", "----", "private key ----", '<param name="token">',
    'name="token">x<', "token value: x ", "token%3D", "token%3Da1%26", "password: string = ", "password string=",
    "token=a(", "token=a.get(x) ", "token=string(1) ", "token=config.get(", "arn:aws:token: x", "\n", "é", "\u0130",
    "token=é ", "password={", 'password="', 'password=("', "token={'a': '", "auth: x y ", "auth=", "community=",
    "psk=1 ", "token" + "x" * 63 + "=1 ", "t" * 128, "pass.", "pass-", "pass_", "jwt:", "sig=", "otp=1 ", "key=",
    "?key=aaaaaaaaaaaaaaaaaaaaaa1&", "session id: 1 ", "card number 1 ", "card no: ", "&lt;token&gt;", "<token>&lt;",
    "into t (token) values ('a') ", "into t (token,token) values (", "into t (", "where a=? args=('a',) ", "$2b$12$",
    "$", "where token=? parameters: [('a','b'), ", "token: |\n a\n", "pin=", "'-p', 'login", "token(",
    "token('a')", "token->",
    "<token></token>", "'token','a1'", "token\t", "--token \n", "-token a1 ", "a.", "a-",
    "token=config.get(a=]}b\\ro", '" name="authorization: digest a', "token = [" + "a" * 300 + " ",
    "token=f(token=f(", "token = [a ", "token = f(a) + ", "token = a.b ", "token: :a:`", "token == 'x' ", "token: A[",
    "| password | a |", "&quot;password&quot;:&quot;a&quot;", "\\u0022token\\u0022:", "password=''a", "password:: a ",
    '"value": "a", "name": "password"', "token 'a1b2c3' ", "credentials a1:", "code=", "&code=a1", "a:b@tcp(",
    ":a@tcp(", "AUTH a1 ", '"AUTH" "', "secret 5 ", "password 7 ", "SHA}", "-U a%", "echo a:b", "net user a ",
    "rabbitmqctl add_user a ", "htpasswd -b ", "zip -P a ", "token={a: b, ", "token: a.b-c/d ", "TOKEN_A_B_", "A",
    "where " + "t" * 128 + " args=('a',) ", "where a=? parameters: ('a', ",
]  # fmt: skip
EVERYTHING = (
    "password=x token: basic bearer private key ---- aws akia -u identified login -p sshpass mosquitto_ card hook == "
    "-us gh_ gl- sk_ xox- xapp- SG. SK hf_ shp hv dp. dt0 ://a@ eyJ </ "
)
_PLAIN = ("order 17 paid " * 80)[:850]


def hostile_texts(size: int) -> Iterator[tuple[str, str]]:
    """Yield a name and ``size`` characters of each piece, repeated: alone, behind `EVERYTHING`, and hidden.

    Masking estimates its effort for a long text from samples, one of them in the middle; a hidden text is harmless
    at its beginning and in the middle.
    """
    for piece in [*PIECES, *MORE]:
        count = size // len(piece) + 1
        text = "".join(map(piece.format, range(count))) if "{0}" in piece else piece * count
        yield f"{piece!r}", text[:size]
        behind = f"{EVERYTHING}{text}"[:size]
        yield f"{piece!r} behind everything", behind
        if size > 5000:
            middle = size // 2 - len(_PLAIN)
            yield f"{piece!r} hidden", f"{_PLAIN}{behind[:middle]}{_PLAIN}{behind[middle:]}"[:size]
