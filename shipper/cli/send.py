"""`shipper send` - ships one event."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from typing import Any

from ..event import Event, from_record
from . import BAD_NEWS, NOT_TRIED, OK, complain, shipping

MOST = 256 * 1024
"""So much of a file with a traceback is read, from its end."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "send",
        help="ship one event",
        description="Ship one event to the backends that the environment names: SHIPPER_TRAKERR_API_KEY, "
        "SHIPPER_JKOOL_TOKEN and the other variables of the settings.",
        epilog="Exit code: 0 delivered (with --no-wait: safe on disk); 1 refused, dropped, or not delivered yet - then "
        "it is on disk, and is tried again; 2 not tried.",
    )
    parser.add_argument("message")
    parser.add_argument(
        "--extra",
        type=_pair,
        action="append",
        default=[],
        metavar="K=V",
        help="a field of the event, as often as you like; numbers, true, false and null are that, the rest is text",
    )
    parser.add_argument(
        "--exception-from",
        metavar="FILE",
        help="a file with a traceback, - for standard input; its end when it is long",
    )
    shipping.add_options(parser, timeout=10.0, waits_for="for the delivery")
    parser.add_argument("--no-wait", action="store_true", help="safe on disk is enough")
    parser.set_defaults(run=run)


def _pair(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V")
    return name, _value(value)


def _value(text: str) -> object:
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, (dict, list, str)) else value


def run(given: argparse.Namespace) -> int:
    try:
        event = _event(given)
    except OSError as error:
        return complain(f"{given.exception_from}: {error.strerror}", code=NOT_TRIED)
    with shipping.started(given) as pipeline:
        if problem := shipping.unheard(given.level):
            return complain(problem, code=BAD_NEWS)
        refused = shipping.dead()
        if not pipeline.put(event):
            return BAD_NEWS  # and it was said why
        if not shipping.flush(given.timeout, delivered=not given.no_wait):
            return complain(_trouble(given.timeout), code=BAD_NEWS)
        names = [name for name, count in shipping.dead().items() if count > refused.get(name, 0)]
        if names and not given.no_wait:
            return complain(f"refused by {', '.join(names)}: see dead/ in {shipping.place()}", code=BAD_NEWS)
    return OK


def _event(given: argparse.Namespace) -> Event:
    made = shipping.event(given.message, given.level, given.logger, time.time(), dict(given.extra))
    if given.exception_from:
        # A record that was pickled has its traceback as text, too.
        made.exceptions = from_record(logging.makeLogRecord({"exc_text": _tail(given.exception_from)})).exceptions
    return made


def _tail(path: str) -> str:
    if path == "-":
        octets = sys.stdin.buffer.read()
    else:
        with open(path, "rb") as file:
            octets = file.read()
    return octets[-MOST:].decode("utf-8", "backslashreplace").strip("\r\n")


def _trouble(seconds: float) -> str:
    said = [f"{each.name} is {each.state} ({each.last_error})" for each in shipping.backends() if each.last_error]
    return f"not delivered within {seconds:g} s; it is kept in {shipping.place()}. {'; '.join(said)}".rstrip(". ")
