"""`shipper drain` - waits until everything that was logged is delivered, or says what is left."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, OK, complain
from ..parsing import seconds
from ..status.command import add_selection
from ..terminal import duration, plural, wait, were
from .one_app import with_app

if TYPE_CHECKING:
    from ...report import BackendStatus, Status
    from ..status.find import Found

LATER = 3
USUAL_SECONDS = 60.0
LOOK_SECONDS = 0.1
_IN_VAIN = ("paused", "unauthorised", "refused", "not configured")


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "drain",
        help="wait until everything is delivered, before a deployment",
        description="Waits until everything that the app had logged when the command began is delivered to every "
        "backend, and says what is left if that takes too long. The app goes on running and logging; nothing is "
        "stopped. A backend that only a person can set right (paused, unauthorised, refused, not configured) is not "
        "waited for.",
        epilog=f"Exit code: 0 delivered; 1 some is left that waiting does not deliver, was rejected or was lost; "
        f"2 wrong usage; {LATER} some is left after the time.",
        examples="""
            shipper drain --timeout 60 && systemctl restart checkout
            shipper drain --timeout 0                   only look
        """,
    )
    parser.add_argument(
        "--timeout", type=seconds, default=USUAL_SECONDS, metavar="TIME", help="how long to wait (default: 60s)"
    )
    add_selection(parser)
    parser.set_defaults(run=with_app(_drain, relays=False))


def _drain(given: argparse.Namespace, app: Found) -> int:
    began = time.monotonic()
    goal = Goal(app)
    before = goal.look()
    status = before
    while not goal.is_reached:
        if not status.running or (goal.left and all(each.state in _IN_VAIN for each in goal.left)):
            return _in_vain(status, goal.left)
        if time.monotonic() - began >= given.timeout:
            return _too_late(status, goal.left, given.timeout)
        threading.Event().wait(LOOK_SECONDS)
        status = goal.look()
    return _done(before, status, time.monotonic() - began)


class Goal:
    """The place in the journal that every backend has to pass: the end of what was logged before `Goal` was made."""

    def __init__(self, app: Found) -> None:
        from ...transport.memory.unjournaled import last_accepted

        self._app = app
        self._accepted = last_accepted((app.spool.overflow, app.spool.overflow_on_disk))
        self._place: list[int] | None = None  # None until all of that is in the journal
        self.left: list[BackendStatus] = []
        """The backends that had not passed it at the last look."""

    @property
    def is_reached(self) -> bool:
        return self._place is not None and not self.left

    def look(self) -> Status:
        """Read the status file once, for the status and the backends' positions: both are of the same moment."""
        from ...report import read_status
        from ...spool.files import get_dict, read_json

        data = read_json(self._app.spool.status) or {}
        status = read_status(self._app.spool, self._app.app, data)
        ledger, backends = get_dict(data, "ledger"), get_dict(data, "backends")
        if self._place is None and "position" in ledger and self._is_journaled(get_dict(ledger, "reached")):
            self._place = _place(ledger)
        self.left = [each for each in status.backends if not self._has_passed(each, get_dict(backends, each.name))]
        return status

    def _is_journaled(self, reached: Mapping[str, Any]) -> bool:
        from ...spool.layout import MAX_REPORTED

        unknown = 0 if len(reached) < MAX_REPORTED else 1 << 64
        return all(reached.get(token, unknown) >= number for token, number in self._accepted.items())

    def _has_passed(self, backend: BackendStatus, data: Mapping[str, Any]) -> bool:
        return self._place is not None and (not backend.left or _place(data) >= self._place)


def _place(data: Mapping[str, Any]) -> list[int]:
    """The segment and the offset of a position; ``[0, 0]``, before all others, when it is not known."""
    found = data.get("position")
    is_place = isinstance(found, list) and len(found) == 2 and all(type(each) is int for each in found)
    return found if is_place and found is not None else [0, 0]


def _done(before: Status, status: Status, took: float) -> int:
    names = ", ".join(each.name for each in status.backends if each.state != "not configured")
    print(f"{status.app}: everything that was logged is delivered to {names or 'every backend'} ({duration(took)}).")
    bad = list(_lost(before, status))
    for line in bad:
        complain(line, code=BAD_NEWS)
    return BAD_NEWS if bad else OK


def _lost(before: Status, status: Status) -> Iterator[str]:
    from ...report import total

    known = {each.name: each for each in before.backends}
    for each in status.backends:
        was = known.get(each.name, each)
        if each.dead > was.dead:
            refused = were(each.dead - was.dead, "event")
            yield f"meanwhile {refused} refused by {each.name}: see `shipper dead list --app {status.app}`"
        if (lost := total(each.dropped) - total(was.dropped)) > 0:
            yield f"meanwhile {were(lost, 'event')} given up for {each.name}: see `shipper status`"
    if (lost := status.total_dropped - before.total_dropped) > 0:
        yield f"meanwhile {were(lost, 'event')} dropped: see `shipper status`"


def _too_late(status: Status, left: list[BackendStatus], timeout: float) -> int:
    print(f"{status.app}: not everything is delivered after {duration(timeout)}.")
    _say_left(status, left)
    return LATER


def _in_vain(status: Status, left: list[BackendStatus]) -> int:
    if status.running:
        print(f"{status.app}: some events wait for what only a person can do.")
    else:
        print(f"{status.app}: no shipper process runs, so nothing is delivered: start the application.")
    _say_left(status, left)
    return BAD_NEWS


def _say_left(status: Status, left: list[BackendStatus]) -> None:
    from ..status.diagnosis import diagnose

    if status.in_memory:
        print(f"  {wait(status.in_memory, 'event')} in memory, not in the journal yet.")
    for each in left:
        reason = f": {each.last_error}" if each.last_error else ""
        print(f"  {each.name}: {plural(each.left, 'event')} left, {each.state}{reason}.")
    for remedy in dict.fromkeys(finding.remedy for finding in diagnose(status) if finding.remedy):
        print(f"  {remedy}")
