"""What a process writes about itself into the head of its mirror."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from shipper.transport.memory.life import describe_life, parse_head
from shipper.transport.memory.pipe_mirror import PipeMirror
from shipper.transport.memory.shared_file import read_origin


@pytest.mark.parametrize("character", ["a", "\n", "é", "\ud83d", "\U0001f600", "\0"], ids=ascii)
def test_the_longest_name_of_a_process_has_space_in_the_head(
    spool: Path, character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "name", character * 1000)
    mirror = PipeMirror(
        str(spool / "memory"), lambda: 0, token=b"tokentok", pid=1, spool=str(spool), life=describe_life()
    )
    (path,) = (spool / "memory").iterdir()
    head = parse_head(path.read_bytes())

    assert head.life is not None
    assert head.life.name == character * 100
    with path.open("rb") as file:
        origin = read_origin(file.fileno())
    assert origin is not None
    assert origin.spool == str(spool)
    mirror.close(is_needed=False)
