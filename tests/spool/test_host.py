"""One host uses a spool; others that see the same folder get a lane in it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.config import state_folder
from shipper.config.mounts import file_system_of
from shipper.config.state_folder import default_folder, host_name
from shipper.errors import ConfigurationError
from shipper.spool import host, kernel
from shipper.spool.files import open_file, write_atomically
from shipper.spool.host import Host, keep, lane_of_this_host, take
from shipper.spool.layout import Spool
from shipper.spool.lock import LockInfo, read_pid


@pytest.fixture
def place(spool: Path) -> Spool:
    made = Spool(str(spool))
    made.prepare()
    return made


def use(place: Spool, **changes: object) -> None:
    """Write the file of the host that uses the spool: this host, with ``changes``."""
    write_atomically(place.host, {**Host.of(place)._asdict(), **changes})


def write_status(place: Spool, number: int = 0, *, ended: bool = False) -> None:
    write_atomically(place.status, {"number": number, "ended": ended})


@pytest.fixture
def locked(place: Spool) -> Iterator[None]:
    lock = open_file(place.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


@pytest.fixture
def alive(place: Spool) -> Iterator[None]:
    """Write the status every 0.2 s, as a running process does."""
    stopping = threading.Event()
    write_status(place)

    def work() -> None:
        number = 0
        while not stopping.wait(0.2):
            number += 1
            write_status(place, number)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    stopping.set()
    thread.join()


def lane(place: Spool) -> str:
    return os.path.join(place.hosts, host_name())


def test_a_spool_that_no_host_uses_is_taken(place: Spool) -> None:
    assert lane_of_this_host(place).path == place.path
    assert Host.read(place) == Host.of(place)
    assert lane_of_this_host(place).path == place.path
    assert not os.path.exists(place.hosts)


@pytest.mark.usefixtures("locked")
def test_a_spool_whose_lock_another_host_holds_is_not_taken(place: Spool) -> None:
    use(place, boot="another")

    assert lane_of_this_host(place).path == lane(place)
    assert lane_of_this_host(place).path == lane(place)
    assert not keep(place)


@pytest.mark.usefixtures("alive")
def test_a_spool_that_another_host_uses_is_not_taken_where_locks_are_local(place: Spool) -> None:
    use(place, boot="another")

    assert lane_of_this_host(place).path == lane(place)


@pytest.mark.usefixtures("alive")
def test_a_container_with_a_pipe_of_its_own_gets_a_lane(place: Spool) -> None:
    use(place, mounts=1, inode=1)

    assert lane_of_this_host(place).path == lane(place)


@pytest.mark.usefixtures("locked", "alive")
def test_a_container_with_the_same_pipe_uses_the_same_spool(place: Spool) -> None:
    use(place, mounts=1)

    assert lane_of_this_host(place).path == place.path


@pytest.mark.usefixtures("locked", "alive")
def test_a_pipe_that_was_made_anew_is_the_same_spool(place: Spool) -> None:
    use(place, inode=1)

    assert lane_of_this_host(place).path == place.path
    assert Host.read(place) == Host.of(place)


@pytest.mark.parametrize("ended", [False, True])
def test_a_spool_from_before_a_reboot_is_taken(place: Spool, ended: bool) -> None:
    use(place, boot="before")
    write_status(place, ended=ended)

    assert lane_of_this_host(place).path == place.path
    assert keep(place)


def test_a_spool_of_a_host_that_is_silent_for_long_is_taken(place: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "is_network_file_system", lambda path: True)
    use(place, boot="another")
    write_status(place)
    assert not take(place)

    os.utime(place.status, (1, 1))

    assert take(place)


def test_a_third_host_with_the_same_name_gets_a_lane_too(place: Spool) -> None:
    first = Spool(lane(place))
    first.prepare()
    held = []
    for each in (place, first):
        use(each, boot="another")
        held.append(open_file(each.lock, os.O_RDWR | os.O_CREAT))
        fcntl.flock(held[-1], fcntl.LOCK_EX)

    assert lane_of_this_host(place).path == f"{lane(place)}-2"
    for fd in held:
        os.close(fd)


def test_too_many_hosts_are_refused(place: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_MAX_LANES", 1)
    monkeypatch.setattr(host, "take", lambda spool: False)

    with pytest.raises(ConfigurationError, match="in use on other hosts"):
        lane_of_this_host(place)


def test_processes_that_start_at_once_agree(place: Spool) -> None:
    found = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        found.append(lane_of_this_host(place).path)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [place.path] * 8
    assert [name for name in os.listdir(place.path) if name.startswith("host.")] == []


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"boot": 7}'])
def test_a_damaged_file_is_replaced(place: Spool, content: str) -> None:
    Path(place.host).write_text(content)
    Path(place.host).chmod(0o600)

    assert take(place)
    assert Host.read(place) == Host.of(place)


def test_a_file_that_was_removed_is_made_again(place: Spool) -> None:
    take(place)
    os.unlink(place.host)

    assert keep(place)
    assert Host.read(place) == Host.of(place)


def test_a_pid_of_another_host_or_container_is_not_used(place: Spool) -> None:
    lock = open_file(place.lock, os.O_RDWR | os.O_CREAT)
    for info, pid in (
        (LockInfo(pid=7), 7),
        (LockInfo(pid=7, boot="another"), -1),
        (LockInfo(pid=7, boot=kernel.boot_id(), pids=1), -1),
        (LockInfo(pid=0, boot="another"), 0),
        (LockInfo(pid=7, boot=kernel.boot_id(), pids=kernel.namespace("pid")), 7),
    ):
        info.write(lock)
        assert read_pid(place) == pid
    os.close(lock)


TABLE = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /data rw,relatime shared:1 - nfs4 server:/data rw,vers=4.2
31 30 0:41 / /data/with\040space rw - tmpfs tmpfs rw
32 22 0:42 / /dataly rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/var", "ext4"), ("/data/a/b", "nfs4"), ("/data/with space/x", "tmpfs"), ("/dataly/a", "xfs")],
)
def test_the_file_system_of_a_folder_is_that_of_the_longest_mount_point(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mountinfo").write_text(TABLE)

    assert file_system_of(path, str(tmp_path / "mountinfo")) == kind
    assert file_system_of(path, str(tmp_path / "missing")) == ""


def test_on_a_network_file_system_each_host_has_a_default_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, spool: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(spool))
    monkeypatch.setattr(state_folder, "is_network_file_system", lambda path: True)

    assert default_folder("app") == str(spool / f"shipper@{host_name()}" / "app")
    assert os.uname().nodename in host_name()


def test_there_a_spool_of_an_earlier_version_is_still_used(monkeypatch: pytest.MonkeyPatch, spool: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(spool))
    monkeypatch.setattr(state_folder, "is_network_file_system", lambda path: True)
    Spool(str(spool / "shipper" / "app")).prepare()

    assert default_folder("app") == str(spool / "shipper" / "app")
