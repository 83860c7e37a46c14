"""Dead letters in a stream: one message for each event and backend, for all relays and commands.

The subject is ``<subject>-dead.<backend>.<event id>``, and the stream keeps one message per subject: a letter that is
written again, because its event came again, replaces the first. The content is the JSON object of a line in the spool.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

from ..backends.jetstream import JetStream
from ..delivery.dead.store import DeadLettersError, Letter, letter_of
from ..delivery.dead.writer import as_json
from ..errors import DeliveryError, RejectedError
from ..event.model import Event, EventId, Origin
from ..event.truncate import cut
from ..spool.files import get_dict, get_str
from ..stream.api import NO_MESSAGE, ApiError, call, outcome
from ..stream.client import Client
from ..stream.message import HEADROOM, MAX_MESSAGE, messages, token_of
from ..stream.streams import stream_info

CUT_BYTES = 32 * 1024  # to which an event is cut when its letter does not fit into a message


class StreamDeadLetters:
    """Writes the dead letters of one backend."""

    def __init__(self, client: Client, settings: JetStream, backend: str) -> None:
        self._client = client
        self._settings = settings
        self._backend = backend

    def write(self, id: EventId, event: Event | bytes, error: DeliveryError) -> None:
        """Keep one dead letter. OSError when the stream does not take it now."""
        subject = f"{self._settings.dead_subject}.{token_of(self._backend)}.{id}"
        content = self._content(id, event, error)
        headers = {"Nats-Msg-Id": f"{self._backend}:{id}"}
        try:
            failure = outcome(self._client.request(subject, content, headers), self._settings.dead_stream)
        except DeliveryError as found:
            failure = found
        if failure is not None:
            raise OSError(f"a dead letter can't be stored: {failure.reason}") from failure

    def _content(self, id: EventId, event: Event | bytes, error: DeliveryError) -> bytes:
        """Return the letter, shortened to fit into a message: as JSON an event may be several times as long."""
        content = as_json(self._backend, id, event, error)
        if len(content) <= self._client.max_payload - HEADROOM:
            return content
        shorter = event[:CUT_BYTES] if isinstance(event, bytes) else cut(event, CUT_BYTES)
        bare = type(error)(error.reason[:CUT_BYTES], status=error.status) if isinstance(error, RejectedError) else error
        return as_json(self._backend, id, shorter, bare)


class StreamDeadLetterStore:
    """Reads and changes the dead letters of all backends, or of one."""

    def __init__(self, client: Client, settings: JetStream, backend: str | None = None) -> None:
        self._client = client
        self._settings = settings
        self._filter = f"{settings.dead_subject}.{'*' if backend is None else token_of(backend)}.*"

    def letters(self) -> list[Letter]:
        """All letters, oldest first. DeadLettersError when they can't be read."""
        return [letter for _, letter in self._numbered()]

    def replay(self, is_chosen: Callable[[Letter], bool]) -> int:
        """Publish the chosen letters again, each for its backend alone, remove them, and return how many."""
        return self._change(lambda letter: letter.is_event and is_chosen(letter), self._publish)

    def purge(self, is_chosen: Callable[[Letter], bool]) -> int:
        """Delete the chosen letters and return how many."""
        return self._change(is_chosen, lambda number, letter: None)

    def _change(self, is_chosen: Callable[[Letter], bool], first: Callable[[int, Letter], None]) -> int:
        chosen = [(number, letter) for number, letter in self._numbered() if is_chosen(letter)]
        for number, letter in chosen:
            try:
                first(number, letter)
                self._delete(number)
            except DeliveryError as error:
                raise DeadLettersError(error.reason) from error
        return len(chosen)

    def _publish(self, number: int, letter: Letter) -> None:
        """Publish a letter's event with its id. After a kill it may be published twice, with one message id."""
        backend = get_str(letter.data, "backend")
        event = letter.event(backend)
        event.id = EventId.from_text(letter.id)
        (made,) = messages([event], self._settings.subject, _origin(letter), max_bytes=MAX_MESSAGE)
        headers = {**made.headers, "Nats-Msg-Id": f"replay:{backend}:{letter.id}:{number}"}
        failure = outcome(self._client.request(made.subject, made.content, headers), self._settings.stream)
        if failure is not None:
            raise failure

    def _delete(self, number: int) -> None:
        try:
            call(self._client, f"STREAM.MSG.DELETE.{self._settings.dead_stream}", {"seq": number, "no_erase": True})
        except ApiError as error:
            if error.code != NO_MESSAGE:  # else another command has deleted it
                raise

    def _numbered(self) -> Iterator[tuple[int, Letter]]:
        """The letters with their numbers in the stream."""
        stream = self._settings.dead_stream
        try:
            if stream_info(self._client, stream) is None:
                raise DeadLettersError(f"there is no stream {stream}: `shipper stream init` makes it")
            found = self._next(stream, 1)
            while found is not None:
                number = int(found["seq"])
                yield number, letter_of(_content(found))
                found = self._next(stream, number + 1)
        except DeliveryError as error:
            raise DeadLettersError(error.reason) from error

    def _next(self, stream: str, number: int) -> dict[str, Any] | None:
        request = {"seq": number, "next_by_subj": self._filter}
        try:
            message: dict[str, Any] = call(self._client, f"STREAM.MSG.GET.{stream}", request)["message"]
        except ApiError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        return message


def _content(message: dict[str, Any]) -> bytes:
    return base64.b64decode(message.get("data") or "")


def _origin(letter: Letter) -> Origin:
    """Return where the event was logged, according to its letter."""
    data = get_dict(get_dict(letter.data, "event"), "origin")
    app, host, address, cwd = (get_str(data, name) for name in ("app", "host", "address", "cwd"))
    load = data.get("load")
    if not isinstance(load, list) or len(load) != 2 or not all(isinstance(each, (int, float)) for each in load):
        return Origin(app, host, address, cwd)
    return Origin(app, host, address, cwd, (load[0], load[1]))
