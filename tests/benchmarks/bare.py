"""Lower bound of the cost of delivery: bare scripts that make the same calls, but lose their records when killed.

`python -m tests.benchmarks.bare URL` posts each record that it reads from stdin twice, as to two services.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import urllib3

HEADERS = {"Content-Type": "application/json", "User-Agent": "bare"}


def poster(url: str) -> Callable[[bytes], None]:
    """Return a function that posts a body over one connection and reads the answer."""
    pool = urllib3.connection_from_url(url, maxsize=1)
    return lambda body: _check(pool.urlopen("POST", "/", body=body, headers=HEADERS))


def _check(answer: Any) -> None:
    if answer.status != 200:
        raise SystemExit(f"HTTP {answer.status}")


def batch(payloads: Sequence[bytes]) -> bytes:
    """Packed events as one gzipped JSON array of objects."""
    events = [{f"field{n}": value for n, value in enumerate(msgpack.unpackb(payload))} for payload in payloads]
    return gzip.compress(json.dumps(events).encode(), compresslevel=3)


def deliver(url: str) -> None:
    """Post each packed record from stdin to both services, as JSON, one after the other."""
    posts = [poster(url), poster(url)]
    unpacker = msgpack.Unpacker()
    while piece := os.read(0, 65536):
        unpacker.feed(piece)
        for values in unpacker:
            for post in posts:
                post(json.dumps(values).encode())


if __name__ == "__main__":
    deliver(sys.argv[1])
