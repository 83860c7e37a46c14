"""A cleaner removes parts of the spool while the application runs: nothing is lost, and no journal has two writers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shipper.journal.reader import SETTLED_NANOSECONDS
from shipper.spool.layout import Spool

from ..support.apps import App, shippers_of
from ..support.servers import Reply, Server
from ..support.waiting import wait_until


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool / "s", tmp_path)
        yield made
        made.wait_for_end(30)


WORK = """
begin()
n = 0
while not os.path.exists(sys.argv[1]):
    log.info("{name} %d", n)
    n += 1
    time.sleep(0.01)
report = shipper.stop(30)
print(n, report.flushed, dict(report.dropped), report.waiting)
"""


def everything(spool: Path) -> None:
    _remove_folder(spool)


def _remove_folder(folder: Path) -> None:
    while folder.exists():  # it is written to meanwhile
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
            return


def remove(*names: str) -> Callable[[Path], None]:
    def work(spool: Path) -> None:
        for name in names:
            path = spool / name
            _remove_folder(path) if path.is_dir() else path.unlink()

    work.__name__ = " ".join(names)
    return work


def segments(spool: Path) -> None:
    for path in (spool / "journal").iterdir():
        path.unlink()


def old(spool: Path) -> None:
    """Remove what a cleaner that goes by age removed before the shipper process touched these files."""
    remove("lock", "app", "host", "joins", "dead", "damaged")(spool)


@pytest.mark.parametrize(
    "work",
    [everything, remove("lock"), remove("queue"), remove("journal"), segments, remove("cursors"), old],
    ids=lambda work: work.__name__,
)
def test_no_event_is_lost_and_no_second_process_starts(app: App, work: Callable[[Path], None]) -> None:
    end = app.folder / "end"
    first, second = (app.write(WORK.format(name=name), f"{name}.py") for name in "AB")
    with app.running(sys.executable, str(first), str(end)) as a:
        app.wait_for("A 5", timeout=30)
        pid = app.wait_for_shipper()
        work(app.spool)
        wait_until(lambda: _is_complete(app.spool), 30, "the spool to be complete again")
        count = len(app.messages())
        wait_until(lambda: len(app.messages()) > count + 5, 30, "events that are logged now")
        with app.running(sys.executable, str(second), str(end)) as b:
            app.wait_for("B 5", timeout=30)
            wait_until(lambda: app.pid() == pid, 30, "the lock to name the process again")
            assert shippers_of(app.spool) == [pid]
            end.touch()
            said = [process.communicate(timeout=60)[0].splitlines()[-1] for process in (a, b)]

    counts = [int(line.split()[0]) for line in said]
    assert [line.split(" ", 1)[1] for line in said] == ["True {} 0"] * 2
    app.wait_for(*(f"{name} {n}" for name, count in zip("AB", counts, strict=True) for n in range(count)), timeout=30)
    assert set(Counter(app.ids()).values()) == {1}


def _is_complete(spool: Path) -> bool:
    place = Spool(str(spool))
    names = (place.queue, place.joins, place.lock, place.app, place.host, place.journal, place.dead, place.damaged)
    return all(map(os.path.exists, names)) and bool(list(Path(place.journal).glob("*.seg")))


def test_a_spool_that_was_removed_together_with_its_process_is_made_again(app: App) -> None:
    end = app.folder / "end"
    with app.running(sys.executable, str(app.write(WORK.format(name="A"))), str(end)) as process:
        app.wait_for("A 5", timeout=30)
        app.signal_shipper(signal.SIGKILL)
        everything(app.spool)
        count = len(app.messages())
        wait_until(lambda: len(app.messages()) > count + 5, 30, "events that are logged now")
        end.touch()
        assert process.communicate(timeout=60)[0].splitlines()[-1].split(" ", 1)[1] == "True {} 0"


def test_what_the_process_needs_never_looks_old(app: App) -> None:
    with app.running(sys.executable, str(app.write(WORK.format(name="A"))), str(app.folder / "end")) as process:
        app.wait_for("A 5", timeout=30)
        for each in app.spool.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # a file that is about to replace another one
                os.utime(each, (1, 1), follow_symlinks=False)

        wait_until(lambda: not any(map(_is_old, app.spool.rglob("*"))), 30, "all to be touched")

        journal = (app.spool / "journal").stat()
        assert journal.st_ctime_ns - journal.st_mtime_ns > SETTLED_NANOSECONDS, "its readers list it at each read"
        (app.folder / "end").touch()
        process.communicate(timeout=60)


def _is_old(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return path.lstat().st_mtime < time.time() - 600
    return False


def test_a_dead_letter_finds_its_folder_again(spool: Path, tmp_path: Path) -> None:
    with Server(lambda request: Reply(400 if b"refused" in request.body else 200)) as server:
        app = App(server, spool, tmp_path)
        (spool / "ready").touch()
        with app.running(
            sys.executable,
            str(
                app.write("""
begin()
log.info("first")
assert shipper.flush(60)
while os.path.exists(os.path.join(os.environ["TEST_SPOOL"], "ready")):
    time.sleep(0.01)
log.info("refused")
log.info("after")
print(shipper.stop(30).flushed)
""")
            ),
        ) as process:
            app.wait_for("first", timeout=30)
            os.rmdir(spool / "dead")
            os.rmdir(spool / "damaged")
            (spool / "ready").unlink()
            assert process.communicate(timeout=60)[0].splitlines()[-1] == "True"
        assert (spool / "dead" / "trakerr.ndjson").read_text().count("\n") == 1
        app.wait_for_end(30)


def test_the_folder_of_an_application_that_has_ended_is_not_made_again(app: App) -> None:
    app.run("begin(grace=3.0); log.info('x')")  # for 3 s the process checks each second whether its spool exists
    pids = shippers_of(app.spool)
    everything(app.spool)

    wait_until(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")], 60, "the process's end")
    assert not app.spool.exists()


def test_the_next_process_finds_the_memory_files_of_a_spool_whose_id_was_removed(app: App) -> None:
    place = Spool(str(app.spool))
    with app.running(sys.executable, str(app.write(WORK.format(name="A"))), str(app.folder / "end")) as process:
        app.wait_for("A 5", timeout=30)
        before, pid = place.read_id(), app.wait_for_shipper()
        os.kill(pid, signal.SIGKILL)
        os.unlink(place.id)
        app.wait_for_shipper(other_than=pid, timeout=30)
        assert place.read_id() == before
        (app.folder / "end").touch()
        process.communicate(timeout=60)


TORN = """
from shipper.application.lifecycle import current

begin()
log.warning("before")
assert shipper.flush(30)
pipe = current().queue._pipe
write, written = pipe.write, []

def follow_in_between(frame):
    written.append(write(frame))
    if len(written) == 1:
        os.unlink(pipe.path)
        os.mkfifo(pipe.path, 0o600)
        pipe.follow()
    return written[-1]

pipe.write = follow_in_between
log.warning("torn %s", "." * 9000)
pipe.write = write
log.warning("after")
assert len(written) > 1
"""
"""An event's first frame is in the queue that was removed, the rest in the one that was made in its place."""


@pytest.mark.parametrize(
    "end", ["pass", "os._exit(0)", "os.kill(os.getpid(), 9)", "os.closerange(3, 4096); os._exit(0)"]
)
def test_an_event_whose_queue_was_removed_between_its_frames_is_whole(app: App, end: str) -> None:
    """Also when its process ends before the shipper process has opened the new queue, whose content is lost then."""
    app.run(TORN + end, code=-9 if "kill" in end else 0)

    wait_until(lambda: not shippers_of(app.spool), 60, "the shipper process's end")
    assert [message.split()[0] for message in app.messages()] == ["before", "torn", "after"]
    assert set(Counter(app.ids()).values()) == {1}
