"""The backend for tests, and finding backends by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipper.backends import registry
from shipper.backends.memory import Memory
from shipper.backends.protocol import AppContext, Backend
from shipper.errors import ConfigurationError, RejectedError, RetryableError
from shipper.event.model import Event


def events(*messages: str) -> list[Event]:
    return [Event(message=message) for message in messages]


def test_memory_keeps_what_it_is_sent() -> None:
    backend = Memory()
    context = AppContext("a", "/", "h", "127.0.0.1", lambda time: None)
    backend.open(context)
    first, second = events("a", "b"), events("c")

    assert isinstance(backend, Backend)
    assert list(backend.send(first)) == [None, None]
    assert list(backend.send(second)) == [None]
    backend.close()

    assert backend.events == [*first, *second]
    assert backend.batches == [first, second]
    assert backend.context is context
    assert backend.closed


def test_memory_answers_from_a_list_and_then_takes_everything() -> None:
    later, never = RetryableError("later"), RejectedError("never")
    backend = Memory("m", 10, answers=[later, None, never])
    sent = events("a", "b", "c", "d")

    assert list(backend.send(sent)) == [later, None, never, None]
    assert backend.sent == sent
    assert [event.message for event in backend.events] == ["b", "d"]
    assert (backend.name, backend.level) == ("m", 10)


def test_memory_can_ask_a_function_for_its_answers() -> None:
    never = RejectedError("never")
    backend = Memory(answers=lambda event: never if event.message == "bad" else None)

    assert list(backend.send(events("good", "bad"))) == [None, never]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with backends of its own."""
    information = tmp_path / "plug-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[shipper.backends]\nnull = shipper.backends.memory:Memory\ngone = no.such.module:Thing\nodd = os:sep\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugin")
def test_an_installed_backend_is_found_by_its_name() -> None:
    assert "null" in registry.names()
    assert registry.find("null") is Memory


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("name", ["unheard-of", "gone", "odd"])
def test_a_backend_that_cannot_be_imported_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry.find(name)

    assert caught.value.setting == "backend"
    assert caught.value.value == name


@pytest.mark.usefixtures("plugin")
def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="null"):
        registry.find("unheard-of")
