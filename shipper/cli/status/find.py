"""Which spools there are, and how to read one that belongs to another user."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pickle
import pkgutil
import pwd
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import shipper

from ...config.state_folder import default_folder
from ...errors import ShipperError
from ...report import Status, read_status
from ...spool.layout import Spool

T = TypeVar("T")

_UNUSED = ("shipper.receiver", "shipper.integrations", "shipper.trakerr", "shipper.jkool", "shipper.cli.demo")
"""Packages that no command imports with the rights of another user."""


class NoSuchApp(ShipperError):
    """There is no such spool, or it cannot be read; the text says why, or which apps there are."""


@dataclass(frozen=True)
class Found:
    """A spool, the name of its app, and the uid of its owner."""

    app: str
    spool: Spool
    uid: int

    @property
    def user(self) -> str:
        return user_name(self.uid)

    def read(self) -> Status:
        """The app's status. Root reads it with the owner's rights: only their owner opens a spool's files."""
        return as_user(self.uid, self._read)

    def _read(self) -> Status:
        try:
            os.stat(self.spool.queue)
        except PermissionError as error:  # a folder above it is closed to its owner
            reason = f"{self.spool.path} belongs to the user {self.user}, who cannot read it ({error.strerror})"
            raise NoSuchApp(reason) from error
        return read_status(self.spool, self.app)


def find(app: str | None, path: str | None) -> list[Found]:
    """The spool at ``path``, the spools of an app, or all that there are. NoSuchApp when there is none.

    Without both arguments, SHIPPER_APP and SHIPPER_SPOOL stand for them. Root finds the apps of all users.
    """
    if app is None and path is None:
        app, path = os.environ.get("SHIPPER_APP"), os.environ.get("SHIPPER_SPOOL")
    if path is not None:
        return [checked(app, path)]
    known = [*all_apps(), *_named_by_variables(app)]
    places = os.path.dirname(default_folder("x")) + (", or of another user" if os.geteuid() == 0 else "")
    if not known:
        raise NoSuchApp(f"no app has a spool in {places}; name one that is elsewhere with --spool PATH")
    if app is None:
        return known
    found = [each for each in known if each.app == app]
    if not found:
        there = ", ".join(dict.fromkeys(each.app for each in known))
        raise NoSuchApp(f"there is no spool of an app {app!r} in {places}; there are: {there}")
    return found


def _named_by_variables(app: str | None) -> Iterator[Found]:
    """Yield the spool in SHIPPER_SPOOL if it belongs to this app."""
    path = os.environ.get("SHIPPER_SPOOL")
    if path is not None and app is not None:
        with contextlib.suppress(NoSuchApp):
            found = checked(None, path)
            if found.app == app:
                yield found


def checked(app: str | None, path: str) -> Found:
    """The spool in a folder. NoSuchApp when there is none, or when only another user may read it."""
    spool = Spool(path)
    try:
        queue, owner = os.stat(spool.queue), os.stat(spool.path).st_uid
    except PermissionError as error:
        raise NoSuchApp(f"{spool.path} {_closed(_owner_of(spool.path))}") from error
    except OSError as error:
        hint = "start the application once, or name the folder that it uses (--spool, $SHIPPER_SPOOL)"
        raise NoSuchApp(f"there is no spool in {spool.path} ({error.strerror}): {hint}") from error
    if not stat.S_ISFIFO(queue.st_mode):
        raise NoSuchApp(f"there is no spool in {spool.path} (its queue is not a FIFO)")
    if os.geteuid() not in (0, owner):
        raise NoSuchApp(f"{spool.path} {_closed(owner)}")
    return Found(app or _app_of(spool) or os.path.basename(spool.path), spool, owner)


def _app_of(spool: Spool) -> str:
    """The app that has claimed a spool; "" when that is not known."""
    try:
        fd = os.open(spool.app, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(fd, "rb") as file:
        return file.read(1024).decode(errors="replace").strip()


def _closed(owner: int | None) -> str:
    if owner is None or owner == os.geteuid():
        return "can only be read by another user: run the command as that user, or as root"
    name = user_name(owner)
    sudo = f"sudo -u '#{owner}'" if name.startswith("uid ") else f"sudo -u {name}"
    return f"belongs to the user {name}: run the command as that user (`{sudo} shipper …`), or as root"


def _owner_of(path: str) -> int | None:
    """The owner of the folder, or of the nearest folder above it that can be looked at."""
    while path != os.sep:
        try:
            return os.stat(path).st_uid
        except OSError:
            path = os.path.dirname(path)
    return None


def all_apps() -> Iterator[Found]:
    """Apps in the default place: of this user, or, for root, of all users."""
    place = os.path.dirname(default_folder("x"))
    yield from apps_in(place)
    if os.geteuid() == 0:
        homes = dict.fromkeys(user.pw_dir for user in pwd.getpwall())
        for folder in (os.path.join(home, ".local", "state", "shipper") for home in homes):
            if os.path.realpath(folder) != os.path.realpath(place):
                yield from apps_in(folder)


def apps_in(place: str) -> Iterator[Found]:
    try:
        names = sorted(os.listdir(place))
    except OSError:
        return
    for name in names:
        spool = Spool(os.path.join(place, name))
        try:
            if stat.S_ISFIFO(os.stat(spool.queue).st_mode):
                yield Found(name, spool, os.stat(spool.path).st_uid)
        except OSError:
            continue


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def as_user(uid: int, function: Callable[[], T]) -> T:
    """Run a function with a user's rights, in a forked child unless this process has them; return its result.

    Raises what the function raised, if that can be pickled. Only root may become another user.
    """
    if uid == os.geteuid():
        return function()
    _import_everything()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _run_as(uid, function, writing)
    os.close(writing)
    with open(reading, "rb") as file:
        data = file.read()
    os.waitpid(pid, 0)
    if not data:
        raise ShipperError(f"the files of the user {user_name(uid)} cannot be read")
    result, error = pickle.loads(data)
    if error is not None:
        raise error
    found: T = result
    return found


@functools.cache
def _import_everything() -> None:
    """Import what commands would import later: another user may not be able to read the interpreter's folders."""
    for name in ("termios", *(f"encodings.{each}" for each in ("ascii", "latin_1", "idna"))):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(shipper.__path__, "shipper.", onerror=lambda _: None):
        if not module.name.endswith("__main__") and not module.name.startswith(_UNUSED):
            with contextlib.suppress(Exception):  # an extra is missing, or its library fails
                importlib.import_module(module.name)


def _run_as(uid: int, function: Callable[[], object], writing: int) -> None:
    try:
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = uid
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        outcome: tuple[object, Exception | None]
        try:
            outcome = function(), None
        except Exception as error:
            outcome = None, error
        sys.stdout.flush()
        with open(writing, "wb") as file:
            pickle.dump(outcome, file)
    finally:
        os._exit(0)
