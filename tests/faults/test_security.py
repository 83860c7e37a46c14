"""What other users, planted files, hostile frames and false servers can't do."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import ssl
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

import shipper
from shipper.errors import UndecodableError
from shipper.event.codec import unpack
from shipper.event.model import Event, EventId
from shipper.event.truncate import pack
from shipper.spool.layout import Spool
from shipper.transport import frame

from ..support.needs import need
from ..support.waiting import stop_process, wait_until
from .oracle import Oracle, Step
from .scene import Scene

STRANGER = 100_000 + os.getpid()  # a user id that no other test uses
_READ, _WRITE = os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY | os.O_NONBLOCK


def as_stranger(action: Callable[[], object]) -> int:
    """Call ``action`` in a child with another user id; return its exit code: 0 done, 13 not permitted, 1 else."""
    need(os.geteuid() == 0, "root, to become another user")
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            action()
            os._exit(0)
        except PermissionError:
            os._exit(13)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, like all folders above it."""
    path = Path(tempfile.mkdtemp(prefix="shipper-open-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def test_other_users_can_neither_read_nor_write_anything(open_folder: Path, oracle: Oracle) -> None:
    oracle.always("a", Step(400, contains="poison"))
    with Scene(open_folder / "spool", oracle) as scene:
        scene.start(scene.trakerr("a", batch="array"))
        scene.log("poison")
        scene.a_fresh_record_flows("a")
        wait_until(lambda: scene.dead("a"))
        pid = scene.pid
        stop_process(pid)
        try:
            scene.log_many(2000, "x" * 1000)  # so that there is an overflow
            overflow = Path(scene.place.overflow)
            places = [scene.spool, *scene.spool.rglob("*"), overflow, *overflow.iterdir()]
            assert {"queue", "status.json", "lock", "a.ndjson", "a.json"} <= {path.name for path in places}
            for path in places:
                mode = path.lstat().st_mode
                assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path
            assert [path for path in places if as_stranger(partial(os.open, path, _READ)) != 13] == []
            files = [path for path in places if not path.is_dir()]
            assert [path for path in files if as_stranger(partial(os.open, path, _WRITE)) != 13] == []
            assert as_stranger(lambda: os.kill(pid, signal.SIGCONT)) == 13
            assert as_stranger(lambda: (open_folder / "spool" / "planted").touch()) == 13
            assert as_stranger(lambda: os.rename(open_folder / "spool", open_folder / "gone")) == 13
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not scene.missing("a"), 20)


@pytest.mark.parametrize("what", ["a folder of another user", "a folder that others may write to", "a link", "a file"])
def test_a_folder_in_the_shared_memory_that_is_not_ours_is_not_used(open_folder: Path, what: str) -> None:
    need(os.geteuid() == 0, "root, to become another user")
    planted = Path(f"/dev/shm/shipper-{STRANGER}")
    if what == "a link":
        planted.symlink_to(open_folder)
        os.chown(planted, STRANGER, STRANGER, follow_symlinks=False)
    elif what == "a file":
        planted.touch(0o600)
    else:
        planted.mkdir(0o700)
    if what == "a folder that others may write to":
        os.chown(planted, STRANGER, STRANGER)
        planted.chmod(0o775)

    def look() -> None:
        assert Spool(str(open_folder / "spool")).overflow == str(open_folder / "spool" / "overflow")

    try:
        assert as_stranger(look) == 0
    finally:
        if planted.is_symlink() or planted.is_file():
            planted.unlink()
        else:
            planted.rmdir()


def _linked(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(victim)


def _hard_linked(path: Path, victim: Path) -> None:
    path.unlink(missing_ok=True)
    os.link(victim, path)


FILES = ["status.json", "status.json.new", "ledger.json", "ledger.json.new", "cursors/a.json", "cursors/a.json.new",
         "dead/a.ndjson", "shipper.log", "journal/000000000002.seg"]  # fmt: skip


@pytest.mark.parametrize("link", [_linked, _hard_linked], ids=["link", "hard link"])
def test_a_link_in_the_spool_leads_nobody_to_another_file(
    oracle: Oracle, spool: Path, link: Callable[[Path, Path], None]
) -> None:
    oracle.always("a", Step(400, contains="poison"))
    victim = spool / "victim"
    for number, names in enumerate((FILES, ["lock"], ["app"])):
        victim.write_bytes(b"precious")
        folder = spool / str(number)
        folder.mkdir(mode=0o700)
        with Scene(folder, oracle) as scene:
            scene.place.prepare()
            for name in names:
                link(folder / name, victim)
            with contextlib.suppress(shipper.ConfigurationError):
                scene.start(scene.trakerr("a"), spooling=shipper.Spooling(segment=4096))
                scene.log_many(30, "x" * 900)
                scene.log("poison")
                scene.stop(0.5)
        assert victim.read_bytes() == b"precious", names


def test_a_folder_that_is_a_link_is_refused(scene: Scene, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    for name in ("journal", "cursors", "dead", "damaged"):
        link = scene.spool / name
        link.symlink_to(target)
        with pytest.raises(shipper.ConfigurationError, match="not a link"):
            scene.start(scene.trakerr("a"))
        link.unlink()
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "fifo", 0o600)
    (scene.spool / "queue").symlink_to(tmp_path / "fifo")
    with pytest.raises(shipper.ConfigurationError, match="FIFO"):
        scene.start(scene.trakerr("a"))
    assert list(target.iterdir()) == []


def _hostile(chance: random.Random) -> bytes:
    token = chance.randbytes(8)
    event = pack(Event(message="id:hostile", level=20))
    whole = b"".join(frame.encode(event, token=token, seq=chance.randrange(1 << 63), pid=1, level=20))
    large = frame.encode(bytes(20_000), token=token, seq=7, pid=2**32 - 1, level=65535)
    return chance.choice(
        [
            chance.randbytes(chance.randrange(1, 4096)),
            whole[: chance.randrange(1, len(whole))],
            frame.MAGIC * chance.randrange(1, 50),
            large[0],
            large[-1],
            frame.encode(b"", token=token, seq=chance.randrange(1 << 63), pid=0, flags=frame.MARK)[0],
            frame.encode(b"", token=token, seq=0, pid=0, flags=chance.randrange(2, 255))[0],
            frame.encode(chance.randbytes(50), token=token, seq=2**64 - 1, pid=0, level=20)[0],
            frame.encode(b"\x91" * 3000, token=token, seq=1, pid=0, level=20)[0],
            frame.HEADER.pack(frame.MAGIC, 1, 0, 20, 5, 3, 65535, token, 1, 1, 0),
            frame.HEADER.pack(frame.MAGIC, 255, 255, 65535, 0, 65535, 0, token, 2**64 - 1, 2**32 - 1, 2**32 - 1),
        ]
    )


def test_whatever_is_written_to_the_queue_stops_nobody_else(scene: Scene) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    pid = scene.pid
    fd = os.open(scene.place.queue, os.O_WRONLY | os.O_NONBLOCK)
    try:
        for _ in range(300):
            with contextlib.suppress(BlockingIOError):
                os.write(fd, _hostile(chance))
            scene.log()
    finally:
        os.close(fd)

    # Bytes that look like the start of a frame can swallow what follows them, but only for a short time.
    scene.a_fresh_record_flows("a", "b")
    scene.all_arrive("a", "b", timeout=15)
    assert scene.pid == pid
    assert shipper.status().corrupt > 0
    scene.stop(0.5)


@settings(max_examples=300)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_an_event_or_an_undecodable_one(data: bytes) -> None:
    for payload in (data, pack(Event(message="x", level=20))[: len(data) % 40] + data):
        with contextlib.suppress(UndecodableError):
            event = unpack(payload, EventId(bytes(8), 1))
            pack(event)


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    return authority


def test_certificates_are_verified_whatever_the_environment_says(
    tmp_path: Path, spool: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login x password y")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    server = tmp_path / "server.pem"
    with Oracle(tls=(server, server)) as oracle, Scene(spool, oracle) as scene:
        scene.start(scene.trakerr("a"), scene.jkool("b"))
        scene.log_many(5)
        wait_until(lambda: scene.backend("a").retried > 1 and scene.backend("b").retried > 1)
        assert "TLS" in scene.backend("a").last_error
        assert [oracle.request_count(service) for service in ("a", "b", "handshake")] == [0, 0, 0]

        trusted = str(tmp_path / "ca.pem")
        scene.start(scene.trakerr("a", ca_bundle=trusted), scene.jkool("b", ca_bundle=trusted))
        scene.all_arrive("a", "b")
        assert {"authorization"} & set(oracle.requests("a")[0].headers) == set()
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED


def test_two_apps_cannot_have_one_spool(scene: Scene) -> None:
    scene.start(scene.trakerr("a"))
    scene.a_fresh_record_flows("a")
    with pytest.raises(shipper.ConfigurationError, match="belongs to the app"):
        shipper.start(scene.trakerr("a"), app="another", spool=scene.spool, attach=False)

    scene.a_fresh_record_flows("a")
