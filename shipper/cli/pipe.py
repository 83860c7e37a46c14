"""`some-program 2>&1 | shipper pipe` - ships each line, and does not make the program wait."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from ..event import Event
from ..handler import Pipeline
from . import BAD_NEWS, OK, complain, shipping
from .jsonline import as_event
from .lines import Lines
from .spill import Spill

SPILL = 1024  # MiB on disk that may wait for us


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "pipe",
        help="ship each line of standard input",
        description="Ship each line of standard input to the backends that the environment names: "
        "SHIPPER_TRAKERR_API_KEY, SHIPPER_JKOOL_TOKEN and the other variables of the settings. Input is taken as fast as "
        "a file takes it, to a file without a name, and shipped from there; the program that writes does not wait.",
        epilog="A line of more than 64 KiB is cut, with a marker. At the end of input, at SIGTERM and at Ctrl-C what was "
        "written is still shipped. Exit code: 0 all of it is safe on disk, from where it is delivered; 1 not, or some "
        "was dropped; 2 not tried.",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a line that is a JSON object keeps its fields; its message, level, time and logger are the event's",
    )
    parser.add_argument(
        "--spill",
        type=_mebibytes,
        default=SPILL,
        metavar="MIB",
        help="so much may wait on disk (%(default)s); then input does",
    )
    shipping.add_options(parser, timeout=10.0, waits_for="at the end, until all is on disk")
    parser.set_defaults(run=run)


def _mebibytes(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 2**20:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1048576")


def run(given: argparse.Namespace) -> int:
    with shipping.started(given) as pipeline:
        if not given.json and (problem := shipping.unheard(given.level)):
            complain(problem, code=BAD_NEWS)
        # The reader has little to do, and the program waits for it: it must not wait for its turn.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0002)
        try:
            with Spill(sys.stdin.fileno(), shipping.place(), most=given.spill * 2**20) as spill, _asked_to_end(spill):
                _ship(spill, pipeline, _maker(given))
        finally:
            sys.setswitchinterval(interval)
        if spill.trouble:
            return complain(f"standard input: {spill.trouble}", code=BAD_NEWS)
        if not shipping.flush(given.timeout, delivered=False):
            return complain(f"not on disk within {given.timeout:g} s; what is left waits in memory", code=BAD_NEWS)
        if pipeline.queue.drops:
            return complain(f"dropped: {pipeline.queue.drops}", code=BAD_NEWS)
    return OK


def _ship(spill: Spill, pipeline: Pipeline, make: Callable[[str, float], Event]) -> None:
    lines = Lines()
    for octets, when in spill:
        for line in lines.of(octets):
            _put(pipeline, make(line, when))
    if (rest := lines.rest()) is not None:
        _put(pipeline, make(rest, time.time()))


@contextlib.contextmanager
def _asked_to_end(spill: Spill) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the input, not the shipping of what is there."""

    def end(number: int, frame: FrameType | None) -> None:
        spill.end()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _put(pipeline: Pipeline, event: Event) -> None:
    """Queue it when there is room for it: nothing is dropped because we are faster than the disk."""
    queue = pipeline.queue
    while queue.waiting:
        queue.drain(time.monotonic() + 1.0)
    pipeline.put(event)


def _maker(given: argparse.Namespace) -> Callable[[str, float], Event]:
    level, logger, name = given.level, given.logger, logging.getLevelName(given.level)

    def of_text(line: str, when: float) -> Event:
        return Event(time=when, level=level, level_name=name, logger=logger, message=line)

    def of_json(line: str, when: float) -> Event:
        return as_event(line, of_text("", when)) or of_text(line, when)

    return of_json if given.json else of_text
