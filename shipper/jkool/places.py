"""Which backends lead to jKool."""

from __future__ import annotations

from ..application.lifecycle import current
from ..backends.jkool import JKool


def everywhere(level: int) -> tuple[str, ...]:
    """The jKool backends that bring an event of that level to every place that this process ships to, once."""
    app = current()
    names: dict[tuple[str, str], str] = {}
    for each in () if app is None else app.settings.backends:
        if isinstance(each, JKool) and level >= each.level:
            names.setdefault(each.destination, each.name)
    return tuple(names.values())
