"""`shipper top`: rates of several apps, once and live, and as a picture."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import sys
import termios
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shipper.cli.top.rates import Rates, Row, quantile
from shipper.cli.top.view import sorted_rows, sparkline
from shipper.report import BackendStatus, Status

from ..support.status_files import STATUS, make_spool
from ..support.waiting import PATIENCE, holds
from .conftest import Run


def status(journaled: int, **fields: Any) -> Status:
    backend = BackendStatus("trakerr", state="delivering", **fields)
    given: dict[str, Any] = {
        "app": "shop", "spool": "/spool", "running": True, "pid": 1, "started": 0.0, "updated": 0.0,
        "journaled": journaled, "doubles": 0, "dropped": {}, "missing": 0, "corrupt": 0, "levels": {},
        "journal_bytes": 0, "segments": 1, "trouble": "", "backends": (backend,),
    }  # fmt: skip
    return Status(**given)


def test_rates_are_what_has_changed_since_the_samples_before() -> None:
    rates = Rates()
    rates.add([status(100, delivered=50, sent_bytes=1000, requests=(9, *[0] * 12))], 10.0)

    (row,) = rates.add([status(140, delivered=70, sent_bytes=3000, requests=(9, 0, 4, *[0] * 10))], 12.0)

    assert (row.came_in, row.delivered, row.bytes_sent, row.history) == (20.0, 10.0, 1000.0, [10.0])
    assert row.median == pytest.approx((0.01 + 0.025) / 2)


def test_counters_of_another_process_begin_at_zero() -> None:
    rates = Rates()
    rates.add([status(100, sent_bytes=1000, requests=(9, *[0] * 12))], 10.0)

    (row,) = rates.add([status(100, sent_bytes=10, requests=(1, *[0] * 12))], 11.0)

    assert (row.bytes_sent, row.median) == (0.0, 0.0025)


def test_a_duration_is_looked_up_in_the_histogram() -> None:
    assert quantile([0] * 13, 0.5) is None
    assert quantile((), 0.5) is None
    assert quantile([*[0] * 12, 1], 0.95) == 30.0


def test_rows_are_sorted_by_a_key_largest_first_and_texts_from_a_to_z() -> None:
    rows = [Row("b", "x", "idle", left=1), Row("a", "x", "idle", left=1), Row("c", "x", "idle", left=5)]

    assert [row.app for row in sorted_rows(rows, "left")] == ["c", "a", "b"]
    assert [row.app for row in sorted_rows(rows, "l", reverse=True)] == ["a", "b", "c"]
    assert [row.app for row in sorted_rows(rows, "app")] == ["a", "b", "c"]
    assert [row.app for row in sorted_rows(rows, "a", reverse=True)] == ["c", "b", "a"]


def test_a_sparkline_has_its_highest_value_as_a_full_bar() -> None:
    assert sparkline([0, 5, 10], 4) == " ▁▅█"
    assert sparkline([0, 0], 2) == "▁▁"
    assert sparkline([], 2) == "  "


def test_without_a_terminal_it_is_printed_once_with_every_app(place: Path, run: Run) -> None:
    for name in ("checkout", "billing"):
        make_spool(place / name, {**STATUS, "app": name})

    code, out, err = run("top", "--every", "0.1")

    assert (code, err, "\x1b" in out) == (0, "", False)
    header, *rows = out.splitlines()[-5:]
    assert header.split()[:5] == ["app", "backend", "state", "in/s", "out/s"]
    assert [row.split()[:2] for row in rows] == [
        ["billing", "jkool"],
        ["billing", "trakerr"],
        ["checkout", "jkool"],
        ["checkout", "trakerr"],
    ]


def test_a_picture_of_it_needs_nothing_from_elsewhere(place: Path, run: Run, tmp_path: Path) -> None:
    make_spool(place / "checkout", STATUS)
    path = tmp_path / "top.svg"

    assert run("top", "--svg", str(path), "--for", "0.1s", "--every", "0.1s")[0] == 0

    text = path.read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "checkout" in text
    assert "url(http" not in text


def test_in_a_terminal_it_is_shown_until_q_and_leaves_the_terminal_as_it_was(place: Path) -> None:
    make_spool(place / "checkout", STATUS)
    command = [sys.executable, "-W", "error", "-m", "shipper.cli", "top", "--every", "0.1s"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="160", LINES="30")
        os.execv(sys.executable, command)
    shown = bytearray()

    def shows(text: bytes) -> bool:
        if select.select([terminal], [], [], 0)[0]:
            with contextlib.suppress(OSError):  # the command has ended
                shown.extend(os.read(terminal, 65536))
        return text in shown

    try:
        before = termios.tcgetattr(terminal)
        assert holds(lambda: shows(b"checkout"), PATIENCE)
        os.write(terminal, b"lq")
        assert holds(lambda: shows(b"\x1b[?1049l"), PATIENCE)  # back from the alternate screen
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert termios.tcgetattr(terminal)[3] == before[3]
    finally:
        os.close(terminal)


def test_an_app_that_does_not_exist_is_said(place: Path, run: Run) -> None:
    code, _, said = run("top", "--app", "nothing")

    assert (code, said.startswith("shipper: no app has a spool in ")) == (1, True)
