"""What a deliverer reads from: a backend's place in a log.

The journal's cursor (`journal/cursors/cursor.py`) is one, a stream's durable consumer (`stream/cursor.py`) another.

Invariants of both: an event is returned by `read` once; the place never passes an event that is not settled; what is
settled counts once, with the `commit` that follows. What was not saved when the process ends is read again later, under
the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..journal.entry import Entry
from ..journal.segments import Position


class Cursor(Protocol):
    """One thread at a time reads and commits; entries may be settled in others."""

    urgent: bool
    """Whether what was read is to be sent without waiting for more; the deliverer sets it to False."""

    @property
    def position(self) -> Position:
        """Everything before it is settled."""
        ...

    @property
    def base(self) -> int:
        """How many events came before this cursor was made; -1: not known yet."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Outcome → how many events."""
        ...

    @property
    def dropped(self) -> Mapping[str, Mapping[str, int]]:
        """Outcome → level → how many events, for the outcomes that are losses."""
        ...

    @property
    def settled(self) -> int:
        """How many events are settled, and counted."""
        ...

    @property
    def is_saved(self) -> bool:
        """Whether all that is counted is saved, and not read again after a crash."""
        ...

    @property
    def is_waiting(self) -> bool:
        """Whether to read again later for an incomplete event, even if nothing is appended."""
        ...

    @property
    def waits_for_rest(self) -> bool:
        """Whether only events with missing frames, at least one, are left to settle."""
        ...

    def read(self, most: int, max_bytes: int, /) -> list[Entry]:
        """Return the next events, at most ``most`` of about ``max_bytes``. OSError when the log can't be read now."""
        ...

    def settle(self, entry: Entry, outcome: str, /) -> None:
        """Say what became of an event; see `journal.entry` for the outcomes."""
        ...

    def commit(self, *, save: bool = True) -> None:
        """Count what is settled, and save it unless that is left to a later commit. OSError when that fails now."""
        ...

    def set_drain_mode(
        self, final_to: Position | None, /, *, disk_blocked: bool = False, quota_reached: bool = False
    ) -> None:
        """Say whether missing frames of events may still come.

        None can for events that begin before ``final_to``; the disk or the quota may keep others out for now.
        """
        ...

    def lend(self, least: int, /) -> tuple[Position, Position] | None:
        """Leave a part of at least ``least`` bytes to another process; return its start and end, None without one.

        OSError when the log can't be read now.
        """
        ...

    def has_to_lend(self, least: int, /) -> bool:
        """Whether there is a part of at least ``least`` bytes. OSError as for `lend`."""
        ...

    def pass_lent(self, start: Position, to: Position, counts: Mapping[str, int], /) -> bool:
        """Count the events from ``start`` up to ``to`` by outcome. False when they were given up meanwhile."""
        ...

    def take_back(self, until: Position | None = None, /) -> list[Entry]:
        """Read here again what was lent and not passed; return its events before ``until``, if given. OSError."""
        ...

    def skip_to(self, segment: int, /) -> None:
        """Settle the unsettled events before ``segment`` as lost to the quota."""
        ...

    def close(self) -> None:
        """Release what is held. What is not settled is read again by the next cursor."""
        ...
