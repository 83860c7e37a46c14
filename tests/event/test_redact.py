"""Secrets are masked wherever they are in an event, and nothing else is."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.errors import ConfigurationError
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo
from shipper.event.model import Event
from shipper.event.redact import Redact, Redactor
from shipper.event.sanitize import sanitize_mapping
from shipper.event.truncate import pack

from . import secret_cases as cases

MASK = "[redacted]"
SECRET = "hunter2"


def masked(value: object, settings: Redact | None = None, **fields: Any) -> Any:
    """Return ``value`` as masked in an event's extras, under the name "value"."""
    event = Event(extra={"value": value}, **fields)
    Redactor(settings or Redact())(event)
    return event.extra["value"]


def masked_under(key: str, value: object, settings: Redact | None = None) -> Any:
    return masked({key: value}, settings)[key]


# Keys ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "password", "passwd", "pwd", "PASSWORD", "db_password", "passwordHash", "user-passwd", "mysql_pwd",
        "passphrase", "secret", "client_secret", "clientSecret", "token", "access_token", "accessToken", "X-Auth-Token",
        "authorization", "Authorization", "Proxy-Authorization", "api_key", "apikey", "api-key", "apiKey",
        "APIKey", "X-Api-Key", "x_api_key", "access_key", "accessKeyId", "private_key", "privateKey", "credential",
        "credentials", "aws_credentials", "cookie", "Set-Cookie", "cookies", "session", "session_id", "sessionId",
        "sessionid", "PHPSESSID", "csrf", "csrftoken", "X-XSRF-TOKEN", "credit_card", "creditCard", "card_number",
        "cardNumber", "cvv", "cvc", "ssn", "jwt", "auth", "account_key", "token2", "new.password",
    ],
)  # fmt: skip
def test_a_value_is_masked_when_its_key_looks_secret(key: str) -> None:
    assert masked_under(key, SECRET) == MASK
    assert masked_under(key, {"any": ["thing"]}) == MASK
    assert masked_under(key, SECRET.encode()) == MASK
    assert masked(f"{key}={SECRET}") == f"{key}={MASK}"
    assert masked(repr({key: SECRET})) == repr({key: MASK})


@pytest.mark.parametrize(
    "key",
    [
        "author", "keyboard", "key", "monkey", "primary_key", "user", "name", "classname", "assn", "tokenizer",
        "secretary", "sessional", "discard", "card", "compass", "amount", "id", "event", "path", "passage", "bypass",
        "passenger",
    ],
)  # fmt: skip
def test_a_value_stays_when_its_key_only_resembles_a_secret_one(key: str) -> None:
    assert masked_under(key, SECRET) == SECRET
    assert masked(f"{key}={SECRET}") == f"{key}={SECRET}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("token_count", 12),
        ("max_tokens", 4096),
        ("prompt_tokens", 7),
        ("tokens", 7),
        ("session_count", 3),
        ("sessionTimeout", 30.5),
        ("cookie_max_age", 3600),
        ("password_length", 8),
        ("token_ttl", "3600"),
        ("has_password", True),
        ("secret", None),
        ("password", ""),
        ("cookies", {}),
        ("session", []),
    ],
)
def test_measures_flags_and_nothing_stay_under_a_secret_key(key: str, value: object) -> None:
    assert masked_under(key, value) == value
    assert masked(f"{key}={value!r}") == f"{key}={value!r}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("password", 1234),
        ("cvv", 123),
        ("card_number", 4111111111111111),
        ("session_id", 99),
        ("token_count", SECRET),
        ("max_tokens", {"a": SECRET}),
        ("total_card_number", 4111111111111111),
    ],
)
def test_numbers_that_are_secrets_and_other_values_of_measures_are_masked(key: str, value: object) -> None:
    assert masked_under(key, value) == MASK


@pytest.mark.parametrize(
    "value",
    ["active", "RequestsCookieJar", "next-page", 57, ["hello", "world"], {"provider": "env", "ttl": 60}, "}"],
)
def test_a_name_or_a_short_number_is_a_secret_only_if_the_key_says_whose(value: object) -> None:
    assert [masked_under(key, value) for key in ("token", "session", "cookie")] == [value] * 3
    assert [masked_under(key, value) for key in ("access_token", "session_id", "password")] == [MASK] * 3


@pytest.mark.parametrize("value", [SECRET, 4711_4711, ["hello", SECRET], {"user": "bob", "password": "x"}, "a b1c2d3"])
def test_anything_else_under_such_a_key_is_masked(value: object) -> None:
    assert [masked_under(key, value) for key in ("token", "session", "cookie")] == [MASK] * 3


def test_secrets_are_masked_at_any_depth() -> None:
    value = {"a": [{"b": {"password": SECRET, "c": [1, {"token": [SECRET]}]}}], "d": f"password={SECRET}"}

    assert masked(value) == {
        "a": [{"b": {"password": MASK, "c": [1, {"token": MASK}]}}],
        "d": f"password={MASK}",
    }


def test_named_values_and_pairs_are_keys_too() -> None:
    assert masked({"name": "password", "type": "string", "value": SECRET})["value"] == MASK
    assert masked({"Name": "DB_PASSWORD", "Value": SECRET})["Value"] == MASK  # as AWS writes it
    assert masked({"name": "colour", "value": "red"})["value"] == "red"


def test_a_number_beside_a_check_code_is_that_of_a_card() -> None:
    card = {"number": "4242424242424242", "cvc": "314"}

    assert masked({"card": card, "page": {"number": "4242424242424242"}}) == {
        "card": {"number": MASK, "cvc": MASK},
        "page": {"number": "4242424242424242"},
    }


def test_a_schema_of_a_secret_is_none() -> None:
    schema = {"type": "string", "minLength": 8}

    assert masked({"password": schema}) == {"password": schema}
    assert masked({"password": {**schema, "default": SECRET}}) == {"password": MASK}


def test_a_long_value_in_hexadecimal_is_a_key_and_a_short_one_a_place_in_memory() -> None:
    key, place = "0x" + 32 * "a1", "0x7f3a5c2d1e80"

    assert masked_under("private_key", key) == MASK
    assert masked(f"private_key={key}") == f"private_key={MASK}"
    assert masked_under("private_key", place) == place
    assert masked([["Authorization", SECRET], ["Accept", "text"]]) == [["Authorization", MASK], ["Accept", "text"]]


def test_the_secret_columns_of_a_table_are_masked() -> None:
    table = {"shape": [2, 3], "columns": ["user", "password", ["a", "token"]], "rows": [["bob", SECRET, SECRET], ["x"]]}

    assert masked(table)["rows"] == [["bob", MASK, MASK], ["x"]]


def test_every_part_of_an_event_is_masked() -> None:
    secret = f"password={SECRET}"
    event = Event(
        message=secret,
        stack=f'  login(password="{SECRET}")',
        exceptions=[
            ExceptionInfo("raised", "a.B", "B", secret, [], [secret]),
            ExceptionInfo("cause", "a.B", "B", secret),
        ],
        extra={"password": SECRET},
        context={"deep": {"cookie": SECRET}},
        data={"message": secret, "deep": {"password": SECRET}, "list": [{"token": SECRET}]},
    )

    Redactor(Redact())(event)

    assert SECRET not in repr(event)
    assert SECRET.encode() not in pack(event)
    assert event.message == f"password={MASK}"


def test_the_arguments_of_an_exception_are_masked() -> None:
    message = str(ValueError("login failed", {"user": "bob", "password": SECRET}))
    event = Event(exceptions=[ExceptionInfo("raised", "builtins.ValueError", "ValueError", message)])

    Redactor(Redact())(event)

    assert event.exceptions[0].message == f"('login failed', {{'user': 'bob', 'password': '{MASK}'}})"


def test_the_fields_that_a_client_set_on_purpose_stay() -> None:
    fields = {"event_session": "abc", "eventSession": "abc", "apiKey": "abc", "event_user": "bob", "tracking-id": "1"}
    event = Event(kind="trakerr", data=dict(fields), extra={"trakerr": dict(fields), "event_session": "abc"})

    Redactor(Redact())(event)

    assert event.data == fields
    assert event.extra == {"trakerr": fields, "event_session": MASK}


def test_what_a_hook_has_put_in_is_masked_too() -> None:
    class Login:
        def __repr__(self) -> str:
            return f"Login(password='{SECRET}')"

    event = Event(extra={"who": Login(), "set": {f"token={SECRET}"}, 7: {8: {"password": SECRET}}})  # type: ignore[dict-item]
    event.message = Login()  # type: ignore[assignment]

    Redactor(Redact())(event)

    assert SECRET not in repr(unpack(pack(event)))


# Text ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 user=bob", "password=[redacted] user=bob"),
        ("password = hunter2, user = bob", "password = [redacted], user = bob"),
        ("user=bob,password=hunter2,level=3", "user=bob,password=[redacted],level=3"),
        ("password=hun,ter2 x", "password=[redacted] x"),
        ("password: hunter2", "password: [redacted]"),
        ("--password hunter2 --user bob", "--password [redacted] --user bob"),
        ("--password=hunter2 --user bob", "--password=[redacted] --user bob"),
        ("{'password': 'hunter2', 'a': 1}", "{'password': '[redacted]', 'a': 1}"),
        ("{'password': \"hun'ter2\"}", "{'password': \"[redacted]\"}"),
        (r"{'password': 'hun\'ter2', 'a': 1}", "{'password': '[redacted]', 'a': 1}"),
        (r"{'password': 'hunter2\\', 'a': 1}", "{'password': '[redacted]', 'a': 1}"),
        ("{'password': b'hunter2'}", "{'password': b'[redacted]'}"),
        ("{'password': 1234, 'a': 1}", "{'password': [redacted], 'a': 1}"),
        ('{"token":"hunter2","a":1}', '{"token":"[redacted]","a":1}'),
        (r'"{\"token\": \"hunter2\", \"a\": 1}"', r'"{\"token\": \"[redacted]\", \"a\": 1}"'),
        (r"{\"token\": \"hun\\\"ter2\", \"a\": 1}", r"{\"token\": \"[redacted]\", \"a\": 1}"),
        ("credentials: {'key': ['hunter2'], 'b': (1,)} rest", "credentials: [redacted] rest"),
        ("session['password'] = 'hunter2'", "session['password'] = '[redacted]'"),
        ("login(user='bob', password='hunter2')", "login(user='bob', password='[redacted]')"),
        ("login(password=hunter2)", "login(password=[redacted])"),
        ("password='hunter2 and the text ends", "password='[redacted]"),
        ("GET /reset?token=hunter2&page=1", "GET /reset?token=[redacted]&page=1"),
        ("API key: hunter2", "API key: [redacted]"),
        ("credit card number: 4111111111111111", "credit card number: [redacted]"),
        ("Authorization: Bearer hunter2hunter2 200", "Authorization: Bearer [redacted] 200"),
        ("Authorization: token hunter2", "Authorization: token [redacted]"),
        ('Authorization: Digest username="bob", response="hunter2"', "Authorization: [redacted]"),
        ("{'Authorization': 'Basic aHVudGVyMg=='}", "{'Authorization': '[redacted]'}"),
        ("Cookie: sid=hunter2; theme=dark", "Cookie: [redacted]"),
        ("sent bearer hunter2.hunter2", "sent bearer [redacted]"),
        ("sent Basic Ym9iOmh1bnRlcjI=", "sent Basic [redacted]"),
        ("https://bob:hunter2@host/path?x=1", "https://bob:[redacted]@host/path?x=1"),
        ("postgres://bob:hun@ter2@host", "postgres://bob:[redacted]@host"),
        ("redis://:hunter2@host:6379/0", "redis://:[redacted]@host:6379/0"),
        ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2ln-X_Y!", "got [redacted]!"),
        ("id AKIAIOSFODNN7EXAMPLE.", "id [redacted]."),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest",
            "[redacted]\nrest",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIE and the text ends", "[redacted]"),
    ],
)
def test_a_secret_in_a_text_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected
    assert masked(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "order 17 paid",
        "a password is needed",
        "basic authentication failed",
        "bearer tokens are fine",
        "bearer token",
        "password=None, secret=True, token=''",
        "max_tokens=12 token_count: 5 session_count=3",
        "http://host:8080/a@b",
        "https://host/path",
        "mail to bob@example.com: done",
        "12:30:45 key: value, monkey=banana",
        "-----BEGIN CERTIFICATE-----",
        "eyJust a word",
        "Grüße: alles gut",
        "",
    ],
)
def test_an_innocent_text_stays(text: str) -> None:
    assert masked(text) == text


def test_bytes_are_masked_like_text() -> None:
    assert masked(b"\xff password=hunter2") == b"\xff password=[redacted]"
    assert masked(b"\xff\x00") == b"\xff\x00"


@given(st.text(st.sampled_from("password=token: '\"{}[](),;&\\/@-eyJ.\n "), max_size=60))
def test_any_text_can_be_masked_and_masked_again(text: str) -> None:
    once = masked(text)

    assert isinstance(once, str)
    assert isinstance(masked(once), str)


@given(
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(lambda x: f"Q7{x}"),
    key=st.sampled_from(["password", "api_key", "sessionToken", "Cookie"]),
)
def test_no_secret_survives_the_repr_of_a_dict(secret: str, key: str) -> None:
    found = masked(f"got { ({'user': 'bob', key: secret, 'n': 1})!r}")

    assert found == f"got { ({'user': 'bob', key: MASK, 'n': 1})!r}" or repr(secret)[0] == '"'
    assert secret not in found


# The table -----------------------------------------------------------------------------------------------------------


def travelled(value: object) -> Any:
    """Return a text as masked in a message, any other value as masked in the extras."""
    if isinstance(value, str):
        event = Event(message=value)
    else:
        is_service = isinstance(value, dict) and ("jkool" in value or "trakerr" in value)
        event = Event(extra=sanitize_mapping(value if is_service else {"value": value}))  # type: ignore[arg-type]
    Redactor(Redact())(event)
    return event.message if isinstance(value, str) else event.extra


SECRETS = [*cases.SECRET_TEXTS, *cases.SECRET_VALUES]
INNOCENT = [*cases.INNOCENT_TEXTS, *cases.INNOCENT_VALUES]


@pytest.mark.parametrize("value", SECRETS, ids=range(len(SECRETS)))
def test_the_secret_of_each_case_is_masked(value: object) -> None:
    found = repr(travelled(value))

    assert cases.S not in found
    assert base64.b64encode(f"bob:{cases.S}".encode()).decode() not in found
    assert MASK in found


@pytest.mark.parametrize("value", INNOCENT, ids=range(len(INNOCENT)))
def test_a_value_that_only_looks_secret_stays(value: object) -> None:
    assert travelled(value) == (value if isinstance(value, str) else sanitize_mapping({"value": value}))


@pytest.mark.parametrize("name", cases.TOKENS)
def test_a_token_is_known_by_its_shape_wherever_it_stands(name: str) -> None:
    token = cases.TOKENS[name]

    found = [travelled(place.format(token)) for place in cases.TOKEN_PLACES]

    assert [text for text in found if token in text or token[-12:] in text] == []


@pytest.mark.parametrize("name", [name for name in cases.TOKENS if "/" not in cases.TOKENS[name]])
def test_a_longer_identifier_that_contains_a_tokens_shape_stays(name: str) -> None:
    text = f"id x7{cases.TOKENS[name][:20]}"

    assert travelled(text) == text


def test_the_table_is_large_and_none_of_it_is_there_twice() -> None:
    assert len(SECRETS) + len(INNOCENT) >= 350
    assert len({*map(repr, SECRETS)}) == len(SECRETS)
    assert len({*map(repr, INNOCENT)}) == len(INNOCENT)


# Settings ------------------------------------------------------------------------------------------------------------


def test_masking_can_be_switched_off() -> None:
    assert masked_under("password", SECRET, Redact(enabled=False)) == SECRET


def test_the_mask_can_be_chosen() -> None:
    assert masked_under("password", SECRET, Redact(mask="***")) == "***"


@pytest.mark.parametrize("key", ["card-code", "cardCode", "CARD_CODE", "my card code", "cardcode"])
def test_more_keys_can_be_secret(key: str) -> None:
    settings = Redact(keys=("card_code",))

    assert masked_under(key, SECRET, settings) == MASK
    assert masked_under("card_codex", SECRET, settings) == SECRET
    assert masked(f"cardCode={SECRET}", settings) == f"cardCode={MASK}"


@pytest.mark.parametrize("key", ["session_name", "sessionName", "Session-Name"])
def test_a_key_that_looks_secret_can_be_allowed(key: str) -> None:
    settings = Redact(allow=("session_name",))

    assert masked_under(key, "main", settings) == "main"
    assert masked(f"{key}=main", settings) == f"{key}=main"
    assert masked_under(f"{key}_2", SECRET, settings) == MASK


def test_more_patterns_can_be_masked() -> None:
    settings = Redact(patterns=(r"\bC-\d+\b", r"customer (\w+)", r"(?:never|(x{9}))?z"))

    assert masked("for C-1234, customer bob paid z", settings) == f"for {MASK}, customer {MASK} paid z"


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"enabled": "yes"}, "redact.enabled"),
        ({"mask": None}, "redact.mask"),
        ({"keys": "password"}, "redact.keys"),
        ({"keys": (1,)}, "redact.keys"),
        ({"keys": ("--",)}, "redact.keys"),
        ({"allow": ("",)}, "redact.allow"),
        ({"allow": None}, "redact.allow"),
        ({"patterns": ("(",)}, "redact.patterns"),
        ({"patterns": ("a*",)}, "redact.patterns"),
        ({"patterns": (b"a",)}, "redact.patterns"),
    ],
)
def test_a_wrong_setting_is_said_before_anything_starts(settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Redact(**settings)

    assert caught.value.setting == setting
    assert caught.value.allowed


def test_a_list_of_keys_is_as_good_as_a_tuple() -> None:
    assert Redact(keys=["a"]).keys == ("a",)  # type: ignore[arg-type]


def test_remembered_keys_are_bounded() -> None:
    redactor = Redactor(Redact())

    redactor(Event(message=" ".join(f"token{0}x=y" for n in range(20_000))))

    assert len(redactor._rules) <= 4096
