"""A receiver that runs in another process or container, through its control endpoints."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from ..errors import ConfigurationError


class RemoteReceiver:
    """The calls of `Receiver` for one that runs elsewhere.

    ``page``: the link that ``shipper receiver`` prints, with its token if it has one. ``timeout``: seconds for one
    answer. Calls raise ConfigurationError for what the receiver refuses, and OSError when it does not answer.
    """

    def __init__(self, page: str, timeout: float = 10.0) -> None:
        parts = urlsplit(page)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigurationError("page", page, "a link such as http://localhost:8787/?token=…")
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._token = parse_qs(parts.query).get("token", [None])[0]
        self._timeout = timeout
        # Without the proxies of the environment.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def trakerr_url(self) -> str:
        return f"{self.url}/api/v1"

    @property
    def jkool_url(self) -> str:
        return self.url

    @property
    def otlp_url(self) -> str:
        return self.url

    def counts(self) -> dict[str, dict[str, int]]:
        counts: dict[str, dict[str, int]] = self._ask("GET", "counts")
        return counts

    def keys(self, service: str | None = None) -> list[str]:
        keys: list[str] = self._ask("GET", "keys", service=service)
        return keys

    def events(
        self,
        service: str | None = None,
        *,
        text: str = "",
        level: str = "",
        after: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        given = {"service": service, "q": text, "level": level, "after": after, "limit": limit}
        events: list[dict[str, Any]] = self._ask("GET", "events", **given)
        return events

    def requests(self, service: str | None = None, *, failed: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        given = {"service": service, "failed": "1" if failed else None, "limit": limit}
        requests: list[dict[str, Any]] = self._ask("GET", "requests", **given)
        return requests

    def fail(self, service: str | None = None, **fault: Any) -> None:
        """Append a fault, with the fields of `shipper.receiver.Receiver.fail`."""
        self._ask("POST", "faults", {"service": service, **fault})

    def recover(self) -> None:
        self._ask("DELETE", "faults")

    def clear(self) -> None:
        self._ask("DELETE", "events")

    def _ask(self, method: str, path: str, body: object = None, **query: object) -> Any:
        given = urlencode({name: value for name, value in query.items() if value not in (None, "")})
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.url}/_control/{path}?{given}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                reason = json.loads(error.read() or b"{}").get("error", error.reason)
            raise ConfigurationError("receiver", self.url, reason) from None
