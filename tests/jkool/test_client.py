"""The jKool client: jKoolHandler, logEvent, snapshots and properties, as the old client's README describes them."""

from __future__ import annotations

import datetime
import io
import logging
import time
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import shipper
import shipper.jkool
from shipper.jkool import streaming
from shipper.jkool.metrics import Property, Snapshot

from ..support.jkool_service import FQN, Service, running_service
from ..support.waiting import wait_until


@pytest.fixture
def service(spool: Path) -> Iterator[Service]:
    with running_service(spool) as server:
        yield server


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A new logger for the test, at its default level."""
    made = logging.getLogger(f"own.{request.node.name}")
    yield made
    made.handlers.clear()
    made.setLevel(logging.NOTSET)
    made.propagate = True


@pytest.fixture
def logger(service: Service, silent: logging.Logger) -> logging.Logger:
    """A logger with a handler; both let every level through."""
    silent.setLevel(1)
    silent.addHandler(streaming.jKoolHandler("your-token", level=1))
    return silent


# -- README examples -----------------------------------------------------------------------------------------------


def test_a_plain_record_is_sent_with_its_time(service: Service, silent: logging.Logger) -> None:
    """J1, J4: In the old client the README's first example raised KeyError; at its HEAD the event had no time."""
    silent.addHandler(streaming.jKoolHandler("your-token"))
    before = time.time_ns() // 1000

    silent.error("Test log")

    event = service.only()
    assert event["operation"] == silent.name
    assert event["type"] == "EVENT"
    assert event["msg-text"] == "Test log"
    assert event["severity"] == "ERROR"
    assert before <= event["time-usec"] <= time.time_ns() // 1000


def test_an_event_has_the_fields_of_2016_in_their_order_and_no_others(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logger, "This is an example", FQN)

    event = service.only()
    assert list(event) == ["operation", "type", "time-usec", "msg-text", "severity", "source-fqn", "tracking-id"]
    assert uuid.UUID(event["tracking-id"]).version == 4
    assert {**event, "time-usec": 0, "tracking-id": ""} == {
        "operation": logger.name,
        "type": "EVENT",
        "time-usec": 0,
        "msg-text": "This is an example",
        "severity": "INFO",
        "source-fqn": FQN,
        "tracking-id": "",
    }


def test_optional_parameters_decorate_an_event(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(
        logger,
        "This is an example",
        FQN,
        time_usec=1457524800000000,
        corr_id="your-correlator-id",
        location="Atlanta, Ga",
    )

    event = service.only()
    assert event["time-usec"] == 1457524800000000
    assert event["corr-id"] == "your-correlator-id"
    assert event["location"] == "Atlanta, Ga"


def test_a_snapshot_without_a_parent_belongs_to_the_event_that_carries_it(
    service: Service, logger: logging.Logger
) -> None:
    """J21: In the README's example the old client sent a parent-id that was no event's tracking-id."""
    payment = Snapshot("Payment", 1466662761000000, category="Order")
    payment.addProperty("order-no", "A17", "string")
    payment.addProperty("order-amount", 12, "integer")

    streaming.logEvent(logger, "Order Processed Succesfully", FQN, corr_id="c", snapshots=[payment])

    event = service.only()
    assert event["snapshots"] == [
        {
            "name": "Payment",
            "time-usec": 1466662761000000,
            "type": "SNAPSHOT",
            "parent-id": event["tracking-id"],
            "category": "Order",
            "properties": [
                {"name": "order-no", "value": "A17", "type": "string"},
                {"name": "order-amount", "value": 12, "type": "integer"},
            ],
        }
    ]
    assert payment.parent_id is None


def test_a_parent_that_is_given_stays(service: Service, logger: logging.Logger) -> None:
    tracking = str(uuid.uuid4())

    streaming.logEvent(logger, "m", FQN, corr_id=tracking, snapshots=[Snapshot("Payment", 1, parent_id=tracking)])

    assert service.only()["snapshots"] == [
        {"name": "Payment", "time-usec": 1, "type": "SNAPSHOT", "parent-id": tracking}
    ]


# -- parameters ----------------------------------------------------------------------------------------------------

EVERY = {
    "tracking_id": "85be9c0e-faea-4697-8336-c74720de09d0",
    "time_usec": 1457524800000000,
    "corr_id": ["a", "b"],
    "exception": "it failed",
    "resource": "queue",
    "wait_time_used": 5,
    "source_url": "https://example.com/",
    "pid": 12,
    "tid": "main",
    "comp_code": "WARNING",
    "reason_code": 17,
    "location": "Atlanta, Ga",
    "operation": "pay",
    "user": "jill",
    "start_time_usec": 1457524700000000,
    "end_time_usec": 1457524800000000,
    "elapsed_time_usec": 100000000,
    "msg_size": 7,
    "encoding": "none",
    "charset": "utf-8",
    "mime_type": "text/plain",
    "msg_age": 3,
    "msg_tag": "tag",
    "parent_tracking_id": "p",
    "properties": [{"name": "a", "value": 1.5, "type": "float"}],
    "snapshots": [{"name": "s", "time-usec": 1, "type": "SNAPSHOT"}],
}


def test_every_parameter_is_a_key(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logger, "m", FQN, severity=logging.ERROR, **EVERY)  # type: ignore[arg-type]

    event = service.only()
    assert {key: event.pop(key) for key in ("type", "msg-text", "severity", "source-fqn")} == {
        "type": "EVENT",
        "msg-text": "m",
        "severity": "ERROR",
        "source-fqn": FQN,
    }
    assert event == {name.replace("_", "-"): value for name, value in EVERY.items()}


def test_the_parameters_have_their_old_places(service: Service, logger: logging.Logger) -> None:
    places = list(EVERY)
    places.insert(places.index("pid"), "severity")
    values: list[Any] = [logging.WARNING if name == "severity" else EVERY[name] for name in places]

    streaming.logEvent(logger, "m", FQN, *values)

    event = service.only()
    assert event["severity"] == "WARNING"
    assert {name: event[name.replace("_", "-")] for name in EVERY} == EVERY


@pytest.mark.parametrize("value", [0, "", [], False, {}])
def test_only_none_is_left_out(service: Service, logger: logging.Logger, value: object) -> None:
    given = dict.fromkeys(EVERY, value)

    streaming.logEvent(logger, "", FQN, **given)  # type: ignore[arg-type]

    event = service.only()
    assert event["msg-text"] == ""
    assert {name: event[name.replace("_", "-")] for name in EVERY} == given


def test_none_for_an_id_or_a_source_leaves_it_out(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logger, "m", None, tracking_id=None, time_usec=None)

    assert list(service.only()) == ["operation", "type", "time-usec", "msg-text", "severity"]


def test_a_message_is_sent_as_given(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logger, "100 % of %s", FQN)
    streaming.logEvent(logger, {"a": [1]}, FQN)

    assert [event["msg-text"] for event in service.delivered()] == ["100 % of %s", {"a": [1]}]


def test_each_event_has_an_id_and_a_time_of_its_own(service: Service, logger: logging.Logger) -> None:
    """J3, J4: In the old client all events had the id and the time of the import."""
    for _ in range(3):
        streaming.logEvent(logger, "m", FQN)

    events = service.delivered()
    times = [event["time-usec"] for event in events]
    assert len({event["tracking-id"] for event in events}) == 3
    assert times == sorted(set(times))
    assert any(time_usec % 1000000 for time_usec in times)


@pytest.mark.parametrize(
    ("level", "severity"),
    [(3, "NONE"), (5, "TRACE"), (10, "DEBUG"), (25, "NOTICE"), (35, "WARNING"), (50, "CRITICAL"), (99, "FATAL")],
)
def test_a_level_of_the_applications_own_becomes_a_severity_that_the_service_knows(
    service: Service, logger: logging.Logger, level: int, severity: str
) -> None:
    """J15: The old client sent "Level 35" unchanged."""
    streaming.logEvent(logger, "m", FQN, severity=level)
    logger.log(level, "plain")

    assert [event["severity"] for event in service.delivered()] == [severity, severity]


def test_a_severity_may_be_a_name(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logger, "m", FQN, severity="error")

    assert service.only()["severity"] == "ERROR"
    with pytest.raises(shipper.ConfigurationError, match="severity"):
        streaming.logEvent(logger, "m", FQN, severity="loud")


def test_what_json_does_not_know_is_sent_all_the_same(service: Service, logger: logging.Logger) -> None:
    """J18: The old client sent NaN, which is not JSON; for other types the call raised TypeError."""
    values = [float("nan"), {1}, b"ab", datetime.datetime(2024, 1, 2), uuid.UUID(int=1), object, Property("a", 1, "b")]

    streaming.logEvent(logger, "m", FQN, corr_id=values, msg_age=float("inf"))
    both = [Property("a", float("nan"), "float"), Property("b", b"x", "bytes")]
    streaming.logEvent(logger, "m", FQN, properties=both)

    first, second = service.delivered()
    assert "msg-age" not in first
    assert first["corr-id"][:4] == [[1], "ab", "2024-01-02T00:00:00", "00000000-0000-0000-0000-000000000001"]
    assert first["corr-id"][-1] == {"name": "a", "value": 1, "type": "b"}
    assert second["properties"] == [{"name": "b", "value": "x", "type": "bytes"}]
    assert not any(b"NaN" in body for body in service.bodies)


class Point(NamedTuple):
    x: int
    y: Property


def test_values_are_spelled_as_json_spells_them_wherever_they_are(service: Service, logger: logging.Logger) -> None:
    """Metrics may be in any list, tuple or mapping; named tuples become lists, keys True and None "true" and "null"."""
    values = OrderedDict({True: Point(1, Property("a", 2, "integer")), None: [Snapshot("s", 3)]})

    streaming.logEvent(logger, "m", FQN, user=values)

    assert service.only()["user"] == {
        "true": [1, {"name": "a", "value": 2, "type": "integer"}],
        "null": [{"name": "s", "time-usec": 3, "type": "SNAPSHOT"}],
    }


class Broken(Snapshot):
    def getDict(self, parent_id: str | None = None) -> dict[str, object]:
        raise RuntimeError("no dict today")


def test_a_snapshot_of_a_class_that_fails_does_not_reach_the_application(
    service: Service, logger: logging.Logger
) -> None:
    streaming.logEvent(logger, "m", FQN, snapshots=[Broken("s", 1)])

    assert "Snapshot('s', 1" in service.only()["snapshots"][0]


def test_text_of_any_language_arrives(service: Service, logger: logging.Logger) -> None:
    """J13: The old client encoded text as Latin-1."""
    streaming.logEvent(logger, "Grüße € 漢字 😀 \ud800", FQN, user="ß")

    event = service.only()
    assert event["msg-text"] == "Grüße € 漢字 😀 \ud800"
    assert event["user"] == "ß"
    assert all(body.isascii() for body in service.bodies)


def test_what_is_changed_after_the_call_is_sent_as_it_was(service: Service, logger: logging.Logger) -> None:
    ids = ["a"]
    snapshot = Snapshot("s", 1)

    streaming.logEvent(logger, "m", FQN, corr_id=ids, snapshots=[snapshot])
    ids.append("b")
    snapshot.addProperty("late", 1, "integer")

    event = service.only()
    assert event["corr-id"] == ["a"]
    assert "properties" not in event["snapshots"][0]


# -- exceptions ----------------------------------------------------------------------------------------------------


def fail() -> None:
    raise IndexError("no such order")


def test_an_exception_is_sent_as_its_traceback(service: Service, logger: logging.Logger) -> None:
    """J16: In the old client an exception object made the call raise TypeError."""
    try:
        fail()
    except IndexError as error:
        streaming.logEvent(logger, "m", FQN, exception=error)

    text = service.only()["exception"]
    assert text.startswith("Traceback (most recent call last):\n")
    assert 'in fail\n    raise IndexError("no such order")\n' in text
    assert text.endswith("IndexError: no such order")


def test_exc_info_is_sent_when_no_exception_is_given(service: Service, logger: logging.Logger) -> None:
    """J16: The old client never sent exc_info."""
    try:
        fail()
    except IndexError:
        logger.exception("plain")
        streaming.logEvent(logger, "m", FQN, exc_info=True)
        streaming.logEvent(logger, "m", FQN, exc_info=True, exception="mine")
        streaming.logEvent(logger, "m", FQN)

    plain, with_info, with_text, without = service.delivered()
    assert plain["exception"].endswith("IndexError: no such order")
    assert with_info["exception"].endswith("IndexError: no such order")
    assert with_text["exception"] == "mine"
    assert "exception" not in without


# -- snapshots and properties --------------------------------------------------------------------------------------


def test_a_snapshot_without_a_time_takes_now() -> None:
    """J5: In the old client such a snapshot had the time of the import."""
    before = time.time_ns() // 1000

    first, second = Snapshot("a"), Snapshot("b", None)

    assert before <= first.time_usec <= second.time_usec <= time.time_ns() // 1000
    assert Snapshot("c", 0).getDict() == {"name": "c", "time-usec": 0, "type": "SNAPSHOT"}


def test_a_snapshot_keeps_a_list_of_its_own() -> None:
    """J25: The old client appended to the caller's list."""
    mine = [Property("a", 1, "integer")]

    snapshot = Snapshot("s", 1, properties=mine)
    snapshot.addProperty("b", 2, "integer")

    assert len(mine) == 1
    assert snapshot.properties is not None
    assert len(snapshot.properties) == 2


@pytest.mark.parametrize("properties", [{"a": 1}, "text", 5, []])
def test_what_is_given_for_properties_and_is_no_list_is_sent_as_it_is(
    service: Service, logger: logging.Logger, properties: Any
) -> None:
    streaming.logEvent(logger, "m", FQN, snapshots=[Snapshot("s", 1, properties=properties)])

    assert service.only()["snapshots"][0]["properties"] == properties


def test_properties_may_come_one_by_one() -> None:
    snapshot = Snapshot("s", 1, properties=(Property(name, 1, "integer") for name in "ab"))

    assert snapshot.properties is not None
    assert len(snapshot.properties) == 2


def test_metrics_are_reachable_from_streaming_too() -> None:
    assert streaming.Snapshot is Snapshot is shipper.jkool.metrics.Snapshot
    assert streaming.Property is Property
    assert streaming.HttpHandler is streaming.jKoolHandler


# -- warnings ------------------------------------------------------------------------------------------------------


def log_twice(logger: logging.Logger, source_fqn: str) -> None:
    for _ in range(2):
        streaming.logEvent(logger, "This is an example", source_fqn)


def test_an_event_that_its_logger_hides_is_warned_of_once(service: Service, silent: logging.Logger) -> None:
    """J2: With the old client the README's own example sent nothing, without a warning."""
    silent.addHandler(streaming.jKoolHandler("your-token"))

    with pytest.warns(UserWarning, match=r"INFO.*lets through WARNING") as heard:
        log_twice(silent, FQN)

    assert [warning.filename for warning in heard] == [__file__]
    assert service.delivered() == []


@pytest.mark.parametrize("wrong", ["nonsense", "APPL", "appl=a", "APPL=a##SERVER=b", "WHAT=a", "APPL="])
def test_a_wrong_source_is_warned_of_once_and_sent_as_given(
    service: Service, logger: logging.Logger, wrong: str
) -> None:
    wrong = f"{wrong}#{uuid.uuid4()}"

    with pytest.warns(UserWarning, match="source_fqn") as heard:
        log_twice(logger, wrong)

    assert len(heard) == 1
    assert [event["source-fqn"] for event in service.delivered()] == [wrong, wrong]


# -- loggers and other handlers ------------------------------------------------------------------------------------


def test_other_handlers_see_an_event_as_a_plain_message(service: Service, logger: logging.Logger) -> None:
    stream = io.StringIO()
    other = logging.StreamHandler(stream)
    other.setFormatter(logging.Formatter("%(levelname)s %(message)s %(filename)s"))
    logger.addHandler(other)

    streaming.logEvent(logger, "hello", FQN, user="jill")

    assert stream.getvalue() == "INFO hello test_client.py\n"
    assert service.only()["user"] == "jill"


def test_an_adapter_s_extras_come_along(service: Service, logger: logging.Logger) -> None:
    streaming.logEvent(logging.LoggerAdapter(logger, {"request": "r1"}), "m", FQN, user="jill")

    event = service.only()
    assert event["user"] == "jill"
    assert event["properties"] == [{"name": "request", "type": "string", "value": "r1"}]


def test_a_root_handler_turns_it_into_the_same_event(service: Service, silent: logging.Logger) -> None:
    shipper.start(shipper.JKool("your-token", service.url), logger=silent)
    silent.setLevel(logging.INFO)

    streaming.logEvent(silent, "m", FQN, corr_id="c")

    event = service.only()
    assert list(event) == [
        "operation", "type", "time-usec", "msg-text", "severity", "source-fqn", "tracking-id", "corr-id"
    ]  # fmt: skip


@pytest.mark.parametrize("handler_first", [True, False])
def test_a_record_that_two_handlers_see_goes_out_once(
    service: Service, silent: logging.Logger, monkeypatch: pytest.MonkeyPatch, handler_first: bool
) -> None:
    silent.setLevel(logging.INFO)
    monkeypatch.setenv("SHIPPER_APP", "shop")
    if handler_first:
        silent.addHandler(streaming.jKoolHandler("your-token"))
    shipper.start(shipper.JKool("your-token", service.url), logger=silent)
    if not handler_first:
        silent.addHandler(streaming.jKoolHandler("your-token"))
    silent.addHandler(streaming.jKoolHandler("your-token"))

    silent.info("plain")
    streaming.logEvent(silent, "event", FQN)

    assert [event["msg-text"] for event in service.delivered()] == ["plain", "event"]


def test_two_tokens_are_two_places(service: Service, silent: logging.Logger) -> None:
    silent.addHandler(streaming.jKoolHandler("one"))
    silent.addHandler(streaming.jKoolHandler("two"))

    silent.error("m")

    assert len(service.delivered()) == 2
    keys = {request.headers["x-api-key"] for request in service.requests}
    assert keys == {"one", "two"}


def test_events_go_out_in_the_order_of_logging(service: Service, logger: logging.Logger) -> None:
    for number in range(100):
        streaming.logEvent(logger, f"m{number}", FQN)

    assert [event["msg-text"] for event in service.delivered()] == [f"m{number}" for number in range(100)]


# -- allTags -------------------------------------------------------------------------------------------------------


def test_all_tags_name_the_attributes_that_are_sent(service: Service, logger: logging.Logger) -> None:
    extra = {
        "allTags": ["my_tag", "zero", "type", "lineno", "args", "msg", "snap"],
        "my_tag": "t", "zero": 0, "type": "SEND", "snap": [Snapshot("s", 1)],
    }  # fmt: skip

    logger.warning("a %s", "b", extra=extra)

    event = service.only()
    assert (event["my-tag"], event["zero"], event["type"], event["args"]) == ("t", 0, "SEND", ["b"])
    assert event["msg"] == "a %s"
    assert event["msg-text"] == "a b"
    assert isinstance(event["lineno"], int)
    assert event["snap"] == [{"name": "s", "time-usec": 1, "type": "SNAPSHOT"}]
    assert "properties" not in event


def test_a_missing_tag_is_skipped_alone(service: Service, logger: logging.Logger) -> None:
    """J29: In the old client one tag without a value dropped all tags, or made the call raise KeyError."""
    logger.warning("m", extra={"allTags": ["there", "nowhere"], "there": 1})
    logger.warning("m", extra={"allTags": []})

    first, second = service.delivered()
    assert first["there"] == 1
    assert "nowhere" not in first
    assert second["msg-text"] == "m"


# -- the record's context ------------------------------------------------------------------------------------------


def test_a_plain_record_tells_where_it_comes_from(service: Service, logger: logging.Logger) -> None:
    """J28: The old client sent no process, thread, file or line."""
    logger.info("m", extra={"amount": 12.5})

    event = service.only()
    assert event["location"].startswith(f"{__file__}:")
    assert isinstance(event["pid"], int)
    assert isinstance(event["tid"], int)
    assert event["source-fqn"].startswith("APPL=")
    assert event["properties"] == [{"name": "amount", "type": "float", "value": 12.5}]


def test_a_formatter_makes_the_message_of_a_plain_record(service: Service, logger: logging.Logger) -> None:
    """J28: The old client ignored the formatter."""
    handler = logger.handlers[0]
    handler.setFormatter(logging.Formatter("<%(levelname)s> %(message)s"))
    logger.info("a %s", "b")
    streaming.logEvent(logger, "as given", FQN)
    handler.setFormatter(logging.Formatter("%(nothing)s"))
    logger.info("c")

    assert [event["msg-text"] for event in service.delivered()] == ["<INFO> a b", "as given", "c"]


# -- construction --------------------------------------------------------------------------------------------------


def test_a_level_is_a_number_or_a_name(service: Service, silent: logging.Logger) -> None:
    """J14: The old client accepted a name, and raised TypeError at the first record."""
    handler = streaming.jKoolHandler("your-token", level="ERROR")
    silent.addHandler(handler)
    silent.setLevel(logging.DEBUG)

    silent.warning("hidden")
    silent.error("seen")
    handler.setLevel("debug")
    silent.debug("seen too")

    assert [event["msg-text"] for event in service.delivered()] == ["seen", "seen too"]
    assert streaming.jKoolHandler("your-token").level == logging.INFO


def test_the_old_names_of_token_and_url_are_known(service: Service, silent: logging.Logger) -> None:
    silent.addHandler(streaming.HttpHandler(accessToken="old", urlStr=f"{service.url}/JESL"))

    silent.error("m")

    assert service.only()["msg-text"] == "m"
    assert {request.target for request in service.requests} == {"/JESL"}
    assert {request.headers["x-api-key"] for request in service.requests} == {"old"}


@pytest.mark.parametrize("url", ["data.jkoolcloud.com", "ftp://data.jkoolcloud.com", "http://"])
def test_a_url_without_a_scheme_that_we_speak_is_refused(spool: Path, url: str) -> None:
    """J26: The old client lost the host and connected to localhost."""
    with pytest.raises(shipper.ConfigurationError, match=r"scheme|address"):
        streaming.jKoolHandler("your-token", url)


@pytest.mark.parametrize("token", [None, "", 5])
def test_a_token_that_can_t_be_one_is_refused(token: Any) -> None:
    with pytest.raises(shipper.ConfigurationError, match="token"):
        streaming.jKoolHandler(token)


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(shipper.ConfigurationError, match="level"):
        streaming.jKoolHandler("t", level="LOUD")


def test_a_closed_handler_ships_nothing_and_what_still_comes_is_counted(
    service: Service, logger: logging.Logger
) -> None:
    """J20: In the old client close() had no effect."""
    logger.info("before")
    logger.handlers[0].close()
    logger.handlers[0].close()

    logger.info("after")

    assert [event["msg-text"] for event in service.delivered()] == ["before"]
    wait_until(lambda: shipper.status().dropped == {"after_stop": {"INFO": 1}})


def test_nothing_is_printed(service: Service, logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    """J10: The old client printed each connection and each answer."""
    logger.info("m")
    streaming.logEvent(logger, "m", FQN)

    assert len(service.delivered()) == 2
    assert capfd.readouterr() == ("", "")


def test_an_authorization_error_shows_its_value() -> None:
    error = streaming.AuthorizationError("no")

    assert error.value == "no"
    assert str(error) == "'no'"
    assert isinstance(error, shipper.ShipperError)


def test_no_warning_comes_out_of_good_use(service: Service, logger: logging.Logger) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        streaming.logEvent(logger, "m", FQN)

    assert service.only()["msg-text"] == "m"
