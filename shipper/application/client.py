"""How a client ships: it adds its backend to the app of this process, or starts one, and routes events to it."""

from __future__ import annotations

import logging

from ..backends.jkool import JKool
from ..backends.trakerr import Trakerr
from ..event.model import Event
from .capture.handler import QueueHandler, claim
from .capture.pipeline import Pipeline, active
from .joining import join
from .lifecycle import current


class ClientBinding:
    """A backend that has joined an app: the shipper process delivers to ``backend`` under the name ``name``."""

    def __init__(self, backend: Trakerr | JKool) -> None:
        self.backend = backend
        self.name = backend.name
        self._equivalents: tuple[tuple[str, int], ...] = ()
        self._joined: Pipeline | None = None
        self.pipeline()

    def pipeline(self) -> Pipeline:
        """The process's pipeline; joins again when the pipeline was replaced since the last call."""
        pipeline = active.pipeline
        if pipeline is None or pipeline is not self._joined:
            self.name = join(self.backend)
            pipeline = self._joined = active.pipeline
            assert pipeline is not None
            self._equivalents = self._find_equivalents()
        return pipeline

    def _find_equivalents(self) -> tuple[tuple[str, int], ...]:
        """Name and level of each other backend that leads to the same service with the same key."""
        app = current()
        return tuple(
            (each.name, each.level)
            for each in (() if app is None else app.settings.backends)
            if type(each) is type(self.backend)
            and each.name != self.name
            and each.destination == self.backend.destination
        )

    def equivalent_names(self, level: int) -> tuple[str, ...]:
        """The names of this backend, and of others that take that level to the same service with the same key."""
        return (self.name, *(name for name, lowest in self._equivalents if level >= lowest))

    def enqueue(self, event: Event) -> bool:
        """Queue the event; False when it was dropped, which is counted."""
        pipeline = self.pipeline()
        event.route = (self.name,)
        return pipeline.enqueue(event)


class ClientHandler(QueueHandler):
    """Ships records through a binding, unless another handler ships them to the same service with the same key."""

    def __init__(self) -> None:
        super().__init__(route=())

    def binding(self) -> ClientBinding:
        """The binding to use now."""
        raise NotImplementedError

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.binding().pipeline()
        except Exception:
            self.handleError(record)
            return
        super().emit(record)

    def _route(self, record: logging.LogRecord, pipeline: Pipeline) -> tuple[str, ...]:
        binding = self.binding()
        names = binding.equivalent_names(record.levelno)
        return (binding.name,) if claim(record, pipeline.queue.path, names) == names else ()
