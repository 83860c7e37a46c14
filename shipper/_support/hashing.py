"""SHA-256 without `hashlib`, which loads megabytes of OpenSSL into every worker."""

from __future__ import annotations

import sys
from typing import Any


def _sha256_constructor() -> Any:
    if "hashlib" in sys.modules:  # the application has loaded it
        import hashlib

        return hashlib.sha256
    for module in ("_sha2", "_sha256"):  # Python 3.12 and later, earlier ones; some builds have neither
        try:
            return __import__(module).sha256
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256


_sha256 = _sha256_constructor()


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of the data, as 64 hex digits."""
    digest: str = _sha256(data).hexdigest()
    return digest
