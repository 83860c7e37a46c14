"""A type checker finds no error and no Any in correct uses of the jKool client, and finds wrong arguments."""

from __future__ import annotations

from pathlib import Path

from ..trakerr.test_types import checked, said_of

USE = """\
import asyncio
import logging
from uuid import uuid4

import shipper.jkool
from shipper.jkool import metrics, streaming
from shipper.jkool.metrics import Property, Snapshot
from shipper.jkool.streaming import AuthorizationError, HttpHandler, activity, jKoolHandler, logActivity, logEvent


@activity("sum")
def add(first: int, second: int = 0) -> int:
    return first + second


@streaming.activity()
async def work(name: str) -> bytes:
    return name.encode()


def main() -> None:
    logger = logging.getLogger("jKool logger")
    try:
        hdlr = streaming.jKoolHandler("token")
    except AuthorizationError as error:
        reveal_type(error.value)
    hdlr = jKoolHandler("token", "https://data.jkoolcloud.com", logging.INFO)
    hdlr = HttpHandler("token", url="https://data.jkoolcloud.com", level="ERROR")
    hdlr = jKoolHandler(accessToken="token", urlStr="https://data.jkoolcloud.com")
    logger.addHandler(hdlr)
    tracking = str(uuid4())
    snapshot = Snapshot("Payment", 1466662761000000, parent_id=tracking, category="Order")
    snapshot.addProperty("order-no", 5, "string")
    other = metrics.Snapshot("Payment", properties=[Property("a", 1.5, "double"), {"name": "b"}])
    logEvent(logger, "m", "APPL=a", corr_id=tracking, snapshots=[snapshot, other], properties=[Property("a", 1, "int")])
    streaming.logEvent(logger, "m", None, tracking, 1457524800000000, exception=ValueError(), severity=logging.ERROR)
    logEvent(logging.LoggerAdapter(logger, {"a": 1}), "m", "APPL=a", exc_info=True)
    reveal_type(logActivity(logger, "order", "APPL=a", status="END", event_ids=[tracking], elapsed_time_usec=5))
    with streaming.activity("order", logger, "APPL=a", corr_id=5) as order:
        order.status = "EXCEPTION"
        reveal_type(order.tracking_id)
        reveal_type(order.event_ids)
    reveal_type(add)
    reveal_type(add(1, second=2))
    reveal_type(asyncio.run(work("a")))
    reveal_type(snapshot.time_usec)
    reveal_type(snapshot.getDict())
    reveal_type(hdlr.token)
    reveal_type(shipper.jkool.streaming.Property("a", 1, "int").value)
"""

WRONG = """\
import logging
from shipper.jkool import streaming

streaming.jKoolHandler(5)
streaming.logEvent(logging.getLogger(), "m")
streaming.logActivity(None, "a", status="DONE")


@streaming.activity("a")
def add(number: int) -> int:
    return number


add("1")
"""


def test_a_program_that_uses_every_name_is_sound_and_sees_no_any(tmp_path: Path) -> None:
    done = checked(tmp_path, USE)

    ours = said_of(done)
    assert [line for line in ours if "error:" in line] == []
    assert len([line for line in ours if "Revealed type" in line]) == 11
    assert [line for line in ours if "Any" in line] == []


def test_a_wrong_argument_is_found(tmp_path: Path) -> None:
    done = checked(tmp_path, WRONG)

    assert sum("[arg-type]" in line for line in said_of(done)) == 3
    assert sum("[call-arg]" in line for line in said_of(done)) == 1
