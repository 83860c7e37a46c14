"""Calls of the JetStream API: JSON requests and answers, on the subjects `$JS.API.…`."""

from __future__ import annotations

import json
from typing import Any

from ..errors import DeliveryError, RetryableError, TooLargeError, UnauthorisedError
from .client import Client
from .connection import UNAVAILABLE, Reply

PREFIX = "$JS.API."
NO_MESSAGE, NO_CONSUMER, NO_STREAM, NO_PEERS = 10037, 10014, 10059, 10005
_TOO_LARGE = 10054  # more than the stream takes in a message
_FULL = (10047, 10077, 10023)  # no storage left; the stream's limit; no resources
_TEXT_BYTES = 200  # of a server's answer that an error shows


class ApiError(RetryableError):
    """The server refused a request of the API. ``code`` is its number for the reason."""

    def __init__(self, reason: str, code: int, status: int) -> None:
        super().__init__(reason, status=UNAVAILABLE)
        self.code = code
        self.api_status = status


def call(client: Client, name: str, arguments: object = None, *, timeout: float | None = None) -> dict[str, Any]:
    """The answer of the API. ApiError when it is an error; another DeliveryError when there is none."""
    data = b"" if arguments is None else json.dumps(arguments).encode()
    return decoded(client.request(PREFIX + name, data, timeout=timeout), name)


def decoded(reply: Reply, name: str) -> dict[str, Any]:
    """Return an answer's JSON object. ApiError when it is an error, RetryableError when there is no object."""
    try:
        answer = json.loads(reply.data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        shown = reply.data[:_TEXT_BYTES].decode(errors="replace")
        raise RetryableError(f"{name}: the answer is not JetStream's: {shown!r}", status=UNAVAILABLE)
    error = answer.get("error")
    if isinstance(error, dict):
        text, code = str(error.get("description", "an error without a text")), error.get("err_code", 0)
        raise ApiError(f"{name}: {text}", code, error.get("code", 0))
    return answer


def outcome(reply: Reply | DeliveryError, stream: str) -> DeliveryError | None:
    """Return the error in the answer to a published message; None when it is stored, now or before."""
    if isinstance(reply, DeliveryError):
        return reply
    try:
        answer = decoded(reply, f"stream {stream}")
    except ApiError as error:
        if error.code == _TOO_LARGE:
            return TooLargeError(error.reason)
        if error.code in _FULL:
            return RetryableError(f"stream {stream} is full: {error.reason}", status=UNAVAILABLE)
        return UnauthorisedError(error.reason) if error.api_status in (401, 403) else error
    except RetryableError as error:
        return error
    if answer.get("stream") != stream:
        return RetryableError(f"the stream {answer.get('stream')!r} has taken it, and not {stream}", status=UNAVAILABLE)
    return None
