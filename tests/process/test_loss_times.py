"""When events were last lost."""

from __future__ import annotations

from shipper.process.status.loss_times import LossTimes


def test_a_loss_has_the_time_at_which_its_counter_grew() -> None:
    now = 100.0
    losses = LossTimes({}, {}, wall_clock=lambda: now)

    losses.update({"queue_full": {"INFO": 1}})
    now = 200.0
    times = losses.update({"queue_full": {"INFO": 1}, "redact": {"ERROR": 2}})

    assert times == {"queue_full": 100.0, "redact": 200.0}


def test_what_a_former_process_has_counted_is_not_a_new_loss() -> None:
    losses = LossTimes({"quota": {"INFO": 3}}, {"quota": 50.0}, wall_clock=lambda: 100.0)

    assert losses.update({"quota": {"INFO": 3}}) == {"quota": 50.0}
    assert losses.update({"quota": {"INFO": 3, "ERROR": 1}}) == {"quota": 100.0}
