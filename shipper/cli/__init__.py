"""The command `shipper`: its subcommands, exit codes and error messages.

A subcommand is a module with a function `register(commands)`, listed in `COMMANDS`. `register` adds a parser and sets
its default `run`, a function of the parsed arguments that returns the exit code. It must be cheap: a command imports
what it needs (rich, the receiver, requests) when it runs.

Exit codes: 0 success; 1 bad news (no such app, something lost); 2 not tried (usage, a wrong setting, a missing extra);
130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from .._version import DISTRIBUTION, __version__
from ..errors import ShipperError
from .parsing import Parser

COMMANDS = {
    "demo": ".demo.command",
    "status": ".status.command",
    "apps": ".apps.command",
    "top": ".top.command",
    "check": ".check.command",
    "dead": ".dead.command",
    "drain": ".control.drain",
    "pause": ".control.pausing",
    "resume": ".control.pausing",
    "retry-now": ".control.pausing",
    "level": ".control.level",
    "forget": ".control.forget",
    "tail": ".tail.command",
    "replay": ".replay.command",
    "metrics": ".metrics",
    "send": ".send",
    "pipe": ".pipe.command",
    "relay": ".relay",
    "stream": ".stream",
    "run": ".run",
    "receiver": ".receiver",
    "completion": ".completion",
}
"""Each subcommand's name, and the module in this package that registers it."""

EXTRAS = ("nats", "rich", "starlette", "uvicorn")
"""Third-party modules that only an extra installs."""

OK = 0
BAD_NEWS = 1
NOT_TRIED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. ``arguments`` default to `sys.argv` without the program's name."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(words[:1])
    if not words:
        parser.print_help()
        return OK
    given = parser.parse_args(words)
    try:
        return int(given.run(given))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `shipper status | head`: the reader has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except ShipperError as error:  # a setting is wrong or missing
        return complain(str(error), code=NOT_TRIED)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        return complain(f"`shipper {given.command}` needs {missing}: pip install '{DISTRIBUTION}[all]'", code=NOT_TRIED)


def make_parser(names: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the command line, with the subcommands in ``names``, or all if none is given or one is unknown."""
    made = Parser(
        prog="shipper",
        description="Ship every log record of an application to Trakerr and jKool.",
        epilog="`shipper COMMAND --help` explains a command. NO_COLOR=1 prints without colours.",
    )
    made.add_argument("-V", "--version", action="version", version=f"shipper {__version__}")
    commands = made.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    is_known = bool(names) and all(name in COMMANDS for name in names)
    chosen = names if is_known else COMMANDS  # importing all of them takes longer than some of them run
    for module in dict.fromkeys(COMMANDS[name] for name in chosen):
        importlib.import_module(module, __name__).register(commands)
    return made


def complain(what: str, *, code: int) -> int:
    """Print one line on stderr; return ``code``."""
    sys.stderr.write(f"shipper: {what}\n")  # in one piece: the shipper process may write there too
    return code
