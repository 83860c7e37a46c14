"""The integrations, each with the real framework: every event names its request or task; each failure comes once."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from shipper.event.model import Event
from shipper.integrations.asgi import ShipperMiddleware as AsgiMiddleware
from shipper.integrations.wsgi import ShipperMiddleware as WsgiMiddleware

from ..support.needs import need
from ..support.shipped import Shipped

log = logging.getLogger("test.frameworks")


@pytest.fixture
def shipped() -> Iterator[Shipped]:
    with Shipped() as events:
        yield events


def of(events: Shipped, message: str) -> Event:
    (found,) = [event for event in events.all() if event.message == message]
    return found


# ASGI.


async def call_asgi(app: Any, path: str = "/orders/17", headers: Any = (), kind: str = "http") -> list[Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": list(headers),
        "client": ("127.0.0.1", 5), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return sent


async def answering(scope: Any, receive: Any, send: Any) -> None:
    log.info("working")
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no such order")


def test_asgi_binds_the_request_and_unbinds_it(shipped: Shipped) -> None:
    app = AsgiMiddleware(answering, log_requests=True)

    sent = asyncio.run(call_asgi(app, headers=[(b"x-request-id", b"abc-1")]))
    log.info("outside")

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    expected = {"request_id": "abc-1", "method": "GET", "path": "/orders/17"}
    assert of(shipped, "working").context == expected
    line = of(shipped, "GET /orders/17 201")
    assert line.context == expected
    assert line.extra["status"] == 201
    assert line.extra["duration_ms"] >= 0
    assert of(shipped, "outside").context == {}


def test_asgi_logs_an_unhandled_exception_once_through_two_middlewares(shipped: Shipped) -> None:
    app = AsgiMiddleware(AsgiMiddleware(failing))

    with pytest.raises(ValueError, match="no such order"):
        asyncio.run(call_asgi(app))

    failure = of(shipped, "unhandled exception")
    assert failure.level == logging.ERROR
    assert failure.exceptions[0].message == "no such order"
    assert failure.context["path"] == "/orders/17"


@pytest.mark.parametrize("server", ["uvicorn.error", "gunicorn.error", "hypercorn.error"])
def test_a_server_that_logs_an_exception_again_ships_it_once(server: str, shipped: Shipped) -> None:
    with pytest.raises(ValueError, match="no such order") as raised:
        asyncio.run(call_asgi(AsgiMiddleware(failing)))
    logging.getLogger(server).error("Exception in ASGI application", exc_info=raised.value)
    logging.getLogger(server).error("Exception in ASGI application", exc_info=ValueError("of the server"))

    failures = [event for event in shipped.all() if event.exceptions]
    assert [event.message for event in failures] == ["unhandled exception", "Exception in ASGI application"]
    assert failures[1].exceptions[0].message == "of the server"


def test_what_a_server_logs_is_shipped_where_the_middlewares_record_is_not(shipped: Shipped) -> None:
    logging.getLogger("shipper.request").disabled = True
    try:
        with pytest.raises(ValueError, match="no such order") as raised:
            asyncio.run(call_asgi(AsgiMiddleware(failing)))
    finally:
        logging.getLogger("shipper.request").disabled = False
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=raised.value)

    assert of(shipped, "Exception in ASGI application").exceptions[0].message == "no such order"


@pytest.mark.parametrize("given", [b"", b"x" * 200, b"a b", b"<script>"], ids=["none", "long", "blank", "markup"])
def test_a_request_id_that_is_not_plain_is_replaced(given: bytes, shipped: Shipped) -> None:
    asyncio.run(call_asgi(AsgiMiddleware(answering), headers=[(b"x-request-id", given)]))

    found = of(shipped, "working").context["request_id"]
    assert len(found) == 32
    assert int(found, 16) >= 0


def test_asgi_leaves_a_lifespan_alone(shipped: Shipped) -> None:
    asyncio.run(call_asgi(AsgiMiddleware(answering), kind="lifespan"))

    assert of(shipped, "working").context == {}


def test_requests_at_the_same_time_do_not_mix(shipped: Shipped) -> None:
    async def main() -> None:
        app = AsgiMiddleware(answering)
        await asyncio.gather(*(call_asgi(app, f"/{number}") for number in range(20)))

    asyncio.run(main())

    paths = [event.context["path"] for event in shipped.all() if event.message == "working"]
    assert sorted(paths) == sorted(f"/{number}" for number in range(20))


def test_fastapi_knows_the_route(shipped: Shipped) -> None:
    need(importlib.util.find_spec("fastapi"), "fastapi")
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/orders/{number}")
    def order(number: int) -> int:
        log.info("working")
        return 1 // number

    app.add_middleware(AsgiMiddleware, log_requests=True)
    asyncio.run(call_asgi(app, "/orders/1"))
    with pytest.raises(ZeroDivisionError):
        asyncio.run(call_asgi(app, "/orders/0"))

    assert of(shipped, "GET /orders/1 200").extra["route"] == "/orders/{number}"
    failures = [event for event in shipped.all() if event.message == "unhandled exception"]
    assert [failure.exceptions[0].name for failure in failures] == ["ZeroDivisionError"]


# WSGI.


def call_wsgi(app: Any, path: str = "/orders/17") -> tuple[str, bytes]:
    answered: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "HTTP_X_REQUEST_ID": "abc-1"}
    body = app(environ, lambda status, headers: answered.append(status))
    try:
        return answered[0], b"".join(body)
    finally:
        body.close()


def test_wsgi_binds_the_request_while_the_body_is_read_too(shipped: Shipped) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        log.info("called")
        start_response("200 OK", [])
        return pieces()

    def pieces() -> Iterator[bytes]:
        log.info("first piece")
        yield b"a"
        log.info("second piece")
        yield b"b"

    assert call_wsgi(WsgiMiddleware(app, log_requests=True)) == ("200 OK", b"ab")
    log.info("outside")

    expected = {"request_id": "abc-1", "method": "GET", "path": "/orders/17"}
    for message in ("called", "first piece", "second piece", "GET /orders/17 200"):
        assert of(shipped, message).context == expected
    assert of(shipped, "outside").context == {}


def test_wsgi_logs_an_unhandled_exception_once(shipped: Shipped) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        raise ValueError("no such order")

    with pytest.raises(ValueError, match="no such order"):
        call_wsgi(WsgiMiddleware(WsgiMiddleware(app)))

    assert of(shipped, "unhandled exception").exceptions[0].message == "no such order"


def test_flask_binds_the_request_and_its_own_failure_arrives_once(shipped: Shipped) -> None:
    need(importlib.util.find_spec("flask"), "flask")
    from flask import Flask

    from shipper.integrations.flask import ShipperFlask

    app = Flask("shop")
    ShipperFlask(app)

    @app.get("/orders/<int:number>")  # type: ignore[untyped-decorator]
    def order(number: int) -> str:
        log.info("working")
        return str(1 // number)

    with app.test_client() as client:
        assert client.get("/orders/1", headers={"X-Request-ID": "abc-1"}).status_code == 200
        assert client.get("/orders/0").status_code == 500
    log.info("outside")

    first = next(event for event in shipped.all() if event.message == "working")
    assert first.context == {"request_id": "abc-1", "method": "GET", "path": "/orders/1", "endpoint": "order"}
    (failure,) = [event for event in shipped.all() if event.exceptions]
    assert failure.exceptions[0].name == "ZeroDivisionError"
    assert failure.context["path"] == "/orders/0"
    assert of(shipped, "outside").context == {}


def test_flask_in_debug_mode_ships_the_failure_that_it_passes_on_to_the_debugger(shipped: Shipped) -> None:
    need(importlib.util.find_spec("flask"), "flask")
    from flask import Flask

    from shipper.integrations.flask import ShipperFlask

    app = Flask("shop")
    app.debug = True
    ShipperFlask(app)
    app.add_url_rule("/orders/<int:number>", view_func=lambda number: str(1 // number), endpoint="order")

    with app.test_client() as client, pytest.raises(ZeroDivisionError):
        client.get("/orders/0")

    (failure,) = [event for event in shipped.all() if event.exceptions]
    assert failure.exceptions[0].name == "ZeroDivisionError"
    assert failure.context["path"] == "/orders/0"


# structlog and loguru.


def test_structlog_s_values_are_typed_extras(shipped: Shipped) -> None:
    need(importlib.util.find_spec("structlog"), "structlog")
    import structlog

    from shipper.integrations.structlog import ship_event

    logger = structlog.wrap_logger(
        structlog.PrintLogger(file=io.StringIO()),
        processors=[ship_event, structlog.processors.JSONRenderer()],
    )
    logger = logger.bind(order=17)
    logger.warning("late", customer="jill")
    try:
        raise ValueError("no such order")
    except ValueError:
        logger.exception("failed")
        logger.error("failed too", exc_info=True)

    late = of(shipped, "late")
    assert (late.level, late.extra, late.path) == (30, {"order": 17, "customer": "jill"}, __file__)
    assert of(shipped, "failed").exceptions[0].message == "no such order"
    assert of(shipped, "failed too").exceptions[0].message == "no such order"


def test_loguru_s_bound_values_stay_typed_and_the_exception_structured(shipped: Shipped) -> None:
    need(importlib.util.find_spec("loguru"), "loguru")
    import loguru

    from shipper.integrations.loguru import sink

    number = loguru.logger.add(sink, level="INFO")
    try:
        loguru.logger.bind(order=17).success("paid by {}", "jill")
        try:
            raise ValueError("no such order")
        except ValueError:
            loguru.logger.exception("failed")
    finally:
        loguru.logger.remove(number)

    paid = of(shipped, "paid by jill")
    assert (paid.level, paid.level_name, paid.extra, paid.path) == (25, "SUCCESS", {"order": 17}, __file__)
    assert of(shipped, "failed").exceptions[0].message == "no such order"
