"""`shipper top` - live rates, lag and latency of all apps and backends."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, OK, complain, terminal
from ..parsing import seconds
from ..status.command import add_selection

if TYPE_CHECKING:
    from ...report import Status
    from .rates import Row

USUAL_SECONDS = 1.0  # between two looks
SVG_SECONDS = 5.0  # that a picture shows
WIDTH = 150  # columns where there is no terminal
SORTS = ("app", "state", "in/s", "out/s", "bytes/s", "left", "lag", "in flight", "retries", "dead", "latency")
KEYS = "q quit · sort by a app · s state · i in/s · o out/s · b bytes/s · l left · g lag · f in flight · r retries · "
KEYS += "d dead · t latency (again: the other way)"


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "top",
        help="watch rates, lag and latency live",
        description="Shows all apps and backends, each second: events per second that come in and are delivered, bytes "
        "per second, what is left and how old it is, requests at the same time, retries, and how long requests take. "
        "Keys sort, q ends it. Without a terminal: one look, printed once. Needs rich.",
        epilog="Exit code: 0; 1 there is no such app.",
        examples="""
            shipper top
            shipper top --app checkout --sort lag
            shipper top | tail -n +3                       one look, for a program
            shipper top --svg top.svg --for 20s            a picture of 20 seconds
        """,
    )
    add_selection(parser)
    parser.add_argument("--sort", choices=SORTS, default="app", help="what the rows are sorted by (default: app)")
    parser.add_argument("--every", type=_interval, default=USUAL_SECONDS, metavar="TIME", help="default: 1s")
    parser.add_argument("--once", action="store_true", help="one look, also in a terminal")
    parser.add_argument("--svg", metavar="FILE", help="write a picture of it to a file, and end")
    parser.add_argument(
        "--for", dest="duration", type=seconds, default=SVG_SECONDS, metavar="TIME", help="what --svg shows (5s)"
    )
    parser.set_defaults(run=run)


def _interval(text: str) -> float:
    found = seconds(text)
    if not 0.1 <= found <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 0.1s to 1h")
    return found


def run(given: argparse.Namespace) -> int:
    import rich  # noqa: F401 - before anything is shown: the message about a missing extra is a better one than none

    from ..status.find import NoSuchApp

    try:
        if given.svg:
            return _draw(given)
        if given.once or not (terminal.is_terminal() and sys.stdin.isatty()):
            return _print_once(given)
        with contextlib.suppress(KeyboardInterrupt):
            _live(given)
        return OK
    except NoSuchApp as error:
        return complain(str(error), code=BAD_NEWS)


class Samples:
    """Looks at all apps that are chosen; apps that come later are found too."""

    def __init__(self, given: argparse.Namespace) -> None:
        from .rates import Rates

        self._given = given
        self._rates = Rates()
        self.statuses: list[Status] = []
        self.rows: list[Row] = []

    def take(self) -> None:
        """Read all statuses, and update the rows. NoSuchApp when there is no app."""
        from ..status.find import find

        self.statuses = [each.read() for each in find(self._given.app, self._given.spool)]
        self.rows = self._rates.add(self.statuses, time.monotonic())

    def take_for(self, duration: float, every: float) -> None:
        """Take a sample each ``every`` seconds for ``duration`` seconds; at least two."""
        end = time.monotonic() + max(duration, every)
        self.take()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(every, left))
            self.take()


def _print_once(given: argparse.Namespace) -> int:
    from rich.console import Console

    from .view import drawn, sorted_rows

    samples = Samples(given)
    samples.take_for(given.every, given.every)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(console.width, WIDTH))
    console.print(drawn(samples.statuses, sorted_rows(samples.rows, given.sort)))
    return OK


def _draw(given: argparse.Namespace) -> int:
    from rich.console import Console

    from ..metrics import replace
    from .view import drawn, sorted_rows

    samples = Samples(given)
    samples.take_for(given.duration, given.every)
    with open(os.devnull, "w") as nothing:
        console = Console(record=True, width=WIDTH, file=nothing, force_terminal=True, highlight=False)
        console.print(drawn(samples.statuses, sorted_rows(samples.rows, given.sort)))
        picture = console.export_svg(title="shipper top", code_format=_svg_format())
    try:
        replace(given.svg, picture)
    except OSError as error:
        return complain(f"{given.svg}: {error.strerror}", code=BAD_NEWS)
    return OK


def _svg_format() -> str:
    """The SVG format of rich, without the fonts that it loads from the web."""
    from rich._export_format import CONSOLE_SVG_FORMAT

    return re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def _live(given: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.live import Live

    from .view import COLUMNS, drawn, sorted_rows

    letters = {letter for letter, _, _ in COLUMNS}
    samples, sort, reverse = Samples(given), given.sort, False
    samples.take()
    with _keys(), Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        due = time.monotonic() + given.every
        while True:
            live.update(drawn(samples.statuses, sorted_rows(samples.rows, sort, reverse=reverse), keys=KEYS))
            live.refresh()
            key = _key(due - time.monotonic())
            if key == "q":
                return
            if key in letters:
                sort, reverse = key, key == sort and not reverse
            if time.monotonic() >= due:
                samples.take()
                due = time.monotonic() + given.every


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Until the end of ``with``, keys can be read one by one, and are not shown."""
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _key(timeout: float) -> str:
    """The next key within so many seconds, else ""; "q" at the end of the input."""
    ready: Sequence[int] = select.select([0], [], [], max(0.0, timeout))[0]
    if not ready:
        return ""
    return os.read(0, 1).decode("ascii", "replace") or "q"
