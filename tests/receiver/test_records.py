"""Records of the receiver: events sent to several services, their attempts, and the search for them."""

from __future__ import annotations

import json
import sqlite3
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shipper.errors import ConfigurationError
from shipper.receiver import Receiver, RemoteReceiver
from shipper.receiver.store.query import parse

from ..support.http_backends import NO_ANSWER
from ..support.waiting import PATIENCE, wait_until

EVENT_ID = "3a4bbb065ed140e3-{}"  # in requests to Trakerr
UUID = "3a4bbb06-5ed1-40e3-8000-{:012x}"  # the same id in requests to jKool and OTLP
BEGIN = 1_700_000_000


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def ask(receiver: Receiver, path: str, body: object = None, method: str | None = None, **headers: str) -> Any:
    """Return the JSON of the response; for an HTTP error its status and JSON."""
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{receiver.url}{path}", data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def to_trakerr(receiver: Receiver, number: int, message: str = "", **more: object) -> None:
    event = {
        "apiKey": "key",
        "logLevel": "warning",
        "eventType": "shop.orders",
        "eventMessage": message or f"order {number}",
        "eventTime": (BEGIN + number) * 1000,
        **more,
    }
    ask(receiver, "/api/v1/events", event, Idempotency_Key=EVENT_ID.format(number))


def jkool_event(number: int, message: str = "", **more: object) -> dict[str, object]:
    return {
        "operation": "shop.orders",
        "type": "EVENT",
        "severity": "WARNING",
        "msg-text": message or f"order {number}",
        "time-usec": (BEGIN + number) * 1_000_000,
        "source-fqn": "APPL=shop#SERVER=web-1",
        "tracking-id": UUID.format(number),
        "pid": 17,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


def to_jkool(receiver: Receiver, *events: dict[str, object]) -> None:
    ask(receiver, "/", list(events), X_API_Key="token")


def to_otlp(receiver: Receiver, number: int, message: str, **attributes: str) -> None:
    given = {"log.record.uid": UUID.format(number), **attributes}
    record = {
        "timeUnixNano": str((BEGIN + number) * 1_000_000_000),
        "severityNumber": 13,
        "severityText": "WARN",
        "body": {"stringValue": message},
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in given.items()],
    }
    scope = {"scope": {"name": "shop.orders"}, "logRecords": [record]}
    ask(receiver, "/v1/logs", {"resourceLogs": [{"scopeLogs": [scope]}]})


def found(receiver: Receiver, query: str = "", **more: object) -> list[str]:
    given = urllib.parse.urlencode({"q": query, **more})
    return [row["message"] for row in ask(receiver, f"/_control/records?{given}")["rows"]]


# One record


def test_what_went_to_three_services_is_one_record(receiver: Receiver) -> None:
    to_trakerr(receiver, 7, "paid", customProperties={"stringData": {"customData1": "order=7"}})
    to_otlp(receiver, 7, "paid", order="7", tier="gold")
    to_jkool(receiver, jkool_event(7, "paid"))

    [row] = ask(receiver, "/_control/records")["rows"]
    record = ask(receiver, f"/_control/records/{row['id']}")

    assert row["services"] == {"trakerr": 1, "jkool": 1, "otlp": 1}
    assert (row["app"], row["host"], row["pid"], row["ident"]) == ("shop", "web-1", "17", UUID.format(7))
    assert {event["service"] for event in record["events"]} == {"trakerr", "jkool", "otlp"}
    assert json.loads(record["extras"]) == {"order": "7", "tier": "gold"}
    assert ask(receiver, f"/_control/records/{EVENT_ID.format(7)}") == record
    assert ask(receiver, f"/_control/records/{UUID.format(7)}") == record


def test_a_record_has_every_attempt_with_its_answer_and_the_failures_of_others_meanwhile(receiver: Receiver) -> None:
    receiver.fail("trakerr", status=503, count=2)
    receiver.fail("trakerr", half=True, accept=True)
    for number in (2, 1, 1, 1):
        with suppress(*NO_ANSWER):
            to_trakerr(receiver, number, eventTime=1000)

    record = ask(receiver, f"/_control/records/{UUID.format(1)}")

    said = [(each["outcome"], each["failed"], each["wanted"], each["stored"]) for each in record["attempts"]]
    assert said == [("503", 1, 1, 0), ("half an answer", 1, 1, 1), ("200", 0, 0, 1)]
    assert all(each["took"] >= 0 and each["size"] > 0 for each in record["attempts"])
    assert record["events"][0]["copies"] == 2
    assert record["meanwhile"] == {"trakerr": [{"outcome": "503", "wanted": 1, "count": 1}]}


def test_a_record_that_no_service_has_accepted_is_listed_and_is_no_event(receiver: Receiver) -> None:
    receiver.fail("trakerr", status=503)
    to_trakerr(receiver, 1)

    [row] = ask(receiver, "/_control/records")["rows"]

    assert (row["services"], row["tries"]) == ({}, {"trakerr": {"failed": 1, "outcome": "503"}})
    assert receiver.events() == []
    assert found(receiver, "is:undelivered") == ["order 1"]


def test_a_handshake_inside_a_fault_opens_no_connection(receiver: Receiver) -> None:
    receiver.fail("jkool", status=503)
    body = b"<access-request><token>t</token></access-request>"
    connection = urllib.request.Request(receiver.url, body, {"Content-Type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(connection, timeout=PATIENCE)

    assert ask(receiver, "/_control/requests")[0]["stored"] == 0


def test_activities_are_a_tree_and_traces_are_lists(receiver: Receiver) -> None:
    to_jkool(
        receiver,
        jkool_event(1, "inner", parent_tracking_id="inner-activity", corr_id="trace-1"),
        jkool_event(2, "named by its activity", corr_id="trace-1"),
    )
    activity: dict[str, Any] = {"type": "ACTIVITY", "status": "END", "elapsed_time_usec": 2_500_000, "msg_text": ""}
    to_jkool(
        receiver,
        jkool_event(3, tracking_id="inner-activity", parent_tracking_id="outer", **activity),
        jkool_event(4, tracking_id="outer", id_set=[UUID.format(2)], **activity),
    )

    related = ask(receiver, f"/_control/records/{UUID.format(1)}/related")

    assert [each["message"] for each in related["trace"]] == ["inner", "named by its activity"]
    tree = {each["ident"]: each["parent"] for each in related["tree"]}
    assert tree == {
        "outer": "",
        "inner-activity": "outer",
        UUID.format(1): "inner-activity",
        UUID.format(2): "outer",
    }
    assert {each["took"] for each in related["tree"]} == {None, 2.5}


@pytest.mark.parametrize("name", ["12", "nobody", "99999999999999999999999", "%00", "'"])
def test_an_unknown_record_is_a_404_that_says_so(receiver: Receiver, name: str) -> None:
    assert ask(receiver, f"/_control/records/{name}") == (404, {"error": "no such record"})
    assert ask(receiver, f"/_control/records/{name}/related")[0] == 404


# Search


@pytest.fixture
def filled(receiver: Receiver) -> Receiver:
    properties = [{"name": "order", "type": "int", "value": 17}, {"name": "to", "type": "string", "value": '{"a": 1}'}]
    to_jkool(
        receiver,
        jkool_event(1, "Grüße an alle", severity="INFO", operation="shop.mail"),
        jkool_event(2, "100% of it", severity="ERROR", properties=properties, corr_id="abc"),
        jkool_event(3, "1000 of it", severity="DEBUG", source_fqn="APPL=other", exception="KeyError: 'card'"),
    )
    to_trakerr(receiver, 4, 'say "hi"')
    return receiver


ALL = ["mail", "percent", "thousand", "hi"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ALL),
        ("GRÜSSE", ["mail"]),
        ("of it", ["percent", "thousand"]),
        ("100%", ["percent"]),
        ('"% of"', ["percent"]),
        ("keyerror", ["thousand"]),
        (r'"say \"hi\""', ["hi"]),
        ("level:warning", ["percent", "hi"]),
        ("level:=info", ["mail"]),
        ("-level:error", ["mail", "thousand", "hi"]),
        ("logger:shop.*", ["mail", "percent", "thousand", "hi"]),
        ("logger:*.MAIL", ["mail"]),
        ("logger:shop", []),
        ("logger:shop_orders", []),
        ("app:shop", ["mail", "percent"]),
        ("app:", ["mail", "percent", "thousand"]),
        ("-app:", ["hi"]),
        ("pid:17 -app:other", ["mail", "percent"]),
        ("extra.order:17", ["percent"]),
        ("extra.order:1", []),
        ("extra.order:>16", ["percent"]),
        ("extra.order:>=17.5", []),
        ("extra.to.a:1", ["percent"]),
        ("extra.order:", ["percent"]),
        ("extra.nothing:", []),
        ("trace:abc", ["percent"]),
        ("trace:", ["percent"]),
        (f"id:{UUID.format(1)}", ["mail"]),
        (f"id:{EVENT_ID.format(4)}", ["hi"]),
        ("message:of*it", ["percent", "thousand"]),
        ("service:trakerr", ["hi"]),
        ("request:1", ["mail", "percent", "thousand"]),
        ("is:duplicate", []),
        ("is:nonsense", []),
        ("level:", ALL),
        ("level:loud", []),
        ('"', ALL),
        ("-", ALL),
        ("' OR 1=1 --", []),
    ],
)
def test_records_are_found_by_text_and_by_fields(filled: Receiver, query: str, names: list[str]) -> None:
    texts = {"mail": "Grüße an alle", "percent": "100% of it", "thousand": "1000 of it", "hi": 'say "hi"'}

    assert sorted(found(filled, query)) == sorted(texts[name] for name in names)


@pytest.mark.parametrize(
    ("query", "said"),
    [("loger:shop", "loger is no field"), ("level:loud", "loud is no level"), ("is:odd", "is:odd is not known")],
)
def test_what_is_not_understood_is_said(receiver: Receiver, query: str, said: str) -> None:
    [note] = ask(receiver, f"/_control/records?q={query}")["notes"]

    assert said in note


def test_an_address_or_a_time_is_no_field() -> None:
    assert parse("http://example.org 12:30:00 c:x").notes == []


def test_a_range_of_time_narrows_the_list_and_not_the_histogram(filled: Receiver) -> None:
    answer = ask(filled, f"/_control/records?since={BEGIN + 2}&until={BEGIN + 3}&buckets=3")

    assert (answer["total"], len(answer["rows"])) == (2, 2)
    assert answer["histogram"]["from"] == BEGIN + 1
    assert answer["histogram"]["buckets"] == [[1, 0, 0], [0, 0, 1], [1, 1, 0]]


def test_a_list_with_a_pin_stands_still(filled: Receiver) -> None:
    pin = ask(filled, "/_control/records")["pin"]
    to_jkool(filled, *(jkool_event(number) for number in range(10, 15)))

    pinned = ask(filled, f"/_control/records?pin={pin}&offset=1&limit=2")

    assert (pinned["total"], [row["id"] for row in pinned["rows"]]) == (4, [3, 2])
    assert ask(filled, f"/_control/records?after={pin}")["total"] == 5
    assert ask(filled, f"/_control/records?after={pin}&q=order+11")["total"] == 1


def test_the_newest_are_the_same_with_and_without_a_histogram(filled: Receiver) -> None:
    pages = [ask(filled, f"/_control/records?offset=1&limit=2&pin=4{more}") for more in ("", "&buckets=3")]
    pages[1].pop("histogram")

    assert [row["id"] for row in pages[0]["rows"]] == [3, 2]
    assert pages[0] == pages[1]


@pytest.mark.parametrize("query", ["pin=x", "since=soon", "until=nan", "offset=-1", "limit=1e3"])
def test_a_wrong_parameter_is_a_400_with_the_reason(receiver: Receiver, query: str) -> None:
    status, answer = ask(receiver, f"/_control/records?{query}")

    assert status == 400
    assert query.partition("=")[0] in answer["error"]


# Requests


def test_the_log_of_requests_tells_wanted_failures_from_others(receiver: Receiver) -> None:
    receiver.fail("trakerr", status=429, retry_after="1")
    to_trakerr(receiver, 1)
    to_trakerr(receiver, 1, logLevel="loud")
    to_trakerr(receiver, 1)

    requests = ask(receiver, "/_control/requests")
    said = [(each["status"], each["failed"], each["wanted"], each["events"]) for each in requests]

    assert said == [(200, 0, 0, 1), (400, 1, 0, 0), (429, 1, 1, 1)]
    assert "logLevel" in requests[1]["reason"]
    assert [each["id"] for each in ask(receiver, "/_control/requests?failed=1&before=3")] == [2, 1]
    assert ask(receiver, "/_control/requests?service=jkool") == []
    assert [each["status"] for each in receiver.requests(failed=True)] == [400, 429]


def test_a_request_that_hangs_is_listed_with_the_time_that_its_sender_had_patience(receiver: Receiver) -> None:
    receiver.fail("trakerr", hang=True)

    def send() -> None:
        request = urllib.request.Request(f"{receiver.trakerr_url}/events", b"{}", {"Content-Type": "application/json"})
        with suppress(OSError):
            urllib.request.urlopen(request, timeout=0.3)

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(lambda: receiver.requests())
    sender.join()

    wait_until(lambda: receiver.requests()[0]["took"] > 0.1)
    assert receiver.requests()[0]["outcome"] == "hang"


# Limits of size


def test_the_oldest_records_go_when_there_is_too_much(tmp_path: Path) -> None:
    with Receiver(max_bytes=200_000) as receiver:
        for begin in range(0, 500, 50):
            to_jkool(receiver, *(jkool_event(number) for number in range(begin, begin + 50)))

        answer = ask(receiver, "/_control/records?limit=500")

        assert 50 < answer["total"] < 300
        assert answer["rows"][0]["message"] == "order 499"
        assert len(receiver.keys()) == answer["total"]
        assert receiver.counts()["jkool"]["events"] == 500


def test_of_records_that_are_larger_than_the_room_the_newest_is_kept() -> None:
    with Receiver(max_bytes=20_000) as receiver:
        for number in range(4):
            to_jkool(receiver, {**jkool_event(number), "msg": f"order {number} {'.' * 30_000}"})

        answer = ask(receiver, "/_control/records?limit=500")

        assert [row["message"][:7] for row in answer["rows"]] == ["order 3"]
        assert receiver.counts()["jkool"]["events"] == 4


def test_clearing_forgets_everything_but_faults_and_ids(receiver: Receiver) -> None:
    to_jkool(receiver, jkool_event(1))
    receiver.fail("otlp", status=503)

    ask(receiver, "/_control/events", method="DELETE")
    to_jkool(receiver, jkool_event(1))

    assert receiver.counts()["jkool"] == {"requests": 1, "events": 1, "keys": 1, "duplicates": 0, "failed": 0}
    assert [event["id"] for event in receiver.events()] == [2]
    assert len(ask(receiver, "/_control/requests")) == 1
    assert len(ask(receiver, "/_control/faults")) == 1


def test_a_file_of_a_version_without_records_is_gone_on_with(tmp_path: Path) -> None:
    database = tmp_path / "events.db"
    db = sqlite3.connect(database)
    db.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, service TEXT NOT NULL, key TEXT, time REAL, level TEXT NOT NULL,"
        " rank INTEGER NOT NULL, logger TEXT NOT NULL, message TEXT NOT NULL, body TEXT NOT NULL,"
        " received REAL NOT NULL, copies INTEGER NOT NULL DEFAULT 1, UNIQUE (service, key))"
    )
    row = "INSERT INTO events VALUES (?, ?, ?, 5.0, 'info', 20, 'shop', 'Grüße', '{}', 6.0, 1)"
    db.executemany(row, [(1, "trakerr", EVENT_ID.format(1)), (2, "jkool", UUID.format(1)), (3, "jkool", None)])
    db.commit()
    db.close()

    with Receiver(database=database) as receiver:
        assert found(receiver, "GRÜSSE") == ["Grüße", "Grüße"]
        assert set(ask(receiver, f"/_control/records/{UUID.format(1)}")["events"][0]) >= {"body", "copies"}
        assert len(ask(receiver, f"/_control/records/{UUID.format(1)}")["events"]) == 2


# The stream of changes, and remote access


def test_a_stream_says_what_has_changed(receiver: Receiver) -> None:
    with urllib.request.urlopen(f"{receiver.url}/_control/stream", timeout=PATIENCE) as stream:
        first = json.loads(stream.readline().removeprefix(b"data: "))
        stream.readline()
        to_jkool(receiver, jkool_event(1))
        second = json.loads(stream.readline().removeprefix(b"data: "))
        stream.readline()
        receiver.fail("trakerr", status=503, seconds=60)
        third = json.loads(stream.readline().removeprefix(b"data: "))

    assert (first["last"], second["last"]) == (0, 1)
    assert second["counts"]["jkool"]["events"] == 1
    assert (third["faults"][0]["service"], third["faults"][0]["begun"]) == ("trakerr", True)


def test_closing_ends_a_stream(receiver: Receiver) -> None:
    with urllib.request.urlopen(f"{receiver.url}/_control/stream", timeout=PATIENCE) as stream:
        stream.readline()
        receiver.close()

        with suppress(*NO_ANSWER):
            stream.read()


@pytest.fixture
def remote() -> Iterator[Receiver]:
    with Receiver(host="0.0.0.0", allow_remote=True) as running:
        yield running


FOREIGN = {"Host": "receiver.example:8787"}


def test_the_printed_link_opens_the_page_to_others(remote: Receiver) -> None:
    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    assert remote.page_url.startswith("http://localhost:")
    query = remote.page_url.partition("?")[2]
    opener = urllib.request.build_opener(NoRedirect)
    request = urllib.request.Request(f"{remote.url}/?q=level%3Aerror&{query}", headers=FOREIGN)
    with pytest.raises(urllib.error.HTTPError) as redirected:
        opener.open(request, timeout=PATIENCE)
    with redirected.value as answer:
        cookie = answer.headers["Set-Cookie"]
        assert (answer.code, answer.headers["Location"]) == (303, "/?q=level%3Aerror")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict")

    assert ask(remote, "/_control/faults", **FOREIGN, Cookie=cookie.partition(";")[0]) == []
    assert ask(remote, "/_control/faults", **FOREIGN, Authorization=f"Bearer {remote.token}") == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer \u00fc"},
        {"Authorization": "Basic token"},
        {"Cookie": "shipper-receiver-1=x"},
        {"Cookie": "="},
    ],
    ids=str,
)
def test_without_the_token_others_see_nothing(remote: Receiver, headers: dict[str, str]) -> None:
    assert ask(remote, "/_control/events", **FOREIGN, **headers)[0] == 403
    assert ask(remote, "/?token=wrong", **FOREIGN, **headers)[0] == 403


def test_a_foreign_site_gets_nothing_even_with_the_token(remote: Receiver) -> None:
    given = {"Authorization": f"Bearer {remote.token}", "Origin": "http://evil.example"}

    assert ask(remote, "/_control/events", **FOREIGN, **given)[0] == 403


def test_without_allow_remote_there_is_no_token(receiver: Receiver) -> None:
    assert (receiver.token, receiver.page_url) == (None, receiver.url)
    assert ask(receiver, "/?token=None", **FOREIGN)[0] == 403


def test_the_description_of_the_endpoints_names_all_of_them(receiver: Receiver) -> None:
    from shipper.receiver.control.routes import Control
    from shipper.receiver.faults import Faults
    from shipper.receiver.store.events import Store

    store = Store()
    routes = Control(store, Faults()).application().routes
    store.close()
    described = ask(receiver, "/_control/openapi.json")
    served = {
        (route.path.replace(":int", ""), method.lower())  # type: ignore[attr-defined]
        for route in routes
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
        if route.path.startswith("/_control/")  # type: ignore[attr-defined]
    }

    assert described["openapi"] == "3.1.0"
    assert {(path, method) for path, methods in described["paths"].items() for method in methods} == served
    for name in ("service", "status", "retry_after", "accept"):
        assert name in described["components"]["schemas"]["Fault"]["properties"]


# From another process


def test_a_receiver_elsewhere_is_used_by_the_same_calls(remote: Receiver) -> None:
    elsewhere = RemoteReceiver(remote.page_url)
    elsewhere.fail("trakerr", status=503, retry_after="1")
    to_trakerr(remote, 1)
    elsewhere.fail("jkool", hang=True)
    elsewhere.recover()
    to_trakerr(remote, 1)
    to_jkool(remote, jkool_event(1, severity="INFO"))

    assert elsewhere.counts() == remote.counts()
    assert elsewhere.keys("trakerr") == remote.keys("trakerr") == [EVENT_ID.format(1)]
    assert elsewhere.events("jkool", text="order", level="info") == remote.events("jkool")
    assert elsewhere.requests(failed=True) == remote.requests(failed=True)
    assert (elsewhere.jkool_url, elsewhere.trakerr_url) == (elsewhere.otlp_url, f"{elsewhere.url}/api/v1")
    elsewhere.clear()
    assert remote.events() == []


def test_a_receiver_elsewhere_that_refuses_says_why(remote: Receiver) -> None:
    with pytest.raises(ConfigurationError, match="statsu"):
        RemoteReceiver(remote.page_url).fail(statsu=503)
    with pytest.raises(ConfigurationError, match="a link such as"):
        RemoteReceiver("localhost:8787")
