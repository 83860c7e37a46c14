"""start, stop, flush, status, running: what an application calls."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..config.environment import UnconfiguredError, names_variables, resolve, resolve_enabled, resolve_when_unconfigured
from ..config.limits import Batching, Retry, Spooling
from ..errors import ConfigurationError, suggest_keywords
from ..event.redact import Redact
from .capture.pipeline import BeforeSend, Callbacks, Context
from .diversion import current_diversion, end_diversion, switch_off
from .joining import with_joined
from .lifecycle import current, lock, replace_app, take_app
from .stderr import warn_on_stderr

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..report import Report, Status
    from .server_loggers import ServerLoggers


@suggest_keywords
def start(
    *backends: Any,
    app: str | None = None,
    level: int | str | None = None,
    logger: logging.Logger | str | None = None,
    attach: bool = True,
    keep_attached: bool = False,
    loggers: Sequence[logging.Logger | str] = (),
    servers: bool = True,
    access_logs: bool = False,
    uncaught: bool = False,
    spool: str | os.PathLike[str] | None = None,
    batching: Batching | None = None,
    retry: Retry | None = None,
    spooling: Spooling | None = None,
    redact: Redact | None = None,
    before_send: BeforeSend | None = None,
    context: Context | None = None,
    overflow: int | None = None,
    grace: float | None = None,
    python: str | None = None,
    enabled: bool | None = None,
    when_unconfigured: str | None = None,
    exit_wait: bool | None = None,
    exit_timeout: float | None = None,
    owner: str | None = None,
    report_deaths: bool | None = None,
) -> None:
    """Ship what is logged from now on, and make sure that a shipper process runs.

    Idempotent: call it in every process. With equal settings nothing changes; with others the shipper process is
    replaced, and its journal stays. A parameter that is not given comes from its variable (``SHIPPER_…``) if it has
    one, else it has its default.

    ``backends``: where events go. ``app``: name of the app (default: the running program's); its processes share one
    shipper process and one folder, ``spool`` (in ``~/.local/state/shipper``). ``level``: the handler's, a number or a
    name (NOTSET). ``logger``: what the handler is attached to, or its name (the root logger). ``attach``: whether
    handlers are attached at all (True). ``keep_attached``: attach the handler again within seconds when code that
    configures logging has removed it (False: warn on stderr). ``loggers``: further loggers, or names of them, that do
    not propagate to it. ``servers``: loggers of known servers that do not propagate are shipped too (True); of their
    access logs WARNING and above, all with ``access_logs`` (False). ``uncaught``: exceptions that no code catches, in
    any thread, are shipped as critical (False). ``before_send(event) -> event | None`` gets every event before it is
    masked; None drops it. ``context() -> mapping`` is called for every record.

    ``batching``, ``retry``, ``spooling``, ``redact``: when a batch is sent, how long to wait after a failure, what the
    spool may hold, what is masked; see `Batching`, `Retry`, `Spooling`, `Redact`. ``overflow``: bytes that may wait in
    this process when the queue is full (8 MiB). ``grace``: seconds without progress after which the shipper process
    ends when no process writes any more (30). ``python``: the interpreter that it runs in (this one; one beside it
    where this program is none, such as uWSGI). ``owner``: the user, or "user:group", that a program started by root is
    going to be: the spool is made for it, and the shipper process runs as it (this process's user); it needs ``spool``.
    ``exit_wait``: whether the end of the interpreter waits until events are delivered (True), or only until they are in
    the journal (False); default True where the process belongs to PID 1 of a container, whose end kills the shipper
    process too. ``exit_timeout``: seconds that it waits at most (5). ``report_deaths``: ship a critical event for each
    process of the application that ends without a clean close (False).

    ``enabled=False`` (or SHIPPER_ENABLED=0) ships nothing: development, tests. ``when_unconfigured="disable"`` does the
    same, with one line on stderr, where no backend is configured ("raise", the default: ConfigurationError).

    Raises ConfigurationError, before anything is started, for a wrong value; for no backend, two of one name, one that
    does not pickle or whose class is in ``__main__``; for a spool that this user can't write to, that others can read,
    or, with ``app``, that is another app's; and without a Python interpreter to run.
    """
    given = {
        "app": app,
        "level": level,
        "spool": spool,
        "batching": batching,
        "retry": retry,
        "spooling": spooling,
        "redact": redact,
        "overflow": overflow,
        "grace": grace,
        "python": python,
        "exit_wait": exit_wait,
        "exit_timeout": exit_timeout,
        "owner": owner,
        "report_deaths": report_deaths,
    }
    flags = {
        "attach": attach,
        "keep_attached": keep_attached,
        "servers": servers,
        "access_logs": access_logs,
        "uncaught": uncaught,
    }
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise ConfigurationError(name, flag, "must be True or False")
    for name, callback in (("before_send", before_send), ("context", context)):
        if callback is not None and not callable(callback):
            raise ConfigurationError(name, callback, "must be callable")
    target = _logger("logger", logger)
    named = _loggers(loggers)
    callbacks = Callbacks(before_send, context)
    settings = _settings_to_ship_with(backends, given, enabled, when_unconfigured)
    if settings is None:
        return
    _ship_uncaught(uncaught)
    diversion = current_diversion()
    if diversion is not None:
        diversion.start(*settings.backends, callbacks=callbacks, redact=settings.redact)
        if attach:
            wanted = min(max(settings.level, backend.level) for backend in settings.backends)
            diversion.attach(target, level=settings.level, wanted=wanted)
        return
    from .derived_name import with_name_of  # only where shipping starts

    with lock():
        before = current()
        settings = with_name_of(before.request if before is not None else None, settings)
        request = (settings, target if attach else None, named, tuple(flags.values()), callbacks)
        if before is not None and before.request == request and not before.spool.is_in_other_root:
            before.queue.ensure_current_process()
            before.attach_again()
            return
        own = tuple(backend.name for backend in settings.backends)
        server_loggers = _server_loggers(named, servers, access_logs, settings.level)
        with names_variables(dict(settings.variables)):
            begun = replace_app(
                with_joined(settings),
                callbacks,
                request,
                own=own,
                keep_attached=keep_attached,
                server_loggers=server_loggers,
            )
        if attach:
            begun.attach(target, before)
        elif before is not None:
            before.detach()


def _ship_uncaught(wanted: bool) -> None:
    if wanted:
        from .capture.uncaught import hooks  # few applications want it

        hooks.install()
    elif (module := sys.modules.get("shipper.application.capture.uncaught")) is not None:
        module.hooks.uninstall()


def _settings_to_ship_with(
    backends: tuple[Any, ...], given: dict[str, Any], enabled: bool | None, when_unconfigured: str | None
) -> Settings | None:
    """The settings, or None when nothing is to be shipped, which is arranged by then."""
    if not resolve_enabled(enabled):
        _switch_off()
        return None
    if (diversion := current_diversion()) is not None and diversion.is_off:
        end_diversion()
    disables = resolve_when_unconfigured(when_unconfigured) == "disable"
    try:
        return resolve(backends, given)
    except UnconfiguredError as error:
        if not disables and current_diversion() is None:
            raise
        if current_diversion() is None:
            warn_on_stderr("nothing is shipped, for no backend is configured", error.allowed)
            _switch_off()
        return None


def _switch_off() -> None:
    with lock():
        app = take_app()
        if app is not None:
            app.stop(0.0)
        switch_off()


def _logger(setting: str, logger: logging.Logger | str | None) -> logging.Logger:
    if logger is None or isinstance(logger, str):
        return logging.getLogger(logger)
    if not isinstance(logger, logging.Logger):
        raise ConfigurationError(setting, logger, "must be a logging.Logger or the name of one")
    return logger


def _loggers(loggers: object) -> tuple[logging.Logger, ...]:
    if isinstance(loggers, str) or not isinstance(loggers, Sequence):
        raise ConfigurationError("loggers", loggers, 'must be a list of loggers or their names, as ["gunicorn.error"]')
    return tuple(_logger("loggers", each) for each in loggers)


def _server_loggers(
    named: tuple[logging.Logger, ...], servers: bool, access_logs: bool, level: int
) -> ServerLoggers | None:
    if not (named or servers):
        return None
    from .server_loggers import ServerLoggers  # only where shipping starts

    return ServerLoggers(named, servers=servers, access_logs=access_logs, level=level)


def stop(timeout: float = 5.0) -> Report | None:
    """Detach, flush for at most ``timeout`` seconds (5), close. The report says what is left; None when no app runs.

    What is left stays in the journal: the shipper process delivers it for its grace, the next start delivers the rest.
    Raises ConfigurationError for a ``timeout`` that is no number of at least 0.
    """
    _check_timeout(timeout)
    _ship_uncaught(False)
    with lock():
        app = take_app()
        return None if app is None else app.stop(timeout)


def flush(timeout: float = 5.0) -> bool:
    """Wait until every backend has settled what this process logged so far; False after ``timeout`` seconds (5).

    A backend that is paused (`shipper pause`) is not waited for: then it is False as soon as the others are done. It is
    False at once when no app runs here, and True with ``enabled=False``. Raises ConfigurationError for a wrong timeout.
    """
    _check_timeout(timeout)
    app = current()
    if app is None:
        return current_diversion() is not None
    return app.flush(time.monotonic() + timeout)


def status() -> Status:
    """The app's status, read from its spool.

    Raises ConfigurationError when no app runs here: before `start()`, after `stop()`, with ``enabled=False``.
    """
    app = current()
    if app is None:
        raise ConfigurationError("app", None, "call shipper.start() first, or use `shipper status --app NAME`")
    return app.status()


def _check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise ConfigurationError("timeout", timeout, "must be a number of seconds, at least 0")


@contextlib.contextmanager
def running(*backends: Any, timeout: float = 5.0, **settings: Any) -> Iterator[None]:
    """`start(*backends, **settings)`, and `stop(timeout)` at the end of the block (5 seconds).

    Raises what they raise, before the block.
    """
    _check_timeout(timeout)
    start(*backends, **settings)
    try:
        yield
    finally:
        stop(timeout)
