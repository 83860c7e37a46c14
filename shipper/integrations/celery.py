"""Celery: one line in the module of the application.

>>> ship(app, shipper.Trakerr("api-key"))

Every process of the worker ships: the parent, the pool's children, ``beat``. Celery configures logging in each of
them, and removes handlers then ("hijacks the root logger"); shipping starts after that, by Celery's own signals. Task
name, id and retries are in every event that a task logs. A task that fails is logged by Celery itself, once, with its
exception.
"""

from __future__ import annotations

from typing import Any

from .. import start
from ..application.capture.surroundings import bind, unbind

FIELDS = ("task_name", "task_id", "task_retries")


def ship(celery_app: Any, /, *backends: Any, **settings: Any) -> None:
    """Call `shipper.start` with these arguments in every process of Celery's, and bind the task while it runs.

    ``celery_app`` is the Celery application. Processes that only send tasks call `shipper.start` themselves.
    """
    from celery import signals

    def begin(**_: Any) -> None:
        start(*backends, **settings)

    # After logging was set up: in the worker and in beat, and in each process of a pool.
    for signal in (signals.after_setup_logger, signals.beat_init, signals.worker_process_init, signals.worker_init):
        signal.connect(begin, weak=False, dispatch_uid=f"shipper.start.{id(signal)}")
    signals.task_prerun.connect(_begin_task, weak=False, dispatch_uid="shipper.task_prerun")
    signals.task_postrun.connect(_end_task, weak=False, dispatch_uid="shipper.task_postrun")


def _begin_task(task_id: str = "", task: Any = None, **_: Any) -> None:
    retries = getattr(getattr(task, "request", None), "retries", 0)
    bind(task_name=getattr(task, "name", ""), task_id=task_id, task_retries=retries)


def _end_task(**_: Any) -> None:
    unbind(*FIELDS)

