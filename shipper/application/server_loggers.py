"""Loggers that do not pass their records on to the root logger: those of servers, and those that the user names.

The error that matters most is often logged by the server: an unhandled exception in an ASGI application, a worker that
was killed for its time-out. Servers give their loggers handlers of their own and switch propagation off.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from .attachment import is_reached
from .capture.handler import QueueHandler

SERVERS = (
    "gunicorn.error", "uvicorn", "uvicorn.error", "hypercorn.error", "_granian", "daphne", "waitress",
    "celery", "celery.task", "celery.worker", "celery.beat", "rq.worker", "rq.job", "dramatiq", "huey",
    "django", "django.request", "tornado.application", "tornado.general", "aiohttp.server", "werkzeug",
)  # fmt: skip
"""Loggers of servers, task queues and frameworks; all levels."""

ACCESS = (
    "gunicorn.access", "uvicorn.access", "hypercorn.access", "granian.access", "django.server", "aiohttp.access",
    "tornado.access",
)  # fmt: skip
"""Loggers with a line per request; WARNING and above unless access logs are wanted."""


class ServerLoggers:
    """Attaches a handler to each of these loggers that exists and reaches no handler of ours.

    ``named`` are loggers that the user wants, whether or not they exist yet; ``level`` is the handlers' level.
    `attach` may be called again at any time: for loggers that came into being, and for handlers that were removed.
    """

    def __init__(
        self, named: Sequence[logging.Logger] = (), *, servers: bool = True, access_logs: bool = False, level: int = 0
    ) -> None:
        self._named = tuple(named)
        self._known = (*SERVERS, *ACCESS) if servers else ()
        self._level = level
        self._access_level = level if access_logs else max(level, logging.WARNING)
        self._attached: list[tuple[logging.Logger, QueueHandler]] = []

    def attach(self) -> None:
        for logger in (*self._named, *_existing(self._known)):
            if not logger.disabled and not is_reached(logger):
                self._attach_to(logger)

    def _attach_to(self, logger: logging.Logger) -> None:
        handler = next((known for to, known in self._attached if to is logger), None)
        if handler is None:
            handler = QueueHandler(level=self._access_level if logger.name in ACCESS else self._level)
            self._attached.append((logger, handler))
        logger.addHandler(handler)

    def detach(self) -> None:
        """Remove the handlers. Idempotent."""
        attached, self._attached = self._attached, []
        for logger, handler in attached:
            logger.removeHandler(handler)
            handler.close()


def _existing(names: Iterable[str]) -> Iterable[logging.Logger]:
    # None is made here: dictConfig disables every existing logger that it does not name.
    known = logging.root.manager.loggerDict
    return [found for name in names if isinstance(found := known.get(name), logging.Logger)]
