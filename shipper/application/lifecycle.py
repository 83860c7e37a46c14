"""The app that runs in this process: at most one, replaced as a whole, and flushed when the process ends."""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
import threading
from typing import TYPE_CHECKING

from .._support import unpatched
from ..config.settings import Settings
from ..spool.owner import set_owner
from .capture.pipeline import Callbacks, Pipeline, set_pipeline
from .stderr import warn_on_stderr
from .supervision.exit import ExitFlush
from .supervision.interpreter import find_interpreter
from .supervision.uwsgi import call_in_first_worker

if TYPE_CHECKING:
    from .runtime import App
    from .server_loggers import ServerLoggers

_current: App | None = None
_lock = threading.RLock()
_has_uwsgi_hook = False


def current() -> App | None:
    """The app that runs in this process, if any."""
    return _current


def lock() -> threading.RLock:
    """The lock that is held while the app is replaced or ended."""
    return _lock


def replace_app(
    settings: Settings,
    callbacks: Callbacks,
    request: object = None,
    *,
    own: tuple[str, ...] = (),
    keep_attached: bool = False,
    server_loggers: ServerLoggers | None = None,
) -> App:
    """Start an app, and replace the running one, if any. No event that is logged meanwhile is lost.

    The caller then attaches a handler, or detaches that of the replaced app. ``own`` are the names of the backends that
    get events without a route: those of `start()`, not those that clients have added.
    """
    global _current
    # Imported here: `import shipper` stays cheap for a process that never starts it.
    from ..transport.producer import Producer
    from .runtime import App, begin_cursors, claim_spool

    before = _current
    if before is not None:
        before.queue.ensure_current_process()  # a forked child has a supervisor of its own
    find_interpreter(settings.python)  # before anything is started
    set_owner(settings.owner)
    has_other_root = before is not None and before.spool.is_in_other_root  # the same path is another folder then
    spool = claim_spool(settings)
    settings = dataclasses.replace(settings, spool=spool.path)
    begin_cursors(settings, spool)
    if before is not None and not has_other_root and _has_same_queue(before.settings, settings):
        queue = before.queue
    else:
        queue = Producer(
            spool.queue,
            overflow=spool.overflow,
            overflow_size=settings.overflow,
            is_watched=settings.report_deaths,
        )
    pipeline = Pipeline(queue, own, redact=settings.redact, callbacks=callbacks)
    app = App(
        settings,
        pipeline,
        spool,
        request,
        keep_attached=keep_attached,
        server_loggers=server_loggers,
        levels=before.levels if before is not None and before.spool.path == spool.path else None,
    )

    def begin_in_child() -> None:
        app.watch_in_child()
        _flush_at_end_of_worker()

    queue.on_new_process = begin_in_child
    queue.open()
    _flush_at_end_of_worker()
    app.supervisor.begin()
    _current = app
    set_pipeline(app.pipeline)
    _watch_in_uwsgi_worker()
    if before is not None:
        before.supervisor.stop()
        if before.levels is not app.levels:
            before.levels.end()
        if before.queue is not queue:
            before.queue.close(queue)
        _say_changes(before, app)
    return app


def _say_changes(before: App, app: App) -> None:
    if before.request is None or app.request is None:  # a client started it, not start()
        return
    try:
        from .changes import changes
    except ImportError:  # a deployment has removed the files; the new settings are in force anyway
        return
    callbacks = before.pipeline.callbacks, app.pipeline.callbacks
    if found := list(changes(before.settings, app.settings, *callbacks)):
        warn_on_stderr(f"start() was called again with other settings, which are in force now: {', '.join(found)}")


def _has_same_queue(before: Settings, settings: Settings) -> bool:
    return (before.spool, before.overflow, before.report_deaths) == (
        settings.spool,
        settings.overflow,
        settings.report_deaths,
    )


def _watch_in_uwsgi_worker() -> None:
    global _has_uwsgi_hook
    if unpatched.is_fork_pending() and not _has_uwsgi_hook:
        _has_uwsgi_hook = True
        call_in_first_worker(_watch)


def _watch() -> None:
    app = _current
    if app is not None:
        app.queue.ensure_current_process()
        app.supervisor.watch()


def take_app() -> App | None:
    """The running app, which the caller has to stop; from now on none counts as running."""
    global _current
    app, _current = _current, None
    return app


_flush = ExitFlush()


@atexit.register
def _flush_at_exit() -> None:
    _flush(_current)
    if _current is not None:
        _current.queue.note_clean_end()


def _flush_at_end_of_worker() -> None:
    """Flush in multiprocessing's workers too: they end without atexit, but run finalizers, the lowest priority last."""
    for name in ("multiprocessing.util", "billiard.util"):
        finalize = getattr(sys.modules.get(name), "Finalize", None)
        if finalize is not None:  # else this process is not one of its workers
            finalize(None, _flush_at_exit, exitpriority=-100)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)
