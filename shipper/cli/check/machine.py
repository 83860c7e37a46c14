"""Checks of the interpreter, the installed packages, and the limits of the machine."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Iterator

from ..._version import DISTRIBUTION, __version__
from ...spool.layout import memory_folder, memory_obstacle
from ...transport.memory.orphans import foreign_orphans
from ...transport.pipe import PIPE_BYTES
from ..terminal import size
from .result import Result, error, ok, warning

REQUIRED = ("msgpack", "psutil", "requests", "tenacity", "urllib3")
OPTIONAL = {"rich": "shipper demo", "starlette": "shipper receiver", "uvicorn": "shipper receiver"}
MIN_DESCRIPTORS = 256
MIN_MEMORY_FILES = 64 * 1024 * 1024
MIN_MEMORY_LIMIT = 128 * 1024 * 1024
_F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 1032)


def check_machine() -> Iterator[Result]:
    yield _python()
    yield from _packages()
    yield _system()
    yield _pipe()
    yield from _memory_files()
    yield from _limits()


def _python() -> Result:
    text = f"{platform.python_implementation()} {platform.python_version()}, shipper {__version__}"
    if sys.version_info < (3, 10) or platform.python_implementation() != "CPython":
        return error("python", text, "Use CPython 3.10 or newer.")
    return ok("python", text)


def _packages() -> Iterator[Result]:
    versions = {name: _version(name) for name in (*REQUIRED, *OPTIONAL)}
    missing = [name for name in REQUIRED if not versions[name]]
    if missing:
        yield error("packages", f"missing: {', '.join(missing)}", f"pip install {DISTRIBUTION}")
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    without = "; ".join(f"without {name}: no `{OPTIONAL[name]}`" for name in OPTIONAL if not versions[name])
    yield ok("packages", f"{found}{'; ' if without else ''}{without}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _system() -> Result:
    text = f"{platform.system()} {platform.release()}"
    if not hasattr(os, "splice"):
        return warning(
            "system", f"{text}: no splice(2)", "A kill of the shipper process can lose what it has just read."
        )
    return ok("system", text)


def _pipe() -> Result:
    """The size that a pipe of this user gets."""
    reading, writing = os.pipe()
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE_BYTES)
        granted = fcntl.fcntl(writing, _F_GETPIPE_SZ)
    finally:
        os.close(reading)
        os.close(writing)
    if granted < PIPE_BYTES:
        return warning(
            "pipe",
            f"a pipe gets {size(granted)} and not {size(PIPE_BYTES)}: bursts go through the overflow sooner",
            "Raise /proc/sys/fs/pipe-max-size or pipe-user-pages-soft.",
        )
    return ok("pipe", size(granted))


def _memory_files() -> Iterator[Result]:
    obstacle = memory_obstacle()
    if obstacle:
        yield warning(
            "/dev/shm",
            f"{obstacle}: overflows go to the disk, and nothing mirrors the pipe",
            "Mend that; until then up to 1 MiB is lost when all processes are killed at once.",
        )
        return
    room = os.statvfs("/dev/shm")
    free = room.f_bavail * room.f_frsize
    if free < MIN_MEMORY_FILES:
        yield warning("/dev/shm", f"{size(free)} free", "Give it 64 MiB or more (docker run --shm-size=64m).")
    else:
        yield ok("/dev/shm", f"{size(free)} free")
    orphans = list(foreign_orphans())
    if orphans:
        used = sum(_size_on_disk(path) for path in orphans)
        text = f"{len(orphans)} of processes that are gone, {size(used)}, in {memory_folder()}"
        if used > room.f_blocks * room.f_frsize // 4:
            yield warning("memory files", text, "Start their apps again, which recover their content, or remove them.")
        else:
            yield ok("memory files", text)


def _size_on_disk(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * 512
    except OSError:
        return 0


def _limits() -> Iterator[Result]:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors < MIN_DESCRIPTORS:
        yield warning("descriptors", f"at most {descriptors} open files", f"ulimit -n {MIN_DESCRIPTORS} or more")
    else:
        yield ok("descriptors", f"at most {descriptors} open files")
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY:
        yield warning("file size", f"files are limited to {size(largest)}", "ulimit -f unlimited")
    memory = _memory_limit()
    if memory is not None and memory < MIN_MEMORY_LIMIT:
        yield warning(
            "memory",
            f"this control group may use {size(memory)}",
            "The shipper process needs about 50 MiB beside the application.",
        )


def _memory_limit() -> int | None:
    """The memory limit of the control group in bytes, None without one."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path, encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            continue
    return None
