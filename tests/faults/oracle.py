"""The oracle: a server in a process of its own that speaks both wire protocols, keeps every id, and does as scripted.

A service is the first part of a path: ``oracle.url("a")`` is ``http://127.0.0.1:PORT/a``; what is POSTed to
``/a/events`` is Trakerr's (its id is the Idempotency-Key), anything else below ``/a`` is jKool's (its id is the
tracking-id). Without such a part, below ``http://127.0.0.1:PORT``, ``/api/…`` is "trakerr" and ``/`` is "jkool".
Each service has its own script, a list of steps that is used up request by request; afterwards every
request is answered with 200. Run as a program, this file is the server; it obeys JSON lines on stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import json
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMED = re.compile(r"\bid:([\w./-]+)")
"""A test's own name for an event, anywhere in its message: "paid id:w3-17" is named "w3-17". Else the first word."""

_CHANGING = ("contextCpuPercentage", "contextMemoryPercentage")
_GRANTED = "<access-resp><success>true</success></access-resp>"


@dataclass(frozen=True)
class Step:
    """What is done with the next ``times`` requests (None: all), or with all in the ``seconds`` after the next one.

    ``how``:
        "answer"        with status, headers and body, after ``delay`` seconds
        "drip"          the same, a byte at a time, ``delay`` seconds apart
        "hang"          read the request, never answer
        "hang in head"  half of the headers, then nothing
        "hang in body"  the headers and half of the body, then nothing
        "cut in head", "cut in body"  half, then close
        "close"         without an answer
        "reset"         without an answer, by a TCP RST
        "endless"       a body that goes on until the client has enough
    With ``bomb`` the body is that many MiB of zeros, compressed by gzip.
    ``contains`` and ``larger`` pick requests by their body (a text in it, more bytes than): see `Oracle.always`.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = "{}"
    how: str = "answer"
    delay: float = 0.0
    times: int | None = 1
    seconds: float | None = None
    bomb: int = 0
    contains: str | None = None
    larger: int | None = None


@dataclass(frozen=True)
class Request:
    """One request as it arrived. ``at`` is `time.monotonic()`, which all processes of a machine share."""

    at: float
    service: str
    connection: int
    ids: tuple[str, ...]
    names: tuple[str, ...]  # the test's own names, "" for an event without one
    digests: tuple[str, ...]  # of each event's body; what is sampled at sending is left out
    size: int
    how: str
    status: int  # of the whole answer that was sent; 0 when there was none
    headers: dict[str, str]  # lower-case names
    body: str | None  # only with ``keep_bodies``

    @property
    def accepted(self) -> bool:
        """Whether a whole answer with a status of success was sent."""
        return 200 <= self.status < 300 and self.how in ("answer", "drip")


class Oracle:
    """The server's handle in the test. `close` it; it is a context manager."""

    def __init__(self, *, up: bool = True, keep_bodies: bool = False, tls: tuple[Path, Path] | None = None) -> None:
        """``tls``: the files of a certificate with its chain, and of its key."""
        self._lock = threading.Lock()
        command = [sys.executable, "-I", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        files = None if tls is None else [str(path) for path in tls]
        self.scheme = "http" if tls is None else "https"
        self.port: int = self._ask("begin", keep_bodies=keep_bodies, tls=files)
        if up:
            self.up()

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        if self._process.stdin is None or self._process.stdout is None or self._process.stdin.closed:
            return
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, command: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the oracle has died")
        return json.loads(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, service: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}/{service}"

    # -- faults ------------------------------------------------------------------------------------------------------

    def script(self, service: str, steps: Sequence[Step]) -> None:
        """Replace what is left of a service's script. The service "handshake" stands for jKool's handshakes."""
        self._ask("script", service=service, steps=[dataclasses.asdict(step) for step in steps])

    def always(self, service: str, *rules: Step) -> None:
        """Set rules that take precedence over the script: for requests that contain a text, or are too large."""
        self._ask("always", service=service, rules=[dataclasses.asdict(rule) for rule in rules])

    def down(self) -> None:
        """Refuse connections, and reset those that are open. What was kept stays."""
        self._ask("down")

    def up(self) -> None:
        """Listen (again), on the same port."""
        self._ask("up")

    def deaf(self, deaf: bool = True) -> None:
        """Stop accepting connections, or start again; the kernel still establishes a few, which are not read."""
        self._ask("deaf", deaf=deaf)

    def drop(self, *, reset: bool = False) -> None:
        """Close every open connection from this side, as a server does with idle ones."""
        self._ask("drop", reset=reset)

    # -- what arrived ------------------------------------------------------------------------------------------------

    def received(self, service: str) -> Counter[str]:
        """Name of an event → how often it arrived, whatever was answered."""
        return Counter(self._ask("counts", service=service, of="names", accepted=False))

    def accepted(self, service: str) -> Counter[str]:
        """Name of an event → how often its whole request was answered with success."""
        return Counter(self._ask("counts", service=service, of="names", accepted=True))

    def accepted_ids(self, service: str) -> Counter[str]:
        """Like `accepted`, by the ids of the wire."""
        return Counter(self._ask("counts", service=service, of="ids", accepted=True))

    def accepted_count(self, service: str) -> int:
        """Return how many different events were accepted; cheap, for waiting."""
        return int(self._ask("accepted count", service=service))

    def request_count(self, service: str) -> int:
        return int(self._ask("request count", service=service))

    def requests(self, service: str, since: int = 0) -> list[Request]:
        """Return a service's requests in order of arrival, without the first ``since``; see `script` for handshakes."""
        return [
            Request(**{**each, **{name: tuple(each[name]) for name in ("ids", "names", "digests")}})
            for each in self._ask("requests", service=service, since=since)
        ]

    def ids_of(self, service: str) -> dict[str, set[str]]:
        """Name → the wire ids that it ever arrived with: more than one is a bug."""
        found: dict[str, set[str]] = {}
        for request in self.requests(service):
            for name, id in zip(request.names, request.ids, strict=True):
                found.setdefault(name, set()).add(id)
        return found

    def connections(self) -> int:
        """Return how many connections are open."""
        return int(self._ask("connections"))


# -- the server ----------------------------------------------------------------------------------------------------


class _Closing(Exception):
    """Nothing more is to be sent on a connection: close it."""


class _Script:
    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.steps: list[dict[str, Any]] = []
        self.used = 0
        self.since: float | None = None

    def next(self, body: bytes) -> dict[str, Any]:
        for rule in self.rules:
            if _meets(rule, body):
                return rule
        while self.steps:
            step = self.steps[0]
            if self._is_used_up(step):
                del self.steps[0]
                self.used, self.since = 0, None
                continue
            self.used += 1
            return step
        return _OK

    def _is_used_up(self, step: dict[str, Any]) -> bool:
        if step["seconds"] is not None:
            self.since = time.monotonic() if self.since is None else self.since
            return bool(time.monotonic() - self.since >= step["seconds"])
        return step["times"] is not None and self.used >= step["times"]


def _meets(rule: dict[str, Any], body: bytes) -> bool:
    if rule["contains"] is not None and rule["contains"].encode() not in body:
        return False
    return rule["larger"] is None or len(body) > rule["larger"]


_OK = dataclasses.asdict(Step())
_GRANT = dataclasses.asdict(Step(body=_GRANTED))


class _Server:
    def __init__(self) -> None:
        self.keep_bodies = False
        self.context: ssl.SSLContext | None = None
        self.port = 0
        self.reserved: socket.socket | None = None
        self.listener: socket.socket | None = None
        self.accepting: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: dict[int, asyncio.StreamWriter] = {}
        self.opened = 0
        self.scripts: dict[str, _Script] = {}
        self.kept: dict[str, list[dict[str, Any]]] = {}
        self.accepted: dict[str, set[str]] = {}

    # -- commands

    def obey(self, command: str, arguments: dict[str, Any]) -> Any:
        return getattr(self, f"do_{command.replace(' ', '_')}")(**arguments)

    def do_begin(self, keep_bodies: bool, tls: list[str] | None) -> int:
        self.keep_bodies = keep_bodies
        if tls is not None:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(*tls)
        self._reserve()
        return self.port

    def _reserve(self) -> None:
        """Hold the port without listening: connections are refused, and nobody else can have it."""
        self.reserved = socket.socket()
        self.reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.reserved.bind(("127.0.0.1", self.port))
        self.port = self.reserved.getsockname()[1]

    def do_up(self) -> None:
        if self.listener is not None:
            return
        assert self.reserved is not None
        self.listener, self.reserved = self.reserved, None
        self.listener.listen(128)
        self.listener.setblocking(False)
        self.do_deaf(False)

    def do_down(self) -> None:
        if self.listener is None:
            return
        self.do_deaf(True)
        self.listener.close()
        self.listener = None
        self.do_drop(reset=True)
        self._reserve()

    def do_deaf(self, deaf: bool) -> None:
        if deaf and self.accepting is not None:
            self.accepting.cancel()
            self.accepting = None
        elif not deaf and self.accepting is None:
            assert self.listener is not None
            self.accepting = asyncio.create_task(self._accept_all(self.listener))

    async def _accept_all(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(self._welcome(connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=1 << 20), self.serve)

        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection, ssl=self.context)

    def do_drop(self, reset: bool) -> None:
        for writer in list(self.writers.values()):
            if reset:
                _reset(writer)
            else:
                writer.close()

    def do_connections(self) -> int:
        return len(self.writers)

    def do_script(self, service: str, steps: list[dict[str, Any]]) -> None:
        script = self._script(service)
        script.steps, script.used, script.since = steps, 0, None

    def do_always(self, service: str, rules: list[dict[str, Any]]) -> None:
        self._script(service).rules = rules

    def _script(self, service: str) -> _Script:
        return self.scripts.setdefault(service, _Script())

    def do_counts(self, service: str, of: str, accepted: bool) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for each in self.kept.get(service, []):
            if not accepted or _accepted(each):
                counts.update(each[of])
        return counts

    def do_accepted_count(self, service: str) -> int:
        return len(self.accepted.get(service, ()))

    def do_request_count(self, service: str) -> int:
        return len(self.kept.get(service, ()))

    def do_requests(self, service: str, since: int) -> list[dict[str, Any]]:
        return self.kept.get(service, [])[since:]

    # -- connections

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        number = self.opened
        self.writers[number] = writer
        try:
            while True:
                await self._exchange(number, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, _Closing):
            pass
        finally:
            self.writers.pop(number, None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head[:-4].decode("latin-1").split("\r\n")
        pairs = (each.partition(":") for each in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        target = line.split(" ")[1]
        service = _service(target)
        if body.startswith(b"<access-request>"):
            request = self._request("handshake", number, headers, body, [])
            step = self._script("handshake").next(body) if "handshake" in self.scripts else _GRANT
            step = _GRANT if step is _OK else step
        else:
            events = _events(target, headers, body)
            request = self._request(service, number, headers, body, events)
            step = self._script(service).next(_plain(headers, body))
        request["how"] = step["how"]
        await self._act(step, request, reader, writer)

    def _request(
        self, service: str, number: int, headers: dict[str, str], body: bytes, events: list[tuple[str, str, str]]
    ) -> dict[str, Any]:
        request = {
            "at": time.monotonic(),
            "service": service,
            "connection": number,
            "ids": [id for id, _, _ in events],
            "names": [name for _, name, _ in events],
            "digests": [digest for _, _, digest in events],
            "size": len(body),
            "how": "",
            "status": 0,
            "headers": headers,
            "body": _plain(headers, body).decode("utf-8", "replace") if self.keep_bodies else None,
        }
        self.kept.setdefault(service, []).append(request)
        return request

    async def _act(
        self, step: dict[str, Any], request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        how = step["how"]
        if how == "answer":
            if step["delay"]:
                await asyncio.sleep(step["delay"])
            self._accept(step, request)  # before the answer: a test may ask for it as soon as the answer has arrived
            writer.write(_encoded(step))
            await writer.drain()
            return
        if how == "drip":
            await self._drip(step, request, writer)
            return
        if how == "reset":
            _reset(writer)
            raise _Closing
        if how == "endless":
            await _endless(writer)
        if how == "close":
            raise _Closing
        await self._part(step, reader, writer)

    async def _drip(self, step: dict[str, Any], request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        data = _encoded(step)
        for at in range(len(data)):
            if at == len(data) - 1:
                self._accept(step, request)
            writer.write(data[at : at + 1])
            await writer.drain()
            await asyncio.sleep(step["delay"])

    async def _part(self, step: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        verb, _, where = step["how"].partition(" in ")
        data = _encoded(step)
        head = data.index(b"\r\n\r\n") + 4
        sent = {"": 0, "head": head // 2, "body": (head + len(data)) // 2}[where]
        writer.write(data[:sent])
        await writer.drain()
        if verb == "hang":
            while await reader.read(65536):
                pass
        raise _Closing

    def _accept(self, step: dict[str, Any], request: dict[str, Any]) -> None:
        request["status"] = step["status"]
        if _accepted(request):
            self.accepted.setdefault(request["service"], set()).update(request["ids"])


def _accepted(request: dict[str, Any]) -> bool:
    return 200 <= int(request["status"]) < 300


def _reset(writer: asyncio.StreamWriter) -> None:
    shadow = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        shadow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@functools.cache
def _bomb(size: int) -> bytes:
    return gzip.compress(bytes(size << 20), 9)


def _encoded(step: dict[str, Any]) -> bytes:
    body = _bomb(step["bomb"]) if step["bomb"] else step["body"].encode()
    lines = [f"HTTP/1.1 {step['status']} Reason"]
    headers = {"Content-Length": str(len(body)), **step["headers"]}
    if step["bomb"]:
        headers["Content-Encoding"] = "gzip"
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _plain(headers: dict[str, str], body: bytes) -> bytes:
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


def _service(target: str) -> str:
    first = target.strip("/").split("/")[0]
    return {"api": "trakerr", "": "jkool"}.get(first, first)


def _name(text: object) -> str:
    if not isinstance(text, str):
        return ""
    found = NAMED.search(text)
    return found[1] if found else text.partition(" ")[0]


def _events(target: str, headers: dict[str, str], body: bytes) -> list[tuple[str, str, str]]:
    """Return (id, name, digest) for each event of a request."""
    found = list(_objects(_plain(headers, body)))
    keys = headers.get("idempotency-key", "").split(",") if target.rstrip("/").endswith("/events") else []
    events = []
    for place, each in enumerate(found):
        id = keys[place] if place < len(keys) else str(each.get("tracking-id", ""))
        name = _name(each.get("eventMessage", each.get("msg-text")))
        same = {key: value for key, value in each.items() if key not in _CHANGING}
        digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
        events.append((id, name, digest))
    return events


def _objects(text: bytes) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(ValueError):
        data = json.loads(text)
        yield from (each for each in (data if isinstance(data, list) else [data]) if isinstance(each, dict))
        return
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


async def _run() -> None:
    server = _Server()
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)  # broken connections are expected
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command, arguments = json.loads(line)
        answer = server.obey(command, arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _main() -> None:
    asyncio.run(_run())


if __name__ == "__main__":
    _main()
