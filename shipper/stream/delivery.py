"""A message that a durable consumer has handed out, and what its reply subject says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_SHORT, _PREFIX = 9, "$JS.ACK."


class Delivery(NamedTuple):
    """``number``: its place in the stream. ``reply``: the subject of acknowledgements.

    ``times``: how often it was handed out, with this time. ``pending``: how many messages come after it.
    """

    number: int
    reply: str
    headers: Mapping[str, str]
    content: bytes
    times: int = 1
    pending: int = 0


def delivery_of(reply: str, headers: Mapping[str, str], content: bytes) -> Delivery | None:
    """What was handed out; None for a message about the request itself.

    Reply subjects are ``$JS.ACK.<stream>.<consumer>.<times>.<number>.<number here>.<time>.<pending>``, with domain and
    account before the stream, and a random token at the end, where the server says so.
    """
    words = reply.split(".")
    if not reply.startswith(_PREFIX) or len(words) < _SHORT:
        return None
    first = 4 if len(words) == _SHORT else 6
    try:
        times, number, pending = int(words[first]), int(words[first + 1]), int(words[first + 4])
    except (ValueError, IndexError):
        return None
    return Delivery(number, reply, headers, content, times, pending)
