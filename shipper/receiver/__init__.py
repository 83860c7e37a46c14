"""A local stand-in for the services, with a page that shows what arrived.

It needs the extra ``receiver``: ``pip install 'shipper-logs[receiver]'``.
"""

from __future__ import annotations

from .._version import DISTRIBUTION

try:
    from .remote import RemoteReceiver
    from .server import MAX_BODY, Receiver, serve
except ModuleNotFoundError as exc:
    missing = (exc.name or "").partition(".")[0]
    if missing not in ("starlette", "uvicorn"):
        raise
    hint = f"the receiver needs {missing}: pip install '{DISTRIBUTION}[receiver]'"
    raise ModuleNotFoundError(hint, name=missing) from exc

__all__ = ["MAX_BODY", "Receiver", "RemoteReceiver", "serve"]
