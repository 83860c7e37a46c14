"""The way from this process to jKool: joins a backend, again when the pipeline changed; which backends lead where."""

from __future__ import annotations

from collections.abc import Iterator

from ..app import current, join
from ..backends.jkool import JKool
from ..handler import Pipeline, running


class Line:
    """Made, it has joined: the shipper process runs, and delivers to ``backend`` under the name ``name``."""

    def __init__(self, backend: JKool) -> None:
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
            self._others = tuple(
                (each.name, each.level)
                for each in _backends()
                if each.name != self.name and _destination(each) == _destination(self.backend)
            )
        return found

    def names(self, level: int) -> tuple[str, ...]:
        """This backend, and all others that bring an event of that level to the same place with the same token."""
        return (self.name, *(name for name, least in self._others if level >= least))


def everywhere(level: int) -> tuple[str, ...]:
    """The jKool backends that bring an event of that level to every place that this process ships to, once."""
    names: dict[tuple[str, str], str] = {}
    for each in _backends():
        if level >= each.level:
            names.setdefault(_destination(each), each.name)
    return tuple(names.values())


def _backends() -> Iterator[JKool]:
    app = current()
    return (each for each in (() if app is None else app.settings.backends) if isinstance(each, JKool))


def _destination(backend: JKool) -> tuple[str, str]:
    return backend.endpoint, backend.token
