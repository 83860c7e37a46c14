"""SHA-256 without OpenSSL, and the modules that a worker does not load."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from shipper._support.hashing import sha256_hex

from ..support.waiting import PATIENCE

FEWER = """
import sys
sys.modules.update(dict.fromkeys(["_sha2", "_sha256"]))
from shipper._support.hashing import sha256_hex
print(sha256_hex(b"shop"))
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout.strip()


@pytest.mark.parametrize("data", [b"", b"shop", bytes(range(256)) * 99])
def test_it_is_sha256(data: bytes) -> None:
    assert sha256_hex(data) == hashlib.sha256(data).hexdigest()


def test_a_python_that_was_built_without_its_own_sha256_uses_hashlib() -> None:
    assert run(FEWER) == hashlib.sha256(b"shop").hexdigest()


def test_a_worker_does_not_load_modules_it_does_not_need() -> None:
    loaded = "import sys; before = {*sys.modules}; import shipper; print(*sorted({*sys.modules} - before))"

    unused = {"_hashlib", "decimal", "gzip", "hashlib", "platform", "uuid"}
    assert unused & {*run(loaded).split()} == set()
