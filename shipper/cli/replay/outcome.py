"""What `shipper replay` says at its end."""

from __future__ import annotations

from ...delivery.replay.replay import Counts
from .. import BAD_NEWS, INTERRUPTED, OK, complain, terminal


def say(counts: Counts, name: str, when: str, *, dry: bool) -> int:
    """Print what became of the events; the exit code."""
    left_out = [
        (counts.sent_before, "sent again before (--again sends them once more)"),
        (counts.under_way, f"not delivered to {name} yet: the shipper process delivers them anyway"),
        (counts.below_level, f"below the level of {name}"),
        (counts.for_others, "for other backends"),
        (counts.unreadable, "unreadable"),
    ]
    if not counts.found:
        return complain("no event was logged in this time, or none is left in the journal", code=BAD_NEWS)
    what = f"{terminal.plural(counts.sent, 'event')} for {name}"
    if not counts.sent:
        print(f"No event for {name} is sent again.")
    else:
        print(f"{what}: would be sent again." if dry else f"{what}: {when}, with the same id as before.")
    for count, why in left_out:
        if count:
            print(f"{terminal.plural(count, 'event')} left out: {why}.")
    return OK


def say_interrupted(counts: Counts, name: str) -> int:
    """Print how many events were handed over before Ctrl-C; return the exit code."""
    what = f"stopped: {terminal.were(counts.sent, 'event')} handed over for {name}"
    return complain(f"{what}; the same command goes on with the others", code=INTERRUPTED)
