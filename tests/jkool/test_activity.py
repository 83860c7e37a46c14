"""Activities: their fields, how they end, and which events and activities are their children."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shipper
import shipper.trakerr
from shipper.jkool import streaming

from ..support.jkool_service import FQN, Service, running_service
from ..support.waiting import PATIENCE


@pytest.fixture
def service(spool: Path) -> Iterator[Service]:
    with running_service(spool) as server:
        yield server


@pytest.fixture
def logger(service: Service, request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A logger of the test's own, with a handler."""
    made = logging.getLogger(f"own.{request.node.name}")
    made.setLevel(logging.INFO)
    made.addHandler(streaming.jKoolHandler("your-token"))
    yield made
    made.handlers.clear()


def sorted_out(events: list[dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Split into activities by their operation, and events by their message."""
    activities = {event["operation"]: event for event in events if event["type"] == "ACTIVITY"}
    return activities, {event["msg-text"]: event for event in events if event["type"] == "EVENT"}


# -- logActivity ---------------------------------------------------------------------------------------------------


def test_an_activity_is_logged_with_what_is_known_of_it(service: Service, logger: logging.Logger) -> None:
    tracking_id = streaming.logActivity(
        logger,
        "order",
        FQN,
        start_time_usec=1000,
        elapsed_time_usec=500,
        event_ids=["a", "b"],
        corr_id="c",
        user="jill",
    )

    event = service.only()
    assert {key: event[key] for key in event if key not in ("time-usec", "pid", "tid")} == {
        "operation": "order",
        "type": "ACTIVITY",
        "severity": "INFO",
        "source-fqn": FQN,
        "tracking-id": tracking_id,
        "corr-id": "c",
        "user": "jill",
        "start-time-usec": 1000,
        "end-time-usec": 1500,
        "elapsed-time-usec": 500,
        "status": "END",
        "id-count": 2,
        "id-set": ["a", "b"],
    }


def test_an_activity_with_an_exception_has_its_status(service: Service, logger: logging.Logger) -> None:
    streaming.logActivity(logger, "text", exception="it failed")
    streaming.logActivity(logger, "object", exception=ValueError("no"))
    streaming.logActivity(logger, "unknown", exception="it failed", status="UNKNOWN")

    activities, _ = sorted_out(service.delivered())
    assert {name: one["status"] for name, one in activities.items()} == {
        "text": "EXCEPTION",
        "object": "EXCEPTION",
        "unknown": "UNKNOWN",
    }
    assert activities["text"]["exception"] == "it failed"
    assert activities["object"]["exception"] == "ValueError: no"


def test_a_wrong_status_is_warned_of_and_sent_as_given(service: Service, logger: logging.Logger) -> None:
    with pytest.warns(UserWarning, match="status"):
        streaming.logActivity(logger, "order", status="DONE")  # type: ignore[arg-type]

    assert service.only()["status"] == "DONE"


def test_a_thousand_events_are_named_and_all_are_counted(service: Service, logger: logging.Logger) -> None:
    streaming.logActivity(logger, "order", event_ids=[str(number) for number in range(1200)])

    event = service.only()
    assert event["id-count"] == 1200
    assert event["id-set"] == [str(number) for number in range(1000)]


# -- a block -------------------------------------------------------------------------------------------------------


def test_a_block_is_timed_and_knows_its_events(service: Service, logger: logging.Logger) -> None:
    before = time.time_ns() // 1000
    with streaming.activity("order", source_fqn=FQN, corr_id="c") as order:
        logger.info("plain")
        streaming.logEvent(logger, "event", FQN)
    logger.info("outside")

    activities, events = sorted_out(service.delivered())
    activity = activities["order"]
    assert activity["status"] == "END"
    assert activity["tracking-id"] == order.tracking_id
    assert activity["corr-id"] == "c"
    assert before <= activity["start-time-usec"] <= activity["end-time-usec"] <= time.time_ns() // 1000
    assert activity["elapsed-time-usec"] == activity["end-time-usec"] - activity["start-time-usec"]
    assert activity["id-set"] == [events["plain"]["tracking-id"], events["event"]["tracking-id"]]
    assert activity["id-set"] == list(order.event_ids)
    assert {name: event.get("parent-tracking-id") for name, event in events.items()} == {
        "plain": order.tracking_id,
        "event": order.tracking_id,
        "outside": None,
    }


def test_an_exception_ends_an_activity_and_is_raised_on(service: Service, logger: logging.Logger) -> None:
    with pytest.raises(IndexError), streaming.activity("order"):
        raise IndexError("no such order")

    activity = service.only()
    assert (activity["status"], activity["severity"]) == ("EXCEPTION", "ERROR")
    assert activity["exception"].endswith("IndexError: no such order")


def test_a_status_that_the_block_sets_is_sent(service: Service, logger: logging.Logger) -> None:
    with streaming.activity("order") as order:
        order.status = "UNKNOWN"

    assert service.only()["status"] == "UNKNOWN"


def test_an_event_that_names_its_parent_or_has_no_id_keeps_that(service: Service, logger: logging.Logger) -> None:
    with streaming.activity("order"):
        streaming.logEvent(logger, "other", FQN, parent_tracking_id="other")
        streaming.logEvent(logger, "nameless", FQN, tracking_id=None)

    activities, events = sorted_out(service.delivered())
    assert events["other"]["parent-tracking-id"] == "other"
    assert "tracking-id" not in events["nameless"]
    assert activities["order"]["id-set"] == [events["other"]["tracking-id"]]


def test_an_inner_activity_is_the_child_of_the_outer(service: Service, logger: logging.Logger) -> None:
    with streaming.activity("outer") as outer:
        with streaming.activity("inner") as inner:
            logger.info("inside")
        logger.info("between")

    activities, events = sorted_out(service.delivered())
    assert activities["inner"]["parent-tracking-id"] == outer.tracking_id
    assert "parent-tracking-id" not in activities["outer"]
    assert events["inside"]["parent-tracking-id"] == inner.tracking_id
    assert events["between"]["parent-tracking-id"] == outer.tracking_id
    assert activities["outer"]["id-set"] == [events["between"]["tracking-id"]]


def test_a_logger_that_is_given_sees_the_activity(service: Service, logger: logging.Logger) -> None:
    seen: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        seen.append(record.getMessage())
        return True

    logger.addFilter(note)

    with streaming.activity("order", logger):
        pass

    assert service.only()["operation"] == "order"
    assert seen == ["order END"]


def test_an_activity_happens_once(service: Service) -> None:
    order = streaming.activity("order")
    with order:
        pass

    with pytest.raises(RuntimeError, match="once"), order:
        pass


def test_a_root_handler_gives_plain_records_their_parent_too(service: Service, request: pytest.FixtureRequest) -> None:
    logger = logging.getLogger(f"own.{request.node.name}")
    shipper.start(shipper.JKool("your-token", service.url), logger=logger, app="shop")
    logger.setLevel(logging.INFO)

    with streaming.activity("order") as order, shipper.trakerr.context(user="jill"):
        logger.info("plain")
        streaming.logEvent(logger, "event", FQN)

    activities, events = sorted_out(service.delivered())
    assert [event["parent-tracking-id"] for event in events.values()] == [order.tracking_id] * 2
    assert activities["order"]["id-count"] == 2
    assert not any("eventUser" in event for event in events.values())


def test_a_record_that_two_handlers_see_is_in_the_activity_once(service: Service, logger: logging.Logger) -> None:
    logger.addHandler(streaming.jKoolHandler("another"))

    with streaming.activity("order") as order:
        logger.info("plain")

    events = [event for event in service.delivered() if event["type"] == "EVENT"]
    assert [event["tracking-id"] for event in events] == [order.event_ids[0]] * 2
    assert len(order.event_ids) == 1


def test_a_queue_to_another_thread_keeps_an_event_in_its_activity(service: Service, logger: logging.Logger) -> None:
    way: queue.Queue[logging.LogRecord] = queue.Queue()
    listener = logging.handlers.QueueListener(way, *logger.handlers)
    logger.handlers = [logging.handlers.QueueHandler(way)]
    listener.start()

    with streaming.activity("order") as order:
        streaming.logEvent(logger, "event", FQN)
    listener.stop()

    activities, events = sorted_out(service.delivered())
    assert events["event"]["parent-tracking-id"] == order.tracking_id
    assert activities["order"]["id-set"] == [events["event"]["tracking-id"]]


# -- threads, tasks, functions -------------------------------------------------------------------------------------


def test_threads_are_kept_apart(service: Service, logger: logging.Logger) -> None:
    both_inside = threading.Barrier(2)

    def work(name: str) -> None:
        with streaming.activity(name):
            both_inside.wait(PATIENCE)
            logger.info("in %s", name)
            both_inside.wait(PATIENCE)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    with streaming.activity("main"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    activities, events = sorted_out(service.delivered())
    for name in ("a", "b"):
        assert events[f"in {name}"]["parent-tracking-id"] == activities[name]["tracking-id"]
        assert activities[name]["id-set"] == [events[f"in {name}"]["tracking-id"]]
        assert "parent-tracking-id" not in activities[name]


def test_tasks_are_kept_apart_and_begin_with_their_maker_s(service: Service, logger: logging.Logger) -> None:
    async def work(name: str) -> None:
        with streaming.activity(name):
            await asyncio.sleep(0)
            logger.info("in %s", name)
            await asyncio.sleep(0)

    async def main() -> None:
        with streaming.activity("main"):
            await asyncio.gather(work("a"), work("b"))
            logger.info("in main")

    asyncio.run(main())

    activities, events = sorted_out(service.delivered())
    for name in ("a", "b", "main"):
        assert events[f"in {name}"]["parent-tracking-id"] == activities[name]["tracking-id"]
        assert activities[name]["id-count"] == 1
    assert activities["a"]["parent-tracking-id"] == activities["main"]["tracking-id"]


def test_each_call_of_a_function_is_an_activity(service: Service, logger: logging.Logger) -> None:
    @streaming.activity()
    def double(number: int) -> int:
        """Twice as much."""
        logger.info("doubling %d", number)
        return 2 * number

    assert [double(1), double(2)] == [2, 4]
    assert (double.__name__, double.__doc__) == ("double", "Twice as much.")

    events = service.delivered()
    done = [event for event in events if event["type"] == "ACTIVITY"]
    assert [one["operation"] for one in done] == ["double", "double"]
    assert len({one["tracking-id"] for one in done}) == 2
    assert [one["id-count"] for one in done] == [1, 1]


def test_an_async_function_is_an_activity_until_it_is_awaited(service: Service, logger: logging.Logger) -> None:
    @streaming.activity("work", logger)
    async def work() -> int:
        await asyncio.sleep(0)
        logger.info("inside")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        asyncio.run(work())

    activities, events = sorted_out(service.delivered())
    assert activities["work"]["status"] == "EXCEPTION"
    assert events["inside"]["parent-tracking-id"] == activities["work"]["tracking-id"]


def test_a_generator_can_not_be_decorated() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator"):
        streaming.activity("numbers")(numbers)
