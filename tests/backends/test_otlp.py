"""The OTLP backend: its settings, OpenTelemetry's variables, its requests and what the responses mean."""

from __future__ import annotations

import contextlib
import gzip
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from shipper import ConfigurationError, Otlp, PartlyRejectedError, RetryableError
from shipper.backends.exporter import described
from shipper.backends.http.sender import Sender
from shipper.backends.otlp.requests import partial_success
from shipper.backends.protocol import AppContext
from shipper.config.environment import resolve
from shipper.event.exceptions import capture_exceptions
from shipper.event.model import Event, EventId

from ..support.servers import Reply, Request, Server

CONTEXT = AppContext("shop", "/srv/shop", "web-1", "10.0.0.7", lambda time: None)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "HEADERS", "TIMEOUT", "COMPRESSION", "PROTOCOL", "CERTIFICATE"):
        for signal in ("", "LOGS_"):
            monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal}{name}", raising=False)
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)


@contextlib.contextmanager
def opened(backend: Otlp) -> Iterator[Sender]:
    sender = Sender(described(backend))
    sender.open(CONTEXT)
    try:
        yield sender
    finally:
        sender.close()


def logged(number: int = 1, **fields: Any) -> Event:
    return Event(
        time=1_700_000_000.25, level=20, level_name="INFO", logger="shop", message=f"order {number}",
        id=EventId(b"12345678", number), **fields,
    )  # fmt: skip


def parsed(request: Request) -> Any:
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    return ExportLogsServiceRequest.FromString(body)


def test_a_batch_is_one_gzipped_protobuf_request_to_the_logs_path() -> None:
    with Server() as server, opened(Otlp(server.url, headers={"X-Scope-OrgID": "eu"})) as sender:
        answers = sender.send([logged(1), logged(2)])

        (request,) = server.requests
        assert answers == [None, None]
        assert request.line == "POST /v1/logs HTTP/1.1"
        assert request.headers["content-type"] == "application/x-protobuf"
        assert request.headers["content-encoding"] == "gzip"
        assert request.headers["x-scope-orgid"] == "eu"
        (resource_logs,) = parsed(request).resource_logs
        (scope_logs,) = resource_logs.scope_logs
        assert [record.body.string_value for record in scope_logs.log_records] == ["order 1", "order 2"]


def test_the_resource_names_the_app_the_host_and_what_the_user_says() -> None:
    with Server() as server, opened(Otlp(server.url, resource={"deployment.environment.name": "live"})) as sender:
        sender.send([logged()])

        attributes = parsed(server.requests[0]).resource_logs[0].resource.attributes
        said = {each.key: each.value.string_value for each in attributes}
        assert said["service.name"] == "shop"
        assert said["host.name"] == "web-1"
        assert said["telemetry.sdk.name"] == "shipper"
        assert said["deployment.environment.name"] == "live"


def test_an_exception_is_type_message_and_traceback() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError as error:
        event = logged(exceptions=capture_exceptions(error))

    with Server() as server, opened(Otlp(server.url)) as sender:
        sender.send([event])

        (record,) = parsed(server.requests[0]).resource_logs[0].scope_logs[0].log_records
        said = {each.key: each.value.string_value for each in record.attributes}
        assert said["exception.type"] == "KeyError"
        assert said["exception.message"] == "'missing'"
        assert said["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
        assert said["exception.stacktrace"].endswith("KeyError: 'missing'")


def test_without_compression_the_body_is_plain() -> None:
    with Server() as server, opened(Otlp(server.url, compress=False)) as sender:
        sender.send([logged()])

        assert "content-encoding" not in server.requests[0].headers
        assert len(parsed(server.requests[0]).resource_logs) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_receiver_gets_the_request_again_later(status: int) -> None:
    with Server(default=Reply(status, {"Retry-After": "7"})) as server, opened(Otlp(server.url)) as sender:
        (answer,) = sender.send([logged()])

        assert isinstance(answer, RetryableError)
        assert answer.retry_after == 7.0


@pytest.mark.parametrize("count", [1, 127, 128, 300, 70_000])
def test_a_partial_success_says_how_many_were_rejected_whatever_the_number(count: int) -> None:
    """The bytes of a number from 128 are not valid UTF-8; decoded as text, they would give another number."""
    partial = ExportLogsPartialSuccess(rejected_log_records=count, error_message="too old")
    body = ExportLogsServiceResponse(partial_success=partial).SerializeToString()

    with Server(default=Reply(body=body)) as server, opened(Otlp(server.url)) as sender:
        answer, same = sender.send([logged(1), logged(2)])

        assert isinstance(answer, PartlyRejectedError)
        assert answer is same
        assert answer.rejected == count
        assert "too old" in answer.reason


@pytest.mark.parametrize(
    "body",
    [
        b"",
        ExportLogsServiceResponse().SerializeToString(),
        ExportLogsServiceResponse(
            partial_success=ExportLogsPartialSuccess(error_message="a warning only")
        ).SerializeToString(),
        b"{}",
        b'{"partialSuccess":{}}',
        b"<html>",
    ],
    ids=["empty", "no partial success", "a warning", "json", "json partial", "html"],
)
def test_any_other_success_is_delivered(body: bytes) -> None:
    with Server(default=Reply(body=body)) as server, opened(Otlp(server.url)) as sender:
        assert sender.send([logged()]) == [None]


def test_a_response_that_is_cut_off_is_no_message() -> None:
    whole = ExportLogsServiceResponse(
        partial_success=ExportLogsPartialSuccess(rejected_log_records=300, error_message="too old")
    ).SerializeToString()

    for length in range(1, len(whole)):
        with pytest.raises(ValueError, match="cut off"):
            partial_success(whole[:length])


# Settings.


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/logs"),
        ("http://c:4318/", "http://c:4318/v1/logs"),
        ("https://c/otlp", "https://c/otlp/v1/logs"),
        ("https://c/otlp/v1/logs", "https://c/otlp/v1/logs"),
    ],
)
def test_the_signals_path_is_added_unless_it_is_there(endpoint: str, url: str) -> None:
    assert Otlp(endpoint).endpoint == url


def test_opentelemetrys_variables_say_what_keywords_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, tenant=eu")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2500")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ignored,team=shop")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "checkout")

    backend = Otlp()

    assert backend.endpoint == "http://collector:4318/v1/logs"
    assert backend.headers == (("api-key", "a b"), ("tenant", "eu"))
    assert backend.timeout == (2.5, 2.5)
    assert backend.compress is False
    assert backend.resource == (("service.name", "checkout"), ("team", "shop"))
    assert Otlp("http://other:4318").endpoint == "http://other:4318/v1/logs"
    assert Otlp(compress=True).compress is True


def test_the_signals_own_endpoint_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://c/ingest")

    assert Otlp().endpoint == "http://c/ingest"


@pytest.mark.parametrize(("text", "seconds"), [("10", 10.0), ("999", 999.0), ("1000", 1.0), ("30000", 30.0)])
def test_a_time_out_is_in_seconds_below_a_thousand_and_in_milliseconds_from_there(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", text)

    assert Otlp().timeout[1] == seconds  # type: ignore[index]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no pairs"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)

    with pytest.raises(ConfigurationError, match=variable):
        Otlp()


def test_a_collectors_grpc_port_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")

    with pytest.raises(ConfigurationError, match="4318"):
        Otlp()


@pytest.mark.parametrize(
    "wrong",
    [{"headers": 5}, {"headers": {"a": 1}}, {"headers": "x"}, {"resource": 7}, {"compress": "yes"}, {"timeout": 5}],
    ids=repr,
)
def test_a_wrong_setting_is_named_and_no_header_is_shown(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"Otlp.{next(iter(wrong))}"):
        Otlp(**wrong)


def test_it_pickles_and_its_repr_shows_no_header() -> None:
    backend = Otlp(headers={"authorization": "Bearer secret"})

    assert pickle.loads(pickle.dumps(backend)) == backend
    assert "secret" not in repr(backend)


def test_it_can_come_from_the_environment() -> None:
    environ = {"SHIPPER_OTLP_ENDPOINT": "http://c:4318", "SHIPPER_OTLP_HEADERS": "a=b", "SHIPPER_OTLP_LEVEL": "error"}

    (backend,) = resolve((), {}, environ).backends

    assert isinstance(backend, Otlp)
    assert (backend.endpoint, backend.headers, backend.level) == ("http://c:4318/v1/logs", (("a", "b"),), 40)


def test_opentelemetrys_endpoint_alone_is_no_wish_to_ship_there() -> None:
    with pytest.raises(ConfigurationError, match="SHIPPER_BACKENDS=otlp"):
        resolve((), {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})
