"""The settings and their checks; a wrong value is refused before anything is started."""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import shipper
from shipper import Batching, ConfigurationError, JKool, Redact, Retry, Spooling, Trakerr
from shipper.application.lifecycle import current
from shipper.backends.memory import Memory
from shipper.config.environment import resolve
from shipper.config.settings import Settings, identity
from shipper.spool.layout import Spool

KEY = {"SHIPPER_TRAKERR_API_KEY": "key"}


def resolved(environ: dict[str, str] | None = None, *backends: Any, **given: Any) -> Settings:
    return resolve(backends, {"app": "test", **given}, {**KEY, **(environ or {})})


def test_defaults_are_those_of_the_groups() -> None:
    settings = resolved()

    assert (settings.level, settings.grace, settings.overflow, settings.python) == (0, 30.0, 8 * 2**20, "")
    assert (settings.batching, settings.retry, settings.spooling) == (Batching(), Retry(), Spooling())
    assert settings.redact == Redact()
    assert settings.cwd == os.getcwd()


def test_a_relative_spool_becomes_absolute() -> None:
    assert resolved({}, spool="here").spool == os.path.join(os.getcwd(), "here")
    assert resolved({}, spool=Path("here")).spool == os.path.join(os.getcwd(), "here")


def test_a_tilde_in_the_spool_is_expanded() -> None:
    settings = resolved({"SHIPPER_SPOOL": "~/here"})

    assert settings.spool == os.path.expanduser("~/here")
    assert Spool("~/here").path == settings.spool


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
    """A backend class of a script: its module is ``__main__``."""


Local.__module__ = "__main__"


class Half:
    name = "half"
    level = 0


@pytest.mark.parametrize(
    "backend", ["api-key", None, 7, Nameless(), Trakerr, Memory, Half(), Local(), object()],
    ids=lambda backend: type(backend).__name__,
)
def test_a_value_that_is_no_backend_is_refused_and_a_key_is_hidden(backend: object) -> None:
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
def test_a_spool_that_others_can_read_is_refused(spool: Path, plant: str) -> None:
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


def test_secrets_are_neither_in_the_repr_nor_in_the_digest() -> None:
    settings = resolved({}, Trakerr("my-api-key"), JKool("my-token"))

    assert "my-" not in repr(settings) + settings.digest


def test_settings_pickle() -> None:
    settings = resolved({}, Trakerr("my-api-key"), JKool("my-token"))

    assert pickle.loads(settings.for_process()) == settings


def test_the_digest_depends_on_what_the_process_uses() -> None:
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


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        resolved().app = "other"  # type: ignore[misc]


def test_levels_are_numbers_and_names_in_any_case() -> None:
    assert [resolved({}, level=level).level for level in (0, 25, "info", "WARNING", logging.ERROR)] == [
        0,
        25,
        20,
        30,
        40,
    ]


def test_names_that_clients_make_of_identities_are_those_of_the_first_release() -> None:
    """So a client still finds the events that an earlier release has kept for it."""
    trakerr = shipper.Trakerr("k", url="http://a/b", level=0, max_in_flight=1, timeout=(3.05, 10))
    jkool = shipper.JKool("t", "http://a", level=0, max_in_flight=1)

    assert (identity(trakerr), identity(jkool)) == ("847ddc74", "73694e57")
    assert identity(dataclasses.replace(trakerr, keepalive=1.0)) != identity(trakerr)
