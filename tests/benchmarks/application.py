"""One measurement in a process of its own: `python -m tests.benchmarks.application QUESTION OPTIONS` prints numbers.

The process is the application whose CPU time, memory and logging calls are measured.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import otlp, pinned
from .children import percentile, shipper_pid

Options = dict[str, Any]
Numbers = dict[str, Any]


def _peer(options: Options) -> Any:
    from .peers import EXTRA_PEERS, PEERS

    return {**PEERS, **EXTRA_PEERS}[options["peer"]](options["url"], Path(options["folder"]))


def _cpu() -> float:
    """CPU seconds of all threads of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def paced(options: Options) -> Numbers:
    """CPU of the whole application process per record, in µs, at ``rate`` records a second for ``seconds``."""
    peer = _peer(options)
    _log_paced(peer.log, options["rate"], 0.3)  # warm-up: connections, threads, caches
    before = _cpu()
    count = _log_paced(peer.log, options["rate"], options["seconds"])
    used = _cpu() - before
    peer.end()
    return {"cpu": used / count * 1e6, "records": count}


def _log_paced(log: Callable[[int], None], rate: float, seconds: float, times: list[int] | None = None) -> int:
    begun = time.perf_counter()
    count = int(rate * seconds)
    for number in range(count):
        ahead = begun + number / rate - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        if times is None:
            log(number)
            continue
        called = time.perf_counter_ns()
        log(number)
        times.append(time.perf_counter_ns() - called)
    return count


def burst(options: Options) -> Numbers:
    """A burst from ``threads`` threads: times of calls, and CPU per record until all records are handed over, in µs."""
    peer = _peer(options)
    peer.log(0)
    each = options["records"] // options["threads"]
    times: list[list[int]] = [[] for _ in range(options["threads"])]
    before, begun = _cpu(), time.perf_counter()
    threads = [threading.Thread(target=_log_all, args=(peer.log, each, one)) for one in times]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = time.perf_counter() - begun
    peer.settle()
    took, used = time.perf_counter() - begun, _cpu() - before
    count = each * options["threads"]
    numbers = {"cpu": used / count * 1e6, "logged_in": logged, "settled_in": took, "dropped": peer.dropped()}
    peer.end()
    return {**numbers, **_distribution([time for one in times for time in one]), "records": count}


def _log_all(log: Callable[[int], None], count: int, times: list[int]) -> None:
    clock, note = time.perf_counter_ns, times.append
    for number in range(count):
        called = clock()
        log(number)
        note(clock() - called)


def _distribution(times: list[int]) -> Numbers:
    """Mean, percentiles and maximum of times in ns, in µs."""
    ordered = sorted(times)
    shares = {name: percentile(ordered, share) / 1e3 for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {"mean": sum(ordered) / len(ordered) / 1e3, **shares, "max": ordered[-1] / 1e3}


def trouble(options: Options) -> Numbers:
    """Times of logging calls, in µs, while something is wrong; with ``stopped`` the shipper process is suspended."""
    import shipper

    spool = options.get("spool", os.path.join(options["folder"], "spool"))
    backends = (
        shipper.Trakerr("key", url=f"{options['trakerr']}/api/v1", level=logging.INFO),
        shipper.JKool("token", url=options["jkool"]),
    )
    from .peers import NAME, Peer

    shipper.start(*backends, app="bench", spool=spool, logger=NAME)
    peer = Peer("", Path())
    _log_paced(peer.log, options["rate"], 1.0)
    pid = shipper_pid(spool)
    if options.get("stopped"):
        os.kill(pid, signal.SIGSTOP)
    times: list[int] = []
    _log_paced(peer.log, options["rate"], options["seconds"], times)
    from shipper.application.lifecycle import current

    app = current()
    drops = {} if app is None else app.queue.drops
    os.kill(pid, signal.SIGKILL)
    return {**_distribution(times), "dropped": sum(sum(levels.values()) for levels in drops.values())}


def deliver(options: Options) -> Numbers:
    """How fast a backlog of ``events`` reaches the backends; with ``one_core`` the shipper process has one core."""
    import shipper

    from . import backlog

    backends = _backends(options)
    spool = Path(options["folder"], "spool")
    names = [backend.name for backend in backends]
    size = backlog.write(spool, names, options["events"])
    cores = os.sched_getaffinity(0)
    if options.get("one_core"):
        os.sched_setaffinity(0, {min(cores)})
    begun = time.perf_counter()
    shipper.start(
        *backends,
        app="bench",
        spool=spool,
        logger="bench",
        spooling=shipper.Spooling(quota=8 << 30),
        batching=shipper.Batching(processes=options.get("processes", True)),
    )
    if options.get("one_core"):
        os.sched_setaffinity(0, {max(cores)})
    samples = _watch(spool, names, options["events"], begun, options["seconds"])
    return {"samples": samples, "journal_bytes": size}


def bare_batches(options: Options) -> Numbers:
    """Events a second that a bare script sends to each of ``services`` services, and µs of CPU per event."""
    from . import backlog
    from .bare import batch, poster

    payloads = [backlog.payload(number) for number in range(1000)]
    posts = [poster(options["url"]) for _ in range(options["services"])]
    begun, before = time.perf_counter(), _cpu()
    for _ in range(options["batches"]):
        for post in posts:
            post(batch(payloads))
    count = options["batches"] * len(payloads)
    return {"rate": count / (time.perf_counter() - begun), "cpu": (_cpu() - before) / count * 1e6}


def bare(options: Options) -> Numbers:
    """µs of CPU of one request by urllib3 with a ready body: the lower bound for one event per request."""
    import urllib3

    from shipper.backends.protocol import AppContext
    from shipper.backends.trakerr import Trakerr
    from shipper.event.codec import unpack
    from shipper.event.model import EventId

    from . import backlog

    backend = Trakerr("key", url=f"{options['url']}/api/v1")
    event = unpack(backlog.payload(1), EventId(b"12345678", 1))
    context = AppContext("bench", "/", "host", "10.0.0.1", lambda time: (1.0, 2.0))
    body, headers = backend.body([event], context), {**backend.headers(context), **backend.request_headers([event])}
    pool = urllib3.connection_from_url(options["url"], maxsize=1)
    pool.urlopen("POST", "/api/v1/events", body=body, headers=headers)
    before = _cpu()
    for _ in range(options["requests"]):
        pool.urlopen("POST", "/api/v1/events", body=body, headers=headers)
    return {"cost": (_cpu() - before) / options["requests"] * 1e6}


def _backends(options: Options) -> list[Any]:
    import shipper

    kinds: dict[str, Callable[..., Any]] = {
        "trakerr": lambda url, **more: shipper.Trakerr("key", url=f"{url}/api/v1", **more),
        "jkool": lambda url, **more: shipper.JKool("key", url=url, **more),
        "otlp": shipper.Otlp,
    }
    return [
        kinds[name](url, level=logging.INFO, **options.get("settings", {}).get(name, {}))
        for name, url in options["urls"].items()
    ]


def _watch(spool: Path, names: list[str], events: int, begun: float, seconds: float) -> list[list[float]]:
    """[seconds since ``begun``, CPU seconds, RSS bytes, events delivered to each], until all are or time is over."""
    samples: list[list[float]] = []
    end = begun + seconds
    while time.perf_counter() < end:
        time.sleep(0.02)
        try:
            said = json.loads((spool / "status.json").read_text())
            pid = shipper_pid(str(spool))
            sample = [time.perf_counter() - begun, *_used(pid), *(_delivered(said, name) for name in names)]
        except (OSError, ValueError, KeyError):
            continue
        if not samples or sample[3:] != samples[-1][3:] or sample[0] - samples[-1][0] > 0.5:
            samples.append(sample)
        if all(count >= events for count in sample[3:]):
            break
    return samples


def _delivered(said: Any, name: str) -> int:
    return int(said["backends"][name]["counts"].get("delivered", 0))


_TICK = os.sysconf("SC_CLK_TCK")


def _used(pid: int) -> tuple[float, int]:
    """CPU seconds and RSS of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def worker_memory(options: Options) -> Numbers:
    """RSS in bytes of a process that logs with a file handler and, unless ``peer`` is "plain", with that peer too."""
    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    log = _log_plainly
    end: Callable[[], object] = bool
    if options["peer"] == "shipper":
        import shipper

        backends = _backends(options)
        shipper.start(*backends, app="bench", spool=os.path.join(options["folder"], "spool"), logger="bench")
    elif options["peer"] != "plain":
        peer = _peer(options)
        log, end = peer.log, peer.end
    logger.addHandler(logging.FileHandler(os.path.join(options["folder"], "plain.log")))
    for number in range(2000):
        log(number)
    used = _used(os.getpid())[1]
    end()
    return {"rss": used}


def _log_plainly(number: int) -> None:
    logging.getLogger("bench").info(
        "order %d processed for %s in %.2f ms", number, "x", 1.0, extra={"amount": 1.0, "region": "eu-1"}
    )


def importing(options: Options) -> Numbers:
    """Milliseconds of `import shipper` after `import logging`, and which third-party packages it imported."""
    begun, used = time.perf_counter(), time.process_time()
    import shipper

    assert shipper.__version__
    took = {"wall": (time.perf_counter() - begun) * 1e3, "cpu": (time.process_time() - used) * 1e3}
    return {**took, "strangers": sorted({"requests", "tenacity", "urllib3"} & sys.modules.keys())}


def importing_others(options: Options) -> Numbers:
    """Milliseconds for what `import shipper` imports of the standard library and msgpack."""
    begun = time.perf_counter()
    for name in ("logging.handlers", "dataclasses", "typing", "json", "datetime", "zlib", "base64", "msgpack"):
        importlib.import_module(name)
    return {"wall": (time.perf_counter() - begun) * 1e3}


def start_and_stop(options: Options) -> Numbers:
    """Milliseconds of `start()` and, unless there are ``bytes`` of journal, of `stop()` with no events pending."""
    import shipper

    from . import backlog

    backends = _backends(options)
    spool = Path(options["folder"], "spool")
    if options.get("bytes"):
        backlog.write_bytes(spool, [backend.name for backend in backends], options["bytes"])
    begun = time.perf_counter()
    shipper.start(*backends, app="bench", spool=spool, logger="bench", spooling=shipper.Spooling(quota=8 << 30))
    started = time.perf_counter()
    backlog.wait_for(lambda: shipper.status().updated, 20)
    told = time.perf_counter()
    numbers = {"start": (started - begun) * 1e3, "running": (told - begun) * 1e3}
    if options.get("bytes"):
        return numbers
    logging.getLogger("bench").error("one")
    shipper.flush(10.0)
    time.sleep(0.5)
    begun = time.perf_counter()
    report = shipper.stop()
    return {**numbers, "stop": (time.perf_counter() - begun) * 1e3, "flushed": bool(report and report.flushed)}


def first_event(options: Options) -> Numbers:
    """`time.monotonic()` before `start()`, and ms of CPU of the shipper process until the record is delivered."""
    import shipper

    spool = os.path.join(options["folder"], "spool")
    backends = _backends(options)
    began = time.monotonic()
    shipper.start(*backends, app="bench", spool=spool)
    logging.error("the first record")
    shipper.flush(20)
    return {"began": began, "cpu": _used(shipper_pid(spool))[0] * 1e3}


def workers(options: Options) -> Numbers:
    """µs of CPU per record in ``workers`` forked workers that log at once; ``size`` bytes in each message."""
    import shipper

    backends = _backends(options)
    shipper.start(*backends, app="bench", spool=Path(options["folder"], "spool"), logger="bench")
    each = max(1, options["records"] // options["workers"])
    pipes = []
    for _ in range(options["workers"]):
        reading, writing = os.pipe()
        if os.fork() == 0:
            _work(writing, each, options.get("size", 0), options["pause"])
        os.close(writing)
        pipes.append(reading)
    used = [json.loads(_all_of(reading)) for reading in pipes]
    for _ in pipes:
        os.wait()
    return {"cpu": sum(one["cpu"] for one in used) / len(used), "dropped": sum(one["dropped"] for one in used)}


def _work(pipe: int, records: int, size: int, pause: float) -> None:
    from shipper.application.lifecycle import current

    logger = logging.getLogger("bench")
    logger.setLevel(logging.INFO)
    text = "x" * size if size else "order"
    for number in range(20):
        logger.info("%s %d", text, number)
    before = _cpu()
    for number in range(records):
        logger.info("%s %d", text, number)
        if pause and number % 50 == 49:
            time.sleep(pause)
    used = _cpu() - before
    app = current()
    drops = {} if app is None else app.queue.drops
    told = {"cpu": used / records * 1e6, "dropped": sum(sum(levels.values()) for levels in drops.values())}
    os.write(pipe, json.dumps(told).encode())
    os._exit(0)


def _all_of(pipe: int) -> bytes:
    with open(pipe, "rb") as file:
        return file.read()


QUESTIONS: dict[str, Callable[[Options], Numbers]] = {
    function.__name__: function
    for function in (
        paced, burst, trouble, deliver, bare, bare_batches, worker_memory, importing, importing_others, start_and_stop,
        first_event, workers, *otlp.CHILDREN, *pinned.CHILDREN,
    )
}

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
    os._exit(0)
