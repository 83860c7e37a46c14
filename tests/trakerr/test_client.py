"""TrakerrClient: what it sends, its defaults, and when it raises."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import platform
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import shipper
import shipper.application.joining
from shipper.trakerr import AppEvent, CustomData, CustomDoubleData, CustomStringData, TrakerrClient, context
from shipper.trakerr.models import InnerStackTrace, Stacktrace, StackTraceLine, StackTraceLines

from ..support.files import contents
from ..support.servers import Reply
from ..support.trakerr_service import OK, Service, running_service, script
from ..support.waiting import PATIENCE, scaled, wait_until

ENVIRONMENT = {
    "contextEnvName": platform.python_implementation(),
    "contextEnvLanguage": "Python",
    "contextEnvVersion": platform.python_version(),
    "contextEnvHostname": platform.node(),
    "contextAppOS": platform.system(),
    "contextAppOSVersion": platform.release(),
}


@pytest.fixture
def service(spool: Path) -> Iterator[Service]:
    with running_service(spool) as server:
        yield server


@pytest.fixture
def trace_id(monkeypatch: pytest.MonkeyPatch) -> str:
    """Replace OpenTelemetry's module by one with a current span; return the span's trace id."""
    numbers = SimpleNamespace(trace_id=0xABC, span_id=1, trace_flags=1)
    trace = SimpleNamespace(get_current_span=lambda: SimpleNamespace(get_span_context=lambda: numbers))
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)
    return f"{0xABC:032x}"


def steady(event: dict[str, Any]) -> dict[str, Any]:
    """The event without the fields that differ in each run."""
    changing = ("eventTime", "contextCpuPercentage", "contextMemoryPercentage")
    return {key: value for key, value in event.items() if key not in changing}


def capture_exceptions() -> Exception:
    try:
        raise IndexError("Bad Math")
    except IndexError as error:
        return error


# Bodies --------------------------------------------------------------------------------------------------------------


def test_log_sends_what_its_dictionary_says(service: Service) -> None:
    client = TrakerrClient("k", "App Version number")

    client.log(
        {
            "eventtype": "user logon issue",
            "eventmessage": "User refreshed the page.",
            "user": "jill@trakerr.io",
            "session": "25",
            "time": "1200",
            "url": "/logon",
            "corrid": "c-1",
            "device": "pc",
            "other": "ignored",
        },
        "info",
        "logon script",
        False,
    )

    event = service.only()
    assert steady(event) == {
        "apiKey": "k",
        "logLevel": "info",
        "classification": "logon script",
        "eventType": "user logon issue",
        "eventMessage": "User refreshed the page.",
        "eventUser": "jill@trakerr.io",
        "eventSession": "25",
        "contextAppVersion": "App Version number",
        "deploymentStage": "development",
        **ENVIRONMENT,
        "contextTags": [],
        "contextURL": "/logon",
        "contextOperationTimeMillis": "1200",
        "contextCrossAppCorrelationId": "c-1",
        "contextDevice": "pc",
    }
    assert abs(event["eventTime"] / 1000 - time.time()) < 20


def test_an_event_with_custom_data_arrives_as_it_was_put_together(service: Service) -> None:
    """The fourth example of the old client's README."""
    client = TrakerrClient("k", "1.0")
    try:
        raise IndexError("Bad Math")
    except IndexError:
        event = client.create_new_app_event("FATAL", exc_info=True)
    event.context_app_browser = "Chrome"
    event.context_app_browser_version = "67.x"
    event.custom_properties = CustomData("Custom Data holder!")
    event.custom_properties.string_data = CustomStringData("Custom String Data 1", "Custom String Data 2")
    event.custom_properties.string_data.custom_data3 = "More Custom Data!"
    event.custom_segments = CustomData(double_data=CustomDoubleData(1.5, custom_data10=2.0))
    event.event_user = "john@traker.io"
    event.event_session = "6"
    event.context_operation_time_millis = 1000
    event.context_device = "pc"
    event.context_app_sku = "mobile"
    event.context_tags = ["client, frontend"]

    client.send_event_async(event)

    arrived = steady(service.only())
    (trace,) = arrived.pop("eventStacktrace")
    assert arrived == {
        "apiKey": "k",
        "logLevel": "fatal",
        "classification": "issue",
        "eventType": "builtins.IndexError",
        "eventMessage": "Bad Math",
        "eventUser": "john@traker.io",
        "eventSession": "6",
        "contextAppVersion": "1.0",
        "deploymentStage": "development",
        **ENVIRONMENT,
        "contextAppBrowser": "Chrome",
        "contextAppBrowserVersion": "67.x",
        "contextTags": ["client, frontend"],
        "contextOperationTimeMillis": 1000,
        "contextDevice": "pc",
        "contextAppSku": "mobile",
        "customProperties": {
            "stringData": {
                "customData1": "Custom String Data 1",
                "customData2": "Custom String Data 2",
                "customData3": "More Custom Data!",
            }
        },
        "customSegments": {"doubleData": {"customData1": 1.5, "customData10": 2.0}},
    }
    assert (trace["type"], trace["message"]) == ("builtins.IndexError", "Bad Math")
    assert [line["function"] for line in trace["traceLines"]] == [
        "test_an_event_with_custom_data_arrives_as_it_was_put_together"
    ]


def test_custom_data_of_any_shape_passes(service: Service) -> None:
    client = TrakerrClient("k")
    shapes: list[tuple[CustomData | dict[str, object], object]] = [
        (CustomData(), {}),
        (CustomData("x"), {"stringData": "x"}),
        (CustomData(CustomStringData()), {"stringData": {}}),
        ({"any": {"thing": [1, None]}}, {"any": {"thing": [1, None]}}),
    ]

    for custom, _ in shapes:
        event = client.create_new_app_event()
        event.custom_properties = custom
        client.send_event_async(event)

    assert [event["customProperties"] for event in service.delivered()] == [wire for _, wire in shapes]


def test_the_keys_are_on_the_wire_in_the_order_of_the_service(service: Service) -> None:
    client = TrakerrClient("k", tags=["a"])
    event = client.create_new_app_event(exc_info=capture_exceptions())
    event.context_url = "/u"

    client.send_event_async(event)
    client.send_event(event)

    for arrived in service.delivered():
        assert list(arrived) == [
            "apiKey", "logLevel", "classification", "eventType", "eventMessage", "eventTime", "eventStacktrace",
            "contextAppVersion", "deploymentStage", "contextEnvName", "contextEnvLanguage", "contextEnvVersion",
            "contextEnvHostname", "contextAppOS", "contextAppOSVersion", "contextTags", "contextURL",
            "contextCpuPercentage", "contextMemoryPercentage",
        ]  # fmt: skip


def test_a_bare_event_has_no_level_and_is_sent(service: Service) -> None:
    client = TrakerrClient("k")

    client.send_event_async(AppEvent())

    event = service.only()
    assert "logLevel" not in event
    assert event["apiKey"] == "k"


def test_an_event_with_parts_made_by_hand_arrives(service: Service) -> None:
    client = TrakerrClient("k")
    lines = StackTraceLines([StackTraceLine("f", 3, "a.py")])
    event = AppEvent(event_stacktrace=Stacktrace([InnerStackTrace("m.E", "message", lines)]))

    client.send_event_async(event)

    assert service.only()["eventStacktrace"] == [
        {"type": "m.E", "message": "message", "traceLines": [{"function": "f", "line": 3, "file": "a.py"}]}
    ]


def test_models_compare_and_show_what_is_in_them() -> None:
    event = AppEvent("secret-key", "WARN", custom_properties=CustomData(CustomStringData("a")))

    assert event == AppEvent("secret-key", "warning", custom_properties=CustomData(CustomStringData("a")))
    assert "secret-key" not in repr(event)
    assert event.to_dict()["log_level"] == "warning"
    assert "'custom_data1': 'a'" in event.to_str()


# Properties ----------------------------------------------------------------------------------------------------------


def test_the_sku_is_the_sku_and_not_the_version(service: Service) -> None:
    """T1: The old client sent the application's version as contextAppSku."""
    TrakerrClient("k", "9.9").log({}, exc_info=False)
    TrakerrClient("k", "9.9", application_sku="mobile").log({}, exc_info=False)
    changed = TrakerrClient("k", "9.9")
    changed.context_application_sku = "tablet"
    changed.log({}, exc_info=False)

    assert [event.get("contextAppSku") for event in service.delivered()] == [None, "mobile", "tablet"]


PROPERTIES = {
    "contextAppVersion": ("context_app_version",),
    "deploymentStage": ("context_development_stage", "context_deployment_stage"),
    "contextEnvLanguage": ("context_env_language", "context_env_anguage"),
    "contextEnvName": ("context_env_name",),
    "contextEnvVersion": ("context_env_version",),
    "contextEnvHostname": ("context_env_hostname",),
    "contextAppOS": ("context_app_os", "context_appos"),
    "contextAppOSVersion": ("context_app_os_version", "context_appos_version"),
    "contextAppBrowser": ("context_app_browser", "context_appbrowser"),
    "contextAppBrowserVersion": ("context_app_browser_version", "context_appbrowser_version"),
    "contextDataCenter": ("context_data_center", "context_datacenter"),
    "contextDataCenterRegion": ("context_data_center_region", "context_datacenter_region"),
    "contextAppSku": ("context_app_sku", "context_application_sku"),
}


def test_a_property_has_the_readme_s_name_and_the_old_code_s(service: Service) -> None:
    """T22: In the old client the README's names were no properties: setting them had no effect."""
    client = TrakerrClient("k")
    expected: list[tuple[str, str | None]] = []

    for key, names in PROPERTIES.items():
        for name in names:
            setattr(client, name, f"by {name}")
            assert {getattr(client, each) for each in names} == {f"by {name}"}
            client.log({}, exc_info=False)
            expected.append((key, f"by {name}"))
        setattr(client, names[0], None)
        client.log({}, exc_info=False)
        expected.append((key, None))

    arrived = service.delivered()
    assert [(key, event.get(key)) for event, (key, _) in zip(arrived, expected, strict=True)] == expected


def test_what_an_event_says_wins_over_the_client(service: Service) -> None:
    client = TrakerrClient("k", "1.0", "production", tags=["client"])
    client.context_data_center = "east"
    event = client.create_new_app_event()
    event.context_app_version, event.deployment_stage, event.context_tags = "2.0", "", []

    client.send_event_async(event)

    arrived = service.only()
    assert (arrived["contextAppVersion"], arrived["deploymentStage"], arrived["contextTags"]) == ("2.0", "", [])
    assert arrived["contextDataCenter"] == "east"


def test_a_deleted_property_is_not_sent_and_takes_no_other_with_it(service: Service) -> None:
    """T28: In the old client deleting the interpreter's version deleted the host name."""
    client = TrakerrClient("k")

    del client.context_env_version
    client.log({}, exc_info=False)

    event = service.only()
    assert "contextEnvVersion" not in event
    assert event["contextEnvHostname"] == platform.node()
    assert client.context_env_version is None


def test_fill_defaults_fills_what_is_open_and_leaves_the_rest(service: Service) -> None:
    client = TrakerrClient("k", "1.2", tags=["a"])
    event = AppEvent(context_app_os="BeOS")

    assert client.fill_defaults(event) is event
    assert (event.api_key, event.context_app_version, event.context_app_os) == ("k", "1.2", "BeOS")
    assert event.context_tags == ["a"]
    assert event.context_tags is not client.context_tags


# Tags ----------------------------------------------------------------------------------------------------------------


def test_an_event_carries_the_tags_that_its_client_had_when_it_was_sent(service: Service) -> None:
    """T9: In the old client the event shared the client's list, which another thread read later."""
    given = ["first"]
    client = TrakerrClient("k", tags=given)

    client.log({}, exc_info=False)
    given.append("not the client's")
    client.context_tags.append("second")
    client.log({}, exc_info=False)

    assert [event["contextTags"] for event in service.delivered()] == [["first"], ["first", "second"]]


def test_changing_one_event_changes_neither_what_is_sent_nor_the_next(service: Service) -> None:
    """T9: The old client sent later changes of an event, and added its tags to all later events."""
    client = TrakerrClient("k", tags=["a"])
    event = client.fill_defaults(client.create_new_app_event(event_message="before"))
    event.custom_properties = CustomData(CustomStringData("before"))

    client.send_event_async(event)
    assert event.context_tags is not None
    event.context_tags.append("after")
    event.event_message = "after"
    event.custom_properties.string_data = CustomStringData("after")
    client.log({}, exc_info=False)

    first, second = service.delivered()
    assert (first["contextTags"], first["eventMessage"]) == (["a"], "before")
    assert first["customProperties"] == {"stringData": {"customData1": "before"}}
    assert second["contextTags"] == ["a"]


def test_tags_are_a_list_whatever_they_were_given_as(service: Service) -> None:
    """T27: In the old client a text became its letters, and None made the first event fail."""
    given: tuple[Any, ...] = ("abc", None, ("a", "b"))
    for tags in given:
        TrakerrClient("k", tags=tags).log({}, exc_info=False)

    assert [event["contextTags"] for event in service.delivered()] == [["abc"], [], ["a", "b"]]


def test_tags_that_can_be_none_are_refused_at_once(service: Service) -> None:
    """T27: The old client accepted a number, printed it on stderr, and failed at its first event."""
    with pytest.raises(TypeError, match="tags is int"):
        TrakerrClient("k", tags=5)  # type: ignore[arg-type]


# Levels, types, messages ---------------------------------------------------------------------------------------------


WORDS = {
    "debug": "debug", "Info": "info", "WARNING": "warning", "warn": "warning", "WARN": "warning", "error": "error",
    "fatal": "fatal", "FATAL": "fatal", "critical": "fatal", "CRITICAL": "fatal", "notice": "error", "": "error",
}  # fmt: skip


def test_a_level_is_taken_in_any_case(service: Service) -> None:
    """T24: In the old client CRITICAL and warn became error."""
    client = TrakerrClient("k")

    for given, word in WORDS.items():
        assert client.create_new_app_event(given).log_level == word
        client.log({}, given, exc_info=False)

    assert [event["logLevel"] for event in service.delivered()] == list(WORDS.values())


def test_an_event_s_own_level_is_one_of_the_five() -> None:
    event = AppEvent()
    event.log_level = "CRITICAL"
    assert event.log_level == "fatal"

    for wrong in ("loud", None, 40):
        with pytest.raises(ValueError, match=r"\['debug', 'info', 'warning', 'error', 'fatal'\]"):
            event.log_level = wrong  # type: ignore[assignment]
    with pytest.raises(ValueError, match="loud"):
        AppEvent("k", "loud")
    assert event.log_level == "fatal"


def test_log_without_type_and_message_says_unknown(service: Service) -> None:
    """T25: The old client left both out, although the docstring of `log` said that they are "unknown"."""
    TrakerrClient("k").log({}, exc_info=False)

    event = service.only()
    assert (event["eventType"], event["eventMessage"]) == ("unknown", "unknown")


def test_type_and_message_are_the_exception_s_unless_they_are_given(service: Service) -> None:
    client = TrakerrClient("k")

    for open_ in (None, "unknown"):
        event = client.create_new_app_event("error", "issue", open_, open_, capture_exceptions())
        assert (event.event_type, event.event_message) == ("builtins.IndexError", "Bad Math")
    client.send_event_async(event)
    client.send_event_async(client.create_new_app_event("error", "issue", "own", "said", capture_exceptions()))

    first, second = service.delivered()
    assert (first["eventType"], first["eventMessage"]) == ("builtins.IndexError", "Bad Math")
    assert (second["eventType"], second["eventMessage"]) == ("own", "said")


def test_values_of_any_kind_arrive_as_valid_json(service: Service) -> None:
    """T26: The old client sent NaN, which is not JSON; events with bytes, sets or decimals were lost."""
    client = TrakerrClient("k")
    values: list[Any] = [
        42, [1, "a"], {"a": 1}, float("nan"), b"bytes", {"one"}, decimal.Decimal("1.5"), datetime.date(2020, 1, 2)
    ]  # fmt: skip

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for value in [*values, cyclic, object()]:
        client.log({"user": value, "time": value}, exc_info=False)

    arrived = [event["eventUser"] for event in service.delivered()]
    assert arrived[:8] == [42, [1, "a"], {"a": 1}, "NaN", "bytes", ["one"], "1.5", "2020-01-02"]
    assert len(arrived) == 10


class Place(NamedTuple):
    city: str
    parts: tuple[CustomStringData, ...]


def test_values_are_spelled_as_json_spells_them_wherever_they_are(service: Service) -> None:
    """Tuples and named tuples become lists, and may hold models; keys True, None, 2.5 become "true", "null", "2.5"."""
    client = TrakerrClient("k")
    event = client.create_new_app_event()
    event.custom_properties = {"place": Place("Bonn", (CustomStringData("a"),)), True: 1, None: 2, 2.5: 3}  # type: ignore[dict-item]
    lines = (StackTraceLine("f", 1, "a.py"),)
    event.event_stacktrace = (InnerStackTrace("m.E", "text", lines),)  # type: ignore[assignment, arg-type]

    client.send_event_async(event)

    arrived = service.only()
    assert arrived["customProperties"] == {
        "place": ["Bonn", [{"customData1": "a"}]], "true": 1, "null": 2, "2.5": 3
    }  # fmt: skip
    assert arrived["eventStacktrace"] == [
        {"type": "m.E", "message": "text", "traceLines": [{"function": "f", "line": 1, "file": "a.py"}]}
    ]


# exc_info ------------------------------------------------------------------------------------------------------------


def test_log_takes_the_exception_that_is_being_handled(service: Service) -> None:
    client = TrakerrClient("k")
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        client.log({"user": "u"})
    client.log({})

    first, second = service.delivered()
    assert (first["eventType"], first["eventMessage"]) == ("builtins.ZeroDivisionError", "by zero")
    assert "eventStacktrace" not in second


def test_exc_info_may_be_an_exception_or_a_triple_with_or_without_traceback(service: Service) -> None:
    """T5: In the old client an exception that was never raised caused a TypeError."""
    client = TrakerrClient("k")
    error = capture_exceptions()
    forms: list[Any] = [
        error,
        (type(error), error, error.__traceback__),
        [type(error), error, error.__traceback__],
        (type(error), error, None),
        ValueError("never raised"),
        (ValueError, ValueError("never raised"), None),
    ]

    for form in forms:
        client.log({}, exc_info=form)

    events = service.delivered()
    assert [event["eventMessage"] for event in events] == ["Bad Math"] * 4 + ["never raised"] * 2
    assert [len(event["eventStacktrace"][0]["traceLines"]) for event in events] == [1, 1, 1, 1, 0, 0]


def test_any_base_exception_is_sent(service: Service) -> None:
    """T4: In the old client KeyboardInterrupt, SystemExit and such made the call raise TypeError."""
    client = TrakerrClient("k")
    for error in (KeyboardInterrupt("k"), SystemExit(3), GeneratorExit(), StopIteration()):
        try:
            raise error
        except BaseException:
            client.log({})

    names = ("KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration")
    assert [event["eventType"] for event in service.delivered()] == [f"builtins.{name}" for name in names]


def test_a_triple_of_nothing_is_no_exception(service: Service) -> None:
    """T37: In the old client such a triple passed the check, and then caused an AttributeError."""
    TrakerrClient("k").log({}, exc_info=(None, None, None))

    assert "eventStacktrace" not in service.only()


class Outer:
    class OwnError(Exception):
        pass


def test_a_type_is_named_with_its_module_and_its_whole_name(service: Service) -> None:
    """T2: The old client sent the module of the metaclass and the unqualified name."""
    TrakerrClient("k").log({}, exc_info=Outer.OwnError("x"))

    event = service.only()
    assert event["eventType"] == f"{__name__}.Outer.OwnError"
    assert event["eventStacktrace"][0]["type"] == f"{__name__}.Outer.OwnError"


def test_causes_contexts_and_members_follow_their_exception(service: Service) -> None:
    """T3: The old client dropped causes and contexts, although the stack trace is a list."""
    try:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ValueError("effect") from cause
    except ValueError:
        TrakerrClient("k").log({})

    assert [one["type"] for one in service.only()["eventStacktrace"]] == ["builtins.ValueError", "builtins.KeyError"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups yet")
def test_the_members_of_a_group_follow_it(service: Service) -> None:
    """T3: The old client dropped the members."""
    group: Any = eval("ExceptionGroup('all', [ValueError('one'), KeyError('two')])")

    TrakerrClient("k").log({}, exc_info=group)

    assert [one["message"] for one in service.only()["eventStacktrace"]][1:] == ["one", "'two'"]


def test_an_exception_whose_text_fails_is_sent(service: Service) -> None:
    """T6: In the old client an error in str(exc) reached the application."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    TrakerrClient("k").log({}, exc_info=Mute())

    assert "unrepresentable" in service.only()["eventMessage"]


def test_files_are_named_from_where_the_program_was_started(service: Service, tmp_path: Path) -> None:
    """T7: In the old client the names depended on the current working directory; a deleted one made the call raise."""
    done = script(
        tmp_path,
        """
        import os, traceback
        from shipper.trakerr import TrakerrClient
        client = TrakerrClient("k")
        def send():
            try:
                raise ValueError("x")
            except ValueError:
                client.log({})
        send()
        os.mkdir("gone")
        os.chdir("gone")
        send()
        os.rmdir("../gone")
        send()
        assert TrakerrClient.shutdown(60)
        """,
    )

    assert (done.returncode, done.stderr) == (0, "")
    files = [event["eventStacktrace"][0]["traceLines"][0]["file"] for event in service.arrived()]
    assert files == ["program.py"] * 3


def test_a_file_elsewhere_keeps_its_whole_name(service: Service) -> None:
    try:
        datetime.datetime.strptime("x", "%d")
    except ValueError as error:
        TrakerrClient("k").log({})
        whole = traceback.extract_tb(error.__traceback__)[-1].filename

    assert service.only()["eventStacktrace"][0]["traceLines"][-1]["file"] == whole


def test_a_long_recursion_is_cut_in_the_middle(service: Service) -> None:
    def deeper() -> None:
        deeper()

    try:
        deeper()
    except RecursionError as error:
        caught = error
    TrakerrClient("k").log({}, exc_info=caught)

    lines = service.only()["eventStacktrace"][0]["traceLines"]
    assert len(lines) == 100
    assert any("frames left out" in line["file"] for line in lines)


# Time and load -------------------------------------------------------------------------------------------------------


def test_an_event_that_is_sent_twice_has_two_times(service: Service) -> None:
    """T29: In the old client the second event had the time of the first."""
    client = TrakerrClient("k")
    event = client.create_new_app_event()
    client.send_event_async(event)
    before = time.time()
    wait_until(lambda: time.time() > before + 0.01)

    client.send_event_async(event)

    first, second = (each["eventTime"] for each in service.delivered())
    assert first < second
    assert event.event_time is None


def test_a_time_of_the_event_s_own_is_sent(service: Service) -> None:
    client = TrakerrClient("k")
    event = client.create_new_app_event()
    event.event_time = 1_500_000_000_000

    client.send_event_async(event)

    assert service.only()["eventTime"] == 1_500_000_000_000


def test_cpu_and_memory_are_floats_from_the_first_event_on(service: Service) -> None:
    """T20: In the old client both were the integer 0 in the first second."""
    client = TrakerrClient("k")
    client.log({}, exc_info=False)
    client.send_event(client.create_new_app_event())

    for event in service.delivered():
        assert isinstance(event["contextCpuPercentage"], float)
        assert isinstance(event["contextMemoryPercentage"], float)
        assert event["contextMemoryPercentage"] > 0


# Arguments -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api_key", "context_app_version", "context_deployment_stage", "application_sku"])
@pytest.mark.parametrize("wrong", [None, 5, b"k", ["k"]])
def test_a_client_wants_texts_and_says_which_is_none(name: str, wrong: object) -> None:
    arguments: Any = {"api_key": "k", name: wrong}

    with pytest.raises(TypeError, match=f"Arguments are expected strings.* {name} is {type(wrong).__name__}"):
        TrakerrClient(**arguments)


def test_an_event_wants_texts_or_none_and_says_which_is_neither(service: Service) -> None:
    client: Any = TrakerrClient("k")
    wrong: list[tuple[dict[str, object], str]] = [
        ({"log_level": None}, "log_level is NoneType"),
        ({"log_level": 40}, "log_level is int"),
        ({"classification": 1}, "classification is int"),
        ({"event_type": []}, "event_type is list"),
        ({"event_message": b""}, "event_message is bytes"),
        ({"exc_info": 1}, "exc_info is expected"),
        ({"exc_info": "x"}, "exc_info is expected"),
        ({"exc_info": (1, 2)}, "exc_info is expected"),
        ({"exc_info": (ValueError, "x", None)}, "exc_info is expected"),
    ]

    for arguments, message in wrong:
        with pytest.raises(TypeError, match=message):
            client.create_new_app_event(**arguments)


def test_only_app_events_are_sent(service: Service) -> None:
    client = TrakerrClient("k")
    wrong: Any = {"event_message": "x"}

    for send in (client.send_event, client.send_event_async, client.fill_defaults):
        with pytest.raises(TypeError, match=r"Argument is expected of class AppEvent\. app_event is dict"):
            send(wrong)


def test_log_wants_a_dictionary(service: Service) -> None:
    client: Any = TrakerrClient("k")
    nothing: tuple[Any, ...] = (None, [])
    for wrong in nothing:
        with pytest.raises(AttributeError, match="has no attribute 'get'"):
            client.log(wrong)


def test_the_number_of_connections_is_spelled_either_way(service: Service) -> None:
    """T23: In the old client the README's spelling caused a TypeError."""
    TrakerrClient("k", threads=2, connections=2).log({}, exc_info=False)
    TrakerrClient("k", threads=2, connnections=2).log({}, exc_info=False)

    assert len(service.delivered()) == 2


# Keys ----------------------------------------------------------------------------------------------------------------


def test_a_key_is_put_in_at_sending_and_is_in_no_file(service: Service, spool: Path) -> None:
    client = TrakerrClient("very-secret-key")
    other = client.create_new_app_event()
    other.api_key = "other-secret-key"

    client.log({}, exc_info=False)
    client.send_event_async(other)

    assert {event["apiKey"] for event in service.delivered()} == {"very-secret-key", "other-secret-key"}
    files = list(contents(spool))
    assert files
    assert not [content for content in files if b"secret-key" in content]


def test_a_client_s_key_can_be_changed(service: Service) -> None:
    client = TrakerrClient("one")
    client.log({}, exc_info=False)
    client.api_key = "two"
    client.log({}, exc_info=False)

    assert {event["apiKey"] for event in service.delivered()} == {"one", "two"}


def test_an_empty_key_is_sent_as_it_is(service: Service) -> None:
    client = TrakerrClient("")
    client.log({}, exc_info=False)
    client.send_event(client.create_new_app_event())

    assert [event["apiKey"] for event in service.delivered()] == ["", ""]


def test_a_key_with_a_line_break_is_refused(service: Service) -> None:
    with pytest.raises(shipper.ConfigurationError, match="api_key"):
        TrakerrClient("key\n")


# Scope ---------------------------------------------------------------------------------------------------------------


def test_a_context_fills_the_fields_of_every_event_inside(service: Service) -> None:
    client = TrakerrClient("k")
    with context(user="u", session="s", url="/outer", correlation_id="c"):
        client.log({}, exc_info=False)
        with context(url="/inner"):
            client.log({"user": "own"}, exc_info=False)
        client.send_event(client.create_new_app_event())
    client.log({}, exc_info=False)

    keys = ("eventUser", "eventSession", "contextURL", "contextCrossAppCorrelationId")
    # In any order: the event sent synchronously may have overtaken the others.
    assert Counter(tuple(event.get(key) for key in keys) for event in service.delivered()) == Counter([
        ("u", "s", "/outer", "c"),
        ("own", "s", "/inner", "c"),
        ("u", "s", "/outer", "c"),
        (None, None, None, None),
    ])


def test_another_thread_has_another_context(service: Service) -> None:
    client = TrakerrClient("k")

    with context(user="u"):
        thread = threading.Thread(target=client.log, args=({}, "error", "issue", False))
        thread.start()
        thread.join()

    assert "eventUser" not in service.only()


def test_an_event_inside_a_span_has_its_trace_id_unless_it_was_set(service: Service, trace_id: str) -> None:
    client = TrakerrClient("k")
    client.log({}, exc_info=False)
    client.log({"corrid": "own"}, exc_info=False)
    with context(correlation_id="block"):
        client.log({}, exc_info=False)

    ids = [event["contextCrossAppCorrelationId"] for event in service.delivered()]
    assert ids == [trace_id, "own", "block"]
    assert client.fill_defaults(client.create_new_app_event()).context_cross_app_correlation_id == trace_id


# Delivery ------------------------------------------------------------------------------------------------------------


def test_a_call_back_hears_when_the_queue_has_the_event(service: Service) -> None:
    client = TrakerrClient("k")
    heard: list[object] = []

    client.send_event_async(client.create_new_app_event(), heard.append)

    assert heard == [(None, 202, {})]


def fail(answer: object) -> None:
    raise RuntimeError("call back")


@pytest.mark.parametrize("call_back", [fail, 5], ids=["raises", "is no function"])
def test_a_call_back_that_fails_does_not_reach_the_application(service: Service, call_back: Any) -> None:
    client = TrakerrClient("k")

    client.send_event_async(client.create_new_app_event(), call_back)

    assert service.only()


def test_events_arrive_in_the_order_of_logging(service: Service) -> None:
    """T13: With the old client events arrived in the order 0, 4, 5, 6, ..., 3, 1, 2."""
    client = TrakerrClient("k")
    for number in range(30):
        client.log({"eventmessage": str(number)}, exc_info=False)

    assert [event["eventMessage"] for event in service.delivered()] == [str(number) for number in range(30)]


def test_what_the_service_could_not_take_is_sent_again(spool: Path) -> None:
    """T14: After an answer of 503 or 429 the old client lost the event without a warning."""
    answers = [Reply(503), Reply(429, {"Retry-After": "0"}), Reply(500)]
    with running_service(spool, answers) as service:
        TrakerrClient("k").log({"eventmessage": "again"}, exc_info=False)
        events = service.delivered()

    assert [event["eventMessage"] for event in events] == ["again"] * 4
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1


def test_what_the_service_refuses_is_counted(spool: Path) -> None:
    """T14: After an answer of 400 the old client lost the event without a warning."""
    with running_service(spool, [OK], default=Reply(400)):
        client = TrakerrClient("k")
        client.log({}, exc_info=False)
        assert TrakerrClient.shutdown(PATIENCE)  # one success first: if all events are refused, none is rejected
        client.log({}, exc_info=False)
        assert TrakerrClient.shutdown(PATIENCE)
        status = shipper.status()

    assert [backend.dead for backend in status.backends] == [1], status


def test_a_connection_that_is_dropped_under_a_request_loses_nothing(spool: Path) -> None:
    """T33: The old client lost the event of that request."""
    with running_service(spool, [Reply(), Reply(silent=True, then="reset")]) as service:
        client = TrakerrClient("k")
        for number in range(3):
            client.log({"eventmessage": str(number)}, exc_info=False)
        events = service.delivered()

    assert {event["eventMessage"] for event in events} == {"0", "1", "2"}


def test_a_server_that_hangs_holds_up_nobody(spool: Path) -> None:
    """T18, T12: The old client had no timeout and one connection for all threads: all waited for ever."""
    with running_service(spool, default=Reply(silent=True, then="hang")):
        client = TrakerrClient("k", threads=8, connections=8, timeout=(0.5, 0.5))
        begun = time.monotonic()
        for _ in range(100):
            client.log({}, exc_info=False)
        took = time.monotonic() - begun
        flushed = TrakerrClient.shutdown(0.3)

    assert took < scaled(2)
    assert not flushed


class SlowServer(ThreadingHTTPServer):
    """Answers after 20 ms; ``most`` is the largest number of requests at the same time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowAnswer)
        self.lock = threading.Lock()
        self.now = self.most = 0

    def __enter__(self) -> SlowServer:
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()

    def count(self, change: int) -> None:
        with self.lock:
            self.now += change
            self.most = max(self.most, self.now)


class SlowAnswer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SlowServer
    timeout = 2.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.count(+1)
        threading.Event().wait(0.02)
        self.server.count(-1)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_several_requests_are_under_way_at_once(service: Service) -> None:
    """T12: In the old client all threads shared one connection."""
    with SlowServer() as slow:
        client = TrakerrClient("k", threads=8, connections=6, url=f"http://127.0.0.1:{slow.server_port}")
        for _ in range(60):
            client.log({}, exc_info=False)
        assert TrakerrClient.shutdown(PATIENCE)
        shipper.stop()

    assert 3 <= slow.most <= 6


def test_as_many_events_go_out_at_the_same_time_as_was_said_from_the_first_on(spool: Path) -> None:
    """Some of the five events may be sent before the others are read; at some time three are in flight together."""
    together = threading.Barrier(3)
    met: list[bool] = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if not met:
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(1.0)
                    met.append(True)
                if together.broken:
                    together.reset()
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            client = TrakerrClient("key", threads=8, connections=8, url=f"http://127.0.0.1:{server.server_port}")
            for number in range(5):
                client.log({"eventmessage": str(number)}, exc_info=False)

            assert TrakerrClient.shutdown(PATIENCE)
        finally:
            shipper.stop(PATIENCE)
            shipper.application.joining.forget_joined()
            server.shutdown()
    assert met


@pytest.mark.parametrize("away", [-10 * 365 * 86400, 10 * 365 * 86400], ids=["past", "future"])
def test_an_event_whose_time_lies_far_from_now_gets_no_load_of_today(service: Service, away: int) -> None:
    client = TrakerrClient("key")
    event = client.create_new_app_event("info")
    event.event_time = int((time.time() + away) * 1000)
    client.send_event_async(event)
    client.send_event(event)

    for arrived in service.delivered():
        assert arrived["eventTime"] == event.event_time
        assert "contextCpuPercentage" not in arrived
        assert "contextMemoryPercentage" not in arrived


@pytest.mark.parametrize("tags", [b"ab", bytearray(b"ab"), memoryview(b"ab")])
def test_bytes_are_no_tags(service: Service, tags: Any) -> None:
    with pytest.raises(TypeError, match="tags"):
        TrakerrClient("key", tags=tags)
    client = TrakerrClient("key")
    with pytest.raises(TypeError, match="context_tags"):
        client.context_tags = tags
