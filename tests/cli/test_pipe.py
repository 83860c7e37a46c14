"""`shipper pipe`: each line becomes one event, and the program that writes is never held up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper.cli.pipe.lines import LONGEST, Line, Lines, Reading, text_of
from shipper.cli.pipe.spill import SEGMENT, Spill, abandoned
from shipper.spool.layout import Spool
from shipper.spool.lock import running

from ..support.servers import Reply, Server
from ..support.waiting import PATIENCE, wait_until
from .test_send import environment

TEXT = Reading(20, "pipe", False)
JSON = Reading(20, "pipe", True)


@contextlib.contextmanager
def piping(server: Server, spool: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `shipper pipe` with a pipe as its stdin; kill it at the end of the block if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "shipper.cli", "pipe", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(server.url, spool, SHIPPER_GRACE="5"),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
    wait_until(lambda: running(Spool(str(spool))) is None, 15, "the shipper process's end")


def stdin_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def write(process: subprocess.Popen[bytes], text: bytes) -> None:
    stdin_of(process).write(text)
    stdin_of(process).flush()


def pipe(server: Server, spool: Path, text: bytes, *arguments: str) -> tuple[int, str]:
    """Run `shipper pipe` with ``text`` as its input; return its exit code and stderr."""
    with piping(server, spool, *arguments) as process:
        _, said = process.communicate(text, timeout=PATIENCE)
        return process.returncode, said.decode()


def messages(server: Server) -> list[str]:
    return [json.loads(body)["eventMessage"] for body in list(server.bodies)]


def child_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    (child,) = psutil.Process(process.pid).children()
    return child


# -- the command -----------------------------------------------------------------------------------------------------


def test_each_line_becomes_an_event_but_for_empty_ones(spool: Path) -> None:
    with Server() as server:
        said = pipe(server, spool, b"one\n\n  \ntwo \xff\r\nthe last", "--level", "error", "--logger", "make")

        events = [json.loads(body) for body in server.bodies]
    assert said == (0, "")
    assert sorted(event["eventMessage"] for event in events) == ["one", "the last", "two \\xff"]
    assert {(event["logLevel"], event["eventType"]) for event in events} == {("error", "make")}
    assert not (spool / "pipe").exists()


def test_json_lines_keep_their_fields_and_other_lines_are_text(spool: Path) -> None:
    line = b'{"msg": "paid", "level": "WARN", "time": "2024-01-01T00:00:00Z", "logger": "shop", "amount": 12.5}\n'
    with Server() as server:
        said = pipe(server, spool, line + b"{not json\n[1]\n", "--json")

        events = {event["eventMessage"]: event for event in map(json.loads, server.bodies)}
    assert said == (0, "")
    assert set(events) == {"paid", "{not json", "[1]"}
    assert (events["paid"]["logLevel"], events["paid"]["eventType"]) == ("warning", "shop")
    assert events["paid"]["eventTime"] == 1704067200000
    assert events["paid"]["customProperties"]["stringData"] == {"customData1": "amount=12.5"}


def test_a_line_is_shipped_while_the_program_goes_on(spool: Path) -> None:
    with Server() as server, piping(server, spool) as process:
        write(process, b"first\n")
        wait_until(lambda: messages(server) == ["first"], 10)
        write(process, b"second\n")
        wait_until(lambda: messages(server) == ["first", "second"], 10)

        stdin_of(process).close()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ships_what_was_written_before_it(number: signal.Signals, spool: Path) -> None:
    with Server() as server, piping(server, spool) as process:
        write(process, b"first\n")
        wait_until(lambda: messages(server) == ["first"], 10)
        write(process, b"second\nthird")

        process.send_signal(number)

        assert process.wait(PATIENCE) == 0
        server.wait_for(3)
        assert sorted(messages(server)) == ["first", "second", "third"]


def test_more_lines_than_the_queue_holds_all_arrive(spool: Path) -> None:
    lines = [f"line {number} {'x' * 200}" for number in range(2000)]
    with Server() as server:
        said = pipe(server, spool, "\n".join(lines).encode())

        server.wait_for(2000, 40)
        assert sorted(set(messages(server))) == sorted(lines)
    assert said == (0, "")


def test_when_the_shipping_process_is_killed_another_goes_on(spool: Path) -> None:
    with Server() as server, piping(server, spool) as process:
        write(process, b"first\n")
        wait_until(lambda: messages(server) == ["first"], 10)

        child_of(process).kill()
        write(process, b"second\n")

        wait_until(lambda: "second" in messages(server), 15)
        stdin_of(process).close()
        assert process.wait(PATIENCE) == 0


def test_when_the_reading_process_is_killed_what_it_had_read_is_shipped(spool: Path) -> None:
    with Server() as server, piping(server, spool) as process:
        write(process, b"first\n")
        wait_until(lambda: messages(server) == ["first"], 10)
        child = child_of(process)
        child.suspend()
        write(process, b"second\n")
        (folder,) = (spool / "pipe").iterdir()
        wait_until(lambda: (folder / "00000000").read_bytes() == b"first\nsecond\n")

        process.kill()
        child.resume()

        server.wait_for(2)
        assert messages(server) == ["first", "second"]
        wait_until(lambda: not child.is_running())
        assert not (spool / "pipe").exists()


def test_what_a_killed_pipe_had_read_is_shipped_by_the_next_one(spool: Path) -> None:
    with Server() as server:
        with piping(server, spool, "--level", "error") as process:
            write(process, b"first\n")
            wait_until(lambda: messages(server) == ["first"], 10)
            child = child_of(process)
            child.suspend()
            write(process, b"second\nthird")
            (folder,) = (spool / "pipe").iterdir()
            wait_until(lambda: (folder / "00000000").read_bytes() == b"first\nsecond\nthird")
            process.kill()
            child.kill()

        assert pipe(server, spool, b"fourth\n") == (0, "")

        server.wait_for(4)
        levels = {event["eventMessage"]: event["logLevel"] for event in map(json.loads, server.bodies)}
    assert levels == {"first": "error", "second": "error", "third": "error", "fourth": "info"}
    assert not (spool / "pipe").exists()


def test_a_program_is_not_held_up_while_nothing_is_shipped(spool: Path) -> None:
    """Far more than the pipe holds goes through while the shipping process stands still."""
    with Server() as server, piping(server, spool) as process:
        write(process, b"first\n")
        wait_until(lambda: messages(server) == ["first"], 10)
        child = child_of(process)
        child.suspend()

        write(process, (b"x" * 1023 + b"\n") * 40_000)  # returns when all has been read but what fits into the pipe

        (folder,) = (spool / "pipe").iterdir()
        wait_until(lambda: sum(each.stat().st_size for each in folder.glob("0???????")) == 6 + 40_000 * 1024, 20)
        assert len(list(folder.glob("*.times"))) == 3
        process.kill()
        child.kill()


def test_a_service_that_is_down_does_not_keep_it_from_ending(spool: Path) -> None:
    """Exit code 0 means that all lines are in the journal, not that they are delivered."""
    with Server(default=Reply(status=503)) as server:
        code, said = pipe(server, spool, b"one\n")

    assert code == 0
    assert "shipper: " not in said


def test_input_from_a_file_is_shipped_too(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one\ntwo\n")
    with Server() as server:
        with (tmp_path / "file").open("rb") as file:
            done = subprocess.run(
                [sys.executable, "-m", "shipper.cli", "pipe"],
                stdin=file,
                env=environment(server.url, spool, SHIPPER_GRACE="5"),
                timeout=PATIENCE,
            )
        server.wait_for(2)
        assert sorted(messages(server)) == ["one", "two"]
        wait_until(lambda: running(Spool(str(spool))) is None, 10)
    assert done.returncode == 0


def test_without_a_service_in_the_environment_it_says_what_to_set() -> None:
    done = subprocess.run([sys.executable, "-m", "shipper.cli", "pipe"], capture_output=True, text=True, input="x\n")

    assert done.returncode == 2
    assert "    export SHIPPER_TRAKERR_API_KEY=" in done.stderr


def test_it_needs_no_extra(spool: Path) -> None:
    extras = ["rich", "starlette", "uvicorn"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({extras!r})); "
        "from shipper.cli import main; sys.exit(main(['pipe']))"
    )
    with Server() as server:
        env = environment(server.url, spool)
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, input=b"one\n", env=env, capture_output=True, timeout=PATIENCE)
        wait_until(lambda: running(Spool(str(spool))) is None, 10)
    assert (done.returncode, done.stderr) == (0, b"")


# -- lines -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=20)), st.integers(0, 10**6))
def test_lines_do_not_depend_on_how_they_come_in(pieces: list[bytes], at: int) -> None:
    whole = b"".join(pieces)
    lines = Lines(at)

    found = [line for piece in pieces for line in lines.feed(piece)]
    last = lines.last()

    *expected, rest = whole.split(b"\n")
    assert [line.raw for line in found] == expected
    assert (b"" if last is None else last.raw) == rest
    assert (last or found[-1] if found or last else Line(b"", 0, at)).end == at + len(whole)


def test_a_long_line_is_cut_with_a_marker_that_says_how_much() -> None:
    lines = Lines(0)

    (line,) = [one for chunk in (b"x" * LONGEST, b"y" * 1000, b"z\n") for one in lines.feed(chunk)]

    assert text_of(line) == "x" * LONGEST + "[... 1001 bytes left out ...]"


def test_a_long_line_of_bytes_that_are_no_text_stays_bounded() -> None:
    text = text_of(Line(b"\xff" * LONGEST, 0, LONGEST))

    assert text == "\\xff" * (LONGEST // 4) + f"[... {LONGEST - LONGEST // 4} bytes left out ...]"


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"level": "Warning"}, 30),
        ({"severity": "ERR"}, 40),
        ({"levelname": "CRITICAL"}, 50),
        ({"level": 40}, 40),
        ({"level": "40"}, 40),
        ({"level": 3}, 40),
        ({"level": 30, "msg": "", "pid": 1, "hostname": "h"}, 20),
        ({"level": "who knows"}, 20),
        ({"level": True}, 20),
        ({}, 20),
    ],
)
def test_a_level_is_read_as_programs_write_it(fields: dict[str, Any], level: int) -> None:
    event = JSON.event(Line(json.dumps(fields).encode(), 0, 1), 0.0)

    assert event is not None
    assert event.level == level


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"time": 1704067200}, 1704067200.0),
        ({"ts": 1704067200.5}, 1704067200.5),
        ({"timestamp": 1704067200500}, 1704067200.5),
        ({"time": 1704067200500000000}, 1704067200.5),
        ({"@timestamp": "2024-01-01T00:00:00.500Z"}, 1704067200.5),
        ({"time": "2024-01-01 01:00:00,5+0100"}, 1704067200.5),
        ({"time": "noon"}, 7.0),
        ({"time": "2024-13-01T00:00:00Z"}, 7.0),
        ({"time": float("nan")}, 7.0),
    ],
)
def test_a_time_is_read_as_programs_write_it(fields: dict[str, Any], time: float) -> None:
    event = JSON.event(Line(json.dumps(fields).encode(), 0, 1), 7.0)

    assert event is not None
    assert event.time == time


def test_a_json_line_with_a_traceback_has_its_exceptions() -> None:
    trace = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\nValueError: bad'
    line = json.dumps({"message": "m", "exc_info": trace, "nested": {"a": [1]}}).encode()

    event = JSON.event(Line(line, 0, 1), 0.0)

    assert event is not None
    (found,) = event.exceptions
    assert (found.type, found.message, found.frames[0].line) == ("builtins.ValueError", "bad", 3)
    assert event.extra == {"nested": {"a": [1]}}


def test_json_is_text_unless_asked_for() -> None:
    event = TEXT.event(Line(b'{"message": "m"}', 0, 1), 0.0)

    assert event is not None
    assert (event.message, event.extra) == ('{"message": "m"}', {})


@given(st.binary(max_size=200))
def test_any_line_becomes_an_event_or_is_empty(raw: bytes) -> None:
    for reading in (TEXT, JSON):
        event = reading.event(Line(raw, 0, len(raw)), 0.0)
        assert (event is None) == (not raw.strip())


# -- the spill -------------------------------------------------------------------------------------------------------


def test_a_spill_gives_back_what_it_took_across_its_segments(spool: Path) -> None:
    spill = Spill.create(str(spool / "pipe"), {})
    taken = bytearray()
    given_back = bytearray()
    with (spool / "source").open("w+b") as source:
        source.write(os.urandom(SEGMENT + 100_000))
        source.seek(0)
        while spill.take(source.fileno()):
            pass
        source.seek(0)
        taken += source.read()

    while chunk := spill.next():
        given_back += chunk
        assert spill.arrival(len(given_back)) > 0
        spill.settle(len(given_back))

    assert given_back == taken
    assert spill.waiting == 0
    assert not list((spool / "pipe").glob("*/00000000*"))
    spill.remove()
    assert not (spool / "pipe").exists()


def test_a_spill_is_abandoned_only_when_its_owner_has_let_go(spool: Path) -> None:
    spill = Spill.create(str(spool / "pipe"), {"level": 20})
    assert list(abandoned(str(spool / "pipe"))) == []

    spill.close()

    (found,) = abandoned(str(spool / "pipe"))
    assert found.reading == {"level": 20}
    found.remove()


def test_tee_passes_the_input_on_unchanged_and_ends_with_it(spool: Path) -> None:
    text = b"one\n" + b"x" * 300_000 + b"\n\xff\r\n\x00three"
    with Server() as server:
        process = subprocess.run(
            [sys.executable, "-W", "error", "-m", "shipper.cli", "pipe", "--tee"],
            input=text,
            capture_output=True,
            env=environment(server.url, spool, SHIPPER_GRACE="5"),
            timeout=PATIENCE,
            check=False,
        )
        wait_until(lambda: running(Spool(str(spool))) is None, 15, "the shipper process's end")

    assert (process.returncode, process.stderr) == (0, b"")
    assert process.stdout == text
    assert len(server.requests) == 4


def test_tee_goes_on_shipping_when_nobody_reads_its_output(spool: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with Server() as server:
        process = subprocess.run(
            [sys.executable, "-W", "error", "-m", "shipper.cli", "pipe", "--tee"],
            input=b"one\ntwo\n",
            stdout=writing,
            stderr=subprocess.PIPE,
            env=environment(server.url, spool, SHIPPER_GRACE="5"),
            timeout=PATIENCE,
            check=False,
        )
        os.close(writing)
        wait_until(lambda: running(Spool(str(spool))) is None, 15, "the shipper process's end")

    assert (process.returncode, process.stderr) == (0, b"")
    assert len(server.requests) == 2
