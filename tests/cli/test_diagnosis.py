"""What `shipper status` concludes from a status: which trouble it names, how bad it is, and with which remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from shipper.backends.http.status import classify_status
from shipper.backends.protocol import HttpResponse
from shipper.cli.status.diagnosis import DEGRADED, FAILING, HEALTHY, NOT_RUNNING, Finding, diagnose, severity
from shipper.cli.status.notes import notes
from shipper.report import BackendStatus, Status

NOW = 1_000_000.0


def app(**fields: Any) -> Status:
    """The status of an app whose process runs, and that is in no trouble."""
    given: dict[str, Any] = {
        "app": "shop", "spool": "/spool", "running": True, "pid": os.getpid(), "started": NOW - 60, "updated": NOW,
        "journaled": 10, "doubles": 0, "dropped": {}, "missing": 0, "corrupt": 0, "levels": {}, "journal_bytes": 0,
        "segments": 1, "trouble": "", "backends": (BackendStatus("trakerr", state="idle", delivered=10),), **fields,
    }  # fmt: skip
    return Status(**given)


def backend(**fields: Any) -> Status:
    return app(backends=(BackendStatus(**{"name": "trakerr", "state": "delivering", **fields}),))


def worst(status: Status) -> Finding:
    return diagnose(status, NOW)[0]


def test_an_app_without_trouble_is_healthy() -> None:
    assert diagnose(app(), NOW) == [Finding(HEALTHY, "Everything that came in is delivered.")]
    assert "3 events are on the way" in str(worst(backend(left=3)))
    assert "1 event is on the way" in str(worst(backend(left=1)))
    assert "1 event is on the way, the oldest for 9.0 s (to trakerr)." in str(worst(backend(left=1, lag=9.0)))


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (app(running=False, ended=True), NOT_RUNNING, "everything that came in was delivered"),
        (
            app(running=False, ended=True, backends=(BackendStatus("trakerr", state="paused", left=3),)),
            NOT_RUNNING,
            "3 events wait, and trakerr is paused.",
        ),
        (app(running=False, updated=None), NOT_RUNNING, "it is not known what is left"),
        (app(updated=None), DEGRADED, "/spool/status.json is missing or damaged"),
        (app(updated=None, pid=None), DEGRADED, "The shipper process is starting"),
        (
            app(quota=1 << 20, backends=(BackendStatus("trakerr", state="paused", since=NOW - 5, left=3),)),
            DEGRADED,
            "(5.0 s ago), by `shipper pause`: it is sent nothing. 3 events wait. The journal has 0 B of its quota of "
            "1.0 MiB, at which events are given up.",
        ),
        (app(updated=NOW - 9), DEGRADED, "has written no status for 9.0 s"),
        (app(detached={7: "orders"}), FAILING, "Process 7 ships nothing from the logger 'orders'"),
        (app(crashes=3, crash_reason="boom"), FAILING, "has crashed 3 times in a row: boom"),
        (
            app(trouble="No space left on device", in_memory=2188),
            DEGRADED,
            "No space left on device; 2,188 events wait",
        ),
        (
            app(journal_bytes=900 << 20, quota=1 << 30, backends=(BackendStatus("trakerr", left=5),)),
            DEGRADED,
            "The journal has 900.0 MiB of its quota of 1.0 GiB",
        ),
        (app(dropped={"queue_full": {"DEBUG": 3}}, dropped_at={"queue_full": NOW - 5}), FAILING, "queue_full: DEBUG 3"),
        (backend(state="unauthorised", left=1, last_error="HTTP 401"), FAILING, "refuses the credentials (HTTP 401)"),
        (
            backend(state="unauthorised", last_error="handshake: HTTP 404"),
            FAILING,
            "refuses the connection (handshake: HTTP 404)",
        ),
        (backend(state="unauthorised", last_error="handshake: HTTP 403"), FAILING, "trakerr refuses the credentials ("),
        (backend(state="unauthorised", last_error="HTTP 407"), FAILING, "The proxy in front of trakerr refuses its"),
        (
            backend(state="refused", last_error="HTTP 404", url="http://x/y"),
            FAILING,
            "every event (HTTP 404) at http://x/y",
        ),
        (backend(state="retrying", left=2, last_error="HTTP 503"), DEGRADED, "HTTP 503. 2 events wait"),
        (backend(left=9, lag=90.0), DEGRADED, "trakerr is slow: 9 events wait, the oldest for 90 s"),
        (backend(dead=1, dead_letters=1), DEGRADED, "1 event was refused by trakerr and is kept as a dead letter."),
        (
            backend(dropped={"quota": {"INFO": 100}}, dropped_at={"quota": NOW - 5}),
            FAILING,
            "100 events were given up for trakerr (quota: INFO 100)",
        ),
        (backend(state="not configured", left=4), DEGRADED, "no longer configured. 4 events wait"),
    ],
)
def test_trouble_is_named_with_its_severity_and_a_remedy(status: Status, level: int, words: str) -> None:
    found = worst(status)

    assert found.severity == level
    assert words in found.what
    assert found.remedy or "everything that came in was delivered" in found.what


def test_a_redirect_is_not_called_refused_credentials() -> None:
    response = HttpResponse(301, {"location": "https://new.example/api"}, "")
    answer = classify_status(response, NOW)
    error = answer.reason if answer is not None else ""

    found = worst(backend(state="unauthorised", last_error=error, left=1))

    assert "redirects to https://new.example/api" in found.what
    assert "credentials" not in str(found)
    assert "SHIPPER_TRAKERR_URL" in found.remedy


def test_refused_credentials_are_said_also_when_no_process_runs() -> None:
    status = app(running=False, ended=True, backends=(BackendStatus("jkool", state="unauthorised", left=5),))

    findings = diagnose(status, NOW)

    assert [finding.severity for finding in findings] == [FAILING, NOT_RUNNING]
    assert "SHIPPER_JKOOL_TOKEN" in findings[0].remedy


def test_a_killed_process_is_told_from_one_that_has_ended() -> None:
    killed = worst(app(running=False, ended=False, backends=(BackendStatus("jkool", left=5),)))
    ended = worst(app(running=False, ended=True, backends=(BackendStatus("jkool", left=5),)))

    assert "gone without having finished" in killed.what
    assert "gone" not in ended.what
    assert "5 events wait for the next start" in ended.what


def test_an_old_loss_is_a_note_and_not_trouble() -> None:
    status = app(dropped={"queue_full": {"DEBUG": 3, "INFO": 1}}, dropped_at={"queue_full": NOW - 3600})

    assert worst(status).severity == HEALTHY
    assert list(notes(status, NOW)) == [
        "Since the spool was made, 4 events were dropped (queue_full: DEBUG 3, INFO 1)."
    ]


def test_nothing_is_ever_said_to_be_lost_or_not_lost_without_being_known() -> None:
    for status in (app(), app(updated=None), app(running=False, updated=None), backend(left=3)):
        assert "nothing is lost" not in str(worst(status)).lower()


def test_the_worst_comes_first() -> None:
    status = app(
        trouble="No space left on device",
        backends=(
            BackendStatus("a", state="retrying", left=1),
            BackendStatus("b", state="unauthorised", left=1),
        ),
    )

    findings = diagnose(status, NOW)

    assert [finding.severity for finding in findings] == [FAILING, DEGRADED, DEGRADED]
    assert severity(findings) == FAILING


def test_a_process_that_is_stopped_is_told_from_one_that_hangs(tmp_path: Path) -> None:
    found = worst(app(updated=NOW - 9))

    assert "hangs" in found.what
    assert f"kill -9 {os.getpid()}" in found.remedy
