"""Lends parts of a long backlog to another process, which encodes their requests.

Reading events, unpacking them and encoding them for the service keep one interpreter busy. While several backends work
off long backlogs, each may have a process that does this (`process/encoders`). It only reads the journal: the deliverer
sends its requests, one after the other, and the cursor passes each that is accepted, so that none is sent twice. Any
other answer ends the loan: the deliverer takes the part back and sends its events itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ...journal.segments import Position

if TYPE_CHECKING:
    from ..batcher import Batcher
    from ..checkpoint import Checkpoint
    from ..dispatcher import Dispatcher
    from .part import Request, Send

LEAST_BYTES = 4 * 1024 * 1024  # the smallest part of the journal that is lent
ROUND_REQUESTS = 4  # between two commits, as many as `batcher.MAX_BATCHES`
PATIENCE_SECONDS = 0.1  # longest wait for the next request; a pause and the end of the process are noticed after it
WISH_SECONDS = 0.2  # between two looks for a part
LONGEST_SECONDS = 5.0  # without a request, after which the process counts as failed


class PartEndedError(Exception):
    """The part has no more requests: it is at its end, or has an event that the other process can't encode."""


class Borrower(Protocol):
    """The other process. OSError or EOFError when it has ended."""

    def lend(self, start: Position, end: Position, /) -> None:
        """Have requests made for the events that begin from ``start`` up to ``end``, and no longer for others."""
        ...

    def next(self, seconds: float, /) -> Request | None:
        """Return the next request; None when none comes within ``seconds``. PartEndedError after the last one."""
        ...


class Lending:
    """What one deliverer lends. Used by its thread.

    `borrower` is set by the main thread, and to None also by the deliverer's when the process has failed. ``may_lend``
    returns False while an event is suspected of killing the process that encodes it.
    """

    def __init__(
        self,
        send: Send,
        may_lend: Callable[[], bool],
        *,
        least_bytes: int = LEAST_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.borrower: Borrower | None = None
        self.used_at = clock()
        """When the last request came or the last part was lent."""
        self.wants_one = False
        """Whether there is a part that could be lent, and no process for it."""
        self.sent = 0
        """Requests that were accepted."""
        self.oldest: float | None = None
        """Time of the oldest event of the last request, seconds since the epoch."""
        self._send = send
        self._may_lend = may_lend
        self._least_bytes = least_bytes
        self._clock = clock
        self._not_before = float("-inf")  # before then no part is looked for
        self._lent_to: Borrower | None = None

    @property
    def is_on(self) -> bool:
        """Whether a part is lent now."""
        return self._lent_to is not None

    def deliver(
        self, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher, *, is_stopping: Callable[[], bool]
    ) -> bool:
        """Lend a part if there is a backlog and a process for it; send some of its requests, and commit.

        Whether requests were accepted. OSError when the disk does not take the commit.
        """
        if not self.is_on:
            is_able = batcher.was_full and batcher.is_settled and dispatcher.concurrency.size == 1 and self._may_lend()
            self._begin_or_wish(checkpoint, is_able=is_able)
        if not self.is_on:
            return False
        before = self.sent
        self._send_round(checkpoint, batcher, dispatcher, is_stopping)
        checkpoint.commit()
        return self.sent > before

    def _begin_or_wish(self, checkpoint: Checkpoint, *, is_able: bool) -> None:
        """Lend a part or, without a process, note whether one is wanted."""
        if not is_able:
            self.wants_one = False
        elif self._clock() >= self._not_before:
            if (borrower := self.borrower) is not None:
                self._begin(borrower, checkpoint)
            else:
                self.wants_one = checkpoint.has_to_lend(self._least_bytes)
            if not self.is_on:
                self._not_before = self._clock() + WISH_SECONDS

    def _begin(self, borrower: Borrower, checkpoint: Checkpoint) -> None:
        """Lend a part, if there is one that is large enough."""
        part = checkpoint.lend(self._least_bytes)
        if part is None:
            return
        self._lent_to, self.used_at = borrower, self._clock()
        try:
            borrower.lend(*part)
        except (EOFError, OSError, MemoryError):
            self.borrower = None
            self.end(checkpoint)

    def end(self, checkpoint: Checkpoint) -> None:
        """Take back what is lent, if anything: the deliverer reads what was not accepted."""
        self.wants_one = False
        if self._lent_to is not None:
            self._lent_to = None
            checkpoint.take_back()

    def _send_round(
        self, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher, is_stopping: Callable[[], bool]
    ) -> None:
        """Send up to `ROUND_REQUESTS` requests. When they end, or one is not accepted, take the part back."""
        for _ in range(ROUND_REQUESTS):
            borrower = self._lent_to
            if borrower is None or is_stopping():
                return
            if borrower is not self.borrower or not self._send_next(borrower, checkpoint, batcher, dispatcher):
                self.end(checkpoint)

    def _send_next(self, borrower: Borrower, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher) -> bool:
        """Send the next request, if one comes; return whether to go on."""
        try:
            request = borrower.next(PATIENCE_SECONDS)
        except PartEndedError:
            self._not_before = self._clock() + WISH_SECONDS  # a part may end at once: do not lend again right away
            return False
        except (EOFError, OSError, MemoryError):
            self.borrower = None
            return False
        if request is None:
            if self._clock() - self.used_at < LONGEST_SECONDS:
                return True
            self.borrower = None
            return False
        self.used_at, self.oldest = self._clock(), request.oldest
        if not checkpoint.is_lent_from(request.start):
            return False
        if request.oldest is not None and not dispatcher.send_encoded(request, self._send):
            return False
        self.sent += 1
        if not checkpoint.pass_lent(request.start, request.end, request.counts):
            self._settle_rest(request, checkpoint, batcher, dispatcher)
            return False
        return dispatcher.concurrency.size == 1

    def _settle_rest(self, request: Request, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher) -> None:
        """Settle the other events of an accepted request whose first ones the quota has given up, and counted."""
        self._lent_to = None
        for entry in checkpoint.take_back(request.read):  # up to their last frame: other events may begin before it
            if entry.start < request.end:
                dispatcher.settle_accepted(entry)
            else:
                batcher.put_back(entry)
