"""How fast a backlog reaches a collector as OTLP, against the SDK's own exporter in the same run."""

from __future__ import annotations

import functools
import importlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

from .children import ask, median_if_any
from .delivery import speed_of
from .peers import OTLP
from .rows import Plan, Row
from .servers import Nginx

LEAST, TIMES = 45_000, 3.0
ENCODING = 20.0  # µs of CPU an event
BATCH = 512  # records in a batch of the SDK's processor, by default
EXPORTER = "the SDK's exporter alone, records at hand"
WHOLE = "the SDK: logging calls, processor, exporter"


def otlp(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """One backlog to one collector next door, gzipped; the exporter by default (not compressed) and gzipped."""
    events = plan.count(300_000, 5000)
    question = f"OTLP to one collector next door, backlog of {events:,}"
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[float]] = {EXPORTER: [], f"{EXPORTER}, gzip": [], WHOLE: []}
    for _ in range(plan.rounds):
        told = ask("deliver", urls={"otlp": nginx.good}, events=events, seconds=120.0)
        ours += filter(None, [speed_of(told, events)])
        for name, compression in ((EXPORTER, "none"), (f"{EXPORTER}, gzip", "gzip")):
            told = ask("exporter", url=nginx.good, batches=plan.count(200, 10), compression=compression)
            theirs[name] += [told["rate"]] if "rate" in told else []
        count = events // 5
        told = ask("burst", peer="OpenTelemetry, room for all", url=nginx.good, records=count, threads=1)
        theirs[WHOLE] += [count / told["settled_in"]] if "settled_in" in told else []
    rival = median_if_any(theirs[EXPORTER])
    rate = median_if_any([one["rate"] for one in ours])
    ratio = rate / rival if rate and rival else None
    reached = rate is not None and (rate >= LEAST or (ratio or 0.0) >= TIMES)
    target = f"≥ {LEAST:,}/s or ≥ {TIMES:g} × the exporter"
    cpu = median_if_any([one["cpu"] * 1e6 for one in ours])
    yield Row(question, "shipper", rate, "/s", ratio, target, reached)
    for name, rates in theirs.items():
        value = median_if_any(rates)
        yield Row(question, name, value, "/s", value / rival if value and rival else None)
    yield Row(question, "CPU of the shipper process an event, all of it", cpu, "µs")
    told = ask("encoding", batches=plan.count(100, 10))
    cost = told.get("cpu")
    yield Row(
        question, "... of it the encoding as protobuf", cost, "µs", None, f"≤ {ENCODING:g} µs",
        cost is not None and cost <= ENCODING,
    )  # fmt: skip
    yield from _calls(plan, nginx)


def _calls(plan: Plan, nginx: Nginx) -> Iterator[Row]:
    """CPU in the application: a collector as backend should cost no more than the other backends."""
    question = "With a collector: CPU of the application per record, 1,000 records/s"
    seen: dict[str, list[float]] = {"shipper": [], OTLP: [], "OpenTelemetry": []}
    for _ in range(plan.rounds):
        for name, costs in seen.items():
            told = ask("paced", peer=name, url=nginx.good, rate=1000.0, seconds=plan.seconds(5.0), timeout=60)
            costs += [told["cpu"]] if "cpu" in told else []
    floor = median_if_any(seen["shipper"])
    for name, costs in seen.items():
        value = median_if_any(costs)
        ratio = value / floor if value and floor else None
        promised = name == OTLP
        met = bool(ratio and ratio <= 1.1) if promised else None
        yield Row(question, name, value, "µs", ratio, "≤ 1.1 × without" if promised else "", met)


# Measurements that run in a process of their own.


def exporter(options: dict[str, Any]) -> dict[str, Any]:
    """Records a second, and µs of CPU per record, of the SDK's exporter that sends a batch ``batches`` times."""
    http: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http")
    made: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http._log_exporter")
    compression = http.Compression(options["compression"])
    sending = made.OTLPLogExporter(endpoint=f"{options['url']}/v1/logs", compression=compression)
    batch = _records_of_the_sdk()
    sending.export(batch)
    begun, before = time.perf_counter(), time.process_time()
    for _ in range(options["batches"]):
        sending.export(batch)
    count = options["batches"] * len(batch)
    return {"rate": count / (time.perf_counter() - begun), "cpu": (time.process_time() - before) / count * 1e6}


def _records_of_the_sdk() -> list[Any]:
    """A batch of the usual record, in the form in which the SDK's LoggingHandler hands it to the processor."""
    from .peers import NAME, TEXT

    logs: Any = importlib.import_module("opentelemetry.sdk._logs")
    export: Any = importlib.import_module("opentelemetry.sdk._logs.export")
    memory = export.InMemoryLogRecordExporter()
    provider = logs.LoggerProvider()
    provider.add_log_record_processor(export.SimpleLogRecordProcessor(memory))
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logs.LoggingHandler(logging.INFO, provider))
    for number in range(BATCH):
        arguments = (number, f"customer-{number % 977}", number * 0.37 % 250)
        logger.info(TEXT, *arguments, extra={"amount": number * 0.01, "region": "eu-1"})
    return list(memory.get_finished_logs())


def encoding(options: dict[str, Any]) -> dict[str, Any]:
    """µs of CPU per event for encoding unpacked events as an OTLP request."""
    from shipper.backends.otlp import logs
    from shipper.event.codec import unpack
    from shipper.event.model import EventId

    from . import backlog

    events = [unpack(backlog.payload(number), EventId(b"12345678", number)) for number in range(1000)]
    encode = functools.partial(logs.request, events, logs.resource_message({"service.name": "bench"}), lambda event: "")
    encode()
    before = time.process_time()
    for _ in range(options["batches"]):
        encode()
    return {"cpu": (time.process_time() - before) / (options["batches"] * len(events)) * 1e6}


CHILDREN: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (exporter, encoding)
