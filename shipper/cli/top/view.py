"""`shipper top` as a table, drawn with rich."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ...report import Status
from ..status.diagnosis import COLOURS, diagnose, severity
from ..status.view import headline
from ..terminal import count, duration, size
from .rates import Row

SPARK = 20  # characters of a sparkline
_BARS = "▁▂▃▄▅▆▇█"
_STATES = {
    "idle": "green", "delivering": "green", "retrying": "yellow", "unauthorised": "red", "refused": "red",
    "paused": "cyan", "stopped": "dim",
}  # fmt: skip

Value = Callable[[Row], "float | str"]
COLUMNS: tuple[tuple[str, str, Value], ...] = (
    ("a", "app", lambda row: row.app),
    ("s", "state", lambda row: row.state),
    ("i", "in/s", lambda row: row.came_in),
    ("o", "out/s", lambda row: row.delivered),
    ("b", "bytes/s", lambda row: row.bytes_sent),
    ("l", "left", lambda row: row.left),
    ("g", "lag", lambda row: row.lag),
    ("f", "in flight", lambda row: row.in_flight),
    ("r", "retries", lambda row: row.retried),
    ("d", "dead", lambda row: row.dead),
    ("t", "latency", lambda row: row.slowest or 0.0),
)
"""Key, title and value of what rows can be sorted by."""


def sorted_rows(rows: Sequence[Row], key: str, *, reverse: bool = False) -> list[Row]:
    """The rows by a column's key or title: texts from a to z, numbers from the largest on; ``reverse``: the other way.

    Rows that are equal stand in the order of apps and backends.
    """
    value = next((value for letter, title, value in COLUMNS if key in (letter, title)), COLUMNS[0][2])
    rows = sorted(rows, key=lambda row: (row.app, row.backend))
    is_text = bool(rows) and isinstance(value(rows[0]), str)
    return sorted(rows, key=lambda row: value(row), reverse=reverse is is_text)


def drawn(statuses: Sequence[Status], rows: Sequence[Row], *, keys: str = "", now: float | None = None) -> Group:
    """The headline of each app, the table of rows, and a line about ``keys``."""
    lines = [_headline(status, now) for status in statuses]
    return Group(*lines, Text(), _table(rows), *([Text(), Text(keys, style="dim", no_wrap=True)] if keys else []))


def _headline(status: Status, now: float | None) -> Text:
    findings = diagnose(status, now)
    name, _, rest = headline(status, findings).partition(": ")
    word, _, what = rest.partition(" - ")
    colour = COLOURS[severity(findings)]
    return Text.assemble((name, "bold"), ": ", (word, colour), f" - {what}", no_wrap=True, overflow="ellipsis")


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("app", "backend", "state"):
        table.add_column(title, no_wrap=True)
    for title in ("in/s", "out/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("deliveries", no_wrap=True)
    for title in ("bytes/s", "left", "lag", "in flight", "retries", "dead", "latency p50", "p95"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str | Text, ...]:
    return (
        Text(row.app),
        Text(row.backend),
        Text(row.state, style=_STATES.get(row.state, "")),
        _rate(row.came_in),
        _rate(row.delivered),
        Text(sparkline(row.history), style="cyan"),
        size(round(row.bytes_sent)),
        count(row.left),
        duration(row.lag) if row.left else "-",
        count(row.in_flight),
        count(row.retried),
        count(row.dead),
        _latency(row.median),
        _latency(row.slowest),
    )


def _rate(rate: float) -> str:
    return f"{rate:,.1f}" if 0 < rate < 10 else f"{rate:,.0f}"


def _latency(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


def sparkline(values: Sequence[float], width: int = SPARK) -> str:
    """The last values as bars, the highest of them as a full one."""
    shown = list(values)[-width:]
    highest = max(shown, default=0.0)
    bars = (_BARS[round(value / highest * (len(_BARS) - 1))] if highest > 0 else _BARS[0] for value in shown)
    return "".join(bars).rjust(width)
