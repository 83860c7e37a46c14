"""Results of measurements, in one form for the table, `bench.json` and the plots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """``value`` is the median of the rounds, in ``unit``; ``ratio`` is that to the question's reference."""

    question: str
    name: str
    value: float | None
    unit: str
    ratio: float | None = None
    target: str = ""
    met: bool | None = None  # None: there is no target
    note: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """How many rounds are measured, and the size of each."""

    rounds: int = 5
    scale: float = 1.0  # factor for records and seconds: below 1 for a quick look

    def count(self, full: int, least: int = 200) -> int:
        return max(least, int(full * self.scale))

    def seconds(self, full: float, least: float = 1.0) -> float:
        return max(least, full * self.scale)


def table(rows: Iterable[Row]) -> str:
    lines: list[str] = []
    question = ""
    for row in rows:
        if row.question != question:
            question = row.question
            lines += ["", question]
        value = "failed" if row.value is None else f"{row.value:,.4g}" if row.value < 1000 else f"{row.value:,.0f}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} ×"
        verdict = "" if row.met is None else "reached" if row.met else "NOT REACHED"
        lines.append(
            f"  {row.name:<44} {value:>10} {row.unit:<9} {ratio:>8}  {row.target:<24} {verdict:<12} {row.note}".rstrip()
        )
    return "\n".join(lines)
