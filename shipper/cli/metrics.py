"""`shipper metrics` - metrics for Prometheus, on stdout or in a file for the node exporter's textfile collector."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import threading
from typing import Any

from . import BAD_NEWS, OK, complain
from .parsing import number_of_seconds
from .status.command import add_selection


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "metrics",
        help="print metrics for Prometheus, or write them to a file",
        description="Print metrics of all apps as OpenMetrics text, or write them to a file that another program "
        "reads at any moment, such as the node exporter's textfile collector.",
        epilog="Exit code: 0 written; 1 there is no such app, or the file cannot be written; 2 wrong usage.",
        examples="""
            shipper metrics --textfile /var/lib/node_exporter/shipper.prom --every 15
        """,
    )
    add_selection(parser)
    parser.add_argument("--textfile", metavar="PATH", help="the file, which is replaced as a whole (*.prom)")
    every = number_of_seconds(0.1, 86400)
    parser.add_argument("--every", type=every, metavar="S", help="repeat it every S seconds, until Ctrl-C")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    waiting = threading.Event()
    while True:
        code = _write(given)
        if given.every is None:
            return code
        with contextlib.suppress(KeyboardInterrupt):
            waiting.wait(given.every)
            continue
        return OK


def _write(given: argparse.Namespace) -> int:
    from .status.find import NoSuchApp, find
    from .status.openmetrics import openmetrics

    try:
        found = find(given.app, given.spool)
    except NoSuchApp as error:
        if given.app or given.spool:
            return complain(str(error), code=BAD_NEWS)
        found = []  # no app has a spool yet: no samples
    text = openmetrics([(each.user, each.read()) for each in found])
    if given.textfile is None:
        print(text, end="", flush=True)
        return OK
    try:
        replace(given.textfile, text)
    except OSError as error:
        return complain(f"{given.textfile}: {error.strerror}", code=BAD_NEWS)
    return OK


def replace(path: str, text: str) -> None:
    """Replace a file in one step: a reader finds the old text or the new one. All users may read it (mode 0644)."""
    fd, beside = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=f".{os.path.basename(path)}.")
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except OSError:
        os.unlink(beside)
        raise
