"""The app's folder: the names of what is in it, and its preparation.

    queue  joins                                   FIFOs: events, and backends that clients ask for
    lock  app  id  host                            the running process; the app that owns the folder; the host
    hosts/                                         spools of other hosts that share the folder (see `host.py`)
    journal/  cursors/  ledger.json                events, and how far each backend and the account have read
    kept/                                          delivered segments (see `journal/kept.py`)
    dead/  damaged/  overflow/                     rejected events, damaged bytes, overflows without a place in memory
    status.json  shipper.log  crash.json           state, log and crashes of the shipper process
    progress  detached-<pid>                       see `progress.py`, `detached.py`
    controls.json                                  what people have asked for (see `controls.py`)

The folder and everything in it is readable and writable by its user only (0700, 0600).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat

from .._support.hashing import sha256_hex
from ..errors import ConfigurationError
from .files import get_str, open_file, read_json, reclaim_file
from .owner import make_fifo, make_folder, make_folders, owner_uid
from .root import has_other_root, note_place

MAX_REPORTED = 128  # processes of the app that `status.json` lists, the latest to begin
_MAX_PATH_BYTES = 900  # names are appended to it, and 4096 is the kernel's limit for a path


_ID = re.compile(r"[0-9a-f]{16}")


def memory_folder() -> str:
    """The folder above the memory files of all apps of this user."""
    return f"/dev/shm/shipper-{owner_uid()}"


def memory_obstacle() -> str:
    """Why no memory files can be in /dev/shm, for an operator; "" where they can.

    Other users may list `memory_folder`, whose folders have mode 0700, but must not be able to make any in it.
    """
    if not os.access("/dev/shm", os.W_OK | os.X_OK):
        return "/dev/shm is missing or cannot be written"
    path = memory_folder()
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return ""
    if stat.S_ISDIR(found.st_mode) and found.st_uid == owner_uid() and not found.st_mode & 0o022:
        return ""
    return f"{path} is not a folder that this user alone owns and writes to"


class Spool:
    """Paths in the folder `path`, in which ~ is the user's home. The constructor makes and reads nothing."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.queue = os.path.join(self.path, "queue")
        self.joins = os.path.join(self.path, "joins")
        self.lock = os.path.join(self.path, "lock")
        self.app = os.path.join(self.path, "app")
        self.id = os.path.join(self.path, "id")
        self.host = os.path.join(self.path, "host")
        self.hosts = os.path.join(self.path, "hosts")
        self.journal = os.path.join(self.path, "journal")
        self.kept = os.path.join(self.path, "kept")
        self.cursors = os.path.join(self.path, "cursors")
        self.dead = os.path.join(self.path, "dead")
        self.damaged = os.path.join(self.path, "damaged")
        self.ledger = os.path.join(self.path, "ledger.json")
        self.status = os.path.join(self.path, "status.json")
        self.progress = os.path.join(self.path, "progress")
        self.crash = os.path.join(self.path, "crash.json")
        self.controls = os.path.join(self.path, "controls.json")
        self.log = os.path.join(self.path, "shipper.log")

    @property
    def is_usable(self) -> bool:
        """False after a change of user that closed the folder to this process, or a change of root that hid it.

        A missing folder is usable.
        """
        if self.is_in_other_root:
            return False
        try:
            os.stat(self.path)
        except PermissionError:
            return False
        except OSError:
            return True
        return os.access(self.path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)

    @property
    def is_in_other_root(self) -> bool:
        """Whether this process has changed its root since it prepared the spool, and no longer sees the spool."""
        return has_other_root(self.queue)

    @property
    def overflow_on_disk(self) -> str:
        """The folder of overflows that have no place in /dev/shm."""
        return os.path.join(self.path, "overflow")

    @property
    def overflow(self) -> str:
        """The folder of the processes' overflows and pipe mirrors, in /dev/shm; the first process makes it.

        Where `memory_obstacle` names a reason against that, `overflow_on_disk`. The folder's name is the spool's id, so
        that a new spool at the path of a deleted one does not find its files; without an id (a spool of an earlier
        version), a digest of the path.
        """
        if memory_obstacle():
            return self.overflow_on_disk
        return os.path.join(memory_folder(), self.read_id() or sha256_hex(os.path.realpath(self.path).encode())[:16])

    def read_id(self) -> str:
        """The random id that the spool got when an app claimed it; "" when it has none.

        If a cleaner has removed the file `id`, the copy in the file `host` is read.
        """
        with contextlib.suppress(OSError), open(open_file(self.id, os.O_RDONLY), "rb") as file:
            found = file.read(32).decode(errors="replace").strip()
            if _ID.fullmatch(found):
                return found
        found = get_str(read_json(self.host) or {}, "id")
        return found if _ID.fullmatch(found) else ""

    def write_id(self, value: str = "") -> None:
        """Give the spool an id, a new one by default, unless it has one. Requires a lock of the spool. OSError."""
        if not os.path.lexists(self.id) or not self.read_id():
            fd = reclaim_file(self.id, os.O_WRONLY | os.O_CREAT)
            try:
                os.write(fd, f"{value or os.urandom(8).hex()}\n".encode())
            finally:
                os.close(fd)

    def check(self) -> None:
        """Raise ConfigurationError unless the folder is this user's alone and can be written. OSError without one."""
        _check_folder(self.path)

    def prepare(self) -> None:
        """Make missing folders and FIFOs. ConfigurationError if others own or can read one, or one can't be made."""
        if len(os.fsencode(self.path)) > _MAX_PATH_BYTES:
            raise ConfigurationError("spool", self.path, f"a path of at most {_MAX_PATH_BYTES} bytes")
        try:
            make_folders(self.path)
            _check_folder(self.path)
            for folder in (self.journal, self.cursors, self.dead, self.damaged):
                with contextlib.suppress(FileExistsError):
                    make_folder(folder)
                _check_folder(folder)
            for fifo in (self.queue, self.joins):
                _prepare_fifo(fifo)
            note_place(self.queue)
        except OSError as error:
            raise ConfigurationError("spool", self.path, f"a folder that this user can write to ({error})") from error


def _check_folder(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError("spool", path, "a folder, and not a link to one")
    if found.st_uid != owner_uid():
        raise ConfigurationError("spool", path, f"a folder owned by this user (its owner has uid {found.st_uid})")
    if found.st_mode & 0o077:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise ConfigurationError("spool", path, f"a folder with mode 0700, closed to others (it has {mode})")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError("spool", path, "a folder that this user can write to")


def _prepare_fifo(path: str) -> None:
    with contextlib.suppress(FileExistsError):
        make_fifo(path)
    found = os.lstat(path)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != owner_uid() or found.st_mode & 0o077:
        raise ConfigurationError("spool", path, "a FIFO of this user with mode 0600")
