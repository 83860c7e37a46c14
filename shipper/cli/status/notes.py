"""Notes at the end of `shipper status`: what has happened, or was set, and needs no action."""

from __future__ import annotations

from collections.abc import Iterator

from ...report import Status, total
from ..terminal import duration, plural, were
from .diagnosis import by_level


def notes(status: Status, now: float) -> Iterator[str]:
    """Yield a sentence for each thing that is worth knowing but needs no action."""
    for name, (level, until) in status.levels_set.items():
        what = f"the logger {name!r}" if name else "the handler"
        yield f"The level of {what} is {level} for {duration(until - now)} more, by `shipper level`."
    if status.dropped:
        reasons = "; ".join(f"{reason}: {by_level(levels)}" for reason, levels in sorted(status.dropped.items()))
        yield f"Since the spool was made, {were(total(status.dropped), 'event')} dropped ({reasons})."
    for backend in status.backends:
        if backend.dropped:
            reasons = "; ".join(f"{reason}: {by_level(levels)}" for reason, levels in sorted(backend.dropped.items()))
            lost = were(total(backend.dropped), "event")
            yield f"Since the spool was made, {lost} given up for {backend.name} ({reasons})."
    unaccepted = status.missing - status.total_dropped
    if unaccepted > 0:
        yield f"{plural(unaccepted, 'record')} on the way, or not accepted when their process was killed."
    if status.corrupt:
        skipped = f"{plural(status.corrupt, 'stretch', 'stretches')} of damaged bytes"
        yield f"{skipped} {'was' if status.corrupt == 1 else 'were'} skipped, and kept in {status.spool}/damaged."
