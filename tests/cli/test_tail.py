"""`shipper tail`: new events and those in the journal, with and without a running application."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shipper.cli.tail.lines import printer
from shipper.cli.tail.selection import is_below
from shipper.event.model import Event
from shipper.event.truncate import pack
from shipper.journal.segments import segments
from shipper.spool.layout import Spool
from shipper.transport import frame

from ..support.apps import App
from ..support.journals import segment
from ..support.servers import Server
from ..support.waiting import PATIENCE, holds, wait_until
from .conftest import Run

NOW = time.time()


def event(message: str, *, age: float = 0.0, level: int = 20, logger: str = "app", **more: object) -> Event:
    name = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR"}[level]
    return Event(time=NOW - age, level=level, level_name=name, logger=logger, message=message, **more)  # type: ignore[arg-type]


@pytest.fixture
def recorded(spool: Path) -> Spool:
    """Make a spool whose journal has twelve events in two segments; it has no shipper process."""
    made = Spool(str(spool))
    made.prepare()
    events = [
        event("long ago", age=7200),
        *(event(f"number {n}", age=60 - n) for n in range(8)),
        event("slow", level=30, logger="django.db", extra={"seconds": 3}),
        event("broken", level=40, logger="django"),
        event("looked", level=10, logger="djangorama"),
    ]
    framed = [
        b"".join(frame.encode(pack(each), token=b"tokentok", seq=seq, pid=1, level=each.level))
        for seq, each in enumerate(events)
    ]
    segment(Path(made.journal), 1, b"".join(framed[:6]))
    segment(Path(made.journal), 2, b"".join(framed[6:]))
    return made


def messages(run: Run, spool: Spool, *options: str) -> list[str]:
    code, out, err = run("tail", "--spool", spool.path, "--json", *options)
    assert (code, err) == (0, "") or not out
    return [json.loads(line)["message"] for line in out.splitlines()]


NUMBERS = [f"number {n}" for n in range(8)]
LAST = ["slow", "broken", "looked"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ((), [*NUMBERS[1:], *LAST]),
        (("-n", "2"), LAST[1:]),
        (("-n", "12"), ["long ago", *NUMBERS, *LAST]),
        (("-n", "0"), []),
        (("--since", "10m"), [*NUMBERS, *LAST]),
        (("--since", "3h", "-n", "11"), [*NUMBERS, *LAST]),
        (("--since", "3h"), ["long ago", *NUMBERS, *LAST]),
        (("--level", "warning"), LAST[:2]),
        (("--level", "40"), ["broken"]),
        (("--logger", "django"), LAST[:2]),
        (("--logger", "root", "-n", "1"), ["looked"]),
        (("--grep", "number [67]"), NUMBERS[6:]),
        (("--grep", '"seconds": 3'), ["slow"]),
        (("--grep", "nowhere"), []),
    ],
)
def test_options_choose_events(run: Run, recorded: Spool, options: tuple[str, ...], shown: list[str]) -> None:
    assert messages(run, recorded, *options) == shown


def test_an_event_is_a_line_with_its_fields_and_a_traceback_below(run: Run, recorded: Spool) -> None:
    code, out, _ = run("tail", "--spool", recorded.path, "--level", "warning")

    assert code == 0
    assert [line[23:] for line in out.splitlines()] == [
        ' WARNING  django.db: slow {"seconds": 3}',
        " ERROR    django: broken",
    ]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--level", "loud"), 2, "--level"),
        (("--grep", "nothing such"), 1, "no event is chosen"),
        (("here", "--app", "there"), 2, "name the app once"),
    ],
)
def test_what_is_not_found_and_what_is_wrong_is_told(
    run: Run, recorded: Spool, options: tuple[str, ...], code: int, said: str
) -> None:
    at = () if "--app" in options else ("--spool", recorded.path)

    found, out, err = run("tail", *at, *options)

    assert (found, out) == (code, "")
    assert said in err


def test_without_an_app_and_without_events_a_sentence_says_so(run: Run, spool: Path, place: Path) -> None:
    assert run("tail", "nosuch")[0] == 1
    made = Spool(str(spool))
    made.prepare()

    assert run("tail", "--spool", made.path) == (1, "", "shipper: there is no event yet\n")


def test_nothing_in_an_event_moves_the_cursor_or_looks_like_another_event() -> None:
    evil = event("one\n2026-01-01 forged\x1b[2J\x9b\u202e", extra={"key": "\x1b]0;title\x07"})

    line = printer(wanted=False)(evil)

    assert not {"\x1b", "\x9b", "\u202e"} & set(line)
    assert "one\n    2026-01-01 forged\\x1b[2J" in line


def test_colours_tell_the_level_and_plain_text_has_none() -> None:
    assert "\x1b[31m ERROR   \x1b[0m" in printer(wanted=True)(event("x", level=40))
    assert "\x1b" not in printer(wanted=False)(event("x", level=40))


@pytest.mark.parametrize(("name", "logger"), [("a.b", "a"), ("a", "a"), ("a", "root")])
def test_a_logger_includes_those_below_it(name: str, logger: str) -> None:
    assert is_below(name, logger)
    assert not is_below(name, f"{logger}x")


class Follower:
    """A `shipper tail -f` process, the messages that it has printed, and its lines on stderr."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.messages: list[str] = []
        self.said: list[str] = []
        self._threads = [threading.Thread(target=each) for each in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.messages.append(json.loads(line)["message"])

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def wait_until_it_waits(self) -> None:
        """Return when the command has found no spool: it prints every event that is logged from now on."""
        wait_until(lambda: any("waiting for it" in line for line in self.said), 20)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join()
        return code


@contextmanager
def following(*arguments: str) -> Iterator[Follower]:
    command = [sys.executable, "-m", "shipper.cli", "tail", "-f", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        follower = Follower(process)
        try:
            yield follower
        finally:
            follower.stop()


def test_each_event_is_followed_once_across_segments_kept_ones_and_kills_of_the_shipper_process(
    spool: Path, tmp_path: Path
) -> None:
    """The follower begins before there is a spool, and no event is missing or doubled, whatever is killed."""
    with Server() as server, following("--spool", str(spool / "later")) as follower:
        follower.wait_until_it_waits()  # if the spool were there already, it would begin with the last ten events
        app = App(server, spool / "later", tmp_path)
        source = """
            begin(spooling=shipper.Spooling(segment=16384, quota=65536, keep="1 MiB"))
            for n in range(900):
                if n % 300 == 0:
                    sys.stdin.readline()
                log.warning("event %d %s", n, "." * 100)
                time.sleep(0.002)
            shipper.stop(60)
        """
        with app.running(sys.executable, str(app.write(source)), stdin=True) as process:
            assert process.stdin is not None
            killed = 0
            for logged_before in (0, 300, 600):
                process.stdin.write("\n")
                process.stdin.flush()
                wait_until(lambda n=logged_before: len(follower.messages) > n + 50, 20)  # type: ignore[misc]
                killed = app.wait_for_shipper(other_than=killed, timeout=20)
                os.kill(killed, signal.SIGKILL)
            assert process.wait(PATIENCE * 2) == 0
        logged = [f"event {n} {'.' * 100}" for n in range(900)]

        assert holds(lambda: len(follower.messages) >= len(logged), 20), sorted({*logged} - {*follower.messages})
        assert sorted(follower.messages) == sorted(logged)
        kept = Spool(app.environment["TEST_SPOOL"]).kept
        assert segments(kept), "the journal's delivered segments were not kept"
        app.wait_for_end(20)


def test_ctrl_c_ends_it_without_a_traceback(recorded: Spool) -> None:
    with following("--spool", recorded.path) as follower:
        wait_until(lambda: len(follower.messages) == 10, 20)

        assert follower.stop() == 130
