"""One line of `shipper check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Result:
    """What was checked, how it is, and what to do about it ("" when nothing)."""

    level: Level
    name: str
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Result:
    return Result("ok", name, text)


def warning(name: str, text: str, remedy: str = "") -> Result:
    return Result("warning", name, text, remedy)


def error(name: str, text: str, remedy: str = "") -> Result:
    return Result("error", name, text, remedy)
