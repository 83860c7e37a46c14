"""What status codes and Retry-After mean."""

from __future__ import annotations

import datetime
import email.utils

import pytest

from shipper.backends.http.status import MAX_RETRY_AFTER, classify_status, retry_after
from shipper.backends.protocol import HttpResponse
from shipper.errors import RetryableError

NOW = 1_800_000_000.0


def http_date(seconds: float) -> str:
    return email.utils.format_datetime(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc), usegmt=True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (str(10**9), 1e9),
        ("9" * 5000, MAX_RETRY_AFTER),
        (http_date(NOW + 90), 90.0),
        (http_date(NOW + 90).replace("GMT", "-0000"), 90.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
        (http_date(NOW - 90), None),
        ("-5", None),
        ("+5", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Mon, 99 Foo 2020 99:99:99 GMT", None),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_read_in_both_forms(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, NOW) == seconds


def test_a_missing_retry_after_is_none() -> None:
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503, 401])
def test_a_retryable_status_carries_its_retry_after(status: int) -> None:
    error = classify_status(HttpResponse(status, {"retry-after": "7"}, ""), NOW)

    assert isinstance(error, RetryableError)
    assert error.retry_after == 7.0
