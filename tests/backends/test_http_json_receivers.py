"""The documentation's examples, unchanged except for the address, against servers that check as each receiver does."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shipper.backends import http_json

from ..support.servers import Reply, Request, Server
from ..support.waiting import PATIENCE

DOCUMENT = Path(http_json.__file__).with_name("README.md")
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
ADDRESS = re.compile(r"https?://localhost:\d+")
MESSAGE = "order 17 is late"


class NotAcceptedError(Exception):
    """The receiver would respond to this request with 400."""


def require(condition: object, reason: str) -> None:
    if not condition:
        raise NotAcceptedError(reason)


def content(request: Request) -> str:
    packed = request.headers.get("content-encoding")
    require(packed in (None, "gzip"), f"content encoding {packed}")
    return (gzip.decompress(request.body) if packed else request.body).decode()


def vector(request: Request) -> list[str]:
    """Check as Vector's `http_server` source with codec `json`, framing `newline_delimited`. Return the messages."""
    records = [json.loads(line) for line in content(request).splitlines()]
    require(all(isinstance(record, dict) for record in records), "an event is an object")
    return [record["message"] for record in records]


def fluent_bit(request: Request) -> list[str]:
    """Check as Fluent Bit's `http` input: an uncompressed array of objects; the path is the tag. Return messages."""
    require(request.headers["content-type"] == "application/json", "content type")
    require("content-encoding" not in request.headers, "compressed")
    require(request.target == "/shop.log", "no tag")
    records = json.loads(content(request))
    require(isinstance(records, list) and all(isinstance(record, dict) for record in records), "no array of objects")
    return [record["message"] for record in records]


def loki(request: Request) -> list[str]:
    require(request.target == "/loki/api/v1/push", "path")
    require(request.headers["content-type"].partition(";")[0] == "application/json", "content type: protobuf is read")
    lines = []
    for stream in json.loads(content(request))["streams"]:
        labels = stream["stream"]
        require(labels, "at least one label pair is required per stream")
        require(all(isinstance(value, str) for value in labels.values()), "a label that is no text")
        for time, line in stream["values"]:
            require(isinstance(time, str) and re.fullmatch(r"\d{19}", time), "no nanoseconds as a text")
            require(isinstance(line, str), "a line that is no text")
            lines.append(line)
    return lines


def elasticsearch(request: Request) -> list[str]:
    require(request.target.partition("?")[0] == "/_bulk", "path")
    kind = request.headers["content-type"].partition(";")[0]
    require(kind in ("application/x-ndjson", "application/json"), "content type")
    text = content(request)
    require(text.endswith("\n"), "The bulk request must be terminated by a newline")
    lines = [json.loads(line) for line in text.splitlines()]
    require(len(lines) % 2 == 0, "an action without a document")
    for action in lines[::2]:
        ((name, meta),) = action.items()
        require(name in ("index", "create") and meta["_index"], f"Malformed action/metadata line: {action}")
    return [document["message"] for document in lines[1::2]]


def splunk(request: Request) -> list[str]:
    require(request.target == "/services/collector/event", "path")
    require(re.fullmatch(r"Splunk [0-9a-f-]{36}", request.headers.get("authorization", "")), "Token is required")
    text, messages = content(request), []
    decoder = json.JSONDecoder()
    while text.strip():
        event, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        require(event.get("event"), "Event field is required")
        require(isinstance(event.get("time", 0.0), (int, float)), "Error in handling indexed fields: time")
        require(event.keys() <= {"time", "host", "source", "sourcetype", "index", "fields", "event"}, "unknown keys")
        messages.append(event["event"]["message"])
    return messages


class Receiver(NamedTuple):
    accept: Callable[[Request], list[str]]
    success: Reply


RECEIVERS = {
    "http://localhost:8080/": Receiver(vector, Reply(200, body=b"")),
    "http://localhost:9880/": Receiver(fluent_bit, Reply(201, body=b"")),
    "http://localhost:3100/": Receiver(loki, Reply(204, body=b"")),
    "http://localhost:9200/": Receiver(elasticsearch, Reply(200, body=b'{"took":3,"errors":false,"items":[]}')),
    "https://localhost:8088/": Receiver(splunk, Reply(200, body=b'{"text":"Success","code":0}')),
}
"""For the address in each example: the check of its requests, and the response to those that pass."""


def examples() -> dict[str, str]:
    blocks = EXAMPLE.findall(DOCUMENT.read_text())
    return {address: block for address in RECEIVERS for block in blocks if address in block}


@pytest.mark.parametrize("address", RECEIVERS)
def test_the_example_is_accepted_by_its_receiver(address: str, spool: Path, tmp_path: Path) -> None:
    receiver = RECEIVERS[address]
    taken: list[str] = []
    refused: list[Any] = []

    def answer(request: Request) -> Reply:
        try:
            taken.extend(receiver.accept(request))
        except (NotAcceptedError, ValueError, KeyError, TypeError) as error:
            refused.append(error)
            return Reply(400, body=str(error).encode())
        return receiver.success

    with Server(answer) as server:
        script = tmp_path / "example.py"
        script.write_text(ADDRESS.sub(server.url, examples()[address]))
        environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path), "SHIPPER_SPOOL": str(spool)}
        subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=PATIENCE)

    assert refused == []
    assert [message for message in taken if MESSAGE in message] == taken
    assert len(taken) == 1


def test_every_example_has_a_receiver() -> None:
    blocks = [block for block in EXAMPLE.findall(DOCUMENT.read_text()) if "shipper.start" in block]

    assert len(examples()) == len(RECEIVERS) == len(blocks)
