"""Notifies watchers that the receiver's state has changed."""

from __future__ import annotations

import asyncio
import threading


class Watcher:
    """Waits for changes, in one event loop."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._is_told = False

    def __enter__(self) -> Watcher:
        self._changes.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._changes.remove(self)

    def tell(self) -> None:
        """Wake `wait`; may be called in any thread. Until `wait` has returned, more calls do nothing."""
        if not self._is_told:
            self._is_told = True
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for a change since the last call; return whether there was one."""
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        self._changed.clear()
        self._is_told = False
        return True


class Changes:
    """The watchers of one receiver. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()

    def add(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers = (*self._watchers, watcher)

    def remove(self, watcher: Watcher) -> None:
        with self._lock:
            self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def tell(self) -> None:
        """Tell all watchers that something has changed."""
        for watcher in self._watchers:
            watcher.tell()
