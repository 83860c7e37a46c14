"""`shipper check` - what could keep events from being delivered: settings, services, disk, limits, handlers."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .. import BAD_NEWS, OK, terminal
from ..terminal import coloured

if TYPE_CHECKING:
    from ...config.settings import Settings
    from .application import Imported
    from .result import Result

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "check",
        help="check settings, services, disk, limits and handlers",
        description="Check everything that could keep events from being delivered, and say what to do about it. The "
        "services are probed for real: name, connection, proxy, TLS, handshake, credentials as far as a request "
        "without an event tells. No event is sent and nothing is started.",
        epilog="Exit code: 0 no error; 1 at least one error; 2 wrong usage.",
        examples="""
            shipper check                          settings from the environment
            shipper check --app checkout.wsgi:app  as gunicorn and uvicorn name it
        """,
    )
    parser.add_argument(
        "--app",
        metavar="MODULE",
        help="import this module of the application, as in `uvicorn MODULE:app`, and check the settings that it gives "
        "to shipper.start(), and which loggers reach its handler (default: settings from the environment)",
    )
    parser.add_argument("--spool", metavar="PATH", help="the app's folder, when that is not in the default place")
    parser.add_argument("--offline", action="store_true", help="do not connect to the services")
    parser.add_argument("--json", action="store_true", help="print a JSON list of level, name, text and remedy")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    results = _checks(given)
    if given.json:
        found = list(results)
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    else:
        found = list(_printed(results))
    return BAD_NEWS if any(each.level == "error" for each in found) else OK


def _printed(results: Iterable[Result]) -> Iterator[Result]:
    """Print each result as soon as it is known."""
    colours = terminal.is_coloured()
    for each in results:
        level = coloured(each.level.ljust(8), _COLOURS[each.level], wanted=colours)
        print(f"{level} {each.name.ljust(12)} {each.text}", flush=True)
        if each.remedy:
            print(f"{' ' * 22}-> {each.remedy}", flush=True)
        yield each


def _checks(given: argparse.Namespace) -> Iterator[Result]:
    from .machine import check_machine

    yield from check_machine()
    imported = None
    if given.app is not None:
        from .application import check_application, import_module

        imported = import_module(given.app)
        yield from check_application(given.app, imported)
    yield from _of_settings(given, imported)


def _of_settings(given: argparse.Namespace, imported: Imported | None) -> Iterator[Result]:
    from ...errors import ConfigurationError
    from .result import error

    try:
        settings = _settings(given, imported)
    except ConfigurationError as problem:
        yield error("settings", str(problem), "Correct it in the environment, or in the call of shipper.start().")
        return
    from .backends import check_backends
    from .settings import ENVIRONMENT, check_settings
    from .spool import check_spool

    yield from check_settings(settings, "shipper.start()" if imported is not None else ENVIRONMENT)
    yield from check_spool(settings)
    if not given.offline:
        yield from check_backends(settings.backends)


def _settings(given: argparse.Namespace, imported: Imported | None) -> Settings:
    """The settings of the imported module, else those of the environment."""
    from ...config.environment import resolve

    if imported is not None and imported.settings is not None:
        settings = imported.settings
        return settings if given.spool is None else dataclasses.replace(settings, spool=given.spool)
    return resolve((), {"spool": given.spool})
