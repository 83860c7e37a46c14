"""What a demo came to: what was logged compared with what arrived, as sets of record names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SERVICES = ("trakerr", "jkool")


@dataclass(frozen=True)
class Outcome:
    """The numbers of a demo.

    ``lost``: records whose logging call had returned, that a service lacks, and that do not wait for it any more.
    ``left``: records that a service lacks and that still waited for it when the time was over.
    """

    emitted: int
    delivered: dict[str, int]
    retried: int  # requests that failed, and were sent again
    duplicates: int
    dropped: int
    lost: int
    left: int
    unfinished: int  # arrived, although their worker was killed before the logging call had returned
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.emitted > 0 and self.lost == self.left == self.dropped == 0


def undelivered(logged: set[str], arrived: Mapping[str, set[str]], left: Mapping[str, int]) -> tuple[int, int]:
    """How many records are lost, and how many wait.

    ``left``: how many events wait for each service. The records that a service lacks wait if at least as many events
    wait for it; otherwise they are lost.
    """
    lost: set[str] = set()
    waiting: set[str] = set()
    for service, names in arrived.items():
        missing = logged - names
        (waiting if len(missing) <= left.get(service, 0) else lost).update(missing)
    return len(lost), len(waiting)
