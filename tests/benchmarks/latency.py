"""What a web application's users notice: response times with shipper against a file handler, at the same load."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from .children import end_shipper, folder, median, percentile, shipper_pid
from .rows import Plan, Row
from .servers import Nginx, free_port

RATE = 200.0  # requests a second
RECORDS = 3  # that each request logs
SLICE = 2.0  # seconds of load on one server before it moves to the other
CLIENTS = 16
MOST = {"p50": 1.1, "p99": 1.3}  # × the response time with a file handler

_LOG = """
import logging, os
log = logging.getLogger("orders")
def work(number):
    for part in range(RECORDS):
        log.info("order %s processed for %s in %.2f ms", number, "customer", part * 0.37, extra={"part": part})
logging.getLogger().setLevel(logging.INFO)
if os.environ["WAY"] == "file":
    logging.basicConfig(filename="plain.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
else:
    import shipper
    shipper.start(
        shipper.Trakerr("key", url=os.environ["SINK"] + "/api/v1", level="INFO", batch="array"),
        shipper.JKool("token", url=os.environ["SINK"], level="INFO"),
        app="bench",
    )
"""

_WSGI = """
def app(environ, start_response):
    work(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

_FASTAPI = """
from fastapi import FastAPI
app = FastAPI()
@app.get("/{number}")
async def order(number: str):
    work(number)
    return "ok"
"""

SERVERS = {
    "gunicorn, sync": (_WSGI, ["gunicorn", "-w", "2", "-b", "127.0.0.1:{port}", "--no-control-socket"]),
    "FastAPI, uvicorn": (_FASTAPI, ["uvicorn", "--port", "{port}", "--no-access-log"]),
}


def latency(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """Run both servers at the same time, load them in turn for `SLICE` seconds, and yield medians of the slices."""
    question = f"Response time at {RATE:g} requests/s with {RECORDS} records each"
    for name, (source, command) in SERVERS.items():
        slices: dict[str, list[list[float]]] = {"file": [], "shipper": []}
        with _serving("file", source, command, nginx) as file, _serving("shipper", source, command, nginx) as ours:
            for _ in range(max(2, round(plan.seconds(4.0) * plan.rounds))):
                for way, port in (("file", file), ("shipper", ours)):
                    slices[way].append(sorted(_loaded(port, min(SLICE, plan.seconds(SLICE)))))
        for share, at in (("p50", 0.5), ("p99", 0.99)):
            floor, value = (median([percentile(each, at) for each in slices[way]]) * 1e3 for way in ("file", "shipper"))
            ratio = value / floor if floor else None
            target = f"≤ {MOST[share]:g} × a file handler"
            met = None if ratio is None else ratio <= MOST[share]
            yield Row(question, f"{name}: {share}, a file handler", floor, "ms", 1.0)
            yield Row(question, f"{name}: {share}, shipper", value, "ms", ratio, target, met)


@contextlib.contextmanager
def _serving(way: str, source: str, command: list[str], nginx: Nginx) -> Iterator[int]:
    """Yield the port of a server on the first core; its shipper process, if any, is moved to the last one."""
    with folder() as place:
        Path(place, "site_of_bench.py").write_text(f"RECORDS = {RECORDS}\n{_LOG}{source}")
        port = free_port()
        spool = os.path.join(place, "spool")
        environment = {**os.environ, "WAY": way, "SINK": nginx.good, "SHIPPER_SPOOL": spool}
        cores = os.sched_getaffinity(0)
        words = ["taskset", "-c", str(min(cores)), sys.executable, "-m", *(each.format(port=port) for each in command)]
        words.append("site_of_bench:app")
        with open(os.path.join(place, "server.log"), "wb") as log:
            process = subprocess.Popen(words, cwd=place, env=environment, stdout=log, stderr=log)
        try:
            _warm_up(port)
            pid = shipper_pid(spool)
            if pid:
                for thread in psutil.Process(pid).threads():
                    os.sched_setaffinity(thread.id, {max(cores)})
            yield port
        finally:
            process.terminate()
            process.wait(60)
            end_shipper(place)


def _warm_up(port: int) -> None:
    deadline = time.monotonic() + 20
    answered = 0
    while answered < 100:
        with contextlib.suppress(OSError):
            answered += _ask(port) > 0
        if time.monotonic() > deadline:
            raise SystemExit("the server does not answer")
        time.sleep(0.005)


def _ask(port: int) -> float:
    """Seconds from the connection to the end of the answer."""
    begun = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/17")
    connection.getresponse().read()
    connection.close()
    return time.perf_counter() - begun


def _loaded(port: int, seconds: float) -> list[float]:
    """Response times at `RATE`, in seconds; each starts when its request was due, so waiting for a client counts."""
    due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
    times: list[float] = []

    def client() -> None:
        while (moment := due.get()) is not None:
            _ask(port)
            times.append(time.perf_counter() - moment)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    begun = time.perf_counter()
    for number in range(int(RATE * seconds)):
        moment = begun + number / RATE
        time.sleep(max(0.0, moment - time.perf_counter()))
        due.put(moment)
    for _ in clients:
        due.put(None)
    for each in clients:
        each.join()
    return times
