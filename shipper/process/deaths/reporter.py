"""Reports processes of the application that have ended without a clean close.

Protects from: a process that ends without a log line: SIGKILL, the OOM killer, a crash in a C library, `os._exit`. How
likely: rare, but then it explains an outage. Costs: nothing unless `report_deaths` is set; then a descriptor per
process, a look at the folder of mirrors once a second, and a read of the journal's end for each death. It meets
recovery (whose mirrors say who has ended), the pipe's last events (journaled before the notice), restarts and kills of
the shipper process, the quota, the end of the application, and upgrades (earlier versions' mirrors say nothing).

Invariants: each death is in exactly one event, its own or one about several, whatever is killed when: the token of that
event is in the mirror before the event is journaled, and the mirror is removed after that. A shipper process that finds
a mirror with a token removes it if the journal has that event, and otherwise reports the death again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from ...event.model import Event
from ...event.truncate import pack
from ...journal.account import Account
from ...spool.files import open_file
from ...spool.layout import Spool
from ...transport import frame
from ...transport.channel import new_token
from ...transport.memory.life import CLAIM_AT, Head
from ...transport.memory.orphans import OrphanedMirror
from ...transport.memory.shared_file import HEAD_BYTES, process_is_gone
from ..ingest.adoption import Adoption
from ..system import log
from .notice import Death, find_last_events, notice, summary
from .oom import OomKiller
from .watch import Watch, read_head

NOTICES = 10  # deaths per window that get an event of their own; the others are counted in one event afterwards
WINDOW_SECONDS = 60.0

_ALL = 1_000_000  # stretches of the journal to follow, more than it has
_EVERY_PART = -1  # no part has this number: `Account.has` is true for it only when all parts have come
_SIGTERM, _SIGKILL = 15, 9

_log = logging.getLogger(log.NAME)


class DeathReporter:
    """Used by the main thread; ``adoption`` appends the events to the journal in intake's thread."""

    def __init__(
        self,
        spool: Spool,
        app: str,
        account: Account,
        adoption: Adoption,
        *,
        watch: Watch | None = None,
        oom_killer: OomKiller | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._app = app
        self._account = account
        self._adoption = adoption
        self._watch = watch or Watch(spool.overflow)
        self._oom_killer = oom_killer or OomKiller()
        self._clock = clock
        self._reported_at: deque[float] = deque(maxlen=NOTICES)
        self._waiting: list[Death] = []  # deaths for the next event about several
        self._waiting_since = 0.0
        self.journaled = 0  # number of events about deaths, counted by intake's thread
        self._under_way: set[str] = set()  # paths of mirrors whose event is on its way to the journal

    def watch_new(self) -> None:
        """Watch processes that have started. Called in every round of the main thread."""
        self._watch.look()

    def look(self) -> None:
        """Report the waiting deaths once they have waited for `WINDOW_SECONDS`. Called once a second."""
        self._watch.look()
        self._oom_killer.look()
        if self._waiting and self._clock() - self._waiting_since >= WINDOW_SECONDS:
            self.report_waiting()

    @property
    def is_pending(self) -> bool:
        """Whether a death is known that is not in the journal."""
        return bool(self._waiting or self._under_way)

    def knows(self, path: str) -> bool:
        """Whether the process of this mirror is to be reported, or is being reported."""
        return path in self._under_way or any(death.path == path for death in self._waiting)

    def take(self, mirrors: Sequence[OrphanedMirror]) -> None:
        """Report the processes of these mirrors, and remove each mirror once the death is journaled.

        The frames in the mirrors are in the journal. A process that has not ended yet is left for a later call.
        """
        deaths = []
        for mirror in mirrors:
            death = self._look_at(mirror)
            if death is not None:
                deaths.append(death)
        now = self._clock()
        own = [death for death in deaths if self._may_report(now)]
        if own:
            find_last_events(own, self._spool.journal, self._spool.kept)
        for death in own:
            self._report(notice(death, self._app), [death])
        others = deaths[len(own) :]
        if others and not self._waiting:
            self._waiting_since = now
        self._waiting += others

    def _may_report(self, now: float) -> bool:
        """Whether the limit allows another notice; if so, it is counted."""
        if self._waiting or (len(self._reported_at) == NOTICES and now - self._reported_at[0] < WINDOW_SECONDS):
            return False
        self._reported_at.append(now)
        return True

    def report_waiting(self) -> None:
        """Report all waiting deaths in one event, now."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._report(summary(waiting, self._app), waiting)

    # -- one mirror --------------------------------------------------------------------------------------------------

    def _look_at(self, mirror: OrphanedMirror) -> Death | None:
        """Return the death of the mirror's process, or None.

        None: there is nothing to report, and the mirror was removed; or the mirror stays, to be looked at again later.
        """
        try:
            seen, head = os.stat(mirror.path).st_mtime, read_head(mirror.path)
        except (OSError, ValueError):
            self._remove(mirror.path)
            return None
        if head.life is None or head.is_clean or self._was_reported(head):
            self._remove(mirror.path)
            return None
        ending = self._watch.ending(mirror.path, head)
        if ending.is_ending:
            return None
        if ending.lives_on or _was_terminated(head, ending.signal):
            self._remove(mirror.path)
            return None
        if not _note(mirror.path, seen):
            return None
        death = Death(mirror.path, head, head.life, seen, ending, self._oom_killer.kills)
        if ending.signal in (0, _SIGKILL) and ending.exit_code is None:
            death.oom_trace = self._oom_killer.trace(head.pid, head.life.started)
        return death

    def _was_reported(self, head: Head) -> bool:
        """Whether the death is in the journal: a shipper process was killed before it could remove the mirror."""
        if not head.claim:
            return False
        self._account.follow(_ALL)
        return self._account.has(head.claim, 0, _EVERY_PART)

    def _remove(self, path: str) -> None:
        """Remove a mirror. Called in intake's thread, too."""
        with contextlib.suppress(OSError):
            os.unlink(path)
        self._under_way.discard(path)

    # -- one event ---------------------------------------------------------------------------------------------------

    def _report(self, event: Event, deaths: Sequence[Death]) -> None:
        """Journal the event, then remove the mirrors. A death whose mirror can't be written to is reported later."""
        token, pid = new_token(), deaths[0].head.pid
        claimed = [death for death in deaths if _note(death.path, death.seen, claim=token)]
        if not claimed:
            return
        self._under_way.update(death.path for death in claimed)
        # The pid of the dead process, not of this one: the account forgets only processes that are gone.
        frames = frame.encode(pack(event), token=token, seq=0, pid=pid, level=event.level)
        self._adoption.put_back_later(b"".join(frames), partial(self._reported, [death.path for death in claimed]))
        _log.info("%s", event.message)

    def _reported(self, paths: Sequence[str]) -> None:
        self.journaled += 1  # before the last mirror goes: `is_pending` is False from then on
        for path in paths:
            self._remove(path)


def _was_terminated(head: Head, signal: int) -> bool:
    """Whether the process was a daemonic worker of multiprocessing that its parent ended.

    That is by SIGTERM or, where no signal is known, if the parent is gone, too.
    """
    life = head.life
    if life is None or not life.is_daemonic:
        return False
    return signal == _SIGTERM or (not signal and process_is_gone(life.parent))


def _note(path: str, seen: float, *, claim: bytes = b"") -> bool:
    """Write ``claim``, the token of the event about its process, into a mirror; False when that fails.

    The frames in the mirror, which are in the journal, are cut off. Its modification time stays ``seen``.
    """
    try:
        fd = open_file(path, os.O_RDWR)
        try:
            if claim:
                os.pwrite(fd, claim, CLAIM_AT)
            os.ftruncate(fd, HEAD_BYTES)
            os.utime(fd, (seen, seen))
        finally:
            os.close(fd)
    except OSError:
        return False
    return True
