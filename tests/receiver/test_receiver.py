"""The local receiver: Trakerr's and jKool's protocols, faults, access, and stored events."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from shipper.errors import ConfigurationError
from shipper.receiver import Receiver
from shipper.receiver.faults import Fault, Faults
from shipper.receiver.services.jkool import JKool
from shipper.receiver.services.service import Refused, read_objects
from shipper.receiver.services.trakerr import Trakerr
from shipper.receiver.store.events import Store
from shipper.receiver.web import Web

from ..support.waiting import PATIENCE, scaled, wait_until

JSON = {"Content-Type": "application/json"}
DEADLINE = scaled(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


class Answered:
    """Status, headers and body of an answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """One connection, which is never reopened automatically."""

    def __init__(self, receiver: Receiver, source_port: int = 0) -> None:
        address = urlsplit(receiver.url)
        assert address.hostname is not None
        self._http = http.client.HTTPConnection(
            address.hostname, address.port, timeout=DEADLINE, source_address=("127.0.0.1", source_port)
        )
        self._http.auto_open = 0
        self._http.connect()

    @property
    def sock(self) -> socket.socket:
        assert isinstance(self._http.sock, socket.socket)
        return self._http.sock

    def __call__(self, method: str, path: str, body: object = None, headers: Mapping[str, str] = JSON) -> Answered:
        content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self._http.request(method, path, content, dict(headers))
        return Answered(self._http.getresponse())

    def handshake(self, token: str = "token") -> Answered:
        body = f"<access-request><token>{token}</token></access-request>".encode()
        return self("POST", "/", body, {"Content-Type": "text/plain"})

    def close(self) -> None:
        self._http.close()


def call(
    receiver: Receiver, method: str, path: str, body: object = None, headers: Mapping[str, str] = JSON
) -> Answered:
    """One request on a connection of its own."""
    with closing(Client(receiver)) as client:
        return client(method, path, body, headers)


def trakerr_event(**changes: object) -> dict[str, object]:
    event = {"apiKey": "key", "logLevel": "warning", "eventType": "orders", "eventMessage": "late", "eventTime": 1500}
    return {name: value for name, value in {**event, **changes}.items() if value is not ...}


def jkool_event(**changes: object) -> dict[str, object]:
    event = {
        "operation": "orders",
        "type": "EVENT",
        "time-usec": 1_500_000,
        "msg-text": "order paid",
        "severity": "INFO",
        "source-fqn": "APPL=shop",
        "tracking-id": "t1",
    }
    renamed = {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in {**event, **renamed}.items() if value is not ...}


def post_trakerr(receiver: Receiver, event: object, key: str | None = None) -> Answered:
    headers = {**JSON, "Idempotency-Key": key} if key else JSON
    return call(receiver, "POST", "/api/v1/events", event, headers)


def post_jkool(receiver: Receiver, event: object) -> Answered:
    return call(receiver, "POST", "/", event, {**JSON, "X-API-Key": "token"})


# Trakerr


def test_a_trakerr_event_is_answered_with_200_and_kept(receiver: Receiver) -> None:
    answered = post_trakerr(receiver, trakerr_event(), key="k1")

    assert answered.status == 200
    assert answered.json == {"accepted": 1}
    [event] = receiver.events("trakerr")
    assert event["body"] == trakerr_event()
    kept = {name: event[name] for name in ("service", "key", "time", "level", "logger", "message", "copies")}
    assert kept == {
        "service": "trakerr",
        "key": "k1",
        "time": 1.5,
        "level": "warning",
        "logger": "orders",
        "message": "late",
        "copies": 1,
    }


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (trakerr_event(apiKey=...), "apiKey"),
        (trakerr_event(apiKey=""), "apiKey"),
        (trakerr_event(apiKey=7), "apiKey"),
        (trakerr_event(logLevel=...), "logLevel"),
        (trakerr_event(logLevel="WARNING"), "logLevel"),
        (trakerr_event(logLevel=["warning"]), "logLevel"),
        (trakerr_event(eventMessage=None), "eventMessage"),
        (trakerr_event(eventTime=1.5), "eventTime"),
        (trakerr_event(eventTime=True), "eventTime"),
        (trakerr_event(eventTime=2**70), "eventTime"),
        (trakerr_event(contextTags="orders"), "contextTags"),
        (trakerr_event(contextTags=[1]), "contextTags"),
        (trakerr_event(contextCpuPercentage="12"), "contextCpuPercentage"),
        (trakerr_event(customProperties=[]), "customProperties"),
        (trakerr_event(eventStacktrace={}), "eventStacktrace"),
        (trakerr_event(eventStacktrace=[{"type": "t", "message": "m", "traceLines": [{"line": "8"}]}]), "traceLines"),
        ([trakerr_event(), trakerr_event(apiKey="")], "event 1"),
        ("text", "object"),
        (b'{"apiKey": ', "JSON"),
        (b'{"apiKey": "k", "logLevel": "info", "contextCpuPercentage": NaN}', "NaN"),
        (b"[" * 100_000, "JSON"),
        (b"\xff", "UTF-8"),
        (b"", "JSON"),
    ],
)
def test_an_event_that_trakerr_would_not_take_is_a_400_with_the_reason(
    receiver: Receiver, event: object, reason: str
) -> None:
    answered = post_trakerr(receiver, event)

    assert answered.status == 400
    assert reason in answered.json["error"]
    assert receiver.counts()["trakerr"] == {"requests": 1, "events": 0, "keys": 0, "duplicates": 0, "failed": 1}


def test_trakerr_takes_everything_that_its_client_can_send(receiver: Receiver) -> None:
    line = {"function": "<module>", "line": 8, "file": "case.py"}
    event = trakerr_event(
        eventStacktrace=[{"type": "builtins.IndexError", "message": "", "traceLines": [line]}],
        eventUser={"any": "thing"},
        contextTags=[],
        contextOperationTimeMillis="1200",
        contextCpuPercentage=0,
        contextMemoryPercentage=12.5,
        customProperties={"stringData": {"customData1": "x"}},
        customSegments={},
        somethingNew=1,
    )

    assert post_trakerr(receiver, event).status == 200


def test_a_wrong_key_is_a_401_once_keys_are_configured() -> None:
    with Receiver(trakerr_keys=["right"]) as receiver:
        assert post_trakerr(receiver, trakerr_event(apiKey="wrong")).status == 401
        assert post_trakerr(receiver, trakerr_event(apiKey="right")).status == 200


@pytest.mark.parametrize(
    ("header", "keys"), [("a, b", ["a", "b"]), ("batch", ["batch#0", "batch#1"]), (None, [])], ids=str
)
def test_each_event_of_an_array_has_a_key_of_its_own(receiver: Receiver, header: str | None, keys: list[str]) -> None:
    answered = post_trakerr(receiver, [trakerr_event(), trakerr_event(eventMessage="second")], key=header)

    assert answered.json == {"accepted": 2}
    assert receiver.keys("trakerr") == keys
    assert [event["message"] for event in receiver.events(after=0)] == ["late", "second"]


def test_a_batch_with_one_bad_event_is_refused_as_a_whole(receiver: Receiver) -> None:
    post_trakerr(receiver, [trakerr_event(), trakerr_event(logLevel="loud")], key="a, b")

    assert receiver.events() == []


def test_the_same_key_again_is_counted_and_not_kept_twice(receiver: Receiver) -> None:
    for key in ("k1", "k2", "k1", "k1"):
        post_trakerr(receiver, trakerr_event(), key=key)
    post_jkool(receiver, jkool_event(tracking_id="k1"))

    assert receiver.counts()["trakerr"] == {"requests": 4, "events": 4, "keys": 2, "duplicates": 2, "failed": 0}
    assert receiver.counts()["jkool"]["duplicates"] == 0
    assert receiver.keys("trakerr") == ["k1", "k2"]
    assert [event["copies"] for event in receiver.events("trakerr", after=0)] == [3, 1]


def test_events_without_a_key_are_never_duplicates(receiver: Receiver) -> None:
    post_trakerr(receiver, trakerr_event())
    post_trakerr(receiver, trakerr_event())

    assert receiver.counts()["trakerr"] == {"requests": 2, "events": 2, "keys": 0, "duplicates": 0, "failed": 0}


def test_text_with_lone_surrogates_is_kept(receiver: Receiver) -> None:
    assert post_trakerr(receiver, trakerr_event(eventMessage="half \ud800 \x00")).status == 200

    [event] = receiver.events(text="\ud800")
    assert event["body"]["eventMessage"] == "half \ud800 \x00"
    assert call(receiver, "GET", "/_control/events").status == 200


# gzip and sizes


def test_a_gzipped_body_is_read(receiver: Receiver) -> None:
    body = gzip.compress(json.dumps([jkool_event()]).encode())

    answered = call(receiver, "POST", "/", body, {**JSON, "X-API-Key": "t", "Content-Encoding": "gzip"})

    assert answered.status == 202
    assert receiver.keys("jkool") == ["t1"]


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(b" " * 1_000_000), "gzip", 413),
        (gzip.compress(b"{}")[:-4], "gzip", 400),
        (gzip.compress(b"{}") + b"more", "gzip", 400),
        (b"no gzip", "gzip", 400),
        (b"{}", "br", 400),
        (b" " * 65_537, "identity", 413),
    ],
    ids=["bomb", "truncated", "trailing", "plain", "unknown encoding", "large"],
)
def test_a_body_that_is_too_large_or_no_gzip_is_refused(body: bytes, encoding: str, status: int) -> None:
    with Receiver(max_body=65_536) as receiver:
        answered = call(receiver, "POST", "/api/v1/events", body, {**JSON, "Content-Encoding": encoding})

        assert answered.status == status
        assert receiver.counts()["trakerr"]["failed"] == 1


# jKool


def test_an_access_request_opens_its_connection_for_events(receiver: Receiver) -> None:
    with closing(Client(receiver)) as client:
        granted = client.handshake("to&amp;ken")
        accepted = client("POST", "/", jkool_event())

    assert granted.status == 200
    assert granted.text == "<access-resp><token>to&amp;ken</token><success>true</success></access-resp>"
    assert accepted.status == 202
    [event] = receiver.events("jkool")
    assert event["body"] == jkool_event()
    assert (event["key"], event["time"], event["level"]) == ("t1", 1.5, "INFO")
    assert (event["logger"], event["message"]) == ("orders", "order paid")


def test_events_without_handshake_or_key_are_a_401(receiver: Receiver) -> None:
    answered = call(receiver, "POST", "/", jkool_event())

    assert answered.status == 401
    assert answered.text.startswith("<access-resp><token></token><success>false</success><reason>")
    assert receiver.counts()["jkool"]["events"] == 0


def test_a_new_connection_needs_a_new_handshake_even_from_the_same_port(receiver: Receiver) -> None:
    first = Client(receiver)
    first.handshake()
    port = first.sock.getsockname()[1]
    # Close with RST, so that the port is free at once.
    first.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    first.close()

    with closing(Client(receiver, source_port=port)) as second:
        refused = second("POST", "/", jkool_event())
        second.handshake()
        accepted = second("POST", "/", jkool_event())

    assert (refused.status, accepted.status) == (401, 202)


def test_an_idle_connection_is_closed_and_forgotten() -> None:
    with Receiver(keep_alive=0.05) as receiver:
        with closing(Client(receiver)) as client:
            client.handshake()
            assert client.sock.recv(1) == b""

        assert call(receiver, "POST", "/", jkool_event()).status == 401


@pytest.mark.parametrize("header", ["X-API-Key", "token"])
def test_a_key_on_the_request_does_without_handshake(receiver: Receiver, header: str) -> None:
    assert call(receiver, "POST", "/JESL/event", jkool_event(), {**JSON, header: "token"}).status == 202


def test_an_unknown_token_is_refused_in_the_body_and_opens_nothing() -> None:
    with Receiver(jkool_tokens=["right"]) as receiver, closing(Client(receiver)) as client:
        refused = client.handshake("wrong")
        event = client("POST", "/", jkool_event())
        keyed = client("POST", "/", jkool_event(), {**JSON, "X-API-Key": "wrong"})
        client.handshake("right")

        assert refused.status == 200
        assert "<success>false</success><reason>Invalid access token</reason>" in refused.text
        assert (event.status, keyed.status) == (401, 401)
        assert client("POST", "/", jkool_event()).status == 202


def test_a_refused_handshake_takes_back_an_earlier_one() -> None:
    with Receiver(jkool_tokens=["right"]) as receiver, closing(Client(receiver)) as client:
        client.handshake("right")
        client.handshake("")

        assert client("POST", "/", jkool_event()).status == 401


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([jkool_event(tracking_id="a"), jkool_event(tracking_id="b")]).encode(),
        b"\n".join(json.dumps(jkool_event(tracking_id=each)).encode() for each in "ab"),
        b"".join(json.dumps(jkool_event(tracking_id=each)).encode() + b"\r\n" for each in "ab"),
    ],
    ids=["array", "lines", "lines with CRLF"],
)
def test_jkool_takes_arrays_and_lines(receiver: Receiver, body: bytes) -> None:
    answered = post_jkool(receiver, body)

    assert (answered.status, answered.json) == (202, {"accepted": 2})
    assert receiver.keys("jkool") == ["a", "b"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (jkool_event(source_fqn=...), "source-fqn"),
        (jkool_event(tracking_id=...), "tracking-id"),
        (jkool_event(time_usec=...), "time-usec"),
        (jkool_event(time_usec=1.5), "time-usec"),
        (jkool_event(time_usec="2020-01-01"), "time-usec"),
        (jkool_event(tracking_id=7), "tracking-id"),
        (jkool_event(severity="Level 35"), "severity"),
        (jkool_event(msg_text=None), "msg-text"),
        (jkool_event(properties={}), "properties"),
        (jkool_event(properties=[{"name": "amount"}]), "properties"),
        (jkool_event(snapshots=[{"name": "cpu"}]), "snapshots"),
        (jkool_event(type="ACTIVITY"), "status"),
        ({"type": "SNAPSHOT", "name": 7, "time-usec": 1}, "name"),
        ([jkool_event(), 7], "event 1"),
        (b'{"a": Infinity}', "Infinity"),
        (b"{}\n{", "JSON"),
        (b"<access-request><token>unclosed", "access-request"),
    ],
)
def test_an_event_that_jkool_would_not_take_is_a_400_with_the_reason(
    receiver: Receiver, event: object, reason: str
) -> None:
    answered = post_jkool(receiver, event)

    assert answered.status == 400
    assert reason in answered.json["error"]
    assert receiver.counts()["jkool"] == {"requests": 1, "events": 0, "keys": 0, "duplicates": 0, "failed": 1}


def test_each_member_of_an_array_is_kept_as_it_was_sent() -> None:
    members = ['{"a": [1,2], "b" : "]}, {"}', "{ }", '"[,]"', "1.50", "null"]

    for between in ("", " ", "\r\n\t"):
        text = f"{between}[{between}{f'{between},{between}'.join(members)}{between}]{between}"
        assert read_objects(text) == ([json.loads(each) for each in members], members)
    assert read_objects(" [ ] ") == ([], [])


@pytest.mark.parametrize("text", ["[{}", "[{},", "[{},]", "[{} {}]", "[,{}]", "[{}] {}", "[{}]]", "[NaN]", "[[]", "]"])
def test_an_array_that_is_damaged_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="not JSON"):
        read_objects(text)


@pytest.mark.parametrize(
    "event",
    [
        jkool_event(type="ACTIVITY", status="END", source_fqn=...),
        {"type": "SNAPSHOT", "name": "cpu", "time-usec": 1},
        jkool_event(properties=[{"name": "a", "type": "string", "value": None}], severity=..., operation=...),
        jkool_event(snapshots=[{"name": "a", "time-usec": 1, "type": "SNAPSHOT"}], corr_id=["a"]),
    ],
)
def test_activities_snapshots_and_plain_events_have_their_own_required_fields(
    receiver: Receiver, event: dict[str, object]
) -> None:
    assert post_jkool(receiver, event).status == 202


def test_a_content_type_that_no_client_sends_is_refused(receiver: Receiver) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-API-Key": "t"}

    assert call(receiver, "POST", "/", jkool_event(), headers).status == 400
    assert call(receiver, "POST", "/api/v1/events", trakerr_event(), headers).status == 400


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "/", 405), ("GET", "/JESL", 404)])
def test_other_methods_than_post_are_refused(receiver: Receiver, method: str, path: str, status: int) -> None:
    assert call(receiver, method, path, jkool_event()).status == status
    assert receiver.counts()["jkool"]["requests"] == 0


# Faults


def test_faults_are_used_up_in_order(receiver: Receiver) -> None:
    receiver.fail("trakerr", status=503, retry_after="7", count=2)
    receiver.fail("trakerr", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT")

    answers = [post_trakerr(receiver, trakerr_event(), key="k") for _ in range(4)]

    assert [answered.status for answered in answers] == [503, 503, 429, 200]
    assert [answered.headers["Retry-After"] for answered in answers[1:3]] == ["7", "Wed, 21 Oct 2026 07:28:00 GMT"]
    assert receiver.counts()["trakerr"] == {"requests": 4, "events": 1, "keys": 1, "duplicates": 0, "failed": 3}


def test_a_fault_of_one_service_leaves_the_other_alone(receiver: Receiver) -> None:
    receiver.fail("trakerr", status=500)

    assert post_jkool(receiver, jkool_event()).status == 202
    assert post_trakerr(receiver, trakerr_event()).status == 500


def test_a_fault_of_both_services_shares_its_count(receiver: Receiver) -> None:
    receiver.fail(status=500, count=2)

    assert post_jkool(receiver, jkool_event()).status == 500
    assert post_trakerr(receiver, trakerr_event()).status == 500
    assert post_trakerr(receiver, trakerr_event()).status == 200


def test_a_fault_with_only_a_delay_answers_late_and_correctly(receiver: Receiver) -> None:
    receiver.fail("jkool", delay=0.1)
    begin = time.monotonic()

    answered = post_jkool(receiver, jkool_event())

    assert answered.status == 202
    assert time.monotonic() - begin >= 0.1


def test_a_hanging_request_is_never_answered_and_not_taken(receiver: Receiver) -> None:
    receiver.fail("trakerr", hang=True)

    with closing(Client(receiver)) as client:
        client.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client("POST", "/api/v1/events", trakerr_event())
        wait_until(lambda: receiver.counts()["trakerr"]["failed"] == 1)

    assert receiver.counts()["trakerr"] == {"requests": 1, "events": 0, "keys": 0, "duplicates": 0, "failed": 1}


def test_a_reset_connection_is_reset(receiver: Receiver) -> None:
    receiver.fail("trakerr", reset=True)

    with pytest.raises(ConnectionResetError):
        post_trakerr(receiver, trakerr_event())

    assert post_trakerr(receiver, trakerr_event()).status == 200


def test_half_an_answer_ends_in_its_body(receiver: Receiver) -> None:
    receiver.fail("trakerr", half=True)

    with pytest.raises(http.client.IncompleteRead) as cut:
        post_trakerr(receiver, trakerr_event())

    assert cut.value.partial
    assert cut.value.expected


@pytest.mark.parametrize("kind", [{"status": 503}, {"half": True}, {"reset": True}], ids=str)
def test_an_accepting_fault_keeps_the_event_and_fails_the_request(receiver: Receiver, kind: dict[str, Any]) -> None:
    receiver.fail("trakerr", accept=True, **kind)
    with suppress(http.client.IncompleteRead, ConnectionResetError):
        post_trakerr(receiver, trakerr_event(), key="k1")

    post_trakerr(receiver, trakerr_event(), key="k1")

    assert receiver.counts()["trakerr"] == {"requests": 2, "events": 2, "keys": 1, "duplicates": 1, "failed": 1}


def test_faults_come_and_go_by_the_control_endpoint(receiver: Receiver) -> None:
    faults = [{"service": "jkool", "status": 503, "retry_after": 7, "count": 3}, {"hang": True, "seconds": 60}]

    posted = call(receiver, "POST", "/_control/faults", faults)
    faulty = post_jkool(receiver, jkool_event())
    left = call(receiver, "GET", "/_control/faults").json
    call(receiver, "DELETE", "/_control/faults")

    assert posted.status == 200
    assert (faulty.status, faulty.headers["Retry-After"]) == (503, "7")
    assert left[0] == {"service": "jkool", "status": 503, "retry_after": "7", "count": 2}
    assert left[1]["hang"] is True
    assert call(receiver, "GET", "/_control/faults").json == []
    assert post_jkool(receiver, jkool_event()).status == 202


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"status": 99},
        {"status": "503"},
        {"status": 503, "hang": True},
        {"service": "sentry", "hang": True},
        {"hang": 1},
        {"delay": -1},
        {"hang": True, "count": 0},
        {"hang": True, "seconds": "2"},
        {"status": 503, "retry_after": "7\r\nX: y"},
        {"statsu": 503},
        {"_until": 5.0},
        "status",
    ],
    ids=str,
)
def test_a_contradictory_fault_is_refused_with_the_reason(receiver: Receiver, fault: object) -> None:
    answered = call(receiver, "POST", "/_control/faults", [fault])

    assert answered.status == 400
    assert answered.json["error"]
    assert call(receiver, "GET", "/_control/faults").json == []


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fault_for_a_time_begins_when_it_is_added() -> None:
    clock = FakeClock()
    faults = Faults(clock)
    faults.add([Fault("trakerr", status=503, seconds=2)])

    clock.now += 1.9
    assert faults.take("trakerr") is not None
    clock.now += 0.2
    assert faults.take("trakerr") is None


def test_a_fault_behind_another_begins_when_that_one_is_over() -> None:
    clock = FakeClock()
    faults = Faults(clock)
    second = Fault(hang=True, seconds=2)
    faults.add([Fault(status=503, seconds=2), second])

    clock.now += 3
    assert faults.take("jkool") is second
    clock.now += 1.9
    assert faults.take("jkool") is second
    clock.now += 0.2
    assert faults.take("jkool") is None


def test_a_fault_with_count_and_time_ends_with_whichever_is_first() -> None:
    clock = FakeClock()
    faults = Faults(clock)

    faults.add([Fault("jkool", hang=True, seconds=2, count=1)])
    assert faults.take("jkool") is not None
    assert faults.take("jkool") is None

    faults.add([Fault("jkool", hang=True, seconds=2, count=1)])
    clock.now += 2
    assert faults.take("jkool") is None


# Access


@pytest.mark.parametrize("path", ["/", "/_control/events", "/_control/counts", "/_page/main.js"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "["}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
    ids=str,
)
def test_only_this_machine_under_its_own_name_sees_what_arrived(
    receiver: Receiver, path: str, headers: dict[str, str], status: int
) -> None:
    assert call(receiver, "GET", path, headers=headers).status == status


@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("192.0.2.7", 403), ("::1", 200)])
def test_a_client_elsewhere_gets_neither_page_nor_events(client: str, status: int) -> None:
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/_control/events",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1:80")],
            "client": (client, 5000),
        }
        store = Store()
        await Web([Trakerr(), JKool()], store, Faults(), max_body=100)(scope, receive, send)
        store.close()

    asyncio.run(ask())

    assert sent[0]["status"] == status


def test_a_form_of_another_site_cannot_add_faults(receiver: Receiver) -> None:
    answered = call(receiver, "POST", "/_control/faults", [{"hang": True}], {"Content-Type": "text/plain"})

    assert answered.status == 400
    assert call(receiver, "GET", "/_control/faults").json == []


def test_the_page_runs_only_its_own_script(receiver: Receiver) -> None:
    page = call(receiver, "GET", "/")

    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in page.text
    assert "style=" not in page.text
    assert "innerHTML" not in call(receiver, "GET", "/_page/main.js").text


# Stored events


@pytest.fixture
def filled(receiver: Receiver) -> Receiver:
    """Ids 1 to 6: jKool INFO, WARNING, CRITICAL, then Trakerr debug, warning, fatal."""
    for level in ("INFO", "WARNING", "CRITICAL"):
        post_jkool(receiver, jkool_event(severity=level, tracking_id=level, msg_text=f"100% of {level}"))
    for level in ("debug", "warning", "fatal"):
        post_trakerr(receiver, trakerr_event(logLevel=level, eventMessage="1000 of it", eventUser="Grüße"), key=level)
    return receiver


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", [6, 5, 4, 3, 2, 1]),
        ("service=trakerr", [6, 5, 4]),
        ("service=jkool&level=warning", [3, 2]),
        ("level=WARNING", [6, 5, 3, 2]),
        ("level=critical", [6, 3]),
        ("q=100%25", [3, 2, 1]),
        ("q=of+critical", [3]),
        ("q=ORDERS&limit=2", [6, 5]),
        ("after=4", [5, 6]),
        ("after=0&limit=2", [1, 2]),
        ("before=4&limit=2", [3, 2]),
        ("q=nothing", []),
        ("limit=0", []),
        ("q=" + "%25" * 20_000, []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_events_are_listed_by_service_level_text_and_place(filled: Receiver, query: str, ids: list[int]) -> None:
    found = call(filled, "GET", f"/_control/events?{query}").json

    assert [event["id"] for event in found] == ids


def test_a_listing_has_bodies_unless_told_otherwise(filled: Receiver) -> None:
    with_bodies = call(filled, "GET", "/_control/events?limit=1").json
    without = call(filled, "GET", "/_control/events?limit=1&bodies=0").json
    alone = call(filled, "GET", "/_control/events/6").json

    assert with_bodies == [alone]
    assert alone["body"]["eventUser"] == "Grüße"
    assert "body" not in without[0]
    assert call(filled, "GET", "/_control/events/7").status == 404
    assert call(filled, "GET", "/_control/events/99999999999999999999").status == 404


@pytest.mark.parametrize(
    "query", ["service=sentry", "level=loud", "after=x", "limit=-1", "before=99999999999999999999"]
)
def test_a_listing_asked_for_wrongly_is_a_400_with_the_reason(receiver: Receiver, query: str) -> None:
    answered = call(receiver, "GET", f"/_control/events?{query}")

    assert answered.status == 400
    assert query.partition("=")[0] in answered.json["error"]


def test_counts_and_keys_by_the_control_endpoint_are_those_of_the_python_side(filled: Receiver) -> None:
    assert call(filled, "GET", "/_control/counts").json == filled.counts()
    assert call(filled, "GET", "/_control/keys").json == filled.keys()
    assert call(filled, "GET", "/_control/keys?service=trakerr").json == ["debug", "warning", "fatal"]
    assert call(filled, "GET", "/_control/keys?service=sentry").status == 400


def test_a_deeply_nested_body_is_kept_and_listed(receiver: Receiver) -> None:
    deep = b'{"apiKey": "k", "logLevel": "info", "eventUser": ' + b"[" * 500 + b"]" * 500 + b"}"

    assert post_trakerr(receiver, deep).status == 200
    assert "[" * 500 in call(receiver, "GET", "/_control/events").text


def test_a_database_in_a_file_goes_on_where_it_was(tmp_path: Path) -> None:
    database = tmp_path / "events.db"
    with Receiver(database=database) as first:
        post_trakerr(first, trakerr_event(), key="k1")
        post_trakerr(first, trakerr_event(), key="k1")
    with Receiver(database=database) as second:
        post_trakerr(second, trakerr_event(), key="k1")

        assert second.keys() == ["k1"]
        assert second.counts()["trakerr"] == {"requests": 1, "events": 3, "keys": 1, "duplicates": 2, "failed": 0}
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


def test_what_was_answered_outlives_a_killed_receiver(tmp_path: Path) -> None:
    database = tmp_path / "events.db"
    script = f"from shipper.receiver import serve; serve(port=0, database={str(database)!r}, ready=lambda r: {_PRINT})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().strip()).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        connection.request("POST", "/", json.dumps(jkool_event()), {**JSON, "X-API-Key": "t"})
        assert connection.getresponse().status == 202
        process.kill()
        connection.close()

    with Receiver(database=database) as again:
        assert again.keys("jkool") == ["t1"]


# Starting and stopping

_PRINT = "print(r.url, flush=True)"


def test_closing_leaves_no_thread_and_no_port(receiver: Receiver) -> None:
    receiver.fail(hang=True)
    with closing(Client(receiver)) as client:
        client.sock.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        wait_until(lambda: receiver.counts()["jkool"]["requests"] == 1)
        begin = time.monotonic()

        receiver.close()
        receiver.close()

        assert time.monotonic() - begin < scaled(2)
    assert "shipper-receiver" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        Client(receiver)


def test_several_receivers_live_side_by_side(receiver: Receiver) -> None:
    with Receiver() as other:
        post_trakerr(other, trakerr_event(), key="k1")

        assert other.keys() == ["k1"]
    assert receiver.keys() == []


def test_urls_are_those_that_the_backends_take(receiver: Receiver) -> None:
    assert receiver.trakerr_url == f"{receiver.url}/api/v1"
    assert receiver.jkool_url == receiver.url
    assert receiver.url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_reported_and_no_database_is_touched(receiver: Receiver, tmp_path: Path) -> None:
    port = urlsplit(receiver.url).port
    assert port is not None

    with pytest.raises(ConfigurationError, match=f"port={port}: .*in use"):
        Receiver(port, database=tmp_path / "events.db").start()

    assert not (tmp_path / "events.db").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "example.com", "::", ""])
def test_a_host_that_others_reach_has_to_be_allowed(host: str) -> None:
    with pytest.raises(ConfigurationError, match="host="):
        Receiver(host=host)


def test_an_allowed_host_still_shows_the_page_only_to_this_machine() -> None:
    with Receiver(host="0.0.0.0", allow_remote=True) as receiver:
        assert post_trakerr(receiver, trakerr_event()).status == 200
        assert call(receiver, "GET", "/", headers={"Host": "192.0.2.7"}).status == 403


@pytest.mark.parametrize("content", [None, b"this is no database, and long enough to be read as one" * 20])
def test_a_database_that_cannot_be_opened_is_reported(tmp_path: Path, content: bytes | None) -> None:
    database = tmp_path / "folder" / "events.db"
    if content is not None:
        database.parent.mkdir()
        database.write_bytes(content)

    with pytest.raises(ConfigurationError, match="database="):
        Receiver(database=database).start()

    assert "shipper-receiver" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_runs_until_a_signal_and_returns(number: signal.Signals) -> None:
    script = f"from shipper.receiver import serve; serve(port=0, ready=lambda r: {_PRINT})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)

        assert process.wait(DEADLINE) == 0


def test_a_signal_ends_serve_however_shortly_before_its_wait_it_comes() -> None:
    """Its handler, if it is written in Python, runs inside the call that is about to wait, or only after the wait."""
    script = f"""if True:
        import os, signal, sys
        from shipper.receiver import serve
        def signal_before_calls(frame, event, what):
            if event == "c_call" and frame.f_code.co_name == "wait":
                os.kill(os.getpid(), signal.SIGTERM)
        def ready(r):
            {_PRINT}
            sys.setprofile(signal_before_calls)
        serve(port=0, ready=ready)
    """
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_its_extra_the_receiver_names_what_to_install(missing: str) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import shipper.receiver"

    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=os.environ)

    assert ran.returncode == 1
    assert ran.stderr.strip().endswith(f"the receiver needs {missing}: pip install 'shipper-logs[receiver]'")
