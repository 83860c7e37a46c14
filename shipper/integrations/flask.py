"""Flask: one line for an application.

>>> ShipperFlask(app)

Request id, method, path and endpoint are in every event that is logged during a request. Flask logs unhandled
exceptions itself, once, to ``app.logger``: they arrive with the request. Where it passes them on instead, to the
debugger of ``flask run --debug`` or to a test, they are logged here.
"""

from __future__ import annotations

import logging
from typing import Any

from ..application.capture.surroundings import bind, unbind
from ..application.capture.unhandled import MIDDLEWARE
from .request import request_id, was_logged

FIELDS = ("request_id", "method", "path", "endpoint")

_log = logging.getLogger(MIDDLEWARE)


class ShipperFlask:
    """Binds request id, method, path and endpoint while a request is served.

    ``app`` may be given later, to `init_app`. ``request_header``: as for `asgi.ShipperMiddleware`.
    """

    def __init__(self, app: Any = None, *, request_header: str = "X-Request-ID") -> None:
        self._header = request_header
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        app.before_request_funcs.setdefault(None, []).insert(0, self._begin)
        app.teardown_request(self._end)
        from flask import got_request_exception

        got_request_exception.connect(_log_passed_on, app)

    def _begin(self) -> None:
        from flask import request

        bind(
            request_id=request_id(request.headers.get(self._header, "")),
            method=request.method,
            path=request.path,
            endpoint=request.endpoint,
        )

    def _end(self, error: object = None) -> None:
        unbind(*FIELDS)


def _log_passed_on(app: Any, *, exception: BaseException, **_: Any) -> None:
    """Log an exception that Flask's `handle_exception` does not log because it raises the exception again."""
    passes_on = app.config["PROPAGATE_EXCEPTIONS"]
    if passes_on is None:
        passes_on = app.testing or app.debug
    if passes_on and not was_logged(exception):
        _log.error("unhandled exception", exc_info=exception)
