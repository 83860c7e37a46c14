"""A TCP connection, as requests and faults see it."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

from .services.service import Session


@dataclass(eq=False, slots=True, kw_only=True)
class Connection(Session):
    """One TCP connection. The one of a request is ``scope["state"]["connection"]``."""

    transport: asyncio.Transport
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """Close it with a RST instead of a FIN; what was not sent is discarded."""
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """Close it when everything is sent."""
        self.transport.close()

    async def is_gone_within(self, seconds: float) -> bool:
        """Whether the sender closes the connection in this time."""
        try:
            await asyncio.wait_for(self.gone.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True
