"""Saves what is in the pipe for the next shipper process, when none reads it.

The kernel drops a pipe's content when no process has it open any more. Only the holder of the spool's lock may
call these functions: a journal has one writer.
"""

from __future__ import annotations

import contextlib
import select
import sys

from ..spool.files import get_int, read_json
from ..spool.layout import Spool
from ..transport.memory.overflow import write_orphan
from ..transport.pipe import bytes_in_pipe
from .cursors.cursor_files import saved_positions
from .segments import size_on_disk
from .writer import Writer, drain_pipe, untaken


def move_to_journal(spool: Spool, pipe: int, *, limit: int) -> None:
    """Move what is in the pipe to the journal until that has ``limit`` bytes; the rest stays in the pipe."""
    waiting = bytes_in_pipe(pipe)
    space = limit - size_on_disk(spool.journal) if waiting else 0
    if space <= 0:
        return
    with _writer(spool) as writer, contextlib.suppress(OSError):  # what a full disk does not take stays in the pipe
        writer.splice(pipe, min(waiting, space))


def save_all(spool: Spool, pipe: int, *, limit: int = sys.maxsize) -> None:
    """Move what is in the pipe to the journal until that has ``limit`` bytes, and the rest into memory.

    The next shipper process adopts the rest as it adopts an overflow. Where memory has no space either, the journal
    takes the rest: better to exceed the limit than to lose it. OSError when nothing takes it.
    """
    with _writer(spool) as writer:

        def space() -> int:
            return limit - size_on_disk(spool.journal)

        drain_pipe(pipe, lambda most: writer.splice(pipe, min(most, free)) if (free := space()) > 0 else 0)
        if space() > 0 or not bytes_in_pipe(pipe):  # what living processes have written since stays in the pipe
            return
        beginning, rest = untaken(writer, pipe)
        try:
            write_orphan(spool.overflow, beginning + rest)
        except OSError:
            writer.append(rest)


def _writer(spool: Spool) -> Writer:
    """Return a writer that begins at the highest segment that a cursor or the account has reached."""
    known = [*saved_positions(spool.cursors).values(), read_json(spool.ledger) or {}]
    return Writer(spool.journal, first=max(1, *(get_int(each, "segment") for each in known)))


def has_writers(pipe: int) -> bool:
    """Whether a process has the pipe open for writing, so that its content does not end with this process."""
    poll = select.poll()
    poll.register(pipe, 0)
    return not any(events & select.POLLHUP for _, events in poll.poll(0))
