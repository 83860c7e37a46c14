"""Commands for one app: it is found, and the command acts with the rights of the spool's owner."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .. import BAD_NEWS, NOT_TRIED, complain

if TYPE_CHECKING:
    from ..status.find import Found

Action = Callable[[argparse.Namespace, "Found"], int]


def with_app(action: Action, *, relays: bool = True) -> Callable[[argparse.Namespace], int]:
    """A command's `run`: calls the action with the app that ``--app`` and ``--spool`` name, or the only one.

    Without ``relays`` an app that is a relay of a stream is refused.
    """

    def run(given: argparse.Namespace) -> int:
        from ...errors import ShipperError
        from ..status.find import as_user, find

        try:
            found = find(given.app, given.spool)
            if len(found) > 1:
                names = ", ".join(dict.fromkeys(each.app for each in found))
                return complain(f"there are several apps, choose one with --app: {names}", code=NOT_TRIED)
            (app,) = found
            return as_user(app.uid, lambda: (action if relays or not _is_relay(app) else _refuse_relay)(given, app))
        except ShipperError as error:
            return complain(str(error), code=BAD_NEWS)
        except OSError as error:  # of the spool: it is full, or was removed
            return complain(f"{error.filename or app.spool.path}: {error.strerror or error}", code=BAD_NEWS)

    return run


def _is_relay(app: Found) -> bool:
    from ...spool.files import read_json

    return "relay" in (read_json(app.spool.status) or {})


def _refuse_relay(given: argparse.Namespace, app: Found) -> int:
    what = f"{app.app} is a relay, and `shipper {given.command}` is for apps with a journal of their own"
    return complain(f"{what}: end the relay instead, its stream keeps what is not delivered", code=BAD_NEWS)


def chosen(names: Sequence[str], known: Sequence[str], *, all_of_them: bool) -> list[str] | str:
    """The backends that ``names`` choose, or a text that says what is wrong with the names."""
    if all_of_them:
        return list(known)
    if not names:
        return f"say which: {', '.join(known)}, or --all" if known else "no backend is known yet"
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
            return f"there is no backend {name!r}; {hint}"
    return list(dict.fromkeys(names))
