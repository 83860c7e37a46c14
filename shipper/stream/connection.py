"""A connection to NATS, in an event loop. The only module that imports nats-py; its exceptions do not leave it.

How nats-py behaves: it gives up after 60 attempts to reconnect unless `max_reconnect_attempts` is -1. With -1 `connect`
never raises, so the last error is kept here, and waits have limits of their own. Only pings make it notice a server
that was stopped. It reports refused credentials to the error callback alone. When they are refused later on, it closes
the connection for good, so a new one is made. It leaves a socket open when a server takes the connection and then does
not answer, so each is closed before the next one is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

import nats.aio.client
import nats.aio.msg
import nats.errors

from ..backends.jetstream import JetStream
from ..errors import DeliveryError, RetryableError, TooLargeError, UnauthorisedError

PING_SECONDS = 5  # between two pings; after two without an answer the server is left
PROBE_SECONDS = 2  # to wait for the answer to a ping, when a request got none
CONNECT_SECONDS = 2.0  # for one server
RETRY_SECONDS = 0.5  # between two attempts to connect
CLOSE_SECONDS = 2.0  # for what was sent last to reach the server
UNAVAILABLE = 503  # the status of errors that no event is to blame for
_REFUSED = ("authorization", "authentication", "permissions violation", "user credentials", "nkey")

_log = logging.getLogger("shipper.process")
logging.getLogger("nats.aio.client").setLevel(logging.CRITICAL)  # it logs, with tracebacks, what the callback gets


class Reply(NamedTuple):
    """An answer, or a message of a subscription."""

    subject: str
    reply: str
    headers: Mapping[str, str]
    data: bytes


OnMessage = Callable[[Reply], None]


class _Client(nats.aio.client.Client):
    async def _select_next_server(self) -> None:
        """Connect to the next server. Before each attempt, the first too, nats-py calls this."""
        if self._transport:
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._select_next_server()


class Connection:
    """A connection that `run` keeps up. Its methods are for the loop; its attributes may be read by any thread.

    ``name``: how the server lists the connection.
    """

    def __init__(self, settings: JetStream, name: str) -> None:
        self.trouble: DeliveryError | None = None
        """Why there is no connection, or what the server refused last."""
        self._settings = settings
        self._name = name
        self._nats: nats.aio.client.Client | None = None
        self._up = asyncio.Event()
        self._closed = asyncio.Event()
        self._probing = False
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def where(self) -> str:
        """The servers, for errors."""
        return "NATS at " + ", ".join(self._settings.servers)

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._up.is_set()

    @property
    def max_payload(self) -> int:
        """The most bytes of a message that the server takes; 1 MiB until there is a connection."""
        return self._nats.max_payload if self._nats is not None and self.is_up else 1024 * 1024

    # -- messages ------------------------------------------------------------------------------------------------------

    async def connected(self, seconds: float) -> nats.aio.client.Client:
        """Return the connection. DeliveryError when it is not up within ``seconds``."""
        if not self._up.is_set():
            try:
                await asyncio.wait_for(self._up.wait(), seconds)
            except asyncio.TimeoutError:
                raise self.trouble or RetryableError(f"{self.where} cannot be reached", status=UNAVAILABLE) from None
        assert self._nats is not None
        return self._nats

    def is_current(self, connection: nats.aio.client.Client) -> bool:
        """Whether ``connection`` is in use: while it is down, it may come back with its subscriptions."""
        return connection is self._nats and not connection.is_closed

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
            raise self._silence_on(subject) from None
        except (nats.errors.Error, OSError) as error:
            raise RetryableError(f"{self.where}: {_text(error)}", status=UNAVAILABLE) from None
        return _reply(answer)

    def _silence_on(self, subject: str) -> DeliveryError:
        """Return why no answer came: the account may not publish there, or the server was too slow."""
        trouble = self.trouble
        if isinstance(trouble, UnauthorisedError) and subject.lower() in trouble.reason.lower():
            return trouble
        return RetryableError(f"{self.where} does not answer on {subject}", status=UNAVAILABLE)

    async def send(self, subject: str, data: bytes) -> None:
        """Send a message that has no answer. One lost with a connection is not sent again."""
        if self._nats is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._nats.publish(subject, data)

    async def subscribe(self, subject: str, on_message: OnMessage) -> Callable[[], Awaitable[None]]:
        """Call ``on_message`` for each message on this connection; return a function that ends this.

        Once it has returned, no more messages come and all earlier ones were handled, unless the connection failed.
        """
        connection = await self.connected(self._settings.timeout)

        async def handle(message: nats.aio.msg.Msg) -> None:
            on_message(_reply(message))

        subscription = await connection.subscribe(subject, cb=handle, pending_bytes_limit=-1)
        drain: Callable[[], Awaitable[None]] = subscription.drain

        async def unsubscribe() -> None:
            with contextlib.suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
                await asyncio.wait_for(drain(), CLOSE_SECONDS)

        return unsubscribe

    async def keep_subscribed(self, subject: str, on_message: OnMessage) -> None:
        """Call ``on_message`` for each message, on every connection, until the loop ends."""
        while True:
            with contextlib.suppress(DeliveryError, nats.errors.Error):
                connection = await self.connected(self._settings.timeout)
                await self.subscribe(subject, on_message)
                while self.is_current(connection):
                    await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task that ends with the loop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- keeping it up -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and make a new connection whenever one was closed for good."""
        while True:
            self._closed.clear()
            connection = _Client()
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

    async def close(self) -> None:
        """Send what is left to be sent, and close the connection."""
        if self._nats is not None and self.is_up:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._nats.flush(), CLOSE_SECONDS)
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._nats.close(), CLOSE_SECONDS)

    def _probe(self) -> None:
        """Leave the server for another one if it does not answer a ping: it was stopped, or the network was cut."""
        if not self._probing and self._up.is_set():
            self._probing = True
            self.start(self._leave_if_silent())

    async def _leave_if_silent(self) -> None:
        connection = self._nats
        try:
            if connection is not None:
                await connection.flush(PROBE_SECONDS)
        except (nats.errors.Error, OSError):
            if connection is not None:
                await connection.force_reconnect()
        finally:
            self._probing = False

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
        is_refusal = any(word in text.lower() for word in _REFUSED)
        # While down, a refusal is kept: a later error may only say that another server of the cluster is down.
        if is_refusal:
            self.trouble = UnauthorisedError(f"{self.where}: {text}")
        elif self.is_up or not isinstance(self.trouble, UnauthorisedError):
            self.trouble = RetryableError(f"{self.where}: {text}", status=UNAVAILABLE)
        _log.info("%s: %s: %s", self._name, self.where, text)


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
