"""The journal stays within its quota, whatever a deliverer waits for, and the newest events survive."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipper.journal.segments import segment_size, segments, size_on_disk
from shipper.journal.writer import Writer
from shipper.process.ingest.appender import Appender
from shipper.process.ingest.quota import Quota, QuotaReachedError
from shipper.transport import frame
from shipper.transport.pipe import grow_pipe

from ..support.apps import App
from ..support.servers import HANG, Reply, Server
from ..support.waiting import wait_until

TOKEN = b"tokentok"


def framed(seq: int, size: int = 100) -> bytes:
    return b"".join(frame.encode(b"." * size, token=TOKEN, seq=seq, pid=os.getpid()))


class Pipe:
    """A pipe, and an appender that moves its content into a journal."""

    def __init__(self, folder: Path, *, quota: int, segment: int) -> None:
        self.folder = str(folder)
        self.end, self.put = os.pipe()
        grow_pipe(self.end)
        os.set_blocking(self.end, False)
        self.appender = Appender(self.end, Writer(self.folder, segment_bytes=segment), Quota(self.folder, quota))

    def seqs(self) -> list[int]:
        data = b"".join(Path(path).read_bytes() for path in sorted(Path(self.folder).glob("*.seg")))
        found = frame.scan(data, complete=True)
        assert found.damage == []
        return [view.seq for view in found.frames]


@pytest.fixture
def pipe(spool: Path) -> Iterator[Pipe]:
    made = Pipe(spool, quota=20_000, segment=5_000)
    yield made
    made.appender.close()
    os.close(made.end)
    os.close(made.put)


def test_no_segment_is_more_than_one_frame_larger_than_its_bound(pipe: Pipe) -> None:
    os.write(pipe.put, b"".join(framed(seq, 50 + 37 * seq) for seq in range(40)))

    with pytest.raises(QuotaReachedError):
        pipe.appender.drain_pipe()

    sizes = [segment_size(pipe.folder, number) for number in segments(pipe.folder)]
    assert len(sizes) >= 4
    assert max(sizes) <= 5_000 + frame.MAX_FRAME


def test_at_the_quota_the_journal_ends_with_a_whole_frame_and_the_rest_stays_in_the_pipe(pipe: Pipe) -> None:
    put = 200
    os.write(pipe.put, b"".join(framed(seq, 300) for seq in range(put)))

    with pytest.raises(QuotaReachedError):
        pipe.appender.drain_pipe()

    taken = pipe.seqs()
    assert taken == list(range(len(taken)))
    assert 20_000 <= size_on_disk(pipe.folder) <= 20_000 + frame.MAX_FRAME
    left = [view.seq for view in frame.scan(os.read(pipe.end, 1 << 20)).frames]
    assert left == list(range(len(taken), put))


def test_once_segments_are_deleted_the_journal_takes_more(pipe: Pipe) -> None:
    os.write(pipe.put, b"".join(framed(seq, 300) for seq in range(100)))
    with pytest.raises(QuotaReachedError):
        pipe.appender.drain_pipe()

    for number in segments(pipe.folder)[:-1]:
        os.unlink(Path(pipe.folder) / f"{number:012d}.seg")
    pipe.appender.drain_pipe()

    assert pipe.seqs()[-1] == 99


def test_frames_from_an_overflow_keep_within_segments_and_quota(pipe: Pipe) -> None:
    taken: list[int] = []

    with pytest.raises(QuotaReachedError):
        pipe.appender.append(b"".join(framed(seq, 300) for seq in range(200)), taken.append)

    assert sum(taken) == size_on_disk(pipe.folder) <= 20_000 + frame.MAX_FRAME
    assert max(segment_size(pipe.folder, number) for number in segments(pipe.folder)) <= 5_000 + frame.MAX_FRAME
    assert pipe.seqs() == list(range(len(pipe.seqs())))


@pytest.mark.parametrize(
    "answer", [Reply(401), Reply(503, {"Retry-After": "300"}), HANG], ids=["key", "later", "silent"]
)
def test_the_journal_keeps_its_quota_while_the_deliverer_waits(spool: Path, tmp_path: Path, answer: Reply) -> None:
    quota, segment = 64 * 1024, 16 * 1024
    with Server(default=answer) as server:
        app = App(server, spool, tmp_path)
        sizes: list[int] = []
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.005):
                sizes.append(size_on_disk(str(spool / "journal")) if (spool / "journal").exists() else 0)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            app.run(
                f"""
                begin(spooling=shipper.Spooling(quota={quota}, segment={segment}), grace=0.1)
                log.info("first"); time.sleep(0.5)
                for n in range(1500):
                    log.info("event %d %s", n, "x" * 200)
                    time.sleep(0.0005)
                deadline = time.monotonic() + 60
                while shipper.status().backends[0].dropped.get("quota", {{}}).get("INFO", 0) < 500:
                    assert time.monotonic() < deadline, shipper.status()
                    time.sleep(0.02)
                shipper.stop(0)
            """,
                timeout=60,
            )
            app.wait_for_end(timeout=20)
        finally:
            ended.set()
            watching.join()
    assert max(sizes) <= quota + segment

    with Server() as server:
        app = App(server, spool, tmp_path)
        app.run("begin(); shipper.stop(10)")
        app.wait_for("event 1499 " + "x" * 200)
        app.wait_for_end()
        assert "first" not in app.messages()


def test_refusing_the_newest_keeps_the_oldest_and_the_quota(spool: Path, tmp_path: Path) -> None:
    quota, segment = 64 * 1024, 16 * 1024
    with Server(default=Reply(503)) as server:
        app = App(server, spool, tmp_path)
        app.run(f"""
            begin(spooling=shipper.Spooling(quota={quota}, segment={segment}, when_full="newest"), grace=0.1)
            for n in range(1500):
                log.info("event %d %s", n, "x" * 200)
            while shipper.status().journaled < 100: time.sleep(0.02)
            time.sleep(1)
            shipper.stop(0)
        """)
        app.wait_for_end(timeout=20)
    assert size_on_disk(str(spool / "journal")) <= quota + segment

    with Server() as server:
        app = App(server, spool, tmp_path)
        app.run("begin(); shipper.stop(20)")
        app.wait_for(*(f"event {n} " + "x" * 200 for n in range(1500)))
        app.wait_for_end()


def test_a_segment_of_an_older_release_that_is_above_the_quota_is_given_up(spool: Path, tmp_path: Path) -> None:
    with Server(default=Reply(503)) as server:
        app = App(server, spool, tmp_path)
        app.run("""
            begin(grace=0.1)
            for n in range(1000):
                log.info("old %d %s", n, "x" * 200)
            while shipper.status().journaled < 1000: time.sleep(0.02)
            shipper.stop(0.5)
        """)
        app.wait_for_end(timeout=20)
    assert len(segments(str(spool / "journal"))) == 1

    with Server() as server:
        app = App(server, spool, tmp_path)
        app.run("""
            begin(spooling=shipper.Spooling(quota=32768, segment=8192))
            log.info("new"); assert shipper.stop(60).flushed
        """)
        app.wait_for("new")
        app.wait_for_end()
    wait_until(lambda: size_on_disk(str(spool / "journal")) <= 32768 + 8192)
