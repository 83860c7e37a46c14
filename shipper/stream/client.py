"""A connection to NATS, for threads. The only module that imports nats-py; its exceptions and types do not leave it.

One event loop in one thread. What a caller asks for ends with an answer or with a `DeliveryError`, within its time.

What nats-py needs to be told: it gives up after 60 attempts to reconnect unless that is -1, and with -1 `connect` never
raises, so the last error is kept and waiting has a limit of its own. Only pings make it notice a server that was
stopped. It reports refused credentials to the error callback alone, and closes for good when they are refused later on,
so the connection is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple, TypeVar

import nats.aio.client
import nats.aio.msg
import nats.errors

from ..backends.jetstream import JetStream
from ..errors import DeliveryError, RetryableError, TooLargeError, UnauthorisedError

T = TypeVar("T")

PING_SECONDS = 5  # between two pings; a server that leaves two of them without an answer is left
PROBE_SECONDS = 2.0  # for a server to answer a ping after it has left a request without an answer
CONNECT_SECONDS = 2.0  # for one server
RETRY_SECONDS = 0.5  # between two attempts to connect
CLOSE_SECONDS = 2.0  # for what was sent last to reach the server
SLACK_SECONDS = 1.0  # that a caller waits longer than the answer may take
UNAVAILABLE = 503  # the status of errors that no event is to blame for
_REFUSED = ("authorization", "authentication", "permissions violation", "user credentials", "nkey")

_log = logging.getLogger("shipper.process")
logging.getLogger("nats.aio.client").setLevel(logging.CRITICAL)  # it logs what the callback is told, with tracebacks


class Reply(NamedTuple):
    """An answer, or a message of a subscription."""

    subject: str
    reply: str
    headers: Mapping[str, str]
    data: bytes


OnMessage = Callable[[Reply], None]


class Client:
    """A connection that is kept up until `close`. ``name`` is what the server's lists say."""

    def __init__(self, settings: JetStream, *, name: str) -> None:
        self.timeout = settings.timeout
        self.trouble: DeliveryError | None = None
        """Why there is no connection, or what the server refused last."""
        self._settings = settings
        self._name = name
        self._loop = asyncio.new_event_loop()
        self._nats: nats.aio.client.Client | None = None
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._probing = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=f"nats {name}", daemon=True)
        self._thread.start()
        self.submit(self._keep_connected())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    # -- for callers in other threads ----------------------------------------------------------------------------------

    def submit(self, work: Coroutine[Any, Any, T]) -> Any:
        """Run a coroutine in the loop; a `concurrent.futures.Future`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def wait(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """The result of a coroutine. RetryableError when it takes longer."""
        future = self.submit(work)
        try:
            result: T = future.result(seconds + SLACK_SECONDS)
            return result
        except (FutureTimeoutError, CancelledError):  # of Python 3.10 it is not the built-in TimeoutError
            future.cancel()
            raise RetryableError(f"{self._where} does not answer", status=UNAVAILABLE) from None

    def request(
        self, subject: str, data: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> Reply:
        """The answer to one request. Raises a DeliveryError."""
        seconds = self.timeout if timeout is None else timeout
        return self.wait(self.ask(subject, data, headers, seconds), 2 * seconds)

    def request_all(self, requests: Sequence[tuple[str, bytes, Mapping[str, str]]]) -> list[Reply | DeliveryError]:
        """The answers to requests that are made at once."""

        async def all_of_them() -> list[Reply | DeliveryError]:
            asked = [self._answer(subject, data, headers) for subject, data, headers in requests]
            return list(await asyncio.gather(*asked))

        return self.wait(all_of_them(), 2 * self.timeout)

    def post(self, posts: Sequence[tuple[str, bytes]]) -> None:
        """Send messages without an answer, soon."""

        async def send() -> None:
            if self._nats is not None:
                with contextlib.suppress(Exception):  # what is lost is sent again: it is an acknowledgement
                    for subject, data in posts:
                        await self._nats.publish(subject, data)

        with contextlib.suppress(RuntimeError):  # closed
            self.submit(send())

    def gather(self, subject: str, seconds: float) -> list[Reply]:
        """All answers that come within so many seconds."""

        async def collect() -> list[Reply]:
            found: list[Reply] = []
            connection = await self.connected(self.timeout)
            inbox = connection.new_inbox()
            unsubscribe = await self.subscribe(inbox, found.append)
            await connection.publish(subject, b"", reply=inbox)
            await asyncio.sleep(seconds)
            await unsubscribe()
            return found

        return self.wait(collect(), self.timeout + seconds)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._up.is_set()

    @property
    def max_payload(self) -> int:
        """The most bytes of a message that the server takes; 1 MiB until there is a connection."""
        return self._nats.max_payload if self._nats is not None and self.is_up else 1024 * 1024

    def close(self) -> None:
        """Send what is left to be sent, and end. Idempotent."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(Exception):
            self.submit(self._end()).result(2 * CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_SECONDS)

    async def _end(self) -> None:
        if self._nats is not None and self.is_up:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._nats.flush(), CLOSE_SECONDS)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._nats.close(), CLOSE_SECONDS)
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    # -- in the loop ---------------------------------------------------------------------------------------------------

    async def connected(self, seconds: float) -> nats.aio.client.Client:
        """The connection. DeliveryError when there is none within so many seconds."""
        if not self._up.is_set():
            try:
                await asyncio.wait_for(self._up.wait(), seconds)
            except asyncio.TimeoutError:
                raise self.trouble or RetryableError(f"{self._where} cannot be reached", status=UNAVAILABLE) from None
        assert self._nats is not None
        return self._nats

    async def ask(self, subject: str, data: bytes, headers: Mapping[str, str] | None, seconds: float) -> Reply:
        """The answer to one request. Raises a DeliveryError."""
        connection = await self.connected(seconds)
        try:
            answer = await connection.request(subject, data, seconds, headers=dict(headers) if headers else None)
        except nats.errors.NoRespondersError:
            raise RetryableError(f"{subject}: no stream takes it, or it has no leader", status=UNAVAILABLE) from None
        except nats.errors.MaxPayloadError:
            raise TooLargeError(f"{len(data)} bytes are more than the server takes in a message") from None
        except nats.errors.TimeoutError:
            self._probe()
            trouble = self.trouble
            if isinstance(trouble, UnauthorisedError) and subject in trouble.reason:
                raise trouble from None
            raise RetryableError(f"{self._where} does not answer on {subject}", status=UNAVAILABLE) from None
        except (nats.errors.Error, OSError) as error:
            raise RetryableError(f"{self._where}: {_text(error)}", status=UNAVAILABLE) from None
        return _reply(answer)

    async def _answer(self, subject: str, data: bytes, headers: Mapping[str, str]) -> Reply | DeliveryError:
        try:
            return await self.ask(subject, data, headers, self.timeout)
        except DeliveryError as error:
            return error

    async def keep_subscribed(self, subject: str, on_message: OnMessage) -> None:
        """Call ``on_message`` in the loop for each message, on every connection, until the client is closed."""
        while True:
            with contextlib.suppress(DeliveryError, nats.errors.Error):
                connection = await self.connected(self.timeout)
                await self.subscribe(subject, on_message)
                while self.is_current(connection):
                    await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    def is_current(self, connection: nats.aio.client.Client) -> bool:
        """Whether this is the connection, and it may be up again: what it has subscribed to is kept."""
        return connection is self._nats and not connection.is_closed

    async def subscribe(self, subject: str, on_message: OnMessage) -> Callable[[], Awaitable[None]]:
        """Call ``on_message`` in the loop for each message; a function that ends it. Ends with the connection too."""
        connection = await self.connected(self.timeout)

        async def handle(message: nats.aio.msg.Msg) -> None:
            on_message(_reply(message))

        subscription = await connection.subscribe(subject, cb=handle, pending_bytes_limit=-1)

        async def unsubscribe() -> None:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

        return unsubscribe

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the loop, as a task that ends with the client."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _probe(self) -> None:
        """Leave the server for another one if it does not answer a ping: it was stopped, or the network was cut."""
        if not self._probing and self._up.is_set():
            self._probing = True
            self.start(self._leave_if_silent())

    async def _leave_if_silent(self) -> None:
        connection = self._nats
        try:
            if connection is not None:
                await connection.flush(int(PROBE_SECONDS))
        except (nats.errors.Error, OSError):
            if connection is not None:
                await connection.force_reconnect()
        finally:
            self._probing = False

    # -- the connection ------------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while True:
            self._closed.clear()
            connection = nats.aio.client.Client()
            try:
                await connection.connect(**self._options())
                self._nats = connection
                await self._on_up()
                await self._closed.wait()
            except Exception as error:
                await self._on_error(error)
            finally:
                self._up.clear()
                with contextlib.suppress(Exception):
                    await connection.close()
            await asyncio.sleep(RETRY_SECONDS)

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "servers": list(settings.servers),
            "name": self._name,
            "user": settings.user,
            "password": settings.password,
            "user_credentials": settings.credentials,
            "tls": _tls(settings) if settings.uses_tls else None,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RETRY_SECONDS,
            "connect_timeout": CONNECT_SECONDS,
            "ping_interval": PING_SECONDS,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_down,
            "reconnected_cb": self._on_up,
            "closed_cb": self._on_closed,
        }

    async def _on_up(self) -> None:
        self.trouble = None
        self._up.set()

    async def _on_down(self) -> None:
        self._up.clear()

    async def _on_closed(self) -> None:
        self._up.clear()
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        text = _text(error)
        kind = UnauthorisedError if any(word in text.lower() for word in _REFUSED) else RetryableError
        trouble = kind(f"{self._where}: {text}", status=None if kind is UnauthorisedError else UNAVAILABLE)
        # An error that says more than that a server is down is kept: others of the cluster may be down.
        if not (isinstance(self.trouble, UnauthorisedError) and kind is RetryableError) or self._up.is_set():
            self.trouble = trouble
        _log.warning("%s: %s", self._name, trouble.reason)

    @property
    def _where(self) -> str:
        return "NATS at " + ", ".join(self._settings.servers)


def _text(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    return str(error).removeprefix("nats: ").strip("'\" ") or type(error).__name__


def _reply(message: nats.aio.msg.Msg) -> Reply:
    return Reply(message.subject, message.reply, message.headers or {}, message.data)


def _tls(settings: JetStream) -> ssl.SSLContext:
    bundle = settings.ca_bundle
    is_folder = bundle is not None and os.path.isdir(bundle)
    context = ssl.create_default_context(cafile=None if is_folder else bundle, capath=bundle if is_folder else None)
    if settings.client_cert:
        context.load_cert_chain(*settings.client_cert)
    return context
