"""What can be set: keyword, environment, defaults; a wrong value is told before anything is started."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper import Batching, ConfigurationError, JKool, Redact, Retry, Spooling, Trakerr
from shipper.application.lifecycle import current
from shipper.backends.memory import Memory
from shipper.config.environment import resolve
from shipper.config.settings import Settings
from shipper.spool.layout import Spool

from ..support.waiting import PATIENCE

KEY = {"SHIPPER_TRAKERR_API_KEY": "key"}


def resolved(environ: dict[str, str] | None = None, *backends: Any, **given: Any) -> Settings:
    return resolve(backends, {"app": "test", **given}, {**KEY, **(environ or {})})


# -- precedence ------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_groups() -> None:
    settings = resolved()

    assert (settings.level, settings.grace, settings.overflow, settings.python) == (0, 30.0, 8 * 2**20, "")
    assert (settings.batching, settings.retry, settings.spooling) == (Batching(), Retry(), Spooling())
    assert settings.redact == Redact()
    assert settings.cwd == os.getcwd()


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


def test_backends_that_are_given_are_the_only_ones() -> None:
    assert resolved({}, JKool("t")).backends == (JKool("t"),)


def test_no_backend_at_all_is_an_error_that_says_both_ways() -> None:
    with pytest.raises(ConfigurationError, match=r"shipper\.start\(.*SHIPPER_TRAKERR_API_KEY or SHIPPER_JKOOL_TOKEN"):
        resolve((), {"app": "test"}, {})


def test_a_relative_spool_is_in_the_working_directory_for_the_shipper_process_too() -> None:
    assert resolved({}, spool="here").spool == os.path.join(os.getcwd(), "here")
    assert resolved({}, spool=Path("here")).spool == os.path.join(os.getcwd(), "here")


def test_a_spool_below_the_home_is_not_a_folder_of_the_name_tilde() -> None:
    settings = resolved({"SHIPPER_SPOOL": "~/here"})

    assert settings.spool == os.path.expanduser("~/here")
    assert Spool("~/here").path == settings.spool


# -- what is wrong ---------------------------------------------------------------------------------------------------

WRONG_KEYWORDS = [
    ("app", ""), ("app", "a/b"), ("app", ".hidden"), ("app", "x" * 101), ("app", 7), ("app", "ä"), ("app", "a\n"),
    ("spool", ""), ("spool", "a\0b"), ("spool", 7), ("spool", b"/tmp/x"), ("spool", "\ud800"),
    ("level", "LOUD"), ("level", 1.5), ("level", True), ("level", []),
    ("batching", 5), ("retry", {}), ("spooling", "x"), ("redact", True),
    ("overflow", 65535), ("overflow", 1e6), ("overflow", "1 XB"), ("overflow", True),
    ("grace", -1), ("grace", 1e10), ("grace", float("nan")), ("grace", float("inf")), ("grace", "30"),
    ("python", 3), ("python", "a\0b"),
    ("before_send", "no function"), ("context", {}), ("logger", 7), ("logger", ...),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), WRONG_KEYWORDS, ids=repr)
def test_a_wrong_keyword_is_named_and_nothing_is_started(setting: str, value: Any, spool: Path) -> None:
    folder = spool / "made"

    with pytest.raises(ConfigurationError) as told:
        shipper.start(Trakerr("key"), **{"app": "test", "spool": folder, setting: value})

    assert told.value.setting == setting
    assert told.value.allowed
    assert repr(value) in str(told.value)
    assert not folder.exists()
    assert current() is None


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
def test_what_a_variable_may_be_is_said_in_words(variable: str, allowed: str) -> None:
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
    """It is found when the folder is opened."""
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
    """Those of backends that are not used neither. Warnings are errors in this test run."""
    resolved({"SHIPPER_JKOOL_KEYS": "tnt4j", "SHIPPER_HTTP_PREFIX": "{}", "SHIPPER_REDACT_MASK": "x", "SHIPPERS": "x"})


@pytest.mark.parametrize(
    ("call", "wrong", "nearest"),
    [
        (lambda **given: shipper.start(Trakerr("key"), **given), "spol", "spool"),
        (lambda **given: Trakerr("key", **given), "app_versoin", "app_version"),
        (lambda **given: Trakerr("key", **given), "client_certs", "client_cert"),
        (lambda **given: JKool("token", **given), "source_fnq", "source_fqn"),
        (Batching, "max_event", "max_events"),
        (Retry, "inital", "initial"),
        (Spooling, "Quota", "quota"),
        (Redact, "pattern", "patterns"),
    ],
)
def test_an_unknown_keyword_is_told_with_the_most_similar_one(call: Any, wrong: str, nearest: str) -> None:
    with pytest.raises(TypeError, match=rf"'{wrong}'; did you mean {nearest}\?"):
        call(**{wrong: 1})


@pytest.mark.parametrize(
    "placeholder", ["<api-key>", " <your api key here> ", "${API_KEY}", "$API_KEY", "{{ api_key }}", "%API_KEY%", "<>"]
)
def test_a_placeholder_in_place_of_a_key_is_refused(placeholder: str) -> None:
    for kind in (Trakerr, JKool):
        with pytest.raises(ConfigurationError, match="placeholder"):
            kind(placeholder)


@pytest.mark.parametrize("key", ["a<b>c", "$ecret!", "%41", "{a", "k${x}", "5<6"])
def test_a_key_with_unusual_signs_is_no_placeholder(key: str) -> None:
    assert Trakerr(key).api_key == key


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("99999999", 99999999), ("100MB", 10**8), ("100 mb", 10**8), ("96 MiB", 96 * 2**20), ("96m", 96 * 2**20),
        ("96Mi", 96 * 2**20), ("1GiB", 2**30), ("1.5gib", 3 * 2**29), ("1T", 2**40), (" 200000 KB ", 2 * 10**8),
        ("99999999B", 99999999),
    ],
)  # fmt: skip
def test_sizes_take_units(text: str, size: int) -> None:
    assert Spooling(quota=text).quota == size
    assert resolved({"SHIPPER_SPOOLING_QUOTA": text}).spooling.quota == size
    assert resolved({}, overflow=text).overflow == size
    assert Batching(max_bytes=text).max_bytes == size


@pytest.mark.parametrize("text", ["", "MiB", "1 PiB", "-1 MiB", "1,5 MiB", "1 MiB 5", "1e9", "0x10", "١ MiB"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="1 GiB"):
        Spooling(quota=text)


def test_names_are_taken_in_any_case() -> None:
    assert Spooling(when_full="NEWEST").when_full == "newest"
    assert Trakerr("key", batch="Array").batch == "array"
    assert JKool("token", keys="TNT4J", special_numbers="Enquote", batch="LINES") == JKool(
        "token", keys="tnt4j", special_numbers="enquote", batch="lines"
    )
    assert resolved({"SHIPPER_BACKENDS": "Trakerr,JKOOL", "SHIPPER_JKOOL_TOKEN": "t"}).backends == (
        Trakerr("key"),
        JKool("t"),
    )


def test_an_error_shows_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ConfigurationError) as told:
        resolved({}, app="x" * 100_000)

    assert len(str(told.value)) < 400


def test_an_error_survives_a_value_that_can_not_be_shown() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ConfigurationError) as told:
        resolved({}, Trakerr("key", tags=Shy()))  # type: ignore[arg-type]

    assert "Trakerr.tags=<Shy instance at" in str(told.value)


class Nameless:
    level = 0


class Local(Memory):
    """As if it had been written in a script."""


Local.__module__ = "__main__"


class Half:
    name = "half"
    level = 0


@pytest.mark.parametrize(
    "backend", ["api-key", None, 7, Nameless(), Trakerr, Memory, Half(), Local(), object()],
    ids=lambda backend: type(backend).__name__,
)
def test_what_is_no_backend_is_refused_and_a_key_in_its_place_not_shown(backend: object) -> None:
    with pytest.raises(ConfigurationError) as told:
        resolved({}, backend)

    assert told.value.setting == "backends"
    assert "api-key" not in str(told.value)


@pytest.mark.parametrize(
    "backend",
    [
        Memory(name="a/b"), Memory(name=""), Memory(level=-1), Memory(level="x"),  # type: ignore[arg-type]
        Memory(max_events=0), Memory(max_in_flight=0),
    ],
)  # fmt: skip
def test_a_backend_with_a_wrong_value_is_refused(backend: Memory) -> None:
    with pytest.raises(ConfigurationError, match=r"Memory\."):
        resolved({}, backend)


def test_two_backends_of_one_name_need_another() -> None:
    with pytest.raises(ConfigurationError, match="two names"):
        resolved({}, Trakerr("a"), Trakerr("b"))

    assert len(resolved({}, Trakerr("a"), Trakerr("b", name="second")).backends) == 2


def test_a_backend_that_does_not_pickle_is_refused(spool: Path) -> None:
    with pytest.raises(ConfigurationError, match="must pickle"):
        shipper.start(Memory(answers=lambda event: None), app="test", spool=spool)

    assert current() is None


@pytest.mark.parametrize("plant", ["file", "open", "link", "not a fifo"])
def test_a_spool_that_is_not_ours_alone_is_refused(spool: Path, plant: str) -> None:
    folder = spool / "there"
    if plant == "file":
        folder.write_text("")
    elif plant == "open":
        folder.mkdir()
        folder.chmod(0o755)
    elif plant == "link":
        (spool / "real").mkdir(mode=0o700)
        folder.symlink_to(spool / "real")
    else:
        folder.mkdir(mode=0o700)
        (folder / "queue").write_text("")

    with pytest.raises(ConfigurationError) as told:
        shipper.start(Trakerr("key"), app="test", spool=folder)

    assert told.value.setting == "spool"
    assert current() is None


def test_a_path_that_is_too_long_is_refused(spool: Path) -> None:
    with pytest.raises(ConfigurationError, match="bytes"):
        shipper.start(Trakerr("key"), app="test", spool=spool / "x" / ("y" * 1000))


@pytest.mark.parametrize("timeout", [-1, True, "5", None, float("nan"), float("inf")])
def test_a_wrong_timeout_is_refused(timeout: Any) -> None:
    for call in (shipper.stop, shipper.flush):
        with pytest.raises(ConfigurationError, match="timeout"):
            call(timeout)


# -- what travels ----------------------------------------------------------------------------------------------------


def test_secrets_are_neither_in_the_repr_nor_in_the_digest() -> None:
    settings = resolved({}, Trakerr("my-api-key"), JKool("my-token"))

    assert "my-" not in repr(settings) + settings.digest


def test_what_goes_to_the_process_is_the_settings() -> None:
    settings = resolved({}, Trakerr("my-api-key"), JKool("my-token"))

    assert pickle.loads(settings.for_process()) == settings


def test_the_digest_tells_what_the_process_must_be_replaced_for() -> None:
    base = resolved({}, Trakerr("key"))
    same = [resolved({}, Trakerr("key"), level=40), resolved({}, Trakerr("key"), overflow=1 << 20)]
    others = [
        resolved({}, Trakerr("other")),
        resolved({}, Trakerr("key"), JKool("t")),
        resolved({}, Trakerr("key"), grace=1.0),
        resolved({}, Trakerr("key"), retry=Retry(initial=0.1)),
        resolved({}, Trakerr("key"), batching=Batching(max_age=2)),
        resolved({}, Trakerr("key"), spooling=Spooling(fsync=1)),
        resolved({}, Trakerr("key"), app="other"),
    ]

    assert {each.digest for each in same} == {base.digest}
    assert len({base.digest, *(each.digest for each in others)}) == len(others) + 1


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolved().app = "other"  # type: ignore[misc]


# -- the default app -------------------------------------------------------------------------------------------------

TELL = "from shipper.config.app_name import default_app\nprint(default_app(), flush=True)\n"
SPAWN = """
import multiprocessing
from shipper.config.app_name import default_app
def tell(_=None):
    return default_app()
if __name__ == "__main__":
    names = {default_app()}
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            names.update(pool.map(tell, [0]))
    print(*names)
"""


def told(*command: str, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_script_is_named_after_its_file_wherever_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TELL)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "shop.py").write_text(TELL)

    names = {
        told(sys.executable, "shop.py", cwd=tmp_path),
        told(sys.executable, "shop.py", "--port", "80", cwd=tmp_path),
        told(sys.executable, "../shop.py", cwd=tmp_path / "sub"),
        told(sys.executable, str(tmp_path / "shop.py"), cwd=Path("/")),
    }
    other = told(sys.executable, "shop.py", cwd=tmp_path / "sub")

    assert len(names) == 1
    assert names.pop().startswith("shop-")
    assert other.startswith("shop-")
    assert other not in names


def test_a_package_that_is_run_is_named_after_its_folder(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "__main__.py").write_text(TELL)
    (tmp_path / "shop" / "job.py").write_text(TELL)

    assert told(sys.executable, "-m", "shop", cwd=tmp_path).startswith("shop-")
    assert told(sys.executable, "-m", "shop.job", cwd=tmp_path).startswith("job-")


def test_children_of_every_start_method_have_their_parents_name(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SPAWN)

    names = told(sys.executable, "shop.py", cwd=tmp_path).split()

    assert len(names) == 1


def test_a_command_and_a_script_from_stdin_are_named_after_their_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = {told(sys.executable, "-c", TELL, cwd=tmp_path), told(sys.executable, "-", cwd=tmp_path, stdin=TELL)}

    assert len(names) == 1
    assert names.pop().startswith("python-")
    assert told(sys.executable, "-c", TELL, cwd=tmp_path / "other") not in names


def test_an_installed_server_is_named_after_itself_its_folder_and_its_application(tmp_path: Path) -> None:
    environment = tmp_path / "venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python3").symlink_to(sys.executable)
    server = environment / "server"
    server.write_text(
        "import importlib, sys\nsys.path.insert(0, '')\nimportlib.import_module(sys.argv[1].split(':')[0])\n" + TELL
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text("")

    first = told(sys.executable, str(server), "one:app", cwd=tmp_path)

    assert first.startswith("server-")
    assert told(sys.executable, str(server), "one:app", "--workers", "3", cwd=tmp_path) == first
    assert told(sys.executable, str(server), "two:app", cwd=tmp_path) != first
    assert told(sys.executable, str(server), "one:app", cwd=tmp_path / "one") != first


def test_a_working_directory_that_is_gone_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = f"import os\nos.rmdir(os.getcwd())\n{TELL}from shipper.config.environment import resolve\n"
    code += "print(resolve((), {}, {'SHIPPER_TRAKERR_API_KEY': 'k'}).cwd)"

    assert told(sys.executable, "-c", code, cwd=tmp_path / "gone").endswith("/")


def test_levels_are_numbers_and_names_in_any_case() -> None:
    assert [resolved({}, level=level).level for level in (0, 25, "info", "WARNING", logging.ERROR)] == [
        0,
        25,
        20,
        30,
        40,
    ]
