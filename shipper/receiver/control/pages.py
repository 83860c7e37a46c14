"""The files of the page: plain modules, styles, pages and pictures, which need no build."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}


@lru_cache(maxsize=1)
def files() -> dict[str, str]:
    """Path on the server → name of the file."""
    found = resources.files(f"{__package__.rpartition('.')[0]}.page")
    names = [each.name for each in found.iterdir() if f".{each.name.rpartition('.')[2]}" in _TYPES]
    return {"/": "index.html", "/_page/api": "api.html", **{f"/_page/{name}": name for name in names}}


def content(path: str) -> tuple[bytes, str]:
    """The content of the file at a path on the server, and its media type."""
    name = files()[path]
    media_type = _TYPES[f".{name.rpartition('.')[2]}"]
    charset = "" if media_type == "image/svg+xml" else "; charset=utf-8"
    package = f"{__package__.rpartition('.')[0]}.page"
    return resources.files(package).joinpath(name).read_bytes(), media_type + charset
