"""What goes to jKool, field by field."""

from __future__ import annotations

import datetime
import gzip
import json
import logging
import os
import pickle
import platform
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper._version import __version__
from shipper.application.capture.record import from_record
from shipper.backends.http.sender import Sender
from shipper.backends.jkool import JKool
from shipper.backends.protocol import AppContext, HttpBackend, HttpResponse
from shipper.backends.wire.jkool_event import FIELDS, as_property, fqn_problem, severity
from shipper.errors import ConfigurationError, UnauthorisedError
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.sanitize import sanitize

from ..support.servers import Reply, Request, Server

CONTEXT = AppContext("checkout", "/srv/app", "web-1", "10.0.0.7", lambda time: None)
ID = EventId(bytes(range(8)), 17)
TIME = 1795426903.987654
FQN = "APPL=Py#SERVER=s100#NETADDR=11.0.0.2#DATACENTER=DC1#GEOADDR=52.52437,13.41053"


def body_of(event: Event, backend: JKool | None = None, context: AppContext = CONTEXT) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((backend or JKool("t")).body([event], context))
    return body


def logged(level: int = logging.INFO, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "time": TIME,
        "level": level,
        "level_name": logging.getLevelName(level),
        "logger": "orders",
        "message": "order 17 paid",
        "path": "/srv/app/orders.py",
        "line": 12,
        "pid": 4711,
        "tid": 815,
        "id": ID,
    }
    return Event(**{**given, **fields})


# A record's body.


def test_a_records_body_has_the_captured_keys_in_their_order() -> None:
    """With the record's process, thread and place, and the event's own id."""
    assert list(body_of(logged()).items()) == [
        ("operation", "orders"),
        ("type", "EVENT"),
        ("time-usec", 1795426903987654),
        ("msg-text", "order 17 paid"),
        ("severity", "INFO"),
        ("source-fqn", "APPL=checkout#SERVER=web-1#NETADDR=10.0.0.7"),
        ("tracking-id", str(ID.uuid)),
        ("pid", 4711),
        ("tid", 815),
        ("location", "/srv/app/orders.py:12"),
    ]


def test_the_text_is_json_dumps_with_its_defaults() -> None:
    raw = JKool("t").body([logged(message="Grüße €")], CONTEXT)

    assert raw == json.dumps(json.loads(raw)).encode()
    assert b'"msg-text": "Gr\\u00fc\\u00dfe \\u20ac"' in raw


def test_the_tracking_id_is_a_uuid_and_the_same_at_every_retry() -> None:
    first, again = body_of(logged()), body_of(logged())

    assert first["tracking-id"] == again["tracking-id"]
    assert uuid.UUID(first["tracking-id"]).version == 4


@pytest.mark.parametrize(
    ("seconds", "microseconds"),
    [(1000000000.987654, 1000000000987654), (0.1, 100000), (0.0, 0), (TIME, 1795426903987654)],
)
def test_the_time_is_the_records_own_in_whole_microseconds(seconds: float, microseconds: int) -> None:
    assert body_of(logged(time=seconds))["time-usec"] == microseconds


@pytest.mark.parametrize(
    ("level", "name", "expected"),
    [
        (0, "NOTSET", "NONE"),
        (4, "Level 4", "NONE"),
        (5, "Level 5", "TRACE"),
        (9, "Level 9", "TRACE"),
        (10, "DEBUG", "DEBUG"),
        (19, "Level 19", "DEBUG"),
        (20, "INFO", "INFO"),
        (24, "Level 24", "INFO"),
        (25, "Level 25", "NOTICE"),
        (29, "Level 29", "NOTICE"),
        (30, "WARNING", "WARNING"),
        (30, "WARN", "WARNING"),
        (39, "Level 39", "WARNING"),
        (40, "ERR", "ERROR"),
        (49, "Level 49", "ERROR"),
        (50, "CRITICAL", "CRITICAL"),
        (59, "Level 59", "CRITICAL"),
        (60, "Level 60", "FATAL"),
        (35, "FAILURE", "FAILURE"),
        (99, "HALT", "HALT"),
        (10, "NOTICE", "NOTICE"),
    ],
)
def test_the_severity_is_the_number_s_unless_the_name_is_one_of_the_eleven(
    level: int, name: str, expected: str
) -> None:
    assert severity(level, name) == expected
    assert body_of(logged(level, level_name=name))["severity"] == expected


def test_the_source_can_be_set_and_is_otherwise_app_host_and_address() -> None:
    odd = AppContext("a#b=c", "/", "", "10.0.0.7", lambda time: None)

    assert body_of(logged(), JKool("t", source_fqn=FQN))["source-fqn"] == FQN
    assert body_of(logged(), context=odd)["source-fqn"] == "APPL=a_b_c#SERVER=unknown#NETADDR=10.0.0.7"
    assert fqn_problem(body_of(logged(), context=odd)["source-fqn"]) is None


# Exceptions.


def test_an_exception_is_sent_as_its_traceback_with_source_lines(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def pay():\n    raise KeyError('x')\n")
    os.utime(program, (TIME - 10, TIME - 10))
    frames = [Frame(str(program), 2, "pay")]
    event = logged(exceptions=[ExceptionInfo("raised", "builtins.KeyError", "KeyError", "'x'", frames)])

    assert body_of(event)["exception"] == (
        "Traceback (most recent call last):\n"
        f'  File "{program}", line 2, in pay\n'
        "    raise KeyError('x')\n"
        "KeyError: 'x'"
    )


def test_source_lines_of_a_file_that_changed_since_are_left_out(tmp_path: Path) -> None:
    """They would be other lines than those that ran."""
    program = tmp_path / "program.py"
    program.write_text("1\n2\n")
    os.utime(program, (TIME + 1, TIME + 1))
    event = logged(exceptions=[ExceptionInfo("raised", "a.B", "B", "m", [Frame(str(program), 2, "pay")])])

    assert body_of(event)["exception"].endswith("line 2, in pay\na.B: m")


def test_source_lines_of_a_missing_file_are_left_out() -> None:
    frames = [Frame("<stdin>", 1, "f"), Frame("/no/such.py", 2, "g"), Frame("a\0b", 3, "h")]
    event = logged(exceptions=[ExceptionInfo("raised", "a.B", "B", "m", frames)])

    assert len(body_of(event)["exception"].splitlines()) == 5


def test_a_real_exception_with_its_cause_is_all_there() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as exc:
        record = logging.LogRecord("n", 40, __file__, 1, "m", (), (type(exc), exc, exc.__traceback__))

    text = body_of(from_record(record))["exception"]

    assert "KeyError: 'inner'" in text
    assert "direct cause" in text
    assert text.endswith("ValueError: outer")
    assert 'raise KeyError("inner")' in text


# Extras.


def test_extras_become_typed_properties() -> None:
    extra = {"s": "text", "i": 17, "f": 12.5, "b": True, "n": None, "d": {"k": [1, "ä"]}, "y": b"\xff"}

    assert body_of(logged(extra=extra, context={"request": "r", "s": "no"}))["properties"] == [
        {"name": "request", "type": "string", "value": "r"},
        {"name": "s", "type": "string", "value": "text"},
        {"name": "i", "type": "int", "value": 17},
        {"name": "f", "type": "float", "value": 12.5},
        {"name": "b", "type": "bool", "value": True},
        {"name": "n", "type": "string", "value": "None"},
        {"name": "d", "type": "string", "value": '{"k": [1, "ä"]}'},
        {"name": "y", "type": "string", "value": "\\xff"},
    ]


@pytest.mark.parametrize(
    "value",
    [
        datetime.date(2026, 11, 23),
        datetime.datetime(2026, 11, 23, 12, 30),
        datetime.datetime(2026, 11, 23, 12, 30, 1, 5, datetime.timezone.utc),
        datetime.datetime(2026, 11, 23, 12, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))),
    ],
)
def test_a_date_is_a_date(value: object) -> None:
    """`sanitize` turns it into text, which is recognised as a date."""
    assert as_property("when", sanitize(value)) == {"name": "when", "type": "date", "value": str(sanitize(value))}


@pytest.mark.parametrize("value", ["12:30:00", "2026-11", "2026-11-23 or so", "20261123"])
def test_a_text_that_resembles_a_date_is_a_string(value: str) -> None:
    assert as_property("x", value)["type"] == "string"


def test_instructions_for_backends_are_not_properties() -> None:
    assert "properties" not in body_of(logged(extra={"allTags": [], "trakerr": {"event_user": "u"}}))


def test_a_stack_that_was_asked_for_is_a_property() -> None:
    body = body_of(logged(stack="Stack:"))

    assert body["properties"] == [{"name": "stack_info", "type": "string", "value": "Stack:"}]


def test_all_tags_pick_attributes_that_override_what_is_there() -> None:
    """Each is sent under its name, with ``-`` for ``_``; attributes that are missing or None are skipped."""
    extra = {
        "allTags": ["type", "severity", "lineno", "process", "corr_id", "msg_text", "missing", "empty", 5],
        "type": "LOG",
        "severity": "mine",
        "corr_id": ["c"],
        "msg_text": "other",
        "empty": None,
        "unnamed": 1,
    }

    body = body_of(logged(extra=extra))

    assert body["type"] == "LOG"
    assert body["severity"] == "mine"
    assert body["lineno"] == 12
    assert body["process"] == 4711
    assert body["corr-id"] == ["c"]
    assert body["msg-text"] == "other"
    assert body["properties"] == [{"name": "unnamed", "type": "int", "value": 1}]
    assert not {"missing", "empty", "corr_id", "allTags"} & set(body)


def test_all_tags_can_name_every_attribute_of_a_record() -> None:
    record = logging.LogRecord("n", 20, "/a/b.py", 3, "m %d", (1,), None, "func", "stack")
    record.allTags = [name for name in vars(record) if name not in ("args", "exc_info", "relativeCreated", "allTags")]
    record.message = record.getMessage()

    body = body_of(from_record(record))

    assert body["name"] == "n"
    assert body["msg"] == "m 1"
    assert body["levelname"] == "INFO"
    assert body["levelno"] == 20
    assert body["pathname"] == "/a/b.py"
    assert body["filename"] == "b.py"
    assert body["module"] == "b"
    assert body["lineno"] == 3
    assert body["funcName"] == "func"
    assert body["created"] == record.created
    assert body["process"] == os.getpid()
    assert body["threadName"] == record.threadName
    assert body["stack-info"] == "stack"


def test_all_tags_that_are_no_list_change_nothing() -> None:
    assert body_of(logged(extra={"allTags": "type", "type": "x"}))["type"] == "EVENT"


# Events of the two clients.


def test_a_clients_fields_override_the_records() -> None:
    data = {
        "snapshots": [{"name": "Payment", "time-usec": 1, "type": "SNAPSHOT"}],
        "operation": "pay",
        "time-usec": 1457524800000000,
        "msg-text": "m",
        "source-fqn": FQN,
        "tracking-id": "85be9c0e-faea-4697-8336-c74720de09d0",
        "corr-id": "c",
        "location": "Atlanta, Ga",
        "user": "",
        "comp-code": 0,
        "pid": None,
        "properties": [],
    }

    body = body_of(logged(kind="jkool", data=data))

    assert {key: body[key] for key in data if key != "pid"} == {key: data[key] for key in data if key != "pid"}
    assert "pid" not in body
    assert body["tid"] == 815
    assert list(body) == [key for key in FIELDS if key in body]


def test_a_clients_own_exception_text_wins() -> None:
    event = logged(kind="jkool", exceptions=[ExceptionInfo("raised", "a.B", "B", "m")], data={"exception": "mine"})

    assert body_of(event)["exception"] == "mine"


def test_a_trakerr_clients_event_is_mapped_from_what_both_know() -> None:
    data = {"eventType": "logon", "eventMessage": "refreshed", "logLevel": "info"}

    body = body_of(Event(kind="trakerr", time=TIME, level=20, data=data, id=ID))

    assert body["operation"] == "logon"
    assert body["msg-text"] == "refreshed"
    assert body["severity"] == "INFO"
    assert "logLevel" not in body


def test_the_newer_names_replace_those_of_2016() -> None:
    data = {"corr-id": "c", "wait-time-used": 5, "msg-age": 6, "parent-tracking-id": "p"}
    event = logged(kind="jkool", data=data)

    body = body_of(event, JKool("t", keys="tnt4j"))

    assert body["corrid"] == ["c"]
    assert body["wait-time-usec"] == 5
    assert body["msg-age-usec"] == 6
    assert body["parent-id"] == "p"
    assert not set(data) & set(body)
    assert body["time-usec"] == 1795426903987654
    event.data["corr-id"] = ["a", "b"]
    assert body_of(event, JKool("t", keys="tnt4j"))["corrid"] == ["a", "b"]


# Special numbers.

NUMBERS = {
    "elapsed-time-usec": float("nan"),
    "properties": [
        {"name": "a", "type": "float", "value": float("inf")},
        {"name": "b", "type": "float", "value": 1.0},
    ],
    "snapshots": [
        {
            "name": "s",
            "time-usec": 1,
            "properties": [{"name": "c", "type": "float", "value": float("-inf")}],
            "list": [1.0, float("nan")],
        }
    ],
}


def test_special_numbers_are_left_out_at_every_depth() -> None:
    """A property must have a value, so a property with a special number is left out entirely."""
    body = body_of(logged(kind="jkool", data=NUMBERS))

    assert "elapsed-time-usec" not in body
    assert body["properties"] == [{"name": "b", "type": "float", "value": 1.0}]
    assert body["snapshots"] == [{"name": "s", "time-usec": 1, "properties": [], "list": [1.0]}]


def test_special_numbers_can_be_quoted_at_every_depth() -> None:
    body = body_of(logged(kind="jkool", data=NUMBERS), JKool("t", special_numbers="enquote"))

    assert body["elapsed-time-usec"] == "NaN"
    assert body["properties"][0]["value"] == "Infinity"
    assert body["snapshots"][0]["properties"][0]["value"] == "-Infinity"
    assert body["snapshots"][0]["list"] == [1.0, "NaN"]


def test_special_numbers_in_extras_are_treated_alike() -> None:
    event = logged(extra={"x": float("nan"), "y": {"z": float("inf")}})

    assert [each["name"] for each in body_of(event)["properties"]] == ["y"]
    assert body_of(event)["properties"][0]["value"] == '{"z": "Infinity"}'
    quoted = body_of(event, JKool("t", special_numbers="enquote"))["properties"]
    assert quoted[0] == {"name": "x", "type": "float", "value": "NaN"}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    extra=st.dictionaries(st.text(), values, max_size=5),
    tags=st.lists(st.text()) | values,
    keys=st.sampled_from(["2016", "tnt4j"]),
    special_numbers=st.sampled_from(["suppress", "enquote"]),
)
def test_every_event_becomes_json(extra: dict[str, Any], tags: Any, keys: str, special_numbers: str) -> None:
    extras = sanitize({**extra, "allTags": tags})
    raw = JKool("t", keys=keys, special_numbers=special_numbers).body([logged(extra=extras)], CONTEXT)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(raw, parse_constant=refuse)["time-usec"] == 1795426903987654


# Requests.


def test_it_describes_requests_to_its_address_s_own_path() -> None:
    backend = JKool("t", "http://h:6580/JESL?x=1#y")

    assert isinstance(backend, HttpBackend)
    assert backend.endpoint == "http://h:6580/JESL"
    assert JKool("t", "http://h").endpoint == "http://h/"
    assert JKool("t").endpoint == "https://data.jkoolcloud.com/"
    assert dict(backend.headers(CONTEXT)) == {
        "Content-Type": "application/json",
        "X-API-Key": "t",
        "X-API-Host-Name": "web-1",
        "X-API-Host-Addr": "10.0.0.7",
        "X-API-Runtime": f"{platform.python_implementation()} {platform.python_version()}",
        "X-API-Version": __version__,
    }
    assert backend.request_headers([logged()]) == {}


def test_the_handshake_is_an_access_request_with_an_escaped_token() -> None:
    headers, body = JKool('a&b<c>"€').handshake_request() or ({}, b"")

    assert headers["Content-Type"] == "text/plain"
    assert headers["X-API-Key"] == 'a&b<c>"€'
    assert body == '<access-request><token>a&amp;b&lt;c&gt;"€</token></access-request>'.encode()
    assert JKool("t", handshake=False).handshake_request() is None


@pytest.mark.parametrize("status", [200, 202, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        "<access-resp><token>t</token><success>false</success><reason>bad &amp; worse</reason></access-resp>",
        "<?xml version='1.0'?>\n<access-resp><success> FALSE </success><reason>bad &amp; worse</reason></access-resp>",
    ],
)
def test_an_access_response_that_says_false_is_a_refusal_whatever_the_status(body: str, status: int) -> None:
    error = JKool("t").classify_response(HttpResponse(status, {}, body))

    assert isinstance(error, UnauthorisedError)
    assert "bad & worse" in error.reason
    assert error.status == status


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "<access-resp><success>true</success></access-resp>",
        "<access-resp><success>True</success></access-resp>",
        "<access-resp></access-resp>",
        "<other><success>false</success></other>",
        "Event accepted. <success>false</success>",
    ],
)
def test_any_other_body_leaves_it_to_the_status(body: str) -> None:
    assert JKool("t").classify_response(HttpResponse(200, {}, body)) is None


@pytest.mark.parametrize(("batch", "media_type"), [("array", "application/json"), ("lines", "application/x-ndjson")])
def test_gateways_can_take_many_events_at_once(batch: str, media_type: str) -> None:
    backend = JKool("t", batch=batch)
    events = [logged(message="one"), logged(message="two")]

    text = gzip.decompress(backend.body(events, CONTEXT)).decode()
    bodies = json.loads(text) if batch == "array" else [json.loads(line) for line in text.splitlines()]

    assert JKool("t").max_events == 1
    assert backend.max_events == 500
    assert [body["msg-text"] for body in bodies] == ["one", "two"]
    assert backend.headers(CONTEXT)["Content-Type"] == media_type
    assert backend.headers(CONTEXT)["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in JKool("t", batch=batch, compress=False).headers(CONTEXT)


def test_a_connection_on_the_wire() -> None:
    """The access-request first, then events, all with the key."""

    def answer(request: Request) -> Reply | None:
        welcome = Reply(200, body=b"<access-resp><success>true</success></access-resp>")
        return welcome if b"<access" in request.body else None

    with Server(answer) as server:
        sender = Sender(JKool("tök<en", server.url))
        sender.open(CONTEXT)
        answers = [*sender.send([logged()]), *sender.send([logged()])]
        sender.close()

        assert answers == [None, None]
        handshake_request, event, _ = server.requests
        assert len(server.connections) == 1
        assert handshake_request.line == "POST / HTTP/1.1"
        assert handshake_request.body == "<access-request><token>tök&lt;en</token></access-request>".encode()
        assert handshake_request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "content-length": str(len(handshake_request.body)),
            "content-type": "text/plain",
            "x-api-key": "tök<en",
        }
        assert event.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "content-length": str(len(event.body)),
            "content-type": "application/json",
            "x-api-key": "tök<en",
            "x-api-host-name": "web-1",
            "x-api-host-addr": "10.0.0.7",
            "x-api-runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "x-api-version": __version__,
        }
        assert json.loads(event.body)["msg-text"] == "order 17 paid"


def test_a_refused_token_sends_no_event_and_drops_none() -> None:
    refusal = Reply(200, body=b"<access-resp><success>false</success><reason>unknown</reason></access-resp>")
    with Server(default=refusal) as server:
        sender = Sender(JKool("t", server.url))
        sender.open(CONTEXT)
        (answer,) = sender.send([logged()])
        sender.close()

        assert isinstance(answer, UnauthorisedError)
        assert "unknown" in answer.reason
        assert len(server.requests) == 1


# Settings.


@pytest.mark.parametrize(
    "text",
    [
        "APPL=a",
        FQN,
        "GENERIC=a#USER=b#PROCESS=c#APPSERVER=d#RUNTIME=e#VIRTUAL=f#NETWORK=g#DEVICE=h#DATASTORE=i#CACHE=j#SERVICE=k",
        "QUEUE=a#FILE=/b/c#TOPIC=d e",
    ],
)
def test_a_good_source_fqn_has_no_problem(text: str) -> None:
    assert fqn_problem(text) is None
    assert JKool("t", source_fqn=text).source_fqn == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "APPL",
        "APPL=",
        "APPL= ",
        "appl=a",
        "APPLE=a",
        "APPL=a#",
        "#APPL=a",
        "APPL=a##SERVER=b",
        "APPL=a=b",
        "=a",
    ],
)
def test_a_bad_source_fqn_is_told(text: str) -> None:
    assert fqn_problem(text)
    with pytest.raises(ConfigurationError) as caught:
        JKool("t", source_fqn=text)
    assert caught.value.setting == "JKool.source_fqn"


def test_a_source_fqn_that_is_no_text_is_told() -> None:
    assert fqn_problem(5) == "not a text"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("token", ""),
        ("token", None),
        ("token", "a\rb"),
        ("url", "data.jkoolcloud.com"),
        ("url", "tcp://data.jkoolcloud.com"),
        ("url", "http://"),
        ("handshake", 1),
        ("handshake", "yes"),
        ("keys", 2016),
        ("keys", "2017"),
        ("special_numbers", "maintain"),
        ("level", "LOUD"),
        ("timeout", (0, 1)),
        ("max_in_flight", 0),
        ("batch", "arrays"),
        ("name", "j kool"),
        ("ca_bundle", "/no/such/file"),
        ("compress", "gzip"),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        JKool(**{"token": "t", setting: value})

    assert caught.value.setting == f"JKool.{setting}"


def test_the_token_is_not_in_the_repr_and_settings_pickle() -> None:
    backend = JKool("secret-token", level="debug", batch="lines")  # type: ignore[arg-type]

    assert "secret-token" not in repr(backend)
    assert backend.level == logging.DEBUG
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert hash(backend) == hash(pickle.loads(pickle.dumps(backend)))


def test_a_relative_ca_bundle_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.chdir(tmp_path)

    backend = JKool("k", ca_bundle="ca.pem")

    assert backend.ca_bundle == str(tmp_path / "ca.pem")
