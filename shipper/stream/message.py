"""One message of the stream: frames of events of one app and host, and where they were logged.

Layout

    subject     <subject>.<app>.<host>.<highest level>: consumers can filter by it
    headers     Nats-Msg-Id       digest of the ids of its events: the server drops a message that comes again
                Shipper-Format    1
                Shipper-App, Shipper-Host, Shipper-Address, Shipper-Cwd
                Shipper-Load      CPU and memory of the host in percent, "12.5,40.1"
    content     whole events, each as the frames that it has in the journal (`transport/frame.py`)

Names are percent-encoded: they add no dots, blanks or wildcards to a subject, and no line ends to a header.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote

from ..event.codec import SURROGATES, encode
from ..event.model import MAX_EVENT, Event, EventId, Origin
from ..journal.entry import INCOMPLETE, Entry
from ..journal.segments import Position
from ..transport import frame

FORMAT = "1"
MAX_MESSAGE = 400_000  # bytes of content; one event may be larger. Larger messages are not faster.
HEADROOM = 8192  # bytes of a server's limit that are left to headers
LEVELS = (0, 10, 20, 30, 40, 50)  # the levels in subjects; others are rounded down
_FOREIGN_TOKEN_BYTES = 8
_HEADERS = ("app", "host", "address", "cwd")


class Message(NamedTuple):
    """One message to publish. ``places``: the indices of its events in the batch."""

    subject: str
    headers: dict[str, str]
    content: bytes
    places: range


def token_of(name: str) -> str:
    """A name as one token of a subject."""
    return quote(name, safe="", errors=SURROGATES).replace(".", "%2E").replace("~", "%7E") or "%00"


def origin_headers(origin: Origin) -> dict[str, str]:
    """The headers that say where the events of a message were logged."""
    headers = {f"Shipper-{name.title()}": quote(getattr(origin, name), errors=SURROGATES) for name in _HEADERS}
    if origin.load is not None:
        headers["Shipper-Load"] = "{:.1f},{:.1f}".format(*origin.load)
    return {"Shipper-Format": FORMAT, **headers}


def origin_of(headers: Mapping[str, str]) -> Origin | None:
    """Return the origin in the headers; None for a message that is not from shipper."""
    if "Shipper-App" not in headers:
        return None
    app, host, address, cwd = (
        unquote(headers.get(f"Shipper-{name.title()}", ""), errors="replace") for name in _HEADERS
    )
    return Origin(app, host, address, cwd, _load(headers.get("Shipper-Load", "")))


def _load(text: str) -> tuple[float, float] | None:
    cpu, _, memory = text.partition(",")
    try:
        return float(cpu), float(memory)
    except ValueError:
        return None


def subject_of(prefix: str, origin: Origin, level: int) -> str:
    """Return the subject of a message; ``level`` is the highest level of its events."""
    rounded = max(each for each in LEVELS if each <= max(level, 0))
    return f"{prefix}.{token_of(origin.app)}.{token_of(origin.host)}.{rounded}"


def messages(events: Sequence[Event], prefix: str, origin: Origin, *, max_bytes: int) -> Iterator[Message]:
    """Yield the events as messages with at most ``max_bytes`` of content, or with one larger event."""
    headers = origin_headers(origin)
    pieces: list[bytes] = []
    size = begin = level = 0
    digest = hashlib.sha256()
    for place, event in enumerate(events):
        token, seq = event.id or EventId(bytes(8), place)
        frames = frame.encode(encode(event), token=token, seq=seq, pid=event.pid & 0xFFFFFFFF, level=event.level)
        length = sum(map(len, frames))
        if pieces and size + length > max_bytes:
            subject = subject_of(prefix, origin, level)
            unique = {"Nats-Msg-Id": digest.hexdigest()[:32]}
            yield Message(subject, {**headers, **unique}, b"".join(pieces), range(begin, place))
            pieces, size, begin, level, digest = [], 0, place, 0, hashlib.sha256()
        pieces += frames
        size += length
        level = max(level, event.level)
        digest.update(b"%b%d " % (token, seq))
    if pieces:
        subject = subject_of(prefix, origin, level)
        unique = {"Nats-Msg-Id": digest.hexdigest()[:32]}
        yield Message(subject, {**headers, **unique}, b"".join(pieces), range(begin, len(events)))


def entries(content: bytes, headers: Mapping[str, str], number: int) -> list[Entry]:
    """Return the events of the message with this ``number`` in the stream.

    Bytes that are no frame, from a foreign publisher, become an entry that cannot be decoded, and so a dead letter. An
    event that lacks later frames is settled as incomplete.
    """
    origin = origin_of(headers)
    found: list[Entry] = []
    unfinished: dict[EventId, tuple[Entry, list[bytes]]] = {}
    scan = frame.scan(content, complete=True)
    for view in scan.frames:
        payload = content[view.payload_start : view.end]
        id = EventId(view.token, view.seq)
        if view.flags != frame.EVENT:
            continue
        if view.part == 0:
            entry = Entry(Position(number, view.start), id, view.level, view.pid, payload)
            entry.origin = origin
            found.append(entry)
            if view.parts > 1:
                unfinished[id] = entry, [payload]
        elif id in unfinished:
            entry, parts = unfinished[id]
            parts.append(payload)
            if view.part == view.parts - 1 == len(parts) - 1:
                entry.payload = b"".join(parts)
                del unfinished[id]
    for entry, _ in unfinished.values():
        entry.outcome, entry.payload = INCOMPLETE, b""
    return found + [_foreign(content[start:stop], number, start, origin) for start, stop in scan.damage]


def _foreign(data: bytes, number: int, at: int, origin: Origin | None) -> Entry:
    token = hashlib.sha256(data).digest()[:_FOREIGN_TOKEN_BYTES]
    entry = Entry(Position(number, at), EventId(token, number), frame.MAX_LEVEL, 0, data[:MAX_EVENT])
    entry.origin = origin
    return entry
