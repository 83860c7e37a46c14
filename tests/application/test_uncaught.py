"""Exceptions that no code catches, shipped as critical."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.apps import App
from ..support.servers import Server


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        yield made
        made.wait_for_end()


def run(app: App, source: str, *, code: int = 0) -> tuple[dict[str, Any], str]:
    """Run ``source``; return the only event with an exception, and what the program wrote to stderr."""
    done = app.run("begin(uncaught=True)\n" + source, code=code)
    app.run("begin(); assert shipper.stop(60).flushed")
    (event,) = [event for event in map(json.loads, app.server.bodies) if "eventStacktrace" in event]
    return event, done.stderr


def raised(event: dict[str, Any]) -> tuple[str, str, str]:
    (trace,) = event["eventStacktrace"]
    return event["logLevel"], trace["type"], trace["message"]


def test_what_ends_the_program_is_shipped_and_printed(app: App) -> None:
    event, errors = run(app, "raise LookupError('no such order')", code=1)

    assert raised(event) == ("fatal", "builtins.LookupError", "no such order")
    assert errors.splitlines()[-1] == "LookupError: no such order"


def test_what_ends_a_thread_is_shipped_with_its_name_and_printed(app: App) -> None:
    event, errors = run(app, """
thread = threading.Thread(target=lambda: 1 / 0, name="payments")
thread.start()
thread.join()
""")  # fmt: skip

    assert raised(event)[:2] == ("fatal", "builtins.ZeroDivisionError")
    assert "payments" in event["eventMessage"]
    assert "ZeroDivisionError" in errors


def test_what_can_only_be_printed_is_shipped(app: App) -> None:
    event, errors = run(app, """
class Basket:
    def __del__(self):
        raise ValueError("spilt")
Basket()
""")  # fmt: skip

    assert raised(event) == ("fatal", "builtins.ValueError", "spilt")
    assert re.search(r"exception ignored .*Basket\.__del__>?$", event["eventMessage"], re.IGNORECASE)
    assert "Exception ignored " in errors


def test_what_asyncio_reports_is_shipped_as_critical_and_stays_an_error_elsewhere(app: App) -> None:
    event, errors = run(app, """
import asyncio
console = logging.StreamHandler()
console.setFormatter(logging.Formatter("CONSOLE %(levelname)s"))
logging.getLogger().addHandler(console)
async def main():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
asyncio.run(main())
""")  # fmt: skip

    assert raised(event)[:2] == ("fatal", "builtins.ZeroDivisionError")
    assert "CONSOLE ERROR" in errors


@pytest.mark.parametrize(
    ("source", "code"), [("sys.exit(3)", 3), ("raise KeyboardInterrupt", -2)], ids=["exit", "interrupt"]
)
def test_an_end_that_was_asked_for_is_no_error(app: App, source: str, code: int) -> None:
    app.run(f"begin(uncaught=True)\n{source}", code=code)

    assert app.messages() == []


def test_hooks_that_were_there_before_run_and_are_back_after_a_stop(app: App) -> None:
    done = app.run("""
        def main(*args): print("main", args[0].__name__)
        def thread(args): print("thread", args.exc_type.__name__)
        sys.excepthook, threading.excepthook = main, thread
        begin(uncaught=True)
        begin(uncaught=True)
        sys.excepthook(ValueError, ValueError("x"), None)
        other = threading.Thread(target=lambda: 1 / 0)
        other.start()
        other.join()
        assert shipper.stop(60).emitted == 2
        print(sys.excepthook is main, threading.excepthook is thread, sys.unraisablehook is sys.__unraisablehook__)
        print(logging.getLogger("asyncio").filters)
    """)

    assert done.stdout.splitlines() == ["main ValueError", "thread ZeroDivisionError", "True True True", "[]"]


def test_nothing_is_hooked_unless_it_is_asked_for(app: App) -> None:
    done = app.run("begin(); print(sys.excepthook is sys.__excepthook__); shipper.stop(60)")

    assert done.stdout == "True\n"
