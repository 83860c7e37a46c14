"""The generic JSON backend: templates, framing, and what receivers of each kind accept."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest

from shipper import ConfigurationError, Http, RejectedError
from shipper.backends.exporter import described
from shipper.backends.http.sender import Sender
from shipper.backends.http_json.template import MISSING, compile_template
from shipper.backends.protocol import AppContext
from shipper.config.environment import resolve
from shipper.event.exceptions import ExceptionInfo
from shipper.event.model import Event, EventId

from ..support.servers import Reply, Request, Server

CONTEXT = AppContext("shop", "/srv/shop", "web-1", "10.0.0.7", lambda time: None)


def logged(number: int = 1, **fields: Any) -> Event:
    said: dict[str, Any] = {"level": 40, "level_name": "ERROR", "logger": "shop", "message": f"order {number}"}
    return Event(time=1_700_000_000.25, pid=7, id=EventId(b"12345678", number), **said | fields)


@contextlib.contextmanager
def opened(backend: Http) -> Iterator[Sender]:
    sender = Sender(described(backend))
    sender.open(CONTEXT)
    try:
        yield sender
    finally:
        sender.close()


def text_of(request: Request) -> str:
    assert request.headers["content-encoding"] == "gzip"
    return gzip.decompress(request.body).decode()


# Templates.


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{level}", 40),
        ("{level_name}: {message}", "ERROR: order 1"),
        ("{time_ns}", "1700000000250000000"),
        ("{time_ms}", 1700000000250),
        ("{iso}", "2023-11-14T22:13:20.250000Z"),
        ("{{{level}}}", "{40}"),
        ("{fields}", {"user": "jill", "order": 17}),
        ("{extra.order}", 17),
        ("{context.user}", "jill"),
        ("user {fields.user}", "user jill"),
        ("nobody {extra.nobody}", "nobody "),
        ({"a": ["{app}", "{host}"], "gone": "{extra.nobody}", "b": None}, {"a": ["shop", "web-1"], "b": None}),
        ({"n": 1.5, "t": True}, {"n": 1.5, "t": True}),
        ("{severity}", "error"),
        ("{exception}", MISSING),
    ],
    ids=lambda each: "nothing" if each is MISSING else repr(each),
)
def test_a_placeholder_alone_keeps_its_type_and_in_a_text_becomes_text(template: Any, value: Any) -> None:
    event = logged(extra={"order": 17}, context={"user": "jill"})

    assert compile_template("t", template)(event, CONTEXT) == value


def test_an_exceptions_parts_have_placeholders() -> None:
    event = logged(exceptions=[ExceptionInfo("raised", "builtins.KeyError", "KeyError", "'x'")])
    template = {"type": "{exception_type}", "message": "{exception_message}", "text": "{exception}"}

    assert compile_template("t", template)(event, CONTEXT) == {
        "type": "builtins.KeyError",
        "message": "'x'",
        "text": "KeyError: 'x'",
    }


@pytest.mark.parametrize("template", ["{nothing}", "{", "}", "{ level }", {"a": ["{whatever.x}"]}, b"bytes"], ids=repr)
def test_a_wrong_template_is_a_wrong_setting(template: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Http\.record"):
        Http("http://h/", record=template)


# What the receivers of the documentation accept.


def test_lines_by_default_as_vector_and_fluent_bit_take_them() -> None:
    with Server() as server, opened(Http(server.url)) as sender:
        assert sender.send([logged(1), logged(2)]) == [None, None]

        (request,) = server.requests
        assert request.headers["content-type"] == "application/x-ndjson"
        records = [json.loads(line) for line in text_of(request).splitlines()]
        assert [record["message"] for record in records] == ["order 1", "order 2"]
        assert records[0]["timestamp"] == "2023-11-14T22:13:20.250000Z"
        assert "exception" not in records[0]


def test_an_array_as_http_inputs_take_it() -> None:
    with Server() as server, opened(Http(server.url, framing="array", record={"m": "{message}"})) as sender:
        sender.send([logged(1), logged(2)])

        assert server.requests[0].headers["content-type"] == "application/json"
        assert json.loads(text_of(server.requests[0])) == [{"m": "order 1"}, {"m": "order 2"}]


def test_loki_gets_streams_with_nanoseconds_and_lines() -> None:
    backend = Http(
        "http://127.0.0.1:1/loki/api/v1/push",
        framing="array",
        record=["{time_ns}", "{level_name} {logger} {message}"],
        envelope={"streams": [{"stream": {"app": "{app}", "host": "{host}"}, "values": "{events}"}]},
    )

    body = json.loads(gzip.decompress(described(backend).body([logged(1), logged(2)], CONTEXT)))

    assert body == {
        "streams": [
            {
                "stream": {"app": "shop", "host": "web-1"},
                "values": [
                    ["1700000000250000000", "ERROR shop order 1"],
                    ["1700000000250000000", "ERROR shop order 2"],
                ],
            }
        ]
    }


def test_elasticsearch_gets_an_action_before_each_document_and_its_errors_count() -> None:
    backend = {
        "prefix": {"create": {"_index": "logs", "_id": "{id}"}},
        "record": {"@timestamp": "{iso}", "message": "{message}"},
        "refused_by": '"errors":true',
    }
    errors = Reply(body=b'{"took":3,"errors":true,"items":[]}')
    with Server([Reply(body=b'{"took":3,"errors":false}')], default=errors) as server:
        with opened(Http(server.url, **backend)) as sender:  # type: ignore[arg-type]
            good, bad = sender.send([logged(1)]), sender.send([logged(2)])

        action, document = map(json.loads, text_of(server.requests[0]).splitlines())
        assert action == {"create": {"_index": "logs", "_id": logged(1).id.uuid_text}}  # type: ignore[union-attr]
        assert document["message"] == "order 1"
        assert good == [None]
        assert isinstance(bad[0], RejectedError)


def test_splunk_gets_its_token_and_an_object_per_event() -> None:
    record = {"time": "{time}", "host": "{host}", "source": "{app}", "event": {"message": "{message}"}}
    with Server() as server:
        with opened(Http(server.url, headers={"Authorization": "Splunk t0ken"}, record=record)) as sender:
            sender.send([logged(1)])

        assert server.requests[0].headers["authorization"] == "Splunk t0ken"
        assert json.loads(text_of(server.requests[0])) == {
            "time": 1700000000.25,
            "host": "web-1",
            "source": "shop",
            "event": {"message": "order 1"},
        }


# Settings.


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        ({"url": "host"}, "Http.url"),
        ({"framing": "xml"}, "Http.framing"),
        ({"prefix": {}, "framing": "array"}, "Http.prefix"),
        ({"envelope": {}}, "Http.envelope"),
        ({"headers": {"a": 1}}, "Http.headers"),
        ({"max_events": 0}, "Http.max_events"),
    ],
    ids=lambda each: str(each),
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        Http(**{"url": "http://h/", **wrong})


def test_it_can_come_from_the_environment_with_its_templates_as_json() -> None:
    environ = {
        "SHIPPER_HTTP_URL": "http://h/",
        "SHIPPER_HTTP_RECORD": '{"m": "{message}"}',
        "SHIPPER_HTTP_HEADERS": "x-key=1",
    }

    (backend,) = resolve((), {}, environ).backends

    assert backend == Http("http://h/", record={"m": "{message}"}, headers={"x-key": "1"})
    assert "x-key" not in repr(backend)
