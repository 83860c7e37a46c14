"""`shipper run -- command` - runs a command whose events go to a receiver on this machine, and shows what arrived."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import NOT_TRIED, complain
from .parsing import seconds
from .terminal import plural

if TYPE_CHECKING:
    from ..receiver import Receiver
    from ..spool.layout import Spool

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # the exit codes that shells use
USUAL_SECONDS = 10.0
SHOWN = 10  # events that are listed at the end
LOOK_SECONDS = 0.05
_FORWARDED = {
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
}  # fmt: skip
_TITLES = {"trakerr": "Trakerr", "jkool": "jKool", "otlp": "OpenTelemetry"}


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "run",
        help="run a command whose events go to a receiver on this machine",
        description="Starts the local receiver on a free port, runs a command with the variables that point its events "
        "there, and shows what arrived. Nothing is sent to a service, whatever the code says. Spools are in a folder "
        "that is removed afterwards. Signals go to the command; its output is not touched: what this command says goes "
        "to stderr.",
        epilog="Exit code: the command's, 128 + the signal that ended it, 127 when it is not found, 126 when it cannot "
        "be executed; 2 wrong usage.",
        examples="""
            shipper run -- python app.py
            shipper run --keep -- gunicorn shop.wsgi
            shipper run -- shipper send "hello"
        """,
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="what to run")
    parser.add_argument("--keep", action="store_true", help="keep the receiver's page afterwards, until Ctrl-C")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=USUAL_SECONDS,
        metavar="TIME",
        help="how long to wait for what is on the way when the command has ended (default: 10s)",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    command: list[str] = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        return complain("say what to run: shipper run -- COMMAND", code=NOT_TRIED)
    from ..receiver import Receiver

    # Block the signals before the receiver's thread begins, which would get them otherwise.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    try:
        with (
            tempfile.TemporaryDirectory(prefix="shipper-run-", ignore_cleanup_errors=True) as folder,
            Receiver() as receiver,
        ):
            _say(f"events go to {receiver.url}")
            code = _run(command, environment(os.environ, receiver, folder), before)
            if code in (NOT_FOUND, NOT_EXECUTABLE):
                return code
            _wait_for_delivery(folder, given.timeout)
            _show(receiver)
            if given.keep:
                _say(f"the page: {receiver.url}; Ctrl-C ends it")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})
        return code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment(environ: Mapping[str, str], receiver: Receiver, folder: str) -> dict[str, str]:
    """The environment of the command: its services are the receiver, its spools are in ``folder``."""
    from ..backends.redirect import VARIABLE

    changed = {name: value for name, value in environ.items() if name not in ("SHIPPER_SPOOL", "SHIPPER_ENABLED")}
    keys = {"SHIPPER_TRAKERR_API_KEY": "local-key", "SHIPPER_JKOOL_TOKEN": "local-token"}
    # If the environment has the key of one service only, the command ships to that one alone.
    named = {name for name in keys if environ.get(name)} or set(keys)
    changed |= {name: key for name, key in keys.items() if name in named and "SHIPPER_BACKENDS" not in environ}
    changed |= {
        VARIABLE: receiver.url,  # redirects the backends that the command's code makes
        "SHIPPER_TRAKERR_URL": receiver.trakerr_url,
        "SHIPPER_JKOOL_URL": receiver.jkool_url,
        "XDG_STATE_HOME": folder,
    }
    if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in environ) or "otlp" in environ.get("SHIPPER_BACKENDS", ""):
        changed.pop("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", None)
        changed["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.otlp_url
    for name in ("NO_PROXY", "no_proxy"):
        changed[name] = ",".join(filter(None, ("127.0.0.1", environ.get(name, ""))))
    return changed


def _run(command: list[str], variables: Mapping[str, str], mask: set[int]) -> int:
    """Run the command and forward signals to it; return its exit code, 128 + the signal if one ended it."""
    try:
        pid = os.posix_spawnp(command[0], command, variables, setsigmask=mask)
    except FileNotFoundError:
        return complain(f"{command[0]}: not found", code=NOT_FOUND)
    except OSError as error:
        return complain(f"{command[0]}: {error.strerror}", code=NOT_EXECUTABLE)
    while True:
        came = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        # A signal from the kernel (Ctrl-C, a terminal that is gone) has reached the command too.
        if came.si_signo != signal.SIGCHLD and came.si_code <= 0:
            os.kill(pid, came.si_signo)


def _wait_for_delivery(folder: str, timeout: float) -> None:
    """Wait until the shipper processes of the spools in ``folder`` have ended; kill those that still run.

    The wait ends after ``timeout`` seconds in all, or with SIGINT or SIGTERM.
    """
    from ..report import read_status
    from ..spool.lock import running

    deadline = time.monotonic() + timeout
    for spool in _spools(folder):
        while running(spool) is not None and time.monotonic() < deadline:
            if signal.sigtimedwait({signal.SIGINT, signal.SIGTERM}, LOOK_SECONDS) is not None:
                deadline = time.monotonic()
        status = read_status(spool, os.path.basename(spool.path))
        if status.left or status.in_memory:
            _say(f"{status.app}: {plural(status.left + status.in_memory, 'event')} did not arrive in time")
        _end(spool)


def _end(spool: Spool) -> None:
    from ..spool.lock import running

    deadline = time.monotonic() + USUAL_SECONDS
    while (holder := running(spool)) is not None and time.monotonic() < deadline:
        if holder.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGKILL)
        threading.Event().wait(LOOK_SECONDS)


def _spools(folder: str) -> Iterator[Spool]:
    from ..spool.layout import Spool

    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(os.scandir(os.path.join(folder, "shipper")), key=lambda entry: entry.name):
            yield Spool(entry.path)


def _show(receiver: Receiver) -> None:
    counts = {service: each["events"] for service, each in receiver.counts().items() if each["events"]}
    if not counts:
        _say("nothing arrived. Does the command call shipper.start(), and log at a level that a backend takes?")
        return
    _say("arrived: " + ", ".join(f"{plural(n, 'event')} at {_TITLES.get(name, name)}" for name, n in counts.items()))
    newest = receiver.events(limit=SHOWN)
    for event in reversed(newest):
        when = time.strftime("%H:%M:%S", time.localtime(event["time"] or event["received"]))
        service = _TITLES.get(event["service"], event["service"])
        _say(f"  {when} {service:8} {event['level']:8} {event['logger'] or '-'}: {_line(event['message'])}")
    if (more := sum(counts.values()) - len(newest)) > 0:
        _say(f"  and {plural(more, 'earlier event')}")


def _line(text: str | None) -> str:
    """The first 200 characters of the first line, with ``?`` for those that are not printable."""
    first = (text or "").split("\n", 1)[0][:200]
    return "".join(character if character.isprintable() else "?" for character in first)


def _say(text: str) -> None:
    print(f"shipper run: {text}", file=sys.stderr, flush=True)
