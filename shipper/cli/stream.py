"""`shipper stream` - makes, checks and shows the streams and consumers between applications and relays."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import BAD_NEWS, OK, complain, terminal
from .servers import add_servers, connected, stream_settings

if TYPE_CHECKING:
    from ..backends.jetstream import JetStream
    from ..stream.client import Client


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "stream",
        help="make or show the JetStream streams between applications and relays",
        description="The stream that applications publish to (SHIPPER_BACKENDS=jetstream) and relays deliver from.",
        epilog="Exit code: 0 as it should be; 1 something is not, or no server answers; 2 wrong usage.",
        examples="""
            shipper stream init --servers nats://a:4222 --replicas 3 --consumers relay-http,relay-trakerr
            shipper stream info --servers nats://a:4222
        """,
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="make what is missing, and say what is wrong with what is there")
    add_servers(init)
    init.add_argument("--replicas", choices=("1", "3", "5"), help="copies of each message, on as many servers (3)")
    init.add_argument("--max-bytes", metavar="N", help="bytes at which the stream refuses more (10 GiB)")
    init.add_argument("--window", metavar="S", help="seconds in which a message that comes again is recognised (120)")
    init.add_argument("--consumers", metavar="NAMES", default="", help="durable consumers, separated by commas")
    init.set_defaults(run=_init)
    forget = actions.add_parser("forget", help="delete a consumer, of a backend that no relay has any more")
    add_servers(forget)
    forget.add_argument("consumer", metavar="CONSUMER", help="its name, as `shipper stream info` shows it")
    forget.set_defaults(run=_forget)
    info = actions.add_parser("info", help="show the streams, and how far each consumer is")
    add_servers(info)
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)


def _init(given: argparse.Namespace) -> int:
    from ..errors import DeliveryError

    more = {"replicas": given.replicas, "max_bytes": given.max_bytes, "window": given.window}
    settings = stream_settings(given, **more)
    names = [each.strip() for each in given.consumers.split(",") if each.strip()] or list(settings.durables)
    try:
        with connected(settings, "stream init") as client:
            wrong = [line for line in _made(client, settings, names) if _said(line)]
    except DeliveryError as error:
        return complain(error.reason, code=BAD_NEWS)
    return BAD_NEWS if wrong else OK


def _said(line: str) -> bool:
    """Print a line; whether it says that something is wrong."""
    print(line, flush=True)
    return line.startswith("warning")


def _made(client: Client, settings: JetStream, names: list[str]) -> Iterator[str]:
    """Make missing streams, that of dead letters first, then missing consumers; yield a line for each, and warnings."""
    from ..stream import streams

    for wanted in (streams.dead_stream(settings), streams.events_stream(settings)):
        name = wanted["name"]
        found = streams.find_stream(client, name)
        if found is None:
            streams.create_stream(client, wanted)
            yield f"made stream {name}: {_summary(wanted)}"
        else:
            yield f"stream {name} exists: {_summary(found['config'])}"
            yield from _warnings(found["config"], wanted, settings)
    for name in names:
        if streams.consumer_info(client, settings.stream, name) is None:
            streams.create_consumer(client, settings.stream, streams.consumer(name))
            yield f"made consumer {name}"
        else:
            yield f"consumer {name} exists"


def _warnings(config: dict[str, Any], wanted: dict[str, Any], settings: JetStream) -> Iterator[str]:
    from ..stream.streams import faults

    return (f"warning: the stream {wanted['name']} {text}" for text in faults(config, wanted, settings))


def _summary(config: dict[str, Any]) -> str:
    size = terminal.size(config.get("max_bytes", -1)) if config.get("max_bytes", -1) > 0 else "any size"
    copies = terminal.plural(config.get("num_replicas", 1), "replica")
    parts = [copies, f"{config['retention']} retention", f"at most {size}"]
    if config.get("duplicate_window"):
        parts.append(f"window {config['duplicate_window'] / 1e9:g} s")
    return ", ".join(parts)


def _forget(given: argparse.Namespace) -> int:
    from ..errors import DeliveryError
    from ..stream.streams import consumer_info, delete_consumer

    settings = stream_settings(given)
    try:
        with connected(settings, "stream forget") as client:
            found = consumer_info(client, settings.stream, given.consumer)
            if found is None:
                return complain(f"there is no consumer {given.consumer}", code=BAD_NEWS)
            delete_consumer(client, settings.stream, given.consumer)
    except DeliveryError as error:
        return complain(error.reason, code=BAD_NEWS)
    waited = terminal.plural(found["num_pending"] + found["num_ack_pending"], "message")
    print(f"consumer {given.consumer} is deleted; {waited} had not been delivered for it")
    return OK


def _info(given: argparse.Namespace) -> int:
    from ..errors import DeliveryError

    settings = stream_settings(given)
    try:
        with connected(settings, "stream info") as client:
            found = look(client, settings)
    except DeliveryError as error:
        return complain(error.reason, code=BAD_NEWS)
    print(json.dumps(found, indent=2) if given.json else "\n".join(lines(found)))
    return BAD_NEWS if found["warnings"] else OK


def look(client: Client, settings: JetStream) -> dict[str, Any]:
    """Both streams, the consumers of the events' stream, and warnings. DeliveryError when a request fails."""
    from ..stream import streams

    found: dict[str, Any] = {"streams": [], "consumers": [], "warnings": []}
    for wanted in (streams.events_stream(settings), streams.dead_stream(settings)):
        info = streams.stream_info(client, wanted["name"])
        if info is None:
            found["warnings"].append(f"there is no stream {wanted['name']}: `shipper stream init` makes it")
            continue
        found["streams"].append(info)
        found["warnings"] += list(_warnings(info["config"], wanted, settings))
    if any(info["config"]["name"] == settings.stream for info in found["streams"]):
        found["consumers"] = streams.consumers(client, settings.stream)
    names = [str(each["name"]) for each in found["consumers"]]
    found["warnings"] += [f"there is no consumer {name}" for name in streams.missing_durables(names, settings)]
    if found["streams"] and not names:
        found["warnings"].append(f"the stream {settings.stream} has no consumer: start a relay")
    return found


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of text that show what `look` has found."""
    for info in found["streams"]:
        state, cluster = info["state"], info.get("cluster") or {}
        yield f"stream {info['config']['name']}: {_summary(info['config'])}"
        used = f"  {state['messages']} messages, {terminal.size(state['bytes'])}"
        yield used + (f", leader {cluster['leader']}" if cluster.get("leader") else "")
        for peer in cluster.get("replicas") or ():
            how = "offline" if peer.get("offline") else "current" if peer.get("current") else "behind"
            yield f"  replica {peer['name']}: {how}"
    if found["consumers"]:
        yield ""
        yield from terminal.table(
            ("consumer", "waiting", "in hand", "redelivered"),
            [
                tuple(str(each[key]) for key in ("name", "num_pending", "num_ack_pending", "num_redelivered"))
                for each in found["consumers"]
            ],
        )
    if found["warnings"]:
        yield ""
        yield from found["warnings"]
