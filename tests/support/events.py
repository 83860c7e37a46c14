"""Events as a server of the tests got them."""

from __future__ import annotations

import json
from typing import Any

from .servers import Server


def events_at(server: Server) -> list[dict[str, Any]]:
    """Return Trakerr's objects in order of arrival, each id once."""
    seen: dict[str, dict[str, Any]] = {}
    for request in list(server.requests):
        event = {"eventStacktrace": None, "customProperties": {}, **json.loads(request.body)}
        seen.setdefault(request.headers["idempotency-key"], event)
    return list(seen.values())
