"""The receiver's ASGI application: requests to the services, and the faults that happen to them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from .connection import Connection
from .control.access import Access
from .control.routes import Control
from .faults import Fault, Faults
from .services.otlp import LOGS_PATH
from .services.service import JSON_TYPE, Arrival, Refused, Reply, Request, Service, Session
from .store.events import Store
from .store.exchange import Exchange

_SERVICES = {"/api/v1/events": "trakerr", LOGS_PATH: "otlp"}
"""Path → service; jKool takes events at every other path."""


class Web:
    """The ASGI application. Requests with events bypass Starlette, which would take longer than all other work."""

    def __init__(
        self, services: Sequence[Service], store: Store, faults: Faults, *, max_body: int, access: Access | None = None
    ) -> None:
        self._services = {service.name: service for service in services}
        self._store = store
        self._faults = faults
        self._max_body = max_body
        self._access = access or Access()
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
        entry = self._access.entry(scope)
        if entry is not None:
            # Without the token: addresses are copied, and kept in the browser's history.
            headers = [(b"location", entry[0].encode()), (b"set-cookie", entry[1].encode())]
            await _send(send, Reply(303, b""), headers)
        elif self._access.allows(scope):
            await self._control(scope, receive, send)
        else:
            await _send(send, Reply(403, _FOREIGN))

    async def _serve(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["state"]["connection"]
        exchange = Exchange()
        try:
            body = await _body(receive, self._max_body)
        except Refused as refused:
            await self._refuse(service, exchange, refused, send)
            return
        except _Gone:
            self._log(service, exchange, None, "the sender left")
            return
        exchange.size = len(body)
        request = Request(dict(scope["headers"]), body)
        fault = self._faults.take(service.name)
        if fault is None:
            await self._answer(service, exchange, connection, request, send)
            return
        await self._suffer(fault, service, exchange, connection, request, send)

    async def _answer(
        self, service: Service, exchange: Exchange, session: Session, request: Request, send: Send
    ) -> None:
        try:
            arrivals, reply = service.take(request, session)
        except Refused as refused:
            await self._refuse(service, exchange, refused, send)
            return
        if not arrivals:
            exchange.reason = "a handshake, without events"
        self._log(service, exchange, reply.status, arrivals=arrivals)
        await _send(send, reply)

    async def _refuse(self, service: Service, exchange: Exchange, refused: Refused, send: Send) -> None:
        exchange.reason = refused.reason
        reply = service.refusal(refused)
        self._log(service, exchange, reply.status)
        await _send(send, reply)

    def _log(
        self,
        service: Service,
        exchange: Exchange,
        status: int | None,
        outcome: str = "",
        arrivals: Sequence[Arrival] = (),
    ) -> int:
        exchange.status = status
        exchange.outcome = outcome or str(status)
        exchange.failed = status is None or status >= 300
        return self._store.add(service.name, exchange, arrivals)

    async def _suffer(
        self,
        fault: Fault,
        service: Service,
        exchange: Exchange,
        connection: Connection,
        request: Request,
        send: Send,
    ) -> None:
        if fault.delay and await connection.is_gone_within(fault.delay):
            exchange.stored, exchange.wanted = False, True
            self._log(service, exchange, None, "the sender left", _arrivals(service, request, connection))
            return
        if fault.status is None and not (fault.hang or fault.reset or fault.half):
            await self._answer(service, exchange, connection, request, send)
            return
        exchange.stored, exchange.wanted = fault.accept, True
        # A handshake that is not accepted must not authorise the connection.
        session = connection if fault.accept else Session(connection.authorised)
        number = self._log(service, exchange, fault.status, fault.name, _arrivals(service, request, session))
        await _fail(fault, connection, send)
        if fault.status is None:
            self._store.ended(number, exchange.took)


_FOREIGN = b'{"error": "only for this machine; others need shipper receiver --allow-remote, and the link it prints"}'


def _arrivals(service: Service, request: Request, session: Session) -> list[Arrival]:
    """The events of a request that a fault will fail; none if the service would refuse it."""
    try:
        return service.take(request, session)[0]
    except Refused:
        return []


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
