"""The ways to log that are compared: each logs the same record, hands it over, and counts what it dropped.

Third-party packages are imported by name, where they are used: only the benchmarks' environment has them.
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import multiprocessing as mp
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

TEXT = "order %d processed for %s in %.2f ms"
BRACES = "order {} processed for {} in {:.2f} ms"
NAME = "bench"


class Peer:
    """`log` logs one record; `settle` waits until the application has no more work with the logged records."""

    serialises = True
    """Whether the handler serialises the record."""

    dropped: Callable[[], int | None] = staticmethod(lambda: 0)

    def __init__(self, url: str, folder: Path) -> None:
        self.logger = logging.getLogger(NAME)
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False

    def log(self, number: int) -> None:
        self.logger.info(
            TEXT,
            number,
            f"customer-{number % 977}",
            number * 0.37 % 250,
            extra={"amount": number * 0.01, "region": "eu-1"},
        )

    def settle(self) -> None:
        """Nothing to wait for."""

    def end(self) -> None:
        """Nothing to end."""


class Nothing(Peer):
    """The floor: a handler that does nothing."""

    serialises = False

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.logger.addHandler(logging.NullHandler(logging.INFO))
        handler = _Nothing()
        self.logger.addHandler(handler)


class _Nothing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Nothing."""


class Bare(Peer):
    """The least that a serialising handler can do: format, pack with msgpack, one write to a pipe."""

    reader: tuple[str, ...] = ("cat",)

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.logger.addHandler(_Bare(self.reader))


class BarePosted(Bare):
    """`Bare`, whose reader posts each record to two services, as the shipper process does."""

    def __init__(self, url: str, folder: Path) -> None:
        self.reader = (sys.executable, "-m", "tests.benchmarks.bare", url)
        super().__init__(url, folder)


class _Bare(logging.Handler):
    def __init__(self, reader: Sequence[str]) -> None:
        super().__init__()
        self._pack: Callable[[object], bytes] = importlib.import_module("msgpack").Packer().pack
        self._reader = subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert self._reader.stdin is not None
        self._fd = self._reader.stdin.fileno()

    def emit(self, record: logging.LogRecord) -> None:
        here = (record.pathname, record.lineno, record.funcName, record.process, record.thread, record.threadName)
        extras = {"amount": record.__dict__["amount"], "region": record.__dict__["region"]}
        values = (record.created, record.levelno, record.levelname, record.name, record.getMessage(), *here, extras)
        os.write(self._fd, self._pack(values))


class Shipper(Peer):
    """`shipper.start` with both backends."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        shipper: Any = importlib.import_module("shipper")
        self._app: Any = importlib.import_module("shipper.application.lifecycle")
        shipper.start(*self.backends(shipper, url), app="bench", spool=folder / "spool", logger=NAME)
        self.dropped = lambda: sum(sum(levels.values()) for levels in self._app.current().queue.drops.values())

    def backends(self, shipper: Any, url: str) -> Sequence[Any]:
        return shipper.Trakerr("key", url=f"{url}/api/v1", level="INFO"), shipper.JKool("token", url=url)

    def settle(self) -> None:
        self._app.current().queue.drain(time.monotonic() + 60)


class ShipperOtlp(Shipper):
    """`Shipper` with an OpenTelemetry collector instead of both backends."""

    def backends(self, shipper: Any, url: str) -> Sequence[Any]:
        return (shipper.Otlp(url),)


def _write_to_file(queue: Any, path: str) -> None:
    handler = logging.FileHandler(path)
    listener = logging.handlers.QueueListener(queue, handler)
    listener.start()
    while True:
        time.sleep(60)


class StdlibQueue(Peer):
    """`QueueHandler` → `multiprocessing.Queue` → `QueueListener` in another process, which writes a file."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        context = mp.get_context("fork")
        self._queue: Any = context.Queue()
        self._listener = context.Process(target=_write_to_file, args=(self._queue, str(folder / "log")), daemon=True)
        self._listener.start()
        self.logger.addHandler(logging.handlers.QueueHandler(self._queue))

    def settle(self) -> None:
        _until(lambda: not self._queue._buffer)

    def end(self) -> None:
        self._listener.kill()


class PackedQueue(StdlibQueue):
    """`StdlibQueue` with msgpack instead of pickle: the least that this queue can cost."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        pack: Callable[[object], bytes] = importlib.import_module("msgpack").Packer().pack
        (handler,) = self.logger.handlers
        assert isinstance(handler, logging.handlers.QueueHandler)
        handler.prepare = lambda record: pack([record.created, record.levelno, record.name, record.getMessage()])  # type: ignore[method-assign]


class Loguru(Peer):
    """Loguru with ``enqueue=True``: its thread serialises records to a file."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self._logger: Any = importlib.import_module("loguru").logger
        self._logger.remove()
        self._logger.add(str(folder / "log"), enqueue=True, serialize=True)

    def log(self, number: int) -> None:
        self._logger.bind(amount=number * 0.01, region="eu-1").info(
            BRACES, number, f"customer-{number % 977}", number * 0.37 % 250
        )

    def settle(self) -> None:
        self._logger.complete()


def _subscribe(queue: Any, path: str) -> None:
    logbook: Any = importlib.import_module("logbook")
    queues: Any = importlib.import_module("logbook.queues")
    with logbook.FileHandler(path).applicationbound():
        queues.MultiProcessingSubscriber(queue).dispatch_forever()


class Logbook(Peer):
    """`MultiProcessingHandler`, and a subscriber in another process that writes a file."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        logbook: Any = importlib.import_module("logbook")
        queues: Any = importlib.import_module("logbook.queues")
        context = mp.get_context("fork")
        self._queue: Any = context.Queue()
        self._listener = context.Process(target=_subscribe, args=(self._queue, str(folder / "log")), daemon=True)
        self._listener.start()
        queues.MultiProcessingHandler(self._queue).push_application()
        self._logger = logbook.Logger(NAME)

    def log(self, number: int) -> None:
        extra = {"amount": number * 0.01, "region": "eu-1"}
        self._logger.info(BRACES, number, f"customer-{number % 977}", number * 0.37 % 250, extra=extra)

    def settle(self) -> None:
        _until(lambda: not self._queue._buffer)

    def end(self) -> None:
        self._listener.kill()


class OpenTelemetry(Peer):
    """`BatchLogRecordProcessor` with the OTLP/HTTP exporter, with default settings."""

    queue: int | None = None  # records; None: the default, 2048

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        logs: Any = importlib.import_module("opentelemetry.sdk._logs")
        export: Any = importlib.import_module("opentelemetry.sdk._logs.export")
        http: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http._log_exporter")
        exporter = http.OTLPLogExporter(endpoint=f"{url}/v1/logs")
        self._exported = 0
        self._logged = 0
        send = exporter.export

        def counted(batch: Any, **options: Any) -> Any:
            self._exported += len(batch)
            return send(batch, **options)

        exporter.export = counted
        options = {} if self.queue is None else {"max_queue_size": self.queue}
        self._provider = logs.LoggerProvider()
        self._provider.add_log_record_processor(export.BatchLogRecordProcessor(exporter, **options))
        self.logger.addHandler(logs.LoggingHandler(logging.INFO, self._provider))
        self.dropped = lambda: self._logged - self._exported

    def log(self, number: int) -> None:
        self._logged += 1
        super().log(number)

    def settle(self) -> None:
        self._provider.force_flush(120_000)


class OpenTelemetryRoomy(OpenTelemetry):
    """`OpenTelemetry` with room for all records, to measure how many it sends in a second without drops."""

    queue = 2_000_000


class Logstash(Peer):
    """python-logstash-async over HTTP, its queue in memory."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        handler: Any = importlib.import_module("logstash_async.handler")
        transport: Any = importlib.import_module("logstash_async.transport")
        host, port = url.removeprefix("http://").split(":")
        over = transport.HttpTransport(host, int(port), timeout=5.0, ssl_enable=False, ssl_verify=False)
        self._handler = handler.AsynchronousLogstashHandler(host, int(port), database_path=None, transport=over)
        self.logger.addHandler(self._handler)

    def settle(self) -> None:
        self.logger.removeHandler(self._handler)
        self._handler.close()


class Sentry(Peer):
    """sentry-sdk's logs."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self._sentry: Any = importlib.import_module("sentry_sdk")
        self._lost = 0
        self._sentry.init(dsn=f"{url.replace('://', '://key@')}/1", enable_logs=True, default_integrations=True)
        transport = self._sentry.get_client().transport
        lost = transport.record_lost_event

        def counted(reason: str, *args: Any, **options: Any) -> None:
            category = options.get("data_category") or (args[0] if args else None)
            if category == "log_item":
                self._lost += options.get("quantity", 1)
            lost(reason, *args, **options)

        transport.record_lost_event = counted
        self.dropped = lambda: self._lost

    def settle(self) -> None:
        self._sentry.flush(timeout=60)


class Logzio(Peer):
    """logzio-python-handler."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        module: Any = importlib.import_module("logzio.handler")
        os.chdir(folder)  # its files of unsent logs go to the working directory
        self._handler = module.LogzioHandler("t" * 32, url=url, logs_drain_timeout=1)
        self.logger.addHandler(self._handler)

    def settle(self) -> None:
        self._handler.flush()


class Requests(Peer):
    """A plain handler that posts each record and waits for the answer."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder)
        self.logger.addHandler(_Requests(url))


class _Requests(logging.Handler):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._session: Any = importlib.import_module("requests").Session()

    def emit(self, record: logging.LogRecord) -> None:
        values = {
            "message": record.getMessage(),
            "level": record.levelname,
            "logger": record.name,
            "time": record.created,
        }
        extras = {"amount": record.__dict__.get("amount"), "region": record.__dict__.get("region")}
        self._session.post(self._url, json={**values, **extras}, timeout=10)


def _until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)


PEERS: dict[str, type[Peer]] = {
    "nothing": Nothing,
    "bare: format, pack, write": Bare,
    "shipper": Shipper,
    "stdlib queue": StdlibQueue,
    "loguru": Loguru,
    "Logbook": Logbook,
    "OpenTelemetry": OpenTelemetry,
    "logstash-async": Logstash,
    "sentry-sdk": Sentry,
    "logzio": Logzio,
    "requests": Requests,
}
"""The two lower bounds first, then shipper, then the others."""

OTLP = "shipper, to a collector"
POSTED = "bare, and urllib3 posts it to both"
PACKED = "bare: QueueHandler, msgpack, multiprocessing.Queue"
EXTRA_PEERS: dict[str, type[Peer]] = {
    "OpenTelemetry, room for all": OpenTelemetryRoomy,
    OTLP: ShipperOtlp,
    POSTED: BarePosted,
    PACKED: PackedQueue,
}
