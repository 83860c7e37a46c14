"""The two logs that a deliverer reads: the journal, and a stream with a durable consumer, in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from shipper.delivery.cursor import Cursor
from shipper.event.model import Event, Origin
from shipper.event.truncate import pack
from shipper.journal.cursors.cursor import Cursor as JournalCursor
from shipper.journal.segments import segment_path
from shipper.stream.cursor import StreamCursor
from shipper.stream.delivery import Delivery
from shipper.stream.message import messages
from shipper.transport import frame

ORIGIN = Origin("app", "host", "address", "/")
HELD = 3  # messages that a stream's cursor may hold


class Log(Protocol):
    """Keeps events until a cursor has settled them, also when its process was killed."""

    def append(self, events: Sequence[Event], /) -> None: ...
    def open(self, *, level: int) -> Cursor:
        """A cursor of a new process; the former one was killed, or closed."""
        ...

    @property
    def is_empty(self) -> bool:
        """Whether no event waits for an acknowledgement; always True for the journal."""
        ...

    def turn(self) -> None:
        """Let time pass: what was handed out and lost comes again."""
        ...


class JournalLog:
    """The journal, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "journal"
        self._folder.mkdir(mode=0o700)
        self._path = str(folder / "cursor.json")
        self._cursor: JournalCursor | None = None

    def append(self, events: Sequence[Event]) -> None:
        with open(segment_path(str(self._folder), 1), "ab", opener=_private) as file:
            for event in events:
                assert event.id is not None
                file.writelines(
                    frame.encode(pack(event), token=event.id.token, seq=event.id.seq, pid=1, level=event.level)
                )

    def open(self, *, level: int) -> Cursor:
        if self._cursor is not None:
            self._cursor.close()  # only descriptors, as the kernel does when a process is killed
        self._cursor = JournalCursor(self._path, str(self._folder), level=level)
        return self._cursor

    is_empty = True  # its cursor reads it to its end

    def turn(self) -> None:
        """Do nothing: the journal hands nothing out that could be lost."""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class StreamLog:
    """A stream with one durable consumer, which delivers each message at least once, usually in order."""

    def __init__(self) -> None:
        self._messages: dict[int, Delivery] = {}  # those not acknowledged yet, by number
        self._handed_out: set[int] = set()
        self._cursor: StreamCursor | None = None
        self._number = self._times = 0

    def append(self, events: Sequence[Event]) -> None:
        for made in messages(events, "s", ORIGIN, max_bytes=20_000):
            self._number += 1
            self._messages[self._number] = Delivery(self._number, "", made.headers, made.content)
        self._hand_out()

    def open(self, *, level: int) -> Cursor:
        self._cursor = StreamCursor(self, level=level, limit=HELD)
        self._handed_out.clear()  # the consumer has waited long enough
        self._hand_out()
        return self._cursor

    @property
    def is_empty(self) -> bool:
        return not self._messages

    def turn(self) -> None:
        """Messages come again although a cursor has them, as after a cut of the network."""
        self._handed_out.clear()
        self._hand_out()

    def _hand_out(self) -> None:
        for number in sorted(set(self._messages) - self._handed_out):
            if self._cursor is not None and (self._cursor.room or number in self._cursor.numbers()):
                self._times += 1
                self._handed_out.add(number)
                self._cursor.offer(self._messages[number]._replace(reply=f"{number}.{self._times}"))

    def acknowledge(self, replies: Sequence[str]) -> None:
        for reply in replies:
            self._messages.pop(int(reply.partition(".")[0]), None)
        self._hand_out()

    def give_back(self, replies: Sequence[str]) -> None:
        self._handed_out.difference_update(int(reply.partition(".")[0]) for reply in replies)
