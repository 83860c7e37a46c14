"""The command `shipper`: usage, help, missing extras, and `receiver`."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import shipper
from shipper.cli import COMMANDS, main

from ..support.command import lines_of, running
from ..support.status_files import STATUS, make_spool
from ..support.waiting import PATIENCE
from .conftest import Run


@pytest.mark.parametrize(
    "arguments", [["dance"], ["status", "--app"], ["demo", "--records", "few"], ["demo", "--seconds", "0"]]
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert "usage: shipper" in capsys.readouterr().err


def test_without_a_command_there_is_the_help(run: Run) -> None:
    code, out, err = run()

    assert (code, err) == (0, "")
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_printed(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([option])

    assert (ended.value.code, capsys.readouterr().out) == (0, f"shipper {shipper.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["statsu"], "status"), (["status", "--jsno"], "--json"), (["dead", "reply"], "replay"), (["zzzzzz"], "")],
)
def test_a_misspelt_word_is_answered_with_the_nearest_one(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert (f"did you mean {meant}?" in err) if meant else ("did you mean" not in err)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert f"usage: shipper {command}" in capsys.readouterr().out


def without(modules: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command as if ``modules`` were not installed."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r})); "
        f"from shipper.cli import main; sys.exit(main({arguments!r}))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("missing", "command"), [("rich", "demo"), ("uvicorn", "receiver"), ("starlette", "demo")])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(missing: str, command: str) -> None:
    done = without([missing], [command])

    said = f"shipper: `shipper {command}` needs {missing}: pip install 'shipper-logs[all]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


@pytest.mark.parametrize("options", [[], ["--json"], ["--prometheus"]])
def test_status_needs_no_extra_and_nothing_of_the_shipper_process(place: Path, options: list[str]) -> None:
    make_spool(place / "checkout", STATUS)
    modules = ["psutil", "requests", "rich", "starlette", "tenacity", "uvicorn"]

    done = without(modules, ["status", *options])

    assert (done.returncode, done.stderr) == (0, "")
    assert "checkout" in done.stdout


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


def test_a_port_that_is_taken_is_exit_code_2_and_names_the_port(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        code, _, err = run("receiver", "--port", str(port))

    assert code == 2
    assert f"port={port}" in err


def test_the_page_is_open_to_others_with_the_token_of_the_printed_link(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-token-of-our-own\n")
    remote = ("--host", "0.0.0.0", "--allow-remote", "--token-file", str(tmp_path / "token"))
    with running("receiver", "--port", "0", *remote) as process:
        page = lines_of(process).readline().split()[-1]
        process.send_signal(signal.SIGTERM)
        said = lines_of(process).read()

    assert re.fullmatch(r"http://localhost:\d+/\?token=a-token-of-our-own", page)
    assert f"SHIPPER_JKOOL_URL={page.partition('/?')[0]}\n" in said


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--max-size", "lots"), "max_size='lots'"),
        (("--allow-remote", "--token-file", "/nowhere/token"), "token_file='/nowhere/token'"),
        (("--allow-remote", "--token-file", "/dev/null"), "token='…'"),
    ],
)
def test_a_wrong_option_of_the_receiver_is_exit_code_2(run: Run, options: tuple[str, ...], reason: str) -> None:
    code, _, err = run("receiver", "--port", "0", *options)

    assert code == 2
    assert reason in err


def test_a_host_that_others_can_reach_is_refused(run: Run) -> None:
    code, _, err = run("receiver", "--host", "0.0.0.0")

    assert code == 2
    assert "host='0.0.0.0'" in err
