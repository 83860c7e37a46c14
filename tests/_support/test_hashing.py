"""What names a text in a few digits, and what a worker does not load for it."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from shipper._support.hashing import sha256_hex

FEWER = """
import sys
sys.modules.update(dict.fromkeys(["_sha2", "_sha256"]))
from shipper._support.hashing import sha256_hex
print(sha256_hex(b"shop"))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


@pytest.mark.parametrize("data", [b"", b"shop", bytes(range(256)) * 99])
def test_it_is_sha256(data: bytes) -> None:
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


def test_a_python_that_was_built_without_its_own_sha256_uses_hashlib() -> None:
    assert run(FEWER) == hashlib.sha256(b"shop").hexdigest()


def test_a_worker_that_ships_does_not_load_what_it_has_no_use_for() -> None:
    loaded = "import sys; before = {*sys.modules}; import shipper; print(*sorted({*sys.modules} - before))"

    unused = {"_hashlib", "ast", "dataclasses", "decimal", "gzip", "hashlib", "inspect", "platform", "uuid"}
    assert unused & {*run(loaded).split()} == set()
