"""WSGI (Flask, Django, Bottle …): id, method and path of a request in all events logged during it.

>>> application = ShipperMiddleware(application)

An exception that no part of the application has handled is logged once, with the request, and raised again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..application.capture.surroundings import bound
from ..application.capture.unhandled import MIDDLEWARE
from .request import request_id, was_logged

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

_log = logging.getLogger(MIDDLEWARE)


class ShipperMiddleware:
    """Binds ``request_id``, ``method`` and ``path`` while a request is served and its response is read.

    ``request_header`` and ``log_requests``: see `shipper.integrations.asgi.ShipperMiddleware`; the record of a request
    has no route.
    """

    def __init__(
        self, app: Application, *, request_header: str = "x-request-id", log_requests: bool = False
    ) -> None:
        self.app = app
        self._key = f"HTTP_{request_header.upper().replace('-', '_')}"
        self._log_requests = log_requests

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = _Request(environ, request_id(environ.get(self._key, "")), self._log_requests)

        def noting(status: str, *arguments: Any, **named: Any) -> Any:
            request.status = status.partition(" ")[0]
            return start_response(status, *arguments, **named)

        with bound(**request.fields), _Unhandled():
            body = self.app(environ, noting)
        return _Body(body, request)


class _Request:
    def __init__(self, environ: Environ, identifier: str, log_requests: bool) -> None:
        self.fields = {
            "request_id": identifier,
            "method": environ.get("REQUEST_METHOD", ""),
            "path": f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}",
        }
        self.status = ""
        self._begun = time.perf_counter()
        self._log_requests = log_requests

    def end(self) -> None:
        if not self._log_requests:
            return
        extra = {"status": self.status, "duration_ms": round((time.perf_counter() - self._begun) * 1000, 1)}
        with bound(**self.fields):
            _log.info("%s %s %s", self.fields["method"], self.fields["path"], self.status, extra=extra)


class _Unhandled:
    """Logs an exception that leaves the block."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not was_logged(error):
            _log.error("unhandled exception", exc_info=error)


class _Body:
    """The response's body; the application may go on logging while it is read."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        pieces = iter(self._body)
        while True:
            with bound(**self._request.fields), _Unhandled():
                try:
                    piece = next(pieces)
                except StopIteration:
                    return
            yield piece

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type] # a server asks only bodies that have a length

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                with bound(**self._request.fields):
                    close()
        finally:
            self._request.end()
