"""The servers of tests/stream, for the tests here too."""

from __future__ import annotations

from ..stream.conftest import cluster, stream

__all__ = ["cluster", "stream"]
