"""`shipper status`: which apps it shows, and in which formats. What it says of real trouble: `test_situations.py`."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from shipper.cli import terminal
from shipper.cli.status.as_json import as_object
from shipper.cli.status.find import NoSuchApp, as_user, find
from shipper.cli.status.view import text
from shipper.report import Status, read_status
from shipper.spool.layout import Spool

from ..support.command import lines_of, running
from ..support.needs import need
from ..support.status_files import STATUS, make_spool
from ..support.waiting import wait_until
from .conftest import Run

PACKAGE = Path(__file__).resolve().parent.parent.parent / "shipper"
DOCUMENT = PACKAGE / "cli" / "README.md"

# -- which app -------------------------------------------------------------------------------------------------------


def test_the_only_app_needs_no_name(place: Path, run: Run) -> None:
    make_spool(place / "checkout", STATUS)

    code, out, _ = run("status")

    assert code == 0
    assert out.startswith("checkout: not running - ")


def test_several_apps_have_a_line_each_and_a_row_each(place: Path, run: Run) -> None:
    make_spool(place / "checkout", STATUS)
    make_spool(place / "billing")

    code, out, _ = run("status")

    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert [line.partition(" - ")[0] for line in out.splitlines()[:2]] == [
        "billing: not running",
        "checkout: not running",
    ]
    assert ["billing", "not", "running", "0", "0", "0", "0"] in rows
    assert ["checkout", "not", "running", "1,500", "0", "0", "0"] in rows
    assert "--app NAME" in out


def test_an_app_that_does_not_exist_is_exit_code_1_and_the_others_are_named(place: Path, run: Run) -> None:
    make_spool(place / "checkout")
    make_spool(place / "billing")

    code, out, err = run("status", "--app", "../checkout")

    assert (code, out) == (1, "")
    assert f"no spool of an app '../checkout' in {place}" in err
    assert "there are: billing, checkout" in err


def test_no_app_at_all_is_exit_code_1_and_3_for_a_probe(place: Path, run: Run) -> None:
    code, out, err = run("status")

    assert (code, out) == (1, "")
    assert f"no app has a spool in {place}" in err
    assert run("status", "--check")[0] == 3


def test_a_spool_elsewhere_is_found_by_its_folder(spool: Path, place: Path, run: Run) -> None:
    make_spool(spool, STATUS)

    code, out, _ = run("status", "--spool", str(spool))

    assert code == 0
    assert out.startswith("checkout: not running - ")


def test_a_folder_without_a_spool_is_exit_code_1(spool: Path, run: Run) -> None:
    code, _, err = run("status", "--spool", str(spool))

    assert code == 1
    assert f"there is no spool in {spool}" in err


def test_the_environment_names_app_and_spool_when_the_command_line_does_not(
    spool: Path, place: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_spool(place / "billing", {**STATUS, "app": "billing"})
    make_spool(spool, STATUS)
    monkeypatch.setenv("SHIPPER_SPOOL", str(spool))

    _, by_environment, _ = run("status")
    _, by_argument, _ = run("status", "--app", "billing")

    assert by_environment.startswith("checkout: ")
    assert by_argument.startswith("billing: ")


def give_to(uid: int, folder: Path) -> None:
    """Make a user the owner of a folder, and open the folders above it."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid, follow_symlinks=False)
    for parent in folder.parents:
        os.chmod(parent, parent.stat().st_mode | 0o055)



def test_root_needs_no_interpreter_that_the_other_user_can_read(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "the rights of root")
    shutil.copytree(PACKAGE, tmp_path / "shipper", ignore=shutil.ignore_patterns("__pycache__"))
    code = """
        import importlib
        from shipper.cli.status.find import as_user
        print(as_user(23456, lambda: importlib.import_module("shipper.delivery.dead.store").__file__))
        print(as_user(23456, lambda: "x".encode("ascii")))
    """
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", textwrap.dedent(code)]

    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{tmp_path}/shipper/delivery/dead/store.py", "b'x'"]


def test_root_reads_the_spool_of_another_user(spool: Path, run: Run) -> None:
    need(os.geteuid() == 0, "the rights of root")
    give_to(12345, make_spool(spool, STATUS))

    code, out, err = run("status", "--spool", str(spool), "--json")

    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert (found["app"], found["user"], found["journaled"]) == ("checkout", "uid 12345", 1500)


def test_a_spool_that_its_owner_cannot_reach_is_not_reported_as_empty(spool: Path, run: Run) -> None:
    need(os.geteuid() == 0, "the rights of root")
    closed = spool / "closed"
    closed.mkdir(mode=0o700)
    os.chown(make_spool(closed / "spool", STATUS), 12345, 12345)

    code, out, err = run("status", "--spool", str(closed / "spool"))

    assert (code, out) == (1, "")
    assert "who cannot read it" in err


def test_another_users_spool_is_named_with_the_command_that_reads_it(spool: Path, tmp_path: Path) -> None:
    need(os.geteuid() == 0, "the rights of root, to become two users")
    give_to(12345, make_spool(spool, STATUS))

    def look() -> str:
        try:
            find(None, str(spool))
        except NoSuchApp as error:
            return str(error)
        return ""

    said = as_user(23456, look)

    assert f"{spool} belongs to the user uid 12345: run the command as that user (`sudo -u '#12345' shipper …`)" in said


# -- as text ---------------------------------------------------------------------------------------------------------


def test_the_numbers_of_each_backend_are_in_its_row(place: Path, run: Run) -> None:
    make_spool(place / "checkout", STATUS)

    _, out, _ = run("status")

    rows = [line.split() for line in out.splitlines()]
    assert ["trakerr", "stopped", "300", "0", "-", "4", "0", "1,200"] in rows
    assert ["jkool", "stopped", "1,500", "0", "-", "0", "0", "0"] in rows


def test_a_last_error_is_printed_whole_with_its_time(place: Path, run: Run) -> None:
    error = "HTTP 503 from http://127.0.0.1:8787/a/very/long/path/that/no/column/would/hold/api/v1/events"
    make_spool(place / "checkout", {**STATUS, "backends": {"jkool": {"last_error": error, "last_error_at": 1000.0}}})

    _, out, _ = run("status")

    assert re.search(rf"^jkool: last error, 1970-01-01 .* ago\): {re.escape(error)}$", out, re.MULTILINE)


def test_nothing_is_coloured_or_cleared_outside_a_terminal(place: Path, run: Run) -> None:
    make_spool(place / "checkout", STATUS)

    assert "\x1b" not in run("status")[1]


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    place: Path, environment: dict[str, str], coloured: bool
) -> None:
    make_spool(place / "checkout", STATUS)
    shown = in_a_terminal("status", environment=environment)

    assert ("\x1b[33mnot running" in shown) is coloured


def in_a_terminal(*arguments: str, environment: dict[str, str]) -> str:
    screen, end = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(screen, shown))
    reader.start()
    others = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    with running(*arguments, stdout=end, env={**others, "TERM": "xterm", **environment}):
        os.close(end)
    reader.join()
    os.close(screen)
    return shown.decode()


def test_watch_in_a_terminal_refreshes_in_place_until_interrupted(place: Path) -> None:
    folder = make_spool(place / "checkout", STATUS)
    screen, end = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(screen, shown))
    reader.start()

    with running("status", "--watch", stdout=end) as process:
        os.close(end)
        wait_until(lambda: b"was delivered" in shown, 20)
        (folder / "status.json").write_text(json.dumps({**STATUS, "dropped": {"queue_full": {"DEBUG": 3}}}))
        wait_until(lambda: b"3 events were dropped" in shown, 20)
        process.send_signal(signal.SIGINT)

    reader.join()
    os.close(screen)
    assert process.returncode == 0
    assert shown.count(b"\x1b[2J") >= 2


def _read_all(descriptor: int, into: bytearray) -> None:
    """Read until no process has the terminal open."""
    while True:
        try:
            into += os.read(descriptor, 4096)
        except OSError:
            return


@pytest.mark.parametrize(
    ("option", "begin"),
    [([], "checkout: "), (["--json"], r'\[\{"app": '), (["--check"], "checkout: "), (["--prometheus"], "shipper_up")],
)
def test_watch_repeats_until_interrupted(option: list[str], begin: str, place: Path) -> None:
    make_spool(place / "checkout", STATUS)

    with running("status", "--watch", *option) as process:
        lines = (line for line in lines_of(process) if re.match(begin, line))
        assert next(lines)
        assert next(lines)
        process.send_signal(signal.SIGINT)

    assert process.returncode == 0


def test_a_closed_stdout_is_not_an_error(place: Path) -> None:
    for number in range(500):
        make_spool(place / f"app-{number}", STATUS)

    with running("status", "--json") as process:
        lines_of(process).readline()
        lines_of(process).close()

    assert process.returncode == 0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-1.0, "0.0 s"), (0.44, "0.4 s"), (12.3, "12 s"), (180, "3 min"), (18_360, "5.1 h"), (200_000, "2.3 d")],
)
def test_a_duration_is_short(seconds: float, expected: str) -> None:
    assert terminal.duration(seconds) == expected


@pytest.mark.parametrize(("number", "expected"), [(17, "17 B"), (1229, "1.2 KiB"), (16 * 1024 * 1024, "16.0 MiB")])
def test_a_size_is_short(number: int, expected: str) -> None:
    assert terminal.size(number) == expected


@pytest.mark.parametrize(("number", "expected"), [(1, "1 event was"), (1200, "1,200 events were")])
def test_one_and_many_have_their_grammar(number: int, expected: str) -> None:
    assert terminal.were(number, "event") == expected


# -- as JSON ---------------------------------------------------------------------------------------------------------


def status_of(folder: Path, **changed: Any) -> Status:
    make_spool(folder, {**STATUS, **changed})
    return read_status(Spool(str(folder)), "checkout")


def documented(heading: str) -> list[str]:
    """Return the names in the first column of the table below a heading of `cli/README.md`."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(f"### {heading}\n")[2].partition("\n#")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize("apps", [["checkout"], ["billing", "checkout"]])
def test_json_is_a_list_also_of_one_app(place: Path, run: Run, apps: list[str]) -> None:
    for app in apps:
        make_spool(place / app, {**STATUS, "app": app})

    code, out, _ = run("status", "--json")

    assert code == 0
    assert [each["app"] for each in json.loads(out)] == apps


def test_every_field_of_the_json_is_documented(spool: Path) -> None:
    found = as_object(status_of(spool))

    assert sorted(found) == sorted(documented("An app"))
    assert sorted(found["backends"][0]) == sorted(documented("A backend"))
    assert sorted(found["findings"][0]) == sorted(documented("A finding"))


def test_json_says_what_is_wrong_as_the_text_does(spool: Path) -> None:
    status = status_of(spool)

    (finding,) = as_object(status)["findings"]

    assert finding["severity"] == as_object(status)["health"] == 3
    assert finding["what"] in text([status])


# -- for a probe -----------------------------------------------------------------------------------------------------


def test_check_prints_one_line_for_each_app_and_the_worst_counts(place: Path, run: Run) -> None:
    make_spool(place / "billing", {**STATUS, "app": "billing"})
    make_spool(place / "checkout", {**STATUS, "backends": {"trakerr": {"state": "unauthorised"}}})

    code, out, _ = run("status", "--check")

    assert code == 2
    assert [line.partition(" - ")[0] for line in out.splitlines()] == ["billing: not running", "checkout: failing"]
