"""A regular expression that is compiled late: a process that only logs has no use for most of them.

Compiling all of them takes longer than importing the rooms that they stand in.
"""

from __future__ import annotations

import re
from typing import Any


class Expression:
    """A regular expression, compiled when it is needed first; patterns like that of the `re` module."""

    def __init__(self, pattern: str, flags: int = 0) -> None:
        self._pattern = pattern, flags

    def __getattr__(self, name: str) -> Any:
        # Only until then: afterwards what is asked for is found.
        compiled = re.compile(*self._pattern)
        found = getattr(compiled, name)
        setattr(self, name, found)
        return found
