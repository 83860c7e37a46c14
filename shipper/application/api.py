"""APPLICATION - start, stop, flush, status; owns the handler, the queue and the supervisor of the shipper process."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._support.hashing import fingerprint
from .._support.values import replaced
from ..config.environment import resolve
from ..config.limits import Batching, Retry, Spooling
from ..config.settings import Settings, identity
from ..config.state_folder import default_folder
from ..errors import ConfigurationError
from ..event.redact import Redact
from .handler import BeforeSend, Callbacks, Context, Pipeline, set_pipeline, warn_on_stderr

if TYPE_CHECKING:
    from ..report import Report, Status
    from .runtime import App

EXIT = 5.0  # seconds that the end of the interpreter waits for what is not in the journal yet


_current: App | None = None
_changing = threading.RLock()


def start(
    *backends: Any,
    app: str | None = None,
    level: int | str | None = None,
    logger: logging.Logger | str | None = None,
    attach: bool = True,
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
) -> None:
    """Ship what is logged from now on, and see to it that a shipper process runs.

    Call it in any process, as often as you like: with the same settings nothing changes, with others the process is
    replaced and its journal stays. What is not given comes from the environment (``SHIPPER_…``), else by default.

    ``backends`` are where to; ``app`` (default: the running program) names the app whose processes share one shipper
    process and one folder, ``spool``; ``level`` is the handler's (NOTSET); ``logger`` what it is attached to (the root
    logger), unless ``attach`` is False; ``before_send(event) -> event | None`` sees every event before it is masked;
    ``context() -> mapping`` is asked at every record; ``overflow`` bytes may wait in this process (8 MiB); ``grace``
    seconds without getting on end the process when nobody writes any more (30); ``python`` runs it.

    Raises ConfigurationError, before anything is started.
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
    }
    if not isinstance(attach, bool):
        raise ConfigurationError("attach", attach, "must be True or False")
    for name, hook in (("before_send", before_send), ("context", context)):
        if hook is not None and not callable(hook):
            raise ConfigurationError(name, hook, "must be callable")
    target = _logger(logger)
    settings = resolve(backends, given)
    callbacks = Callbacks(before_send, context)
    asked = (settings, target if attach else None, callbacks)
    with _changing:
        if _current is not None and _current.asked == asked:
            _current.queue.ensure_current_process()
            return
        own = tuple(backend.name for backend in settings.backends)
        before = _current
        begun = _begin(_with_joined(settings), callbacks, asked, own=own)
        if attach:
            begun.attach(target, before)
        elif before is not None:
            before.detach()


def _logger(logger: logging.Logger | str | None) -> logging.Logger:
    if logger is None or isinstance(logger, str):
        return logging.getLogger(logger)
    if not isinstance(logger, logging.Logger):
        raise ConfigurationError("logger", logger, "must be a logging.Logger or the name of one")
    return logger


def _begin(settings: Settings, callbacks: Callbacks, asked: object = None, *, own: tuple[str, ...] = ()) -> App:
    """Put an app in the place of the one that runs, if any; nothing that is logged meanwhile is lost. That one's
    handler stays attached, until the caller has attached another.

    ``own`` are the names of the backends that events go to when they name none: not those that clients have joined.
    """
    global _current
    # Only now: importing shipper stays cheap for those who never start it, and half of its price is theirs who do.
    from ..transport.producer import Producer
    from .runtime import App, begin_cursors, claimed

    before = _current
    if before is not None:
        before.queue.ensure_current_process()  # a forked child must not ring its parent's supervisor
    place = claimed(settings)
    settings = replaced(settings, spool=place.path)
    begin_cursors(settings, place)
    if before is not None and before.spool.path == place.path and before.settings.overflow == settings.overflow:
        queue = before.queue
    else:
        queue = Producer(place.queue, overflow=place.overflow, overflow_size=settings.overflow)
    app = App(settings, Pipeline(queue, own, redact=settings.redact, callbacks=callbacks), place, asked)

    def begin_in_child() -> None:
        app.watch_in_child()
        flush_at_exit_of_child()

    queue.on_new_process = begin_in_child
    queue.open()
    flush_at_exit_of_child()
    app.supervisor.begin()
    _current = app
    set_pipeline(app.pipeline)
    if before is not None:
        before.supervisor.stop()
        if before.queue is not queue:
            before.queue.close(queue)
    return app


_joined: list[Any] = []


def _with_joined(settings: Settings) -> Settings:
    """The settings, with the backends that clients have joined before and that are not among them."""
    missing = [each for each in _joined if _equal_to(each, settings.backends) is None]
    return _with(settings, missing)


def _with(settings: Settings, backends: list[Any]) -> Settings:
    taken = {known.name for known in settings.backends}
    named = [
        replaced(each, name=f"{each.name}-{identity(each)}") if each.name in taken else each
        for each in backends
    ]
    return settings.with_joined(named)


def _equal_to(backend: Any, among: tuple[Any, ...]) -> Any | None:
    same = (known for known in among if type(known) is type(backend) and identity(known) == identity(backend))
    return next(same, None)


def _resolved_for(backend: Any) -> Settings:
    """Settings of an app that a client begins: of its own, so that programs with other keys keep theirs."""
    settings = replaced(resolve((backend,), {}), joined=(backend.name,))
    if settings.is_named or os.environ.get("SHIPPER_SPOOL"):
        return settings
    # Not the whole backend: clients that differ in a time-out or a number of threads are still of one program.
    app = f"{settings.app}-{fingerprint(repr(backend.destination).encode())[:8]}"
    return replaced(settings, app=app, spool=default_folder(app))


def join(backend: Any) -> str:
    """Deliver to `backend` too, whatever runs; the name under which events are routed to it.

    An equal backend that is there already is used as it is. With nothing running an app is started for it, with nothing
    attached; after `stop()` nothing is: what is put then is counted as `after_stop`.
    """
    with _changing:
        if _equal_to(backend, tuple(_joined)) is None:
            _joined.append(backend)
        app = _current
        if app is None:
            app = _begin(_resolved_for(backend), Callbacks())
        known = _equal_to(backend, app.settings.backends)
        if known is None:
            before = app
            own = before.pipeline.names
            app = _begin(_with(before.settings, [backend]), before.pipeline.callbacks, before.asked, own=own)
            app.attach_like(before)
            known = app.settings.backends[-1]
        app.queue.ensure_current_process()
        return str(known.name)


def stop(timeout: float = 5.0) -> Report | None:
    """Detach, flush for at most ``timeout`` seconds, close. The report tells what is left; None when nothing runs.

    What is left stays in the journal: the process goes on for its grace, and the next start delivers the rest.
    """
    global _current
    _check_timeout(timeout)
    with _changing:
        app, _current = _current, None
        return None if app is None else app.stop(timeout)


def flush(timeout: float = 5.0) -> bool:
    """Wait until all that this process logged so far is settled at every backend; False after ``timeout`` seconds."""
    _check_timeout(timeout)
    app = _current
    return app is not None and app.flush(time.monotonic() + timeout)


def status() -> Status:
    """How the app's shipper does. ConfigurationError before `start()`."""
    app = _current
    if app is None:
        raise ConfigurationError("app", None, "call shipper.start() first, or use `shipper status --app NAME`")
    return app.status()


def _check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise ConfigurationError("timeout", timeout, "must be a number of seconds, at least 0")


@contextlib.contextmanager
def running(*backends: Any, timeout: float = 5.0, **settings: Any) -> Iterator[None]:
    """`start(*backends, **settings)`, and `stop(timeout)` at the end of the block."""
    start(*backends, **settings)
    try:
        yield
    finally:
        stop(timeout)


_waited_in_vain = False


@atexit.register
def _at_exit() -> None:
    """Wait until what was logged is in the journal: from there on it is safe. Nothing is closed: more may be logged."""
    global _waited_in_vain
    app = _current
    if app is None or _waited_in_vain:
        return
    if app.flush(time.monotonic() + EXIT, delivered=False) or app.supervisor.rescue():
        return
    _waited_in_vain = True  # multiprocessing's finalizers call this once more
    warn_on_stderr("at exit some events were not in the journal yet; they are in memory, or counted as dropped")


def _after_fork_in_child() -> None:
    global _changing
    _changing = threading.RLock()  # another thread of the parent may have been inside


os.register_at_fork(after_in_child=_after_fork_in_child)


def flush_at_exit_of_child() -> None:
    """The workers of multiprocessing end without atexit, but run their own finalizers; last those of a low priority."""
    finalize = getattr(sys.modules.get("multiprocessing.util"), "Finalize", None)
    if finalize is not None:  # else this process is none of its workers
        finalize(None, _at_exit, exitpriority=-100)


def current() -> App | None:
    """What runs in this process."""
    return _current

