"""Appends to the journal: out of the pipe, or frames that came another way, within segments and the quota.

Invariants:
* A splice may end anywhere, also inside a frame; the rest of that frame comes next, from the same FIFO.
* A new segment, and frames that came another way, begin at a frame's border only. So the journal is at most
  one frame larger than its quota and ``extra``. A segment is at most one frame larger than its bound, unless no next
  one can be made.
* What was written to a FIFO before it was removed comes before what was written to the next one afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable

from ...journal.writer import Writer, drain_pipe, untaken
from ...transport import frame
from ...transport.pipe import bytes_in_pipe
from .quota import Quota, QuotaReachedError

_GONE = -1  # in place of the descriptor of a FIFO that is closed
MAX_SPLICE_BYTES = 4 * 1024 * 1024  # more than a pipe holds: one splice takes all of it


class Appender:
    """Used by one thread at a time: intake's while it runs, the main thread before and after.

    ``pipe`` is the reading end of the queue. Without a ``quota`` the journal takes everything.
    """

    def __init__(self, pipe: int, writer: Writer, quota: Quota | None = None) -> None:
        self._pipe = pipe
        self._earlier: list[int] = []  # FIFOs that were removed, until their writers have closed them
        self._last = pipe  # the FIFO that was read last
        self.writer = writer
        self._quota = quota

    @property
    def taken(self) -> int:
        """Bytes that have come out of the pipe."""
        return self.writer.spliced

    def splice(self, extra: int = 0, *, most: int = MAX_SPLICE_BYTES) -> int:
        """Move bytes from the pipe into the journal; how many: 0 when the pipe has no writers, -1 when it is empty.

        ``extra`` bytes above the quota are allowed. QuotaReachedError when the journal may take none, another OSError
        when the disk takes none.
        """
        earlier = 0
        if self._earlier:
            # Measure the pipe first: an event in it may begin in an earlier FIFO, which is therefore read before it.
            most = min(most, max(1, bytes_in_pipe(self._pipe)))
            earlier = self.splice_earlier(extra)
        moved = self._splice_pipe(most, extra)
        return earlier + moved if moved >= 0 else earlier or -1

    def probe(self) -> int:
        """Move at most one byte from the pipe, even above the quota, to learn whether it has writers: see `splice`.

        Call it only while `may_read_pipe`.
        """
        return self._splice_pipe(1, MAX_SPLICE_BYTES)

    def _splice_pipe(self, most: int, extra: int) -> int:
        try:
            moved = self._splice_from(self._pipe, min(most, self._space(extra)))
        except BlockingIOError:  # the pipe has writers, which have not written yet
            return -1
        if self.writer.is_full and self.is_at_border():
            self.writer.rotate_if_due()
        return moved

    def _splice_from(self, pipe: int, most: int) -> int:
        moved = 0
        try:
            moved = self.writer.splice(pipe, most)
            self._grew(moved)
        finally:
            if moved or self.writer.unwritten:
                self._last = pipe
        return moved

    def _may_read(self, pipe: int) -> bool:
        """Whether the journal ends at a border, or inside a frame whose rest comes from this FIFO or never."""
        return self._last == pipe or self.is_at_border()

    @property
    def may_read_pipe(self) -> bool:
        """Whether the journal does not end inside a frame whose rest is in a FIFO that was removed."""
        return self._may_read(self._pipe)

    def drain_pipe(self) -> None:
        """Take what is in the pipe, and in earlier FIFOs, at this moment, up to a frame's border.

        OSError when not all of it can be taken: the rest stays there.
        """
        drain_pipe(self._pipe, self._splice_in_order)
        self.splice_earlier()

    def _splice_in_order(self, most: int) -> int:
        self.splice_earlier()
        return self._splice_pipe(most, 0)

    def append(self, frames: bytes, on_taken: Callable[[int], None]) -> None:
        """Append whole frames that did not come out of the pipe, at a frame's border. OSError when not all are taken.

        ``on_taken`` is called after each step with the number of bytes that it added: they must not be appended again.
        """
        while frames:
            size = max(self._space(), frame.MAX_FRAME)
            whole = frame.scan(frames[:size], growing=True).consumed or len(frames)
            taken = self.writer.append(frames[:whole])
            self._grew(taken)
            on_taken(taken)
            frames = frames[taken:]

    def is_at_border(self) -> bool:
        """Whether the journal ends with a whole frame, or the rest can't come: the FIFO that was read last is empty.

        It may end inside a frame after a splice, after the disk took only a part, or after a process was killed.
        """
        is_lost = not self.writer.unwritten and self._waiting() == 0
        return is_lost or self.writer.ends_whole()

    def _waiting(self) -> int:
        """Bytes in the FIFO that was read last."""
        return 0 if self._last == _GONE else bytes_in_pipe(self._last)

    # -- after a cleaner ---------------------------------------------------------------------------------------------

    def follow(self, pipe: int) -> bool:
        """Read this FIFO, and the earlier one until its writers are gone; False while the journal ends inside a frame.

        The new FIFO takes over the descriptor number of the earlier one, which other objects use, too.
        """
        if not self.is_at_border():
            return False
        self._last = _GONE
        self._earlier.append(os.dup(self._pipe))
        os.dup2(pipe, self._pipe, inheritable=False)
        os.close(pipe)
        return True

    @property
    def has_earlier(self) -> bool:
        """Whether a FIFO that was removed is still read."""
        return bool(self._earlier)

    def splice_earlier(self, extra: int = 0) -> int:
        """Move what is in earlier FIFOs into the journal; how many bytes. Raises what `splice` raises."""
        before = self.taken
        for pipe in list(self._earlier):
            if self._may_read(pipe):
                with contextlib.suppress(BlockingIOError):
                    self._empty(pipe, extra)
        return self.taken - before

    def _empty(self, pipe: int, extra: int) -> None:
        """Splice all that is in an earlier FIFO, whatever segments it takes, and close the FIFO at its end."""
        left = bytes_in_pipe(pipe)  # not what is written meanwhile: busy writers must not keep the caller
        while moved := self._splice_from(pipe, self._space(extra)):
            left -= moved
            if left <= 0 and self.is_at_border():
                return
        self._earlier.remove(pipe)
        os.close(pipe)
        self._last = _GONE if self._last == pipe else self._last

    def _space(self, extra: int = 0) -> int:
        """Bytes to append now: up to the end of the segment and to the quota, or the rest of a frame beyond them."""
        self.writer.open()
        if self.writer.is_full:
            if rest := self._rest_of_frame():
                return rest
            self.writer.rotate_if_due()
        space = self.writer.space
        if space <= 0:  # no new segment can be made now: this one grows larger
            space = MAX_SPLICE_BYTES
        if self._quota is None:
            return space
        remaining = self._quota.remaining() + extra
        if remaining <= 0:
            if rest := self._rest_of_frame():
                return rest
            raise QuotaReachedError
        return min(space, remaining)

    def _rest_of_frame(self) -> int:
        """How many bytes are missing from the frame with which the journal ends; 0 when it ends at a border.

        0 also when its rest can't come, since the FIFO that was read last is empty.
        """
        beginning = self.writer.unfinished()
        if not beginning or not self._waiting():
            return 0
        size = frame.length(beginning)
        return max(1, (frame.HEADER.size if size is None else size) - len(beginning))

    def _grew(self, appended: int) -> None:
        if self._quota is not None:
            self._quota.grew(appended)

    def begin_new_segment(self, error: OSError) -> bool:
        """Begin the next segment when ``error`` is EFBIG (`ulimit -f`); False otherwise, or when none can begin."""
        if error.errno != errno.EFBIG:
            return False
        try:
            self.writer.move_on()
        except OSError:
            return False
        return True

    def untaken(self) -> bytes:
        """Return what the journal did not take: its unfinished frame and the content of all FIFOs; empty the FIFOs."""
        rest_in = _GONE if self.is_at_border() else self._last
        pipes = sorted([*self._earlier, self._pipe], key=lambda pipe: pipe != rest_in)
        return b"".join(untaken(self.writer, *pipes))

    def close(self) -> None:
        self.writer.close()
