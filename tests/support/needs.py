"""What a test needs of its machine."""

from __future__ import annotations

import os

import pytest


def need(condition: object, reason: str) -> None:
    """Skip the test when ``condition`` is false; with CI set it fails, so that no missing tool hides a missing test."""
    __tracebackhide__ = True
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"needed here, and missing: {reason}", pytrace=False)
    pytest.skip(reason)
