"""The spool folder: closed to others or refused; its default path; its folder in memory."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from shipper.config.state_folder import default_folder
from shipper.errors import ConfigurationError
from shipper.spool.layout import Spool

from ..support.needs import need
from ..support.waiting import PATIENCE


def test_a_prepared_spool_is_closed_to_others(spool: Path) -> None:
    place = Spool(str(spool / "a" / "b"))
    place.prepare()
    place.prepare()

    for folder in (place.path, place.journal, place.cursors, place.dead, place.damaged):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_ISFIFO(os.stat(place.queue).st_mode)
    assert stat.S_IMODE(os.stat(place.queue).st_mode) == 0o600


def test_naming_a_spool_touches_nothing(spool: Path) -> None:
    place = Spool(str(spool / "x"))

    assert place.overflow
    assert not (spool / "x").exists()


def test_two_spools_have_two_overflows_and_one_has_one_by_every_path(spool: Path) -> None:
    (spool / "link").symlink_to(spool / "a")

    assert Spool(str(spool / "a")).overflow != Spool(str(spool / "b")).overflow
    assert Spool(str(spool / "a")).overflow == Spool(str(spool / "link")).overflow


def open_to_others(path: Path) -> None:
    path.chmod(0o755)


def linked(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


def a_file(path: Path) -> None:
    path.rmdir()
    path.touch()


@pytest.mark.parametrize("spoil", [open_to_others, linked, a_file])
@pytest.mark.parametrize("which", ["", "journal", "cursors", "dead", "damaged"])
def test_a_folder_that_is_not_ours_alone_is_refused(spool: Path, which: str, spoil: Callable[[Path], None]) -> None:
    place = Spool(str(spool / "s"))
    target = spool / "s" / which
    target.mkdir(mode=0o700, parents=True)
    (spool / "s").chmod(0o700)
    spoil(target)

    with pytest.raises(ConfigurationError, match="spool="):
        place.prepare()


def test_a_folder_of_another_user_is_refused(spool: Path) -> None:
    need(os.geteuid() == 0, "the right to give a folder away")
    (spool / "s").mkdir(mode=0o700)
    os.chown(spool / "s", 12345, 12345)

    with pytest.raises(ConfigurationError, match="12345"):
        Spool(str(spool / "s")).prepare()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "open to others"])
def test_a_queue_that_is_no_fifo_of_ours_is_refused(spool: Path, kind: str) -> None:
    place = Spool(str(spool))
    queue = spool / "queue"
    if kind == "file":
        queue.touch()
    elif kind == "folder":
        queue.mkdir()
    elif kind == "link":
        os.mkfifo(spool / "other")
        queue.symlink_to("other")
    else:
        os.mkfifo(queue)
        queue.chmod(0o666)

    with pytest.raises(ConfigurationError, match="a FIFO of this user"):
        place.prepare()


@pytest.mark.parametrize("path", ["/x" * 500, "/dev/null/x", "/proc/x"])
def test_a_path_where_nothing_can_be_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="spool="):
        Spool(path).prepare()


def test_the_default_place_is_the_users_state_folder(monkeypatch: pytest.MonkeyPatch, spool: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(spool))
    assert default_folder("app") == str(spool / "shipper" / "app")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(spool))
    assert default_folder("app") == str(spool / ".local" / "state" / "shipper" / "app")


def test_without_a_home_the_default_place_is_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")

    assert default_folder("app") == os.path.join(tempfile.gettempdir(), f"shipper-{os.geteuid()}", "app")


@pytest.mark.parametrize(
    "arrange",
    [
        "mount -t tmpfs -o ro tmpfs /dev/shm",
        "mount -t tmpfs tmpfs /dev/shm && mkdir -m 700 /dev/shm/shipper-0 && chown 12345 /dev/shm/shipper-0",
        "mount -t tmpfs tmpfs /dev/shm && mkdir -m 777 /dev/shm/shipper-0",
        "mount -t tmpfs tmpfs /dev/shm && ln -s /tmp /dev/shm/shipper-0",
    ],
    ids=["read-only", "another's", "open to others", "a link"],
)
def test_without_a_place_in_memory_overflows_are_in_the_spool(spool: Path, arrange: str) -> None:
    assert overflow_after(arrange, spool) == str(spool / "overflow")


def test_a_folder_in_memory_that_others_may_only_look_at_is_used(spool: Path) -> None:
    found = overflow_after("mount -t tmpfs tmpfs /dev/shm && mkdir -m 755 /dev/shm/shipper-0", spool)

    assert os.path.dirname(found) == "/dev/shm/shipper-0"


def overflow_after(arrange: str, spool: Path) -> str:
    """Return the folder for overflows of a process in a mount namespace of its own, in which ``arrange`` has run."""
    ask = f"from shipper.spool.layout import Spool; print(Spool({str(spool)!r}).overflow)"
    script = f'{arrange} && exec "$0" -c "$1"'
    command = ["unshare", "-m", "sh", "-c", script, sys.executable, ask]
    need(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare")
    allowed = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    need(allowed, "the right to make a mount namespace")

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)

    return done.stdout.strip()
