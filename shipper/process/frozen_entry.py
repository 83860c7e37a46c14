"""The entry of the shipper process in a frozen application, which is started again in place of an interpreter."""

from __future__ import annotations

import os
from typing import NoReturn

from .main import main


def run(arguments: list[str], *, fork: bool) -> NoReturn:
    """Run the shipper process, then exit. ``arguments``: `main`'s numbers, separated by commas, and the title.

    ``fork``: run it in a forked child and end the parent, as `launcher.BOOTSTRAP` does.
    """
    if fork and os.fork():
        os._exit(0)
    pipe, lock, joins, starter = map(int, arguments[0].split(","))
    main(pipe, lock, joins, starter)
