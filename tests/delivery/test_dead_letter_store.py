"""Dead letters that commands replay and delete, while the shipper process writes, and when commands are killed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.delivery.dead.store import DeadLettersError, DeadLetterStore, backends_with_letters
from shipper.delivery.dead.writer import DeadLetters
from shipper.errors import RejectedError
from shipper.event.codec import unpack
from shipper.event.exceptions import capture_exceptions
from shipper.event.model import Event, EventId
from shipper.spool.layout import Spool
from shipper.transport import frame
from shipper.transport.memory.orphans import orphaned_overflows

from ..support.forks import killed_at

TOKEN = b"deadbeef"


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


def write(place: Spool, *numbers: int, backend: str = "trakerr", **fields: Any) -> None:
    letters = DeadLetters(place.dead, backend, limit=64 * 1024 * 1024)
    for number in numbers:
        id = EventId(TOKEN, number)
        letters.write(id, Event(message=f"event {number}", id=id, **fields), RejectedError("HTTP 400", status=400))


def messages(place: Spool, backend: str = "trakerr") -> list[str]:
    return [letter.message for letter in DeadLetterStore(place, backend).letters()]


def handed_over(place: Spool) -> list[Event]:
    """The events in the overflows that the shipper process would take over."""
    found = []
    for orphan in orphaned_overflows(place.overflow_on_disk, ()):
        frames = orphan.frames
        views = frame.scan(frames, complete=True).frames
        assert all(view.parts == 1 for view in views)
        found += [unpack(frames[view.payload_start : view.end], EventId(view.token, view.seq)) for view in views]
        orphan.close()
    return found


def every(letter: object) -> bool:
    return True


def test_letters_are_listed_from_all_files_oldest_first(place: Spool) -> None:
    write(place, 1)
    os.rename(f"{place.dead}/trakerr.ndjson", f"{place.dead}/trakerr.ndjson.1")
    write(place, 2)
    write(place, 9, backend="jkool")

    assert messages(place) == ["event 1", "event 2"]
    assert backends_with_letters(place) == ["jkool", "trakerr"]


def test_a_replayed_letter_is_an_event_with_the_same_id_for_its_backend_alone(place: Spool) -> None:
    try:
        raise KeyError("card")
    except KeyError as error:
        exceptions = capture_exceptions(error)
    write(place, 7, level=40, extra={"amount": 1.5, "items": ["tea"]}, exceptions=exceptions, route=("a", "trakerr"))

    assert DeadLetterStore(place, "trakerr").replay(every) == 1

    (event,) = handed_over(place)
    assert (event.id, event.route, event.level) == (EventId(TOKEN, 7), ("trakerr",), 40)
    assert (event.message, event.extra, event.data) == ("event 7", {"amount": 1.5, "items": ["tea"]}, {})
    assert event.exceptions == exceptions
    assert messages(place) == []


def test_only_the_chosen_letters_are_replayed_or_deleted(place: Spool) -> None:
    write(place, 1, 2, 3)
    store = DeadLetterStore(place, "trakerr")

    assert store.replay(lambda letter: letter.message == "event 2") == 1
    assert store.purge(lambda letter: letter.message == "event 3") == 1

    assert [event.message for event in handed_over(place)] == ["event 2"]
    assert messages(place) == ["event 1"]


def test_a_letter_is_replayed_once_however_often_the_command_runs(place: Spool) -> None:
    write(place, 1)
    store = DeadLetterStore(place, "trakerr")

    assert [store.replay(every) for _ in range(3)] == [1, 0, 0]

    assert len(handed_over(place)) == 1


def test_bytes_that_are_not_an_event_stay(place: Spool) -> None:
    DeadLetters(place.dead, "trakerr", limit=1 << 20).write(EventId(TOKEN, 1), b"\xc1", RejectedError("undecodable"))

    assert DeadLetterStore(place, "trakerr").replay(every) == 0
    assert len(DeadLetterStore(place, "trakerr").letters()) == 1


@pytest.mark.parametrize(
    "event",
    [{}, {"exceptions": 7}, {"exceptions": [{"kind": "x"}]}, {"data": 5}, "text", None],
    ids=repr,
)
def test_a_letter_that_a_person_has_damaged_stays_and_stops_no_other(place: Spool, event: object) -> None:
    write(place, 1)
    with open(f"{place.dead}/trakerr.ndjson", "a") as file:
        file.write(json.dumps({"id": str(EventId(TOKEN, 2)), "time": 1.0, "event": event}) + "\nnoise\n")

    DeadLetterStore(place, "trakerr").replay(every)

    assert "event 1" in [found.message for found in handed_over(place)]
    kept = [letter.id for letter in DeadLetterStore(place, "trakerr").letters()]
    assert kept in ([str(EventId(TOKEN, 2)), ""], [""])


def test_odd_values_in_a_letter_become_plain_ones(place: Spool) -> None:
    letter = {"id": str(EventId(TOKEN, 2)), "event": {"message": 5, "level": "x", "time": "never", "id": "None"}}
    Path(place.dead, "trakerr.ndjson").write_text(json.dumps(letter) + "\n")

    assert DeadLetterStore(place, "trakerr").replay(every) == 1

    (event,) = handed_over(place)
    assert (event.id, event.message) == (EventId(TOKEN, 2), "5")


def test_a_large_number_of_letters_is_handed_over_in_several_files(place: Spool) -> None:
    write(place, *range(60), extra={"text": "x" * 100_000})

    assert DeadLetterStore(place, "trakerr").replay(every) == 60

    sizes = [path.stat().st_size for path in Path(place.overflow_on_disk).iterdir()]
    assert len(sizes) > 1
    assert max(sizes) < 6 * 1024 * 1024


def test_two_commands_at_the_same_time_do_not_meet(place: Spool) -> None:
    write(place, 1)
    store, other = DeadLetterStore(place, "trakerr"), DeadLetterStore(place, "trakerr")

    def inside(letter: object) -> bool:
        with pytest.raises(DeadLettersError, match="another command"):
            other.purge(every)
        return True

    assert store.purge(inside) == 1


def test_letters_that_are_written_meanwhile_are_neither_lost_nor_doubled(place: Spool) -> None:
    store, replayed = DeadLetterStore(place, "trakerr"), 0
    writer = threading.Thread(target=write, args=(place, *range(300)))

    writer.start()
    while writer.is_alive():
        replayed += store.replay(every)
    writer.join()
    replayed += store.replay(every)

    assert replayed == 300
    assert sorted(int(event.message.split()[1]) for event in handed_over(place)) == list(range(300))


# -- kills -----------------------------------------------------------------------------------------------------------

def steps_of(action: Callable[[], object], prepare: Callable[[], None]) -> Iterator[int]:
    """Yield each step at which ``action`` was killed; ``prepare`` is called before each run."""
    for step in range(1000):
        prepare()
        if not killed_at(step, action):
            assert step > 10
            return
        yield step
    raise AssertionError("it does not end")


def test_a_kill_at_any_step_of_a_replay_neither_loses_nor_doubles_a_letter(place: Spool) -> None:
    store, logged = DeadLetterStore(place, "trakerr"), 0

    def prepare() -> None:
        nonlocal logged
        write(place, logged, logged + 1)
        logged += 2

    for _ in steps_of(lambda: store.replay(lambda letter: letter.message.endswith(tuple("02468"))), prepare):
        known = [event.message for event in handed_over(place)]
        there = messages(place)
        assert len({*known, *there}) == len(known) + len(there)

    store.replay(every)
    assert sorted(int(event.message.split()[1]) for event in handed_over(place)) == list(range(logged))
    assert messages(place) == []
