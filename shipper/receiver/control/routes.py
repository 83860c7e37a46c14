"""The page and the control endpoints, for browsers and programs. `openapi` describes them."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ...errors import ConfigurationError
from ..faults import Faults, fault_from_json
from ..services.service import JSON_TYPE
from ..store.events import Store
from . import answers, openapi, pages, parameters, stream


class Control:
    """The page, and the endpoints that it and tests use."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def application(self) -> Starlette:
        routes = [Route(path, self._page, methods=["GET"]) for path in pages.files()]
        for method, path, endpoint in (
            ("GET", "counts", self._counts),
            ("GET", "keys", self._keys),
            ("GET", "events", self._events),
            ("DELETE", "events", self._clear),
            ("GET", "events/{number:int}", self._event),
            ("GET", "records", self._records),
            ("GET", "records/{name}", self._record),
            ("GET", "records/{name}/related", self._related),
            ("GET", "requests", self._requests),
            ("GET", "faults", self._list_faults),
            ("POST", "faults", self._add_faults),
            ("DELETE", "faults", self._clear_faults),
            ("GET", "stream", self._stream),
            ("GET", "openapi.json", self._openapi),
        ):
            routes.append(Route(f"/_control/{path}", endpoint, methods=[method]))
        return Starlette(routes=routes, exception_handlers={ConfigurationError: _refuse})

    async def _page(self, request: Request) -> Response:
        content, media_type = pages.content(request.url.path)
        return Response(content, headers={**answers.HEADERS, "Content-Type": media_type})

    async def _counts(self, request: Request) -> Response:
        return answers.value(self._store.counts())

    async def _keys(self, request: Request) -> Response:
        return answers.value(self._store.keys(parameters.service(request)))

    async def _events(self, request: Request) -> Response:
        events = self._store.events(
            parameters.service(request),
            text=request.query_params.get("q", ""),
            level=parameters.level(request),
            after=parameters.number(request, "after"),
            before=parameters.number(request, "before"),
            limit=parameters.number_or(request, "limit", 100),
            bodies=request.query_params.get("bodies", "1") != "0",
        )
        return answers.text("[" + ", ".join(map(answers.event, events)) + "]")

    async def _event(self, request: Request) -> Response:
        number = int(request.path_params["number"])
        event = self._store.event(number) if number < 2**63 else None
        return answers.refusal("no such event", 404) if event is None else answers.text(answers.event(event))

    async def _clear(self, request: Request) -> Response:
        self._store.clear()
        return answers.value(self._store.counts())

    async def _records(self, request: Request) -> Response:
        since, until = parameters.seconds(request, "since"), parameters.seconds(request, "until")
        text, after = request.query_params.get("q", ""), parameters.number(request, "after")
        if after is not None:
            return answers.value({"total": self._store.records.count_after(text, after, since, until)})
        found = self._store.records.find(
            text,
            since=since,
            until=until,
            pin=parameters.number(request, "pin"),
            offset=parameters.number_or(request, "offset", 0),
            limit=parameters.number_or(request, "limit", 100),
            buckets=parameters.number_or(request, "buckets", 0),
        )
        return answers.value(found)

    async def _record(self, request: Request) -> Response:
        return _known(self._store.records.one(request.path_params["name"]))

    async def _related(self, request: Request) -> Response:
        return _known(self._store.records.related(request.path_params["name"]))

    async def _requests(self, request: Request) -> Response:
        found = self._store.records.requests(
            parameters.service(request),
            failed=request.query_params.get("failed", "") not in ("", "0"),
            before=parameters.number(request, "before"),
            limit=parameters.number_or(request, "limit", 100),
        )
        return answers.value(found)

    async def _list_faults(self, request: Request) -> Response:
        return answers.value(self._faults.left())

    async def _add_faults(self, request: Request) -> Response:
        # A browser sends this type to another site only when that site agrees beforehand.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
            return answers.refusal(f"Content-Type must be {JSON_TYPE}")
        try:
            given = await request.json()
            faults = [fault_from_json(each) for each in (given if isinstance(given, list) else [given])]
        except (ValueError, RecursionError) as exc:
            return answers.refusal(str(exc))
        self._faults.add(faults)
        self._store.changes.tell()
        return answers.value(self._faults.left())

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        self._store.changes.tell()
        return answers.value([])

    async def _stream(self, request: Request) -> Response:
        sent = stream.messages(self._store, self._faults)
        return StreamingResponse(sent, media_type="text/event-stream", headers=answers.HEADERS)

    async def _openapi(self, request: Request) -> Response:
        return answers.value(openapi.description())


async def _refuse(request: Request, exc: Exception) -> Response:
    return answers.refusal(str(exc))


def _known(found: dict[str, Any] | None) -> Response:
    return answers.refusal("no such record", 404) if found is None else answers.value(found)
