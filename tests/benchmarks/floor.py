"""What each part of a logging call costs, in ns and in instructions: the lower bound of a call with these guarantees.

`python -m tests.benchmarks.floor` prints a table: for each part the time of the fastest of many rounds, which other
work on the machine disturbs least, and the instructions that valgrind counts. Each part is called alone, with prepared
arguments and warm caches. `--no-instructions` does without valgrind.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shipper.application.capture.handler import SHIPPED, QueueHandler
from shipper.application.capture.pipeline import Callbacks, Pipeline, set_pipeline
from shipper.event.redact import Redact, Redactor
from shipper.transport import frame
from shipper.transport.producer import Producer

from .peers import NAME, Peer, _Bare

Part = Callable[[int], object]

CALLS = 300  # of one round; all that they write fits into the pipe
ROUNDS = 100
COUNTED = 1000  # calls whose instructions are counted
NOTHING = "(an empty function)"


@contextlib.contextmanager
def parts() -> Iterator[dict[str, tuple[Part, int]]]:
    """Name → the function to measure, and the reading end of the pipe that it writes to (-1: none)."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        queue = os.path.join(folder, "queue")
        os.mkfifo(queue, 0o600)
        reading = os.open(queue, os.O_RDONLY | os.O_NONBLOCK)
        producer = Producer(queue, overflow=memory)
        producer.open()
        bare = _Bare(("sleep", "1000"))
        try:
            yield dict(_parts(producer, reading, bare))
        finally:
            producer.close()
            bare._reader.kill()
            bare._reader.wait()
            os.close(reading)


def _parts(producer: Producer, reading: int, bare: _Bare) -> Iterator[tuple[str, tuple[Part, int]]]:
    pipeline = Pipeline(producer, ("trakerr", "jkool"), redact=Redact(), callbacks=Callbacks(None, None))
    set_pipeline(pipeline)
    ours, kept = QueueHandler(), _Keep()
    peer = Peer("", Path())
    bare._fd = os.open(producer.path, os.O_WRONLY)  # the queue, which the benchmark empties; its own reader idles
    handlers: dict[str, logging.Handler] = {"nothing": _Nothing(), "bare": bare, "shipper": ours}

    def through(handler: logging.Handler) -> Part:
        def call(number: int) -> None:
            logger.handlers = [handler]
            peer.log(number)

        return call

    logger = logging.getLogger(NAME)
    logger.handlers = [kept]
    peer.log(17)
    (record,) = kept.records
    yield NOTHING, (lambda number: None, -1)
    for name, handler in handlers.items():
        yield f"a call: {name}", (through(handler), reading)
    pack, channel = pipeline.pack_fast, producer._channel
    assert pack is not None
    payload = pack(record)
    whole = frame.single(payload, frame.EVENT, 20, 0, 1, channel.token, 1, channel.pid)
    own = producer._pipe._own
    assert own is not None
    text = f"{record.getMessage()}\0eu-1"
    suspicious = Redactor(Redact()).is_suspicious
    fd = own.number
    yield "bare: its handler", (lambda number: bare.emit(record), reading)
    yield "shipper: its handler", (lambda number: (ours.handle(record), record.__dict__.pop(SHIPPED)), reading)
    yield "... the event's bytes", (lambda number: pack(record), -1)
    yield "...... masks: may anything be secret?", (lambda number: suspicious(text), -1)
    yield "...... message", (lambda number: record.getMessage(), -1)
    yield "... the frame into the pipe", (lambda number: producer.put_sequence(payload, 20), reading)
    yield "...... frame with number and checksum", (
        lambda number: frame.single(payload, frame.EVENT, 20, 0, 1, channel.token, 1, channel.pid), -1
    )  # fmt: skip
    yield "......... of it the checksum", (lambda number: zlib.crc32(payload, zlib.crc32(payload[:40])), -1)
    yield "...... is this still the process? (fork)", (lambda number: os.getpid(), -1)
    yield "...... is the number still our pipe?", (lambda number: own.is_own(), -1)
    yield "...... write(2)", (lambda number: os.write(fd, whole), reading)
    yield "...... mirror", (lambda number: channel.note(whole), -1)


class _Nothing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Nothing."""


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def _drain(pipe: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while pipe >= 0 and os.read(pipe, 1 << 20):
            pass


def _run(part: Part, pipe: int, calls: int) -> float:
    """Mean time of a call in ns."""
    _drain(pipe)
    begun = time.perf_counter_ns()
    for number in range(calls):
        part(number)
    return (time.perf_counter_ns() - begun) / calls


def nanoseconds() -> dict[str, float]:
    """Name → ns of a call in the fastest round, less those of an empty function."""
    with parts() as found:
        least = {name: min(_run(*each, CALLS) for _ in range(ROUNDS)) for name, each in found.items()}
    return {name: took - least[NOTHING] for name, took in least.items() if name != NOTHING}


def instructions(name: str) -> float:
    """Instructions of one call: the difference of two valgrind runs with different numbers of calls."""
    few, many = (_counted(name, calls) for calls in (COUNTED, 2 * COUNTED))
    return (many - few) / COUNTED


def _counted(name: str, calls: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", __spec__.name]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # otherwise two runs differ by millions of instructions
    done = subprocess.run(
        [*command, "--run", name, str(calls)], capture_output=True, text=True, check=True, env=environment
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1])


def _call(name: str, calls: int) -> None:
    with parts() as found:
        for _ in range(calls // 100):
            _run(*found[name], 100)


def main(options: Any) -> None:
    print("| | ns | instructions |")
    print("|---|---:|---:|")
    empty = 0.0 if options.no_instructions else instructions(NOTHING)
    for name, took in nanoseconds().items():
        counted = "" if options.no_instructions else f"{instructions(name) - empty:,.0f}"
        print(f"| {name} | {took:,.0f} | {counted} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-instructions", action="store_true")
    parser.add_argument("--run", nargs=2, metavar=("PART", "CALLS"), help="call a part so often, and end")
    given = parser.parse_args()
    if given.run:
        _call(given.run[0], int(given.run[1]))
    else:
        main(given)
