"""Checks of an application's logging: its module is imported as a server would, without anything being shipped."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

from ...application.attachment import Attachment
from ...application.capture.handler import LocklessHandler
from ...application.capture.pipeline import early_events
from ...config.environment import resolve
from ...config.settings import Settings
from .result import Result, error, ok, warning

SHOWN = 5  # loggers that are named in a line


class Imported:
    """The settings of the module's calls of `shipper.start`, and the error of its import ("" if it had none)."""

    def __init__(self) -> None:
        self.starts: list[Settings] = []
        self.problem = ""

    @property
    def settings(self) -> Settings | None:
        return self.starts[-1] if self.starts else None


def import_module(name: str) -> Imported:
    """Import ``package.module`` (``package.module:object`` too), with `shipper.start` replaced: no process starts."""
    found = Imported()
    attached: list[Attachment] = []

    def start(*backends: Any, logger: Any = None, attach: bool = True, **given: Any) -> None:
        names = ("app", "level", "spool", "batching", "retry", "spooling", "redact", "overflow", "grace", "python")
        settings = resolve(backends, {key: given.get(key) for key in names})
        found.starts.append(settings)
        if attach:
            target = logging.getLogger(logger) if logger is None or isinstance(logger, str) else logger
            wanted = min(backend.level for backend in settings.backends)
            before = attached.pop() if attached else None
            attached.append(Attachment(target, level=settings.level, wanted=wanted, before=before))

    sys.path.insert(0, os.getcwd())
    try:
        with _replaced_start(start):
            importlib.import_module(name.partition(":")[0])
    except BaseException as problem:  # SystemExit too: the module may be a script
        if isinstance(problem, KeyboardInterrupt):
            raise
        found.problem = f"{type(problem).__name__}: {problem}"
    finally:
        early_events.discard()
        with contextlib.suppress(ValueError):
            sys.path.remove(os.getcwd())
    return found


@contextlib.contextmanager
def _replaced_start(start: Any) -> Iterator[None]:
    """Let the module call another function in the place of `shipper.start`."""
    import shipper
    from shipper.application import api

    places: tuple[Any, ...] = (shipper, api)
    before = shipper.start
    for place in places:
        place.start = start
    try:
        yield
    finally:
        for place in places:
            place.start = before


def check_application(name: str, imported: Imported) -> Iterator[Result]:
    if imported.problem:
        yield error("module", f"importing {name} failed: {imported.problem}", "Run the check where it can be imported.")
        return
    if not imported.starts:
        yield error(
            "module",
            f"importing {name} does not call shipper.start()",
            "Call it where the module is imported, or in the server's hook for workers.",
        )
    else:
        yield ok("module", f"importing {name} calls shipper.start()")
    yield from _handlers(name)


def _handlers(name: str) -> Iterator[Result]:
    loggers = [logging.getLogger(), *(each for each in logging.Logger.manager.loggerDict.values() if _is_logger(each))]
    attached = [each for each in loggers if isinstance(each, logging.Logger) and _has_ours(each)]
    if not attached:
        yield error(
            "handlers",
            f"after importing {name}, no logger has a handler of shipper",
            "Call shipper.start() after logging is configured, or pass keep_attached=True.",
        )
        return
    names = ", ".join(f"{each.name} (from {_level(each)} on)" for each in attached)
    yield ok("handlers", f"attached to: {names}")
    yield from _unreached([each for each in loggers if isinstance(each, logging.Logger)])


def _is_logger(value: object) -> bool:
    return isinstance(value, logging.Logger)


def _has_ours(logger: logging.Logger) -> bool:
    return any(isinstance(handler, LocklessHandler) for handler in logger.handlers)


def _level(logger: logging.Logger) -> str:
    return logging.getLevelName(logger.getEffectiveLevel())


def _unreached(loggers: list[logging.Logger]) -> Iterator[Result]:
    """Warnings: records that reach no handler of shipper, disabled loggers, a root logger that hides INFO."""
    silent = [each.name for each in loggers if not each.disabled and not _reaches(each)]
    if silent:
        yield warning(
            "handlers",
            f"records of these loggers are not shipped (propagate is False): {_some(silent)}",
            "Let them propagate, or attach a shipper.QueueHandler to them.",
        )
    disabled = [each.name for each in loggers if each.disabled]
    if disabled:
        yield warning(
            "handlers",
            f"these loggers are disabled: {_some(disabled)}",
            "Pass disable_existing_loggers=False to dictConfig or fileConfig.",
        )
    root = logging.getLogger()
    if root.getEffectiveLevel() > logging.INFO:
        yield warning(
            "levels", f"the root logger's level is {_level(root)}: info records are hidden", "Set it to INFO."
        )


def _reaches(logger: logging.Logger | None) -> bool:
    while logger is not None:
        if _has_ours(logger):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
