"""What goes to Trakerr, field by field."""

from __future__ import annotations

import gzip
import json
import logging
import pickle
import platform
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipper._version import __version__
from shipper.application.capture.record import from_record
from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext, HttpBackend, HttpResponse
from shipper.backends.trakerr import Trakerr
from shipper.backends.wire.trakerr_event import FIELDS, SLOTS, custom_data, level_word, log_level, relative, with_extras
from shipper.errors import ConfigurationError
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.sanitize import sanitize

from ..support.servers import Server

CONTEXT = AppContext("checkout", "/srv/app", "web-1", "10.0.0.7", lambda time: (12.5, 40.25))
ID = EventId(bytes(range(8)), 17)
TIME = 1795426903.987654


def body_of(event: Event, backend: Trakerr | None = None, context: AppContext = CONTEXT) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((backend or Trakerr("the-key")).body([event], context))
    return body


def logged(level: int = logging.WARNING, **fields: Any) -> Event:
    given: dict[str, Any] = {
        "time": TIME,
        "level": level,
        "level_name": logging.getLevelName(level),
        "logger": "orders",
        "message": "order 17 paid",
        "id": ID,
    }
    return Event(**{**given, **fields})


# A record's body.


def test_a_records_body_has_exactly_the_captured_keys_in_their_order() -> None:
    """They are those of the old client, except the SKU, which is sent only if it is set."""
    body = body_of(logged())

    assert list(body.items()) == [
        ("apiKey", "the-key"),
        ("logLevel", "warning"),
        ("classification", "issue"),
        ("eventType", "orders"),
        ("eventMessage", "order 17 paid"),
        ("eventTime", 1795426903987),
        ("contextAppVersion", "1.0"),
        ("deploymentStage", "development"),
        ("contextEnvName", platform.python_implementation()),
        ("contextEnvLanguage", "Python"),
        ("contextEnvVersion", platform.python_version()),
        ("contextEnvHostname", "web-1"),
        ("contextAppOS", platform.system()),
        ("contextAppOSVersion", platform.release()),
        ("contextTags", ["orders"]),
        ("contextCpuPercentage", 12.5),
        ("contextMemoryPercentage", 40.25),
    ]


def test_every_setting_has_its_field() -> None:
    backend = Trakerr(
        "k",
        "1.4.2",
        "production",
        app_sku="mobile",
        tags=["web", "eu"],
        data_center="dc1",
        data_center_region="west",
        app_browser="Firefox",
        app_browser_version="144",
    )

    body = body_of(logged(), backend)

    assert body["contextAppVersion"] == "1.4.2"
    assert body["deploymentStage"] == "production"
    assert body["contextAppSku"] == "mobile"
    assert body["contextTags"] == ["web", "eu", "orders"]
    assert body["contextDataCenter"] == "dc1"
    assert body["contextDataCenterRegion"] == "west"
    assert body["contextAppBrowser"] == "Firefox"
    assert body["contextAppBrowserVersion"] == "144"


def test_the_text_is_json_dumps_with_its_defaults() -> None:
    """ASCII, a blank after comma and colon."""
    event = logged(message="Grüße €")
    raw = Trakerr("k").body([event], CONTEXT)

    assert raw == json.dumps(json.loads(raw)).encode()
    assert b'"eventMessage": "Gr\\u00fc\\u00dfe \\u20ac"' in raw


@pytest.mark.parametrize(
    ("level", "word", "classification"),
    [
        (0, "debug", "log"),
        (5, "debug", "log"),
        (10, "debug", "log"),
        (19, "debug", "log"),
        (20, "info", "log"),
        (25, "info", "log"),
        (29, "info", "log"),
        (30, "warning", "issue"),
        (35, "warning", "issue"),
        (40, "error", "issue"),
        (49, "error", "issue"),
        (50, "fatal", "issue"),
        (999, "fatal", "issue"),
    ],
)
def test_the_level_follows_its_number(level: int, word: str, classification: str) -> None:
    body = body_of(logged(level, level_name="RENAMED"))

    assert body["logLevel"] == word == log_level(level)
    assert body["classification"] == classification


def test_tags_do_not_grow_from_event_to_event() -> None:
    backend = Trakerr("k", tags=("t",))

    bodies = [body_of(logged(logger=name), backend) for name in ("a", "b", "a")]

    assert [body["contextTags"] for body in bodies] == [["t", "a"], ["t", "b"], ["t", "a"]]


def test_without_a_load_sample_near_its_time_an_event_has_none() -> None:
    asked: list[float] = []

    def load(time: float) -> None:
        asked.append(time)

    body = body_of(logged(), context=AppContext("a", "/", "h", "127.0.0.1", load))

    assert asked == [TIME]
    assert "contextCpuPercentage" not in body
    assert "contextMemoryPercentage" not in body


@pytest.mark.parametrize("given", ["2020-01-01", True, [1]], ids=repr)
def test_a_client_s_time_that_is_no_number_has_no_load(given: object) -> None:
    asked: list[float] = []

    def load(time: float) -> None:
        asked.append(time)

    event = Event(kind="trakerr", time=TIME, data={"eventTime": given})
    body = body_of(event, context=AppContext("a", "/", "h", "127.0.0.1", load))

    assert body["eventTime"] == given
    assert asked == [0.0]


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.987, 987), (1e9 + 0.9996, 1000000000999), (0.0, 0)])
def test_the_time_is_the_records_own_in_whole_milliseconds(seconds: float, milliseconds: int) -> None:
    assert body_of(logged(time=seconds))["eventTime"] == milliseconds


# Exceptions.


def test_an_exception_becomes_type_and_stack_trace_with_its_causes() -> None:
    event = logged(
        exceptions=[
            ExceptionInfo("raised", "shop.PaymentError", "PaymentError", "no", [Frame("/srv/app/a/b.py", 3, "pay")]),
            ExceptionInfo("cause", "builtins.KeyError", "KeyError", "'x'", [Frame("/usr/lib/z.py", 9, "get")]),
        ]
    )

    body = body_of(event)

    assert body["eventType"] == "shop.PaymentError"
    assert body["eventMessage"] == "order 17 paid"
    assert list(body)[5:8] == ["eventTime", "eventStacktrace", "contextAppVersion"]
    assert body["eventStacktrace"] == [
        {
            "type": "shop.PaymentError",
            "message": "no",
            "traceLines": [{"function": "pay", "line": 3, "file": "a/b.py"}],
        },
        {
            "type": "builtins.KeyError",
            "message": "'x'",
            "traceLines": [{"function": "get", "line": 9, "file": "/usr/lib/z.py"}],
        },
    ]


def recurse(depth: int) -> None:
    if depth:
        recurse(depth - 1)
    raise IndexError("deep")


def test_a_long_traceback_has_at_most_100_lines_and_one_says_how_many_are_left_out() -> None:
    try:
        recurse(400)
    except IndexError as exc:
        record = logging.LogRecord("n", 40, __file__, 1, "m", (), (type(exc), exc, exc.__traceback__))
    (stack,) = body_of(from_record(record))["eventStacktrace"]

    assert stack["type"] == "builtins.IndexError"
    assert len(stack["traceLines"]) == 100
    (marker,) = [line for line in stack["traceLines"] if line["line"] == 0]
    assert "303 frames left out" in marker["file"]
    assert stack["traceLines"][-1]["function"] == "recurse"


@pytest.mark.parametrize(
    ("path", "cwd", "seen"),
    [
        ("/srv/app/a.py", "/srv/app", "a.py"),
        ("/srv/app/a.py", "/srv/app/", "a.py"),
        ("/srv/app/../app/a.py", "/srv/app", "a.py"),
        ("/srv/application/a.py", "/srv/app", "/srv/application/a.py"),
        ("/srv/a.py", "/srv/app", "/srv/a.py"),
        ("a.py", "/srv/app", "a.py"),
        ("<stdin>", "/srv/app", "<stdin>"),
    ],
)
def test_a_file_is_named_from_the_working_directory_only_when_it_lies_under_it(path: str, cwd: str, seen: str) -> None:
    assert relative(path, cwd) == seen


# Extras.


def test_extras_become_custom_data_sorted_by_name() -> None:
    extra = {"b": 2, "a": "one", "c": [1, "ä"], "d": None, "e": True}
    event = logged(extra=extra, context={"request": "r1", "a": "no"})

    assert body_of(event)["customProperties"] == {
        "stringData": {
            "customData1": "a=one",
            "customData2": "b=2",
            "customData3": 'c=[1, "ä"]',
            "customData4": "d=None",
            "customData5": "e=True",
            "customData6": "request=r1",
        }
    }


def test_of_more_than_ten_extras_the_last_says_how_many_are_left_out() -> None:
    event = logged(extra={f"x{number:02}": number for number in range(14)})

    strings = body_of(event)["customProperties"]["stringData"]

    assert list(strings) == [f"customData{number}" for number in range(1, 11)]
    assert strings["customData9"] == "x08=8"
    assert strings["customData10"] == "x09=9 (+4 more)"


def test_the_trakerr_extra_sets_fields_by_their_python_names() -> None:
    extra = {
        "trakerr": {
            "event_user": "jill",
            "event_session": "25",
            "context_url": "/pay",
            "context_operation_time_millis": 1200,
            "context_cross_app_correlation_id": "c1",
            "context_device": "pc",
            "context_app_sku": "sku",
            "context_app_browser": "Chrome",
            "deployment_stage": "test",
            "context_tags": ["only"],
            "log_level": "CRITICAL",
            "classification": "mine",
            "event_type": "t",
            "event_message": "m",
            "event_time": 5,
            "custom_properties": {"string_data": {"custom_data1": "s"}, "double_data": {"custom_data2": 1.5}},
            "custom_segments": {"any": "thing"},
            "context_data_center": None,
            "no_such_field": 1,
        }
    }

    body = body_of(logged(extra=extra))

    assert body["eventUser"] == "jill"
    assert body["eventSession"] == "25"
    assert body["contextURL"] == "/pay"
    assert body["contextOperationTimeMillis"] == 1200
    assert body["contextCrossAppCorrelationId"] == "c1"
    assert body["contextDevice"] == "pc"
    assert body["contextAppSku"] == "sku"
    assert body["contextAppBrowser"] == "Chrome"
    assert body["deploymentStage"] == "test"
    assert body["contextTags"] == ["only"]
    assert body["logLevel"] == "fatal"
    assert body["classification"] == "mine"
    assert (body["eventType"], body["eventMessage"], body["eventTime"]) == ("t", "m", 5)
    assert body["customProperties"] == {
        "stringData": {"customData1": "s", "customData2": "no_such_field=1"},
        "doubleData": {"customData2": 1.5},
    }
    assert body["customSegments"] == {"any": "thing"}
    assert "contextDataCenter" not in body
    assert [key for key in body if key in FIELDS] == [key for key in FIELDS if key in body]


def test_every_field_can_be_set_by_its_python_name() -> None:
    values: dict[str, Any] = {name: {} if name.startswith("custom") else name for name in FIELDS.values()}
    values["log_level"] = "info"

    body = body_of(logged(extra={"trakerr": values}))

    assert list(body) == list(FIELDS)


def test_an_unknown_level_in_the_trakerr_extra_leaves_the_records_own() -> None:
    """The service would refuse an event with an unknown level."""
    assert body_of(logged(extra={"trakerr": {"log_level": "notice"}}))["logLevel"] == "warning"


@pytest.mark.parametrize(
    ("word", "level"), [("FATAL", "fatal"), ("critical", "fatal"), ("Warn", "warning"), ("x", None), (40, None)]
)
def test_level_words_are_taken_in_any_case(word: object, level: str | None) -> None:
    assert level_word(word) == level


def test_extras_do_not_displace_custom_data_that_is_there() -> None:
    full = {"stringData": {f"customData{number}": "x" for number in range(1, SLOTS + 1)}}

    assert with_extras({"stringData": {"customData2": "mine"}}, {"a": 1, "b": 2}) == {
        "stringData": {"customData2": "mine", "customData1": "a=1", "customData3": "b=2"}
    }
    both = {"stringData": {"customData1": "text", "customData2": "a=1"}}
    assert with_extras({"stringData": "text"}, {"a": 1}) == both
    assert with_extras("text", {"a": 1}) == both
    assert with_extras(full, {"a": 1, "b": 2})["stringData"]["customData10"] == "x (+2 more)"


@pytest.mark.parametrize(
    "shape",
    [
        {"stringData": {"customData1": "a"}, "doubleData": {"customData1": 1.5}},
        {},
        {"stringData": "x"},
        {"any": {"keys": [1]}},
        "no dict at all",
    ],
)
def test_custom_data_of_any_shape_passes(shape: Any) -> None:
    assert custom_data(shape) == shape
    assert body_of(logged(extra={"trakerr": {"custom_properties": shape}}))["customProperties"] == shape


def test_instructions_for_jkool_are_not_extras() -> None:
    assert "customProperties" not in body_of(logged(extra={"allTags": ["a"]}))


def test_a_stack_that_was_asked_for_is_sent_as_an_extra() -> None:
    strings = body_of(logged(stack="Stack (most recent call last):\n ..."))["customProperties"]["stringData"]

    assert strings == {"customData1": "stack_info=Stack (most recent call last):\n ..."}


# Events of the two clients.


def test_a_clients_fields_come_first_and_defaults_fill_the_rest() -> None:
    data: dict[str, Any] = {
        "customSegments": {},
        "eventUser": "",
        "contextAppVersion": "9",
        "contextEnvName": None,
        "classification": None,
        "apiKey": "its-own",
        "eventTime": 7,
        "contextTags": ["c"],
        "logLevel": "error",
        "contextOperationTimeMillis": "1200",
    }

    body = body_of(Event(kind="trakerr", time=TIME, level=10, data=data, id=ID))

    assert body["apiKey"] == "its-own"
    assert body["contextAppVersion"] == "9"
    assert body["eventTime"] == 7
    assert body["eventUser"] == ""
    assert body["contextTags"] == ["c"]
    assert body["contextOperationTimeMillis"] == "1200"
    assert body["customSegments"] == {}
    assert body["deploymentStage"] == "development"
    assert body["contextCpuPercentage"] == 12.5
    assert "contextEnvName" not in body
    assert "classification" not in body
    assert "eventType" not in body
    assert list(body) == [key for key in FIELDS if key in body]


def test_a_client_event_without_key_and_time_gets_ours() -> None:
    body = body_of(Event(kind="trakerr", time=TIME, data={"logLevel": "info", "apiKey": None}))

    assert body["apiKey"] == "the-key"
    assert body["eventTime"] == 1795426903987


def test_a_client_events_exceptions_become_its_stack_trace_unless_it_has_one() -> None:
    event = Event(kind="trakerr", exceptions=[ExceptionInfo("raised", "a.B", "B", "m")])

    assert body_of(event)["eventStacktrace"] == [{"type": "a.B", "message": "m", "traceLines": []}]
    event.data = {"eventStacktrace": []}
    assert body_of(event)["eventStacktrace"] == []


def test_a_jkool_clients_event_is_mapped_from_what_both_know() -> None:
    data = {
        "corr-id": "c",
        "user": "u",
        "time-usec": 1457524800000000,
        "properties": [{"name": "n", "value": 1, "type": "int"}, "odd"],
    }

    body = body_of(logged(kind="jkool", data=data))

    assert body["eventMessage"] == "order 17 paid"
    assert body["eventUser"] == "u"
    assert body["contextCrossAppCorrelationId"] == "c"
    assert body["eventTime"] == 1457524800000
    assert body["customProperties"] == {"stringData": {"customData1": "n=1"}}


# JSON.


def test_nan_and_infinities_are_quoted() -> None:
    data = {"customProperties": {"doubleData": {"customData1": float("nan"), "customData2": [float("inf")]}}}
    body = body_of(Event(kind="trakerr", data=data))

    assert body["customProperties"]["doubleData"] == {"customData1": "NaN", "customData2": ["Infinity"]}


def test_json_inside_of_a_text_is_json_too() -> None:
    body = body_of(logged(extra={"x": {"ü": [float("nan"), 1]}}))

    assert body["customProperties"]["stringData"]["customData1"] == 'x={"ü": ["NaN", 1]}'


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(extra=st.dictionaries(st.text(), values, max_size=14), trakerr=values)
def test_every_event_becomes_json(extra: dict[str, Any], trakerr: Any) -> None:
    extras = sanitize({**extra, "trakerr": trakerr})
    raw = Trakerr("k").body([logged(extra=extras)], CONTEXT)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    body = json.loads(raw, parse_constant=refuse)
    assert body["logLevel"] in ("debug", "info", "warning", "error", "fatal")


# Requests.


def test_it_describes_requests_to_events_under_its_address() -> None:
    backend = Trakerr("k", url="http://h:81/api/v1/")

    assert isinstance(backend, HttpBackend)
    assert backend.endpoint == "http://h:81/api/v1/events"
    assert Trakerr("k").endpoint == "https://www.trakerr.io/api/v1/events"
    assert Trakerr("k", url="http://h/x?token=1").endpoint == "http://h/x/events?token=1"
    assert dict(backend.headers(CONTEXT)) == {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": f"shipper/{__version__}",
    }
    assert backend.handshake_request() is None
    assert backend.classify_response(HttpResponse(200, {}, "anything")) is None


def test_the_idempotency_key_is_the_events_id() -> None:
    assert Trakerr("k").request_headers([logged()]) == {"Idempotency-Key": "0001020304050607-17"}
    assert Trakerr("k").request_headers([Event()]) == {}


def test_one_event_is_one_request_unless_a_gateway_takes_arrays() -> None:
    backend = Trakerr("k", batch="array")

    assert Trakerr("k").max_events == 1
    assert backend.max_events == 100
    assert backend.headers(CONTEXT)["Content-Encoding"] == "gzip"
    bodies = json.loads(gzip.decompress(backend.body([logged(), logged(message="two")], CONTEXT)))
    assert [body["eventMessage"] for body in bodies] == ["order 17 paid", "two"]
    assert backend.request_headers([logged(), logged()])["Idempotency-Key"] == f"{ID},{ID}"


def test_compression_can_be_switched_off() -> None:
    backend = Trakerr("k", batch="array", compress=False)

    assert "Content-Encoding" not in backend.headers(CONTEXT)
    assert len(json.loads(backend.body([logged()], CONTEXT))) == 1


def test_the_whole_request_on_the_wire() -> None:
    with Server() as server:
        sender = Sender(Trakerr("k", url=f"{server.url}/api/v1"))
        sender.open(CONTEXT)
        answers = sender.send([logged()])
        sender.close()

        assert list(answers) == [None]
        (request,) = server.requests
        assert request.line == "POST /api/v1/events HTTP/1.1"
        assert request.headers == {
            "host": f"127.0.0.1:{server.port}",
            "accept-encoding": "identity",
            "accept": "application/json",
            "content-type": "application/json",
            "content-length": str(len(request.body)),
            "user-agent": f"shipper/{__version__}",
            "idempotency-key": str(ID),
        }
        assert json.loads(request.body)["eventMessage"] == "order 17 paid"


# Settings.


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("api_key", ""),
        ("api_key", "  "),
        ("api_key", None),
        ("api_key", b"k"),
        ("api_key", "two\nlines"),
        ("app_version", 1),
        ("deployment_stage", None),
        ("app_sku", None),
        ("tags", "abc"),
        ("tags", b"abc"),
        ("tags", None),
        ("tags", 5),
        ("tags", ["a", 1]),
        ("data_center", 1),
        ("data_center_region", 1),
        ("app_browser", 1),
        ("app_browser_version", 1),
        ("url", ""),
        ("url", None),
        ("url", "www.trakerr.io"),
        ("url", "ftp://host/"),
        ("url", "https://"),
        ("url", "http:///path"),
        ("url", "http://host:port/"),
        ("url", "http://host:99999/"),
        ("url", "http://[::1/"),
        ("url", "http://ho st/"),
        ("url", "https://www.trakerr.io/api/v1/events"),
        ("url", "https://www.trakerr.io/api/v1/events/?a=b"),
        ("max_idle", -1),
        ("max_age", "60"),
        ("keepalive", True),
        ("level", "LOUD"),
        ("level", None),
        ("level", 1.5),
        ("level", True),
        ("level", -1),
        ("timeout", 5),
        ("timeout", (1,)),
        ("timeout", (1, 0)),
        ("timeout", (-1, 1)),
        ("timeout", (1, float("nan"))),
        ("timeout", ("1", "2")),
        ("timeout", None),
        ("max_in_flight", 0),
        ("max_in_flight", 1.0),
        ("max_in_flight", True),
        ("batch", "lines"),
        ("batch", True),
        ("name", ""),
        ("name", "a/b"),
        ("name", "ä"),
        ("name", None),
        ("ca_bundle", "/no/such/file"),
        ("ca_bundle", True),
        ("ca_bundle", False),
        ("compress", 1),
    ],
)
def test_a_wrong_setting_is_named(setting: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Trakerr(**{"api_key": "k", setting: value})

    assert caught.value.setting == f"Trakerr.{setting}"
    assert caught.value.allowed


def test_an_error_shows_neither_key_nor_password() -> None:
    with pytest.raises(ConfigurationError) as bad_key:
        Trakerr("sec\nret")
    with pytest.raises(ConfigurationError) as bad_url:
        Trakerr("k", url="ftp://me:secret@host/")

    assert "sec" not in str(bad_key.value)
    assert "secret" not in str(bad_url.value)


def test_a_level_may_be_given_by_name() -> None:
    assert Trakerr("k", level="info").level == logging.INFO  # type: ignore[arg-type]
    assert Trakerr("k").level == logging.WARNING


def test_the_key_is_not_in_the_repr_and_settings_pickle(tmp_path: Path) -> None:
    """A backend is pickled on its way to the shipper process."""
    backend = Trakerr("secret-key", tags=["a"], timeout=[1, 2], ca_bundle=str(tmp_path))  # type: ignore[arg-type]

    assert "secret-key" not in repr(backend)
    assert "Trakerr(" in repr(backend)
    assert pickle.loads(pickle.dumps(backend)) == backend
    assert hash(backend) == hash(pickle.loads(pickle.dumps(backend)))
    assert backend == Trakerr("secret-key", tags=("a",), timeout=(1, 2), ca_bundle=str(tmp_path))
    assert backend != Trakerr("other-key", tags=("a",), timeout=(1, 2), ca_bundle=str(tmp_path))


def test_a_relative_ca_bundle_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.chdir(tmp_path)

    backend = Trakerr("k", ca_bundle="ca.pem")

    assert backend.ca_bundle == str(tmp_path / "ca.pem")


def test_notes_and_what_was_left_out_are_in_the_stack_trace() -> None:
    notes = ["order 17", "[... 3 left out ...]"]
    noted = ExceptionInfo("raised", "builtins.ValueError", "ValueError", "bad", notes=notes)

    (trace,) = Trakerr("k").app_event(Event(message="failed", exceptions=[noted]), CONTEXT)["eventStacktrace"]

    assert trace["message"] == "bad\norder 17\n[... 3 left out ...]"
