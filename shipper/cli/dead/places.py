"""Where dead letters are: in an app's spool, or in a stream that relays share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...backends.jetstream import JetStream
    from ...delivery.dead.store import Letter
    from ...stream.client import Client
    from ..status.find import Found


class Store(Protocol):
    """The letters of one backend."""

    def letters(self) -> list[Letter]: ...
    def replay(self, is_chosen: Callable[[Letter], bool], /) -> int: ...
    def purge(self, is_chosen: Callable[[Letter], bool], /) -> int: ...


class Place(Protocol):
    """The letters of all backends."""

    def stores(self, backend: str | None, /) -> Iterator[tuple[str, Store]]:
        """Each backend's name and letters, or those of one backend."""
        ...

    def obstacle(self, backend: str, /) -> str:
        """Why the letters of a backend can't be replayed, "" when they can."""
        ...

    @property
    def when(self) -> str:
        """When a replayed event is delivered, as the end of a sentence."""
        ...


class SpoolPlace:
    """The spool of an app."""

    def __init__(self, app: Found) -> None:
        self._app = app

    def stores(self, backend: str | None) -> Iterator[tuple[str, Store]]:
        from ...delivery.dead.store import DeadLetterStore, backends_with_letters

        for name in backends_with_letters(self._app.spool):
            if backend in (None, name):
                yield name, DeadLetterStore(self._app.spool, name)

    def obstacle(self, backend: str) -> str:
        known = {each.name for each in self._app.read().backends if each.state != "not configured"}
        if backend in known:
            return ""
        return f"{backend} is not configured: start the application with it first, or its events would be filtered"

    @property
    def when(self) -> str:
        return "now" if self._app.read().running else "when the application is started again"


class StreamPlace:
    """The stream of dead letters that relays share."""

    def __init__(self, client: Client, settings: JetStream) -> None:
        self._client = client
        self._settings = settings

    def stores(self, backend: str | None) -> Iterator[tuple[str, Store]]:
        from ...relay.dead_letters import StreamDeadLetterStore

        letters = StreamDeadLetterStore(self._client, self._settings, backend).letters()
        for name in sorted({str(letter.data.get("backend", "")) for letter in letters}):
            yield name, StreamDeadLetterStore(self._client, self._settings, name)

    def obstacle(self, backend: str) -> str:
        return ""

    @property
    def when(self) -> str:
        return "by the relays"
