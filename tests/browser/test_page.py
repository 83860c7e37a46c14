"""The receiver's page in a real browser: what a developer sees and does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from shipper.receiver import Receiver

from ..support.waiting import PATIENCE, wait_until
from .browsing import PHONE, Window, chromium
from .picture import PICTURE, as_webp, shots
from .scene import BEGIN, GROUP, TRACE, Shop, jkool_event, orders, uuid

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def shop(receiver: Receiver) -> Shop:
    return Shop(receiver)


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    opened = Window(browser)
    yield opened
    assert opened.problems == []


@pytest.fixture
def page(window: Window) -> Page:
    return window.page


def show(page: Page, receiver: Receiver, address: str = "") -> None:
    page.goto(f"{receiver.url}/{address}")
    expect(page.locator("#live")).to_have_text("live")


def rows(page: Page) -> list[str]:
    """The messages in the list, top to bottom."""
    return page.locator(".row .message").all_inner_texts()


def texts(found: Locator, count: int) -> list[str]:
    """Wait until there are ``count`` elements, and return their texts."""
    expect(found).to_have_count(count)
    return found.all_inner_texts()


def search(page: Page, query: str, total: str) -> None:
    page.fill("#search", query)
    expect(page.locator("#list")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#total")).to_have_text(total)


def open_first(page: Page) -> None:
    page.locator(".row").first.click()
    expect(page.locator("#detail .headline")).to_be_visible()


def overflow(page: Page) -> int:
    """How many pixels the page is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return width


# One record


def test_one_record_has_a_badge_and_a_payload_for_each_service(page: Page, receiver: Receiver, shop: Shop) -> None:
    receiver.fail("trakerr", status=503)
    receiver.fail("trakerr", half=True, accept=True)
    for _ in range(3):
        shop.everywhere(1, "card refused")
    shop.jkool(jkool_event(2, "group", severity="ERROR", exception=GROUP))
    show(page, receiver)

    search(page, '"card refused"', "1 match")
    assert texts(page.locator(".row .badge"), 3) == ["jKool×3", "OTLP×3", "Trakerr×2↻2"]
    open_first(page)

    attempts = texts(page.locator(".delivery").first.locator("tbody .outcome"), 3)
    assert attempts == ["503 asked for", "half an answer asked for", "200"]
    expect(page.locator(".delivery").first).to_contain_text("at attempt 2 · 2 copies arrived")
    assert texts(page.locator(".payload .badge"), 3) == ["Trakerr", "jKool", "OTLP"]
    assert "secret-0815" not in page.content()
    assert texts(page.locator(".exception .relation"), 2) == ["raised", "caused by"]
    expect(page.locator(".notes")).to_have_text("while the basket was priced")
    expect(page.locator(".frames code").first).to_have_text('raise ValueError("no price") from exc')
    table = texts(page.locator(".values tbody tr"), 2)
    assert [row.split("\t") for row in table] == [["order", "int", str(2**60)], ["vip", "bool", "true"]]
    expect(page.locator("#detail-content")).to_contain_text("Stack (most recent ...)")

    search(page, "group", "1 match")
    open_first(page)
    expect(page.locator("#detail .headline")).to_have_text("group")
    raised = texts(page.locator(".exception p.raised"), 4)
    assert raised == [
        "raisedExceptionGroup: two checks failed (2 sub-exceptions)",
        "memberKeyError: 'A-17'",
        "memberExceptionGroup: address (1 sub-exception)",
        "memberTypeError: no country",
    ]


def test_what_arrived_is_shown_as_text_and_never_run(
    window: Window, page: Page, receiver: Receiver, shop: Shop
) -> None:
    raised = {"type": SCRIPT, "message": SCRIPT, "traceLines": [{"function": SCRIPT, "line": 1, "file": SCRIPT}]}
    shop.trakerr(1, SCRIPT, eventType=SCRIPT, eventStacktrace=[raised], eventUser={SCRIPT: SCRIPT})
    snapshot = {"name": SCRIPT, "time-usec": 1, "properties": [{"name": SCRIPT, "type": "string", "value": SCRIPT}]}
    properties = [{"name": SCRIPT, "type": SCRIPT, "value": SCRIPT}]
    shop.jkool(
        jkool_event(1, SCRIPT, operation=SCRIPT, exception=SCRIPT, snapshots=[snapshot], properties=properties),
        jkool_event(2, "a\u202etxt.exe\x07", corr_id=SCRIPT, type="ACTIVITY", status=SCRIPT),
        jkool_event(3, SCRIPT, corr_id=SCRIPT, parent_tracking_id=uuid(2)),
    )
    show(page, receiver)

    expect(page.locator(".row .message").nth(2)).to_have_text(SCRIPT)
    assert rows(page)[1] == "activityaU+202Etxt.exeU+0007"
    for number in (1, 2, 3):
        page.goto(f"{receiver.url}/?record={uuid(number)}&q={SCRIPT}")
        expect(page.locator("#detail .headline")).to_be_visible()
        expect(page.locator("#detail-content")).to_contain_text(SCRIPT)
    page.goto(f"{receiver.url}/?record={SCRIPT}")
    expect(page.locator(".unknown")).to_contain_text(SCRIPT)

    assert page.title() == "shipper receiver"
    assert page.locator("script:not([src^='/_page/'])").count() == 0
    assert page.locator("img").count() == 1
    assert [url for url in window.requests if not url.startswith(receiver.url)] == []
    # A missing record may be requested again, since it may still arrive: its 404s are no problem.
    page.goto("about:blank")
    assert [each for each in window.problems if "404 (Not Found)" not in each] == []
    window.problems.clear()


def test_traces_and_activities_lead_to_their_records(page: Page, receiver: Receiver, shop: Shop) -> None:
    activity: dict[str, Any] = {"type": "ACTIVITY", "status": "END", "elapsed_time_usec": 2_500_000, "msg_text": ""}
    snapshot = {"name": "load", "time-usec": 1, "properties": [{"name": "cpu", "type": "float", "value": 12.5}]}
    shop.jkool(
        jkool_event(1, "inside", corr_id=TRACE, parent_tracking_id="checkout-1"),
        jkool_event(2, "elsewhere", corr_id=TRACE, snapshots=[snapshot]),
        jkool_event(3, "", operation="checkout", tracking_id="checkout-1", **activity),
    )
    show(page, receiver, f"?record={uuid(1)}")

    page.locator("#detail-tree .node", has_text="checkout").click()
    expect(page.locator("#detail .headline")).to_have_text("checkout · 2.50 s")
    assert [text.split("\n") for text in texts(page.locator("#detail-tree .node"), 2)] == [
        ["activity", "checkout", "2.50 s"],
        ["info", "inside"],
    ]
    page.locator("#detail-tree .node", has_text="inside").click()
    page.locator("#detail-trace .node", has_text="elsewhere").click()
    expect(page.locator("#detail .headline")).to_have_text("elsewhere")
    expect(page.locator(".snapshot")).to_contain_text("cpu")
    page.get_by_title("filter by this trace").click()
    expect(page.locator("#total")).to_have_text("2 matches")
    assert f"trace%3A{TRACE}" in page.url


def test_a_payload_is_copied_as_json_and_as_a_command_without_its_key(
    page: Page, receiver: Receiver, shop: Shop
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shop.trakerr(1, "it's refused", big=2**60)
    show(page, receiver, f"?record={uuid(1)}")

    page.get_by_role("button", name="Copy JSON").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    page.get_by_role("button", name="Copy curl").click()
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()").startswith("curl"))
    command = page.evaluate("navigator.clipboard.readText()")

    assert (copied["big"], copied["eventMessage"]) == (2**60, "it's refused")
    assert command.startswith(f"curl '{receiver.url}/api/v1/events' -H 'Content-Type: application/json'")
    assert "it'\\''s refused" in command
    assert "secret-0815" not in command


# The list


def test_the_list_stands_still_while_somebody_reads(page: Page, receiver: Receiver, shop: Shop) -> None:
    shop.jkool(*orders(300))
    show(page, receiver)
    shop.jkool(jkool_event(1000, "comes in by itself"))
    expect(page.locator(".row .message").first).to_have_text("comes in by itself")

    page.locator(".row").nth(1).click()
    shop.jkool(*orders(5, 2000))

    expect(page.locator("#new")).to_have_text("5 new")
    assert rows(page)[:2] == ["comes in by itself", "order 299 paid"]
    at = page.evaluate("at => new Date(at * 1000).toTimeString().slice(0, 8)", BEGIN + 299)
    expect(page.locator(".row time").nth(1)).to_have_text(re.compile(rf"11-1\d {at}"))
    # Later copies of a listed record change its row in place.
    shop.trakerr(299, "order 299 paid")
    expect(page.locator(".row").nth(1).locator(".badge")).to_have_count(2)
    page.locator("#close").click()
    page.locator("#new").click()
    expect(page.locator(".row .message").first).to_have_text("order 2004 paid")


def test_fifty_thousand_records_are_scrolled_and_searched(page: Page, receiver: Receiver, shop: Shop) -> None:
    for begin in range(0, 50_000, 5000):
        shop.jkool(*orders(5000, begin))
    show(page, receiver)

    expect(page.locator("#total")).to_have_text("50,000 records")
    assert len(rows(page)) < 60
    page.locator("#list").focus()
    page.keyboard.press("End")
    expect(page.locator(".row[aria-selected=true] .message")).to_have_text("order 0 paid")
    page.locator("#list").evaluate("list => list.scrollTop = list.scrollHeight / 2")
    expect(page.locator(".row .message", has_text=re.compile(r"order 2\d{4} paid")).first).to_be_visible()
    search(page, "extra.order:4711", "1 match")
    search(page, "level:error logger:shop.pay* -4927", "829 matches")
    assert page.evaluate("performance.getEntriesByType('resource').length") < 60


def test_the_oldest_go_when_there_is_too_much_and_clear_forgets_the_rest(window: Window) -> None:
    with Receiver(max_bytes=200_000) as receiver:
        shop = Shop(receiver)
        shop.jkool(*orders(300))
        shop.jkool(*orders(200, 300))
        show(window.page, receiver)
        expect(window.page.locator("#removed")).to_contain_text("removed to make room")

        window.page.locator("#clear").click()
        window.page.locator("#clear-dialog .danger").click()

        expect(window.page.locator("#start")).to_be_visible()
        expect(window.page.locator("[data-service=jkool] [data-count=events]")).to_have_text("0")


# Search


def test_a_search_and_a_range_of_time_stand_in_the_address(page: Page, receiver: Receiver, shop: Shop) -> None:
    shop.jkool(*orders(200))
    show(page, receiver)

    page.select_option("#level", "level:error")
    expect(page.locator("#total")).to_have_text("5 matches")
    box = page.locator("#histogram").bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.3, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=3)
    page.mouse.up()
    expect(page.locator("#total")).to_have_text("1 match")
    open_first(page)
    page.locator(".values .value").first.click()
    expect(page.locator("#search")).to_have_value("level:error extra.order:87")

    page.reload()
    expect(page.locator("#total")).to_have_text("1 match")
    expect(page.locator("#detail .headline")).to_have_text("order 87 paid")
    assert "since=" in page.url
    page.locator("#range-clear").click()
    page.fill("#search", "loger:shop")
    expect(page.locator("#problem")).to_contain_text("loger is no field")
    page.locator("#nothing-clear").click()
    expect(page.locator("#total")).to_have_text("200 records")


# Faults and requests


def test_faults_come_at_a_click_and_are_told_from_real_failures(page: Page, receiver: Receiver, shop: Shop) -> None:
    show(page, receiver)
    # An empty page shows how to send to this receiver.
    expect(page.locator("#start-python")).to_contain_text(f'url="{receiver.trakerr_url}"')
    expect(page.locator("#start-environment")).to_contain_text(f"SHIPPER_JKOOL_URL={receiver.jkool_url}")
    expect(page.locator("#start-environment")).to_contain_text(f"SHIPPER_OTLP_ENDPOINT={receiver.otlp_url}")
    expect(page.locator("#start-curl")).to_contain_text(f"curl {receiver.url}/api/v1/events")
    page.locator("#show-faults").click()
    page.select_option("#fault-amount", "seconds 600")
    page.get_by_role("button", name="Trakerr: 429 Too Many Requests, with Retry-After").click()
    expect(page.locator("#faults-banner")).to_contain_text(re.compile(r"Trakerr: 429, Retry-After 5, [56]\d\d s left"))
    shop.trakerr(1, "refused on purpose")
    expect(page.locator("#faults-banner")).to_contain_text(re.compile(r"5\d\d s left"))
    page.locator("#banner-stop").click()
    expect(page.locator("#faults-banner")).to_be_hidden()
    shop.trakerr(1, "refused", "loud")

    expect(page.locator(".badge.missing")).to_have_text("Trakerr 429")
    page.locator("#show-requests").click()
    assert texts(page.locator("#requests-body .outcome"), 2) == ["400", "429 asked for"]
    expect(page.locator("#requests-body tr.bad")).to_contain_text("logLevel must be one of")
    shop.trakerr(2, "taken")
    expect(page.locator("#requests-body tr")).to_have_count(3)
    page.locator("#requests-failed").check()
    expect(page.locator("#requests-body tr")).to_have_count(2)


# Keyboard, phones, accessibility


def test_everything_goes_without_a_mouse(page: Page, receiver: Receiver, shop: Shop) -> None:
    shop.jkool(*orders(150))
    show(page, receiver)
    stops = "[...document.querySelectorAll('#list, #list *')].filter(each => each.tabIndex >= 0).length"
    assert page.evaluate(stops) == 1

    page.keyboard.press("/")
    page.keyboard.type("order")
    expect(page.locator("#total")).to_have_text("150 matches")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("#detail .headline")).to_have_text("order 148 paid")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail .headline")).to_have_text("order 147 paid")
    active = page.locator("#list").get_attribute("aria-activedescendant")
    expect(page.locator(f"#{active}")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    page.keyboard.press("?")
    expect(page.locator("#help-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("#histogram").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#range-clear")).to_be_visible()


def test_the_page_has_no_barrier_that_axe_knows(window: Window, page: Page, receiver: Receiver, shop: Shop) -> None:
    found: list[str] = []

    def look(where: str, *schemes: Literal["light", "dark"]) -> None:
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            violations = Axe().run(page).response["violations"]
            nodes = [(each["id"], node["target"]) for each in violations for node in each["nodes"]]
            found.extend(f"{where} {scheme}: {name}: {target}" for name, target in nodes)

    show(page, receiver)
    look("empty", "light")
    receiver.fail("jkool", status=503)
    shop.everywhere(1, "card refused")
    shop.jkool(*orders(100, 10))
    receiver.fail("otlp", status=503)
    page.goto(f"{receiver.url}/?record={uuid(1)}")
    expect(page.locator("#detail .headline")).to_be_visible()
    page.locator("#show-faults").click()
    look("record", "light", "dark")
    page.locator("#show-requests").click()
    expect(page.locator("#requests-body tr").first).to_be_visible()
    look("requests", "dark")
    page.locator("#help").click()
    look("help", "dark")
    page.goto(f"{receiver.url}/_page/api")
    expect(page.locator(".operation").first).to_be_visible()
    look("api", "light")

    assert found == [], "\n".join(found)


def test_on_a_phone_nothing_overflows_and_the_list_has_the_room(
    browser: Browser, receiver: Receiver, shop: Shop
) -> None:
    window = Window(browser, PHONE, has_touch=True, is_mobile=True)
    page = window.page
    show(page, receiver)
    assert overflow(page) == 0
    shop.jkool(*orders(200))
    shop.everywhere(500, "a very long message " * 30 + "x" * 500)
    receiver.fail("trakerr", status=503, seconds=600)
    expect(page.locator(".row .badge")).not_to_have_count(0)
    list_box = page.locator("#list").bounding_box()
    assert list_box is not None
    assert list_box["height"] > PHONE[1] * 0.6
    assert overflow(page) == 0

    page.locator(".row").first.tap()
    expect(page.locator("#detail .headline")).to_be_visible()
    assert overflow(page) == 0
    assert page.locator("#detail").evaluate("element => element.scrollWidth - element.clientWidth") == 0
    page.go_back()
    expect(page.locator("#detail")).to_be_hidden()
    page.locator("#show-faults").tap()
    page.locator("#show-requests").tap()
    assert overflow(page) == 0
    assert window.problems == []


def test_its_picture_is_small_and_can_be_taken(browser: Browser) -> None:
    taken = shots(browser)

    assert set(taken) == {"desktop", "phone", "dark"}
    for picture in (as_webp(browser, taken["desktop"]), PICTURE.read_bytes()):
        assert picture[8:12] == b"WEBP"
        assert 10_000 < len(picture) < 150_000


def test_a_link_with_the_token_opens_the_page_from_elsewhere(browser: Browser) -> None:
    with Receiver(host="0.0.0.0", allow_remote=True) as receiver:
        shop = Shop(receiver)
        shop.jkool(jkool_event(1, "from a container"))
        refused, window = Window(browser), Window(browser)  # two: the console of the first reports the refused request
        # The browser runs on this machine; a foreign host name makes the receiver treat it as remote.
        foreign = receiver.page_url.replace("localhost", "shipper.localhost")

        denied = refused.page.goto(foreign.partition("?")[0])
        assert denied is not None
        assert denied.status == 403
        window.page.goto(foreign)

        expect(window.page.locator(".row .message")).to_have_text("from a container")
        expect(window.page.locator("#live")).to_have_text("live")
        assert "token" not in window.page.url
        assert window.problems == []
