"""The receiver's page in a real browser: headless Chromium says what it made of it."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shipper.receiver import Receiver

from ..support.needs import need
from ..support.waiting import PATIENCE

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--enable-logging=stderr",
    # Its clock jumps ahead whenever nothing is under way: three looks of the page take no time.
    "--virtual-time-budget=3000",
    "--dump-dom",
)


class Browser:
    """Shows a page once and returns its document as text; what went wrong on the page fails the test."""

    def __init__(self, chromium: str, profile: Path) -> None:
        self._command = [chromium, *FLAGS, f"--user-data-dir={profile}"]

    def show(self, url: str) -> str:
        ran = subprocess.run([*self._command, url], capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0, ran.stderr
        # A refusal of the content security policy and an exception of the script are both console messages.
        assert "CONSOLE" not in ran.stderr, ran.stderr
        return ran.stdout


@pytest.fixture
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    need(chromium, "Chromium (Debian package chromium)")
    assert chromium is not None
    profile = Path(tempfile.mkdtemp(prefix="b-"))
    yield Browser(chromium, profile)
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def post(receiver: Receiver, path: str, body: object, **headers: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=10)
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request("POST", path, json.dumps(body), sent)
    assert connection.getresponse().status in (200, 202)
    connection.close()


def post_trakerr(receiver: Receiver, message: str, **more: object) -> None:
    event = {"apiKey": "key", "logLevel": "error", "eventType": "orders", "eventMessage": message, **more}
    post(receiver, "/api/v1/events", event, Idempotency_Key=f"key of {message}")


def jkool_event(number: int, message: str, **more: object) -> dict[str, object]:
    required = {"source-fqn": "APPL=shop", "tracking-id": f"t{number}", "time-usec": 1_700_000_000_000_000 + number}
    return {**required, "operation": "orders", "severity": "INFO", "msg-text": message, **more}


def post_jkool(receiver: Receiver, *events: dict[str, object]) -> None:
    post(receiver, "/", list(events), X_API_Key="token")


def text_of(markup: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", markup))


def rows(document: str) -> list[str]:
    """The list's lines as text, top to bottom."""
    return [text_of(row) for row in re.findall(r"<tr [^>]*data-id.*?</tr>", document, re.DOTALL)]


def part(document: str, name: str) -> str:
    """The text of the element with this id, which has no element of its own kind in it."""
    found = re.search(rf'<(\w+) id="{name}"[^>]*>(.*?)</\1>', document, re.DOTALL)
    assert found is not None
    return text_of(found[2])


def test_the_page_lists_the_events_of_both_services_with_their_counts(browser: Browser, receiver: Receiver) -> None:
    post_jkool(receiver, jkool_event(1, "order 17 paid for Grüße"))
    post_trakerr(receiver, "card refused")
    post_trakerr(receiver, "card refused")

    document = browser.show(receiver.url)

    first, second = rows(document)
    assert first.endswith("Trakerrerrororderscard refused\N{MULTIPLICATION SIGN}2")
    assert second.endswith("jKoolINFOordersorder 17 paid for Grüße")
    assert re.findall(r'data-count="events">(\d+)<', document) == ["2", "1", "0"]
    assert re.findall(r'data-count="duplicates">(\d+)<', document) == ["1", "0", "0"]
    assert part(document, "live") == "live"


def test_what_arrived_is_shown_as_text_and_never_run(browser: Browser, receiver: Receiver) -> None:
    raised = {"type": SCRIPT, "message": SCRIPT, "traceLines": [{"function": SCRIPT, "line": 1, "file": SCRIPT}]}
    post_trakerr(receiver, SCRIPT, eventType=SCRIPT, eventStacktrace=[raised], eventUser={SCRIPT: SCRIPT})
    post_jkool(receiver, jkool_event(1, SCRIPT, operation=SCRIPT, exception=SCRIPT))

    for number in (1, 2):
        document = browser.show(f"{receiver.url}/#{number}")

        assert len(rows(document)) == 2
        assert SCRIPT in rows(document)[0]
        assert SCRIPT in part(document, "detail-trace-section")
        assert "<title>shipper receiver</title>" in document
        assert "<img src=x" not in document
        assert document.count("<script") == 1


def test_an_opened_event_shows_its_body_and_its_stack_trace(browser: Browser, receiver: Receiver) -> None:
    lines = [{"function": "<module>", "line": 12, "file": "app.py"}, {"function": "pay", "line": 8, "file": "pay.py"}]
    raised = {"type": "builtins.IndexError", "message": "out of bounds", "traceLines": lines}
    post_trakerr(receiver, "card refused", eventStacktrace=[raised], eventTime=1_700_000_000_000, eventSession=2**60)

    document = browser.show(f"{receiver.url}/#1")

    assert part(document, "detail-message") == "card refused"
    trace = part(document, "detail-trace-section")
    assert "builtins.IndexError: out of bounds" in trace
    assert trace.index("<module>  app.py:12") < trace.index("pay  pay.py:8")
    body = part(document, "detail-body")
    assert '\n  "eventMessage": "card refused",\n' in body
    assert json.loads(body)["eventSession"] == 2**60


def test_ten_thousand_events_are_shown_a_page_at_a_time(browser: Browser, receiver: Receiver) -> None:
    post_jkool(receiver, *(jkool_event(number, f"order {number}") for number in range(10_000)))

    document = browser.show(receiver.url)

    assert len(rows(document)) == 100
    assert rows(document)[0].endswith("order 9999")
    assert 'data-count="events">10,000<' in document
    assert re.search(r'<button type="button" id="older">', document)


def test_the_page_says_that_the_receiver_fails_on_purpose(browser: Browser, receiver: Receiver) -> None:
    receiver.fail("jkool", status=503, count=3)

    document = browser.show(receiver.url)

    assert part(document, "faults") == "Failing on purpose - jKool: status 503, 3 more"
    assert part(document, "empty") == "Nothing has arrived yet."
