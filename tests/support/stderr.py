"""Lines that the application side has written to stderr, each at most once a minute."""

from __future__ import annotations

from shipper.application import stderr


def forget_warnings() -> None:
    """What was said before is said again."""
    stderr._warned_at.clear()
