"""A message that a durable consumer has handed out, and what its reply subject says about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_SHORT, _PREFIX = 9, "$JS.ACK."


class Delivery(NamedTuple):
    """``number``: its place in the stream. ``reply``: the subject for its acknowledgement.

    ``times``: how often it was handed out, including now. ``pending``: how many messages are left.
    """

    number: int
    reply: str
    headers: Mapping[str, str]
    content: bytes
    times: int = 1
    pending: int = 0


def delivery_of(reply: str, headers: Mapping[str, str], content: bytes) -> Delivery | None:
    """Return the message that was handed out; None for a status message about the request itself.

    Reply subjects are ``$JS.ACK.<stream>.<consumer>.<times>.<number>.<consumer's number>.<time>.<pending>``. Some
    servers put domain and account before the stream, and a random token at the end.
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
