"""A connection to NATS, for threads: a request ends with an answer or a `DeliveryError`, within its timeout.

The `Connection` runs in an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from ..backends.jetstream import JetStream
from ..errors import DeliveryError, RetryableError
from .connection import CLOSE_SECONDS, UNAVAILABLE, Connection, OnMessage, Reply

T = TypeVar("T")

SLACK_SECONDS = 1.0  # how much longer a caller waits than the answer may take


class Client:
    """A connection that is kept up until `close`. ``name``: see `Connection`."""

    def __init__(self, settings: JetStream, *, name: str) -> None:
        self.timeout = settings.timeout
        self.connection = Connection(settings, name)
        """For coroutines that are run with `submit`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"nats {name}", daemon=True)
        self._thread.start()
        self.submit(self.connection.run())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self.connection.is_up

    @property
    def trouble(self) -> DeliveryError | None:
        """Why there is no connection, or what the server refused last."""
        return self.connection.trouble

    @property
    def max_payload(self) -> int:
        """The most bytes of a message that the server takes."""
        return self.connection.max_payload

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run a coroutine in the loop; return its `concurrent.futures.Future`."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise

    def wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run a coroutine and return its result. RetryableError after ``seconds`` and `SLACK_SECONDS`."""
        future = self.submit(work)
        try:
            result: T = future.result(seconds + SLACK_SECONDS)
            return result
        except (FutureTimeoutError, CancelledError):  # in Python 3.10 this is not the built-in TimeoutError
            future.cancel()
            raise RetryableError(f"{self.connection.where} does not answer", status=UNAVAILABLE) from None

    def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Reply:
        """The answer to one request. Raises a DeliveryError."""
        seconds = self.timeout if timeout is None else timeout
        return self.wait(self.connection.ask(subject, data, headers, seconds), 2 * seconds)

    def request_all(self, requests: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> list[Reply | DeliveryError]:
        """Make all requests at once; return their answers or errors, in order."""

        async def answer(subject: str, data: bytes, headers: Mapping[str, str]) -> Reply | DeliveryError:
            try:
                return await self.connection.ask(subject, data, headers, self.timeout)
            except DeliveryError as error:
                return error

        async def all_of_them() -> list[Reply | DeliveryError]:
            return list(await asyncio.gather(*[answer(*each) for each in requests]))

        return self.wait(all_of_them(), 2 * self.timeout)

    def post(self, posts: Sequence[tuple[str, bytes]]) -> None:
        """Send messages that have no answers, soon. Those lost with a connection are not sent again."""

        async def send() -> None:
            for subject, data in posts:
                await self.connection.send(subject, data)

        with contextlib.suppress(RuntimeError):  # the client is closed
            self.submit(send())

    def gather(self, subject: str, seconds: float) -> list[Reply]:
        """Send an empty request; return all answers within ``seconds``."""

        async def collect() -> list[Reply]:
            found: list[Reply] = []
            connection = await self.connection.connected(self.timeout)
            inbox = connection.new_inbox()
            unsubscribe = await self.connection.subscribe(inbox, found.append)
            await connection.publish(subject, b"", reply=inbox)
            await asyncio.sleep(seconds)
            await unsubscribe()
            return found

        return self.wait(collect(), self.timeout + seconds)

    def keep_subscribed(self, subject: str, on_message: OnMessage) -> None:
        """Call ``on_message``, in the loop, for each message on every connection, until `close`."""
        self.submit(self.connection.keep_subscribed(subject, on_message))

    def close(self) -> None:
        """Send what is left to be sent, and end. Idempotent."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.submit(self._end()).result(2 * CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    async def _end(self) -> None:
        await self.connection.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
