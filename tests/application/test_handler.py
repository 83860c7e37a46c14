"""record → event → bytes → queue, in the thread that logs."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.queues
import pickle
import queue
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shipper.application.capture.handler import SHIPPED, QueueHandler
from shipper.application.capture.pipeline import Callbacks, Pipeline, active, set_pipeline
from shipper.event.codec import unpack
from shipper.event.model import Event, EventId
from shipper.event.redact import Redact
from shipper.spool.layout import Spool
from shipper.transport.queue import RecordQueue

from ..support.stderr import forget_warnings
from ..support.waiting import PATIENCE


class Site:
    """A pipeline whose queue is read only by the test."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        place = Spool(str(folder))
        place.prepare()
        self.queue = RecordQueue(place.queue, overflow=place.overflow)
        self.pipeline = Pipeline(self.queue, ("a", "b"), **settings)
        self._before = active.pipeline
        self._place = place

    def __enter__(self) -> Site:
        self.queue.open()
        set_pipeline(self.pipeline)
        return self

    def __exit__(self, *exc_info: object) -> None:
        set_pipeline(self._before)
        self.queue.close()
        shutil.rmtree(self._place.overflow, ignore_errors=True)

    def events(self) -> list[Event]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(unpack(self.queue.get_nowait(), EventId(b"12345678", 0)))
        return found


@pytest.fixture
def site(spool: Path) -> Iterator[Site]:
    with Site(spool) as made:
        yield made


def record(message: object = "x", *args: object, level: int = 20, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("test", level, __file__, 1, message, args, None)
    made.__dict__.update(more)
    return made


def test_a_record_becomes_one_event(site: Site) -> None:
    QueueHandler().handle(record("%d paid", 17, amount=12.5))

    (event,) = site.events()
    assert (event.message, event.extra, event.route) == ("17 paid", {"amount": 12.5}, None)


def test_records_below_the_handlers_level_are_the_loggers_business_and_filters_are_obeyed(site: Site) -> None:
    handler = QueueHandler(level="ERROR")
    handler.addFilter(lambda made: made.getMessage() != "filtered")

    assert handler.level == 40
    assert not handler.handle(record("filtered"))
    assert handler.handle(record("passed"))
    assert [event.message for event in site.events()] == ["passed"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="filters may do that since Python 3.12")
def test_a_filter_may_replace_the_record(site: Site) -> None:
    handler = QueueHandler()
    handler.addFilter(lambda made: record("replaced"))  # type: ignore[arg-type,return-value]

    handler.handle(record("original"))

    assert [event.message for event in site.events()] == ["replaced"]


def test_a_record_goes_to_each_backend_once_however_many_handlers_see_it(site: Site) -> None:
    made = record()

    for handler in (QueueHandler(route=("a",)), QueueHandler(route=["a"]), QueueHandler(), QueueHandler()):
        handler.handle(made)

    assert [event.route for event in site.events()] == [("a",), ("b",)]


def test_one_name_as_a_route_is_one_name() -> None:
    assert QueueHandler(route="trakerr").route == ("trakerr",)
    assert QueueHandler(route=["a", "b"]).route == ("a", "b")


def test_the_mark_on_a_record_is_plain_data_and_no_extra(site: Site) -> None:
    made = record()
    QueueHandler().handle(made)

    assert pickle.loads(pickle.dumps(made.__dict__[SHIPPED])) == (site.queue.path, ("a", "b"))
    assert site.events()[0].extra == {}


@pytest.mark.parametrize("message", ["%d", "%s %s"])
def test_what_can_not_be_formatted_arrives_all_the_same(site: Site, message: str) -> None:
    QueueHandler().handle(record(message, "x"))

    assert len(site.events()) == 1


def test_the_message_is_made_at_once(site: Site) -> None:
    extra = ["before"]
    QueueHandler().handle(record("%s", extra))
    extra[0] = "after"

    assert site.events()[0].message == "['before']"


def test_nothing_that_is_logged_raises(site: Site) -> None:
    class Evil:
        def __str__(self) -> str:
            raise RuntimeError

        __repr__ = __str__

    QueueHandler().handle(record(Evil(), thing=Evil(), args=Evil()))
    QueueHandler().handle(record("%s", Evil()))

    assert len(site.events()) == 2


def test_a_handler_has_no_lock_that_a_forked_child_could_inherit_taken() -> None:
    assert QueueHandler().lock is None


def test_the_verbs_of_the_standard_librarys_handler_work(site: Site) -> None:
    handler = QueueHandler()

    handler.enqueue(handler.prepare(record("by hand")))

    assert [event.message for event in site.events()] == ["by hand"]


def test_hooks_see_the_event_before_it_is_masked(spool: Path) -> None:
    seen: list[object] = []

    def before_send(event: Event) -> Event:
        seen.append(event.extra["password"])
        return event

    with Site(spool, callbacks=Callbacks(before_send, lambda: {"tenant": 7}), redact=Redact(mask="***")) as site:
        QueueHandler().handle(record(password="hunter2"))
        (event,) = site.events()

    assert seen == ["hunter2"]
    assert event.extra == {"password": "***"}
    assert event.context == {"tenant": 7}


@pytest.mark.parametrize("keeps", [False, True], ids=["nothing is kept", "the first is kept"])
def test_a_hook_that_returns_nothing_for_everything_is_said_once(
    keeps: bool, spool: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forget_warnings()

    def before_send(event: Event) -> Event | None:
        return event if keeps and event.message == "0" else None

    with Site(spool, callbacks=Callbacks(before_send)) as site:
        for number in range(50):
            QueueHandler().handle(record(str(number)))

        assert sum(site.queue.drops["before_send"].values()) == 50 - keeps
    assert capfd.readouterr().err.count("return event") == (not keeps)


def test_what_a_hook_drops_or_breaks_is_counted_by_level(spool: Path) -> None:
    def before_send(event: Event) -> Event | None:
        if event.message == "broken":
            raise ValueError
        return None

    with Site(spool, callbacks=Callbacks(before_send)) as site:
        QueueHandler().handle(record("dropped", level=40))
        QueueHandler().handle(record("broken", level=40))

        assert site.queue.drops == {"before_send": {"ERROR": 2}}
        assert site.queue.emitted == 2
        assert site.events() == []


class Slow:
    """Callbacks that move a fake clock on by ``takes`` seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 1.0

    def clock(self) -> float:
        return self.now

    def before_send(self, event: Event) -> Event:
        self.now += self.takes
        return event

    def context(self) -> dict[str, str]:
        self.now += self.takes
        return {"tenant": "seven"}


def test_a_hook_that_is_slow_twice_is_left_alone_and_its_events_are_counted(
    spool: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = Slow()
    with Site(spool, callbacks=Callbacks(slow.before_send), clock=slow.clock) as site:
        handler = QueueHandler()
        for number in range(5):
            handler.handle(record("%d", number, level=40))
        slow.now, slow.takes = slow.now + 10.0, 0.0
        handler.handle(record("again"))

        assert [event.message for event in site.events()] == ["0", "1", "again"]
        assert site.queue.drops == {"before_send": {"ERROR": 3}}
        assert site.queue.emitted == 6
    assert slow.now == 12.0
    assert len([line for line in capfd.readouterr().err.splitlines() if "before_send" in line]) == 1


def test_patterns_that_are_slow_twice_are_suspended_and_their_events_are_counted(
    spool: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ticks = iter(range(0, 1000, 2))  # the clock moves on by 2 s each time it is read
    with Site(spool, redact=Redact(patterns=(r"C-\d+",)), clock=lambda: float(next(ticks))) as site:
        for number in range(5):
            QueueHandler().handle(record("C-%d", number))

        assert [event.message for event in site.events()] == ["[redacted]", "[redacted]"]
        assert site.queue.drops == {"redact": {"INFO": 3}}
    assert "`Redact.patterns` are slow" in capfd.readouterr().err


def test_a_context_that_is_slow_twice_is_left_alone_and_a_marker_says_so(spool: Path) -> None:
    slow = Slow()
    with Site(spool, callbacks=Callbacks(context=slow.context), clock=slow.clock) as site:
        handler = QueueHandler()
        for _ in range(3):
            handler.handle(record())
        slow.now, slow.takes = slow.now + 10.0, 0.0
        handler.handle(record())
        contexts = [event.context for event in site.events()]

    assert contexts[:2] == [{"tenant": "seven"}] * 2
    assert list(contexts[2]) == ["[context]"]
    assert "not called" in contexts[2]["[context]"]
    assert contexts[3] == {"tenant": "seven"}


def test_a_thread_that_is_late_uses_the_pipeline_that_came_instead(spool: Path, tmp_path: Path) -> None:
    with Site(spool) as first:
        (tmp_path / "x").mkdir(mode=0o700)
        with Site(tmp_path / "x") as second:
            first.queue.close()

            assert first.pipeline.enqueue(Event(message="late"))

            assert [event.message for event in second.events()] == ["late"]
        assert first.queue.drops == {}


def test_many_threads_lose_none(site: Site) -> None:
    handler = QueueHandler()
    threads = [threading.Thread(target=lambda: [handler.handle(record("x")) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(site.events()) == 800
    assert site.queue.emitted == 800


def test_the_queue_of_a_handler_is_the_processs_own_as_a_multiprocessing_queue(site: Site) -> None:
    handler = QueueHandler(queue.Queue())
    handler.handle(record("paid"))

    assert isinstance(handler.queue, multiprocessing.queues.Queue)
    found: Any = handler.queue
    assert (found.path, found.token) == (site.queue.path, site.queue.token)
    assert unpack(found.get(timeout=PATIENCE)).message == "paid"
    found.put_nowait(b"by hand", level=20)
    assert (site.queue.emitted, site.queue.get(timeout=PATIENCE)) == (2, b"by hand")


def test_a_handler_has_no_queue_before_start() -> None:
    before = active.pipeline
    set_pipeline(None)
    try:
        assert QueueHandler().queue is None
    finally:
        set_pipeline(before)


@pytest.mark.parametrize("level", ["info", "INFO", "Info", 20])
def test_a_level_is_a_number_or_a_name_in_any_case(level: int | str) -> None:
    handler = QueueHandler(level=level)
    assert handler.level == logging.INFO
    handler.setLevel("error")
    assert handler.level == logging.ERROR


def test_an_unknown_level_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="loud"):
        QueueHandler(level="loud")


def test_a_formatter_is_ignored_and_that_is_said(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    handler = QueueHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    handler.handle(record("paid"))

    assert [event.message for event in site.events()] == ["paid"]
    assert "ignores its formatter" in capfd.readouterr().err


def test_the_formatter_that_basicconfig_gives_every_handler_is_nobodys_wish(capfd: pytest.CaptureFixture[str]) -> None:
    QueueHandler().setFormatter(logging.Formatter(logging.BASIC_FORMAT))

    assert capfd.readouterr().err == ""
