"""What an answer of HTTP means for the events that it is about."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import timezone

from ...errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ..protocol import HttpResponse

MAX_RETRY_AFTER = 1e9
"""Seconds; a larger number in an answer means this."""

AGAIN = frozenset({408, 425, 429})
CREDENTIALS = frozenset({401, 403, 407})


def decision(answer: HttpResponse, now: float) -> DeliveryError | None:
    """What a status code means; None is delivered. ``now`` (seconds since the epoch) is for a ``Retry-After`` date."""
    status, body = answer.status, answer.body
    if 200 <= status < 300:
        return None
    reason = f"HTTP {status}"
    if 300 <= status < 400:
        place = answer.headers.get("location", "")[:200]
        reason = f"{reason}: redirects are not followed; the address to set is {place!r}"
        return UnauthorisedError(reason, status=status, body=body)
    if status in CREDENTIALS:
        return UnauthorisedError(reason, status=status, body=body, retry_after=retry_after(answer.headers, now))
    if status == 413:
        return TooLargeError(reason, status=status, body=body)
    if status in AGAIN or not 400 <= status < 600 or (status >= 500 and status != 501):
        return RetryableError(reason, status=status, body=body, retry_after=retry_after(answer.headers, now))
    return RejectedError(reason, status=status, body=body)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the ``Retry-After`` header (RFC 9110: seconds, or a date); None for nothing sensible."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        return min(float(text), MAX_RETRY_AFTER)
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        wait = date.timestamp() - now
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return min(wait, MAX_RETRY_AFTER) if wait >= 0 else None
