"""A local stand-in for both services, with a page to look at what arrived.

It needs ``pip install 'shipper[receiver]'``.
"""

from __future__ import annotations

try:
    from .server import MAX_BODY, Receiver, serve
except ModuleNotFoundError as exc:
    missing = (exc.name or "").partition(".")[0]
    if missing not in ("starlette", "uvicorn"):
        raise
    raise ModuleNotFoundError(f"the receiver needs {missing}: pip install 'shipper[receiver]'", name=missing) from exc

__all__ = ["MAX_BODY", "Receiver", "serve"]
