"""An event whose encoding twice kills the process is rejected; a process killed by something else costs no event."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shipper.delivery.blame.crash_guard import CrashGuard
from shipper.errors import DeliveryError, RejectedError
from shipper.event.model import Event, EventId

from ..support.forks import in_a_child

TOKEN = b"tokentok"


def event(seq: int, message: str = "good") -> Event:
    return Event(message=message, id=EventId(TOKEN, seq))


class Killer:
    """Is killed when it encodes an event with the message "bad"; raises KeyError for "raises". Sends nothing."""

    name, max_in_flight = "killer", 2

    def __init__(self, max_events: int = 1, *, dies: Callable[[Event], bool] = lambda event: event.message == "bad"):
        self.max_events = max_events
        self.encoded: list[list[int]] = []
        self._dies = dies

    def encode(self, events: Sequence[Event]) -> Callable[[], Sequence[DeliveryError | None]]:
        self.encoded.append([event.id.seq for event in events if event.id is not None])
        if any(map(self._dies, events)):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(event.message == "raises" for event in events):
            raise KeyError("x")
        return lambda: [None] * len(events)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "killer.encoding")


def dies(path: str, events: list[Event], backend: Killer) -> bool:
    """Whether a child process is killed while it sends the events."""
    return in_a_child(lambda: _send(CrashGuard(backend, path), events)) == -signal.SIGKILL


def _send(guard: CrashGuard, events: list[Event]) -> None:
    guard.send(events)


def kinds(answers: Sequence[DeliveryError | None]) -> list[type]:
    return [
        type(None) if answer is None or not isinstance(answer, RejectedError) else RejectedError for answer in answers
    ]


def test_an_event_that_twice_kills_the_process_is_rejected(path: str) -> None:
    for _ in range(2):
        assert dies(path, [event(1, "bad")], Killer())

    backend = Killer()
    answers = CrashGuard(backend, path).send([event(1, "bad")])

    assert kinds(answers) == [RejectedError]
    assert "kills the process" in str(answers[0])
    assert backend.encoded == []


def test_in_a_batch_only_the_event_that_kills_is_rejected(path: str) -> None:
    events = [event(1), event(2, "bad"), event(3)]
    deaths = 0
    while dies(path, events, Killer(500)):
        deaths += 1
        assert deaths <= 3

    answers = CrashGuard(Killer(500), path).send(events)

    assert kinds(answers) == [type(None), RejectedError, type(None)]


def test_an_event_that_was_being_encoded_when_the_process_was_killed_once_is_delivered(path: str) -> None:
    assert dies(path, [event(1, "bad")], Killer())

    backend = Killer()
    guard = CrashGuard(backend, path)
    answers = guard.send([event(1, "good this time")])

    assert list(answers) == [None]
    assert backend.encoded == [[1], [1]]


def test_a_suspect_that_is_acquitted_needs_two_more_deaths(path: str) -> None:
    assert dies(path, [event(1, "bad")], Killer())
    CrashGuard(Killer(), path).send([event(1)])

    assert dies(path, [event(1, "bad")], Killer())

    assert list(CrashGuard(Killer(), path).send([event(1)])) == [None]


def test_a_rejected_event_stays_rejected_when_the_process_dies_of_something_else(path: str) -> None:
    """Its dead letter may not be written yet."""
    for _ in range(2):
        assert dies(path, [event(1, "bad")], Killer())
    assert dies(path, [event(7, "bad")], Killer())

    answers = CrashGuard(Killer(), path).send([event(1, "bad")])

    assert kinds(answers) == [RejectedError]


def test_a_suspect_is_not_blamed_for_the_death_of_another_event(path: str) -> None:
    assert dies(path, [event(1), event(2, "bad")], Killer(500))
    for _ in range(3):
        dies(path, [event(2, "bad")], Killer(500))

    assert list(CrashGuard(Killer(500), path).send([event(1)])) == [None]


def test_an_encoder_that_raises_kills_nothing(path: str) -> None:
    guard = CrashGuard(Killer(), path)
    for _ in range(3):
        with pytest.raises(KeyError):
            guard.send([event(1, "raises")])

    assert list(CrashGuard(Killer(), path).send([event(1)])) == [None]


def test_a_suspect_whose_encoder_raises_is_acquitted_and_raises_when_it_is_sent(path: str) -> None:
    assert dies(path, [event(1, "bad")], Killer())

    with pytest.raises(KeyError):
        CrashGuard(Killer(), path).send([event(1, "raises")])


def test_without_a_file_for_notes_events_are_delivered_all_the_same(tmp_path: Path) -> None:
    guard = CrashGuard(Killer(), str(tmp_path / "missing" / "killer.encoding"))

    assert list(guard.send([event(1)])) == [None]


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100_000, b"\0" * 40_000, os.urandom(30_000)], ids=lambda c: f"{len(c)}"
)
def test_any_content_of_the_file_is_survived(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    os.chmod(path, 0o600)

    assert list(CrashGuard(Killer(), path).send([event(1)])) == [None]
