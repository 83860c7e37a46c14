"""Records of a shop's application, for the tests of the page and for its screenshot."""

from __future__ import annotations

import http.client
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from shipper.receiver import Receiver

from ..support.http_backends import NO_ANSWER
from ..support.waiting import PATIENCE

BEGIN = 1_700_000_000.0
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/shop/prices.py", line 31, in price
    return total / count
ZeroDivisionError: division by zero
while the basket was priced

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/shop/payments.py", line 88, in pay
    raise ValueError("no price") from exc
ValueError: no price"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/shop/checkout.py", line 12, in check
  |     raise ExceptionGroup("two checks failed", failures)
  | ExceptionGroup: two checks failed (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/shop/stock.py", line 5, in stock
    |     raise KeyError(sku)
    | KeyError: 'A-17'
    +---------------- 2 ----------------
    | ExceptionGroup: address (1 sub-exception)
    +-+---------------- 1 ----------------
      | TypeError: no country
      +------------------------------------"""


class Shop:
    """Sends to a receiver as the backends do, each request on a connection of its own; failed requests are ignored."""

    def __init__(self, receiver: Receiver) -> None:
        self._address = urlsplit(receiver.url).netloc

    def post(self, path: str, body: object, **headers: str) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        with suppress(*NO_ANSWER):
            connection.request("POST", path, json.dumps(body), sent)
            connection.getresponse().read()
        connection.close()

    def trakerr(self, number: int, message: str, level: str = "error", **more: object) -> None:
        event = {
            "apiKey": "secret-0815",
            "logLevel": level,
            "eventType": "shop.orders",
            "eventMessage": message,
            "eventTime": round((BEGIN + number) * 1000),
            **more,
        }
        self.post("/api/v1/events", event, Idempotency_Key=f"3a4bbb065ed140e3-{number}")

    def jkool(self, *events: dict[str, object]) -> None:
        self.post("/", list(events), X_API_Key="token")

    def otlp(self, number: int, message: str, severity: str = "ERROR", **attributes: Any) -> None:
        given = {"log.record.uid": uuid(number), "order": 2**60, "vip": True, **attributes}
        record = {
            "timeUnixNano": str(round((BEGIN + number) * 1e9)),
            "severityNumber": {"INFO": 9, "WARN": 13, "ERROR": 17}[severity],
            "severityText": severity,
            "body": {"stringValue": message},
            "attributes": [{"key": key, "value": any_value(value)} for key, value in given.items()],
            "traceId": TRACE,
        }
        scope = {"scope": {"name": "shop.payments"}, "logRecords": [record]}
        self.post("/v1/logs", {"resourceLogs": [{"scopeLogs": [scope]}]})

    def everywhere(self, number: int, message: str) -> None:
        """Send one record to all three services; jKool and OTLP get its traceback and trace id too."""
        self.trakerr(number, message, contextTags=["shop.payments"])
        self.jkool(jkool_event(number, message, severity="ERROR", exception=TRACEBACK, corr_id=TRACE))
        self.otlp(number, message, **{"exception.stacktrace": TRACEBACK, "code.stacktrace": "Stack (most recent ...)"})


def any_value(value: object) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}


def uuid(number: int) -> str:
    return f"3a4bbb06-5ed1-40e3-8000-{number:012x}"


def jkool_event(number: int, message: str, **more: object) -> dict[str, object]:
    return {
        "operation": "shop.orders",
        "type": "EVENT",
        "severity": "INFO",
        "msg-text": message,
        "time-usec": round((BEGIN + number) * 1_000_000),
        "source-fqn": "APPL=shop#SERVER=web-1",
        "tracking-id": uuid(number),
        "pid": 4711,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def orders(count: int, begin: int = 0) -> list[dict[str, object]]:
    """Records of a shop: mostly orders, some warnings and errors."""
    levels = {3: "WARNING", 7: "ERROR"}
    return [
        jkool_event(
            number,
            f"order {number} paid",
            severity=levels.get(number % 40, "INFO"),
            operation="shop.payments" if number % 3 else "shop.orders",
            properties=[{"name": "order", "type": "int", "value": number}],
        )
        for number in range(begin, begin + count)
    ]
