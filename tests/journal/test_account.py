"""The account: which events have come, which have not, and none counted twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.journal import account, sequences
from shipper.journal.account import Account
from shipper.journal.segments import segment_path
from shipper.journal.sequences import SequenceTracker
from shipper.transport import frame

TOKEN = b"tokentok"
ME = os.getpid()


def event(seq: int, *, level: int = 20, token: bytes = TOKEN, size: int = 10, pid: int = ME) -> bytes:
    return b"".join(frame.encode(b"." * size, token=token, seq=seq, pid=pid, level=level))


def mark(number: int, flags: int = frame.MARK) -> bytes:
    return frame.encode(b"", token=TOKEN, seq=number, pid=ME, flags=flags)[0]


@pytest.fixture
def write(spool: Path) -> Callable[[bytes], None]:
    (spool / "journal").mkdir(0o700)
    (spool / "damaged").mkdir(0o700)

    def append(data: bytes) -> None:
        fd = os.open(segment_path(str(spool / "journal"), 1), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, data)
        os.close(fd)

    return append


Write = Callable[[bytes], None]
Open = Callable[[], Account]


@pytest.fixture
def ledger_(spool: Path, write: Write) -> Iterator[Open]:
    opened: list[Account] = []

    def make() -> Account:
        opened.append(Account(str(spool / "ledger.json"), str(spool / "journal"), str(spool / "damaged")))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def followed(book: Account) -> Account:
    book.follow(10_000)
    return book


@given(st.lists(st.integers(0, 60), max_size=120))
def test_sequence_numbers_are_remembered_as_a_set_would(numbers: list[int]) -> None:
    process, seen = SequenceTracker(1), set[int]()
    for number in numbers:
        assert process.add(number) == (number not in seen)
        seen.add(number)

    missing = set(range(max(seen, default=-1) + 1)) - seen
    assert {n for first, end in process.gaps for n in range(first, end)} == missing
    assert process.missing == len(missing)
    assert all(one[1] < other[0] for one, other in zip(process.ranges, process.ranges[1:], strict=False))


def test_more_gaps_than_are_remembered_are_still_counted() -> None:
    process = SequenceTracker(1)
    for seq in range(0, 20_000, 2):
        assert process.add(seq)

    assert process.missing == 9_999
    assert len(process.ranges) <= sequences.MAX_RANGES


def test_events_are_counted_by_level_and_duplicates_apart(ledger_: Open, write: Write) -> None:
    write(event(0) + event(1, level=40, size=9000) + event(2, level=10) + event(1, level=40) + mark(1))
    book = followed(ledger_())

    assert (book.journaled, book.duplicates, book.missing) == (3, 1, 0)
    assert book.levels == {"INFO": 1, "ERROR": 1, "DEBUG": 1}
    assert not book.follow()


def test_gaps_name_what_never_came_and_close_when_it_comes(ledger_: Open, write: Write) -> None:
    write(event(1) + event(5) + event(0, token=b"otheroth"))
    book = followed(ledger_())
    assert book.gaps() == {TOKEN.hex(): [(0, 1), (2, 5)]}
    assert book.missing == 4

    write(b"".join(event(seq) for seq in (4, 3, 0, 2)))
    assert followed(book).missing == 0
    assert book.duplicates == 0


def test_marks_say_where_the_journal_stood_and_survive_a_restart(ledger_: Open, write: Write) -> None:
    write(event(0) + mark(1) + event(1) + mark(2))
    book = followed(ledger_())
    book.save()

    wanted = {TOKEN.hex(): (2, *book.position)}
    assert book.marks() == wanted
    assert ledger_().marks() == wanted
    assert book.journaled == 2


def test_it_knows_which_frames_of_an_event_are_there_and_a_restart_does_not_change_that(
    ledger_: Open, write: Write
) -> None:
    first, *others = frame.encode(b"." * 9000, token=TOKEN, seq=3, pid=ME)
    write(event(0) + event(2, size=9000) + first + others[0])
    book = followed(ledger_())
    assert [book.has(TOKEN, seq, 0) for seq in range(5)] == [True, False, True, True, False]
    assert [book.has(TOKEN, 3, part) for part in range(3)] == [True, True, False]
    assert not book.has(b"otheroth", 0, 0)
    book.save()

    again = ledger_()
    assert [again.has(TOKEN, 3, part) for part in range(3)] == [True, True, False]
    write(b"".join(others))
    assert all(followed(again).has(TOKEN, 3, part) for part in range(3))


def test_of_very_many_unfinished_events_the_last_are_remembered(ledger_: Open, write: Write) -> None:
    write(b"".join(frame.encode(b"." * 5000, token=TOKEN, seq=seq, pid=ME)[0] for seq in range(200)))
    book = followed(ledger_())

    assert not any(book.has(TOKEN, seq, 1) for seq in range(200 - sequences.MAX_OPEN, 200))
    assert len(book._processes[TOKEN.hex()].open) == sequences.MAX_OPEN


def test_frames_of_a_kind_from_the_future_are_no_events(ledger_: Open, write: Write) -> None:
    write(event(0) + mark(77, flags=9))
    book = followed(ledger_())

    assert (book.journaled, book.missing, book.marks()) == (1, 0, {})


def test_damage_is_counted_and_kept_aside(ledger_: Open, write: Write, spool: Path) -> None:
    write(event(0) + b"garbage" + event(1))
    book = followed(ledger_())

    assert (book.corrupt, book.corrupt_bytes, book.journaled) == (1, 7, 2)
    (kept,) = (spool / "damaged").iterdir()
    assert kept.read_bytes() == b"garbage"
    assert kept.stat().st_mode & 0o777 == 0o600


@given(st.lists(st.sampled_from(["write", "follow", "save", "restart"]), max_size=40))
def test_restarts_at_any_moment_count_nothing_twice(steps: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        (made / "journal").mkdir(0o700)
        (made / "damaged").mkdir(0o700)
        book, written = _open(made), 0
        for step in steps:
            if step == "write":
                path = segment_path(str(made / "journal"), 1)
                with open(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "ab") as f:
                    f.write(event(written * 2))
                written += 1
            elif step == "follow":
                book.follow()
            elif step == "save":
                book.save()
            else:
                book.close()
                book = _open(made)
        followed(book)

        assert (book.journaled, book.duplicates) == (written, 0)
        assert book.missing == max(0, written - 1)
        assert book.levels == ({"INFO": written} if written else {})
        book.close()


def _open(folder: Path) -> Account:
    return Account(str(folder / "ledger.json"), str(folder / "journal"), str(folder / "damaged"))


def test_drops_said_again_are_counted_once(ledger_: Open, write: Write) -> None:
    write(event(0))
    book = followed(ledger_())
    book.note_drops("file-0", 0, {"queue_full": {"DEBUG": 3}})
    book.note_drops("file-0", 0, {"queue_full": {"DEBUG": 5}})
    book.note_drops("file-0", 99_999_999, {"queue_full": {"DEBUG": 5}})
    book.note_drops("file-1", 1, {"queue_full": {"DEBUG": 1}, "redact": {"INFO": 2}})
    wanted = {"queue_full": {"DEBUG": 6}, "redact": {"INFO": 2}}
    assert book.drops == wanted
    book.save()

    again = ledger_()
    assert again.drops == wanted
    again.note_drops("file-0", 99_999_999, {"queue_full": {"DEBUG": 5}})
    assert again.drops == wanted


def test_more_processes_than_are_remembered_are_added_up(ledger_: Open, write: Write) -> None:
    count = account.MAX_PROCESSES + 100
    write(b"".join(event(1, token=b"%08d" % number, pid=99_000_000) for number in range(count)))
    book = ledger_()
    book.note_drops("living", 0, {"queue_full": {"DEBUG": 1}})
    followed(book)
    for _ in range(10):
        book.note_drops("living", 0, {"queue_full": {"DEBUG": 1}})

    assert book.missing == count
    assert book.journaled == count
    assert len(book.gaps()) <= account.MAX_PROCESSES
    assert book.drops == {"queue_full": {"DEBUG": 1}}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"segment": 1}', '{"segment": 1e999}'])
def test_a_damaged_ledger_counts_again_from_the_journal(
    ledger_: Open, write: Write, spool: Path, content: str
) -> None:
    write(event(0) + event(1))
    (spool / "ledger.json").write_text(content)

    assert followed(ledger_()).journaled == 2


def test_a_half_damaged_ledger_counts_nothing_twice(ledger_: Open, write: Write, spool: Path) -> None:
    write(event(0) + event(1))
    followed(ledger_()).save()
    text = (spool / "ledger.json").read_text()
    (spool / "ledger.json").write_text(text.replace('"ranges"', '"rangers"'))

    book = followed(ledger_())
    assert (book.journaled, book.duplicates, book.levels) == (2, 0, {"INFO": 2})
