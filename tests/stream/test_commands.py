"""`shipper stream` and `shipper check` on real servers."""

from __future__ import annotations

import json

from shipper.stream.streams import consumers, create_stream, dead_stream, events_stream

from ..support.streams import STREAM_BYTES, Stream, event, publish


def test_init_makes_what_is_missing_and_says_so(stream: Stream) -> None:
    name = stream.settings.stream
    init = ("stream", "init", "--max-bytes", str(STREAM_BYTES), "--consumers", "relay-http, relay-otlp")

    first, second = stream.command(*init), stream.command(*init)
    info = stream.command("stream", "info", "--json")

    assert first.stdout.splitlines() == [
        f"made stream {name}_DEAD: 3 replicas, limits retention, at most 32.0 MiB",
        f"made stream {name}: 3 replicas, interest retention, at most 32.0 MiB, window 120 s",
        "made consumer relay-http",
        "made consumer relay-otlp",
    ]
    assert [line.split(":")[0] for line in second.stdout.splitlines()] == [
        f"stream {name}_DEAD exists",
        f"stream {name} exists",
        "consumer relay-http exists",
        "consumer relay-otlp exists",
    ]
    assert (first.returncode, second.returncode, info.returncode) == (0, 0, 0)
    assert [each["name"] for each in json.loads(info.stdout)["consumers"]] == ["relay-http", "relay-otlp"]


def test_what_is_wrong_with_a_stream_is_said_by_init_info_and_check(stream: Stream) -> None:
    config = {**events_stream(stream.settings), "num_replicas": 1, "discard": "old", "max_age": 60_000_000_000}
    config["duplicate_window"] = config["max_age"]
    create_stream(stream.client, config)
    create_stream(stream.client, dead_stream(stream.settings))

    init = stream.command("stream", "init", "--max-bytes", str(STREAM_BYTES))
    info = stream.command("stream", "info")
    check = stream.command("check", "--json", SHIPPER_BACKENDS="jetstream", SHIPPER_APP="checked")

    for said in (init.stdout, info.stdout, check.stdout):
        assert "has 1 replica instead of 3" in said
        assert "discards old messages when it is full" in said
        assert "discards messages after 60 s" in said
    assert (init.returncode, info.returncode) == (1, 1)
    found = {each["level"]: each["text"] for each in json.loads(check.stdout) if each["name"] == "jetstream"}
    assert "has no consumer yet" in found["error"]


def test_info_of_a_stream_that_does_not_exist_says_how_to_make_it(stream: Stream) -> None:
    done = stream.command("stream", "info")

    assert done.returncode == 1
    assert f"there is no stream {stream.settings.stream}" in done.stdout


def test_a_command_without_servers_says_which_variable_names_them(stream: Stream) -> None:
    done = stream.command("stream", "info", SHIPPER_JETSTREAM_SERVERS="")

    assert done.returncode == 2
    assert "SHIPPER_JETSTREAM_SERVERS" in done.stderr


def test_forget_deletes_a_consumer_and_says_what_waited_for_it(stream: Stream) -> None:
    stream.make("relay-http", "relay-otlp")
    with stream.publisher() as publisher:
        publish(publisher, [event(1)])

    done, again = stream.command("stream", "forget", "relay-otlp"), stream.command("stream", "forget", "relay-otlp")

    assert done.stdout == "consumer relay-otlp is deleted; 1 message had not been delivered for it\n"
    assert again.returncode == 1
    assert [each["name"] for each in consumers(stream.client, stream.settings.stream)] == ["relay-http"]
