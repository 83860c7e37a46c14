"""The processes that encode for a backend: what they make, when there are any, and how they end."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import shipper
from shipper.backends.otlp.settings import Otlp
from shipper.backends.protocol import AppContext
from shipper.config.settings import Settings
from shipper.delivery.checkpoint import Checkpoint
from shipper.delivery.lending.lending import PartEndedError
from shipper.delivery.lending.part import Request
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.redact import Redact
from shipper.event.truncate import pack
from shipper.journal.cursors.cursor import Cursor
from shipper.journal.segments import Position, segment_path
from shipper.process.deliveries import backend_of
from shipper.process.encoders import encoders
from shipper.process.encoders.channel import Channel
from shipper.process.encoders.child import EncoderProcess
from shipper.process.encoders.encoders import Encoders
from shipper.process.encoders.job import Job
from shipper.process.system.host import LoadSampler
from shipper.process.waker import poll
from shipper.spool.layout import Spool
from shipper.transport import frame

from ..support.descriptors import few_descriptors
from ..support.waiting import PATIENCE, stop_process, wait_until

TOKEN = b"12345678"
NOW = 1_800_000_000.0
SAMPLES = ([NOW, NOW + 2.0], [(1.5, 20.5), (3.0, 40.0)])
BACKENDS = [
    shipper.Trakerr("key", url="http://127.0.0.1:9/api/v1", level=20, batch="array"),
    shipper.Trakerr("key", url="http://127.0.0.1:9/api/v1", level=20, batch="array", compress=False),
    shipper.JKool("token", url="http://127.0.0.1:9/", level=20, batch="lines"),
    shipper.JKool("token", url="http://127.0.0.1:9/", level=20, batch="array"),
]


def events() -> list[Event]:
    """Return events of all kinds: of each route, above and below the backends' level, of one frame and of several."""
    failure = ExceptionInfo(
        "", "ValueError", "ValueError", "bad\n\udcff", [Frame("/srv/app/a.py", 7, "f")], ["note"], 0
    )
    made = []
    for number in range(400):
        event = Event(message=f"event {number} é", level=(10, 20, 30, 40)[number % 4], time=NOW + number / 100)
        event.extra = {"amount": number * 0.01, "nested": {"a": [1, None, "x"]}} if number % 3 else {}
        event.exceptions = [failure] if number % 7 == 0 else []
        event.route = (None, None, ("trakerr",), ("jkool",), ())[number % 5]
        if number % 50 == 0:
            event.message += "x" * 20_000
        made.append(event)
    return made


@pytest.fixture
def journal(tmp_path: Path) -> str:
    data = b"".join(
        piece
        for seq, event in enumerate(events())
        for piece in frame.encode(pack(event), token=TOKEN, seq=seq, pid=1, level=event.level)
    )
    path = Path(segment_path(str(tmp_path), 1))
    path.write_bytes(data)
    path.chmod(0o600)
    return str(tmp_path)


def job(journal: str, backend: Any, **changes: Any) -> Job:
    given: dict[str, Any] = {
        "takes_all": True,
        "app": "shop",
        "cwd": "/srv/app",
        "host": "host",
        "address": "10.0.0.1",
        "redact": Redact(),
        "max_events": 70,
        "max_bytes": 50_000,
        **changes,
    }
    return Job(backend, journal=journal, **given)


@contextlib.contextmanager
def running(job: Job) -> Iterator[EncoderProcess]:
    process = EncoderProcess(job, job.description.name, lambda: SAMPLES)
    try:
        yield process
    finally:
        process.kill()


def requests(process: EncoderProcess) -> Iterator[Request]:
    with contextlib.suppress(PartEndedError):
        while (request := process.next(PATIENCE)) is not None:
            yield request


def end_of(journal: str) -> Position:
    return Position(1, os.path.getsize(segment_path(journal, 1)))


@pytest.mark.parametrize("takes_all", [True, False], ids=["takes all", "takes what names it"])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda each: f"{each.name} {each.batch} {each.compress}")
def test_requests_are_those_that_the_shipper_process_would_make(journal: str, backend: Any, takes_all: bool) -> None:
    with running(job(journal, backend, takes_all=takes_all)) as process:
        process.lend(Position(1, 0), end_of(journal))
        made = list(requests(process))

    wanted = [
        unpack(pack(event), EventId(TOKEN, seq))
        for seq, event in enumerate(events())
        if event.level >= backend.level and (takes_all if event.route is None else backend.name in event.route)
    ]
    sampler = LoadSampler()
    sampler.samples = SAMPLES
    context = AppContext("shop", "/srv/app", "host", "10.0.0.1", sampler)
    sent = 0
    for request in made:
        count = request.counts.get("delivered", 0)
        part, sent = wanted[sent : sent + count], sent + count
        assert count <= min(70, backend.max_events)
        if part:
            assert request.body == backend.body(part, context)
            assert request.headers == backend.request_headers(part)
            assert request.oldest == min(event.time for event in part)
    assert sent == len(wanted)
    assert sum(sum(request.counts.values()) for request in made) == 400
    assert [made[0].start, *(request.end for request in made)][:-1] == [request.start for request in made]
    assert made[-1].end == end_of(journal)


def test_an_event_that_is_not_one_ends_the_part_before_it(journal: str) -> None:
    data = b"".join(frame.encode(b"\xc1", token=TOKEN, seq=1000, pid=1, level=30))
    after = b"".join(frame.encode(pack(Event(message="after", level=30)), token=TOKEN, seq=1001, pid=1, level=30))
    before = end_of(journal)
    with open(segment_path(journal, 1), "ab") as file:
        file.write(data + after)

    with running(job(journal, BACKENDS[2], max_events=1)) as process:
        process.lend(Position(1, 0), end_of(journal))
        assert list(requests(process))[-1].end == before


def test_half_an_event_ends_the_part_before_it(journal: str) -> None:
    before = end_of(journal)
    pieces = frame.encode(pack(Event(message="x" * 20_000, level=30)), token=TOKEN, seq=1000, pid=1, level=30)
    with open(segment_path(journal, 1), "ab") as file:
        file.write(pieces[0])

    with running(job(journal, BACKENDS[2])) as process:
        process.lend(Position(1, 0), end_of(journal))
        assert list(requests(process))[-1].end == before


def test_of_a_part_that_is_not_wanted_any_more_nothing_comes(journal: str) -> None:
    with running(job(journal, BACKENDS[2], max_events=3)) as process:
        process.lend(Position(1, 0), end_of(journal))
        first = process.next(PATIENCE)
        assert first is not None
        process.lend(first.end, end_of(journal))

        assert next(requests(process)).start == first.end


def test_a_process_that_has_ended_says_so(journal: str) -> None:
    with running(job(journal, BACKENDS[2])) as process:
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: process.has_ended, 10, "its end")

        with pytest.raises(EOFError):
            process.next(PATIENCE)
        with pytest.raises(BrokenPipeError):
            process.lend(Position(1, 0), end_of(journal))


def test_what_a_process_of_another_version_sends_is_no_more_than_an_end_of_it() -> None:
    """The package was replaced: a process that starts now has modules that this one does not know."""
    reading, writing = os.pipe()
    channel = Channel(reading, writing)
    unknown = b"cshipper.delivery.of_tomorrow\nRequest\n."
    os.write(writing, len(unknown).to_bytes(8, "little") + unknown)

    with pytest.raises(OSError, match="of_tomorrow"):
        channel.receive(PATIENCE)
    channel.send("next")
    assert channel.receive(PATIENCE) == "next"
    channel.close()


def test_a_stopped_process_is_waited_for_no_longer_than_said_and_can_be_killed(journal: str) -> None:
    with running(job(journal, BACKENDS[2])) as process:
        stop_process(process.pid)
        process.lend(Position(1, 0), end_of(journal))

        assert process.next(0.01) is None
    assert process.has_ended
    with pytest.raises(EOFError):
        process.next(0.01)


def test_one_that_is_stopped_inside_a_request_is_waited_for_no_longer_than_said(journal: str) -> None:
    """The body is larger than the pipe, so only its beginning has arrived when the process is stopped."""
    data = b"".join(
        piece
        for seq in range(1000, 1500)
        for piece in frame.encode(pack(Event(message="x" * 1000, level=30)), token=TOKEN, seq=seq, pid=1, level=30)
    )
    start = end_of(journal)
    with open(segment_path(journal, 1), "ab") as file:
        file.write(data)
    backend = shipper.JKool("token", url="http://127.0.0.1:9/", batch="lines", compress=False)

    with running(job(journal, backend, max_events=500, max_bytes=10**6)) as process:
        process.lend(start, end_of(journal))
        wait_until(lambda: poll(0.0, process._channel.reading), 10, "the beginning of a request")
        wait_until(lambda: _is_asleep(process.pid), 10, "a full pipe")
        stop_process(process.pid)

        assert process.next(0.01) is None

        os.kill(process.pid, signal.SIGCONT)
        request = process.next(PATIENCE)
        assert request is not None
        assert request.counts == {"delivered": 500}


def _is_asleep(pid: int) -> bool:
    """Whether the main thread of the process waits in a system call."""
    return psutil.Process(pid).status() == psutil.STATUS_SLEEPING


def test_a_sigterm_to_all_processes_of_a_service_does_not_end_it(journal: str) -> None:
    """The shipper process drains after the SIGTERM, and needs its encoder processes for that."""
    with running(job(journal, BACKENDS[2])) as process:
        os.kill(process.pid, signal.SIGTERM)
        process.lend(Position(1, 0), end_of(journal))

        assert list(requests(process))


def test_descriptors_are_given_back_when_there_are_too_few(journal: str) -> None:
    with few_descriptors(3), pytest.raises(OSError, match="Too many open files"):
        EncoderProcess(job(journal, BACKENDS[2]), "jkool", lambda: SAMPLES)

    with running(job(journal, BACKENDS[2])) as process:
        process.lend(Position(1, 0), end_of(journal))
        assert list(requests(process))


_PARENT = """
import sys, time
from shipper import JKool
from shipper.event.redact import Redact
from shipper.process.encoders.child import EncoderProcess
from shipper.process.encoders.job import Job
backend = JKool("token", url="http://127.0.0.1:9/", batch="lines")
job = Job(backend, True, "shop", "/", "host", "10.0.0.1", Redact(), sys.argv[1], 100, 10000)
print(EncoderProcess(job, "jkool", lambda: ([], [])).pid, flush=True)
time.sleep(600)
"""


def test_it_ends_with_the_process_that_started_it(journal: str) -> None:
    command = [sys.executable, "-c", _PARENT, journal]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()

    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 10, "its end")


# -- when there are any ------------------------------------------------------------------------------------------------


class Delivering:
    """What `Encoders` asks a deliverer for."""

    def __init__(self, name: str, *, has_backlog: bool = True) -> None:
        self.name = name
        self.has_backlog = has_backlog


class NoSuspects:
    has_suspects = False


@pytest.fixture
def made(journal: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoders]:
    """Encoder processes for Trakerr and jKool in batches, on two cores; the shipper process counts as busy."""
    monkeypatch.setattr(encoders, "usable_cores", lambda: 2)
    monkeypatch.setattr(encoders, "BUSY", 0.0)
    monkeypatch.setattr(encoders, "LOOK_SECONDS", 0.0)
    yield (one := make(journal))
    one.stop()


def has_ended(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)


def make(journal: str, *backends: Any, **settings: Any) -> Encoders:
    load = LoadSampler()
    one = Encoders(AppContext("shop", "/", "host", "10.0.0.1", load), load, Spool(str(Path(journal).parent)))
    for backend in backends or (BACKENDS[0], BACKENDS[2]):
        one.lending_of(backend, backend_of(backend), NoSuspects(), resolved(backend, **settings))
    return one


def resolved(backend: Any, **settings: Any) -> Settings:
    return Settings(app="shop", spool="/spool", cwd="/", backends=(backend,), **settings)


def pids(one: Encoders) -> list[int]:
    return [pid for name in ("trakerr", "jkool") if (pid := one.pid(name)) is not None]


def update(one: Encoders, *deliverers: Any) -> None:
    for encoder in one._encoders.values():
        encoder.lending.wants_one = True
    for _ in range(3):
        one.update(deliverers or (Delivering("trakerr"), Delivering("jkool")))


def test_each_backend_with_a_backlog_gets_one(made: Encoders) -> None:
    update(made)

    assert len(set(pids(made))) == 2
    assert all(psutil.pid_exists(pid) for pid in pids(made))


def test_one_backlog_alone_gets_none(made: Encoders) -> None:
    update(made, Delivering("trakerr"), Delivering("jkool", has_backlog=False))

    assert not pids(made)


def test_a_process_that_keeps_up_gets_none(made: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "BUSY", 1000.0)

    update(made)

    assert not pids(made)


def test_on_one_core_there_is_none(journal: str, made: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "usable_cores", lambda: 1)

    update(one := make(journal))

    assert not pids(one)


@pytest.mark.parametrize(
    "backends",
    [
        (shipper.Trakerr("key", batch="array"), shipper.JKool("token", url="http://127.0.0.1:9/")),
        (shipper.Trakerr("key", batch="array"), Otlp(endpoint="http://127.0.0.1:9/v1/logs", name="jkool")),
    ],
    ids=["one event a request", "Otlp"],
)
def test_only_batches_of_trakerr_and_jkool_are_encoded_there(
    journal: str, made: Encoders, backends: tuple[Any, ...]
) -> None:
    update(one := make(journal, *backends))

    assert one.pid("trakerr") is not None
    assert one.pid("jkool") is None
    one.stop()


def test_they_can_be_switched_off(journal: str, made: Encoders) -> None:
    update(one := make(journal, batching=shipper.Batching(processes=False)))

    assert not pids(one)


def test_a_backend_with_suspects_lends_nothing(journal: str, tmp_path: Path) -> None:
    """Events that may have killed the shipper process are encoded alone, in the shipper process."""

    class Suspects:
        has_suspects = True

    one = make(journal)
    lending = one.lending_of(BACKENDS[2], backend_of(BACKENDS[2]), Suspects(), resolved(BACKENDS[2]))
    assert lending is not None
    cursor = Cursor(str(tmp_path / "cursor.json"), journal)
    checkpoint = Checkpoint(cursor, max_unsaved=0, on_progress=lambda: None, clock=time.monotonic)
    with running(job(journal, BACKENDS[2])) as process:
        lending.borrower = process
        lending.wants_one = True
        lending._begin_or_wish(checkpoint, is_able=lending._may_lend())

        assert not lending.is_on
        assert not lending.wants_one
    checkpoint.close()


def test_a_backlog_that_can_not_be_lent_starts_none(made: Encoders) -> None:
    """No deliverer wants a process: for example, several requests are under way at once, or little is left."""
    for _ in range(3):
        made.update((Delivering("trakerr"), Delivering("jkool")))  # type: ignore[arg-type]

    assert not pids(made)


def test_one_that_was_of_no_use_is_not_started_again_soon(made: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    update(made)
    monkeypatch.setattr(encoders, "IDLE_SECONDS", 0.0)

    update(made)

    assert not pids(made)


def test_one_without_work_ends(made: Encoders, monkeypatch: pytest.MonkeyPatch) -> None:
    update(made)
    found = [psutil.Process(pid) for pid in pids(made)]
    monkeypatch.setattr(encoders, "IDLE_SECONDS", 0.0)

    update(made, Delivering("trakerr", has_backlog=False), Delivering("jkool", has_backlog=False))

    assert not pids(made)
    assert not any(each.is_running() for each in found)


def test_after_a_failure_there_is_none_for_a_while_and_the_log_says_so(
    made: Encoders, caplog: pytest.LogCaptureFixture
) -> None:
    update(made)
    before = set(pids(made))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    with caplog.at_level(logging.WARNING, "shipper.process"):
        for process in map(psutil.Process, before):
            wait_until(functools.partial(has_ended, process), 10, "its end")
        update(made)

    assert not pids(made)
    assert "that encoded for trakerr has failed" in caplog.text


def test_no_interpreter_is_no_error(
    made: Encoders, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with caplog.at_level(logging.WARNING, "shipper.process"):
        update(made)

    assert not pids(made)
    assert "no process can be started that encodes for" in caplog.text
