"""What `send` and `pipe` share: settings from the environment, and an app to ship with."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from typing import TYPE_CHECKING

from .._support.hashing import sha256_hex
from ..application.api import start
from ..application.lifecycle import current
from ..backends.settings import validators
from ..config.environment import UnconfiguredError, resolve
from ..config.settings import Settings, identity
from ..errors import ConfigurationError, ShipperError
from ..spool.layout import Spool
from ..spool.lock import running
from . import OK, complain

if TYPE_CHECKING:
    from ..application.runtime import App


NO_SERVICE = """\
no service is named. Put the key of one into the environment, and run the command again:
    export SHIPPER_TRAKERR_API_KEY=...    Trakerr: the API key of the project
    export SHIPPER_JKOOL_TOKEN=...        jKool: the access token of the repository
To try it without an account: `shipper run -- COMMAND` sends to a receiver on this machine.
Other services and all settings: `shipper check` shows which are set."""


class NoServiceError(ShipperError):
    """The environment names no service; the text says which variables to set."""


def settings_for(app: str | None, spool: str | None) -> Settings:
    """Settings from ``SHIPPER_…`` variables, and from the options ``--app`` and ``--spool``.

    Without a name (option, ``SHIPPER_APP``, owner of the spool) the app is named after its backends, so that the next
    command with the same settings delivers what this one could not. NoServiceError when there is no backend;
    ConfigurationError when the app is running with other settings, which would be replaced.
    """
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        settings = _settings(app, spool)
    for text in dict.fromkeys(str(each.message) for each in found):  # of misspelt variables
        complain(text, code=OK)
    holder = running(Spool(settings.spool))
    if holder is not None and holder.digest not in ("", settings.digest):
        allowed = "runs with other settings, which would be replaced: give another name with --app"
        raise ConfigurationError("app", settings.app, allowed)
    return settings


def _settings(app: str | None, spool: str | None) -> Settings:
    app = app or os.environ.get("SHIPPER_APP") or _owner(spool or os.environ.get("SHIPPER_SPOOL"))
    try:
        settings = resolve((), {"app": app, "spool": spool})
    except UnconfiguredError as error:
        raise NoServiceError(NO_SERVICE + "".join(f"\n{hint}" for hint in error.hints)) from error
    if app is not None:
        return settings
    words = " ".join(identity(backend) for backend in settings.backends)
    return resolve((), {"app": f"command-{sha256_hex(words.encode())[:8]}", "spool": spool})


def _owner(spool: str | None) -> str | None:
    """The app that owns a spool, if there is one."""
    if spool is None:
        return None
    name = os.path.join(Spool(spool).path, "app")
    with contextlib.suppress(OSError, ValueError), open(name, encoding="utf-8") as file:
        return file.read(200).strip() or None
    return None


def level_from(text: str) -> int:
    """The level that ``--level`` names: a number, or a name in any case. ConfigurationError for anything else."""
    return validators.level("--level", int(text) if text.isascii() and text.isdigit() else text)


def begin(settings: Settings) -> App:
    """Start the app without a handler on any logger, and return it."""
    derived = {"backends", "cwd", "is_named", "joined", "name_from", "variables"}
    names = {each.name for each in dataclasses.fields(Settings)} - derived
    given = {name: getattr(settings, name) for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `settings_for` has printed them
        start(*settings.backends, attach=False, **given)
    app = current()
    assert app is not None
    return app
