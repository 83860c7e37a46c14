"""Servers that are silent, slow, full, wrong or lying."""

from __future__ import annotations

import email.utils
import gzip
import logging
import time
from pathlib import Path

import pytest

import shipper

from ..support.waiting import PATIENCE, holds, scaled, wait_until
from .oracle import Oracle, Request, Step
from .scene import QUICK, Scene, timed

FOR_EVER = Step(how="hang", times=None)


@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=[pytest.mark.long, pytest.mark.timeout(240)])])
def test_a_backend_that_never_answers_delays_neither_the_other_one_nor_the_logging_call(
    scene: Scene, seconds: float
) -> None:
    scene.start(
        scene.trakerr("a", timeout=(2 * PATIENCE, 2 * PATIENCE), max_in_flight=1),
        scene.jkool("b", max_in_flight=1),
    )
    scene.log_many(20)
    scene.all_arrive("a", "b")

    scene.oracle.script("a", [FOR_EVER])
    until = time.monotonic() + seconds
    count = 0
    while time.monotonic() < until or count < 30:
        name = scene.log()
        # Much less than the silent backend's timeout: whoever waits for that is too late.
        wait_until(lambda name=name: scene.oracle.accepted("b")[name], 5, name)  # type: ignore[misc]
        count += 1
    scene.oracle.script("a", [])
    scene.oracle.drop()

    scene.all_arrive("a", "b")
    scene.a_fresh_record_flows("a", "b")
    scene.ids_are_the_same_at_every_retry("a")
    tries = scene.oracle.received("a")
    accepted = [name for each in scene.oracle.requests("a") if each.accepted for name in each.names if tries[name] == 1]
    assert accepted == [name for name in scene.emitted if tries[name] == 1], "not in the order of logging"
    assert len(scene.emitted) - len(accepted) <= 10, "more than the probes was tried"


def test_a_backend_whose_kernel_alone_takes_connections_delays_nobody(scene: Scene) -> None:
    with Oracle() as silent:
        silent.deaf()
        scene.start(scene.trakerr("a", url=silent.url("a"), timeout=(0.3, 0.3)), scene.jkool("b"))
        scene.log_many(50)
        scene.all_arrive("b", timeout=5)
        wait_until(lambda: scene.backend("a").state == "retrying", 5)
        silent.deaf(False)
        wait_until(lambda: silent.accepted_count("a") == 50, 10)


RETRY_AFTER = {"seconds": 2.0, "date": 2.0, "longer than the cap": 2.0, "garbage": 0.0, "negative": 0.0, "past": 0.0}


@pytest.mark.parametrize("form", RETRY_AFTER)
def test_retry_after_is_obeyed_in_every_form(scene: Scene, form: str) -> None:
    scene.start(scene.trakerr("a"), retry=shipper.Retry(initial=0.05, maximum=0.2, max_retry_after=4.0))
    scene.a_fresh_record_flows("a")
    before = scene.oracle.request_count("a")
    # A date has whole seconds: this one is 2 to 3 seconds away.
    text = {
        "seconds": "2",
        "date": email.utils.formatdate(time.time() + 3, usegmt=True),
        "longer than the cap": "1000000000",
        "garbage": "in a while, perhaps",
        "negative": "-7",
        "past": email.utils.formatdate(time.time() - 3600, usegmt=True),
    }[form]
    scene.oracle.script("a", [Step(503, {"Retry-After": text})])

    scene.log_many(20)
    scene.all_arrive("a")

    first, *others = scene.oracle.requests("a", before)
    wait = RETRY_AFTER[form]
    early = [each.at - first.at for each in others if 1.0 < each.at - first.at < wait - 0.2]
    assert early == [], "not when it was told to"  # what was under way at that moment may still come
    assert others[-1].at - first.at < wait + scaled(4)
    scene.a_fresh_record_flows("a")
    scene.ids_are_the_same_at_every_retry("a")


def _most_at_once(requests: list[Request], duration: float) -> int:
    """Return how many requests overlapped at most, if each took ``duration`` seconds."""
    moments = sorted((each.at + shift, change) for each in requests for shift, change in ((0.0, 1), (duration, -1)))
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize(
    ("seconds", "count"), [(1.0, 600), pytest.param(60.0, 50_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_after_a_429_the_backlog_is_drained_with_a_ramp(scene: Scene, seconds: float, count: int) -> None:
    slow = 0.01
    scene.start(scene.trakerr("a", max_in_flight=4))
    scene.a_fresh_record_flows("a")
    scene.oracle.script("a", [Step(429, seconds=seconds), Step(delay=slow, times=None)])
    before = scene.oracle.request_count("a")

    scene.log_many(count)
    scene.all_arrive("a", timeout=30 + seconds + count / 50)

    requests = scene.oracle.requests("a", before)
    refused = [each for each in requests if each.status == 429]
    passed = [each for each in requests if each.accepted]
    assert 1 <= len(refused) <= 5 + seconds / (QUICK.maximum / 8), "hammered"
    assert _most_at_once(passed, slow * 0.8) <= 4
    assert _most_at_once(passed[:2], slow * 0.8) == 1, "no ramp"
    scene.a_fresh_record_flows("a")


@pytest.mark.parametrize("batch", ["array", "lines"])
def test_one_event_that_is_refused_in_a_batch_is_found_and_becomes_a_dead_letter(scene: Scene, batch: str) -> None:
    scene.start(scene.jkool("a", batch=batch), batching=shipper.Batching(max_events=64, max_age=0.3))
    scene.oracle.always("a", Step(400, body='{"error": "bad field"}', contains="poison"))

    scene.log_many(40)
    poison = scene.log("poison")
    scene.log_many(80)
    scene.all_arrive("a")

    assert scene.oracle.accepted("a").keys() == scene.emitted.keys() - {poison}
    (letter,) = scene.dead("a")
    assert letter["reason"] == "HTTP 400"
    assert letter["status"] == 400
    assert "bad field" in letter["body"]
    assert poison in letter["event"]["message"]
    assert scene.oracle.request_count("a") < 40, "not by halving"
    scene.a_fresh_record_flows("a")
    assert scene.oracle.received("a")[poison] <= 8
    wait_until(lambda: scene.backend("a").dead == 1)


@pytest.mark.parametrize("batch", [None, "array"])
def test_what_is_too_large_for_a_server_is_halved_then_cut_then_buried(scene: Scene, batch: str | None) -> None:
    scene.start(scene.trakerr("a", batch=batch), batching=shipper.Batching(max_events=50, max_age=0.3))
    scene.oracle.always("a", Step(413, larger=64 * 1024), Step(413, body="never", contains="monster"))

    scene.log_many(40, "x" * 4000)
    long = scene.log("y" * 150_000)
    monster = scene.log("monster" + "z" * 100_000)
    scene.log_many(40, "x" * 4000)
    scene.all_arrive("a")

    assert scene.oracle.accepted("a").keys() == scene.emitted.keys() - {monster}
    assert scene.oracle.accepted("a")[long]
    (letter,) = scene.dead("a")
    assert letter["status"] == 413
    assert "bytes" in letter["reason"]
    assert letter["body"] == "never"
    scene.a_fresh_record_flows("a")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_loses_nothing_and_is_repaired_by_starting_again(
    scene: Scene, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    patient = shipper.Retry(initial=0.05, maximum=0.2, unauthorised=60.0)
    scene.oracle.always("a", Step(status, contains="wrong-key"))
    scene.start(scene.trakerr("a", "wrong-key"), scene.jkool("b"), retry=patient)

    scene.log_many(200)
    scene.all_arrive("b")
    wait_until(lambda: scene.backend("a").state == "unauthorised")
    assert scene.oracle.request_count("a") <= 8, "hammered"
    assert scene.dead("a") == []

    started = time.monotonic()
    scene.start(scene.trakerr("a", "right-key"), scene.jkool("b"), retry=patient)
    scene.all_arrive("a", "b")

    assert time.monotonic() - started < scaled(10)
    scene.a_fresh_record_flows("a", "b")
    said = capfd.readouterr().err
    # Once a process: one that is replaced while it starts may say it too.
    assert 1 <= said.count("trying again in") <= 2, said
    assert "wrong-key" not in said
    assert "right-key" not in said


BROKEN = {
    "cut in head": Step(how="cut in head"),
    "cut in body": Step(how="cut in body", body="x" * 500),
    "hang in head": Step(how="hang in head"),
    "hang in body": Step(how="hang in body", body="x" * 500),
    "hang": Step(how="hang"),
    "close": Step(how="close"),
    "reset": Step(how="reset"),
    "408": Step(408),
    "425": Step(425),
    "500": Step(500, body="<html>oops</html>"),
    "502": Step(502),
    "504": Step(504),
    "999": Step(999),
    "100 alone": Step(100, body=""),
    "a drop a second": Step(how="drip", delay=0.3),
}


@pytest.mark.parametrize("protocol", ["trakerr", "jkool"])
def test_an_answer_that_is_none_is_asked_for_again_under_the_same_id(scene: Scene, protocol: str) -> None:
    make = scene.trakerr if protocol == "trakerr" else scene.jkool
    scene.start(make("a", timeout=(0.3, 0.3)))
    for kind, step in BROKEN.items():
        before = sum(scene.oracle.received("a").values())
        scene.oracle.script("a", [Step(), step, Step(), step, step])
        scene.log_many(10, kind)
        scene.all_arrive("a", timeout=10)
        assert sum(scene.oracle.received("a").values()) - before >= 13, f"{kind} did not happen"

    scene.a_fresh_record_flows("a")
    scene.ids_are_the_same_at_every_retry("a")
    assert scene.dead("a") == []


@pytest.mark.parametrize("protocol", ["trakerr", "jkool"])
def test_a_success_is_a_success_whatever_its_body(scene: Scene, protocol: str) -> None:
    scene.start(scene.trakerr("a") if protocol == "trakerr" else scene.jkool("a"))
    for step in (Step(206), Step(200, body="<html>Welcome to the proxy</html>"), Step(204, body=""), Step(body="{")):
        scene.oracle.script("a", [Step(step.status, body=step.body, times=10)])
        scene.log_many(10)
        scene.all_arrive("a")

    assert set(scene.oracle.received("a").values()) == {1}
    scene.a_fresh_record_flows("a")


def test_a_handshake_that_fails_delays_and_loses_nothing(scene: Scene) -> None:
    scene.start(scene.jkool("a", timeout=(0.3, 0.3)))
    refusals = {
        "says no": Step(body="<access-resp><success>false</success><reason>no</reason></access-resp>"),
        "401": Step(401),
        "500": Step(500),
        "close": Step(how="close"),
        "hang": Step(how="hang"),
        "cut": Step(how="cut in body"),
    }
    for kind, refusal in refusals.items():
        before = scene.oracle.request_count("handshake")
        scene.oracle.script("handshake", [refusal, refusal])
        scene.oracle.drop()
        scene.log_many(10, kind)
        scene.all_arrive("a", timeout=10)
        assert scene.oracle.request_count("handshake") - before >= 3, f"{kind} did not happen"

    scene.a_fresh_record_flows("a")
    scene.ids_are_the_same_at_every_retry("a")


@pytest.mark.parametrize("reset", [False, True])
def test_idle_connections_that_the_server_closes_lose_nothing(scene: Scene, reset: bool) -> None:
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    for _ in range(10):
        scene.log_many(5)
        scene.all_arrive("a", "b", timeout=5)
        scene.oracle.drop(reset=reset)

    scene.a_fresh_record_flows("a", "b")
    scene.ids_are_the_same_at_every_retry("a")
    scene.ids_are_the_same_at_every_retry("b")


def test_a_tls_handshake_that_hangs_is_given_up(scene: Scene) -> None:
    tls = scene.oracle.url("a").replace("http:", "https:")
    scene.start(scene.trakerr("a", url=tls, timeout=(0.3, 0.3)), scene.jkool("b"))

    scene.log_many(20)
    scene.all_arrive("b")
    wait_until(lambda: scene.backend("a").state == "retrying" and scene.backend("a").retried >= 2)
    scene.start(scene.trakerr("a"), scene.jkool("b"))

    scene.all_arrive("a")
    scene.a_fresh_record_flows("a", "b")


def test_a_name_that_cannot_be_resolved_delays_and_loses_nothing(scene: Scene) -> None:
    scene.start(scene.trakerr("a", url="http://nobody.invalid/a"), scene.jkool("b"))

    scene.log_many(20)
    scene.all_arrive("b")
    wait_until(lambda: scene.backend("a").state == "retrying", 15)
    assert "resolve" in scene.backend("a").last_error
    scene.start(scene.trakerr("a"), scene.jkool("b"))

    scene.all_arrive("a")
    scene.a_fresh_record_flows("a", "b")


def test_a_server_that_goes_and_comes_back_on_its_port_gets_everything(scene: Scene) -> None:
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    for _ in range(3):
        scene.log_many(30)
        scene.oracle.down()
        scene.log_many(30)
        wait_until(lambda: "retrying" in (scene.backend("a").state, scene.backend("b").state))
        scene.oracle.up()
        scene.all_arrive("a", "b")

    scene.a_fresh_record_flows("a", "b")


def test_the_server_may_come_after_the_application_has_gone(scene: Scene) -> None:
    scene.oracle.down()
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    scene.log_many(100)

    took = timed(lambda: scene.stop(1.0))
    assert took < scaled(2)
    scene.ends()
    scene.oracle.up()
    scene.start(scene.trakerr("a"), scene.jkool("b"))

    scene.all_arrive("a", "b")
    assert scene.stop().flushed


@pytest.mark.parametrize(
    "step", [Step(bomb=64, times=None), Step(how="endless", times=3)], ids=["gzip bomb", "endless"]
)
def test_an_answer_takes_no_more_memory_than_it_may(scene: Scene, step: Step) -> None:
    assert len(gzip.compress(bytes(1 << 20), 9)) < 2000
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    scene.a_fresh_record_flows("a", "b")
    before = scene.process.memory_info().rss
    scene.oracle.script("a", [step])
    scene.oracle.script("b", [step])

    scene.log_many(20)
    if step.how == "answer":
        scene.all_arrive("a", "b")
    assert holds(lambda: scene.backend("a").left == 0 and scene.backend("b").left == 0, 10)

    assert scene.process.memory_info().rss - before < 16 << 20
    scene.a_fresh_record_flows("a", "b")


def test_a_redirect_to_another_host_gets_neither_event_nor_key(scene: Scene) -> None:
    with Oracle(keep_bodies=True) as other:
        for service in ("a", "b"):
            redirects = [Step(status, {"Location": other.url(service)}) for status in (301, 302, 303, 307, 308)]
            scene.oracle.script(service, redirects)
        scene.start(scene.trakerr("a"), scene.jkool("b"))

        scene.log_many(10)
        scene.all_arrive("a", "b")

        assert [other.request_count(service) for service in ("a", "b", "handshake")] == [0, 0, 0]
    scene.a_fresh_record_flows("a", "b")


def test_a_warning_about_a_server_is_said_once_and_not_shipped(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.oracle.script("a", [Step(503, times=15)])
    scene.start(scene.trakerr("a"))

    scene.log("one", logging.ERROR)
    scene.all_arrive("a")

    assert capfd.readouterr().err.count("HTTP 503") == 1
    assert scene.oracle.accepted("a").keys() == scene.emitted.keys()


def test_spools_in_both_places_hold_nothing_once_everything_is_delivered(scene: Scene) -> None:
    scene.start(scene.trakerr("a"), scene.jkool("b"))
    scene.log_many(100)
    report = scene.stop()
    scene.ends()

    assert report.flushed
    assert dict(report.left) == {"a": 0, "b": 0}
    assert not Path(scene.place.overflow).exists() or not list(Path(scene.place.overflow).iterdir())
