"""An encoder process, as the shipper process sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from ...delivery.lending.lending import PartEndedError
from ...delivery.lending.part import Request
from ...journal.segments import Position
from ..system.load_samples import Samples
from .channel import Channel
from .job import Job, Part

REAP_SECONDS = 1.0  # that a killed process has to end

_BOOTSTRAP = (  # as the shipper process is started, see `launcher.BOOTSTRAP`
    "import sys\nsys.path[:]={path}\nfrom shipper.process.encoders.worker import main\nmain({reading},{writing})"
)


class EncoderProcess:
    """One encoder process. A deliverer's thread calls `lend` and `next`, the main thread everything else.

    OSError when it can't be started. It may be killed at any time: nothing is lost with it.
    """

    def __init__(self, job: Job, name: str, samples: Callable[[], Samples]) -> None:
        self._samples = samples
        self._part = 0  # the number of the last part
        self._is_killed = False
        self._using = threading.Lock()
        child, ours = _channels()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self._child = _start(child, f"shipper encoder: {name} of {job.app}")
            undo.callback(self._child.kill)
            self.pid = self._child.pid
            self._channel = ours
            ours.send(job)
            undo.pop_all()

    def lend(self, start: Position, end: Position) -> None:
        """See `delivery.lending.lending.Borrower`."""
        with self._using:
            self._check()
            self._part += 1
            self._channel.send(Part(self._part, start, end, self._samples()))

    def next(self, seconds: float) -> Request | None:
        """See `delivery.lending.lending.Borrower`."""
        with self._using:
            self._check()
            while (received := self._channel.receive(seconds)) is not None:
                number, request = received
                if number == self._part:
                    if request is None:
                        raise PartEndedError
                    return Request(*request)
        return None

    def _check(self) -> None:
        if self._is_killed:  # the numbers of its closed descriptors may be other files by now
            raise EOFError("the process was ended")

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._child.poll() is not None

    def kill(self) -> None:
        """Kill the process and close the channel."""
        self._is_killed = True
        self._child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(REAP_SECONDS)
        with self._using, contextlib.suppress(OSError):  # no other thread uses the descriptors any more
            self._channel.close()


def _channels() -> tuple[Channel, Channel]:
    """Return the two ends of a new channel: for the encoder process, and for this one."""
    there = os.pipe()
    try:
        here = os.pipe()
    except OSError:
        os.close(there[0])
        os.close(there[1])
        raise
    return Channel(there[0], here[1]), Channel(here[0], there[1])


def _start(channel: Channel, title: str) -> subprocess.Popen[bytes]:
    """Start a process that inherits this end of a channel; close the end in this process."""
    code = _BOOTSTRAP.format(path=sys.path, reading=channel.reading, writing=channel.writing)
    # It has to survive a SIGTERM to all processes of a service: blocked until it ignores the signal itself.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return subprocess.Popen(
            [sys.executable, "-c", code, title],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the inherited one may be a pipe, whose reader waits for its end
            pass_fds=[channel.reading, channel.writing],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        channel.close()
