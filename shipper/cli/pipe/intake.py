"""The process that `shipper pipe` starts as: moves its input into a spill, and watches the child that ships from it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType

from .. import BAD_NEWS, INTERRUPTED, NOT_TRIED, OK, complain
from .spill import LIMIT, Spill
from .tee import Tee, close_stdout

GATHER = 0.002  # seconds that a nearly empty pipe is left to fill up ...
FEW = 4096  # ... after it held fewer bytes than this
RETRY = 0.5  # seconds between two attempts while the spill or the disk is full
RESTARTS = 3  # how often the child is started again
FAILED = 70

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Intake:
    """Takes in until the end of the input or a signal, then waits for its child. A second signal kills the child.

    ``ship`` runs in the child. Its argument is the reading end of a pipe: a byte in it says that more was taken in, its
    end that nothing more will come. It returns the exit code.
    """

    def __init__(self, spill: Spill, ship: Callable[[int], int], *, tee: bool = False) -> None:
        self._spill = spill
        self._tee = Tee(lambda: self._signals > 0) if tee else None
        self._ship = ship
        self._pid = os.getpid()
        self._child = 0
        self._code: int | None = None  # of the child, once it has ended for good
        self._starts = 0
        self._news = -1  # the writing end of the child's pipe
        self._signals = 0
        self._ended = False
        self._has_complained = False

    def run(self) -> int:
        """Take in, and wait until the child has ended; return the exit code of the command."""
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for each in _SIGNALS:
            signal.signal(each, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._start()
        while self._code is None and not self._signals and self._take():
            pass
        if self._signals and self._code is None:
            self._take_rest()
        self._ended = True
        os.close(self._news)
        if self._tee is not None:
            self._tee.close()
        while self._code is None and self._signals < 2:
            self._wait(None)
            self._check_child()
        return self._finish()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    # -- the child ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        news, self._news = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._starts += 1
        self._child = os.fork()
        if self._child:
            os.close(news)
            return
        try:
            os.close(self._news)
            self._become_child()
            code = self._ship(news)
            if code in (OK, BAD_NEWS) and os.getppid() != self._pid and not self._spill.waiting:
                self._spill.remove()  # the parent is gone and cannot do it
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = FAILED
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wake)
        # Only the parent tells the child when to end. Handlers, not SIG_IGN: SIG_IGN is inherited by what it starts.
        for each in _SIGNALS:
            signal.signal(each, lambda number, frame: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        close_stdout()  # as long as the child has it open, the reader of stdout does not see its end

    def _check_child(self) -> None:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        if code in (OK, BAD_NEWS, NOT_TRIED) or self._starts > RESTARTS:
            self._code = code if code >= 0 else FAILED
            return
        if not self._ended:
            os.close(self._news)
        self._start()
        if self._ended:
            os.close(self._news)

    # -- input -------------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None, *, for_input: bool = False) -> bool:
        """Wait for input, a signal, or ``timeout`` seconds; whether there is input."""
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if for_input:
            poller.register(0, select.POLLIN)
        found = dict(poller.poll(None if timeout is None else timeout * 1000))
        if self._woken in found:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 512)
            if not self._ended:
                self._check_child()
        return 0 in found

    def _take(self, timeout: float | None = None) -> bool:
        """Take in input. False at its end, or when nothing was taken in within ``timeout`` seconds (None: no limit)."""
        if self._spill.waiting >= LIMIT:
            self._complain_once("more than 1 GiB waits to be shipped: the program that writes has to wait too")
            self._wait(RETRY)
            return timeout is None
        if not self._wait(timeout, for_input=True):
            return timeout is None
        size = self._move()
        if size is None:
            return timeout is None
        with contextlib.suppress(OSError):  # full: the child has enough to do; closed: the child is started again
            os.write(self._news, b".")
        if 0 < size < FEW:
            self._wait(GATHER)
        return size > 0

    def _move(self) -> int | None:
        """Move input into the spill; return how many bytes, 0 at its end, None when nothing could be moved."""
        try:
            size = self._spill.take(0)
            if self._tee is not None and size:
                self._tee.write(self._spill.last(size), self._woken)
            return size
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._complain_once(f"the spool: {error.strerror}; the program that writes has to wait")
            self._wait(RETRY)
            return None

    def _take_rest(self) -> None:
        """Take in what the program had written before the signal."""
        while self._take(timeout=0.0):
            pass

    def _complain_once(self, what: str) -> None:
        if not self._has_complained:
            complain(what, code=OK)
        self._has_complained = True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> int:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        if self._code in (OK, BAD_NEWS) and not self._spill.waiting:
            self._spill.remove()
            return self._code
        waiting = f"{self._spill.waiting} bytes were read and not shipped; the next `shipper pipe` ships them"
        return complain(waiting, code=INTERRUPTED if self._code is None else self._code)
