"""Measure in a fresh process: start it, read its numbers as JSON, end all its processes, remove its folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST = 300.0  # seconds that a child may take


def ask(question: str, *, core: int | None = None, timeout: float = LONGEST, **options: Any) -> dict[str, Any]:
    """Return the numbers that `application.py` prints for a question, {"error": ...} if it failed or took too long."""
    with folder() as place:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.application",
            question,
            json.dumps({**options, "folder": place}),
        ]
        prefix = [] if core is None else ["taskset", "-c", str(core)]
        # In a session of its own, to kill also what a hanging peer leaves behind.
        process = subprocess.Popen(
            [*prefix, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment(),
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"not done in {timeout:g} s"}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            end_shipper(place)
        for line in reversed(out.splitlines()):
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        return {"error": err.strip().splitlines()[-1] if err.strip() else f"exit code {process.returncode}"}


def environment() -> dict[str, str]:
    """The environment of this process, but with bytecode: otherwise the compilation would be measured too."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextlib.contextmanager
def folder() -> Iterator[str]:
    place = tempfile.mkdtemp(prefix="bench-")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def end_shipper(place: str) -> None:
    """Kill the shipper process of a folder; what it has not delivered is not needed."""
    pid = shipper_pid(os.path.join(place, "spool"))
    with contextlib.suppress(OSError, ValueError):
        if pid and "shipper: " in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


def shipper_pid(spool: str) -> int:
    try:
        return int(json.loads(Path(spool, "lock").read_text().strip("\0 \n") or "{}").get("pid", 0))
    except (OSError, ValueError):
        return 0


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def median_if_any(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The percentile ``share`` of sorted values; for 0.999, one value in a thousand is larger."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
