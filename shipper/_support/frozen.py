"""Whether this program is a frozen application, without a Python interpreter."""

from __future__ import annotations

import sys


def is_frozen() -> bool:
    """Whether PyInstaller, cx_Freeze or Nuitka have made this program: `sys.executable` is then no interpreter."""
    return bool(getattr(sys, "frozen", False)) or hasattr(sys.modules.get("__main__"), "__compiled__")
