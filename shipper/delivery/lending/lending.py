"""Parts of a long backlog whose requests another process encodes.

Reading an event, unpacking it and spelling it for the service keep one interpreter busy. Where several backends work
off long backlogs at once, each may have a process that does this (`process/encoders`). It only reads: its requests
are sent here, one after the other, and the cursor passes each with its answer, so that none is sent twice. Whatever is
not an acceptance ends it: the part is taken back, and its events are read, sent and judged here.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ...journal.segments import Position

if TYPE_CHECKING:
    from ..batcher import Batcher
    from ..checkpoint import Checkpoint
    from ..dispatcher import Dispatcher
    from .part import Request, Send

LEAST_BYTES = 4 * 1024 * 1024  # of the journal that are worth the way to another process
ROUND_REQUESTS = 4  # between two commits, as many as of a round that is read here
PATIENCE_SECONDS = 0.1  # of one wait for the next request: meanwhile the backend may be paused, or the process end
WISH_SECONDS = 0.2  # between two looks for a part
LONGEST_SECONDS = 5.0  # without a request before a process has failed


class PartEndedError(Exception):
    """There is no other request of what was lent: it is at its end, or has an event that can't be encoded there."""


class Borrower(Protocol):
    """The other process. OSError or EOFError when it has ended."""

    def lend(self, start: Position, end: Position, /) -> None:
        """Have the requests made of what begins from ``start`` up to ``end``, and no others any more."""
        ...

    def next(self, seconds: float, /) -> Request | None:
        """Wait so long for the next request. Raises PartEndedError."""
        ...


class Lending:
    """What a deliverer lends. Used by its thread; `borrower` is set by the main thread, and by both to None: by the
    deliverer's when the process has failed.

    ``may_lend``: whether no event is suspected of killing the process that encodes it.
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
        """When the last request came, or could have."""
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
        self._not_before = float("-inf")  # there is no use in looking for a part
        self._lent_to: Borrower | None = None

    @property
    def is_on(self) -> bool:
        """Whether a part is lent now."""
        return self._lent_to is not None

    def deliver(
        self, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher, *, is_stopping: Callable[[], bool]
    ) -> bool:
        """Lend a part if there is a backlog and a process for it; send some of its requests, and commit.

        Whether events were accepted. OSError when the disk does not take the commit.
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
        """Lend what there is, or say that there is something that could be lent to a process."""
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
        """Lend what there is, if it is worth it."""
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
        """Take back what was lent, if anything was: what was not accepted yet is read here."""
        self.wants_one = False
        if self._lent_to is not None:
            self._lent_to = None
            checkpoint.take_back()

    def _send_round(
        self, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher, is_stopping: Callable[[], bool]
    ) -> None:
        """Send some requests, as they come; what was lent is taken back when they end, or one is not accepted."""
        for _ in range(ROUND_REQUESTS):
            borrower = self._lent_to
            if borrower is None or is_stopping():
                return
            if borrower is not self.borrower or not self._send_next(borrower, checkpoint, batcher, dispatcher):
                self.end(checkpoint)

    def _send_next(self, borrower: Borrower, checkpoint: Checkpoint, batcher: Batcher, dispatcher: Dispatcher) -> bool:
        """Whether to go on."""
        try:
            request = borrower.next(PATIENCE_SECONDS)
        except PartEndedError:
            self._not_before = self._clock() + WISH_SECONDS  # it may have ended at once
            return False
        except (EOFError, OSError, MemoryError, pickle.UnpicklingError):
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
        """The quota has given up, and counted, the first events of a request meanwhile. The others were accepted."""
        self._lent_to = None
        for entry in checkpoint.take_back(request.read):  # as far as their frames go: others may stand between them
            if entry.start < request.end:
                dispatcher.settle_accepted(entry)
            else:
                batcher.put_back(entry)
