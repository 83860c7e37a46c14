"""Metrics as OpenMetrics text, for Prometheus and for the node exporter's textfile collector."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from shipper.cli.status.openmetrics import openmetrics
from shipper.delivery.latency import BUCKETS_SECONDS
from shipper.report import read_status
from shipper.spool.layout import Spool

from ..support.status_files import STATUS, make_spool
from .conftest import Run

SAMPLE = re.compile(r'^(?P<name>[a-z_]+)(?P<labels>\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? (?P<value>-?[0-9.e+-]+)$')

REQUESTS = [1, *[0] * (len(BUCKETS_SECONDS) - 1), 2]
BUSY = {
    **STATUS,
    "dropped": {"queue_full": {"DEBUG": 3}},
    "backends": {
        "jkool": {
            "state": "retrying", "counts": {"delivered": 1400, "dead": 1}, "oldest": 1.0,
            "requests": REQUESTS, "request_seconds": 61.5, "dropped": {"quota": {"INFO": 2}},
        }
    },
}  # fmt: skip


def samples(text: str) -> dict[str, float]:
    """Return name and labels → value. AssertionError when a line is malformed, or a metric's lines are not together."""
    found: dict[str, float] = {}
    families: list[str] = []
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""]
    for line in lines[:-2]:
        if line.startswith("#"):
            _, keyword, name, _ = line.split(" ", 3)
            assert keyword in ("HELP", "TYPE")
            families += [name] if keyword == "HELP" else []
            assert families[-1] == name
            continue
        sample = SAMPLE.match(line)
        assert sample is not None, line
        assert sample["name"].startswith(families[-1]), line
        key = sample["name"] + (sample["labels"] or "")
        assert key not in found, f"twice: {key}"
        found[key] = float(sample["value"])
    assert len(families) == len(set(families))
    return found


def test_metrics_have_the_numbers_of_the_status(spool: Path) -> None:
    make_spool(spool, BUSY)

    found = samples(openmetrics([("root", read_status(Spool(str(spool)), "checkout"))]))

    app, backend = 'app="checkout",user="root"', 'app="checkout",user="root",backend="jkool"'
    assert found[f"shipper_up{{{app}}}"] == 0
    assert found[f"shipper_health{{{app}}}"] == 3
    assert found[f"shipper_events_emitted_total{{{app}}}"] == 1503
    assert found[f'shipper_events_dropped_total{{{app},reason="queue_full",level="DEBUG"}}'] == 3
    assert found[f"shipper_backend_events_delivered_total{{{backend}}}"] == 1400
    assert found[f"shipper_backend_events_dead_total{{{backend}}}"] == 1
    assert found[f'shipper_backend_events_dropped_total{{{backend},reason="quota",level="INFO"}}'] == 2
    assert found[f"shipper_backend_events_left{{{backend}}}"] == 99
    assert found[f"shipper_backend_lag_seconds{{{backend}}}"] > 1e9
    assert found[f'shipper_backend_state{{{backend},state="stopped"}}'] == 1


def test_latency_is_a_cumulative_histogram(spool: Path) -> None:
    make_spool(spool, BUSY)

    found = samples(openmetrics([("root", read_status(Spool(str(spool)), "checkout"))]))

    labels = 'app="checkout",user="root",backend="jkool"'
    name = "shipper_backend_request_seconds"
    assert found[f'{name}_bucket{{{labels},le="0.005"}}'] == found[f'{name}_bucket{{{labels},le="30.0"}}'] == 1
    assert found[f'{name}_bucket{{{labels},le="+Inf"}}'] == found[f"{name}_count{{{labels}}}"] == 3
    assert found[f"{name}_sum{{{labels}}}"] == 61.5


def test_a_value_of_a_label_is_escaped(spool: Path) -> None:
    make_spool(spool, {**STATUS, "app": 'a "b"\\\n'})

    assert samples(openmetrics([("root", read_status(Spool(str(spool)), "x"))]))


def test_prometheus_and_metrics_print_the_same(place: Path, run: Run) -> None:
    make_spool(place / "checkout", {**STATUS, "updated": 4e9})

    assert run("status", "--prometheus")[:2] == run("metrics")[:2]


def test_a_textfile_is_replaced_as_a_whole_and_readable_for_all(place: Path, run: Run, tmp_path: Path) -> None:
    make_spool(place / "checkout", STATUS)
    path = tmp_path / "shipper.prom"
    path.write_text("old")

    code, out, _ = run("metrics", "--textfile", str(path))

    assert (code, out) == (0, "")
    assert samples(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in tmp_path.glob("*shipper.prom*")] == ["shipper.prom"]


def test_a_textfile_that_cannot_be_written_is_exit_code_1(place: Path, run: Run, tmp_path: Path) -> None:
    make_spool(place / "checkout", STATUS)

    code, _, err = run("metrics", "--textfile", str(tmp_path / "nowhere" / "x.prom"))

    assert code == 1
    assert "x.prom: No such file or directory" in err


def test_without_any_app_there_are_metrics_without_samples(place: Path, run: Run) -> None:
    code, out, _ = run("metrics")

    assert code == 0
    assert samples(out) == {}


@pytest.mark.parametrize("seconds", ["0", "never"])
def test_a_wrong_interval_is_exit_code_2(seconds: str, run: Run) -> None:
    with pytest.raises(SystemExit) as ended:
        run("metrics", "--every", seconds)

    assert ended.value.code == 2
