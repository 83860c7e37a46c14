"""A backend's place in the stream: what its durable consumer has handed to this relay.

Invariants: a message is acknowledged when all of its events are settled, and not before. While this relay runs, an
event is settled once, however often its message comes. After a relay has died, or was cut off for longer than the
consumer's `ack_wait`, its messages go to another relay, and their events are sent again, under the same ids.

The position is the number of the oldest message in hand. Nothing is saved here: the servers keep the state.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ..journal.entry import DELIVERED, FILTERED, LOST, Entry, settle
from ..journal.segments import Position
from ..transport.drops import Drops, level_name
from .delivery import Delivery
from .message import entries

MAX_REMEMBERED = 10_000  # messages that were settled, and are acknowledged again when they come again


class Consumer(Protocol):
    """What a cursor needs of the durable consumer that its messages come from."""

    def acknowledge(self, replies: Sequence[str], /) -> None:
        """These messages are settled."""
        ...

    def give_back(self, replies: Sequence[str], /) -> None:
        """Let the consumer hand out these messages again at once."""
        ...


class _Held:
    """A message in hand. ``settled`` is how many of its events, from the first one on, are settled."""

    __slots__ = ("entries", "read", "reply", "settled")

    def __init__(self, reply: str, found: list[Entry]) -> None:
        self.reply = reply
        self.entries = found
        self.read = 0
        self.settled = 0

    def is_settled(self) -> bool:
        found, place = self.entries, self.settled
        while place < len(found) and found[place].outcome is not None:
            place += 1
        self.settled = place
        return place == len(found)


class StreamCursor:
    """A `delivery.cursor.Cursor`. ``limit`` is how many messages it holds at most.

    Events below ``level`` settle at once as filtered. `on_arrival` is called, in the loop, for each new message.
    """

    base = 0
    is_saved = True
    is_waiting = False
    waits_for_rest = False

    def __init__(self, consumer: Consumer, *, level: int = 0, limit: int = 16) -> None:
        self.on_arrival: Callable[[], None] = lambda: None
        self.urgent = False
        self.counts: dict[str, int] = {}
        self.dropped: Drops = {}
        self.settled = 0
        self._consumer = consumer
        self._level = level
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._unread: deque[_Held] = deque()
        self._done: OrderedDict[int, None] = OrderedDict()
        self._newest = 0
        self._is_closed = False

    # -- for the thread that receives ----------------------------------------------------------------------------------

    def offer(self, message: Delivery) -> None:
        """Take a message that has come, for the first time or again."""
        with self._lock:
            held = self._held.get(message.number)
            is_new = held is None and message.number not in self._done and not self._is_closed
            if held is not None:
                held.reply = message.reply  # the consumer does not know the former one any more
            elif is_new:
                self._hold(message)
            is_done = message.number in self._done
        if is_done:
            self._consumer.acknowledge([message.reply])
        elif is_new:
            self.on_arrival()
        elif held is None:  # closed
            self._consumer.give_back([message.reply])

    def _hold(self, message: Delivery) -> None:
        held = _Held(message.reply, entries(message.content, message.headers, message.number))
        self._held[message.number] = held
        self._unread.append(held)
        self._newest = max(self._newest, message.number)
        for entry in held.entries:
            if entry.level < self._level and entry.outcome is None:
                settle(entry, FILTERED)

    @property
    def room(self) -> int:
        """How many more messages may come."""
        return 0 if self._is_closed else max(0, self._limit - len(self._held))

    def replies(self) -> list[str]:
        """The reply subjects of the messages in hand, to say there that they are worked on."""
        with self._lock:
            return [held.reply for held in self._held.values()]

    def numbers(self) -> set[int]:
        """The numbers of the messages in hand."""
        with self._lock:
            return set(self._held)

    @property
    def left(self) -> int:
        """How many events are in hand and not counted yet."""
        with self._lock:
            return sum(len(held.entries) for held in self._held.values())

    # -- for the deliverer ---------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        with self._lock:
            return Position(min(self._held, default=self._newest + 1), 0)

    def read(self, most: int, max_bytes: int) -> list[Entry]:
        """Return the next events, at most ``most`` of about ``max_bytes``."""
        found: list[Entry] = []
        size = 0
        with self._lock:
            while self._unread and len(found) < most and size < max_bytes:
                held = self._unread[0]
                while held.read < len(held.entries) and len(found) < most and size < max_bytes:
                    entry = held.entries[held.read]
                    held.read += 1
                    if entry.outcome is None:
                        found.append(entry)
                        size += len(entry.payload or b"")
                if held.read == len(held.entries):
                    self._unread.popleft()
        self.urgent = True  # the publishers have already waited for full batches
        return found

    def settle(self, entry: Entry, outcome: str) -> None:
        settle(entry, outcome)

    def commit(self, *, save: bool = True) -> None:
        """Count, and acknowledge, the messages all of whose events are settled."""
        with self._lock:
            done = [number for number, held in self._held.items() if held.is_settled()]
            replies = [self._count(number) for number in done]
        if replies:
            self._consumer.acknowledge(replies)

    def _count(self, number: int) -> str:
        held = self._held.pop(number)
        if held in self._unread:  # its events were settled without being read
            self._unread.remove(held)
        for entry in held.entries:
            outcome = entry.outcome or DELIVERED
            self.counts[outcome] = self.counts.get(outcome, 0) + 1
            if outcome in LOST:
                levels = self.dropped.setdefault(outcome, {})
                levels[level_name(entry.level)] = levels.get(level_name(entry.level), 0) + 1
        self.settled += len(held.entries)
        self._done[number] = None
        while len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)
        return held.reply

    def set_drain_mode(
        self, final_to: Position | None, *, disk_blocked: bool = False, quota_reached: bool = False
    ) -> None:
        """A message has whole events only: nothing is waited for."""

    def lend(self, least: int) -> None:
        """A stream has no part that another process could read: its consumer hands out each message once."""

    def has_to_lend(self, least: int) -> bool:
        """There is no such part."""
        return False

    def pass_lent(self, start: Position, to: Position, counts: Mapping[str, int]) -> bool:
        """Nothing was lent."""
        return False

    def take_back(self, until: Position | None = None) -> list[Entry]:
        """Nothing was lent."""
        return []

    def skip_to(self, segment: int) -> None:
        """Do nothing: a full stream refuses messages, so no event is given up."""

    def close(self) -> None:
        """Give back the messages that were not acknowledged. Idempotent."""
        with self._lock:
            self._is_closed = True
            replies = [held.reply for held in self._held.values()]
            self._held.clear()
            self._unread.clear()
        if replies:
            self._consumer.give_back(replies)
