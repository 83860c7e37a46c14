"""The spools of this machine: in the default place, in folders that memory files name, and in given folders."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator

from ...config.state_folder import usual_folder
from ...spool.files import open_file
from ...spool.layout import Spool, memory_folder
from ...spool.numbers import close_high
from ...transport.memory.shared_file import list_files, read_origin
from ..status.find import Found, NoSuchApp, all_apps, apps_in, checked


def known_spools(paths: Iterable[str], refused: list[NoSuchApp]) -> Iterator[Found]:
    """Yield each spool once, and the lanes of other hosts in it; ``refused`` gets an error for a path without one."""
    seen: set[str] = set()
    for found in (*_implied(), *_given(paths, refused)):
        for each in (found, *apps_in(found.spool.hosts)):
            path = os.path.realpath(each.spool.path)
            if path not in seen:
                seen.add(path)
                yield each


def _given(paths: Iterable[str], refused: list[NoSuchApp]) -> Iterator[Found]:
    for path in paths:
        try:
            yield checked(None, path)
        except NoSuchApp as error:
            refused.append(error)


def _implied() -> Iterator[Found]:
    yield from all_apps()
    usual = os.path.dirname(usual_folder("x"))
    for folder in (usual, *sorted(glob.glob(f"{glob.escape(usual)}@*"))):  # of other hosts that share the home
        yield from apps_in(folder)
    elsewhere = {os.environ.get("SHIPPER_SPOOL", ""), *_with_files_in_memory()}
    for path in sorted(elsewhere - {""}):
        with contextlib.suppress(NoSuchApp):  # it was removed
            yield checked(None, path)


def _with_files_in_memory() -> Iterator[str]:
    """Yield the spool of each memory file of this user, whether its process runs or not."""
    for folder in list_files(memory_folder()):
        for path in list_files(folder):
            with contextlib.suppress(OSError):
                fd = open_file(path, os.O_RDONLY)
                try:
                    origin = read_origin(fd)
                finally:
                    close_high(fd)
                if origin is not None and _is_of(folder, Spool(origin.spool)):
                    yield origin.spool


def _is_of(folder: str, spool: Spool) -> bool:
    """Whether the memory files belong to this spool: in a container, the same path may be another folder."""
    return spool.read_id() in ("", os.path.basename(folder))
