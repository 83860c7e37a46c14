"""A replay hands each event over once per target, even when commands are killed or repeated."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from shipper.delivery.handover import Handover
from shipper.delivery.replay.replay import Counts, Replay, ReplayError, SentIds, Stretch
from shipper.event.codec import unpack
from shipper.event.model import Event, EventId
from shipper.event.truncate import pack
from shipper.journal.history import History
from shipper.journal.segments import Position
from shipper.transport import frame
from shipper.transport.memory.orphans import orphaned_overflows

from ..support.forks import killed_at
from ..support.journals import TOKEN, segment


def framed(
    seq: int, *, time: float = 0.0, level: int = 20, route: tuple[str, ...] | None = None, size: int = 10
) -> bytes:
    event = Event(time=time or 1000.0 + seq, level=level, message=f"event {seq} {'.' * size}", route=route)
    return b"".join(frame.encode(pack(event), token=TOKEN, seq=seq, pid=1, level=level))


class Place:
    """A journal, and what was handed over from it."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.kept = folder / "journal", folder / "kept"
        self.overflows = folder / "overflow"
        self.base = folder / "replays" / "one"
        self.journal.mkdir(0o700)

    def replay(
        self,
        since: float = 0.0,
        until: float = math.inf,
        *,
        again: bool = False,
        portion: int = 2000,
        wait: Callable[[int], None] = lambda size: None,
        dry: bool = False,
        **more: object,
    ) -> Counts:
        stretch = Stretch("one", since, until, **more)  # type: ignore[arg-type]
        history = History(str(self.journal), str(self.kept))
        replay = Replay(stretch, str(self.base), str(self.overflows), again=again)
        try:
            return replay.run(history, portion=portion, wait_for_room=wait, dry=dry)
        finally:
            history.close()

    def events(self) -> list[Event]:
        """Return the events that were handed over, each put together from its frames."""
        found = []
        for each in orphaned_overflows(str(self.overflows), ()):
            parts: dict[int, list[bytes]] = {}
            data = each.frames
            for view in frame.scan(data, complete=True).frames:
                parts.setdefault(view.seq, []).append(data[view.payload_start : view.end])
            found += [unpack(b"".join(pieces), EventId(each.token, seq)) for seq, pieces in parts.items()]
            each.close()
        return found

    def seqs(self) -> list[int]:
        events = self.events()
        assert all(event.route == ("one",) for event in events)
        assert all(event.id is not None and event.id.token == TOKEN for event in events)
        return sorted(event.id.seq for event in events if event.id is not None)


@pytest.fixture
def place(spool: Path) -> Place:
    return Place(spool)


def test_a_stretch_is_handed_over_with_the_ids_that_it_had(place: Place) -> None:
    segment(place.journal, 1, b"".join(framed(seq, size=9000 if seq == 12 else 10) for seq in range(40)))

    counts = place.replay(1010.0, 1020.0)

    assert counts == Counts(sent=10)
    assert place.seqs() == list(range(10, 20))


def test_the_same_command_again_hands_over_what_is_new_alone(place: Place) -> None:
    segment(place.journal, 1, b"".join(framed(seq) for seq in range(10)))
    place.replay(until=1008.0)
    segment(place.journal, 2, b"".join(framed(seq) for seq in range(10, 12)))

    assert place.replay() == Counts(sent=4, sent_before=8)
    assert place.replay() == Counts(sent_before=12)
    assert place.seqs() == list(range(12))

    assert place.replay(again=True) == Counts(sent=12)
    assert place.seqs() == sorted(2 * list(range(12)))


def test_an_event_that_was_replayed_into_this_journal_is_no_second_event(place: Place) -> None:
    """The journal has the event twice, as logged and as handed over; the copy holds the id of the logged event."""
    segment(place.journal, 1, framed(1))
    place.replay()
    (again,) = orphaned_overflows(str(place.overflows), ())
    segment(place.journal, 2, again.frames)
    again.remove()

    assert place.replay() == Counts(sent_before=1)
    assert place.replay(again=True) == Counts(sent=1)


def test_what_is_not_for_the_backend_is_left_out_and_counted(place: Place) -> None:
    rows = [
        framed(0, level=40),
        framed(1, level=20),
        framed(2, level=40, route=("other",)),
        framed(3, level=40, route=("one", "other")),
        framed(4, level=40, route=()),
    ]
    begun = sum(map(len, rows))
    segment(place.journal, 1, b"".join(rows) + framed(5, level=40))

    assert place.replay(level=30, end=Position(1, begun)) == Counts(sent=2, below_level=1, for_others=2, under_way=1)
    assert place.seqs() == [0, 3]
    assert place.replay(level=30, takes_all=False).for_others == 5


def test_a_dry_run_hands_nothing_over(place: Place) -> None:
    segment(place.journal, 1, b"".join(framed(seq) for seq in range(10)))

    assert place.replay(dry=True) == Counts(sent=10)
    assert place.events() == []
    assert place.replay() == Counts(sent=10)


class StoppedError(Exception):
    pass


def test_one_that_was_interrupted_goes_on_with_the_rest(place: Place) -> None:
    segment(place.journal, 1, b"".join(framed(seq) for seq in range(100)))
    portions: list[int] = []

    def stop(size: int) -> None:
        portions.append(size)
        if len(portions) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        place.replay(wait=stop)
    before = place.seqs()
    assert 0 < len(before) < 100

    counts = place.replay()

    assert (counts.sent, counts.sent_before) == (100 - len(before), len(before))
    assert place.seqs() == list(range(100))


def test_a_kill_at_any_step_neither_loses_nor_doubles_an_event(place: Place) -> None:
    """Each run is killed one step later than the one before, until a run ends by itself."""
    segment(place.journal, 1, b"".join(framed(seq) for seq in range(60)))

    kills = 0
    while killed_at(kills, place.replay):
        kills += 1

    assert kills > 20
    assert place.seqs() == list(range(60))
    assert place.replay() == Counts(sent_before=60)


def test_two_commands_at_a_time_are_one_too_many(place: Place) -> None:
    segment(place.journal, 1, framed(1))
    place.base.parent.mkdir(0o700)

    handover = Handover(str(place.base), f"{place.base}.sent", str(place.overflows))
    with handover.locked(), pytest.raises(ReplayError, match="another command"):
        place.replay()


def test_a_damaged_list_of_what_was_sent_sends_nothing(place: Place) -> None:
    segment(place.journal, 1, framed(1))
    place.base.parent.mkdir(0o700)
    path = Path(f"{place.base}.sent")
    path.write_text("nonsense 3\n")
    path.chmod(0o600)

    with pytest.raises(ReplayError, match="what was sent is not known"):
        place.replay()
    assert place.events() == []


def test_ids_survive_their_file(tmp_path: Path) -> None:
    ids = SentIds()
    wanted = {EventId(bytes([token]) * 8, seq) for token in range(3) for seq in (0, 1, 5, 7, 8)}
    for id in sorted(wanted):
        assert ids.add(id)
        assert not ids.add(id)
    path = tmp_path / "sent"
    path.write_bytes(b"".join(ids.lines()))
    path.chmod(0o600)

    found = SentIds.read(str(path))

    everything = {EventId(bytes([token]) * 8, seq) for token in range(4) for seq in range(10)}
    assert {id for id in everything if id in found} == wanted
