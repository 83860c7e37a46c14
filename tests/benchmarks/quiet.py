"""What a shipper process costs while little happens: processor time and wake-ups, idle and at 100 records a second.

Run it: ``python -m tests.benchmarks.quiet [SECONDS]``.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import shipper

from ..support.servers import Server

WARM_UP_SECONDS = 5.0


def cost(pid: int) -> tuple[float, int]:
    """Seconds of processor time, and voluntary context switches of all threads, so far."""
    nanoseconds = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
        lines = (task / "status").read_text().splitlines()
        switches += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return nanoseconds / 1e9, switches


def measure(pid: int, seconds: float, rate: int) -> str:
    logger = logging.getLogger("quiet")
    began, before = time.monotonic(), cost(pid)
    logged = 0
    while (now := time.monotonic() - began) < seconds:
        while logged < now * rate:
            logger.info("record %d", logged)
            logged += 1
        time.sleep(1 / rate if rate else 1.0)
    took, after = time.monotonic() - began, cost(pid)
    processor, switches = (after[0] - before[0]) / took, (after[1] - before[1]) / took
    return f"{rate:4} records/s: {processor * 100:6.3f} % of a processor, {switches:7.1f} voluntary switches/s"


def main(seconds: float = 20.0) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Server() as trakerr, Server() as jkool:
        shipper.start(
            shipper.Trakerr("key", url=trakerr.url, level=0),
            shipper.JKool("token", url=jkool.url, level=0, handshake=False),
            app="quiet",
            spool=os.path.join(folder, "spool"),
        )
        logging.getLogger("quiet").setLevel(logging.INFO)
        logging.getLogger("quiet").info("first")
        assert shipper.flush(10)
        time.sleep(WARM_UP_SECONDS)
        pid = shipper.status().pid
        assert pid is not None
        print(measure(pid, seconds, 0))
        print(measure(pid, seconds, 100))
        flushes = []
        for number in range(50):
            logging.getLogger("quiet").info("flushed %d", number)
            began = time.perf_counter()
            assert shipper.flush(10)
            flushes.append(time.perf_counter() - began)
            time.sleep(0.05)
        flushes.sort()
        print(f"flush of one record: median {flushes[25] * 1000:.1f} ms, 90th percentile {flushes[45] * 1000:.1f} ms")
        shipper.stop(5)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
