"""The command `shipper`: its exit codes, what `status` says to people and programs, and `receiver`."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.cli import COMMANDS, main
from shipper.cli.status.command import as_object
from shipper.cli.status.view import duration, sentences, size
from shipper.report import read_status
from shipper.spool.layout import Spool

from ..support.command import lines_of, running
from ..support.waiting import PATIENCE, wait_until

SAID: dict[str, Any] = {
    "app": "checkout",
    "pid": 4711,
    "started": 1000.0,
    "updated": 2000.0,
    "ledger": {"journaled": 1500, "levels": {"INFO": 1500}},
    "backends": {
        "jkool": {"state": "idle", "counts": {"delivered": 1500}},
        "trakerr": {"state": "idle", "counts": {"delivered": 300, "filtered": 1200}, "retried": 4},
    },
}
"""A status file of an app that is well."""


def make_spool(folder: Path, said: dict[str, Any] | None = None) -> Path:
    """What `status` looks at, and nothing else of a spool."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.mkfifo(folder / "queue", 0o600)
    if said is not None:
        (folder / "status.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The default place of spools, with none in it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path))
        yield tmp_path / "shipper"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# -- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["status", "--app"], ["demo", "--records", "few"], ["demo", "--seconds", "0"]]
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: shipper" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert f"usage: shipper {command}" in capsys.readouterr().out


def without(modules: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """The command where these modules are not installed."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r})); "
        f"from shipper.cli import main; sys.exit(main({arguments!r}))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("missing", "command"), [("rich", "status"), ("uvicorn", "receiver"), ("starlette", "demo")])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(missing: str, command: str, place: Path) -> None:
    make_spool(place / "checkout")
    done = without([missing], [command])

    said = f"shipper: `shipper {command}` needs {missing}: pip install 'shipper-logs[all]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_json_does_without_rich_and_the_receiver(place: Path) -> None:
    make_spool(place / "checkout", SAID)
    strangers = ["requests", "rich", "starlette", "tenacity", "uvicorn"]

    done = without(strangers, ["status", "--json"])

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["app"] == "checkout"


# -- status: which app ---------------------------------------------------------------------------------------------


def test_the_only_app_needs_no_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(place / "checkout", SAID)

    code, out, _ = told(capsys, "status")

    assert code == 0
    assert out.startswith("checkout · not running\n")


def test_several_apps_are_listed_in_a_line_each(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(place / "checkout", SAID)
    make_spool(place / "billing")

    code, out, _ = told(capsys, "status")

    lines = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["billing", "not", "running", "0", "0", "0", "0"] in lines
    assert ["checkout", "not", "running", "1,500", "0", "0", "0"] in lines
    assert "--app NAME" in out


def test_an_app_that_is_not_there_is_exit_code_1_and_says_which_are(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_spool(place / "checkout")
    make_spool(place / "billing")

    code, out, err = told(capsys, "status", "--app", "../checkout")

    assert (code, out) == (1, "")
    assert f"no spool of an app '../checkout' in {place}; there are: billing, checkout" in err


def test_no_app_at_all_is_exit_code_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "status")

    assert (code, out) == (1, "")
    assert f"no app has a spool in {place}" in err


def test_a_spool_elsewhere_is_found_by_its_folder(spool: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(spool, SAID)

    code, out, _ = told(capsys, "status", "--spool", str(spool))

    assert code == 0
    assert out.startswith("checkout · not running\n")


def test_a_folder_that_is_no_spool_is_exit_code_1(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "status", "--spool", str(spool))

    assert code == 1
    assert f"there is no spool in {spool}" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_spool_of_another_user_is_not_reported_as_empty(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(spool, SAID)
    os.chown(spool, 12345, -1)

    code, out, err = told(capsys, "status", "--spool", str(spool))

    assert (code, out) == (1, "")
    assert "belongs to the user with uid 12345" in err


def test_the_environment_names_app_and_spool_when_the_command_line_does_not(
    spool: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_spool(place / "billing", {**SAID, "app": "billing"})
    make_spool(spool, SAID)

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHIPPER_SPOOL", str(spool))
        _, by_environment, _ = told(capsys, "status")
        _, by_argument, _ = told(capsys, "status", "--app", "billing")

    assert by_environment.startswith("checkout ")
    assert by_argument.startswith("billing ")


# -- status: what it says ------------------------------------------------------------------------------------------


def test_an_app_that_is_well_lost_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(place / "checkout", SAID)

    _, out, _ = told(capsys, "status")

    lines = [line.split() for line in out.splitlines()]
    assert ["trakerr", "stopped", "300", "0", "-", "4", "0", "1,200"] in lines
    assert ["jkool", "stopped", "1,500", "0", "-", "0", "0", "0"] in lines
    assert out.splitlines()[-1] == "Nothing is lost."


def said_of(spool: Path, **changed: Any) -> list[str]:
    make_spool(spool, {**SAID, **changed})
    return list(sentences(read_status(Spool(str(spool)), "checkout")))


@pytest.mark.parametrize("text", ["", "noise", "{}", "null"])
def test_where_nothing_is_known_nothing_is_promised(spool: Path, text: str) -> None:
    make_spool(spool, {})
    (spool / "status.json").write_text(text)

    said = list(sentences(read_status(Spool(str(spool)), "checkout")))

    assert said == [f"It is not known how it does: {spool}/status.json is missing or damaged."]


def test_drops_are_reported_with_reason_and_level(spool: Path) -> None:
    said = said_of(spool, dropped={"queue_full": {"DEBUG": 3}, "redact": {"ERROR": 1}})

    assert said == ["4 events were dropped: queue_full (DEBUG 3), redact (ERROR 1)."]


def test_dead_letters_are_reported_with_the_file_that_holds_them(spool: Path) -> None:
    said = said_of(spool, backends={"trakerr": {"state": "idle", "counts": {"delivered": 1499, "dead": 1}}})

    assert said == [f"1 event was refused by trakerr, kept in {spool}/dead/trakerr.ndjson."]


def test_events_given_up_by_the_quota_are_reported_per_backend(spool: Path) -> None:
    backend = {"state": "idle", "counts": {"delivered": 1400, "dropped": 100}, "dropped": {"quota": {"INFO": 100}}}

    assert said_of(spool, backends={"jkool": backend}) == ["100 events were given up for jkool: quota (INFO 100)."]


def test_what_is_left_is_reported_and_is_not_lost(spool: Path) -> None:
    said = said_of(spool, backends={"jkool": {"state": "retrying", "counts": {"delivered": 1498}, "oldest": 1.0}})

    assert said == ["Nothing is lost.", "2 events wait for jkool, until the app is started again."]


def test_a_last_error_is_printed_whole(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = "HTTP 503 from http://127.0.0.1:8787/a/very/long/path/that/no/column/would/hold/api/v1/events"
    make_spool(place / "checkout", {**SAID, "backends": {"jkool": {"last_error": error}}})

    _, out, _ = told(capsys, "status")

    assert f"Last error of jkool: {error}" in " ".join(out.split())


def test_json_has_every_field_of_the_status(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(place / "checkout", SAID)

    code, out, _ = told(capsys, "status", "--json")

    said = json.loads(out)
    assert code == 0
    assert said == json.loads(json.dumps(as_object(read_status(Spool(str(place / "checkout")), "checkout"))))
    assert list(said) == [
        "app", "spool", "running", "pid", "started", "updated", "journaled", "doubles", "dropped", "missing", "corrupt",
        "levels", "journal_bytes", "segments", "trouble", "backends", "ended", "in_memory", "dropped_at",
        "crashes", "crash_reason", "left", "total_dropped",
    ]  # fmt: skip
    assert list(said["backends"][0]) == [
        "name", "state", "delivered", "filtered", "dead", "dropped", "left", "retried", "in_flight", "lag",
        "last_error", "last_error_at", "since", "next_try", "url", "level", "dropped_at", "dead_letters", "requests",
        "request_seconds",
    ]  # fmt: skip


def test_json_of_several_apps_is_a_list(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_spool(place / "checkout", SAID)
    make_spool(place / "billing")

    _, out, _ = told(capsys, "status", "--json")

    assert [each["app"] for each in json.loads(out)] == ["billing", "checkout"]


@pytest.mark.parametrize("as_json", [True, False])
def test_watch_repeats_until_interrupted(as_json: bool, place: Path) -> None:
    make_spool(place / "checkout", SAID)
    begins = '{"app": "checkout"' if as_json else "checkout ·"

    with running("status", "--watch", *(["--json"] if as_json else [])) as process:
        said = (line for line in lines_of(process) if line.startswith(begins))
        assert next(said)
        assert next(said)
        process.send_signal(signal.SIGINT)

    assert process.returncode == 0


def test_watch_in_a_terminal_refreshes_in_place_until_interrupted(place: Path) -> None:
    folder = make_spool(place / "checkout", SAID)
    screen, terminal = pty.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(screen, shown))
    reader.start()

    with running("status", "--watch", stdout=terminal) as process:
        os.close(terminal)
        wait_until(lambda: b"Nothing is lost." in shown, 10)
        (folder / "status.json").write_text(json.dumps({**SAID, "dropped": {"queue_full": {"DEBUG": 3}}}))
        wait_until(lambda: b"3 events were dropped" in shown, 10)
        process.send_signal(signal.SIGINT)

    reader.join()
    os.close(screen)
    assert process.returncode == 0


def _read_all(descriptor: int, into: bytearray) -> None:
    """Until nobody holds the terminal any more."""
    while True:
        try:
            into += os.read(descriptor, 4096)
        except OSError:
            return


def test_a_closed_stdout_is_not_an_error(place: Path) -> None:
    for number in range(500):
        make_spool(place / f"app-{number}", SAID)

    with running("status", "--json") as process:
        lines_of(process).readline()
        lines_of(process).close()

    assert process.returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1.0, "0.0 s"), (0.44, "0.4 s"), (12.3, "12 s"), (180, "3 min"), (18_360, "5.1 h"), (200_000, "2.3 d")],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(17, "17 B"), (1229, "1.2 KiB"), (16 * 1024 * 1024, "16.0 MiB")])
def test_a_size_is_short(count: int, text: str) -> None:
    assert size(count) == text


# -- receiver ------------------------------------------------------------------------------------------------------


def test_the_receiver_prints_its_page_and_the_settings_for_an_app() -> None:
    with running("receiver", "--port", "0") as process:
        page = lines_of(process).readline().split()[-1]
        with urllib.request.urlopen(page, timeout=PATIENCE) as answer:
            assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        said = lines_of(process).read()

    assert process.returncode == 0
    assert f"SHIPPER_TRAKERR_URL={page}/api/v1\n" in said
    assert f"SHIPPER_JKOOL_URL={page}\n" in said


def test_the_receiver_keeps_what_arrives_in_the_database(tmp_path: Path) -> None:
    with running("receiver", "--port", "0", "--database", str(tmp_path / "kept.db")) as process:
        lines_of(process).readline()
        process.send_signal(signal.SIGINT)

    assert process.returncode == 0
    assert (tmp_path / "kept.db").stat().st_size > 0


def test_a_port_that_is_taken_is_exit_code_2_and_names_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, _, err = told(capsys, "receiver", "--port", str(port))

    assert code == 2
    assert f"port={port}" in err


def test_a_host_that_others_can_reach_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, "receiver", "--host", "0.0.0.0")

    assert code == 2
    assert "host='0.0.0.0'" in err
