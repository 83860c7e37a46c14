"""Gets the messages of a durable consumer for one cursor, and tells the consumer what became of them.

Invariants: no more messages are asked for than the cursor has room for. Three times in each `ack_wait`, the consumer is
told that all messages in hand are being worked on, also while the backend has to be waited for.

There is one request at a time. When it is answered, has expired, or was lost with a server, the next one is made.
`end` waits for the last request, and only then are messages given back: while a request is open, the servers would send
them here again, and no other relay would get them until `ack_wait` is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence

from ..errors import DeliveryError
from .client import Client
from .connection import Reply
from .cursor import StreamCursor
from .delivery import delivery_of

EXPIRES_SECONDS = 1.0  # for which a request is open, if it is not answered in full; `end` takes as long
LOST_SECONDS = 1.0  # more without an answer, and the request counts as lost with its server
PAUSE_SECONDS = 0.5  # before the next request when the consumer has no leader, or does not exist
SIGNS_OF_LIFE = 3  # per `ack_wait`, after which the consumer would give a message to another relay
ACK, IN_PROGRESS, GIVE_BACK = b"+ACK", b"+WPI", b"-NAK"

_log = logging.getLogger("shipper.process")


class Feed:
    """Feeds `cursor` from the consumer ``durable`` of ``stream``. Set `cursor` before `start`."""

    cursor: StreamCursor

    def __init__(self, client: Client, stream: str, durable: str, *, ack_wait: float) -> None:
        self.pending = 0
        """How many messages the consumer had left to hand out when it last said so."""
        self.trouble = ""
        """Why no messages come; "" when they do."""
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        self._durable = durable
        self._ack_wait = ack_wait
        self._wanted = 0  # messages that the request under way may still bring
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._ended = threading.Event()
        self._pause = 0.0

    # -- for any thread ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to ask for messages."""

        connection = self._client.connection

        async def begin() -> None:
            connection.start(self._run())
            connection.start(self._keep_alive())

        self._client.wait(begin(), self._client.timeout)

    def stop(self) -> None:
        """Ask for no more messages."""
        self._is_stopping = True
        self._notify()

    def end(self, seconds: float) -> None:
        """Ask for no more, and wait at most ``seconds`` until no message can come."""
        self.stop()
        self._ended.wait(seconds)

    def acknowledge(self, replies: Sequence[str]) -> None:
        self._client.post([(reply, ACK) for reply in replies])
        self._notify()

    def give_back(self, replies: Sequence[str]) -> None:
        self._client.post([(reply, GIVE_BACK) for reply in replies])

    def _notify(self) -> None:
        async def notify() -> None:
            self._changed.set()

        with contextlib.suppress(RuntimeError):  # closed
            self._client.submit(notify())

    # -- in the loop ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._is_stopping:
            unsubscribe: Callable[[], Awaitable[None]] | None = None
            try:
                connection = await self._client.connection.connected(self._client.timeout)
                inbox = connection.new_inbox()
                unsubscribe = await self._client.connection.subscribe(inbox, self._on_message)
                while not self._is_stopping and self._client.connection.is_current(connection):
                    await self._ask(inbox)
            except DeliveryError as error:
                self._note(error.reason)
            except Exception as error:  # the connection failed: the loop waits for the next one
                self._note(str(error) or type(error).__name__)
            finally:
                if unsubscribe is not None:
                    with contextlib.suppress(Exception):
                        await unsubscribe()
            if not self._is_stopping:
                await asyncio.sleep(PAUSE_SECONDS)
        self._ended.set()

    async def _ask(self, inbox: str) -> None:
        """Make one request and wait until it has ended; without room for messages, only wait a while."""
        room = self.cursor.room
        if not room:
            await self._wait(EXPIRES_SECONDS)
            return
        self._wanted, self._pause = room, 0.0
        request = {"batch": room, "expires": int(EXPIRES_SECONDS * 1e9)}
        connection = await self._client.connection.connected(self._client.timeout)
        await connection.publish(self._subject, json.dumps(request).encode(), reply=inbox)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + EXPIRES_SECONDS + LOST_SECONDS
        while self._wanted > 0 and (left := deadline - loop.time()) > 0:
            await self._wait(left)
        if self._pause:
            await asyncio.sleep(self._pause)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
        self._changed.clear()

    def _on_message(self, message: Reply) -> None:
        found = delivery_of(message.reply, message.headers, message.data)
        if found is None:
            self._on_status(message)
            return
        self._wanted -= 1
        self.trouble = ""
        self.pending = found.pending
        self.cursor.offer(found)
        if self._wanted <= 0:
            self._changed.set()

    def _on_status(self, message: Reply) -> None:
        """Note why the request ended: it expired (408, 404), was lost (409), or nobody took it (503). Ignore 100."""
        status = message.headers.get("Status", "")
        if status in ("404", "408"):
            self.trouble, self.pending = "", 0
        elif status == "503":
            self._note(f"the consumer {self._durable} does not exist, or has no leader")
            self._pause = PAUSE_SECONDS
        elif status == "409":
            self._pause = PAUSE_SECONDS
            self._note(f"the consumer {self._durable}: {message.headers.get('Description', 'the request was lost')}")
        elif status == "100":
            return
        self._wanted = 0
        self._changed.set()

    def _note(self, text: str) -> None:
        if text != self.trouble:
            _log.warning("%s: %s", self._durable, text)
        self.trouble = text

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._ack_wait / SIGNS_OF_LIFE)
            self._client.post([(reply, IN_PROGRESS) for reply in self.cursor.replies()])
