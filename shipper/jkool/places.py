"""The jKool backends of this process."""

from __future__ import annotations

from ..application.lifecycle import current
from ..backends.jkool import JKool


def jkool_backends(level: int) -> tuple[str, ...]:
    """Names of backends that deliver an event of that level once to each jKool service that this process ships to."""
    app = current()
    names: dict[tuple[str, str], str] = {}
    for each in () if app is None else app.settings.backends:
        if isinstance(each, JKool) and level >= each.level:
            names.setdefault(each.destination, each.name)
    return tuple(names.values())
