"""The page and the control endpoints, for browsers and programs on this machine only."""

from __future__ import annotations

import ipaddress
import json
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..errors import ConfigurationError
from .faults import SERVICES, Faults, fault_from_json
from .service import JSON_TYPE, RANKS
from .store import Store

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/_page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/_page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/_page/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Control:
    """The page, and the endpoints that it and tests use."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def application(self) -> Starlette:
        pages = [Route(path, self._page, methods=["GET"]) for path in _FILES]
        return Starlette(
            routes=[
                *pages,
                Route("/_control/counts", self._counts, methods=["GET"]),
                Route("/_control/keys", self._keys, methods=["GET"]),
                Route("/_control/events", self._events, methods=["GET"]),
                Route("/_control/events/{number:int}", self._event, methods=["GET"]),
                Route("/_control/faults", self._list_faults, methods=["GET"]),
                Route("/_control/faults", self._add_faults, methods=["POST"]),
                Route("/_control/faults", self._clear_faults, methods=["DELETE"]),
            ]
        )

    async def _page(self, request: Request) -> Response:
        name, media_type = _FILES[request.url.path]
        content = resources.files(__package__).joinpath(name).read_bytes()
        return Response(content, headers={**_HEADERS, "Content-Type": media_type})

    async def _counts(self, request: Request) -> Response:
        return _json(json.dumps(self._store.counts()))

    async def _keys(self, request: Request) -> Response:
        try:
            return _json(json.dumps(self._store.keys(_service(request))))
        except ValueError as exc:
            return _bad(str(exc))

    async def _events(self, request: Request) -> Response:
        asked = request.query_params
        bodies = asked.get("bodies", "1") != "0"
        try:
            events = self._store.events(
                _service(request),
                text=asked.get("q", ""),
                level=_level(request),
                after=_number(request, "after"),
                before=_number(request, "before"),
                limit=100 if (limit := _number(request, "limit")) is None else limit,
                bodies=bodies,
            )
        except ValueError as exc:
            return _bad(str(exc))
        return _json("[" + ", ".join(map(_event_json, events)) + "]")

    async def _event(self, request: Request) -> Response:
        number = int(request.path_params["number"])
        event = self._store.event(number) if number < 2**63 else None
        return _bad("no such event", 404) if event is None else _json(_event_json(event))

    async def _list_faults(self, request: Request) -> Response:
        return _json(json.dumps(self._faults.left()))

    async def _add_faults(self, request: Request) -> Response:
        # A browser sends this type to another site only when that site agrees beforehand.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
            return _bad(f"Content-Type must be {JSON_TYPE}")
        try:
            given = await request.json()
            faults = [fault_from_json(each) for each in (given if isinstance(given, list) else [given])]
        except (ValueError, RecursionError) as exc:
            return _bad(str(exc))
        self._faults.add(faults)
        return _json(json.dumps(self._faults.left()))

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return _json("[]")


def _event_json(event: dict[str, Any]) -> str:
    # The body is JSON already, perhaps deeper than the json module can write.
    body = event.pop("body", None)
    text = json.dumps(event)
    return text if body is None else f'{text[:-1]}, "body": {body}}}'


def _json(text: str) -> Response:
    return Response(text, media_type=JSON_TYPE, headers=_HEADERS)


def _bad(reason: str, status: int = 400) -> Response:
    return Response(json.dumps({"error": reason}), status, media_type=JSON_TYPE, headers=_HEADERS)


def _service(request: Request) -> str | None:
    service = request.query_params.get("service") or None
    if service is not None and service not in SERVICES:
        raise ConfigurationError("service", service, f"one of {', '.join(SERVICES)}, or none for all")
    return service


def _level(request: Request) -> str:
    level = request.query_params.get("level", "")
    if level and level.lower() not in RANKS:
        raise ConfigurationError("level", level, f"one of {', '.join(RANKS)}")
    return level


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigurationError(name, text, "a whole number")
    return int(text)


def is_local(client: tuple[str, int] | None, headers: dict[bytes, bytes]) -> bool:
    """Whether a client on this machine asks for this machine, and no other site makes its browser do so."""
    if client is None or not _is_loopback(client[0]):
        return False
    host = headers.get(b"host", b"").decode("latin-1")
    # A foreign name that resolves to 127.0.0.1 would make our answers readable for a foreign page.
    if not _is_loopback(_name(host)):
        return False
    origin = headers.get(b"origin")
    return origin is None or origin.decode("latin-1") == f"http://{host}"


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
