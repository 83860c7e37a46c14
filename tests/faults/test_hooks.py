"""Hooks of the application that raise, drop an event, sleep, or end the application."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import shipper

from ..support.waiting import PATIENCE, holds, scaled, wait_until
from .scene import Scene, run_script


def test_a_hook_that_raises_or_says_no_drops_its_event_and_counts_it(scene: Scene) -> None:
    def choose(event: shipper.Event) -> shipper.Event | None:
        if "raise" in event.message:
            raise LookupError("password=hunter2")
        return None if "none" in event.message else event

    scene.start(scene.trakerr("a"), before_send=choose)
    lost = {scene.log("raise"), scene.log("none"), scene.log("raise")}
    scene.log_many(5)

    wait_until(lambda: not scene.missing("a") - lost)
    scene.a_fresh_record_flows("a")
    report = scene.stop()
    scene.ends()
    assert report.dropped == {"before_send": {"INFO": 3}}
    assert scene.gaps() == scene.missing("a") == lost


def test_a_hook_that_sleeps_holds_up_its_own_thread_alone(scene: Scene) -> None:
    release = threading.Event()

    def slow(event: shipper.Event) -> shipper.Event:
        if "slow" in event.message:
            release.wait(PATIENCE)
        return event

    scene.start(scene.trakerr("a"), before_send=slow)
    thread = threading.Thread(target=scene.log, args=("slow",))
    thread.start()
    try:
        before = time.monotonic()
        scene.log_many(20)
        assert time.monotonic() - before < scaled(1)
        assert holds(lambda: len(scene.oracle.accepted("a")) == 20, 5)
        assert shipper.flush(PATIENCE)
    finally:
        release.set()
        thread.join()
    scene.all_arrive("a")


SLOW_HOOK = """
    import json, logging, os, sys, threading, time
    import shipper.application.capture.callback_guard

    shipper.application.capture.callback_guard.PAUSE_FACTOR = 3.0  # times 1.2 s, and not ten times
    url, spool = sys.argv[1:]
    log = logging.getLogger("slow")
    log.propagate = False
    seconds = 1.2
    calls = 0

    def hook(event):
        global calls
        calls += 1
        threading.Event().wait(seconds)
        return event

    shipper.start(shipper.Trakerr("k", url=url, name="a", level=0), app="slow", spool=spool, logger=log,
                  before_send=hook)
    before = time.monotonic()
    for number in range(200):
        log.error("id:e%d", number)
    took = time.monotonic() - before
    child = os.fork()
    if child == 0:  # the child of a process whose hook is left alone does not wait either
        calls = 0
        log.error("id:child")
        os._exit(calls)
    assert os.waitpid(child, 0)[1] == 0
    seconds = 0
    queue = shipper.application.lifecycle.current().queue
    while queue.drops["before_send"]["ERROR"] == queue.emitted - 2:
        threading.Event().wait(0.1)
        log.error("id:later")
    report = shipper.stop(60)
    assert report.flushed, report
    print(json.dumps([took, report.emitted, report.dropped]))
"""


def test_a_hook_that_is_always_slow_holds_up_two_calls_and_is_tried_again_later(scene: Scene, tmp_path: Path) -> None:
    took, emitted, dropped = json.loads(
        run_script(tmp_path, SLOW_HOOK, scene.oracle.url("a"), str(scene.spool), timeout=60)
    )

    assert took < scaled(5)
    assert scene.oracle.accepted("a").keys() == {"e0", "e1", "later"}
    assert dropped == {"before_send": {"ERROR": emitted - 3}}
    scene.ends()


HOOK_EXITS = """
    import logging, os, sys
    import shipper

    log = logging.getLogger("exits")
    log.propagate = False

    def hook(event):
        if "exit" in event.message:
            os._exit(0)
        return event

    shipper.start(shipper.Trakerr("k", url=sys.argv[1], name="a", level=0), app="exits", spool=sys.argv[2], logger=log,
                  before_send=hook)
    for number in range(50):
        log.error("id:e%d", number)
    log.error("id:exit exit")
"""


def test_a_hook_that_ends_the_application_takes_nothing_else_with_it(scene: Scene, tmp_path: Path) -> None:
    run_script(tmp_path, HOOK_EXITS, scene.oracle.url("a"), str(scene.spool))

    wait_until(lambda: scene.oracle.accepted("a").keys() == {f"e{number}" for number in range(50)}, 10)
    scene.ends()
