"""ASGI (FastAPI, Starlette, Django, Litestar …): id, method and path of a request in all events logged during it.

>>> app.add_middleware(ShipperMiddleware)      # FastAPI, Starlette
>>> application = ShipperMiddleware(application)   # any other ASGI application

An exception that no part of the application has handled is logged once, with the request, and raised again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..application.capture.surroundings import bound
from ..application.capture.unhandled import MIDDLEWARE
from .request import request_id, route_of, was_logged

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_log = logging.getLogger(MIDDLEWARE)


class ShipperMiddleware:
    """Binds ``request_id``, ``method`` and ``path`` while a request is served.

    ``request_header``: the header in which a proxy sends the request id (default ``x-request-id``); an id is generated
    if it is missing, longer than 128 characters, or not made of letters, digits and ``_.:/+=@-`` only.
    ``log_requests``: log each request as one INFO record of the logger ``shipper.request``, with route, status and
    duration in milliseconds (default False).
    """

    def __init__(
        self, app: Application, *, request_header: str = "x-request-id", log_requests: bool = False
    ) -> None:
        self.app = app
        self._header = request_header.lower().encode("latin-1")
        self._log_requests = log_requests

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = next((value for name, value in scope.get("headers", ()) if name.lower() == self._header), b"")
        method = scope.get("method", "WEBSOCKET")
        with bound(request_id=request_id(given.decode("latin-1")), method=method, path=scope.get("path", "")):
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        status = 0
        begun = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if not was_logged(error):
                _log.exception("unhandled exception", extra={"route": route_of(scope)})
            raise
        finally:
            if self._log_requests:
                duration = round((time.perf_counter() - begun) * 1000, 1)
                extra = {"route": route_of(scope), "status": status, "duration_ms": duration}
                _log.info("%s %s %d", scope.get("method", "WEBSOCKET"), scope.get("path", ""), status, extra=extra)
