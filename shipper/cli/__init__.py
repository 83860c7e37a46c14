"""The command `shipper`: which subcommands there are, what an exit code means, and how trouble is said.

A subcommand is a module with a function `register(commands)`, listed in `COMMANDS`. `register`
adds a parser and sets its default `run`, a function of the parsed arguments that returns the exit code. It must be
cheap: what a command needs (rich, the receiver, requests) it imports when it runs.

Exit codes: 0 all is well; 1 the answer is bad news (no such app, something lost); 2 it could not be tried (usage, a
wrong setting, a missing extra); 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .._version import DISTRIBUTION, __version__
from ..errors import ConfigurationError

COMMANDS = {
    "demo": ".demo.command",
    "status": ".status.command",
    "receiver": ".receiver",
    "send": ".send",
    "pipe": ".pipe.command",
}
"""Each subcommand's name, and the module in this package that registers it."""

EXTRAS = ("rich", "starlette", "uvicorn")
"""Third-party modules that only an extra installs."""

OK = 0
BAD_NEWS = 1
NOT_TRIED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. ``arguments`` without the program's name, by default those of the process."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `shipper status | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except ConfigurationError as error:
        return complain(str(error), code=NOT_TRIED)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        return complain(f"`shipper {given.command}` needs {missing}: pip install '{DISTRIBUTION}[all]'", code=NOT_TRIED)


def parser() -> argparse.ArgumentParser:
    """The command line, with every subcommand."""
    made = argparse.ArgumentParser(
        prog="shipper", description="Ships every log record of an application to Trakerr and jKool, and loses none."
    )
    made.add_argument("--version", action="version", version=f"shipper {__version__}")
    commands = made.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        importlib.import_module(module, __name__).register(commands)
    return made


def complain(what: str, *, code: int) -> int:
    """One line on stderr; gives the exit code back."""
    print(f"shipper: {what}", file=sys.stderr)
    return code
