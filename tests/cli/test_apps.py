"""`shipper apps`: which apps there are, and why two programs are one app or two."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from shipper.cli.apps.reason import UNKNOWN, reason_text, relations

from ..support.apps import App
from ..support.servers import Server
from ..support.status_files import STATUS, make_spool
from .conftest import Run

SCRIPT = {"rule": "script", "script": "/srv/nightly.py", "destinations": "1a2b3c4d"}


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        yield App(server, spool, tmp_path)


def listed(run: Run, *arguments: str) -> dict[str, dict[str, Any]]:
    """Return what `shipper apps --json` prints, by spool path; it may include apps of other tests."""
    _, out, _ = run("apps", "--json", *arguments)
    return {each["spool"]: each for each in json.loads(out)}


def test_an_app_says_where_its_name_is_from_and_where_it_sends_but_no_key(place: Path, app: App, run: Run) -> None:
    app.run("""
        begin(app=None, spool=None)
        log.error("one")
        shipper.stop(60)
        shipper.start(shipper.Trakerr("another-key", url=os.environ["TEST_URL"]))
        shipper.stop(60)
    """)

    _, out, _ = run("apps")
    found = [each for each in listed(run).values() if each["spool"].startswith(f"{place}/")]

    script = os.path.realpath(app.folder / "app.py")
    names = [each["app"] for each in found]
    assert len(found) == 2
    for each in found:
        digest = each["app"].rpartition("-")[2]
        assert each["name_from"] == {"rule": "script", "script": script, "destinations": digest}
        assert each["is_this_boot"]
        assert [to["url"] for to in each["destinations"]] == [f"{app.server.url}/events"]
    assert f"{names[0]} and {names[1]} are one program that sends to other URLs or with other keys" in out
    assert f"derived from the script {script}, and a hash of its URLs and keys" in out
    assert "another-key" not in out
    assert "the-secret-key" not in out


def test_an_app_elsewhere_is_found_by_its_processes_files_in_memory(place: Path, app: App, run: Run) -> None:
    source = app.write("""
        begin()
        log.error("one")
        shipper.flush(60)
        print("logged", flush=True)
        sys.stdin.read()
    """)

    with app.running(app.interpreter, str(source), stdin=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "logged\n"
        found = listed(run)[str(app.spool)]
        pid = app.wait_for_shipper()
        process.communicate()

    assert (found["app"], found["why"]) == ("test", "given: app= or SHIPPER_APP")
    assert found["processes"] == [process.pid]
    assert (found["running"], found["pid"]) == (True, pid)


def test_a_spool_of_an_earlier_version_and_the_lane_of_another_host_are_listed(
    place: Path, spool: Path, run: Run
) -> None:
    make_spool(spool, STATUS)
    lane = make_spool(spool / "hosts" / "vm-2", {**STATUS, "name_from": SCRIPT})
    (lane / "host").write_text(json.dumps({"boot": "another-boot", "mounts": 1, "device": 1, "inode": 1}))

    found = listed(run, "--spool", str(spool))

    assert found[str(spool)]["why"] == UNKNOWN
    assert (found[str(lane)]["host"], found[str(lane)]["is_this_boot"]) == ("vm-2", False)
    assert found[str(lane)]["name_from"] == SCRIPT


def test_a_folder_without_a_spool_is_exit_code_1_and_the_apps_are_listed_all_the_same(
    place: Path, spool: Path, run: Run
) -> None:
    make_spool(place / "checkout", STATUS)

    code, out, err = run("apps", "--spool", str(spool / "none"))

    assert code == 1
    assert f"there is no spool in {spool}/none" in err
    assert str(place / "checkout") in out


@pytest.mark.parametrize(
    ("name_from", "expected"),
    [
        (SCRIPT, "derived from the script /srv/nightly.py, and a hash of its URLs and keys (1a2b3c4d)"),
        (
            {"rule": "server", "server": "gunicorn", "folder": "/srv", "modules": "shop shop.wsgi"},
            "derived from the program gunicorn in the folder /srv, with the modules shop shop.wsgi, "
            "and its spool was given",
        ),
        ({"rule": "server", "server": "celery", "folder": "/srv", "modules": ""}, "the program celery in the folder"),
        ({"rule": "folder", "folder": "/srv"}, "derived from the folder /srv (there is no script: "),
        ({"rule": "of a later version"}, UNKNOWN),
    ],
)
def test_a_reason_is_a_sentence(name_from: Mapping[str, str], expected: str) -> None:
    assert expected in reason_text(name_from)


def test_programs_that_differ_in_more_than_their_destinations_are_not_related() -> None:
    """Such as a script under two names. The same name twice is an app with a lane for another host."""
    first, other = ("nightly-1-1a2b3c4d", SCRIPT), ("hourly-1-1a2b3c4d", SCRIPT)

    assert list(relations([first, other, first, ("nightly-1", {"rule": "given"})])) == []
