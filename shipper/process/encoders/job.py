"""The messages of the shipper process to an encoder process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...event.redact import Redact
from ...journal.segments import Position
from ..system.load_samples import Samples


@dataclass(frozen=True)
class Job:
    """The first message. ``description``: the backend of the settings. ``journal``: the journal's folder.

    ``app`` to ``redact``: what the backend's `AppContext` is made of. ``max_events``, ``max_bytes``: of one request.
    """

    description: Any
    takes_all: bool
    app: str
    cwd: str
    host: str
    address: str
    redact: Redact
    journal: str
    max_events: int
    max_bytes: int


class Part(NamedTuple):
    """A part of the journal, of which to make requests. ``samples``: how busy the machine was."""

    number: int
    start: Position
    end: Position
    samples: Samples


def requests_of(description: Any) -> Any:
    """What a backend of the settings stands for: an `HttpBackend`, a `Backend`, or a value that is `Described`."""
    from ...backends.exporter import described
    from ...backends.redirect import redirected

    return redirected(described(description), os.environ)
