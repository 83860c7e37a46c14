"""The parts of the shipper process, made and connected; nothing is started yet."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.limits import Spooling
from ..config.settings import Settings
from ..journal.account import Account
from ..journal.writer import Writer
from ..spool.layout import Spool
from ..spool.progress import ProgressWriter
from ..transport.frame import MAX_FRAME
from .control import Control
from .deaths.reporter import DeathReporter
from .deliveries import Deliveries
from .ingest.appender import Appender
from .ingest.intake import Intake, rest_seconds
from .ingest.quota import Quota
from .ingest.recovery import Recovery
from .ingest.retention import Retention
from .ingest.upkeep import Upkeep
from .status.crashes import Crashes
from .status.flushes import Flushes
from .status.status_writer import StatusWriter
from .system.lock_file import LockFile
from .waker import Waker


@dataclass(frozen=True)
class Parts:
    """One app's shipper process. Intake and each deliverer have threads; the others are used by the main thread."""

    spool: Spool
    crashes: Crashes
    account: Account
    appender: Appender
    intake: Intake
    deliveries: Deliveries
    control: Control
    flushes: Flushes
    status: StatusWriter
    recovery: Recovery
    deaths: DeathReporter | None
    retention: Retention
    upkeep: Upkeep


def make_parts(settings: Settings, *, pipe: int, lock_file: LockFile, crashes: Crashes, waker: Waker) -> Parts:
    """Make all parts. ``pipe``: the reading end of the queue. ``waker``: wakes the main thread when it has work."""
    spool = Spool(settings.spool)
    overflows = tuple(dict.fromkeys((spool.overflow, spool.overflow_on_disk)))
    account = Account(spool.ledger, spool.journal, spool.damaged)
    progress = ProgressWriter(spool.progress)
    deliveries = Deliveries(settings, spool, account, crashes, progress, waker.wake)
    flushes = Flushes(account, progress, deliveries.positions)
    newest = max(account.position.segment, deliveries.newest_segment)
    writer = Writer(spool.journal, segment_bytes=settings.spooling.segment, first=newest)
    appender = Appender(pipe, writer, Quota(spool.journal, settings.spooling.quota))

    def on_change() -> None:
        waker.wake()
        deliveries.wake()

    intake = Intake(
        pipe,
        appender,
        *overflows,
        fsync=settings.spooling.fsync,
        rest=rest_seconds(pipe),
        last_bytes=_last_bytes(settings.spooling),
        on_change=on_change,
    )
    deaths = DeathReporter(spool, settings.app, account, intake.adoption) if settings.report_deaths else None
    return Parts(
        spool=spool,
        crashes=crashes,
        account=account,
        appender=appender,
        intake=intake,
        deliveries=deliveries,
        control=Control(spool, deliveries),
        flushes=flushes,
        status=StatusWriter(spool.status, account, intake, deliveries, flushes, overflows=overflows),
        recovery=Recovery(spool.overflow, pipe, appender, intake.adoption, account, deaths),
        deaths=deaths,
        retention=Retention(spool, settings.spooling, account, intake, deliveries),
        upkeep=Upkeep(spool, lock_file, intake, deliveries, pipe),
    )


def _last_bytes(spooling: Spooling) -> int:
    """Return how many bytes above the quota the last events may use; 0 unless ``when_full="newest"``."""
    return max(0, spooling.segment - 2 * MAX_FRAME) if spooling.when_full == "newest" else 0
