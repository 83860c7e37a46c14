"""Connects to the first of a host's addresses that answers (RFC 8305, "happy eyeballs")."""

from __future__ import annotations

import errno
import itertools
import os
import select
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

HEAD_START = 0.25
"""Seconds to wait for an address before the next one is tried as well."""

Address = tuple[int, int, int, Any]  # family, type, protocol, address
Option = tuple[int, int, "int | bytes"]  # arguments of setsockopt


def connect(host: str, port: int, timeout: float, options: Iterable[Option]) -> socket.socket:
    """Return a socket connected to one of a host's addresses, within ``timeout`` seconds for all of them together.

    Raises socket.gaierror when the name has no address, TimeoutError, or the OSError of the last address that failed.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [(family, kind, protocol, place) for family, kind, protocol, _, place in found]
    return connect_to_any(addresses, timeout, options)


def connect_to_any(addresses: Sequence[Address], timeout: float, options: Iterable[Option]) -> socket.socket:
    """Like `connect`, for known addresses."""
    race = _Race(_alternating(addresses))
    try:
        winner = race.run(time.monotonic() + timeout, options)
    finally:
        race.close()
    winner.settimeout(timeout)
    return winner


def _alternating(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with IPv4 and IPv6 in turns, beginning with the family of the first one."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    return [each for pair in itertools.zip_longest(first, others) for each in pair if each is not None]


class _Race:
    """Sockets that are connecting, each to another address."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._waiting = list(addresses)
        self._poll = select.poll()
        self._connecting: dict[int, socket.socket] = {}
        self._error: OSError = OSError(errno.EHOSTUNREACH, "the host has no address")

    def run(self, deadline: float, options: Iterable[Option]) -> socket.socket:
        while self._waiting or self._connecting:
            if self._waiting:
                self._begin(self._waiting.pop(0), list(options))
            while self._connecting:
                now = time.monotonic()
                if now >= deadline:
                    raise TimeoutError("no address answers in time")
                seconds = min(deadline - now, HEAD_START) if self._waiting else deadline - now
                ready = self._poll.poll(max(1, seconds * 1000))
                winner = self._settle([fd for fd, _ in ready])
                if winner is not None:
                    return winner
                if self._waiting:  # an attempt has failed, or the head start is over
                    break
        raise self._error

    def _begin(self, address: Address, options: Iterable[Option]) -> None:
        family, kind, protocol, place = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as exc:  # no IPv6 on this machine, for example
            self._error = exc
            return
        sock.setblocking(False)
        try:
            for option in options:
                sock.setsockopt(*option)
            self._check(sock.connect_ex(place))
        except OSError as exc:
            self._error = exc
            sock.close()
            return
        self._connecting[sock.fileno()] = sock
        self._poll.register(sock, select.POLLOUT)

    def _settle(self, ready: Iterable[int]) -> socket.socket | None:
        """The first connected socket, or None; those that failed are closed."""
        for fd in ready:
            self._poll.unregister(fd)
            sock = self._connecting.pop(fd)
            try:
                self._check(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            except OSError as exc:
                self._error = exc
                sock.close()
                continue
            return sock
        return None

    @staticmethod
    def _check(code: int) -> None:
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Give up all attempts that are under way."""
        for sock in self._connecting.values():
            sock.close()
        self._connecting.clear()
