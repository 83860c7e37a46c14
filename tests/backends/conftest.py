"""What the backends' tests share."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_variables_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the environment's variables for proxies and CA certificates."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
