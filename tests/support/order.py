"""The order of tests, and its report when one fails.

Folders of fast tests come first, tests that need the machine for themselves come last.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

SLOW = ("relay", "cli", "application", "process", "receiver", "trakerr", "jkool", "browser", "integrations", "faults")
"""Folders whose tests start processes, from the fastest to the slowest; all others come before them."""

NEAREST = 10
"""How many tests that ran before a failed one are named in its report."""


def arrange(items: list[pytest.Item]) -> None:
    """Sort fast folders first and tests marked `alone` last; otherwise the random order stays."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[bool, int]:
    folder = item.path.parent.name
    return item.get_closest_marker("alone") is not None, SLOW.index(folder) if folder in SLOW else -1


class Order:
    """Notes which tests a process has run; a failed test's report names the last ones, and a file names all.

    Each failure is also written at once to the file that the variable TEST_FAILURES names.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._worker = os.environ.get("PYTEST_XDIST_WORKER", "")
        self._environment = os.environ.get("TOX_ENV_NAME", "tests")
        name = f"order-{self._environment}-{self._worker or 'main'}.txt"
        self._path = Path(str(config.rootpath), ".tox", name)
        self._failures = os.environ.get("TEST_FAILURES")
        self._ran: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "setup":
            self._ran.append(item.nodeid)
        if report.failed:
            report.sections.append(("order", self._said(item.config.getoption("randomly_seed", "none"))))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._failures and not self._worker:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr).partition("\n")[0][:200]
            with open(self._failures, "a") as file:
                file.write(f"{self._environment}: FAILED {report.nodeid} ({report.when}): {reason}\n")

    def _said(self, seed: object) -> str:
        lines = [f"seed {seed}; ran before it in the same process:", *self._ran[-NEAREST - 1 : -1]]
        if self._path.parent.is_dir():
            self._path.write_text("\n".join(self._ran) + "\n")
            lines.append(f"all of them, to be given to pytest as @file with -n 0 -p no:randomly: {self._path}")
        return "\n".join(lines)
