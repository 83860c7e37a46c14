"""Warnings that shipper writes to stderr in an application, each at most once a minute."""

from __future__ import annotations

from shipper.application import stderr


def forget_warnings() -> None:
    """Let each warning be written again, though it was already."""
    stderr._warned_at.clear()
