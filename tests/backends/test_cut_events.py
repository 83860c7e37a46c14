"""A client's event that was cut reaches its service with the client's own values, not with the backend's defaults."""

from __future__ import annotations

from typing import Any

import pytest

from shipper.backends.jkool import JKool
from shipper.backends.protocol import AppContext
from shipper.backends.trakerr import Trakerr
from shipper.event.codec import unpack
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId
from shipper.event.truncate import cut, pack

HERE = AppContext(app="shop", cwd="/srv", host="web-1", address="10.0.0.1", load=lambda time: None)
ID = EventId(b"12345678", 7)
LINES = [{"function": "pay", "line": 3, "file": "shop/payments.py"}] * 100
TRACE = [{"type": "shop.Declined", "message": "no " + "y" * 13_000, "traceLines": LINES}] * 20
OWN_TRAKERR = {
    "contextAppVersion": "9.9",
    "deploymentStage": "production",
    "logLevel": "fatal",
    "classification": "issue",
    "eventType": "billing",
    "eventMessage": "payment failed",
    "eventUser": "jill",
    "contextTags": ["billing"],
    "contextCrossAppCorrelationId": "c-1",
}
OWN_JKOOL = {
    "operation": "pay",
    "type": "ACTIVITY",
    "severity": "ERROR",
    "msg-text": "payment failed",
    "source-fqn": "APPL=billing#SERVER=db-1",
    "tracking-id": "t-1",
    "corr-id": ["c-1", "c-2"],
    "parent-tracking-id": "p-1",
    "user": "jill",
    "resource": "card",
}
PROPERTIES = [{"name": f"p{n}", "value": "v" * 90, "type": "string"} for n in range(150)]
SNAPSHOTS = [{"name": "s", "time-usec": 5, "type": "SNAPSHOT", "properties": PROPERTIES[:20]}] * 150
SIZES = [pytest.param(None, id="packed"), 32 * 1024, 8 * 1024]


def sent(event: Event, max_bytes: int | None) -> Event:
    """Return the event as a deliverer reads it; with ``max_bytes``, cut to that size as after a 413."""
    event = unpack(pack(event), ID)
    return event if max_bytes is None else cut(event, max_bytes)


@pytest.mark.parametrize("max_bytes", SIZES)
@pytest.mark.parametrize(
    "large",
    [
        {"eventStacktrace": TRACE},
        {"customProperties": {"stringData": {f"customData{n}": "x" * 40_000 for n in range(1, 11)}}},
        {"customSegments": {str(n): dict.fromkeys(map(str, range(150)), 1.5) for n in range(60)}},
    ],
    ids=["deep chain", "long texts", "many numbers"],
)
def test_an_app_event_keeps_its_own_values(large: dict[str, Any], max_bytes: int | None) -> None:
    event = sent(Event("trakerr", level=50, message="payment failed", data={**large, **OWN_TRAKERR}), max_bytes)

    wire = Trakerr("k", "1.0", "development").app_event(event, HERE)

    assert {key: wire[key] for key in OWN_TRAKERR} == OWN_TRAKERR
    assert "left out ...]" in repr({key: wire[key] for key in large}) or max_bytes is None


@pytest.mark.parametrize("max_bytes", SIZES)
@pytest.mark.parametrize("key", ["properties", "snapshots", "exception"])
def test_an_activity_keeps_its_own_values(key: str, max_bytes: int | None) -> None:
    large = {"properties": PROPERTIES * 20, "snapshots": SNAPSHOTS, "exception": "e" * 300_000}[key]
    event = sent(Event("jkool", level=40, logger="root", data={key: large, **OWN_JKOOL}), max_bytes)

    wire = JKool("k").wire_event(event, HERE)

    assert {name: wire[name] for name in OWN_JKOOL} == OWN_JKOOL
    assert "left out ...]" in repr(wire[key])
    if key != "exception":
        assert all(item["name"] for item in wire[key])


@pytest.mark.parametrize("max_bytes", SIZES)
def test_a_record_keeps_what_its_handler_and_its_activity_say(max_bytes: int | None) -> None:
    frames = [Frame("/srv/shop/payments.py", line, "pay") for line in range(1, 101)]
    chain = [ExceptionInfo("raised", "a.B", "B", "y" * 13_000, frames, [], max(0, n - 1)) for n in range(20)]
    data = {**OWN_TRAKERR, "parent-tracking-id": "p-1", "tracking-id": "t-1"}
    event = sent(Event(level=40, logger="orders", message="no", exceptions=chain, data=data), max_bytes)

    app_event = Trakerr("k").app_event(event, HERE)
    activity = JKool("k").wire_event(event, HERE)

    assert (app_event["contextAppVersion"], app_event["deploymentStage"]) == ("9.9", "production")
    assert (app_event["eventType"], app_event["eventMessage"], app_event["eventUser"]) == ("a.B", "no", "jill")
    assert (activity["tracking-id"], activity["parent-tracking-id"]) == ("t-1", "p-1")
    assert "left out ...]" in repr(app_event["eventStacktrace"])
    assert "left out ...]" in activity["exception"]
