"""Creating streams: which errors of the servers are retried. The errors are those of nats-server 2.15."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipper.backends.jetstream import JetStream
from shipper.stream.api import ApiError
from shipper.stream.connection import Reply
from shipper.stream.streams import create_stream, events_stream

SETTINGS = JetStream("nats://127.0.0.1:4222")
MADE = {"config": events_stream(SETTINGS)}
Answer = dict[str, Any]


def refusal(status: int, code: int, text: str) -> Answer:
    return {"error": {"code": status, "err_code": code, "description": text}}


NO_LEADER = refusal(503, 10008, "JetStream system temporarily unavailable")
UNHEARD_OF = refusal(400, 10005, "no suitable peers for placement, peer offline")
WRONG_TAGS = refusal(400, 10005, "no suitable peers for placement, tags not matched ['ssd']")
ONE_SERVER = refusal(500, 10074, "replicas > 1 not supported in non-clustered mode")


class Servers:
    """A stand-in for a client: replies to each request with the next of ``answers``."""

    is_up = True

    def __init__(self, *answers: Answer) -> None:
        self.left = list(answers)

    def request(self, subject: str, data: bytes = b"", *, timeout: float | None = None) -> Reply:
        return Reply(subject, "", {}, json.dumps(self.left.pop(0)).encode())


@pytest.mark.parametrize("early", [NO_LEADER, UNHEARD_OF], ids=["no leader", "a server not heard of"])
def test_making_a_stream_waits_until_the_cluster_is_put_together(early: Answer) -> None:
    servers = Servers(early, early, MADE)

    made = create_stream(servers, events_stream(SETTINGS))  # type: ignore[arg-type]

    assert made == MADE
    assert servers.left == []


@pytest.mark.parametrize("final", [WRONG_TAGS, ONE_SERVER], ids=["no server fits", "one server"])
def test_what_does_not_pass_by_itself_is_said_at_once(final: Answer) -> None:
    servers = Servers(final, MADE)

    with pytest.raises(ApiError, match=final["error"]["description"][:20]):
        create_stream(servers, events_stream(SETTINGS))  # type: ignore[arg-type]

    assert servers.left == [MADE]
