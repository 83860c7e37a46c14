"""RQ: a worker class that ships, with the job's id, function and queue in every event.

    rq worker --worker-class shipper.integrations.rq.ShipperWorker

Shipping is configured by the environment (``SHIPPER_…``).
"""

from __future__ import annotations

from typing import Any

from rq import Worker

from .. import start
from ..application.capture.surroundings import bound


class ShipperWorker(Worker):  # type: ignore[misc] # RQ has no types
    """RQ's worker. Each job runs in a forked child."""

    def work(self, *arguments: Any, **named: Any) -> Any:
        start()
        return super().work(*arguments, **named)

    def perform_job(self, job: Any, queue: Any, *more: Any, **named: Any) -> Any:
        with bound(job_id=job.id, job_function=job.func_name, queue=queue.name):
            return super().perform_job(job, queue, *more, **named)
