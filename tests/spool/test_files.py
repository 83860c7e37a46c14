"""Files of the spool: opened only if they are regular files of this user, replaced atomically, damage noticed."""

from __future__ import annotations

import errno
import os
import signal
import stat
from pathlib import Path

import pytest

from shipper.spool.files import (
    get_dict,
    get_float,
    get_int,
    get_str,
    move_aside,
    open_file,
    read_json,
    reclaim_file,
    write_atomically,
)

from ..support.disks import tmpfs
from ..support.needs import need
from ..support.waiting import wait_until


def test_a_file_is_opened_only_when_it_is_ours_alone(spool: Path) -> None:
    os.close(open_file(str(spool / "ours"), os.O_RDWR | os.O_CREAT))
    (spool / "link").symlink_to("ours")
    os.mkfifo(spool / "fifo")
    (spool / "folder").mkdir()
    (spool / "one").touch()
    os.link(spool / "one", spool / "two")

    assert stat.S_IMODE((spool / "ours").stat().st_mode) == 0o600
    for name in ("link", "fifo", "folder", "one", "two", "missing"):
        with pytest.raises(OSError, match=r".+"):
            open_file(str(spool / name), os.O_RDONLY)


def test_a_linked_file_is_refused_before_it_is_cut(spool: Path) -> None:
    (spool / "one").write_text("precious")
    os.link(spool / "one", spool / "two")

    with pytest.raises(PermissionError):
        open_file(str(spool / "two"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert (spool / "one").read_text() == "precious"


def test_a_file_of_another_user_is_refused(spool: Path) -> None:
    need(os.geteuid() == 0, "the right to give a file away")
    (spool / "theirs").touch()
    os.chown(spool / "theirs", 12345, 12345)

    with pytest.raises(PermissionError):
        open_file(str(spool / "theirs"), os.O_RDONLY)


def test_what_is_written_is_read(spool: Path) -> None:
    path = str(spool / "x.json")
    for data in ({"a": 1}, {"b": ["ü" * 5000]}, {}):
        write_atomically(path, data)
        assert read_json(path) == data
    assert os.listdir(spool) == ["x.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff\xfe\x00", b"[" * 100_000])
def test_anything_but_a_json_object_reads_as_none(spool: Path, content: bytes) -> None:
    (spool / "x.json").write_bytes(content)

    assert read_json(str(spool / "x.json")) is None
    assert read_json(str(spool / "missing.json")) is None


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(spool: Path) -> None:
    path = str(spool / "x.json")
    write_atomically(path, {"n": 0, "text": ""})
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            number = 0
            while True:
                number += 1
                write_atomically(path, {"n": number, "text": "x" * number})
        seen = (read_json(path) or {}).get("n")
        wait_until(lambda seen=seen: (read_json(path) or {}).get("n") != seen)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        found = read_json(path)
        assert found is not None
        assert len(found["text"]) == found["n"]


def test_a_changed_bit_is_noticed(spool: Path) -> None:
    path = spool / "x.json"
    write_atomically(str(path), {"offset": 1000})
    path.write_bytes(path.read_bytes().replace(b"1000", b"1001"))

    assert read_json(str(path)) is None


def test_json_without_a_checksum_is_read(spool: Path) -> None:
    (spool / "x.json").write_text('{"a": 1}')

    assert read_json(str(spool / "x.json")) == {"a": 1}


def test_on_a_full_disk_a_file_is_overwritten_in_place(spool: Path) -> None:
    (spool / "disk").mkdir()
    with tmpfs(spool / "disk", "64k") as disk:
        path = str(disk / "x.json")
        write_atomically(path, {"offset": 1})
        with pytest.raises(OSError) as full:  # noqa: PT011
            (disk / "ballast").write_bytes(b"." * 100_000)
        assert full.value.errno == errno.ENOSPC

        write_atomically(path, {"offset": 2})

        assert read_json(path) == {"offset": 2}


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_in_the_place_of_a_file_is_renamed(spool: Path, kind: str) -> None:
    path = spool / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("elsewhere")
    else:
        os.mkfifo(path)

    os.close(reclaim_file(str(path), os.O_WRONLY | os.O_CREAT))
    move_aside(str(path))

    assert stat.S_ISREG(path.lstat().st_mode)
    assert sum(each.name.endswith(".foreign") for each in spool.iterdir()) == 1


def test_fields_of_another_type_have_their_default() -> None:
    data = {"a": True, "b": "7", "c": float("nan"), "d": 1.5, "e": 3, "f": {}}

    assert [get_int(data, name) for name in "abcdex"] == [0, 0, 0, 0, 3, 0]
    assert [get_float(data, name) for name in "bcdex"] == [0.0, 0.0, 1.5, 3, 0.0]
    assert [get_str(data, name) for name in "abx"] == ["", "7", ""]
    assert [get_dict(data, name) for name in "afx"] == [{}, {}, {}]
