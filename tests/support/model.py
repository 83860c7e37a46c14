"""A journal as a list: what a cursor must have made of every event, whatever happened on the way."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

from shipper.event.model import EventId
from shipper.journal.assembler import SLOW_WRITER
from shipper.journal.cursor import Cursor
from shipper.journal.entry import DELIVERED, Entry
from shipper.journal.segments import Position, release, segment_path, segments
from shipper.journal.writer import Writer
from shipper.transport import frame

LEVELS = (10, 20, 30, 40)
FLOOR = 20
BACKLOG = 15_000  # bytes: so that errors overtake now and then


class Model:
    """One writer, one cursor and the list of what was written; every step is drawn from one seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.now = 0.0
        self.written: dict[EventId, tuple[int, bytes, Position]] = {}  # level, payload, where its first frame is
        self.spoilt: set[EventId] = set()  # bytes damaged or segment gone
        self.sent: Counter[EventId] = Counter()
        self.crashed = False
        self.hand: list[Entry] = []
        self.farthest = Position(0, 0)  # that anybody has read
        self._sequence = 0
        self.writer = Writer(str(folder), segment_bytes=6000)
        self.cursor = self._open()
        self.cursor.count_from(0)

    def _open(self) -> Cursor:
        return Cursor(
            str(self.folder / "cursor.json"),
            str(self.folder),
            level=FLOOR,
            backlog=BACKLOG,
            clock=lambda: self.now,
            gone=lambda pid: False,
        )

    # -- steps ---------------------------------------------------------------------------------------------------------

    def append(self) -> None:
        """A few events of several writers, their fragments interleaved."""
        lanes: list[list[bytes]] = []
        whole: list[EventId] = []
        for writer in range(self.random.randint(1, 3)):
            id = EventId(bytes([writer]) * 8, self._sequence)
            self._sequence += 1
            level = self.random.choice(LEVELS)
            payload = self.random.randbytes(self.random.choice([0, 10, 300, 4052, 4053, 9000]))
            lanes.append(frame.encode(payload, token=id.token, seq=id.seq, pid=os.getpid(), level=level))
            self.written[id] = (level, payload, Position(0, 0))
            whole.append(id)
        firsts = {lane[0]: id for lane, id in zip(lanes, whole, strict=True)}
        while any(lanes):
            piece = self.random.choice([lane for lane in lanes if lane]).pop(0)
            if piece in firsts:
                level, payload, _ = self.written[firsts[piece]]
                self.writer.open()
                self.written[firsts[piece]] = (level, payload, self.writer.position)
            self.writer.append(piece)
        self.writer.rotate_if_due()

    def read(self) -> None:
        self.now += self.random.choice([0.0, 0.1, 1.0])
        self.hand += self.cursor.read(self.random.randint(1, 20), 50_000)
        self.farthest = max([self.farthest, self.cursor.position_read, *(entry.start for entry in self.hand)])

    def settle(self) -> None:
        self.random.shuffle(self.hand)
        for _ in range(self.random.randint(0, len(self.hand))):
            entry = self.hand.pop()
            level, payload, _ = self.written[entry.id]
            assert entry.level == level >= FLOOR
            assert entry.payload == payload
            self.sent[entry.id] += 1
            self.cursor.settle(entry, DELIVERED)

    def commit(self) -> None:
        unsettled = [self.written[entry.id][2] for entry in self.hand]
        self.cursor.commit()
        assert all(self.cursor.position <= first for first in unsettled)
        release(str(self.folder), self.cursor.position.segment)

    def crash(self) -> None:
        self.crashed = True
        self.writer.close()
        self.cursor.close()
        self.hand = []
        self.writer = Writer(str(self.folder), segment_bytes=6000)
        self.cursor = self._open()

    def _ahead(self) -> list[int]:
        return [number for number in segments(str(self.folder)) if number > self.farthest.segment]

    def flip(self) -> None:
        """One byte in a segment that nobody has read yet."""
        ahead = self._ahead()
        if len(ahead) < 2:
            return
        number = self.random.choice(ahead[:-1])
        path = segment_path(str(self.folder), number)
        with open(path, "r+b") as file:
            data = file.read()
            at = self.random.randrange(len(data))
            file.seek(at)
            file.write(bytes([data[at] ^ 0x55]))
        hit = [view for view in frame.scan(data, complete=True).frames if view.start <= at < view.end]
        self.spoilt |= {EventId(view.token, view.seq) for view in hit}

    def delete(self) -> None:
        """A whole segment that nobody has read yet."""
        ahead = self._ahead()
        if len(ahead) < 2:
            return
        path = segment_path(str(self.folder), self.random.choice(ahead[:-1]))
        with open(path, "rb") as file:
            self.spoilt |= {EventId(view.token, view.seq) for view in frame.scan(file.read(), complete=True).frames}
        os.unlink(path)

    def give_up(self) -> None:
        """The quota."""
        floor = self.cursor.position.segment + 1
        if floor > segments(str(self.folder))[-1]:
            return
        self.cursor.skip_to(floor)
        self.hand = [entry for entry in self.hand if entry.outcome is None]
        self.commit()

    # -- the end -------------------------------------------------------------------------------------------------------

    def run(self, steps: int) -> None:
        self.append()
        for _ in range(steps):
            step = self.random.choices(
                [self.append, self.read, self.settle, self.commit, self.crash, self.flip, self.delete, self.give_up],
                [10, 10, 8, 5, 1, 0.5, 0.5, 0.5],
            )[0]
            step()
        self._finish()
        self._check()

    def _finish(self) -> None:
        for _ in range(100_000):
            self.hand += self.cursor.read(100, 1_000_000)
            self.now += SLOW_WRITER
            if not self.hand and not self.cursor.read(1, 1):
                break
            for entry in self.hand:
                self.sent[entry.id] += 1
                self.cursor.settle(entry, DELIVERED)
            self.hand = []
            self.cursor.commit()
        self.cursor.commit()
        self.cursor.close()
        self.writer.close()

    def _check(self) -> None:
        counts = self.cursor.counts
        wanted = {id for id, (level, _, _) in self.written.items() if level >= FLOOR}
        lost = wanted - set(self.sent) - self.spoilt
        assert len(lost) <= counts.get("quota", 0), "lost, and neither damaged, deleted nor given up by the quota"
        assert not set(self.sent) - wanted
        if not self.crashed:
            assert max(self.sent.values(), default=0) <= 1, "a duplicate without a crash"
        # Every event is counted exactly once, or its beginning was damaged.
        counted = sum(counts.values())
        assert len(self.written) - len(self.spoilt) <= counted <= len(self.written)
        assert self.cursor.position >= max((first for _, _, first in self.written.values()), default=Position(1, 0))
