"""Relay processes between a real cluster and a service: nothing is lost when they wait, end or are killed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shipper.errors import RejectedError
from shipper.event.model import Origin
from shipper.relay.dead_letters import StreamDeadLetters, StreamDeadLetterStore
from shipper.stream.message import messages
from shipper.stream.streams import consumer_info

from ..support.servers import Reply, Request
from ..support.streams import Sink, Stream, event, publish
from ..support.waiting import pass_time, scaled, wait_until

DOWN = Reply(status=503)
HELD = 16  # messages that one relay holds at most; all relays of a consumer together hold up to 64
ORIGIN = Origin("orders", "web 1", "10.0.0.7", "/srv")


def names(count: int, first: int = 0) -> set[str]:
    return {f"event {number}" for number in range(first, first + count)}


def consumer_state(stream: Stream, durable: str = "relay-http") -> dict[str, int]:
    found = consumer_info(stream.client, stream.settings.stream, durable)
    assert found is not None
    return {name: found[name] for name in ("num_pending", "num_ack_pending", "num_redelivered")}


def is_settled(stream: Stream) -> bool:
    """Whether the consumer has no message left, neither waiting nor unacknowledged."""
    state = consumer_state(stream)
    return not state["num_pending"] and not state["num_ack_pending"]


def test_what_an_application_logs_arrives_with_its_name_and_host(stream: Stream, spool: Path) -> None:
    stream.make("relay-http")
    source = """
import logging, os, shipper
shipper.start(app="orders", spool=os.environ["TEST_SPOOL"])
for number in range(300):
    logging.getLogger("app").warning("event %d", number)
report = shipper.stop(30)
assert report.delivered, report
"""
    with Sink() as sink, stream.relay(sink):
        environment = stream.environment(TEST_SPOOL=str(spool), SHIPPER_BACKENDS="jetstream")
        command = [sys.executable, "-c", source]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=scaled(40), check=False)
        assert done.returncode == 0, done.stderr
        sink.wait_for(names(300))
        wait_until(lambda: is_settled(stream), 10, "everything is acknowledged")

    assert sink.counts() == dict.fromkeys(names(300), 1)
    assert {(each["app"], each["host"]) for each in sink.events} == {("orders", os.uname().nodename)}


def test_events_of_several_machines_are_sent_apart_each_under_its_own_name(stream: Stream) -> None:
    stream.make("relay-http")
    for number in range(20):
        origin = Origin(f"app{number % 2}", f"host{number % 4}", "10.0.0.1", "/")
        (made,) = messages([event(number)], stream.settings.subject, origin, max_bytes=1000)
        stream.client.request(made.subject, made.content, made.headers)

    with Sink() as sink, stream.relay(sink):
        sink.wait_for(names(20))

    for each in sink.events:
        number = int(each["message"].split()[1])
        assert (each["app"], each["host"]) == (f"app{number % 2}", f"host{number % 4}")


def test_another_relay_takes_over_what_a_killed_one_had_in_hand(stream: Stream) -> None:
    ack_wait = 2.0
    stream.make("relay-http", ack_wait=ack_wait)
    with Sink(lambda request: Reply(silent=True, then="hang")) as stuck, Sink() as sink:
        with stream.publisher() as publisher:
            for first in range(0, 400, 20):
                publish(publisher, [event(number) for number in range(first, first + 20)])
        with stream.relay(stuck) as victim:
            wait_until(lambda: stuck.server.requests, 20, "the first relay has events in hand")
            victim.kill()
            killed_at = time.monotonic()
        with stream.relay(sink):
            sink.wait_for(names(400))
            took = time.monotonic() - killed_at
            wait_until(lambda: is_settled(stream), 10, "everything is acknowledged")

    assert took < scaled(ack_wait + 2)


@pytest.mark.parametrize("is_ended_when", ["it asks for messages", "its service takes none"])
def test_a_relay_that_is_ended_gives_back_what_its_service_does_not_take(stream: Stream, is_ended_when: str) -> None:
    """Unacknowledged messages wait for 300 seconds: another relay gets them in time only if they are given back."""
    stream.make("relay-http", ack_wait=300)
    with Sink(lambda request: DOWN) as down, Sink() as sink:
        with stream.publisher() as publisher:
            publish(publisher, [event(number) for number in range(50)])
        with stream.relay(down) as first:
            if is_ended_when == "it asks for messages":
                first.wait_until_open()
            else:
                wait_until(lambda: first.backend().get("retried"), 20, "the first relay waits")
            code = first.end()
        with stream.relay(sink):
            sink.wait_for(names(50))

    assert code == 0


def test_a_relay_that_is_ended_delivers_what_it_has_in_hand(stream: Stream) -> None:
    stream.make("relay-http")

    def slow(request: Request) -> None:
        pass_time(0.2)

    with Sink(slow) as sink, stream.relay(sink) as relay:
        with stream.publisher() as publisher:
            publish(publisher, [event(number) for number in range(10)])
        wait_until(lambda: sink.server.requests, 20, "a request is under way")
        code = relay.end()
        ended = relay.status()

    assert code == 0
    assert ended["ended"] is True
    assert sink.counts() == dict.fromkeys(names(10), 1)
    assert is_settled(stream)


def test_messages_are_held_while_the_service_asks_for_a_pause_longer_than_the_consumer_waits(stream: Stream) -> None:
    """If the server handed them out again, the second relay would send them at once."""
    stream.make("relay-http", ack_wait=3.0)
    answers = iter([Reply(status=429, headers={"Retry-After": "7"})])

    with stream.publisher() as publisher:  # as many messages as one relay holds
        for number in range(HELD):
            publish(publisher, [event(number)])
    with Sink(lambda request: next(answers, None)) as sink, stream.relay(sink) as first:
        wait_until(lambda: first.backend().get("retried"), 20, "the first relay was asked to wait")
        with stream.relay(sink):
            sink.wait_for(names(HELD))
            wait_until(lambda: first.backend().get("held") == 0, 20, "the pause is over")

    assert sink.counts() == dict.fromkeys(names(HELD), 1)


def refuses_bad(request: Request) -> Reply | None:
    return Reply(status=400, body=b"bad") if b"bad event" in request.body else None


def test_a_rejected_event_is_kept_in_the_stream_of_dead_letters_until_it_is_replayed(stream: Stream) -> None:
    stream.make("relay-http")
    is_mended = False

    def answer(request: Request) -> Reply | None:
        return None if is_mended else refuses_bad(request)

    with Sink(answer) as sink, stream.relay(sink):
        events = [event(number, "bad event" if number == 7 else "") for number in range(20)]
        with stream.publisher() as publisher:
            publish(publisher, events)
        sink.wait_for(names(20) - {"event 7"})
        servers = ("--servers", stream.cluster.servers)
        wait_until(lambda: "bad event" in stream.command("dead", "list", *servers).stdout, 20, "the letter is listed")
        shown = json.loads(stream.command("dead", "show", str(events[7].id), *servers).stdout)
        is_mended = True
        replayed = stream.command("dead", "replay", *servers)
        sink.wait_for({"bad event"})
        after = stream.command("dead", "list", *servers)

    assert (shown["backend"], shown["status"], shown["body"]) == ("http", 400, "bad")
    assert shown["event"]["origin"]["host"] == "host"
    assert "1 event for http" in replayed.stdout
    assert "there is no dead letter" in after.stderr
    (arrived,) = [each for each in sink.events if each["message"] == "bad event"]
    assert arrived["id"] == events[7].id.uuid_text  # type: ignore[union-attr]
    assert arrived["host"] == "host"


def test_dead_letters_of_a_stream_are_deleted_by_purge(stream: Stream) -> None:
    stream.make("relay-http")
    with Sink(refuses_bad) as sink, stream.relay(sink), stream.publisher() as publisher:
        publish(publisher, [event(0), event(1, "bad event")])
        servers = ("--servers", stream.cluster.servers)
        wait_until(lambda: "bad event" in stream.command("dead", "list", *servers).stdout, 20, "the letter is listed")
        refused = stream.command("dead", "purge", *servers)
        purged = stream.command("dead", "purge", "--all", *servers)

    assert refused.returncode == 2
    assert purged.stdout == "1 letter deleted.\n"
    assert "there is no dead letter" in stream.command("dead", "list", *servers).stderr


def test_a_dead_letter_that_no_message_could_hold_is_cut(stream: Stream) -> None:
    """Each control character takes six characters in the dead letter's JSON."""
    stream.make()
    large = event(1, "bad event" + "\x01" * 200_000)
    assert large.id is not None

    error = RejectedError("HTTP 400", status=400, body="\x01" * 60_000)
    StreamDeadLetters(stream.client, stream.settings, "http").write(large.id, large, error)

    (letter,) = StreamDeadLetterStore(stream.client, stream.settings).letters()
    assert letter.is_event
    assert letter.id == str(large.id)
    assert letter.message.startswith("bad event")


def test_the_relays_and_what_waits_are_in_the_status(stream: Stream) -> None:
    stream.make("relay-http")
    with Sink(lambda request: DOWN) as sink, stream.relay(sink) as one, stream.relay(sink) as two:
        one.wait_until_open()
        two.wait_until_open()
        with stream.publisher() as publisher:
            publish(publisher, [event(number) for number in range(10)])
        wait_until(lambda: "retrying" in (one.backend().get("state"), two.backend().get("state")), 20, "it is retried")
        servers = ("--servers", stream.cluster.servers)
        said = json.loads(stream.command("status", "--json", *servers).stdout)
        text = stream.command("status", *servers).stdout
        health = stream.command("status", "--check", *servers).returncode
        one.end()
        two.end()
        without = stream.command("status", *servers)

    assert len(said["relays"]) == 2
    assert [each["name"] for each in said["consumers"]] == ["relay-http"]
    assert sum(relay["backends"]["http"]["held"] for relay in said["relays"]) == 10
    assert "retrying" in text
    assert health == 1
    assert "no relay answers" in without.stdout


def test_a_relay_waits_for_the_streams_and_makes_its_consumer(stream: Stream) -> None:
    with Sink() as sink, stream.relay(sink, "--ack-wait", "7") as relay:
        wait_until(lambda: "shipper stream init" in relay.trouble, 20, "it says what is missing")
        stream.make()
        relay.wait_until_open()
        with stream.publisher() as publisher:
            publish(publisher, [event(1)])
        sink.wait_for({"event 1"})

    found = consumer_info(stream.client, stream.settings.stream, "relay-http")
    assert found is not None
    assert found["config"]["ack_wait"] == 7_000_000_000


def test_a_relay_does_not_deliver_into_its_own_stream(stream: Stream, spool: Path) -> None:
    refused = stream.command("relay", "--spool", str(spool), SHIPPER_BACKENDS="jetstream")

    assert refused.returncode == 2
    assert "its own stream" in refused.stderr


def test_a_relay_without_a_service_says_that_the_environment_names_them(stream: Stream) -> None:
    refused = stream.command("relay")

    assert refused.returncode == 2
    assert "no service is named" in refused.stderr
    assert "SHIPPER_OTLP_ENDPOINT" in refused.stderr


def test_a_second_relay_in_the_same_folder_is_refused(stream: Stream, spool: Path) -> None:
    with Sink() as sink, stream.relay(sink, spool=spool) as first:
        wait_until(first.status, 20, "the first one runs")
        more = {"SHIPPER_HTTP_URL": sink.url}
        second = stream.command("relay", "--spool", str(spool), **more)

    assert second.returncode == 2
    assert "another relay runs in this folder" in second.stderr


@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
def test_relays_that_are_killed_again_and_again_lose_nothing(stream: Stream, moment: str) -> None:
    """Three relays in turn are killed, inside a request or after at least one."""
    stream.make("relay-http", ack_wait=1.0)
    victims: list[int] = []

    def kill(request: Request) -> None:
        if victims and len(sink.server.requests) % 3 == 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims.pop(), 9)

    with Sink(kill if moment == "before the answer" else None) as sink, stream.publisher() as publisher:
        for round_ in range(3):
            with stream.relay(sink) as relay:
                relay.wait_until_open()
                victims.append(relay.process.pid)
                before = len(sink.server.requests)
                for first in range(round_ * 90, round_ * 90 + 90, 15):
                    publish(publisher, [event(number) for number in range(first, first + 15)])
                wait_until(lambda count=before: len(sink.server.requests) > count, 20, "it is at work")  # type: ignore[misc]
        victims.clear()
        with stream.relay(sink):
            sink.wait_for(names(270))
            wait_until(lambda: is_settled(stream), 20, "everything is acknowledged")

    assert set(sink.counts()) == names(270)
