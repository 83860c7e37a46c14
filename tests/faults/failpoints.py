"""Named points in the life of the shipper process where a test may kill, stop, raise or delay.

The package has no code for this: `start(python=…)` runs a wrapper script, which runs the real interpreter with a
`sitecustomize.py` that wraps functions of the package by their names. A file for each time that a point
was triggered tells later processes how often that was.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failpoint:
    """At call ``number`` of ``function`` in a process: "kill" or "stop" it, "raise" an OSError, or "delay" it.

    Or "set" a constant to ``value``, in every process and before it is used.

    ``function`` is ``module:name`` or ``module:class.name``; only calls count whose arguments, as text, contain
    ``where``. It happens in the first ``times`` processes that get there. ``delay`` is in seconds.
    """

    name: str
    function: str
    when: str = "before"
    where: str = ""
    action: str = "kill"
    number: int = 1
    times: int = 1
    delay: float = 0.2
    value: float = 0.0


_CUSTOMIZE = '''\
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
POINTS = json.load(open(os.path.join(HERE, "points.json")))
open_file, dup, close = os.open, os.dup, os.close


def fired(point):
    """Whether it is this process's turn; said by a file, which only one process can make."""
    for turn in range(point["times"]):
        try:
            close(open_file(os.path.join(HERE, f"{point['name']}.{turn}"), os.O_CREAT | os.O_EXCL))
            return True
        except FileExistsError:
            continue
    return False


def act(point):
    if not fired(point):
        return
    if point["action"] == "raise":
        raise OSError(5, "raised by a failpoint")
    if point["action"] == "delay":
        time.sleep(point["delay"])
        return
    os.kill(os.getpid(), signal.SIGKILL if point["action"] == "kill" else signal.SIGSTOP)


def wrapped(point, function):
    calls = 0

    def call(*args, **kwargs):
        nonlocal calls
        counts = not point["where"] or point["where"] in repr((args, kwargs))
        calls += counts
        due = counts and calls == point["number"]
        if due and point["when"] == "before":
            act(point)
        result = function(*args, **kwargs)
        if due and point["when"] == "after":
            act(point)
        return result

    return call


def wrap(module, point):
    owner = module
    *path, name = point["function"].partition(":")[2].split(".")
    for step in path:
        owner = getattr(owner, step)
    is_set = point["action"] == "set"
    setattr(owner, name, point["value"] if is_set else wrapped(point, getattr(owner, name)))


class Finder(importlib.abc.MetaPathFinder):
    """Wraps what is named, as soon as its module has been imported."""

    def find_spec(self, name, path, target=None):
        points = [point for point in POINTS if point["function"].partition(":")[0] == name]
        points = points if name.startswith("shipper") else []
        spec = importlib.machinery.PathFinder.find_spec(name, path) if points else None
        if spec is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            for point in points:
                wrap(module, point)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
for each in POINTS:
    module = each["function"].partition(":")[0]
    if not module.startswith("shipper"):
        wrap(importlib.import_module(module), each)
'''


class Failpoints:
    """A Python in ``folder`` whose processes trigger ``points``; pass its `python` to `start()`."""

    def __init__(self, folder: Path, *points: Failpoint) -> None:
        self.folder = folder
        self.points = points
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "points.json").write_text(json.dumps([asdict(point) for point in points]))
        (folder / "sitecustomize.py").write_text(_CUSTOMIZE)
        wrapper = folder / "python"
        path = f"{shlex.quote(str(folder))}${{PYTHONPATH:+:$PYTHONPATH}}"
        wrapper.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {shlex.quote(sys.executable)} "$@"\n')
        wrapper.chmod(0o700)

    @property
    def python(self) -> str:
        return str(self.folder / "python")

    @property
    def fired(self) -> int:
        """How often points were triggered, in all processes together."""
        turns = [f"{point.name}.{turn}" for point in self.points for turn in range(point.times)]
        return sum((self.folder / turn).exists() for turn in turns)
