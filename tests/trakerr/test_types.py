"""A type checker finds no error and no Any in correct uses of the client, and finds wrong arguments."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from ..support.needs import need

USE = """\
import logging
import sys

import shipper.trakerr
from shipper.trakerr import ApiException, Trakerr, TrakerrClient, TrakerrHandler
from shipper.trakerr.models import (
    AppEvent,
    CustomData,
    CustomDoubleData,
    CustomStringData,
    InnerStackTrace,
    StackTraceLine,
    StackTraceLines,
    Stacktrace,
)


def answered(answer: tuple[None, int, dict[str, str]]) -> None:
    print(answer[1])


def main() -> int:
    client = TrakerrClient("k", "1.0", "production", "sku", ["a"], 4, 4, url="http://localhost", timeout=(1, 2.5))
    logger: logging.Logger = Trakerr.get_logger("k", "1.0", "name", "production", url=None)
    logger.addHandler(TrakerrHandler("k", "1.0", "production", level="INFO"))
    logger.addHandler(TrakerrHandler(client=client, level=logging.DEBUG))
    client.log({"user": "jill", "session": "25"}, "info", "logon script", False)
    arguments = {"eventtype": "a", "time": "12"}
    client.log(arguments)
    try:
        raise IndexError("x")
    except IndexError as error:
        client.log({}, exc_info=error)
        client.log({}, exc_info=sys.exc_info())
        client.log({}, exc_info=(type(error), error, None))
        event = client.create_new_app_event("FATAL", exc_info=True)
    event.log_level = "warn"
    event.context_app_browser = "Chrome"
    event.custom_properties = CustomData("Custom Data holder!")
    event.custom_properties.string_data = CustomStringData("one", "two")
    event.custom_properties.string_data.custom_data3 = "three"
    event.custom_properties.double_data = CustomDoubleData(1.5, 2)
    event.custom_segments = {"any": ["thing"]}
    event.context_operation_time_millis = 1000
    event.context_tags = ["client, frontend"]
    line = StackTraceLine("f", 1, "a.py")
    event.event_stacktrace = Stacktrace([InnerStackTrace("t", "m", StackTraceLines([line]))])
    client.send_event_async(event)
    client.send_event_async(event, answered)
    client.context_app_os = None
    client.context_tags.append("b")
    client.context_tags = ("a", "b")
    del client.context_env_version
    client.api_key = "other"
    with shipper.trakerr.context(user="u", session="s", url="/", correlation_id="c"):
        filled: AppEvent = client.fill_defaults(AppEvent())
    try:
        client.send_event(filled)
    except ApiException as error:
        reveal_type(error.status)
        reveal_type(error.headers)
    reveal_type(client.send_event(event))
    reveal_type(client.api_key)
    reveal_type(client.context_app_os)
    reveal_type(client.context_appos)
    reveal_type(client.context_tags)
    reveal_type(event.log_level)
    reveal_type(event.event_time)
    reveal_type(event.event_stacktrace)
    reveal_type(event.custom_properties.string_data)
    reveal_type(event.to_dict())
    reveal_type(TrakerrHandler("k").trakerr_client)
    reveal_type(TrakerrClient.shutdown())
    return 0
"""


def checked(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    need(find_spec("mypy"), "mypy")
    file = folder / "use.py"
    file.write_text(text)
    strict = ["--strict", "--disallow-any-expr", "--python-version", "3.10", "--config-file=", "--cache-dir"]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *strict, str(folder / "cache"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,  # from a checkout, mypy would report on shipper's own files too
    )


def said_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines about the user's file."""
    return [line for line in done.stdout.splitlines() if line.startswith("use.py:")]


def test_a_program_that_uses_every_name_is_sound_and_sees_no_any(tmp_path: Path) -> None:
    done = checked(tmp_path, USE)

    ours = said_of(done)
    assert [line for line in ours if "error:" in line] == []
    assert len([line for line in ours if "Revealed type" in line]) == 14
    assert [line for line in ours if "Any" in line] == []


def test_a_wrong_argument_is_found(tmp_path: Path) -> None:
    wrong = "from shipper.trakerr import TrakerrClient\n\nTrakerrClient(5)\nTrakerrClient('k').send_event({})\n"

    done = checked(tmp_path, wrong)

    assert sum("[arg-type]" in line for line in said_of(done)) == 2
