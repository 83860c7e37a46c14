"""Events that were dropped, counted by reason and by level."""

from __future__ import annotations

import struct

REASONS = ("queue_full", "spool_full", "before_send", "redact", "after_stop", "failed", "not_started")
LEVELS = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

TABLE = struct.Struct(f"<{len(REASONS) * len(LEVELS)}Q")
"""One u64 per reason and level: all levels of the first reason, then those of the next one."""

Drops = dict[str, dict[str, int]]
"""How many events were dropped: reason → name of the standard level at or below the event's → count."""


def level_name(level: int) -> str:
    """The name of the standard level at or below a level."""
    return LEVELS[_column(level)]


def cell(reason: str, level: int) -> int:
    """The index of a reason and a level in the table."""
    return REASONS.index(reason) * len(LEVELS) + _column(level)


def empty_table() -> list[int]:
    return [0] * (len(REASONS) * len(LEVELS))


def named(table: tuple[int, ...] | list[int]) -> Drops:
    """The counts of a table that are not zero."""
    drops: Drops = {}
    for index, count in enumerate(table):
        if count:
            drops.setdefault(REASONS[index // len(LEVELS)], {})[LEVELS[index % len(LEVELS)]] = count
    return drops


def unpack(table: bytes) -> Drops:
    return named(TABLE.unpack(table))


def _column(level: int) -> int:
    return min(max(level, 0) // 10, len(LEVELS) - 1)
