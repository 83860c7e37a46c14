"""Records made and arrived: one application under gunicorn with 4 workers, with OpenTelemetry's SDK and with shipper.

    python -m tests.benchmarks.moving [--seconds 12] [--seed N] [--json FILE]

Each request logs some records; the worker notes each one whose logging call has returned in a file of its own, and the
collector notes what arrives. In some cases workers, and the shipper process where there is one, get SIGKILL at random
moments (the seed is printed; gunicorn starts new workers). In another the collector refuses connections for half of the
time. At the end gunicorn gets SIGTERM, and the measurement waits until no more records arrive. The application is
started with and without ``--preload``. Both send to the same kind of collector, which decodes with opentelemetry-proto.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import http.client
import importlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from .children import end_shipper, shipper_pid
from .servers import free_port

WORKERS = 4
BETWEEN_KILLS = (0.3, 0.8)  # seconds
SHIPPER_SHARE = 0.2  # of the kills, where there is a shipper process
CLIENTS = 4
QUIET = 8.0  # seconds without a new arrival after which the wait ends: more than the SDK's delay of 5 s
UP = 20.0  # seconds in which the application has to give its first answer

SETUP = {
    "SDK": """
import logging, os
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

provider = LoggerProvider(resource=Resource.create({"service.name": "shop"}))
exporter = OTLPLogExporter(endpoint=os.environ["COLLECTOR"] + "/v1/logs")
provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
logging.getLogger().setLevel(logging.INFO)
""",
    "shipper": """
import logging, os
import shipper

logging.getLogger().setLevel(logging.INFO)
shipper.start(shipper.Otlp(os.environ["COLLECTOR"]), app="shop")
""",
}

APPLICATION = """
log = logging.getLogger("orders")
notes = {}

def note(text):
    pid = os.getpid()
    if pid not in notes:
        path = os.path.join(os.environ["NOTES"], str(pid))
        notes[pid] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(notes[pid], text.encode() + b"\\n")

def app(environ, start_response):
    for part in range(5):
        text = "order %s-%d" % (environ["PATH_INFO"][1:], part)
        log.info(text, extra={"part": part})
        note(text)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""


class Case(NamedTuple):
    name: str
    preload: bool = False
    kills: bool = False
    outage: bool = False


CASES = (
    Case("nothing happens"),
    Case("nothing happens, --preload", preload=True),
    Case("workers are killed", kills=True),
    Case("workers are killed, --preload", preload=True, kills=True),
    Case("the collector is away for half of the time", outage=True),
)


class Result(NamedTuple):
    case: str
    contender: str
    killed_workers: int
    killed_shippers: int
    made: int  # logging calls that returned
    arrived: int  # of the ``made`` records
    doubled: int  # records that arrived more than once

    @property
    def lost(self) -> int:
        return self.made - self.arrived


class Collector:
    """Takes log records over HTTP and counts each body. Until `open` and after `close` nothing listens on the port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.bodies: Counter[str] = Counter()
        self._request: Any = importlib.import_module("opentelemetry.proto.collector.logs.v1.logs_service_pb2")
        self.server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.server is not collector.server:  # a connection from before `close`
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        self.server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def take(self, body: bytes) -> None:
        for resource in self._request.ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                self.bodies.update(record.body.string_value for record in scope.log_records)

    def close(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: the client was killed in the middle of a request."""


class Run:
    """One case of one contender, in a folder of its own."""

    def __init__(self, contender: str, case: Case, folder: Path, seed: int) -> None:
        self._contender, self._case, self._folder = contender, case, folder
        self._random = random.Random(seed)
        self._port = free_port()
        self._ending = threading.Event()
        self._collector = Collector()
        self._killed: Counter[str] = Counter()
        (folder / "notes").mkdir()
        (folder / "site_of_bench.py").write_text(SETUP[contender] + APPLICATION)

    def result(self, seconds: float) -> Result:
        seconds *= 2 if self._case.outage else 1  # the outage has to exceed the 10 s after which the SDK drops a batch
        self._collector.open()
        with self._serving() as server:
            clients = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            self._trouble(server, seconds)
            self._ending.set()
            for client in clients:
                client.join()
            server.send_signal(signal.SIGTERM)
            server.wait(60)
        self._wait_for_arrivals()
        made = self._made()
        self._collector.close()
        arrived = self._collector.bodies
        return Result(
            self._case.name, self._contender, self._killed["worker"], self._killed["shipper"],
            len(made), len(made & arrived.keys()), sum(count > 1 for count in arrived.values()),
        )  # fmt: skip

    @contextlib.contextmanager
    def _serving(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = {
            **os.environ, "COLLECTOR": self._collector.url, "NOTES": str(self._folder / "notes"),
            "SHIPPER_SPOOL": str(self._folder / "spool"), "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        command = [
            sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{self._port}",
            "--no-control-socket", *(["--preload"] if self._case.preload else []), "site_of_bench:app",
        ]  # fmt: skip
        with open(self._folder / "server.log", "wb") as log:
            server = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            try:
                self._wait_until_up()
                yield server
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(server.pid, signal.SIGKILL)
                server.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + UP
        while not self._fetch("first"):
            if time.monotonic() > deadline:
                raise SystemExit(f"gunicorn does not answer:\n{(self._folder / 'server.log').read_text()}")
            time.sleep(0.05)

    def _fetch(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=5) as answer:
                return bool(answer.read() == b"ok")
        except (OSError, http.client.HTTPException):
            return False

    def _ask(self, client: int) -> None:
        number = 0
        while not self._ending.wait(0.005):
            self._fetch(f"{client}-{number}")
            number += 1

    def _trouble(self, server: subprocess.Popen[bytes], seconds: float) -> None:
        end = time.monotonic() + seconds
        if self._case.outage:
            time.sleep(seconds / 4)
            self._collector.close()
            time.sleep(seconds / 2)
            self._collector.open()
        while self._case.kills and (pause := self._random.uniform(*BETWEEN_KILLS)) < end - time.monotonic():
            time.sleep(pause)
            self._kill(server)
        time.sleep(max(0.0, end - time.monotonic()))

    def _kill(self, server: subprocess.Popen[bytes]) -> None:
        shipper = shipper_pid(str(self._folder / "spool"))
        workers = [child.pid for child in psutil.Process(server.pid).children() if child.pid != shipper]
        with contextlib.suppress(ProcessLookupError):
            if shipper and self._random.random() < SHIPPER_SHARE:
                os.kill(shipper, signal.SIGKILL)
                self._killed["shipper"] += 1
            elif workers:
                os.kill(self._random.choice(workers), signal.SIGKILL)
                self._killed["worker"] += 1

    def _wait_for_arrivals(self) -> None:
        count, since = -1, time.monotonic()
        while self._made() - self._collector.bodies.keys() and time.monotonic() - since < QUIET:
            if len(self._collector.bodies) != count:
                count, since = len(self._collector.bodies), time.monotonic()
            time.sleep(0.1)

    def _made(self) -> set[str]:
        return {line for path in (self._folder / "notes").iterdir() for line in path.read_text().splitlines()}


def measure(contender: str, case: Case, seconds: float, seed: int) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="moving-"))
    try:
        return Run(contender, case, folder, seed).result(seconds)
    finally:
        end_shipper(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def table(results: list[Result]) -> str:
    """Format the results as the documentation page about moving from the SDK shows them."""
    lines = [
        "| | | killed: workers | shipper process | made | arrived | lost | doubled |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results:
        shippers = str(one.killed_shippers) if one.contender == "shipper" else ""
        lines.append(
            f"| {one.case} | {one.contender} | {one.killed_workers} | {shippers} | {one.made:,} | {one.arrived:,} | "
            f"{one.lost:,} | {one.doubled:,} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="moving", description="OpenTelemetry's SDK and shipper in one application")
    parser.add_argument("--seconds", type=float, default=12.0, help="how long each case is under load (12)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and victims; printed when not given")
    parser.add_argument("--only", nargs="+", choices=list(SETUP), default=list(SETUP), metavar="CONTENDER")
    parser.add_argument("--json", type=Path, default=None, help="a file for the numbers")
    options = parser.parse_args(arguments)
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}, {options.seconds:g} s each, {WORKERS} workers", flush=True)
    results = [measure(contender, case, options.seconds, seed) for case in CASES for contender in options.only]
    print(table(results))
    if options.json is not None:
        options.json.write_text(json.dumps([{**one._asdict(), "lost": one.lost} for one in results], indent=1))
    return 0 if all(one.lost == 0 for one in results if one.contender == "shipper") else 1


if __name__ == "__main__":
    sys.exit(main())
