"""The app's folder: what lies where in it, and that nobody else can read or plant anything there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Mapping
from typing import Any

from .._support.hashing import fingerprint
from ..errors import ConfigurationError

PADDED = 4096  # bytes, a block: files grow in steps, so that a longer text still fits in place when the disk is full
_SEAL = re.compile(rb'\{"crc": (\d{1,10}), ')
_LARGEST = 64 * 1024 * 1024  # bytes; the ledger of very many processes has a third of it
_LONGEST = 900  # bytes; names are added to it, and 4096 is the kernel's bound for a whole path


class Spool:
    """Paths in the folder `path`, in which ~ is the user's home. Nothing is touched before `prepare`."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.queue = os.path.join(self.path, "queue")
        self.joins = os.path.join(self.path, "joins")
        self.lock = os.path.join(self.path, "lock")
        self.journal = os.path.join(self.path, "journal")
        self.cursors = os.path.join(self.path, "cursors")
        self.dead = os.path.join(self.path, "dead")
        self.damaged = os.path.join(self.path, "damaged")
        self.ledger = os.path.join(self.path, "ledger.json")
        self.status = os.path.join(self.path, "status.json")
        self.log = os.path.join(self.path, "shipper.log")

    @property
    def overflow_on_disk(self) -> str:
        """The folder of overflows for which memory has no room."""
        return os.path.join(self.path, "overflow")

    @property
    def overflow(self) -> str:
        """The folder of the processes' overflows, made when it is needed: in memory where there is a place for that.

        That place is the spool itself when there is none, or when somebody else was there first.
        """
        ours = f"/dev/shm/shipper-{os.geteuid()}"
        if not os.access("/dev/shm", os.W_OK | os.X_OK) or not _is_ours_or_free(ours):
            return self.overflow_on_disk
        return os.path.join(ours, fingerprint(os.path.realpath(self.path).encode())[:16])

    def prepare(self) -> None:
        """Make what is missing, with modes 0700 and 0600; ConfigurationError for anything that is not ours alone."""
        if len(os.fsencode(self.path)) > _LONGEST:
            raise ConfigurationError("spool", self.path, f"a path of at most {_LONGEST} bytes")
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            self._check_folder(self.path)
            for folder in (self.journal, self.cursors, self.dead, self.damaged):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                self._check_folder(folder)
            for fifo in (self.queue, self.joins):
                self._prepare_fifo(fifo)
        except OSError as error:
            raise ConfigurationError("spool", self.path, f"a folder that this user can write to ({error})") from error

    def _check_folder(self, path: str) -> None:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigurationError("spool", path, "a folder, and not a link to one")
        if found.st_uid != os.geteuid():
            raise ConfigurationError("spool", path, f"a folder owned by this user (its owner has uid {found.st_uid})")
        if found.st_mode & 0o077:
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise ConfigurationError("spool", path, f"a folder with mode 0700, closed to others (it has {mode})")
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError("spool", path, "a folder that this user can write to")

    def _prepare_fifo(self, path: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        found = os.lstat(path)
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ConfigurationError("spool", path, "a FIFO of this user with mode 0600")


def _is_ours_or_free(path: str) -> bool:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def open_file(path: str, flags: int) -> int:
    """Open a file of the spool, mode 0600, following no link; OSError when it is another's or linked elsewhere."""
    # O_NONBLOCK: a FIFO that somebody put in its place must not make us wait. It is cut only once it is known as ours.
    wanted = flags & ~os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, wanted, 0o600)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink > 1:
        os.close(fd)
        raise PermissionError(f"{path} is not a plain file of this user's alone")
    if flags & os.O_TRUNC:
        os.ftruncate(fd, 0)
    return fd


def open_cleared(path: str, flags: int) -> int:
    """`open_file`, after what is in the way, no plain file of ours, has got another name. OSError when that fails."""
    try:
        return open_file(path, flags)
    except OSError as error:
        if not _is_in_the_way(error):
            raise
    put_aside(path)
    return open_file(path, flags)


def put_aside(path: str) -> None:
    """Give a folder, link or foreign file another name, so that a file of ours can be there; it may be somebody's."""
    try:
        os.close(open_file(path, os.O_WRONLY))
    except FileNotFoundError:
        return
    except OSError:
        os.rename(path, f"{path}.{time.time_ns()}.foreign")


def _is_in_the_way(error: OSError) -> bool:
    # ENXIO: a FIFO that nobody reads, or a socket.
    return isinstance(error, (IsADirectoryError, PermissionError)) or error.errno in (errno.ELOOP, errno.ENXIO)


def sealed(data: Mapping[str, Any]) -> bytes:
    """As JSON in whole blocks, with a checksum in front: a file of which a bit has changed is none for `read_json`."""
    text = json.dumps(data).encode()
    text = b'{"crc": %d, ' % zlib.crc32(text) + text[1:]
    return text.ljust(-(-len(text) // PADDED) * PADDED)


def write_atomically(path: str, data: Mapping[str, Any]) -> None:
    """Replace a JSON file: a reader, or a crash at any moment, finds the old one or the new one. OSError when it can't.

    On a full disk it is written over in place instead: it takes no new block, and so little text at once is not torn by
    a SIGKILL. A position that could not be saved would keep the very segments that fill the disk.
    """
    text = sealed(data)
    beside = f"{path}.new"
    try:
        _replace(path, beside, text)
    except OSError as error:
        if _is_in_the_way(error):
            put_aside(beside)
            put_aside(path)
            _replace(path, beside, text)
            return
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        with contextlib.suppress(OSError):
            os.unlink(beside)
        _write(path, 0, text)


def _replace(path: str, beside: str, text: bytes) -> None:
    _write(beside, os.O_CREAT | os.O_TRUNC, text)
    os.replace(beside, path)


def _write(path: str, flags: int, text: bytes) -> None:
    fd = open_file(path, os.O_WRONLY | flags)
    try:
        if flags == 0 and os.fstat(fd).st_size < len(text):
            raise OSError(errno.ENOSPC, f"no room for {path}")
        if os.write(fd, text) != len(text):
            raise OSError(errno.ENOSPC, f"no room for {path}")
        if flags == 0:
            os.ftruncate(fd, len(text))
    finally:
        os.close(fd)


def read_json(path: str) -> dict[str, Any] | None:
    """What `write_atomically` wrote, or None when there is nothing of the kind."""
    try:
        fd = open_file(path, os.O_RDONLY)
    except OSError:
        return None
    with open(fd, "rb") as file:
        if os.fstat(fd).st_size > _LARGEST:
            return None
        try:
            data = json.loads(_unsealed(file.read()).decode(errors="replace"))
        except (ValueError, RecursionError, OSError, MemoryError):
            return None
    return data if isinstance(data, dict) else None


def _unsealed(text: bytes) -> bytes:
    """The text that was sealed; ValueError when it is another one now. What never was sealed is taken as it is."""
    seal = _SEAL.match(text)
    if seal is None:
        return text
    found = b"{" + text[seal.end() :].rstrip(b" ")
    if zlib.crc32(found) != int(seal[1]):
        raise ValueError("it was changed")
    return found


def part(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of that name, empty when there is none: a file may be damaged, or another release's."""
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def whole(said: Mapping[str, Any], name: str) -> int:
    """The whole number of that name, 0 when there is none."""
    value = said.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
