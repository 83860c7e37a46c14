"""What the status code and the headers of a response mean for the events of its request."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Mapping
from datetime import timezone

from ...errors import DeliveryError, RejectedError, RetryableError, TooLargeError, UnauthorisedError
from ..protocol import HttpResponse

MAX_RETRY_AFTER = 1e9
"""Seconds; a longer wait in a response is shortened to this."""

RETRYABLE = frozenset({408, 425, 429})
CREDENTIALS = frozenset({401, 403, 407})


def classify_status(response: HttpResponse, now: float) -> DeliveryError | None:
    """Return the error that a status code means, or None for "delivered".

    ``now``: seconds since the epoch, for a ``Retry-After`` that is a date.
    """
    status, body = response.status, response.body
    if 200 <= status < 300:
        return None
    reason = f"HTTP {status}"
    if 300 <= status < 400:
        place = response.headers.get("location", "")[:200]
        reason = f"{reason}: redirects are not followed; set the url to {place!r}"
        return UnauthorisedError(reason, status=status, body=body)
    if status in CREDENTIALS:
        return UnauthorisedError(reason, status=status, body=body, retry_after=retry_after(response.headers, now))
    if status == 413:
        return TooLargeError(reason, status=status, body=body)
    if status in RETRYABLE or not 400 <= status < 600 or (status >= 500 and status != 501):
        return RetryableError(reason, status=status, body=body, retry_after=retry_after(response.headers, now))
    return RejectedError(reason, status=status, body=body)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the ``Retry-After`` header (RFC 9110: seconds or a date); None when it is missing or wrong."""
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
