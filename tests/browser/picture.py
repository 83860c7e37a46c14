"""Take the screenshot of the receiver's page that the documentation shows.

``python -m tests.browser.picture [FOLDER]``: with a folder, also save the page in three windows there, as PNG.
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from shipper.receiver import Receiver

from .browsing import DESKTOP, PHONE, Window, chromium
from .scene import BEGIN, Shop, jkool_event, orders

PICTURE = Path(__file__).with_name("page.webp")
WINDOWS = (("desktop", DESKTOP, "light"), ("phone", PHONE, "light"), ("dark", DESKTOP, "dark"))
_AS_WEBP = """
async png => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", 0.9).split(",")[1];
}
"""


def shots(browser: Browser) -> dict[str, bytes]:
    """Name of a window → PNG of the page, with a record that needed several attempts."""
    found: dict[str, bytes] = {}
    with Receiver() as receiver:
        shop = Shop(receiver)
        now = int(time.time() - BEGIN)
        shop.jkool(*orders(180, now - 191))
        receiver.fail("trakerr", status=503, count=2)
        receiver.fail("jkool", reset=True)
        for _ in range(3):
            shop.trakerr(now - 1, "card refused", contextTags=["shop.payments"])
        shop.everywhere(now - 1, "card refused")
        shop.everywhere(now - 1, "card refused")
        shop.jkool(*orders(7, now), jkool_event(now + 9, "stock is low", severity="WARNING"))
        for name, size, scheme in WINDOWS:
            window = Window(browser, size, color_scheme=scheme, timezone_id="UTC")
            window.page.goto(receiver.url)
            expect(window.page.locator("#live")).to_have_text("live")
            if size == DESKTOP:
                window.page.locator(".row", has_text="card refused").click()
                expect(window.page.locator("#detail .headline")).to_have_text("card refused")
            found[name] = window.page.screenshot()
    return found


def as_webp(browser: Browser, png: bytes) -> bytes:
    page = browser.new_page()
    return base64.b64decode(page.evaluate(_AS_WEBP, base64.b64encode(png).decode()))


def main(arguments: list[str]) -> None:
    with chromium() as browser:
        found = shots(browser)
        PICTURE.write_bytes(as_webp(browser, found["desktop"]))
    for folder in map(Path, arguments):
        for name, png in found.items():
            (folder / f"{name}.png").write_bytes(png)


if __name__ == "__main__":
    main(sys.argv[1:])
