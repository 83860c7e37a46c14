"""Backends that clients (`shipper.trakerr`, `shipper.jkool`) add: to the app that runs, or to one that they start."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from .._support.hashing import sha256_hex
from ..config.app_name import derive_name
from ..config.environment import resolve, resolve_enabled
from ..config.settings import Settings, identity
from ..config.state_folder import default_folder
from .capture.pipeline import Callbacks
from .diversion import current_diversion, switch_off
from .lifecycle import current, lock, replace_app

_joined: list[Any] = []  # by clients of this process; stopping an app does not clear it


def join(backend: Any) -> str:
    """Make the running app deliver to `backend` too; return the name under which events are routed to it.

    If that app has an equal backend, its name is returned. When no app runs, one is started with `backend` alone and
    without a handler. A client that joined before `stop` does not join again: its events count as ``after_stop``.
    """
    diversion = current_diversion()
    if diversion is None and not resolve_enabled(None):
        switch_off()
        diversion = current_diversion()
    if diversion is not None:
        diversion.add(backend)
        return str(backend.name)
    with lock():
        if _find_equal(backend, tuple(_joined)) is None:
            _joined.append(backend)
        app = current()
        if app is None:
            app = replace_app(_settings_for(backend), Callbacks())
        known = _find_equal(backend, app.settings.backends)
        if known is None:
            before = app
            pipeline = before.pipeline
            settings = _add(before.settings, [backend])
            app = replace_app(
                settings,
                pipeline.callbacks,
                before.request,
                own=pipeline.names,
                keep_attached=before.keep_attached,
                server_loggers=before.server_loggers,
            )
            app.attach_like(before)
            known = app.settings.backends[-1]
        app.queue.ensure_current_process()
        return str(known.name)


def with_joined(settings: Settings) -> Settings:
    """The settings with the backends that clients of this process have added, unless they have equal ones already."""
    return _add(settings, [each for each in _joined if _find_equal(each, settings.backends) is None])


def forget_joined() -> None:
    """Forget the backends that clients have added: later apps of this process start without them."""
    _joined.clear()


def _add(settings: Settings, backends: list[Any]) -> Settings:
    taken = {known.name for known in settings.backends}
    named = [
        dataclasses.replace(each, name=f"{each.name}-{identity(each)}") if each.name in taken else each
        for each in backends
    ]
    return settings.with_joined(named)


def _find_equal(backend: Any, among: tuple[Any, ...]) -> Any | None:
    same = (known for known in among if type(known) is type(backend) and identity(known) == identity(backend))
    return next(same, None)


def _settings_for(backend: Any) -> Settings:
    """Settings of an app that a client starts. Its name has the destination's digest: with another key it differs."""
    settings = dataclasses.replace(resolve((backend,), {}), joined=(backend.name,))
    if settings.is_named or os.environ.get("SHIPPER_SPOOL"):
        return settings
    # Not a digest of the whole backend: clients that differ in a timeout or a number of threads share one app.
    app, name_from = derive_name().sending_to(sha256_hex(repr(backend.destination).encode())[:8])
    return dataclasses.replace(settings, app=app, spool=default_folder(app), name_from=name_from)
