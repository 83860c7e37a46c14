"""Server-sent events: the state after each change, at most four times a second, until the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from ..faults import Faults
from ..store.changes import Watcher
from ..store.events import Store

PAUSE = 0.25
"""Seconds between two messages, at least."""

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that a dead connection is noticed."""


def state(store: Store, faults: Faults) -> dict[str, Any]:
    """What every message has: counts by service, faults that are left, the last record and request."""
    return {"counts": store.counts(), "faults": faults.left(), **store.records.state()}


async def messages(store: Store, faults: Faults) -> AsyncIterator[bytes]:
    """The state now, and again after each change."""
    with Watcher(store.changes) as watcher:
        while True:
            yield f"data: {json.dumps(state(store, faults))}\n\n".encode()
            await asyncio.sleep(PAUSE)
            while not await watcher.wait(HEARTBEAT):
                yield b": still here\n\n"
