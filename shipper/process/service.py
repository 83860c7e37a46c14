"""One app's shipper process: starts its parts, looks after them, and ends them in order.

Threads: intake writes the journal; each deliverer reads it for one backend; the main thread does everything else, and
is the only one to use the account, recovery, retention and the status.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from types import FrameType

from ..config.limits import Spooling
from ..config.settings import Settings
from ..journal.account import Account
from ..journal.writer import Writer
from ..spool.layout import Spool
from ..spool.progress import ProgressWriter
from ..transport.frame import MAX_FRAME
from ..transport.orphans import count_events, write_orphan
from . import log
from .appender import Appender
from .crashes import Crashes
from .deliveries import Deliveries
from .drain import Drain
from .flushes import Flushes
from .inherited_stderr import InheritedStderr
from .intake import Intake
from .lock_file import LockFile
from .quota import Quota, QuotaReachedError
from .recovery import Recovery
from .retention import Retention
from .status_writer import StatusWriter
from .threads import EXIT_FAILED, Threads, block_fatal_signals
from .upkeep import SpoolLostError, Upkeep
from .waker import Waker, poll

HAND_OVER = signal.SIGUSR1  # end at once: a process with other settings takes over
DRAIN_TICK_SECONDS = 0.05  # between two rounds of the main thread while it drains
MIN_PAUSE_SECONDS = 0.02  # between two rounds unless one is waited for: the processor is left to the deliverers
HOUSEKEEPING_SECONDS = 1.0
RETENTION_SECONDS = 10.0  # between two looks at the segments while nothing happens
END_SECONDS = 3.0  # that requests under way get to end
MAX_QUOTA_ROUNDS = 1000  # of giving up segments at the end, for what is still in the pipe

_log = logging.getLogger(log.NAME)


class Service:
    """Runs until no process writes any more and everything is delivered, until the grace ends, or until SIGUSR1.

    ``pipe`` is the reading end of the queue, ``joins`` the FIFO for backends that clients join, -1 when there is none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        pipe: int,
        joins: int,
        lock_file: LockFile,
        crashes: Crashes,
        stderr: InheritedStderr,
    ) -> None:
        self._stderr = stderr
        self._pipe = pipe
        self._joins = joins
        self._lock_file = lock_file
        self._crashes = crashes
        self._spool = spool = Spool(settings.spool)
        self._waker = Waker()
        self._terminated = False
        self._handed_over = False
        self._round_at = 0.0
        self._is_idle = False  # nothing has happened in the last round, or since the last housekeeping ...
        self._was_active = True
        self._cleaned_at = self._retained_at = float("-inf")
        overflows = tuple(dict.fromkeys((spool.overflow, spool.overflow_on_disk)))
        self._account = Account(spool.ledger, spool.journal, spool.damaged)
        progress = ProgressWriter(spool.progress)
        self._deliveries = Deliveries(settings, spool, self._account, crashes, progress, self._waker.wake)
        self._flushes = Flushes(self._account, progress, self._deliveries.positions)
        newest = max(self._account.position.segment, self._deliveries.newest_segment)
        writer = Writer(spool.journal, segment_bytes=settings.spooling.segment, first=newest)
        quota = Quota(spool.journal, settings.spooling.quota)
        self._appender = Appender(pipe, writer, quota)
        self._intake = Intake(
            pipe,
            self._appender,
            *overflows,
            fsync=settings.spooling.fsync,
            last_bytes=_last_bytes(settings.spooling),
            on_change=self._journal_changed,
        )
        self._intake_thread = Threads(crashes)
        self._status = StatusWriter(
            spool.status, self._account, self._intake, self._deliveries, self._flushes, overflows=overflows
        )
        self._recovery = Recovery(spool.overflow, pipe, self._appender, self._intake, self._account)
        self._retention = Retention(spool, settings.spooling, self._account, self._intake, self._deliveries)
        self._upkeep = Upkeep(spool, lock_file, self._intake, self._deliveries, pipe)
        self._drain = Drain(settings.grace)

    # -- signals only set flags and wake the main thread ----------------------------------------------------------

    def _install_signal_handlers(self) -> None:
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(HAND_OVER, self._on_hand_over)
        # The application may have blocked them, and that is inherited.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, HAND_OVER})
        block_fatal_signals()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        self._waker.wake()

    def _on_hand_over(self, number: int, frame: FrameType | None) -> None:
        self._handed_over = True
        self._waker.wake()

    def _journal_changed(self) -> None:
        self._waker.wake()
        self._deliveries.wake()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._install_signal_handlers()
        if not os.path.exists(self._spool.status):
            # While there is space for it: on a full disk only a file that exists can be written over.
            self._status.write_if_due()
        self._recovery.begin()
        self._intake_thread.start("intake", self._intake.run)
        self._deliveries.open()
        _log.info("started, pid %d", os.getpid())
        # Once more before the end: a process may have requested a join, written and ended since the last round.
        while not self._is_over() or self._take_joined():
            self._do_round()
            self._wait()
        self._end()

    def _wait(self) -> None:
        """Until something has happened, or time has come for the status, for housekeeping or for the end."""
        seconds = [self._status.seconds_until_due(), self._cleaned_at + HOUSEKEEPING_SECONDS - time.monotonic()]
        if self._drain.is_draining:
            seconds.append(DRAIN_TICK_SECONDS)
        woken = self._waker.wait(min(seconds), self._joins, self._stderr.descriptor)
        if self._joins not in woken and not self._is_urgent():
            woken.update(poll(self._round_at + MIN_PAUSE_SECONDS - time.monotonic(), self._joins))
        if self._joins in woken:
            self._flushes.announce()
        self._is_idle = not woken and not self._waker.was_woken
        self._was_active = self._was_active or not self._is_idle
        self._round_at = time.monotonic()

    def _is_urgent(self) -> bool:
        """Whether another process, or intake, waits for the next round."""
        return self._flushes.is_waiting or self._flushes.is_status_due or self._intake.full.is_set()

    def _do_round(self) -> None:
        self._stderr.close_if_orphaned()
        self._take_joined()
        if self._deliveries.load is not None:
            self._deliveries.load.sample_if_due(idle=self._is_idle)
        with contextlib.suppress(OSError):
            self._account.follow()
            self._flushes.update()
            self._account_for_adopted()
        if self._intake.full.is_set():
            self._make_space()
        self._keep_house()
        # First the beginning of an event, which may be in a pipe mirror, then its rest, which may be in an overflow.
        if not self._recovery.is_pending:
            self._intake.adopting.set()
        self._update_drain()
        self._status.write_if_due()

    def _take_joined(self) -> bool:
        if self._handed_over:  # it is for the next process
            return False
        is_new = self._deliveries.take_joined(self._joins)
        if is_new:
            self._lock_file.publish(self._deliveries.settings)
        return is_new

    def _account_for_adopted(self) -> None:
        """Note what killed processes dropped, durably, before the overflow that says so is removed."""
        while not self._intake.adopted.empty():
            found = self._intake.adopted.get()
            self._account.note_drops(found.name, found.pid, found.drops)
            try:
                self._account.save()
            except OSError:
                self._intake.adopted.put(found)
                raise
            found.remove()

    def _make_space(self) -> None:
        with contextlib.suppress(OSError):  # tried again in the next round
            self._retention.keep_quota()
        self._intake.space_made()

    def _keep_house(self) -> None:
        """Once a second: save the account, delete segments, keep the quota, remove pipe mirrors."""
        now = time.monotonic()
        if now - self._cleaned_at < HOUSEKEEPING_SECONDS:
            return
        self._cleaned_at = now
        self._keep_spool()
        self._joins = self._upkeep.open_joins(self._joins)
        self._crashes.clear_if_healthy()
        with contextlib.suppress(OSError):
            self._account.save()
        if self._was_active or now - self._retained_at >= RETENTION_SECONDS:
            self._was_active = False
            self._retained_at = now
            with contextlib.suppress(OSError):
                self._retention.delete_passed()
                self._retention.keep_quota()
        with contextlib.suppress(OSError):
            self._recovery.look()
        if self._intake.adopting.is_set():
            self._intake.look_for_orphans()

    def _keep_spool(self) -> None:
        """End at once, without another write into the spool, when another process has it: a journal has one writer."""
        try:
            self._upkeep.look()
        except OSError as error:
            _log.warning("a part of the spool can't be made again: %s", error)
        except SpoolLostError as error:
            _log.error("the process ends because %s uses the spool %s", error, self._spool.path)
            with contextlib.suppress(OSError):
                self._upkeep.relay(self._appender.read_from(min(self._deliveries.durable)))
            logging.shutdown()
            os._exit(EXIT_FAILED)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _update_drain(self) -> None:
        """No writers are left, or SIGTERM came: drain while there is progress, for up to `grace` seconds without."""
        no_writers = self._intake.eof.is_set()
        draining = no_writers or self._terminated or self._intake.hung_up.is_set()
        if no_writers and not self._drain.is_draining:
            self._stderr.close()
        self._drain.update(draining, settled=self._deliveries.settled)
        self._deliveries.set_drain_mode(
            draining,
            no_writers=no_writers,
            disk_blocked=bool(self._intake.trouble) or self._recovery.is_pending,
            quota_reached=self._intake.full.is_set(),
            flush_waiting=self._flushes.is_waiting,
        )

    def _is_over(self) -> bool:
        if self._handed_over or self._drain.is_out_of_time:
            return True
        if not self._drain.is_draining or not self._intake.eof.is_set() or not self._is_drained():
            return False
        return not self._upkeep.has_other_queue()

    def _is_drained(self) -> bool:
        return not self._intake.trouble and self._intake.adopted.empty() and self._deliveries.is_drained

    def _end(self) -> None:
        # Deliverers first: while their last requests end, intake still empties the pipe.
        self._deliveries.stop(time.monotonic() + END_SECONDS)
        self._intake.stop()
        self._intake_thread.join(END_SECONDS)
        with contextlib.suppress(OSError):
            self._account.follow(10_000)
            self._account_for_adopted()
            self._account.save()
            self._retention.delete_passed()
        self._status.write(last=True)
        if not self._intake_thread.are_alive:
            self._take_leave()
        for folder in (self._spool.overflow_on_disk, self._spool.overflow, os.path.dirname(self._spool.overflow)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        self._crashes.clear()
        _log.info("ended")

    def _take_leave(self) -> None:
        """Save what processes wrote that came, and ended, since intake has ended."""
        with contextlib.suppress(OSError):
            self._recovery.look()
        with contextlib.suppress(OSError):
            self._drain_pipe()
        self._save_rest()
        self._appender.close()
        self._recovery.end()

    def _drain_pipe(self) -> None:
        """Move what is in the pipe into the journal. OSError when disk or quota do not take all of it."""
        for _ in range(MAX_QUOTA_ROUNDS):
            with contextlib.suppress(QuotaReachedError):
                self._appender.drain_pipe()
                return
            self._retention.keep_quota()

    def _save_rest(self) -> None:
        """What the journal did not take is only in the pipe, which ends with us when no process has it open."""
        if not self._intake.hung_up.is_set() or not (rest := self._appender.untaken()):
            return
        try:
            write_orphan(self._spool.overflow, rest)
        except OSError as error:
            self._account.note_drops(f"{os.urandom(8).hex()}-0", os.getpid(), count_events(rest))
            _log.error("disk and memory are full: the events in the pipe are lost, and counted as dropped (%s)", error)
            with contextlib.suppress(OSError):
                self._account.save()
            self._status.write(last=True)


def _last_bytes(spooling: Spooling) -> int:
    """How far the last events may go above the quota when new events are refused: quota + segment is the bound."""
    return max(0, spooling.segment - 2 * MAX_FRAME) if spooling.when_full == "newest" else 0
