"""How many bytes does an event take, on the wire and on disk?"""

from __future__ import annotations

from collections.abc import Iterator

from shipper.backends.jkool import JKool
from shipper.backends.protocol import AppContext
from shipper.backends.trakerr import Trakerr
from shipper.event.codec import unpack
from shipper.event.model import EventId
from shipper.transport import frame

from . import backlog
from .rows import Plan, Row
from .servers import Nginx

EVENTS = 500


def wire(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    question = "Bytes an event takes"
    token = b"\x01\x23\x45\x67\x89\xab\x4d\xef"
    payloads = [backlog.payload(number) for number in range(EVENTS)]
    events = [unpack(payload, EventId(token, number)) for number, payload in enumerate(payloads)]
    frames = [frame.encode(payload, token=token, seq=1, pid=1)[0] for payload in payloads]
    yield Row(question, "in queue and journal", sum(map(len, frames)) / EVENTS, "bytes")
    context = AppContext("bench", "/srv/shop", "web-1", "10.0.0.1", lambda time: (12.5, 40.0))
    for name, backend in (
        ("Trakerr, one a request", Trakerr("key")),
        ("Trakerr, array, plain", Trakerr("key", batch="array", compress=False)),
        ("Trakerr, array, gzip (the default)", Trakerr("key", batch="array")),
        ("jKool, one a request", JKool("token")),
        ("jKool, lines, plain", JKool("token", batch="lines", compress=False)),
        ("jKool, lines, gzip (the default)", JKool("token", batch="lines")),
    ):
        most = backend.max_events
        bodies = [backend.body(events[at : at + most], context) for at in range(0, EVENTS, most)]
        yield Row(question, name, sum(map(len, bodies)) / EVENTS, "bytes", note="body, headers aside")
