"""What names a text in a few digits, without the megabytes of OpenSSL that `hashlib` loads into every worker."""

from __future__ import annotations

from typing import Any


def _lean_sha256() -> Any:
    for module in ("_sha2", "_sha256"):  # since Python 3.12, and before; some builds have neither
        try:
            return __import__(module).sha256
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


_sha256 = _lean_sha256()


def fingerprint(data: bytes) -> str:
    """SHA-256, 64 hex digits."""
    found: str = _sha256(data).hexdigest()
    return found
