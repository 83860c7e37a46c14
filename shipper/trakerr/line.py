"""The way from this process to one backend: joins it, joins again when the pipeline changed, puts events."""

from __future__ import annotations

from ..app import current, join
from ..backends.trakerr import Trakerr
from ..event import Event
from ..handler import Pipeline, running


class Line:
    """Made, it has joined: the shipper process runs, and delivers to ``backend`` under the name ``name``."""

    def __init__(self, backend: Trakerr) -> None:
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
        if app is None:
            return ()
        return tuple(
            (each.name, each.level)
            for each in app.settings.backends
            if isinstance(each, Trakerr) and each.name != self.name and _destination(each) == _destination(self.backend)
        )

    def names(self, level: int) -> tuple[str, ...]:
        """This backend, and all others that bring an event of that level to the same place under the same key."""
        return (self.name, *(name for name, least in self._others if level >= least))

    def put(self, event: Event) -> bool:
        """Queue it; False when it was dropped, which is counted by then."""
        pipeline = self.pipeline()
        event.route = (self.name,)
        return pipeline.put(event)


def _destination(backend: Trakerr) -> tuple[str, str]:
    return backend.endpoint, backend.api_key
