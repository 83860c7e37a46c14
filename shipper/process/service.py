"""One app's shipper process: starts its parts, looks after them, and ends them in order.

Threads: intake writes the journal; each deliverer reads it for one backend; the main thread does everything else. All
of them sleep until something happens: bytes in the pipe, a change of the journal, a settled batch, a signal, a client
that joins a backend or announces a flush. The main thread also wakes by time, once a second.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from types import FrameType

from ..config.settings import Settings
from .drain import Drain
from .ending import Ending
from .housekeeping import Housekeeping
from .parts import make_parts
from .status.crashes import Crashes
from .system import log
from .system.inherited_stderr import InheritedStderr
from .system.lock_file import LockFile
from .threads import Threads, block_fatal_signals
from .waker import Waker, poll

HAND_OVER = signal.SIGUSR1  # end at once: a process with other settings takes over
DRAIN_TICK_SECONDS = 0.05  # between two rounds of the main thread while it drains
PAUSE_SECONDS = 0.05  # between two rounds that nobody waits for, which leaves the processor to the deliverers
DRAIN_PAUSE_SECONDS = 0.02  # the same while it drains; shorter, since only a round can end the process

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
        self._joins = joins
        self._lock_file = lock_file
        self._stderr = stderr
        self._waker = Waker()
        self._terminated = False
        self._handed_over = False
        self._round_at = 0.0
        self._is_idle = False  # nothing has happened since the last round
        self._nothing_comes = False  # no process writes any more, and what ended processes left is in the journal
        self._deaths = 0  # number of journaled events about deaths that the deliverers were told of
        self._parts = make_parts(settings, pipe=pipe, lock_file=lock_file, crashes=crashes, waker=self._waker)
        self._housekeeping = Housekeeping(self._parts)
        self._intake_thread = Threads(crashes)
        self._drain = Drain(settings.grace)

    # -- signals only set flags and wake the main thread -------------------------------------------------------------

    def _install_signal_handlers(self) -> None:
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(HAND_OVER, self._on_hand_over)
        # The application may have blocked these signals, and the process inherits that.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, HAND_OVER})
        block_fatal_signals()

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        self._waker.wake()

    def _on_hand_over(self, number: int, frame: FrameType | None) -> None:
        self._handed_over = True
        self._waker.wake()

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        parts = self._parts
        self._install_signal_handlers()
        if not os.path.exists(parts.spool.status):
            # Early, while the disk has space: on a full disk only a file that exists can be overwritten.
            parts.status.write_if_due()
        parts.recovery.begin()
        self._intake_thread.start("intake", parts.intake.run)
        parts.deliveries.open()
        _log.info("started, pid %d", os.getpid())
        # Once more before the end: a process may have requested a join, written and ended since the last round.
        while not self._is_over() or self._take_joined():
            self._do_round()
            self._wait()
        self._end()

    def _end(self) -> None:
        Ending(self._parts, self._housekeeping, self._intake_thread).end()

    def _wait(self) -> None:
        """Wait until something has happened, or until the status, housekeeping or the end is due."""
        seconds = min(self._parts.status.seconds_until_due(), self._housekeeping.seconds_until_due())
        if self._drain.is_draining:
            seconds = min(seconds, DRAIN_TICK_SECONDS)
        woken = self._waker.wait(seconds, self._joins, self._stderr.descriptor)
        if self._joins not in woken and not self._is_urgent():
            pause = DRAIN_PAUSE_SECONDS if self._drain.is_draining else PAUSE_SECONDS
            woken.update(poll(self._round_at + pause - time.monotonic(), self._joins))
        if self._joins in woken:
            self._parts.flushes.announce()
            self._parts.control.look()
        self._is_idle = not woken and not self._waker.was_woken
        self._round_at = time.monotonic()

    def _is_urgent(self) -> bool:
        """Whether another process, or intake, waits for the next round."""
        parts = self._parts
        return parts.flushes.is_waiting or parts.flushes.is_status_due or parts.intake.full.is_set()

    def _do_round(self) -> None:
        parts = self._parts
        self._stderr.close_if_orphaned()
        self._take_joined()
        if parts.deaths is not None:
            parts.deaths.watch_new()
        if parts.deliveries.load is not None:
            parts.deliveries.load.sample_if_due(idle=self._is_idle)
        with contextlib.suppress(OSError):
            parts.account.follow()
            parts.flushes.update()
            self._housekeeping.account_for_adopted()
        parts.deliveries.update_encoders()
        if parts.intake.full.is_set():
            self._housekeeping.make_space()
        if self._housekeeping.do_if_due(is_idle=self._is_idle):
            self._joins = parts.upkeep.open_joins(self._joins)
        # Mirrors first: an event may begin in a pipe mirror, and its rest be in an overflow.
        if not parts.recovery.is_pending:
            parts.intake.adoption.allowed.set()
        self._update_drain()
        parts.status.write_if_due()

    def _take_joined(self) -> bool:
        if self._handed_over:  # the next process reads the requests
            return False
        is_new = self._parts.deliveries.take_joined(self._joins)
        if is_new:
            self._lock_file.publish(self._parts.deliveries.settings)
        return is_new

    # -- draining ----------------------------------------------------------------------------------------------------

    def _update_drain(self) -> None:
        """Drain once no writers are left or SIGTERM came, until `grace` seconds have passed without progress."""
        intake, deliveries, recovery = self._parts.intake, self._parts.deliveries, self._parts.recovery
        # Read both before `eof`. What a process that starts now writes is behind `counted`; and intake clears the
        # `eof` of a removed queue before it reads the new one.
        counted, has_other_queue = self._parts.account.position, self._parts.upkeep.has_other_queue()
        no_writers = intake.eof.is_set()
        # What a killed process left in its mirror, or in a new queue, may be the rest of an event.
        self._nothing_comes = no_writers and not has_other_queue and not recovery.finds_more()
        draining = no_writers or self._terminated or intake.hung_up.is_set()
        if no_writers and not self._drain.is_draining:
            self._stderr.close()
        self._drain.update(draining, settled=deliveries.settled)
        intake.set_hurry(self._parts.flushes.is_waiting)
        deliveries.set_drain_mode(
            draining,
            final_to=counted if self._nothing_comes else None,
            disk_blocked=bool(intake.trouble) or recovery.is_pending or recovery.is_unclear,
            quota_reached=intake.full.is_set(),
            flush_waiting=self._parts.flushes.is_waiting,
        )

    def _is_over(self) -> bool:
        if self._handed_over or self._drain.is_out_of_time:
            return True
        if not self._drain.is_draining or not self._nothing_comes or not self._parts.intake.eof.is_set():
            return False
        return self._is_drained() and not self._parts.upkeep.has_other_queue() and self._are_deaths_reported()

    def _are_deaths_reported(self) -> bool:
        """Whether the events about all deaths are journaled, and the deliverers were told to look for them."""
        parts = self._parts
        if parts.deaths is None:
            return True
        with contextlib.suppress(OSError):
            parts.deaths.report_waiting()
        if parts.recovery.is_pending or parts.deaths.is_pending:
            return False
        before, self._deaths = self._deaths, parts.deaths.journaled
        if before != self._deaths:
            parts.deliveries.look_again()
        return before == self._deaths

    def _is_drained(self) -> bool:
        intake = self._parts.intake
        return not intake.trouble and intake.adoption.adopted.empty() and self._parts.deliveries.is_drained
