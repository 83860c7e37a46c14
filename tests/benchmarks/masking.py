"""Recall and cost of masking: ``python -m tests.benchmarks.masking``.

Recall and false positives are measured with `tests/event/corpus/`. Cost is the processor time of a whole logging call
with masking, divided by that of a call without; the pipe is read after each call.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable

import shipper
from shipper.application.capture.pipeline import Pipeline, set_pipeline
from shipper.event.redact import Redact, Redactor
from shipper.transport.producer import Producer

from ..event.corpora import innocent_texts, secret_texts
from ..event.hostile import hostile_texts

SIZES = (1000, 4000, 16_000, 60_000, 200_000, 250_000)
USUAL = (
    "order 17 paid",
    "GET /orders/17 HTTP/1.1 200 in 12 ms for user=bob",
    "connected to https://api.example/v1 in 3 ms",
    "{'user': 'bob', 'password': 'hunter2', 'n': 1}",
    "order 17 paid for bob, " * 40,
)
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


def main() -> None:
    mask = Redactor(Redact()).mask_text
    for number, (secret, innocent) in enumerate(zip(secret_texts(), innocent_texts(), strict=True), 1):
        missed = sum(any(one in mask(text) for one in secrets) for text, secrets in secret)
        changed = sum(mask(text) != text for text in innocent)
        print(f"set {number}: recall {1 - missed / len(secret):.1%} of {len(secret)}", end=", ")
        print(f"false positives {changed / len(innocent):.1%} of {len(innocent)}")
    with tempfile.TemporaryDirectory() as folder:
        ratio = _ratios(folder)
        for text in USUAL:
            print(f"{ratio(text, 200):5.1f} x  {text[:60]!r}, {len(text)} characters")
        for size in SIZES:
            worst = max((ratio(text, 5 + 20_000 // size), name) for name, text in hostile_texts(size))
            print(f"{worst[0]:5.1f} x  the worst of {size} characters: {worst[1]}")


def _ratios(folder: str) -> Callable[[str, int], float]:
    """Return a function that logs a text n times with masking and without, and returns the ratio of the least times."""
    os.mkfifo(f"{folder}/queue", 0o600)
    os.mkdir(f"{folder}/overflow", 0o700)
    reader = os.open(f"{folder}/queue", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, _SET_PIPE_SIZE, 1 << 20)
    producer = Producer(f"{folder}/queue", overflow=f"{folder}/overflow")
    producer.open()
    logger = logging.Logger("masking", logging.INFO)
    logger.addHandler(shipper.QueueHandler())
    pipelines = [Pipeline(producer, ("memory",), redact=Redact(enabled=enabled)) for enabled in (True, False)]

    def least(pipeline: Pipeline, text: str, times: int) -> int:
        set_pipeline(pipeline)
        found = []
        for _ in range(times):
            started = time.thread_time_ns()
            logger.info(text)
            found.append(time.thread_time_ns() - started)
            with contextlib.suppress(BlockingIOError):
                while os.read(reader, 1 << 20):
                    pass
        return min(found)

    def ratio(text: str, times: int) -> float:
        masked, unmasked = (least(pipeline, text, times) for pipeline in pipelines)
        return masked / unmasked

    return ratio


if __name__ == "__main__":
    main()
