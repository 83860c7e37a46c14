"""An encoder process: reads parts of the journal, and makes the requests that deliver them to one backend.

It only reads: it writes no file and sends nothing to the backend. It ends when the shipper process ends, or kills it.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import NoReturn

from ...backends.protocol import AppContext, HttpBackend
from ...delivery.lending.part import PartReader, Request
from ...event.model import Event
from ...event.redact import Redactor
from ...transport import frame
from ..system.load_samples import Samples, nearest
from ..system.title import set_title
from .channel import Channel
from .job import Job, Part, requests_of


class Worker:
    """Makes the requests of one backend, as the shipper process would."""

    def __init__(self, job: Job) -> None:
        self._samples: Samples = ([], [])
        self._backend: HttpBackend = requests_of(job.description)
        mask = Redactor(job.redact).mask_text
        self._context = AppContext(job.app, job.cwd, job.host, job.address, self._load, mask)
        self._reader = PartReader(
            job.journal,
            self._encode,
            name=self._backend.name,
            level=frame.clip(self._backend.level),
            takes_all=job.takes_all,
            most_events=job.max_events,
            max_bytes=job.max_bytes,
        )

    def _load(self, time: float) -> tuple[float, float] | None:
        return nearest(self._samples, time)

    def _encode(self, events: Sequence[Event]) -> tuple[Mapping[str, str], bytes]:
        return dict(self._backend.request_headers(events)), self._backend.body(events, self._context)

    def requests(self, part: Part) -> Iterator[Request]:
        """The requests of a part. Raises what `PartReader.read` does."""
        self._samples = part.samples
        return self._reader.read(part.start, part.end)


def main(reading: int, writing: int) -> NoReturn:
    """Run the encoder process, then exit. The arguments are the descriptors of a channel to the shipper process."""
    set_title(sys.argv[-1])
    gc.set_threshold(50_000, 20, 100)  # as in the shipper process
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service's processes all get it: then the shipper process drains
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the mask is inherited, and blocks some signals
    shipper_process = Channel(reading, writing)
    worker = Worker(shipper_process.receive())
    received: SimpleQueue[Part] = SimpleQueue()
    threading.Thread(target=_receive, args=(shipper_process, received), daemon=True).start()
    while True:
        part = received.get()
        try:
            for request in worker.requests(part):
                shipper_process.send((part.number, request))
                if not received.empty():  # another part was requested: the rest of this one is not needed
                    break
        except BrokenPipeError:
            os._exit(0)
        except Exception:
            pass  # the shipper process encodes the rest itself, and meets the same error
        shipper_process.send((part.number, None))


def _receive(shipper_process: Channel, received: SimpleQueue[Part]) -> None:
    """Receive parts in a thread of its own, so that this process ends with the shipper process while encoding, too."""
    try:
        while True:
            received.put(shipper_process.receive())
    except (EOFError, OSError):
        os._exit(0)
