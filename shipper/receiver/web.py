"""The receiver's addresses: the two services for everybody, the page and the control endpoints for this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request as WebRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..errors import ConfigurationError
from .faults import SERVICES, Fault, Faults, fault_from_json
from .services import JSON_TYPE, RANKS, Arrival, Refused, Reply, Request, Service
from .store import Store

if TYPE_CHECKING:
    from .server import Connection

EVENTS_PATH = "/api/v1/events"

_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/_page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/_page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/_page/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Web:
    """The ASGI application. Events take a short way past Starlette: they are most of what comes."""

    def __init__(self, services: Sequence[Service], store: Store, faults: Faults, *, max_body: int) -> None:
        self._services = {service.name: service for service in services}
        self._store = store
        self._faults = faults
        self._max_body = max_body
        self._control = _Control(store, faults).application()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if _is_ours(path) or scope["method"] in ("GET", "HEAD"):
            await self._guarded(scope, receive, send)
            return
        if scope["method"] != "POST":
            await _send(send, Reply(405, b'{"error": "POST events here"}'), [(b"allow", b"POST")])
            return
        service = self._services["trakerr" if path == EVENTS_PATH else "jkool"]
        await self._serve(service, scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not _is_local(scope["client"], headers):
            await _send(send, Reply(403, b'{"error": "only for a browser or program on this machine"}'))
            return
        await self._control(scope, receive, send)

    async def _serve(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        try:
            request = Request(dict(scope["headers"]), await _body(receive, self._max_body))
        except Refused as refused:
            self._store.count(service.name, failed=True)
            await _send(send, service.refusal(refused))
            return
        except _Gone:
            self._store.count(service.name, failed=True)
            return
        fault = self._faults.take(service.name)
        if fault is None:
            await self._answer(service, connection, request, send)
            return
        await self._suffer(fault, service, connection, request, send)

    async def _answer(self, service: Service, connection: Connection, request: Request, send: Send) -> None:
        reply = self._take(service, connection, request)
        self._store.count(service.name, failed=reply.status >= 300)
        await _send(send, reply)

    def _take(self, service: Service, connection: Connection, request: Request) -> Reply:
        try:
            arrivals, reply = service.take(request, connection)
        except Refused as refused:
            return service.refusal(refused)
        self._keep(service, arrivals)
        return reply

    def _keep(self, service: Service, arrivals: list[Arrival]) -> None:
        if arrivals:
            self._store.keep(service.name, arrivals)

    async def _suffer(
        self, fault: Fault, service: Service, connection: Connection, request: Request, send: Send
    ) -> None:
        if fault.delay and await _is_gone_within(connection, fault.delay):
            self._store.count(service.name, failed=True)
            return
        if fault.status is None and not (fault.hang or fault.reset or fault.half):
            await self._answer(service, connection, request, send)
            return
        if fault.accept:
            self._take(service, connection, request)
        self._store.count(service.name, failed=fault.status is None or fault.status >= 300)
        await _fail(fault, connection, send)


class _Control:
    """The page, and what it and tests ask for."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def application(self) -> Starlette:
        pages = [Route(path, self._page, methods=["GET"]) for path in _PAGE_FILES]
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

    async def _page(self, request: WebRequest) -> Response:
        name, media_type = _PAGE_FILES[request.url.path]
        content = resources.files(__package__).joinpath(name).read_bytes()
        return Response(content, headers={**_PAGE_HEADERS, "Content-Type": media_type})

    async def _counts(self, request: WebRequest) -> Response:
        return _json(json.dumps(self._store.counts()))

    async def _keys(self, request: WebRequest) -> Response:
        try:
            return _json(json.dumps(self._store.keys(_service(request))))
        except ValueError as exc:
            return _bad(str(exc))

    async def _events(self, request: WebRequest) -> Response:
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

    async def _event(self, request: WebRequest) -> Response:
        number = int(request.path_params["number"])
        event = self._store.event(number) if number < 2**63 else None
        return _bad("no such event", 404) if event is None else _json(_event_json(event))

    async def _list_faults(self, request: WebRequest) -> Response:
        return _json(json.dumps(self._faults.left()))

    async def _add_faults(self, request: WebRequest) -> Response:
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

    async def _clear_faults(self, request: WebRequest) -> Response:
        self._faults.clear()
        return _json("[]")


def _event_json(event: dict[str, Any]) -> str:
    # The body is JSON already, perhaps deeper than the json module can write.
    body = event.pop("body", None)
    text = json.dumps(event)
    return text if body is None else f'{text[:-1]}, "body": {body}}}'


def _json(text: str) -> Response:
    return Response(text, media_type=JSON_TYPE, headers=_PAGE_HEADERS)


def _bad(reason: str, status: int = 400) -> Response:
    return Response(json.dumps({"error": reason}), status, media_type=JSON_TYPE, headers=_PAGE_HEADERS)


def _service(request: WebRequest) -> str | None:
    service = request.query_params.get("service") or None
    if service is not None and service not in SERVICES:
        raise ConfigurationError("service", service, f"one of {', '.join(SERVICES)}, or none for both")
    return service


def _level(request: WebRequest) -> str:
    level = request.query_params.get("level", "")
    if level and level.lower() not in RANKS:
        raise ConfigurationError("level", level, f"one of {', '.join(RANKS)}")
    return level


def _number(request: WebRequest, name: str) -> int | None:
    text = request.query_params.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigurationError(name, text, "a whole number")
    return int(text)


# Who may look.


def _is_ours(path: str) -> bool:
    return path.startswith(("/_control/", "/_page/"))


def _is_local(client: tuple[str, int] | None, headers: dict[bytes, bytes]) -> bool:
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


# Requests and answers.


class _Gone(Exception):
    """The sender left before its request was whole."""


async def _body(receive: Receive, limit: int) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message["more_body"]:
        if len(body) > limit:
            break
        message = await receive()
        body += message.get("body", b"")
    if message["type"] != "http.request":
        raise _Gone
    if len(body) > limit:
        raise Refused(413, f"the body has more than {limit} bytes")
    return body


async def _send(send: Send, reply: Reply, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [
                (b"content-type", reply.media_type.encode()),
                (b"content-length", b"%d" % len(reply.body)),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})


async def _fail(fault: Fault, connection: Connection, send: Send) -> None:
    if fault.status is not None:
        headers = [] if fault.retry_after is None else [(b"retry-after", fault.retry_after.encode())]
        body = b"" if fault.status in (204, 304) else b'{"error": "a fault that was asked for"}'
        await _send(send, Reply(fault.status, body), headers)
        return
    if fault.reset:
        connection.reset()
    elif fault.half:
        await _send_half(send)
        connection.close()
    await connection.gone.wait()


async def _send_half(send: Send) -> None:
    body = b'{"accepted": 1}'
    headers = [(b"content-type", JSON_TYPE.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _is_gone_within(connection: Connection, seconds: float) -> bool:
    try:
        await asyncio.wait_for(connection.gone.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
