"""What the services share: a request, an event that arrived, an answer, and how a body is read."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .facts import NO_FACTS, Facts

RANKS = {
    "none": 0,
    "trace": 5,
    "debug": 10,
    "info": 20,
    "notice": 25,
    "warning": 30,
    "error": 40,
    "failure": 45,
    "critical": 50,
    "fatal": 55,
    "halt": 60,
}
"""The level names of all services, in lower case, in one order: a larger number is more severe."""

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One POST: header names in lower case, the body as it came."""

    headers: Mapping[bytes, bytes]
    body: bytes

    def header(self, name: str) -> str:
        """The header's value without surrounding blanks, or an empty text."""
        return self.headers.get(name.encode(), b"").decode("latin-1").strip()

    @property
    def media_type(self) -> str:
        return self.header("content-type").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answers."""

    status: int
    body: bytes
    media_type: str = JSON_TYPE


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event as it arrived; ``body`` is its JSON object as text."""

    key: str | None  # the same when the event is sent again; None when the sender gave none
    time: float | None  # seconds since the epoch, as the event says
    level: str  # as it was sent: "warning", "WARNING"
    rank: int  # the level as one of RANKS' numbers
    logger: str
    message: str
    body: str
    facts: Facts = NO_FACTS


class Refused(Exception):
    """The service refuses this request: a status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Session:
    """The state that a service keeps of one connection."""

    authorised: bool = False  # an access-request on this connection was granted


class Service(Protocol):
    """One of the services."""

    @property
    def name(self) -> str: ...

    def take(self, request: Request, session: Session) -> tuple[list[Arrival], Reply]:
        """The events of a good request and its answer. Raises `Refused` for one that the service would refuse."""
        ...

    def refusal(self, refused: Refused) -> Reply: ...


def json_refusal(refused: Refused) -> Reply:
    """The answer to a refused request: its status, with the reason as JSON."""
    return Reply(refused.status, json.dumps({"error": refused.reason}).encode())


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def body_text(request: Request, max_body: int) -> str:
    return text_of(body_bytes(request, max_body))


def body_bytes(request: Request, max_body: int) -> bytes:
    """The body, unpacked if it is gzip. Raises `Refused` when that fails, or gives more than ``max_body`` bytes."""
    encoding = request.header("content-encoding").lower()
    if encoding == "gzip":
        return _gunzip(request.body, max_body)
    if encoding not in ("", "identity"):
        raise Refused(400, f"unknown Content-Encoding {encoding!r}")
    return request.body


def text_of(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise Refused(400, f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc


def _gunzip(body: bytes, max_body: int) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        plain = unzip.decompress(body, max_body + 1)
    except zlib.error as exc:
        raise Refused(400, f"the body is not gzip: {exc}") from exc
    if len(plain) > max_body:
        raise Refused(413, f"the unpacked body has more than {max_body} bytes")
    if not unzip.eof or unzip.unused_data:
        raise Refused(400, "the body is not one whole gzip member")
    return plain


def parse(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except ValueError as exc:
        raise Refused(400, f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise Refused(400, "the body is not JSON: nested too deep") from exc


def read_members(text: str) -> tuple[list[Any], list[str]]:
    """The events of a body that is one object or an array, and each one's own text."""
    found = _members(text)
    if found is not None:
        return found
    parsed = parse(text)
    return ([], []) if parsed == [] else ([parsed], [text])


def read_objects(text: str) -> tuple[list[Any], list[str]]:
    """The events of a body that is one object, an array, or one object a line; and each one's own text."""
    try:
        return read_members(text)
    except Refused:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [parse(line) for line in lines], lines


def _members(text: str) -> tuple[list[Any], list[str]] | None:
    """The members of an array, and their texts as they were sent; None for an empty one and for anything else.

    They are parsed one by one, to get their texts: writing each as JSON again would take longer than parsing it.
    """
    found = _BEGIN.match(text)
    parsed, texts = [], []
    while found is not None and found[1] != "]":
        begin = found.end()
        try:
            member, end = _decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return None
        parsed.append(member)
        texts.append(text[begin:end])
        found = _NEXT.match(text, end)
    return None if found is None or found.end() < len(text) else (parsed, texts)


_BEGIN = re.compile(r"[ \t\r\n]*(\[)[ \t\r\n]*")
_NEXT = re.compile(r"[ \t\r\n]*([,\]])[ \t\r\n]*")


def is_whole_number(value: Any) -> bool:
    """Whether the value is a whole number from 0 to 2^63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
