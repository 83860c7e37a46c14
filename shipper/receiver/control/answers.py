"""Answers of the page and the control endpoints: their headers, and JSON."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..services.service import JSON_TYPE

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def value(content: Any) -> Response:
    return text(json.dumps(content))


def text(content: str) -> Response:
    """An answer whose content is JSON text already."""
    return Response(content, media_type=JSON_TYPE, headers=HEADERS)


def refusal(reason: str, status: int = 400) -> Response:
    return Response(json.dumps({"error": reason}), status, media_type=JSON_TYPE, headers=HEADERS)


def event(found: dict[str, Any]) -> str:
    """An event as JSON. Its body is JSON text already, perhaps nested deeper than the json module can write."""
    body = found.pop("body", None)
    rest = json.dumps(found)
    return rest if body is None else f'{rest[:-1]}, "body": {body}}}'
