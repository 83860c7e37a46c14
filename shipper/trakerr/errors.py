"""What `TrakerrClient.send_event` raises."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ShipperError


class ApiException(ShipperError):
    """The service did not accept the event.

    ``status``, ``reason``, ``body`` (at most 64 KiB) and ``headers`` are those of the response. Without a complete
    response (refused, cut, timed out, no valid certificate, no such host) ``status`` is 0 and ``reason`` says why.
    """

    def __init__(
        self, status: int = 0, reason: str = "", body: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, reason, body, headers)
        self.status = status
        self.reason = reason
        self.body = body
        self.headers: Mapping[str, str] = dict(headers or {})

    def __str__(self) -> str:
        text = f"({self.status})\nReason: {self.reason}\n"
        if self.headers:
            text += f"HTTP response headers: {self.headers}\n"
        return f"{text}HTTP response body: {self.body}\n" if self.body else text
