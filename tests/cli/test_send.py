"""`shipper send`: one event, delivered or else safe, and an exit code that says which."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shipper.spool.layout import Spool
from shipper.spool.lock import running

from ..support.servers import Reply, Server
from ..support.waiting import PATIENCE, wait_until


def environment(url: str, spool: Path, **more: str) -> Mapping[str, str]:
    ours = {"SHIPPER_TRAKERR_API_KEY": "k", "SHIPPER_TRAKERR_URL": url, "SHIPPER_TRAKERR_LEVEL": "0"}
    return {**os.environ, **ours, "SHIPPER_SPOOL": str(spool), "SHIPPER_GRACE": "0", **more}


def send(server: Server, spool: Path, *arguments: str, stdin: str = "", **more: str) -> tuple[int, str]:
    """Run `shipper send` and wait for the end of the shipper process; return the exit code and stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "shipper.cli", "send", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(server.url, spool, **more),
    )
    wait_until(lambda: running(Spool(str(spool))) is None, 10, "the shipper process's end")
    assert done.stdout == ""
    return done.returncode, done.stderr


def only(server: Server) -> dict[str, Any]:
    (body,) = server.bodies
    event: dict[str, Any] = json.loads(body)
    return event


def test_an_event_has_arrived_when_the_command_has_ended(spool: Path) -> None:
    with Server() as server:
        extras = ("--extra", "name=x=y", "--extra", "b=2")
        said = send(server, spool, "paid", "--level", "warn", "--logger", "shop", *extras)

        event = only(server)

    assert said == (0, "")
    assert (event["eventMessage"], event["logLevel"], event["eventType"]) == ("paid", "warning", "shop")
    assert event["customProperties"]["stringData"] == {"customData1": "b=2", "customData2": "name=x=y"}


@pytest.mark.parametrize("by_name", [True, False], ids=["file", "standard input"])
def test_a_traceback_is_sent_as_the_exceptions_it_shows(by_name: bool, spool: Path, tmp_path: Path) -> None:
    source = "try: {}['k']\nexcept KeyError as e: raise ValueError('bad') from e"
    text = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True).stderr
    (tmp_path / "trace").write_text(text)
    with Server() as server:
        source = str(tmp_path / "trace") if by_name else "-"
        said = send(server, spool, "it broke", "--exception-from", source, stdin=text)

        event = only(server)

    assert said == (0, "")
    assert event["logLevel"] == "error"
    assert [one["type"] for one in event["eventStacktrace"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert event["eventStacktrace"][0]["traceLines"][0]["line"] == 2


def test_any_other_text_is_sent_as_the_message_of_an_exception(spool: Path) -> None:
    with Server() as server:
        said = send(server, spool, "it broke", "--exception-from", "-", stdin="at Main.java:3\n")

        event = only(server)

    assert said == (0, "")
    assert event["eventStacktrace"][0]["message"] == "at Main.java:3"


def test_what_is_not_delivered_in_time_is_delivered_by_the_next_command(spool: Path) -> None:
    is_up = threading.Event()
    with Server(lambda request: None if is_up.is_set() else Reply(status=503)) as server:
        code, said = send(server, spool, "first", "--timeout", "0.3")
        assert code == 3
        assert "shipper: not delivered within 0.3 s; it is in the journal, and will be delivered later\n" in said
        is_up.set()
        before = len(server.requests)

        assert send(server, spool, "second") == (0, "")

        arrived = [json.loads(body)["eventMessage"] for body in server.bodies[before:]]
    assert sorted(set(arrived)) == ["first", "second"]


@pytest.mark.parametrize(("status", "words"), [(400, "trakerr refused it"), (401, "trakerr refuses the credentials")])
def test_an_event_that_a_service_refuses_is_exit_code_1(spool: Path, status: int, words: str) -> None:
    """The service has accepted no event at all, so this one is no dead letter: it waits in the journal."""
    with Server(default=Reply(status=status, body=b"no")) as server:
        code, said = send(server, spool, "--timeout", "3", "hello")

    assert code == 1
    assert words in said
    assert f"HTTP {status}" in said
    assert not (spool / "dead" / "trakerr.ndjson").exists()


def test_an_event_that_no_service_takes_is_not_tried(spool: Path) -> None:
    with Server() as server:
        code, said = send(server, spool, "hello", SHIPPER_TRAKERR_LEVEL="WARNING")

        assert server.requests == []
    assert code == 2
    assert "trakerr takes 30 and above" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--level", "loud"], "--level='loud': must be a logging level"),
        (["--exception-from", "/nowhere/at/all"], "/nowhere/at/all: No such file or directory"),
        (["--extra", "novalue"], "'novalue' is not KEY=VALUE"),
        (["--timeout", "-1"], "from 0 to 86400"),
    ],
)
def test_a_wrong_option_is_exit_code_2(arguments: list[str], says: str, spool: Path) -> None:
    with Server() as server:
        code, said = send(server, spool, "hello", *arguments)

    assert code == 2
    assert says in said


def test_without_a_service_in_the_environment_it_says_what_to_set() -> None:
    done = subprocess.run([sys.executable, "-m", "shipper.cli", "send", "hello"], capture_output=True, text=True)

    assert done.returncode == 2
    assert "    export SHIPPER_TRAKERR_API_KEY=" in done.stderr


def test_an_app_that_runs_with_other_settings_is_left_alone(spool: Path) -> None:
    source = (
        "import os, shipper, sys\n"
        "shipper.start(shipper.Trakerr('other', url=os.environ['SHIPPER_TRAKERR_URL']), app='shop')\n"
        "shipper.flush(60)\n"
        "print(flush=True); sys.stdin.read(); shipper.stop()\n"
    )
    with Server() as server:
        env = environment(server.url, spool)
        with subprocess.Popen(
            [sys.executable, "-c", source], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as app:
            assert app.stdout is not None
            app.stdout.readline()
            done = subprocess.run(
                [sys.executable, "-m", "shipper.cli", "send", "hello", "--app", "shop"],
                capture_output=True,
                text=True,
                env=env,
            )
            app.communicate("")

        assert server.requests == []
    assert done.returncode == 2
    assert "runs with other settings" in done.stderr
