"""The two pictures of the README: what a call costs, and events a second against the round trip."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .calls import FLOORS
from .rows import Row

_COST, _ROUND_TRIP = "CPU of the application per record", "Events/s against round trip"

OURS, THEIRS, FLOOR = "#0b6e4f", "#9aa5b1", "#d5dae0"


def draw(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw the PNG files for which ``rows`` has measurements, and return their paths."""
    if not any(row.question.startswith((_COST, _ROUND_TRIP)) for row in rows):
        return []
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("Agg")
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    pyplot.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
    drawn = [_call_cost(pyplot, rows, folder / "call-cost.png"), _round_trip(pyplot, rows, folder / "round-trip.png")]
    return [path for path in drawn if path is not None]


def _call_cost(pyplot: Any, rows: Sequence[Row], path: Path) -> Path | None:
    found = [row for row in rows if row.question.startswith(_COST) and row.value]
    if not found:
        return None
    found.sort(key=lambda row: row.value or 0.0, reverse=True)
    figure, axes = pyplot.subplots(figsize=(7.0, 0.36 * len(found) + 1.1))
    colours = [OURS if row.name == "shipper" else FLOOR if row.name in FLOORS else THEIRS for row in found]
    bars = axes.barh([_called(row.name) for row in found], [row.value for row in found], color=colours)
    axes.bar_label(bars, [f"{row.value:.0f} µs   {row.ratio:.2f} ×" for row in found], padding=4, fontsize=9)
    axes.set_xlim(0, max(row.value or 0.0 for row in found) * 1.3)
    axes.set_title("CPU of the application for one log record, at 1000 a second", loc="left", fontsize=11)
    axes.set_xlabel("µs of CPU, whole process; × = against a handler that does nothing")
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _called(name: str) -> str:
    return {"nothing": "a handler that does nothing", "requests": "requests, synchronous"}.get(name, name)


def _round_trip(pyplot: Any, rows: Sequence[Row], path: Path) -> Path | None:
    found = [row for row in rows if row.question.startswith(_ROUND_TRIP) and row.value]
    if not found:
        return None
    figure, axes = pyplot.subplots(figsize=(7.0, 3.6))
    styles = {
        "as it comes": (OURS, "o-", "as it comes (at most 16 in flight)"),
        "one connection": (THEIRS, "s-", "one connection"),
    }
    for series, (colour, style, label) in styles.items():
        points = [(row.more["ms"], row.value) for row in found if row.more["series"] == series]
        axes.plot(*zip(*points, strict=True), style, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("round trip, ms")
    axes.set_ylabel("events/s to one backend")
    axes.set_title("One event a request, both backends served at the same time", loc="left", fontsize=11)
    axes.grid(axis="y", color="#e5e8ec")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return path
