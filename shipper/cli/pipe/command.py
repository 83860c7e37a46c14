"""`some-program 2>&1 | shipper pipe` - ships each line, and never holds the program up.

Two processes. The one that was started only takes in: it splices what comes into a spill, like a `cat` to a file. Its
child ships from there, and holds back while a lot comes in at once, for the program needs the processors then.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, INTERRUPTED, NOT_TRIED, OK, complain

if TYPE_CHECKING:
    from ...application.runtime import App
    from ...config.settings import Settings
    from .lines import Lines, Reading
    from .spill import Spill

FOLDER = "pipe"  # in the spool: a spill for each `shipper pipe`
POURS = 512 * 1024  # bytes a second that are a lot
HOLD = 60.0  # seconds at most that shipping is held back in one go
LOOK = 0.05  # seconds between two looks at how much comes in
GATHER = 0.002  # seconds that a nearly empty pipe is left to fill up ...
FEW = 4096  # ... after it held fewer bytes than this
CALM = 0.5  # seconds between two tries while the spill or the disk is full
NICE = 10
RESTARTS = 3  # how often the shipping process is started again
JOURNALING = 30.0  # seconds at most from the last line's being queued to its being in the journal
FAILED = 70


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "pipe",
        help="ship each line of a program's output",
        description="Ship each line of standard input as one event to the services that the environment names "
        "(SHIPPER_TRAKERR_API_KEY, SHIPPER_JKOOL_TOKEN, and any other SHIPPER_ setting), without slowing down the "
        "program that writes them: what can't be shipped at once waits in the spool, at most 1 GiB of it. "
        "End of input, SIGTERM and Ctrl-C ship what was read; a second signal leaves it to the next `shipper pipe` "
        "with the same settings, as does a kill.",
        epilog="Exit code: 0 every line is in the journal, from which it is delivered; 1 some are not; "
        "2 could not be tried; 130 ended by a second signal.",
    )
    parser.add_argument(
        "--level", default="INFO", help="the level of lines that do not say theirs, a name or a number (%(default)s)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="take lines that are JSON objects apart: the usual keys for message, level, time, logger and traceback "
        "are understood, all others become fields of the event; other lines are shipped as text",
    )
    parser.add_argument(
        "--logger", default="shipper.pipe", metavar="NAME", help="the logger of lines that do not say (%(default)s)"
    )
    parser.add_argument("--app", metavar="NAME", help="ship as this app (default: named after the services)")
    parser.add_argument("--spool", metavar="PATH", help="the app's folder, when that is not in the default place")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ...transport.producer import grow

    try:
        os.fstat(0)
    except OSError as error:
        return complain(f"standard input: {error.strerror}", code=NOT_TRIED)
    grow(0)  # at once: the program goes on while we get ready

    from ...backends import validators
    from ...spool.layout import Spool
    from ...spool.lock import claim
    from ..starting import settings_for
    from .spill import Spill

    written = given.level
    level = validators.level("--level", int(written) if written.isascii() and written.isdigit() else written)
    settings = settings_for(given.app, given.spool)
    spool = Spool(settings.spool)
    spool.prepare()
    claim(spool, settings.app)
    folder = os.path.join(spool.path, FOLDER)
    try:
        spill = Spill.create(folder, {"level": level, "logger": given.logger, "is_json": given.json})
    except OSError as error:
        return complain(f"{folder}: {error.strerror}", code=NOT_TRIED)
    return Intake(spill, lambda ended: Shipping(settings, folder, spill, ended).run()).run()


class Intake:
    """The process that was started: takes in until the end or a signal, then waits for its child."""

    def __init__(self, spill: Spill, ship: Callable[[int], int]) -> None:
        self._spill = spill
        self._ship = ship
        self._pid = os.getpid()
        self._child = 0
        self._code: int | None = None  # of the child, once it has ended for good
        self._starts = 0
        self._bell = -1  # the child sees it closed when nothing more comes
        self._signals = 0
        self._ended = False
        self._said = False

    def run(self) -> int:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._start()
        while self._code is None and not self._signals and self._take():
            pass
        if self._signals and self._code is None:
            self._take_the_rest()
        self._ended = True
        os.close(self._bell)
        while self._code is None and self._signals < 2:
            self._wait(None)
            self._look_at_child()
        return self._finish()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    # -- the child ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        end, self._bell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._starts += 1
        self._child = os.fork()
        if self._child:
            os.close(end)
            return
        try:
            os.close(self._bell)
            self._become_the_child()
            code = self._ship(end)
            if code in (OK, BAD_NEWS) and os.getppid() != self._pid and not self._spill.waiting:
                self._spill.remove()  # nobody else is left to do it
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = FAILED
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)

    def _become_the_child(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._woken)
        os.close(self._wake)
        # Only its parent tells it when to end. Handlers, and not SIG_IGN: that would be inherited by what it starts.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, lambda number, frame: None)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)

    def _look_at_child(self) -> None:
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        if code in (OK, BAD_NEWS, NOT_TRIED) or self._starts > RESTARTS:
            self._code = code if code >= 0 else FAILED
            return
        if not self._ended:
            os.close(self._bell)
        self._start()
        if self._ended:
            os.close(self._bell)

    # -- what comes --------------------------------------------------------------------------------------------------

    def _wait(self, timeout: float | None, *, for_input: bool = False) -> bool:
        """Until there is input, a signal, or the time is over; whether there is input."""
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        if for_input:
            poller.register(0, select.POLLIN)
        found = dict(poller.poll(None if timeout is None else timeout * 1000))
        if self._woken in found:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 512)
            if not self._ended:
                self._look_at_child()
        return 0 in found

    def _take(self, timeout: float | None = None) -> bool:
        """Take in what there is; False at the end, or when there was nothing in time."""
        from .spill import LIMIT

        if self._spill.waiting >= LIMIT:
            self._complain("more than 1 GiB waits to be shipped: the program that writes has to wait too")
            self._wait(CALM)
            return timeout is None
        if not self._wait(timeout, for_input=True):
            return timeout is None
        try:
            size = self._spill.take(0)
        except BlockingIOError:
            return timeout is None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            self._complain(f"the spool: {error.strerror}; the program that writes has to wait")
            self._wait(CALM)
            return timeout is None
        with contextlib.suppress(OSError):  # full: it has enough to do. Gone: it is started again.
            os.write(self._bell, b".")
        if 0 < size < FEW:
            self._wait(GATHER)
        return size > 0

    def _take_the_rest(self) -> None:
        """What the program had written before the signal."""
        while self._take(timeout=0.0):
            pass

    def _complain(self, what: str) -> None:
        if not self._said:
            complain(what, code=OK)
        self._said = True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self) -> int:
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        if self._code in (OK, BAD_NEWS) and not self._spill.waiting:
            self._spill.remove()
            return self._code
        waiting = f"{self._spill.waiting} bytes are read and not shipped; the next `shipper pipe` ships them"
        return complain(waiting, code=INTERRUPTED if self._code is None else self._code)


class Shipping:
    """The child: ships what is in the spill, and what was left in spills of others that are gone."""

    def __init__(self, settings: Settings, folder: str, spill: Spill, bell: int) -> None:
        self._settings = settings
        self._folder = folder
        self._spill = spill
        self._bell = bell
        spill.rewind()
        self._ended = False
        self._app: App | None = None
        self._seen, self._looked = spill.taken, time.monotonic()
        self._pours_since: float | None = self._looked  # until the first look
        self._dropped = 0

    def run(self) -> int:
        from .lines import Reading
        from .spill import abandoned

        self._await_turn()
        for left in abandoned(self._folder):
            self._ship(left, Reading(**left.reading), is_whole=True)
            left.remove()
        self._ship(self._spill, Reading(**self._spill.reading))
        return self._end()

    def _ship(self, spill: Spill, reading: Reading, *, is_whole: bool = False) -> None:
        from .lines import Lines

        lines = Lines(spill.shipped)
        while True:
            is_last = is_whole or self._ended  # before the look at what there is
            chunk = spill.next()
            if chunk:
                self._ship_lines(spill, reading, lines, chunk)
                self._await_turn()
            elif is_last:
                break
            else:
                self._wait(None)
        line = lines.last()
        if line is not None:
            self._put(reading.event(line, spill.arrival(line.end)))
            spill.settle(line.end)

    def _ship_lines(self, spill: Spill, reading: Reading, lines: Lines, chunk: bytes) -> None:
        for line in lines.feed(chunk):
            self._put(reading.event(line, spill.arrival(line.end)))
            spill.settle(line.end)

    def _put(self, event: Any) -> None:
        if event is None:
            return
        app = self._app or self._begin()
        app.queue.drain(math.inf)  # wait for room: nothing is dropped because the queue is full
        self._dropped += not app.pipeline.put(event)

    def _begin(self) -> App:
        from ..starting import begin

        self._app = begin(self._settings)
        os.nice(NICE)  # this thread alone: the shipper process may be at work for others too
        return self._app

    # -- taking turns with the program -------------------------------------------------------------------------------

    def _await_turn(self) -> None:
        """Return when less comes in, when it has been a lot for a long time, or when nothing more will come."""
        from .spill import LIMIT

        while not self._ended and self._pours() and self._spill.waiting < LIMIT // 2:
            self._wait(LOOK)

    def _pours(self) -> bool:
        now = time.monotonic()
        passed = now - self._looked
        if passed >= LOOK:
            taken = self._spill.taken
            if taken - self._seen < POURS * passed:
                self._pours_since = None
            elif self._pours_since is None:
                self._pours_since = now
            self._seen, self._looked = taken, now
        return self._pours_since is not None and now - self._pours_since < HOLD

    def _wait(self, timeout: float | None) -> None:
        """Until something has come in, or the time is over."""
        poller = select.poll()
        poller.register(self._bell, select.POLLIN)
        if timeout is not None:  # it rings all the time
            poller.modify(self._bell, 0)
        poller.poll(None if timeout is None else timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            while rung := os.read(self._bell, 65536):
                del rung
            self._ended = True

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> int:
        from ...application.api import stop

        if self._app is None:
            return OK
        app = self._app
        app.queue.drain(math.inf)
        journaled = app.flush(time.monotonic() + JOURNALING, delivered=False) or app.supervisor.rescue()
        stop(0.0)
        if not journaled:
            return complain("the last lines are not in the journal yet: is the disk full?", code=BAD_NEWS)
        if self._dropped:
            return complain(f"{self._dropped} lines were dropped; `shipper status` says why", code=BAD_NEWS)
        return OK
