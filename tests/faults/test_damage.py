"""Whatever lies in the spool folder: the process starts, and delivers what is whole."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import shipper
from shipper.event.codec import unpack
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.account import Account
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.reader import Reader
from shipper.journal.segments import Position, segment_path
from shipper.spool.layout import Spool
from shipper.transport import frame

from ..support.journals import BEHIND_ALL
from ..support.waiting import PATIENCE, wait_until
from .oracle import Step
from .scene import Scene

TOKEN = b"\x11\x22\x33\x44\x55\x66\x47\x88"


def _packed(message: str) -> bytes:
    return pack(Event(message=message, level=20))


def _frames(count: int, *, size: int = 40, first: int = 0) -> list[bytes]:
    """Return the bytes of ``count`` events, all frames of an event as one element."""
    return [
        b"".join(
            frame.encode(_packed(f"id:d{seq} {'x' * size}"), token=TOKEN, seq=seq, pid=1, level=20)
        )
        for seq in range(first, first + count)
    ]


def _ticks() -> Callable[[], float]:
    """Return a clock that advances by 2 s with each call."""
    ticks = itertools.count(step=2)
    return lambda: float(next(ticks))


class Folder:
    """A spool that nobody has open."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(str(path))
        self.spool.prepare()
        self.path = path

    def write(self, number: int, data: bytes) -> None:
        path = segment_path(self.spool.journal, number)
        with open(path, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(data)

    def begin(self, backend: str = "a") -> None:
        """Write a cursor at the beginning of the journal."""
        self.put(f"cursors/{backend}.json", b'{"segment":1,"offset":0,"base":0,"counts":{},"dropped":{}}')

    def put(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.write_bytes(data)
        path.chmod(0o600)

    def deliverable(self) -> list[str]:
        """Return the names of the events that a shipper process would deliver to the backend "a"."""
        path = os.path.join(self.spool.cursors, "a.json")
        cursor = Cursor(path, self.spool.journal, clock=_ticks(), gone=lambda pid: True)
        cursor.set_drain_mode(final_to=BEHIND_ALL)
        names = []
        for _ in range(5):  # the rest of what begins like a frame is waited for, 1 s by the clock
            for entry in cursor.read(100_000, 1 << 30):
                names.append(unpack(entry.payload or b"", entry.id).message.split(" ")[0])
                cursor.settle(entry, "delivered")
            cursor.commit()
        cursor.close()
        return names

    def count(self) -> Account:
        ledger = Account(self.spool.ledger, self.spool.journal, self.spool.damaged)
        while ledger.follow():
            pass
        ledger.save()
        ledger.close()
        return ledger


@contextlib.contextmanager
def _folder() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix="d-"))
    try:
        yield Folder(path)
    finally:
        shutil.rmtree(path)


@pytest.fixture
def folder() -> Iterator[Folder]:
    with _folder() as found:
        yield found


def _names(numbers: range | list[int]) -> list[str]:
    return [f"id:d{number}" for number in numbers]


def test_a_tail_that_is_cut_at_any_byte_costs_the_cut_events_alone(folder: Folder) -> None:
    small, large = _frames(3), _frames(1, size=6000, first=3)
    data = b"".join([*small, *large])
    borders = [len(b"".join([*small, *large][:count])) for count in range(5)]

    places = {*range(borders[1], borders[3] + 60), *range(borders[3] + 60, len(data), 97), len(data) - 1, len(data)}
    for cut in sorted(places):
        folder.write(1, data[:cut])
        folder.write(2, b"".join(_frames(2, first=4)))
        folder.begin()
        whole = [number for number in range(4) if borders[number + 1] <= cut]
        assert folder.deliverable() == _names([*whole, 4, 5]), cut


def test_a_tail_that_is_cut_is_no_obstacle_for_what_is_appended_later(folder: Folder) -> None:
    data = b"".join(_frames(3))
    last = len(data) - len(_frames(3)[2])
    for cut in range(last, len(data)):
        folder.write(1, data[:cut] + b"".join(_frames(3, first=3)))
        folder.begin()
        assert folder.deliverable() == _names([0, 1, 3, 4, 5]), cut


def test_a_flipped_bit_costs_the_event_it_is_in(folder: Folder) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    frames = _frames(40)
    borders = [len(b"".join(frames[:count])) for count in range(41)]
    corrupt = 0
    for number in range(40):
        data = bytearray(b"".join(frames))
        place = chance.randrange(borders[number], borders[number + 1])
        data[place] ^= 1 << chance.randrange(8)
        folder.write(1, bytes(data))
        folder.begin()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.spool.ledger)

        assert folder.deliverable() == _names([each for each in range(40) if each != number]), (number, place)
        corrupt += folder.count().corrupt
    assert corrupt >= 35, "only what may yet become a frame is not damage at once"
    kept = b"".join(path.read_bytes() for path in (folder.path / "damaged").iterdir())
    assert kept, "the damaged bytes are kept aside"


def test_a_bit_flipped_in_every_event_leaves_the_process_alive(scene: Scene) -> None:
    folder = Folder(scene.spool)
    data = bytearray(b"".join(_frames(30)))
    size = len(_frames(1)[0])
    for start in range(0, 29 * size, size):
        data[start + 50] ^= 4
    folder.write(1, bytes(data))
    folder.begin()

    scene.start(scene.trakerr("a"))

    scene.a_fresh_record_flows("a")
    assert scene.oracle.accepted("a").keys() == {"d29", *scene.emitted}
    wait_until(lambda: scene.backend("a").left == 0)


def test_a_bit_flipped_in_a_cursor_or_ledger_skips_and_invents_nothing(folder: Folder) -> None:
    """Events may be delivered again, but delivery never begins at a place that was not reached."""
    for number in range(3):
        folder.write(number + 1, b"".join(_frames(12, first=12 * number)))
    cursor = Cursor(os.path.join(folder.spool.cursors, "a.json"), folder.spool.journal)
    for entry in cursor.read(15, 1 << 30):
        cursor.settle(entry, "delivered")
    cursor.commit()
    cursor.close()
    folder.count()

    for name in ("cursors/a.json", "ledger.json"):
        whole = (folder.path / name).read_bytes()
        for at in range(len(whole.rstrip())):
            flipped = whole[at] ^ 1 << random.randrange(8)
            folder.put(name, whole[:at] + bytes([flipped]) + whole[at + 1 :])
            if name == "ledger.json":
                assert folder.count().journaled == 36
                continue
            assert set(folder.deliverable()) >= set(_names(range(15, 36))), f"byte {at}: {flipped}"


BEGINNING = {"segment": 1, "offset": 0, "base": 0, "counts": {}, "dropped": {}}
LEDGER = {"segment": 1, "offset": 0, "journaled": 0, "doubles": 0, "corrupt": 0, "corrupt_bytes": 0, "levels": {},
          "past_drops": {}, "past_missing": 0, "processes": {}}  # fmt: skip
NONSENSE = {"pid": 1, "ranges": [[9, 1], [1, 2]], "drops": {"q": 3}, "folded": -1}


def _replaced(folder: Folder, make: Callable[[str], None]) -> None:
    path = segment_path(folder.spool.journal, 2)
    os.unlink(path)
    make(path)


def _of_the_future() -> bytes:
    return b"".join(_frames(2, first=2)).replace(frame.MAGIC + b"\x01", frame.MAGIC + b"\x02")


def _foreign(folder: Folder, *names: str) -> None:
    for name in names:
        folder.put(f"journal/{name}", b"who knows")


def _wrong_ledger(folder: Folder, **wrong: object) -> None:
    folder.put("ledger.json", json.dumps({**LEDGER, **wrong}).encode())


def _full_folder(folder: Folder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).mkdir()
    (folder.path / name / "something").touch()


def _link(folder: Folder, name: str) -> None:
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).symlink_to("/etc/passwd")


PLACES = ("app", "cursors/a.encoding", "cursors/a.json", "cursors/a.json.new", "dead/a.ndjson", "dead/a.ndjson.1",
          "ledger.json", "ledger.json.new", "lock", "shipper.log", "status.json", "status.json.new")  # fmt: skip

DAMAGES: dict[str, Callable[[Folder], None]] = {
    "a middle segment is gone": lambda f: os.unlink(segment_path(f.spool.journal, 2)),
    "a middle segment is empty": lambda f: f.write(2, b""),
    "the first is gone": lambda f: os.unlink(segment_path(f.spool.journal, 1)),
    "a segment is a copy of another": lambda f: f.write(2, Path(segment_path(f.spool.journal, 1)).read_bytes()),
    "a segment is noise": lambda f: f.write(2, random.Random(7).randbytes(5000)),
    "a segment is zeros": lambda f: f.write(2, bytes(100_000)),
    "a segment is a folder": lambda f: _replaced(f, os.mkdir),
    "the last segment is a folder": lambda f: os.mkdir(segment_path(f.spool.journal, 4)),
    "the last segment is a link": lambda f: os.symlink("/etc/passwd", segment_path(f.spool.journal, 4)),
    "the last segment is a FIFO": lambda f: os.mkfifo(segment_path(f.spool.journal, 4)),
    "a segment is a FIFO": lambda f: _replaced(f, os.mkfifo),
    "a future version": lambda f: f.write(2, _of_the_future()),
    "a future schema": lambda f: f.write(2, frame.encode(b"\x92\x09\xc0", token=TOKEN, seq=99, pid=1, level=20)[0]),
    "foreign files": lambda f: _foreign(f, "README", "2.seg.bak", "-1.seg", "x.seg", ".seg", "٣.seg"),
    "foreign folders": lambda f: os.mkdir(f.path / "journal" / "old"),
    "the cursor is empty": lambda f: f.put("cursors/a.json", b""),
    "the cursor is noise": lambda f: f.put("cursors/a.json", b"\xff\x00{["),
    "the cursor is a list": lambda f: f.put("cursors/a.json", b"[1, 2]"),
    "the cursor has wrong types": lambda f: f.put("cursors/a.json", b'{"segment":"x","offset":null,"counts":3}'),
    "the cursor is far ahead": lambda f: f.put("cursors/a.json", json.dumps({**BEGINNING, "offset": 10**8}).encode()),
    "a cursor of nobody": lambda f: f.put("cursors/zzz.json", b'{"segment":[],"offset":{}}'),
    "the ledger is noise": lambda f: f.put("ledger.json", b"\x00\x01"),
    "the ledger has wrong types": lambda f: _wrong_ledger(f, levels=[], past_drops=7, processes={"x": 1}),
    "the ledger's ranges are nonsense": lambda f: _wrong_ledger(f, processes={"x": {**NONSENSE, "drops": {}}}),
    "the ledger's drops are nonsense": lambda f: _wrong_ledger(f, processes={"x": {**NONSENSE, "ranges": []}}),
    "the ledger's levels are nonsense": lambda f: _wrong_ledger(f, levels={"INFO": "x"}),
    "the status is noise": lambda f: f.put("status.json", b"{"),
    "the status has wrong types": lambda f: f.put("status.json", b'{"ledger":[],"backends":7,"marks":[],"journal":1}'),
    "the lock is noise": lambda f: f.put("lock", b"\xff" * 700),
    "the lock says anything": lambda f: f.put("lock", b'{"pid":"x","started":1e999,"quick":[],"since":null}'),
    "dead letters are noise": lambda f: f.put("dead/a.ndjson", b"\x00\xff\n"),
    "the cursor is gone": lambda f: os.unlink(f.path / "cursors/a.json"),
    **{f"a folder is in the place of {name}": partial(_full_folder, name=name) for name in PLACES},
    **{f"a link is in the place of {name}": partial(_link, name=name) for name in PLACES},
}  # fmt: skip

WHAT_IS_LOST: dict[str, set[int]] = {
    "a middle segment is gone": {2, 3},
    "a middle segment is empty": {2, 3},
    "the first is gone": {0, 1},
    "a segment is a copy of another": {2, 3},
    "a segment is noise": {2, 3},
    "a segment is zeros": {2, 3},
    "a segment is a folder": {2, 3},
    "a segment is a FIFO": {2, 3},
    "a future version": {2, 3},
    "a future schema": {2, 3},
    "the cursor is far ahead": {0, 1},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_process_starts_whatever_happened_to_its_files(scene: Scene, damage: str) -> None:
    folder = Folder(scene.spool)
    for number in range(3):
        folder.write(number + 1, b"".join(_frames(2, first=2 * number)))
    folder.begin()
    DAMAGES[damage](folder)
    scene.oracle.always("a", Step(400, contains="refuse"))

    scene.start(scene.trakerr("a"))

    scene.a_fresh_record_flows("a")
    scene.log("refuse")
    assert shipper.flush(PATIENCE), damage
    assert "refuse" in (scene.spool / "dead" / "a.ndjson").read_text(errors="replace")
    whole = {f"d{number}" for number in range(6) if number not in WHAT_IS_LOST.get(damage, set())}
    wait_until(lambda: scene.oracle.accepted("a").keys() >= whole, 10, f"{damage}: {scene.oracle.accepted('a')}")
    scene.ids_are_the_same_at_every_retry("a")
    # With a cursor that is ahead of its own counts, the number of events left cannot be known.
    wait_until(lambda: scene.backend("a").left == 0 or damage == "the cursor is far ahead", 5, damage)
    scene.stop()
    scene.ends()


def _pieces() -> st.SearchStrategy[list[bytes | int]]:
    """Stretches of a segment: whole events by their number, and bytes of any kind."""
    looks_like_one = st.builds(
        lambda whole, cut, tail: whole[:cut] + tail,
        st.sampled_from([*_frames(2), *_frames(1, size=5000)]),
        st.integers(0, 200),
        st.binary(max_size=20),
    )
    whole = st.integers(0, 30)
    noise = st.one_of(st.binary(max_size=300), looks_like_one, st.just(frame.MAGIC), st.just(b"\0" * 4096))
    return st.lists(st.one_of(whole, noise), max_size=12)


@settings(max_examples=100)
@given(segments=st.lists(_pieces(), min_size=1, max_size=3))
@example(segments=[[b"\xf5shp", 0, frame.MAGIC + b"\x01" * 40, 1]])
def test_what_is_whole_is_delivered_whatever_is_around_it(segments: list[list[bytes | int]]) -> None:
    frames = dict(enumerate(_frames(31)))
    with _folder() as folder:
        for place, pieces in enumerate(segments):
            folder.write(place + 1, b"".join(frames[piece] if isinstance(piece, int) else piece for piece in pieces))
        folder.begin()

        delivered = set(folder.deliverable())

        put = {piece for pieces in segments for piece in pieces if isinstance(piece, int)}
        lost = {f"id:d{number}" for number in put} - delivered
        assert lost == set()
        ledger = folder.count()
        assert ledger.journaled <= len({*put, *_numbers(delivered)})


def _numbers(names: set[str]) -> set[int]:
    return {int(found[1]) for name in names if (found := re.fullmatch(r"id:d(\d+)", name))}


@settings(max_examples=100)
@given(data=st.binary(max_size=600))
def test_any_bytes_in_a_cursor_or_ledger_are_survived(data: bytes) -> None:
    _survive(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("segment", "offset", "base", "counts", "dropped", "journaled", "doubles", "corrupt", "corrupt_bytes", "levels",
        "past_drops", "past_missing", "processes")  # fmt: skip


@settings(max_examples=60)
@given(values=st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_json_in_a_cursor_or_ledger_is_survived(values: dict[str, object]) -> None:
    sound = {
        "segment": 1, "offset": 0, "base": 0, "counts": {}, "dropped": {}, "journaled": 0, "doubles": 0, "corrupt": 0,
        "corrupt_bytes": 0, "levels": {}, "past_drops": {}, "past_missing": 0, "processes": {},
    }  # fmt: skip
    _survive(json.dumps({**sound, **values}).encode())


def _survive(data: bytes) -> None:
    with _folder() as folder:
        folder.write(1, b"".join(_frames(3)))
        folder.put("cursors/a.json", data)
        folder.put("ledger.json", data)

        delivered = folder.deliverable()
        ledger = folder.count()

        assert set(delivered) <= set(_names(range(3)))
        json.dumps({**ledger.summary(), "drops": ledger.drops, "missing": ledger.missing, "gaps": ledger.gaps()})


@settings(max_examples=100)
@given(at=st.integers(0, 2000), data=st.binary(min_size=1, max_size=100))
def test_a_reader_passes_anything_and_ends(at: int, data: bytes) -> None:
    whole = b"".join(_frames(10))
    with _folder() as folder:
        folder.write(1, whole[:at] + data + whole[at:])
        reader = Reader(folder.spool.journal, Position(1, 0), clock=_ticks())
        found = [view.seq for stretch in iter(reader.read, None) for view in stretch.scan.frames]
        reader.close()
        assert len(found) >= 9
