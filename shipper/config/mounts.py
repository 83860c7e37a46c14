"""Which file system a folder is on."""

from __future__ import annotations

import contextlib
import os
import re

_NETWORK = re.compile(
    r"nfs4?|cifs|smb3?|smbfs|9p|virtiofs|afs|ceph|lustre|gpfs|beegfs|glusterfs|ocfs2|gfs2|pvfs2|orangefs|vboxsf|prl_fs"
    r"|vmhgfs|fuse\.(?:sshfs|glusterfs|ceph.*|s3fs|vmhgfs.*|rclone|juicefs|moosefs|lizardfs|beegfs|nfs.*)"
)
_ESCAPE = re.compile(r"\\([0-7]{3})")


def is_network_file_system(path: str) -> bool:
    """Whether other hosts may use the same folder; False where that is not known (no /proc)."""
    return _NETWORK.fullmatch(file_system_of(path)) is not None


def file_system_of(path: str, table: str = "/proc/self/mountinfo") -> str:
    """The type of the file system that a path is on, or will be; "" where that is not known."""
    path = os.path.realpath(path)
    best, found = "", ""
    with contextlib.suppress(OSError), open(table, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            # id parent device root mount-point options … - type source options
            before, _, after = line.partition(" - ")
            point = _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), before.split(" ")[4])
            if len(point) >= len(best) and (path + "/").startswith(point.rstrip("/") + "/"):
                best, found = point, after.split(" ")[0]
    return found
