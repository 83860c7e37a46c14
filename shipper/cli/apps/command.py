"""`shipper apps` - the apps of this user on this machine, and why each of them is an app of its own."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .. import BAD_NEWS, OK, complain
from ..terminal import coloured, facts, is_coloured, moment, plural


def register(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "apps",
        help="list apps, and what their names were derived from",
        description="Lists the apps of this user on this machine: those in the default place, those with files in "
        "memory, and those in the folders of --spool and $SHIPPER_SPOOL. For each it says whether its name was given, "
        "or from what it was derived: that is why two programs are one app, or two. Root sees the apps of all users.",
        epilog="Exit code: 0 when there is an app; 1 when there is none, or one cannot be read.",
        examples="""
            shipper apps
            shipper apps --spool /srv/shop/spool
            shipper apps --json | jq -r '.[] | [.app, .why] | @tsv'
        """,
    )
    parser.add_argument("--spool", metavar="PATH", action="append", default=[], help="the app in this folder, too")
    parser.add_argument("--json", action="store_true", help="print a JSON list with an object for each app")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from ..status.find import NoSuchApp
    from .entry import describe
    from .places import known_spools

    apps: list[dict[str, Any]] = []
    refused: list[NoSuchApp] = []
    for each in known_spools(given.spool, refused):
        try:
            apps.append(describe(each))
        except NoSuchApp as error:  # one that cannot be read does not hide the others
            refused.append(error)
    if given.json:
        print(json.dumps(apps, indent=2))
    elif apps:
        print("\n".join(_lines(apps, time.time())), flush=True)
    for problem in refused:
        complain(str(problem), code=BAD_NEWS)
    if not apps and not refused:
        complain("no app has a spool here; name one that is elsewhere with --spool PATH", code=BAD_NEWS)
    return OK if apps and not refused else BAD_NEWS


def _lines(apps: Sequence[dict[str, Any]], now: float) -> Iterator[str]:
    from .reason import relations

    for number, app in enumerate(apps):
        if number:
            yield ""
        yield coloured(app["app"], "bold", wanted=is_coloured())
        yield from (f"  {line}" for line in facts(_facts(app, now)))
    for sentence in relations([(app["app"], app["name_from"]) for app in apps]):
        yield ""
        yield sentence


def _facts(app: dict[str, Any], now: float) -> Iterator[tuple[str, str]]:
    yield "name", app["why"]
    yield "spool", app["spool"]
    yield "user", app["user"]
    yield "host", _host(app)
    yield "shipper process", f"runs, pid {app['pid'] or 'not known yet'}" if app["running"] else "does not run"
    yield "application", _processes(app["processes"])
    yield "sends to", ", ".join(map(_destination, app["destinations"])) or "not known"
    yield "last activity", "none" if app["active"] is None else moment(app["active"], now)
    yield "waits", ", ".join(_waiting(app)) or "nothing"


def _host(app: dict[str, Any]) -> str:
    if app["is_this_boot"] is None:
        return app["host"] or "not known"
    boot = "this machine" if app["is_this_boot"] else f"another one, or an earlier boot of this one ({app['boot']})"
    return f"{app['host']}: {boot}" if app["host"] else boot


def _processes(pids: Sequence[int]) -> str:
    if not pids:
        return "no process"
    return f"{plural(len(pids), 'process', 'processes')} (pid {', '.join(map(str, pids))})"


def _destination(destination: dict[str, Any]) -> str:
    url = f" {destination['url']}" if destination["url"] else ""
    return f"{destination['name']}{url} ({destination['state']})"


def _waiting(app: dict[str, Any]) -> Iterator[str]:
    for each in app["destinations"]:
        if each["left"]:
            yield f"{plural(each['left'], 'event')} for {each['name']}"
    if app["in_memory"]:
        yield f"{plural(app['in_memory'], 'event')} in memory"
    if app["dead_letters"]:
        yield plural(app["dead_letters"], "dead letter")
