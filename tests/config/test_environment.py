"""Settings from keyword, environment and default, in this order, and what is said about wrong variables."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper import Batching, ConfigurationError, JKool, Redact, Retry, Spooling, Trakerr
from shipper.config.environment import resolve
from shipper.config.settings import Settings

KEY = {"SHIPPER_TRAKERR_API_KEY": "key"}


def resolved(environ: dict[str, str] | None = None, *backends: Any, **given: Any) -> Settings:
    return resolve(backends, {"app": "test", **given}, {**KEY, **(environ or {})})


FROM_ENVIRONMENT = [
    ("SHIPPER_APP", "checkout", "app", "checkout"),
    ("SHIPPER_SPOOL", "/var/spool/x", "spool", "/var/spool/x"),
    ("SHIPPER_LEVEL", "warning", "level", 30),
    ("SHIPPER_LEVEL", "25", "level", 25),
    ("SHIPPER_OVERFLOW", "65536", "overflow", 65536),
    ("SHIPPER_GRACE", "1.5", "grace", 1.5),
    ("SHIPPER_PYTHON", "/usr/bin/python3", "python", "/usr/bin/python3"),
    ("SHIPPER_BATCHING_MAX_EVENTS", "7", "batching.max_events", 7),
    ("SHIPPER_BATCHING_MAX_BYTES", "7000", "batching.max_bytes", 7000),
    ("SHIPPER_BATCHING_MAX_AGE", "0.5", "batching.max_age", 0.5),
    ("SHIPPER_RETRY_INITIAL", "0.25", "retry.initial", 0.25),
    ("SHIPPER_RETRY_MAXIMUM", "9", "retry.maximum", 9.0),
    ("SHIPPER_RETRY_MAX_RETRY_AFTER", "9", "retry.max_retry_after", 9.0),
    ("SHIPPER_RETRY_UNAUTHORISED", "9", "retry.unauthorised", 9.0),
    ("SHIPPER_RETRY_POISON_AFTER", "9", "retry.poison_after", 9.0),
    ("SHIPPER_SPOOLING_QUOTA", "99999999", "spooling.quota", 99999999),
    ("SHIPPER_SPOOLING_WHEN_FULL", "newest", "spooling.when_full", "newest"),
    ("SHIPPER_SPOOLING_SEGMENT", "8192", "spooling.segment", 8192),
    ("SHIPPER_SPOOLING_FSYNC", "2", "spooling.fsync", 2.0),
    ("SHIPPER_SPOOLING_DEAD", "8192", "spooling.dead", 8192),
    ("SHIPPER_REDACT_ENABLED", "no", "redact.enabled", False),
    ("SHIPPER_REDACT_KEYS", "iban, tax id", "redact.keys", ("iban", "tax id")),
    ("SHIPPER_REDACT_MASK", "***", "redact.mask", "***"),
]


def found(settings: Settings, path: str) -> object:
    value: object = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(("variable", "text", "path", "value"), FROM_ENVIRONMENT)
def test_each_setting_can_come_from_the_environment(variable: str, text: str, path: str, value: object) -> None:
    settings = resolve((), {}, {**KEY, variable: text})

    assert found(settings, path) == value


@pytest.mark.parametrize(
    ("variable", "text", "given"),
    [
        ("SHIPPER_APP", "other", {"app": "mine"}),
        ("SHIPPER_SPOOL", "/other", {"spool": "/mine"}),
        ("SHIPPER_LEVEL", "DEBUG", {"level": 40}),
        ("SHIPPER_OVERFLOW", "65536", {"overflow": 1 << 20}),
        ("SHIPPER_GRACE", "1", {"grace": 2.0}),
        ("SHIPPER_PYTHON", "/other", {"python": sys.executable}),
        ("SHIPPER_BATCHING_MAX_EVENTS", "7", {"batching": Batching(max_events=8)}),
        ("SHIPPER_RETRY_INITIAL", "7", {"retry": Retry(initial=8)}),
        ("SHIPPER_SPOOLING_FSYNC", "7", {"spooling": Spooling(fsync=8)}),
        ("SHIPPER_REDACT_MASK", "x", {"redact": Redact(mask="y")}),
    ],
)
def test_a_keyword_wins_over_the_environment(variable: str, text: str, given: dict[str, Any]) -> None:
    settings = resolve((), given, {**KEY, variable: text})

    ((name, value),) = given.items()
    assert getattr(settings, name) == value


def test_backends_come_from_the_environment_with_all_their_settings() -> None:
    settings = resolved(
        {
            "SHIPPER_TRAKERR_URL": "http://127.0.0.1:1/v1",
            "SHIPPER_TRAKERR_TAGS": "web,eu",
            "SHIPPER_TRAKERR_TIMEOUT": "1,2",
            "SHIPPER_TRAKERR_LEVEL": "info",
            "SHIPPER_JKOOL_TOKEN": "token",
            "SHIPPER_JKOOL_HANDSHAKE": "off",
        }
    )

    trakerr = Trakerr("key", url="http://127.0.0.1:1/v1", tags=("web", "eu"), timeout=(1, 2), level=20)
    assert settings.backends == (trakerr, JKool("token", handshake=False))


PLUGIN = """
from dataclasses import dataclass
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from decimal import Decimal
from plugged_base import Base
@dataclass(frozen=True, kw_only=True)
class Plugged(Base):
    name: str = "plugged"
    level: int = 0
    max_events: int = 100
    max_in_flight: int = 1
    size: int = 3
    exact: Decimal | None = None
    def open(self, context): pass
    def send(self, events): return [None for _ in events]
    def close(self): pass
"""
PLUGIN_BASE = """
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path as Place
@dataclass(frozen=True, kw_only=True)
class Base:
    folder: Place | None = None
"""


@pytest.fixture(params=["postponed", "deferred"])
def plugged(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A backend of another distribution. A name in one of its annotations is defined for type checkers only."""
    if request.param == "deferred" and sys.version_info < (3, 14):
        pytest.skip("annotations are evaluated at once before Python 3.14")
    postponed = "from __future__ import annotations\n" if request.param == "postponed" else ""
    information = tmp_path / "plugged-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[shipper.backends]\nplugged = plugged:Plugged\n")
    (tmp_path / "plugged.py").write_text(postponed + PLUGIN)
    (tmp_path / "plugged_base.py").write_text(PLUGIN_BASE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("plugged", "plugged_base"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("plugged")
def test_a_backend_whose_types_only_a_type_checker_knows_comes_from_the_environment() -> None:
    (backend,) = resolved(
        {"SHIPPER_BACKENDS": "plugged", "SHIPPER_PLUGGED_SIZE": "5", "SHIPPER_PLUGGED_FOLDER": "/srv"}
    ).backends

    assert (backend.size, backend.folder, backend.exact) == (5, Path("/srv"), None)


@pytest.mark.usefixtures("plugged")
def test_a_variable_of_such_a_type_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"SHIPPER_PLUGGED_EXACT='5'.*'Decimal' is not defined"):
        resolved({"SHIPPER_BACKENDS": "plugged", "SHIPPER_PLUGGED_EXACT": "5"})


def test_backends_that_are_given_are_the_only_ones() -> None:
    assert resolved({}, JKool("t")).backends == (JKool("t"),)


def test_without_a_backend_the_error_names_both_ways_to_give_one() -> None:
    with pytest.raises(ConfigurationError, match=r"shipper\.start\(.*SHIPPER_TRAKERR_API_KEY or SHIPPER_JKOOL_TOKEN"):
        resolve((), {"app": "test"}, {})


@pytest.mark.parametrize(
    ("variable", "text", "setting"),
    [
        ("SHIPPER_APP", "a b", "app"),
        ("SHIPPER_LEVEL", "LOUD", "level"),
        ("SHIPPER_OVERFLOW", "8 boxes", "SHIPPER_OVERFLOW"),
        ("SHIPPER_OVERFLOW", "1", "overflow"),
        ("SHIPPER_GRACE", "soon", "SHIPPER_GRACE"),
        ("SHIPPER_GRACE", "nan", "grace"),
        ("SHIPPER_BATCHING_MAX_EVENTS", "1.5", "SHIPPER_BATCHING_MAX_EVENTS"),
        ("SHIPPER_BATCHING_MAX_EVENTS", "0", "batching.max_events"),
        ("SHIPPER_RETRY_MAXIMUM", "-1", "retry.maximum"),
        ("SHIPPER_SPOOLING_WHEN_FULL", "both", "spooling.when_full"),
        ("SHIPPER_REDACT_ENABLED", "perhaps", "SHIPPER_REDACT_ENABLED"),
        ("SHIPPER_TRAKERR_API_KEY", "", "Trakerr.api_key"),
        ("SHIPPER_TRAKERR_URL", "gopher://x", "Trakerr.url"),
        ("SHIPPER_JKOOL_TOKEN", " ", "JKool.token"),
        ("SHIPPER_BACKENDS", "nobody", "SHIPPER_BACKENDS"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, setting: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        resolve((), {} if variable == "SHIPPER_APP" else {"app": "test"}, {**KEY, variable: text})

    assert setting in (told.value.setting, variable)
    assert told.value.allowed


@pytest.mark.parametrize(
    ("variable", "allowed"),
    [
        ("SHIPPER_GRACE", "must be a number"),
        ("SHIPPER_BATCHING_MAX_EVENTS", "must be a whole number"),
        ("SHIPPER_REDACT_ENABLED", "must be yes or no"),
        ("SHIPPER_TRAKERR_TIMEOUT", "must be a number, a number, separated by commas"),
    ],
)
def test_an_error_says_in_words_what_is_allowed(variable: str, allowed: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        resolve((), {"app": "test"}, {**KEY, variable: "x"})

    assert str(told.value) == f"{variable}='x': {allowed}"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("SHIPPER_APP", "a b"),
        ("SHIPPER_SPOOL", "a\0b"),
        ("SHIPPER_LEVEL", "LOUD"),
        ("SHIPPER_OVERFLOW", "1"),
        ("SHIPPER_GRACE", "-1"),
        ("SHIPPER_PYTHON", "/no/such/python"),
        ("SHIPPER_BATCHING_MAX_EVENTS", "0"),
        ("SHIPPER_RETRY_INITIAL", "100"),
        ("SHIPPER_RETRY_MAXIMUM", "0.1"),
        ("SHIPPER_SPOOLING_QUOTA", "1 MiB"),
        ("SHIPPER_SPOOLING_SEGMENT", "1 GiB"),
        ("SHIPPER_SPOOLING_WHEN_FULL", "both"),
        ("SHIPPER_REDACT_PATTERNS", "("),
        ("SHIPPER_BACKENDS", "trakker"),
        ("SHIPPER_TRAKERR_API_KEY", "<api-key>"),
        ("SHIPPER_TRAKERR_URL", ""),
        ("SHIPPER_TRAKERR_URL", "https://<host>/api"),
        ("SHIPPER_TRAKERR_TIMEOUT", "1"),
        ("SHIPPER_TRAKERR_LEVEL", "LOUD"),
        ("SHIPPER_TRAKERR_MAX_IDLE", "-1"),
        ("SHIPPER_TRAKERR_CLIENT_CERT", "/no/such/file"),
        ("SHIPPER_JKOOL_TOKEN", "${TOKEN}"),
        ("SHIPPER_JKOOL_URL", "https://data.jkoolcloud.com:x"),
        ("SHIPPER_JKOOL_KEYS", "2017"),
    ],
)
def test_an_error_names_the_variable_that_the_value_came_from(variable: str, text: str) -> None:
    variables = {**KEY, "SHIPPER_JKOOL_TOKEN": "token", variable: text}
    with pytest.raises(ConfigurationError) as told:
        resolve((), {} if variable == "SHIPPER_APP" else {"app": "test"}, variables)

    assert str(told.value).startswith(f"{variable}="), str(told.value)


def test_an_error_of_a_keyword_names_the_keyword() -> None:
    with pytest.raises(ConfigurationError) as told:
        resolved({"SHIPPER_LEVEL": "INFO"}, level="LOUD")

    assert str(told.value).startswith("level='LOUD': ")


def test_an_error_of_the_spool_names_its_variable_too(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is only found when the spool's folder is opened."""
    (spool / "file").write_text("")
    monkeypatch.setenv("SHIPPER_SPOOL", str(spool / "file"))

    with pytest.raises(ConfigurationError, match=r"^SHIPPER_SPOOL="):
        shipper.start(Trakerr("key"), app="test")


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("SHIPPER_LEVL", "SHIPPER_LEVEL"),
        ("shipper_level", "SHIPPER_LEVEL"),
        ("SHIPPER_BACKEND", "SHIPPER_BACKENDS"),
        ("SHIPPER_TRAKERR_APIKEY", "SHIPPER_TRAKERR_API_KEY"),
        ("SHIPPER_TRAKER_API_KEY", "SHIPPER_TRAKERR_API_KEY"),
        ("SHIPPER_JKOOL_ACCESS_TOKEN", "SHIPPER_JKOOL_TOKEN"),
        ("SHIPPER_SPOOL_QUOTA", "SHIPPER_SPOOLING_QUOTA"),
        ("SHIPPER_RETRY_MAX", "SHIPPER_RETRY_MAXIMUM"),
    ],
)
def test_an_unknown_variable_is_told_with_the_most_similar_one(variable: str, nearest: str) -> None:
    with pytest.warns(UserWarning, match=rf"^{variable} is not a variable of shipper; did you mean {nearest}\?$"):
        resolved({variable: "5"})


def test_an_unknown_variable_that_resembles_none_is_told() -> None:
    with pytest.warns(UserWarning, match=r"^SHIPPER_XYZ is not a variable of shipper$"):
        resolved({"SHIPPER_XYZ": "5"})


def test_a_misspelt_key_is_told_where_no_backend_is_configured() -> None:
    with pytest.raises(ConfigurationError, match=r"SHIPPER_TRAKERR_KEY is .*did you mean SHIPPER_TRAKERR_API_KEY\?"):
        resolve((), {"app": "test"}, {"SHIPPER_TRAKERR_KEY": "key"})


def test_a_known_variable_is_not_told() -> None:
    """Nor are those of backends that are not used. A warning would be an error in this test run."""
    resolved({"SHIPPER_JKOOL_KEYS": "tnt4j", "SHIPPER_HTTP_PREFIX": "{}", "SHIPPER_REDACT_MASK": "x", "SHIPPERS": "x"})
