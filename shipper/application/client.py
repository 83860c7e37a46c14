"""A client's way to its backend: joins it, joins again when the pipeline changed, and ships over it what is not yet."""

from __future__ import annotations

import logging

from ..backends.jkool import JKool
from ..backends.trakerr import Trakerr
from ..event.model import Event
from .api import current, join
from .handler import SENT, Pipeline, QueueHandler, running


class ClientBinding:
    """Made, it has joined: the shipper process runs, and delivers to ``backend`` under the name ``name``."""

    def __init__(self, backend: Trakerr | JKool) -> None:
        self.backend = backend
        self.name = backend.name
        self._others: tuple[tuple[str, int], ...] = ()
        self._joined: Pipeline | None = None
        self.pipeline()

    def pipeline(self) -> Pipeline:
        """The one that runs; cheap as long as it is the one that we joined."""
        found = running()
        if found is None or found is not self._joined:
            self.name = join(self.backend)
            found = self._joined = running()
            assert found is not None
            self._others = self._same_destination()
        return found

    def _same_destination(self) -> tuple[tuple[str, int], ...]:
        app = current()
        return tuple(
            (each.name, each.level)
            for each in (() if app is None else app.settings.backends)
            if type(each) is type(self.backend)
            and each.name != self.name
            and each.destination == self.backend.destination
        )

    def names(self, level: int) -> tuple[str, ...]:
        """This backend, and all others that bring an event of that level to the same place with the same key."""
        return (self.name, *(name for name, least in self._others if level >= least))

    def put(self, event: Event) -> bool:
        """Queue it; False when it was dropped, which is counted by then."""
        pipeline = self.pipeline()
        event.route = (self.name,)
        return pipeline.put(event)


class ClientHandler(QueueHandler):
    """Ships records over a line; none that goes to the same place with the same key by another handler."""

    def __init__(self) -> None:
        super().__init__(route=())

    def line(self) -> ClientBinding:
        """The line of this moment."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.line().pipeline()
        except Exception:
            self.handleError(record)
            return
        super().emit(record)

    def _claim(self, record: logging.LogRecord, pipeline: Pipeline) -> tuple[str, ...]:
        line = self.line()
        same = line.names(record.levelno)
        path, sent = record.__dict__.get(SENT, ("", ()))
        before = sent if path == pipeline.queue.path else ()
        if any(name in before for name in same):
            return ()
        record.__dict__[SENT] = (pipeline.queue.path, (*before, *same))
        return (line.name,)
