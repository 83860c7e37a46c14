"""A regular expression that is compiled when it is first used.

A process that only logs uses few of them, and compiling all takes longer than importing the modules that define them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS = ("search", "match", "fullmatch", "finditer", "sub")


class LazyPattern:
    """A regular expression with the methods of `re.Pattern` that this package uses; ``flags`` are those of `re`.

    An invalid ``source`` raises `re.error` at the first use.
    """

    def __init__(self, source: str, flags: int = 0) -> None:
        self._source = source, flags

    if TYPE_CHECKING:

        def search(self, text: str, start: int = 0, end: int = ...) -> re.Match[str] | None: ...
        def match(self, text: str, start: int = 0, end: int = ...) -> re.Match[str] | None: ...
        def fullmatch(self, text: str, start: int = 0, end: int = ...) -> re.Match[str] | None: ...
        def finditer(self, text: str, start: int = 0, end: int = ...) -> Iterator[re.Match[str]]: ...
        def sub(self, replacement: str | Callable[[re.Match[str]], str], text: str, count: int = 0) -> str: ...
    else:

        def __getattr__(self, name: str) -> Any:
            # Called at the first use only: it sets the compiled pattern's methods on the instance, to be found first.
            if name not in _METHODS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            compiled = re.compile(*self._source)
            for method in _METHODS:
                setattr(self, method, getattr(compiled, method))
            return getattr(self, name)
