"""A real OpenTelemetry collector (rotel, from PyPI) takes what forked workers log."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.apps import App
from ..support.http_backends import free_port
from ..support.needs import need
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds, wait_until

WORKERS, RECORDS = 4, 250
UID = re.compile(r"log\.record\.uid: Str\(([0-9a-f-]{36})\)")
BODY = re.compile(r"^Body: Str\((.*)\)$", re.MULTILINE)

APPLICATION = f"""
    shipper.start(
        shipper.Otlp(os.environ["TEST_URL"]), app="test", spool=os.environ["TEST_SPOOL"],
        retry=shipper.Retry(initial=0.05, maximum=0.2),
    )
    log.setLevel(logging.INFO)
    if sys.argv[1] == "workers":
        children = []
        for worker in range({WORKERS}):
            child = os.fork()
            if not child:
                for number in range({RECORDS}):
                    log.info("w%d-%d", worker, number, extra={{"order": number}})
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
    try:
        raise ValueError("no such order")
    except ValueError:
        log.exception("the last one")
    print(shipper.stop(30).flushed, flush=True)
"""


class Collector:
    """The collector's process, and the text in which it prints every record."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._output = folder / "collector.txt"
        self._port, self._other_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        # The program is linked to the shared library of the Python for which it was built.
        library = sysconfig.get_config_var("LIBDIR")
        self._environment = {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [library, ""]))}

    def is_whole(self) -> bool:
        command = [str(self._program), "--version"]
        return os.access(self._program, os.X_OK) and not subprocess.call(
            command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Collector]:
        command = [
            str(self._program), "start", "--otlp-http-endpoint", f"127.0.0.1:{self._port}",
            "--otlp-grpc-endpoint", f"127.0.0.1:{self._other_port}",
            "--debug-log", "logs", "--debug-log-verbosity", "detailed", "--exporter", "blackhole",
        ]  # fmt: skip
        with open(self._output, "wb") as output:
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=subprocess.STDOUT)
            try:
                wait_until(self._answers, 15, "the collector's port")
                yield self
            finally:
                process.terminate()
                process.wait(PATIENCE)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False

    @property
    def text(self) -> str:
        return self._output.read_text(errors="replace")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    found = importlib.util.find_spec("rotel")
    program = Path(str(found.origin)).with_name("rotel-agent") if found else Path("nowhere")
    made = Collector(program, tmp_path)
    need(made.is_whole(), "the collector (pip install rotel) and the shared library of this Python")
    with made.running() as running:
        yield running


def test_every_record_of_forked_workers_arrives_once_though_the_shipper_process_is_killed(
    collector: Collector, spool: Path, tmp_path: Path
) -> None:
    with Server() as unused:
        app = App(unused, spool, tmp_path)
        app.environment["TEST_URL"] = collector.url
        script = app.write(APPLICATION)
        with app.running(sys.executable, str(script), "workers") as running:
            first = app.wait_for_shipper()
            os.kill(first, signal.SIGKILL)
            output, _ = running.communicate(timeout=PATIENCE * 4)
        app.wait_for_end(30)

    assert output.splitlines()[-1:] == ["True"], output
    expected = {f"w{worker}-{number}" for worker in range(WORKERS) for number in range(RECORDS)} | {"the last one"}
    assert holds(lambda: expected <= set(BODY.findall(collector.text)))
    bodies, uids = BODY.findall(collector.text), UID.findall(collector.text)
    assert set(bodies) == expected
    assert len(set(uids)) == len(expected)


def test_a_record_carries_its_attributes_with_their_types(collector: Collector, spool: Path, tmp_path: Path) -> None:
    with Server() as unused:
        app = App(unused, spool, tmp_path)
        app.environment["TEST_URL"] = collector.url
        script = app.write(APPLICATION)
        with app.running(sys.executable, str(script), "alone") as running:
            output, _ = running.communicate(timeout=PATIENCE * 4)
        app.wait_for_end(30)

    assert output.splitlines()[-1:] == ["True"], output
    assert holds(lambda: "the last one" in collector.text)
    text = collector.text
    assert "-> service.name: Str(test)" in text
    assert "SeverityNumber: SEVERITY_NUMBER_ERROR(17)" in text
    assert "-> exception.type: Str(ValueError)" in text
    assert "-> exception.message: Str(no such order)" in text
    assert "-> exception.stacktrace: Str(Traceback (most recent call last):" in text
    assert re.search(r"-> code\.line\.number: Int\(\d+\)", text)
