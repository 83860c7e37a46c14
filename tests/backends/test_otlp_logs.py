"""The OTLP encoder makes the same messages as the generated classes of opentelemetry-proto."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from shipper.backends.otlp import logs, protobuf
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.tracebacks import traceback_text

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "trace_flags": 1}

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)  # lone surrogates too
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), texts, st.binary(max_size=20)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
fields = st.dictionaries(texts.filter(lambda key: key not in logs.DIRECTIONS), values, max_size=5)
frames = st.builds(Frame, texts, st.integers(0, 10_000), texts)
exceptions = st.builds(
    ExceptionInfo, st.just("raised"), texts, texts, texts, st.lists(frames, max_size=3), st.lists(texts, max_size=2)
)
events = st.builds(
    Event,
    kind=st.sampled_from(["log", "trakerr", "jkool"]),
    time=st.floats(0, 4e9),
    level=st.integers(0, 70),
    level_name=st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NOTICE", ""]),
    logger=st.sampled_from(["", "shop", "shop.orders"]),
    message=texts,
    path=texts,
    line=st.integers(0, 1 << 31),
    function=texts,
    pid=st.integers(0, 1 << 22),
    process=texts,
    tid=st.integers(0, 1 << 48),
    thread=texts,
    task=st.none() | texts,
    exceptions=st.lists(exceptions, max_size=1),
    stack=st.none() | texts,
    extra=fields,
    context=fields | st.just(TRACE),
    data=fields,
    id=st.none() | st.builds(EventId, st.binary(min_size=8, max_size=8), st.integers(0, (1 << 64) - 1)),
)


def printed(event: Event) -> str:
    return traceback_text(event.exceptions)


def as_any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(1 << 63) <= value < 1 << 63 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(as_any_value, value)))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=[key_value(key, each) for key, each in value.items()]))
    return AnyValue(string_value=as_utf8(value))


def as_utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def key_value(key: str, value: Any) -> KeyValue:
    return KeyValue(key=as_utf8(key), value=as_any_value(value))


def expected(event: Event) -> LogRecord:
    """Return the log record of an event, made with the generated classes."""
    said: list[tuple[str, Any]] = []
    if event.id is not None:
        said.append(("log.record.uid", event.id.uuid_text))
    origin = {"code.file.path": event.path, "code.line.number": event.line, "code.function.name": event.function}
    writer = {
        "process.pid": event.pid,
        "process.name": event.process,
        "thread.id": event.tid,
        "thread.name": event.thread,
    }
    said += [(key, value) for key, value in {**origin, **writer}.items() if value]
    if event.exceptions:
        first = event.exceptions[0]
        said += [
            ("exception.type", first.type.removeprefix("builtins.")),
            ("exception.message", first.message),
            ("exception.stacktrace", traceback_text(event.exceptions)),
        ]
    if event.stack is not None:
        said.append(("code.stacktrace", event.stack))
    own = {key: value for key, value in event.context.items() if key not in TRACE}
    own.update(event.extra)
    own.update({f"{event.kind}.{key}": value for key, value in event.data.items()})
    if event.task is not None:
        own.setdefault("asyncio.task.name", event.task)
    nanoseconds = round(event.time * 1_000_000) * 1_000
    record = LogRecord(
        time_unix_nano=nanoseconds,
        observed_time_unix_nano=nanoseconds,
        severity_number=logs.severity_number(event.level),  # type: ignore[arg-type]
        severity_text={"WARNING": "WARN", "CRITICAL": "FATAL"}.get(event.level_name, event.level_name),
        body=as_any_value(event.message or event.data.get("eventMessage") or ""),
        attributes=[key_value(key, value) for key, value in [*said, *own.items()]],
    )
    if event.context == TRACE:
        record.trace_id = bytes.fromhex(str(TRACE["trace_id"]))
        record.span_id = bytes.fromhex(str(TRACE["span_id"]))
        record.flags = 1
    return record


@given(events)
def test_a_record_is_the_one_that_the_generated_classes_make(event: Event) -> None:
    """The serialised bytes are compared, because NaN is unequal to itself."""
    parsed = LogRecord.FromString(logs.log_record(event, printed))

    assert parsed.SerializeToString(deterministic=True) == expected(event).SerializeToString(deterministic=True)


@given(st.lists(events, max_size=5))
def test_a_request_has_each_logger_as_a_scope_with_its_records_in_their_order(batch: list[Event]) -> None:
    resource = {"service.name": "shop", "host.name": "h"}
    scopes: dict[str, list[LogRecord]] = {}
    for event in batch:
        scopes.setdefault(event.logger, []).append(expected(event))
    message = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(
                resource=Resource(attributes=[key_value(key, value) for key, value in resource.items()]),
                scope_logs=[
                    ScopeLogs(scope=InstrumentationScope(name=logger), log_records=records)
                    for logger, records in scopes.items()
                ],
            )
        ]
    )

    made = logs.request(batch, logs.resource_message(resource), printed)

    parsed = ExportLogsServiceRequest.FromString(made)
    assert parsed.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("level", "number"),
    [(0, 1), (5, 2), (9, 4), (10, 5), (13, 6), (19, 8), (20, 9), (25, 10), (30, 13), (35, 14), (40, 17), (50, 21)],
)
def test_levels_between_the_standard_ones_get_the_numbers_between(level: int, number: int) -> None:
    assert logs.severity_number(level) == number


@pytest.mark.parametrize(
    "context",
    [
        {"trace_id": "0" * 32, "span_id": "b7ad6b7169203331"},
        {"trace_id": "xyz"},
        {"trace_id": 5},
        {"trace_id": "0AF7651916CD43DD8448EB211C80319C"},
        {"span_id": "b7ad6b7169203331"},
    ],
    ids=["zeros", "too short", "no text", "capitals", "no trace"],
)
def test_what_is_no_trace_id_is_left_out(context: dict[str, Any]) -> None:
    parsed = LogRecord.FromString(logs.log_record(Event(context=context), printed))

    assert (parsed.trace_id, parsed.span_id, parsed.flags) == (b"", b"", 0)


def test_directions_for_other_backends_are_no_attributes() -> None:
    event = Event(extra={"trakerr": {"user": "u"}, "jkool": {}, "allTags": ["a"], "order": 17})

    parsed = LogRecord.FromString(logs.log_record(event, printed))

    assert [attribute.key for attribute in parsed.attributes] == ["order"]


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_a_varint_is_read_as_it_was_written(number: int) -> None:
    ((_, read),) = protobuf.fields(protobuf.tag(3, protobuf.VARINT) + protobuf.varint(number))

    assert isinstance(read, int)
    assert read in (number, number + (1 << 64))
    assert protobuf.signed(read) == (number if number < 1 << 63 else number - (1 << 64))


@given(st.binary(max_size=40))
def test_bytes_that_are_no_message_raise_value_error_or_are_read(message: bytes) -> None:
    try:
        list(protobuf.fields(message))
    except ValueError:
        return
