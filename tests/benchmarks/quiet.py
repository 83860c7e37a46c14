"""What a shipper process costs at a low load: processor time and wake-ups, idle and at 100 records a second.

Run it: ``python -m tests.benchmarks.quiet [SECONDS]``. There are two backends; an nginx on this machine answers. "The
requests alone" is a process with two threads that only send as many requests of the same size over open connections.
Each second is measured separately; printed are the median and, for a machine with other work, the lower quartile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import shipper
from shipper.backends.http.connection import Connection

from .servers import nginx

WARM_UP_SECONDS = 5.0
RATE = 100
BODY_BYTES = 450  # body of an event without extras, for the backend with the larger body
TOGETHER = 4  # requests that the shipper process sends one after the other, at this rate


def cost(pid: int) -> tuple[float, int]:
    """Seconds of processor time, and voluntary context switches of all threads, so far."""
    nanoseconds = switches = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            nanoseconds += int((task / "schedstat").read_text().split()[0])
            lines = (task / "status").read_text().splitlines()
            switches += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return nanoseconds / 1e9, switches


def measure(pid: int, seconds: float, name: str) -> float:
    """Print what a process costs; return the median of its seconds, in per cent of a processor."""
    shares, wakes = [], []
    before, at = cost(pid), time.monotonic()
    for _ in range(max(4, int(seconds))):
        time.sleep(1.0)
        after, now = cost(pid), time.monotonic()
        shares.append((after[0] - before[0]) / (now - at) * 100)
        wakes.append((after[1] - before[1]) / (now - at))
        before, at = after, now
    shares, wakes = sorted(shares), sorted(wakes)
    median, low, rate = shares[len(shares) // 2], shares[len(shares) // 4], wakes[len(wakes) // 2]
    print(f"{name:22} {median:6.3f} % of a processor (lowest quarter {low:6.3f} %), {rate:6.1f} voluntary switches/s")
    return median


@contextlib.contextmanager
def logging_at(rate: int) -> Iterator[None]:
    """Log ``rate`` records a second inside the block."""
    ended = threading.Event()

    def run() -> None:
        logger, began, logged = logging.getLogger("quiet"), time.monotonic(), 0
        while not ended.wait(max(0.0, began + logged / rate - time.monotonic())):
            logger.info("record %d", logged)
            logged += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def requests_alone(port: int) -> Iterator[int]:
    """The pid of a process that sends requests at the rate of both backends."""
    with subprocess.Popen([sys.executable, "-m", __spec__.name, "--requests", str(port)]) as process:
        time.sleep(WARM_UP_SECONDS / 2)
        try:
            yield process.pid
        finally:
            process.kill()


def send_for_ever(port: int) -> None:
    head = f"POST /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
    request = head.encode() + b"x" * BODY_BYTES
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection, began, sent = Connection(sock, 30.0, sock.close), time.monotonic(), 0
    while connection.is_reusable:
        for _ in range(TOGETHER):
            connection.exchange(request)
        sent += TOGETHER
        time.sleep(max(0.0, began + sent / RATE - time.monotonic()))


def main(seconds: float = 20.0) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, nginx() as server:
        shipper.start(
            shipper.Trakerr("key", url=f"{server.good}/api/v1", level=0),
            shipper.JKool("token", url=server.good, level=0, handshake=False),
            app="quiet",
            spool=os.path.join(folder, "spool"),
        )
        logging.getLogger("quiet").setLevel(logging.INFO)
        logging.getLogger("quiet").info("first")
        assert shipper.flush(10)
        time.sleep(WARM_UP_SECONDS)
        pid = shipper.status().pid
        assert pid is not None
        measure(pid, seconds, "idle")
        with logging_at(RATE), requests_alone(server.port) as alone:
            whole = measure(pid, seconds, f"{RATE} records/s")
            bare = measure(alone, seconds, "... the requests alone")
        print(f"beyond the requests: {whole - bare:.1f} % of a processor")
        measure_flushes()
        shipper.stop(5)
        while Path(f"/proc/{pid}").exists():  # it needs its folder until it ends
            time.sleep(0.1)


def measure_flushes() -> None:
    flushes = []
    for number in range(50):
        logging.getLogger("quiet").info("flushed %d", number)
        began = time.perf_counter()
        assert shipper.flush(10)
        flushes.append(time.perf_counter() - began)
        time.sleep(0.05)
    flushes.sort()
    print(f"flush of one record: median {flushes[25] * 1000:.1f} ms, 90th percentile {flushes[45] * 1000:.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--requests"]:
        threading.Thread(target=send_for_ever, args=(int(sys.argv[2]),)).start()
        send_for_ever(int(sys.argv[2]))
    else:
        main(*map(float, sys.argv[1:]))
