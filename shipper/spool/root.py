"""Whether the paths of a spool still mean what they did: after chroot(2) they lead to another folder, or to none."""

from __future__ import annotations

import os
from typing import NamedTuple

Identity = tuple[int, int]  # device and inode


class _Place(NamedTuple):
    root: Identity
    queue: Identity


_places: dict[str, _Place] = {}  # path of a FIFO → its place when this process, or the one that forked it, prepared it


def root_identity() -> Identity:
    """Device and inode of this process's root folder."""
    return _identity("/")


def note_place(queue: str) -> None:
    """Note that the spool of this FIFO was prepared. OSError when it is not there."""
    _places[queue] = _Place(root_identity(), _identity(queue))


def has_other_root(queue: str) -> bool:
    """Whether this process has changed its root since `note_place`, and no longer sees that FIFO at its path."""
    place = _places.get(queue)
    if place is None or place.root == root_identity():
        return False
    try:
        return place.queue != _identity(queue)
    except OSError:
        return True


def _identity(path: str) -> Identity:
    found = os.stat(path, follow_symlinks=False)
    return found.st_dev, found.st_ino
