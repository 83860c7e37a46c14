"""What the head of a pipe mirror says of its process: name, parent, start, and whether it ended normally.

Protects from: unreported deaths, since a killed process can't log its own. Costs: with `report_deaths` about 20 µs once
per process; without it only these bytes of the head. It meets recovery, which removes the mirrors.

Layout, in the head of a mirror (see `shared_file.py`), zeros where nothing was written:

    64   8 bytes: `CLEAN` once the process has ended normally
    72   8 bytes: the token of the death notice that is about to be journaled
    128  up to 896 bytes: a JSON object, ended by a zero byte; missing: the end of the process is not reported

The process writes the JSON object and `CLEAN`, the shipper process the token.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass

from ...spool.files import get_int, get_str
from .pipe_mirror import CLEAN, CLEAN_AT, LIFE_AT
from .shared_file import HEAD, ORIGIN_AT, PIDS, PIDS_AT

CLAIM_AT = 72
_NO_CLAIM = bytes(8)
_MAX_NAME = 100  # characters of the process's name, of at most 6 bytes each


@dataclass(frozen=True)
class Life:
    """A process whose end may be reported. ``parent`` is a pid; ``started``: clock ticks since the boot, 0: not known.

    ``is_daemonic``: it is a daemonic worker of multiprocessing.
    """

    name: str
    parent: int
    is_daemonic: bool
    started: int


def describe_life() -> bytes:
    """Return the description of this process for the head of its mirror."""
    module = sys.modules.get("multiprocessing.process")
    process = module.current_process() if module is not None else None
    name = "MainProcess" if process is None else str(process.name)[:_MAX_NAME]
    stat = read_stat(os.getpid())
    life = Life(name, os.getppid(), bool(process is not None and process.daemon), stat.started if stat else 0)
    text = json.dumps(asdict(life), ensure_ascii=False)  # escaped, a character may take 12 bytes
    return text.encode(errors="backslashreplace") + b"\0"


@dataclass(frozen=True)
class Stat:
    """Fields of `/proc/<pid>/stat`; ``status`` is the wait status of a zombie."""

    state: str
    flags: int
    started: int
    status: int

    @property
    def is_ending(self) -> bool:
        """Whether the process is exiting (PF_EXITING) and is no zombie yet."""
        return bool(self.flags & 0x4) and self.state not in "ZX"


def read_stat(pid: int) -> Stat | None:
    """Return the `Stat` of a process, None when it is gone or can't be seen."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # the name in parentheses may contain anything
        return Stat(fields[0].decode(), int(fields[6]), int(fields[19]), int(fields[49]))
    except (OSError, ValueError, IndexError):
        return None


@dataclass(frozen=True)
class Head:
    """The head of a mirror. ``life`` is None when the end of the process is not reported."""

    pid: int
    pids: int
    """The PID namespace of ``pid``, 0: not known."""
    token: bytes
    is_clean: bool
    claim: bytes
    """The token of its death notice, b"" without one."""
    life: Life | None


def parse_head(data: bytes) -> Head:
    """Parse the first bytes of a mirror. ValueError when they are too few."""
    if len(data) < ORIGIN_AT:
        raise ValueError("no whole head")
    _, pid, token, _ = HEAD.unpack_from(data)
    (pids,) = PIDS.unpack_from(data, PIDS_AT)
    claim = data[CLAIM_AT : CLAIM_AT + len(_NO_CLAIM)]
    return Head(
        pid=pid,
        pids=pids,
        token=token,
        is_clean=data[CLEAN_AT : CLEAN_AT + len(CLEAN)] == CLEAN,
        claim=b"" if claim == _NO_CLAIM else claim,
        life=_parse_life(data[LIFE_AT:ORIGIN_AT].partition(b"\0")[0]),
    )


def _parse_life(text: bytes) -> Life | None:
    with contextlib.suppress(ValueError):
        data = json.loads(text)
        if isinstance(data, dict):
            is_daemonic = data.get("is_daemonic") is True
            return Life(get_str(data, "name"), get_int(data, "parent"), is_daemonic, get_int(data, "started"))
    return None
