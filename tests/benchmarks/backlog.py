"""A spool with events waiting in it, as a shipper process leaves it behind."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

from shipper.application.capture.record import from_record
from shipper.event.truncate import pack
from shipper.journal.segments import segment_path
from shipper.spool.layout import Spool
from shipper.transport import frame
from shipper.transport.channel import new_token

from .peers import NAME, TEXT

SEGMENT = 16 * 1024 * 1024
_PID = 2**22 + 1  # larger than any pid: no such process


def payload(number: int, *, padding: int = 0, level: int = logging.ERROR) -> bytes:
    """The record that all measurements use, packed."""
    arguments = (number, f"customer-{number % 977}", number * 0.37 % 250)
    record = logging.LogRecord(NAME, level, "/srv/shop/orders.py", 17, TEXT, arguments, None, "process")
    record.__dict__.update(amount=number * 0.01, region="eu-1")
    if padding:
        record.__dict__["padding"] = "x" * padding
    return pack(from_record(record))


def prepare(path: Path, backends: Sequence[str]) -> Spool:
    """Make an empty spool with a cursor for each backend at its start, so that they get everything written later."""
    spool = Spool(str(path))
    spool.prepare()
    for name in backends:
        _write_json(Path(spool.cursors, f"{name}.json"), _CURSOR)
    return spool


_CURSOR = {"segment": 1, "offset": 0, "base": 0, "counts": {}, "dropped": {}}


def write(path: Path, backends: Sequence[str], events: int) -> int:
    """Write ``events`` events, none of them settled; return their bytes in the journal."""
    spool = prepare(path, backends)
    token = new_token()
    total = number = 0
    segment: list[bytes] = []
    size = 0
    for seq in range(events):
        pieces = frame.encode(payload(seq), token=token, seq=seq, pid=_PID, level=logging.ERROR)
        segment += pieces
        size += sum(map(len, pieces))
        if size >= SEGMENT or seq == events - 1:
            number += 1
            _write(segment_path(spool.journal, number), b"".join(segment))
            total, size, segment = total + size, 0, []
    return total


def write_bytes(path: Path, backends: Sequence[str], wanted: int) -> int:
    """Write about ``wanted`` bytes of events, in the account but not delivered; return how many bytes were written."""
    spool = prepare(path, backends)
    token = new_token()
    pieces: list[bytes] = []
    size = seq = 0
    while size < min(wanted, SEGMENT):
        pieces += frame.encode(payload(seq), token=token, seq=seq, pid=_PID, level=logging.ERROR)
        size += len(pieces[-1])
        seq += 1
    data = b"".join(pieces)
    count = max(1, round(wanted / SEGMENT))
    for number in range(1, count + 1):
        _write(segment_path(spool.journal, number), data)
    _write_json(Path(spool.ledger), _ledger(count, len(data), seq * count))
    return len(data) * count


def _ledger(segment: int, offset: int, journaled: int) -> dict[str, object]:
    counts = {"journaled": journaled, "doubles": 0, "corrupt": 0, "corrupt_bytes": 0, "levels": {"ERROR": journaled}}
    return {"segment": segment, "offset": offset, **counts, "past_drops": {}, "past_missing": 0, "processes": {}}


def _write_json(path: Path, data: object) -> None:
    _write(str(path), json.dumps(data).encode())


def _write(path: str, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)


def wait_for(condition: object, seconds: float) -> bool:
    """Whether ``condition()`` became true within ``seconds``; it is called every 5 ms."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if callable(condition) and condition():
            return True
        time.sleep(0.005)
    return False
