"""Dead letters: one JSON line per event that a backend will never take."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from shipper.delivery.dead.writer import DeadLetters
from shipper.errors import RejectedError
from shipper.event.exceptions import ExceptionInfo, Frame
from shipper.event.model import Event, EventId

REASON = RejectedError("HTTP 400", status=400, body="no")


def number(seq: int) -> EventId:
    return EventId(b"\x01\x02\x03\x04\x05\x06\x47\x08", seq)


def lines(path: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_dead_letter_holds_event_status_body_and_time(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), "trakerr", limit=1 << 20)
    failed = ExceptionInfo("raised", "builtins.ValueError", "ValueError", "no", [Frame("app.py", 3, "main")])

    letters.write(number(7), Event(message="péché", extra={"raw": b"\xff"}, exceptions=[failed], id=number(7)), REASON)

    (letter,) = lines(letters.path)
    assert os.path.basename(letters.path) == "trakerr.ndjson"
    assert (letter["id"], letter["backend"]) == ("0102030405064708-7", "trakerr")
    assert (letter["reason"], letter["status"], letter["body"]) == ("HTTP 400", 400, "no")
    event = letter["event"]
    assert isinstance(event, dict)
    assert (event["message"], event["extra"], event["id"]) == ("péché", {"raw": "\\xff"}, "0102030405064708-7")
    assert event["exceptions"][0]["frames"] == [["app.py", 3, "main"]]
    assert isinstance(letter["time"], float)


def test_only_the_owner_can_read_dead_letters(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), "jkool", limit=1 << 20)

    letters.write(number(1), Event(), REASON)

    assert os.stat(letters.path).st_mode & 0o777 == 0o600


def test_a_link_in_place_of_the_file_is_renamed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    letters = DeadLetters(str(tmp_path), "jkool", limit=1 << 20)
    os.symlink(elsewhere, letters.path)

    letters.write(number(1), Event(), REASON)

    assert [letter["id"] for letter in lines(letters.path)] == [str(number(1))]
    assert elsewhere.read_text() == ""
    (aside,) = tmp_path.glob("*.foreign")
    assert aside.is_symlink()


def test_when_they_outgrow_their_limit_the_older_half_is_kept_aside_and_what_is_older_goes(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), "jkool", limit=20_000)

    for seq in range(100):
        letters.write(number(seq), Event(message="x" * 500), REASON)

    kept = [*lines(f"{letters.path}.1"), *lines(letters.path)]
    assert [letter["id"] for letter in kept] == [str(number(seq)) for seq in range(100 - len(kept), 100)]
    assert 10_000 < sum(path.stat().st_size for path in tmp_path.iterdir()) <= 20_000


def test_several_threads_lose_none(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), "jkool", limit=200_000)

    def bury(first: int) -> None:
        for seq in range(first, first + 25):
            letters.write(number(seq), Event(message="x" * 300), REASON)

    threads = [threading.Thread(target=bury, args=(25 * k,)) for k in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    files = [path for path in (f"{letters.path}.1", letters.path) if os.path.exists(path)]
    assert sorted(str(letter["id"]) for path in files for letter in lines(path)) == sorted(
        map(str, map(number, range(100)))
    )


def test_half_a_line_is_taken_back_when_the_disk_is_full(tmp_path: Path) -> None:
    letters = DeadLetters(str(tmp_path), "jkool", limit=1 << 20)
    letters.write(number(1), Event(), REASON)
    size = os.stat(letters.path).st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, before[1]))
        with pytest.raises(OSError, match="No space left"):
            letters.write(number(2), Event(), REASON)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

    letters.write(number(3), Event(), REASON)
    assert [letter["id"] for letter in lines(letters.path)] == [str(number(1)), str(number(3))]
