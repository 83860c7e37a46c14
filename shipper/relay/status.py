"""Tells the status of a relay: in `status.json` of its spool, like an app's shipper process, and through NATS.

Every relay answers requests on `<subject>-relays.status`, such as those of `shipper status --servers`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from ..process.status.status_writer import progress_of
from ..spool.files import write_atomically
from ..spool.layout import Spool
from ..stream.client import Client
from ..stream.connection import Reply
from .deliveries import Deliveries, Delivery

WRITE_SECONDS = 0.5  # between two writes of the file


class RelayStatus:
    """Used by the main thread; `answer` by the client's."""

    def __init__(self, spool: Spool, deliveries: Deliveries, client: Client, about: dict[str, Any]) -> None:
        """``about``: app, host, durable, digest and other facts that do not change."""
        self._spool = spool
        self._deliveries = deliveries
        self._client = client
        self._about = {"pid": os.getpid(), "started": time.time(), **about}
        self._written_at = float("-inf")

    def write_if_due(self) -> None:
        """Write the file when the last one is old enough."""
        if time.monotonic() - self._written_at >= WRITE_SECONDS:
            self.write()

    def write(self, *, last: bool = False) -> None:
        """Write the file now. ``last``: the relay ends."""
        self._written_at = time.monotonic()
        with contextlib.suppress(OSError):
            write_atomically(self._spool.status, {**self.state(), "updated": time.time(), "ended": last})

    def answer(self, question: Reply) -> None:
        """Send the status as the answer to ``question``."""
        if question.reply:
            self._client.post([(question.reply, json.dumps(self.state()).encode())])

    def state(self) -> dict[str, Any]:
        """Return the status as written to JSON."""
        came_to = {each.name: each.deliverer.progress.settled + each.left for each in self._deliveries}
        came = max(came_to.values(), default=0)
        return {
            **self._about,
            "ledger": {"journaled": came},
            "dropped": {},
            "marks": [],
            "journal": {"trouble": "", "full": False, "quota": 0},
            "writers": True,
            "backends": {
                **{name: {"state": "retrying", "last_error": self._trouble} for name in self._deliveries.missing},
                **{each.name: self._backend(each, came - came_to[each.name]) for each in self._deliveries},
            },
        }

    @property
    def _trouble(self) -> str:
        """Why nothing comes from the stream, "" when that is not known."""
        if self._client.is_up:
            return self._deliveries.trouble
        return self._client.trouble.reason if self._client.trouble else "there is no connection to the servers"

    def _backend(self, delivery: Delivery, base: int) -> dict[str, Any]:
        said = progress_of(delivery.deliverer)
        trouble = delivery.feed.trouble if self._client.is_up else self._trouble
        if trouble and said["state"] in ("idle", "delivering"):
            said.update(state="retrying", last_error=trouble)
        return {
            **said,
            "base": base,  # so that journaled - base - settled is what is left for this backend
            "url": delivery.url,
            "level": delivery.backend.level,
            "dropped_at": {},
            "held": delivery.cursor.left,
            "pending_messages": delivery.feed.pending,
        }
