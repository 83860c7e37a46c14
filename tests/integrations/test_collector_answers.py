"""Answers of a collector to a real shipper process: nothing is lost, and the status names the remedy."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from ..support.apps import App
from ..support.http_backends import free_port
from ..support.needs import need
from ..support.servers import Reply, Request, Server
from ..support.waiting import PATIENCE, wait_until

ORDERS = {f"order {number}" for number in range(20)}
APPLICATION = """
    retry = shipper.Retry(initial=0.1, maximum=0.2)
    shipper.start(app="test", spool=os.environ["TEST_SPOOL"], retry=retry, grace=1)
    log.setLevel(logging.INFO)
    for number in range(20):
        log.info("order %d", number)
    print(shipper.flush(float(sys.argv[1])), flush=True)
    sys.stdin.readline()
    shipper.stop(1)
"""
PARTIAL = ExportLogsServiceResponse(
    partial_success=ExportLogsPartialSuccess(rejected_log_records=3, error_message="too old")
)


class Collector:
    """A server that answers the n-th request as ``answer(n, request)`` says, and keeps the records that it took."""

    def __init__(self, answer: Callable[[int, Request], Reply | None]) -> None:
        self._answer = answer
        self.times: list[float] = []  # time.monotonic() of each request
        self.taken: Counter[str] = Counter()

    def __call__(self, request: Request) -> Reply | None:
        self.times.append(time.monotonic())
        reply = self._answer(len(self.times), request)
        if reply is None or reply.status == 200:
            self.taken.update(bodies_of(request))
        return reply


def bodies_of(request: Request) -> Iterator[str]:
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
        for scope in resource.scope_logs:
            yield from (record.body.string_value for record in scope.log_records)


class Place:
    """Where the application runs, and its status."""

    def __init__(self, spool: Path, folder: Path) -> None:
        self._spool, self._folder = spool, folder

    def run(self, url: str, *, flush: float = PATIENCE, seen: Callable[[str], object] = bool, **more: str) -> str:
        """Log the orders, flush, wait until ``seen`` of the status is true, stop; return what flush() returned."""
        with Server() as unused:
            app = App(unused, self._spool, self._folder)
            app.environment.update(SHIPPER_OTLP_ENDPOINT=url, **more)
            with app.running(sys.executable, str(app.write(APPLICATION)), str(flush), stdin=True) as process:
                assert process.stdout is not None
                lines = [process.stdout.readline()]
                while lines[-1] and lines[-1] not in ("True\n", "False\n"):
                    lines.append(process.stdout.readline())
                wait_until(lambda: seen(self.status()), 10, f"the status; it is {self.status()}")
                process.communicate("\n", timeout=PATIENCE)
            app.wait_for_end(20)
        return lines[-1].strip()

    def status(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "shipper.cli", "status", "--spool", str(self._spool), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout

    def counts(self) -> dict[str, object]:
        (app,) = json.loads(self.status("--json"))
        (backend,) = app["backends"]
        assert isinstance(backend, dict)
        return backend


@pytest.fixture
def place(spool: Path, tmp_path: Path) -> Place:
    return Place(spool, tmp_path)


def test_a_collector_that_asks_for_a_pause_gets_it_and_then_every_record_once(place: Place) -> None:
    collector = Collector(lambda n, request: Reply(429, {"Retry-After": "2"}) if n == 1 else None)
    with Server(collector) as server:
        assert place.run(server.url) == "True"

    assert collector.taken == Counter(ORDERS)
    assert collector.times[1] - collector.times[0] >= 2.0


def test_a_collector_that_is_unavailable_for_a_while_gets_every_record_once(place: Place) -> None:
    collector = Collector(lambda n, request: Reply([503, 502, 504][n - 1]) if n <= 3 else None)
    with Server(collector) as server:
        assert place.run(server.url) == "True"

    assert collector.taken == Counter(ORDERS)
    assert place.counts()["dead"] == 0


def test_records_that_a_partial_success_rejects_are_counted_and_never_sent_again(place: Place) -> None:
    answer = Reply(body=PARTIAL.SerializeToString())
    collector = Collector(lambda n, request: answer if n == 1 else None)
    with Server(collector) as server:
        place.run(server.url)

    assert collector.taken == Counter(ORDERS)
    dropped = place.counts()["dropped"]
    assert isinstance(dropped, dict)
    assert sum(dropped["refused_by_receiver"].values()) == 3
    assert "too old" in place.status()


def test_a_wrong_path_buries_nothing_and_after_its_correction_every_record_arrives(place: Place) -> None:
    collector = Collector(lambda n, request: None if request.target == "/v1/logs" else Reply(404))
    with Server(collector) as server:
        place.run(f"{server.url}/typo", flush=1, seen=lambda status: "refuses every event (HTTP 404)" in status)
        assert not collector.taken
        assert place.counts()["dead"] == 0

        assert place.run(server.url) == "True"

    assert set(collector.taken) == ORDERS


def test_of_a_collector_that_takes_no_gzip_the_remedy_is_said_and_it_works(place: Place) -> None:
    collector = Collector(lambda n, request: Reply(415) if "content-encoding" in request.headers else None)
    with Server(collector) as server:
        place.run(server.url, flush=1, seen=lambda status: "(if not: compress=False)" in status)
        assert not collector.taken

        assert place.run(server.url, SHIPPER_OTLP_COMPRESS="false") == "True"

    assert set(collector.taken) == ORDERS


def test_oteltap_takes_plain_protobuf_and_prints_every_record(place: Place, tmp_path: Path) -> None:
    need(importlib.util.find_spec("oteltap"), "oteltap")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    printed = tmp_path / "printed"
    with open(printed, "wb") as output:
        command = [sys.executable, "-u", "-m", "oteltap", "--port", str(port)]
        tap = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: b"Listening" in printed.read_bytes(), 15, "oteltap's port")
        assert place.run(url, SHIPPER_OTLP_COMPRESS="false") == "True"
        wait_until(lambda: len(printed.read_bytes().splitlines()) > len(ORDERS), 15, "oteltap's lines")
    finally:
        tap.terminate()
        tap.wait(PATIENCE)

    records = [json.loads(line) for line in printed.read_text().splitlines() if line.startswith("{")]
    assert Counter(record["body"]["stringValue"] for record in records) == Counter(ORDERS)
    assert {record["severityText"] for record in records} == {"INFO"}
