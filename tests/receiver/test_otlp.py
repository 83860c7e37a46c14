"""The receiver takes OTLP log records, from shipper's backend and from other senders."""

from __future__ import annotations

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from shipper import Otlp
from shipper.backends.exporter import described
from shipper.backends.http.sender import Sender
from shipper.backends.otlp import protobuf
from shipper.backends.protocol import AppContext
from shipper.event.model import Event, EventId
from shipper.receiver import Receiver

PROTOBUF = "application/x-protobuf"
EVENT = Event(
    time=1_700_000_000.5,
    level=40,
    level_name="ERROR",
    logger="shop",
    message="no such order",
    path="/srv/shop/orders.py",
    line=17,
    extra={"order": 17, "tags": ["a", 1.5, None, float("nan")], "raw": b"\x00\xff", "deep": {"yes": True}, "low": -1},
    context={"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "trace_flags": 1},
    id=EventId(b"12345678", 7),
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def post(receiver: Receiver, body: bytes, media_type: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"{receiver.otlp_url}/v1/logs", body, {"Content-Type": media_type, **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_what_our_backend_sends_is_shown_with_its_values(receiver: Receiver) -> None:
    sender = Sender(described(Otlp(receiver.otlp_url)))
    sender.open(AppContext("shop", "/srv/shop", "web-1", "10.0.0.7", lambda time: None))
    assert sender.send([EVENT, EVENT]) == [None, None]
    sender.close()

    (event,) = receiver.events("otlp")
    body = event["body"]
    assert (event["key"], event["level"], event["logger"]) == (str(EVENT.id.uuid), "ERROR", "shop")  # type: ignore[union-attr]
    assert (event["message"], event["time"], event["copies"]) == ("no such order", 1_700_000_000.5, 2)
    assert body["resource"]["service.name"] == "shop"
    assert body["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert body["attributes"]["code.line.number"] == 17
    assert body["attributes"]["tags"] == ["a", 1.5, None, "NaN"]
    assert body["attributes"]["deep"] == {"yes": True}
    assert body["attributes"]["raw"] == "AP8="
    assert body["attributes"]["low"] == -1
    assert receiver.counts()["otlp"] == {"requests": 1, "events": 2, "keys": 1, "duplicates": 1, "failed": 0}


def a_request(**fields: Any) -> bytes:
    record = LogRecord(body=AnyValue(string_value="hello"), **fields)
    scope_logs = ScopeLogs(log_records=[record])
    message: bytes = ExportLogsServiceRequest(resource_logs=[ResourceLogs(scope_logs=[scope_logs])]).SerializeToString()
    return message


def test_a_record_of_somebody_else_needs_neither_id_nor_severity_text(receiver: Receiver) -> None:
    assert post(receiver, a_request(severity_number=13, observed_time_unix_nano=5_000_000_000), PROTOBUF) == (200, b"")

    (event,) = receiver.events("otlp")
    assert (event["key"], event["level"], event["time"], event["message"]) == (None, "warning", 5.0, "hello")


def test_a_gzipped_request_is_taken(receiver: Receiver) -> None:
    status, _ = post(receiver, gzip.compress(a_request()), PROTOBUF, **{"Content-Encoding": "gzip"})

    assert status == 200
    assert receiver.counts()["otlp"]["events"] == 1


def in_json(**record: Any) -> bytes:
    """A request with one record, in OTLP's JSON encoding."""
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode()


def test_json_is_taken_too(receiver: Receiver) -> None:
    record = {
        "timeUnixNano": "1700000000500000000",
        "severityNumber": 9,
        "severityText": "INFO",
        "body": {"stringValue": "hello"},
        "attributes": [
            {"key": "n", "value": {"intValue": "17"}},
            {"key": "l", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
            {"key": "m", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"doubleValue": 1.5}}]}}},
        ],
    }
    body = {"resourceLogs": [{"scopeLogs": [{"scope": {"name": "shop"}, "logRecords": [record]}]}]}

    assert post(receiver, json.dumps(body).encode(), "application/json") == (200, b"{}")

    (event,) = receiver.events("otlp")
    assert (event["logger"], event["message"], event["level"], event["time"]) == ("shop", "hello", "INFO", 1700000000.5)
    assert event["body"]["attributes"] == {"n": 17, "l": [True], "m": {"a": 1.5}}


def test_a_record_in_json_has_its_trace_as_protobuf_has_it_and_needs_no_body(receiver: Receiver) -> None:
    trace = "0AF7651916CD43DD8448EB211C80319C"

    assert post(receiver, in_json(traceId=trace, attributes=[{"value": {}}]), "application/json") == (200, b"{}")

    (event,) = receiver.events("otlp")
    assert (event["message"], event["body"]["traceId"]) == ("", trace.lower())


def nested(depth: int) -> bytes:
    """A request whose attribute is a list nested ``depth`` times, deeper than the generated classes can encode."""
    value = b"\x0a\x04core"
    for _ in range(depth):
        value = delimited(5, delimited(1, value))
    record = delimited(6, delimited(1, b"deep") + delimited(2, value))
    return delimited(1, delimited(2, delimited(2, record)))


def delimited(number: int, content: bytes) -> bytes:
    return protobuf.delimited(protobuf.tag(number, protobuf.LENGTH_DELIMITED), content)


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"hello", PROTOBUF, 400),
        (a_request()[:-3], PROTOBUF, 400),
        (nested(70), PROTOBUF, 400),
        (b"[]", "application/json", 400),
        (b'{"resourceLogs": 5}', "application/json", 400),
        (b"null", "application/json", 400),
        (in_json(timeUnixNano="soon"), "application/json", 400),
        (in_json(timeUnixNano=1e300), "application/json", 400),
        (in_json(severityNumber="SEVERITY_NUMBER_WARN"), "application/json", 400),
        (in_json(traceId="0af7651916cd43dd"), "application/json", 400),
        (in_json(spanId="b7ad6b716920333x"), "application/json", 400),
        (in_json(attributes=[7]), "application/json", 400),
        (a_request(), "text/plain", 415),
    ],
)
def test_what_is_no_request_is_refused_and_nothing_of_it_kept(
    body: bytes, media_type: str, status: int, receiver: Receiver
) -> None:
    assert post(receiver, body, media_type)[0] == status
    assert receiver.counts()["otlp"] == {"requests": 1, "events": 0, "keys": 0, "duplicates": 0, "failed": 1}


def test_faults_can_be_asked_for(receiver: Receiver) -> None:
    receiver.fail("otlp", status=503, retry_after="7")

    assert post(receiver, a_request(), PROTOBUF)[0] == 503
    assert post(receiver, a_request(), PROTOBUF)[0] == 200
