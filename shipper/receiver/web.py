"""The receiver's ASGI application: requests of the services, and the faults that happen to them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from .connection import Connection
from .control import Control, is_local
from .faults import Fault, Faults
from .otlp import LOGS_PATH
from .service import JSON_TYPE, Arrival, Refused, Reply, Request, Service
from .store import Store

_SERVICES = {"/api/v1/events": "trakerr", LOGS_PATH: "otlp"}
"""Path → service; jKool takes events at every other path."""


class Web:
    """The ASGI application. Requests with events do not go through Starlette: it would take longer than the rest."""

    def __init__(self, services: Sequence[Service], store: Store, faults: Faults, *, max_body: int) -> None:
        self._services = {service.name: service for service in services}
        self._store = store
        self._faults = faults
        self._max_body = max_body
        self._control = Control(store, faults).application()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if _is_ours(path) or scope["method"] in ("GET", "HEAD"):
            await self._guarded(scope, receive, send)
            return
        if scope["method"] != "POST":
            await _send(send, Reply(405, b'{"error": "POST events here"}'), [(b"allow", b"POST")])
            return
        service = self._services[_SERVICES.get(path, "jkool")]
        await self._serve(service, scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if not is_local(scope["client"], headers):
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
        if fault.delay and await connection.is_gone_within(fault.delay):
            self._store.count(service.name, failed=True)
            return
        if fault.status is None and not (fault.hang or fault.reset or fault.half):
            await self._answer(service, connection, request, send)
            return
        if fault.accept:
            self._take(service, connection, request)
        self._store.count(service.name, failed=fault.status is None or fault.status >= 300)
        await _fail(fault, connection, send)


def _is_ours(path: str) -> bool:
    return path.startswith(("/_control/", "/_page/"))


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
