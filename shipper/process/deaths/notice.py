"""The event that says that a process has ended without a clean close, and what it logged last."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import UndecodableError
from ...event.codec import unpack
from ...event.model import Event
from ...journal.history import History, Recorded, recorded_segments
from ...transport.memory.life import Head, Life
from .watch import Ending

LOGGER = "shipper.deaths"
LAST_EVENTS = 20
MAX_SEGMENTS = 4  # at the end of the journal, in which the last events are looked for
MAX_LINE = 1000  # characters of the text of one last event
MAX_PIDS = 100  # that an event about several processes names


@dataclass
class Death:
    """A process that has ended without a clean close. ``seen`` is its last sign of life, seconds since the epoch."""

    path: str
    head: Head
    life: Life
    seen: float
    ending: Ending
    oom_kills: int = 0
    oom_trace: list[str] = field(default_factory=list)
    last: list[Event] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The process's name in its last event, else the one in its mirror."""
        return (self.last[-1].process if self.last else "") or self.life.name


def find_last_events(deaths: Sequence[Death], journal: str, kept: str) -> None:
    """Add to each death the process's last events, from the last segment or, if they are too few, the last four."""
    numbers = recorded_segments(journal, kept)[-MAX_SEGMENTS:]
    wanted = {death.head.token: death for death in deaths}
    found: dict[bytes, deque[Recorded]] = {}
    for first in dict.fromkeys((*numbers[-1:], *numbers[:1])):
        found = {token: deque(maxlen=LAST_EVENTS) for token in wanted}
        history = History(journal, kept, first)
        for recorded in history.read():
            if recorded.id.token in found:
                found[recorded.id.token].append(recorded)
        history.close()
        if all(len(each) == LAST_EVENTS for each in found.values()):
            break
    for token, last in found.items():
        for recorded in last:
            with contextlib.suppress(UndecodableError):
                wanted[token].last.append(unpack(recorded.payload, recorded.id))


def notice(death: Death, app: str) -> Event:
    """The event about one process."""
    when = max([death.seen, *(event.time for event in death.last)])
    details = {
        "pid": death.head.pid,
        "process": death.name,
        "app": app,
        "parent": death.life.parent,
        "daemonic": death.life.is_daemonic,
        "last_sign_of_life": _time(when),
        "signal": _signal_name(death.ending.signal) or None,
        "exit_code": death.ending.exit_code,
        "oom_killer": death.oom_trace or None,
        "oom_kills_in_control_group": death.oom_kills or None,
    }
    message = f"process {death.head.pid} ({death.name}) of {app} ended without a clean close: {_cause(death)}"
    event = _event(message, when)
    event.pid, event.process = death.head.pid, death.name
    event.extra = {
        "death": {key: value for key, value in details.items() if value is not None},
        "last_events": [_line(each) for each in death.last],
    }
    return event


def summary(deaths: Sequence[Death], app: str) -> Event:
    """Return one event about several processes that get no event of their own."""
    when = max(death.seen for death in deaths)
    message = f"{len(deaths)} more processes of {app} ended without a clean close"
    if len(deaths) == 1:
        message = f"1 more process of {app} ended without a clean close"
    event = _event(message, when)
    event.extra = {
        "death": {
            "app": app,
            "count": len(deaths),
            "pids": [death.head.pid for death in deaths[:MAX_PIDS]],
            "since": _time(min(death.seen for death in deaths)),
        }
    }
    return event


def _event(message: str, when: float) -> Event:
    return Event(
        time=when,
        level=logging.CRITICAL,
        level_name="CRITICAL",
        logger=LOGGER,
        message=message,
        pid=os.getpid(),
        process="shipper",
    )


def _cause(death: Death) -> str:
    ending = death.ending
    if death.oom_trace:
        return "the kernel killed it because memory was short (OOM killer)"
    group = f"; the OOM killer has killed {death.oom_kills} in its control group just then" if death.oom_kills else ""
    if ending.signal:
        return f"signal {_signal_name(ending.signal)}{group if ending.signal == signal.SIGKILL else ''}"
    if ending.exit_code is not None:
        return f"exit code {ending.exit_code}, without the end of the interpreter (os._exit)"
    daemonic = "; it is a daemonic worker, which its parent may have terminated" if death.life.is_daemonic else ""
    return f"a signal or os._exit, which is not known{group}{daemonic}"


def _signal_name(number: int) -> str:
    if not number:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def _line(event: Event) -> str:
    error = f" [{event.exceptions[0].name}: {event.exceptions[0].message}]" if event.exceptions else ""
    text = f"{_time(event.time)} {event.level_name} {event.logger or 'root'}: {event.message}{error}"
    return text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 1]}…"


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="milliseconds")
