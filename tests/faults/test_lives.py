"""Random lives of processes (`lives.py`): every call that returned is delivered or counted.

Nothing is written into the files of the application. A usual run tries the same lives each time, a `--long` run new
ones. `LIVES_SEED=<seed> LIVES=<n>` tries ``n`` lives from that seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from shipper.spool.layout import Spool
from shipper.spool.lock import running

from ..support.apps import App, shippers_of
from ..support.servers import Server
from ..support.waiting import holds, wait_until

PROGRAM = Path(__file__).with_name("lives.py")
AT_ONCE = 4
HEIR = "begin(app='lives'); print(shipper.stop(60).flushed)"


@dataclass
class Ledger:
    """What one process says in its file."""

    returned: list[str] = field(default_factory=list)
    dropped: int = 0
    """The highest count of its own drops in the file."""

    @classmethod
    def read(cls, path: Path) -> Ledger:
        found = cls()
        for line in path.read_text().splitlines():
            words = line.split()
            if words[0] == "=":
                found.returned.append(words[1])
                found.dropped = max(found.dropped, int(words[2]))  # threads write their lines in any order
        return found


class Life:
    """One run of the program, and what becomes of its events."""

    def __init__(self, app: App, seed: str, steps: int) -> None:
        self.app = app
        self.seed = seed
        for name in ("ledger", "files"):
            (app.folder / name).mkdir(parents=True)
            (app.folder / name).chmod(0o777)
        app.folder.chmod(0o755)
        with (app.folder / "stderr").open("wb") as stderr:
            command = [sys.executable, str(PROGRAM), seed, str(steps), str(app.folder), app.server.url]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True
            )

    @property
    def is_over(self) -> bool:
        """Whether all of its processes have ended, also those in the background."""
        return self.process.poll() is not None and not self._processes()

    def _processes(self) -> list[psutil.Process]:
        folder = str(self.app.folder)
        return [each for each in psutil.process_iter(["cmdline"]) if folder in (each.info["cmdline"] or [])]

    def kill(self) -> None:
        for process in self._processes():
            process.kill()
        self.process.wait()

    def missing(self) -> list[str]:
        """Return the undelivered names of each process that has more of them than it counted as dropped."""
        arrived = {message.split()[0] for message in self.app.messages()}
        missing = []
        for path in (self.app.folder / "ledger").iterdir():
            ledger = Ledger.read(path)
            left = [name for name in ledger.returned if name not in arrived]
            missing += left if len(left) > ledger.dropped else []
        return missing

    def deliver_all(self) -> None:
        """Wait for the end of the shipper process; if names are missing, start again to deliver what is left."""
        wait_until(lambda: not shippers_of(self.app.spool), 30, "the end of the shipper process")
        if self.missing():
            self.app.run(HEIR, timeout=30)
            wait_until(lambda: running(Spool(str(self.app.spool))) is None, 30, "the end of the heir's process")

    def foreign_bytes(self) -> list[str]:
        files = (self.app.folder / "files").iterdir()
        return [str(path) for path in files if path.read_bytes().replace(b"mine\n", b"")]

    def story(self) -> str:
        """Return the steps of each process, with the numbers of the calls that returned after each, and stderr."""
        lines = []
        for path in sorted((self.app.folder / "ledger").iterdir(), key=lambda path: path.stat().st_mtime):
            words = [line.split() for line in path.read_text().splitlines()]
            steps = " ".join(
                each[1] if each[0] == "#" else each[1].rpartition("/")[2] for each in words if each[0] in "#="
            )
            lines.append(f"{path.name}: {steps}")
        return "\n".join([*lines, "stderr:", (self.app.folder / "stderr").read_text()[-2000:]])


def live(server: Server, place: Path, seeds: list[str]) -> Iterator[Life]:
    """Run a life for each seed, `AT_ONCE` at the same time; yield each when it is over."""
    waiting = list(seeds)
    alive: list[Life] = []
    try:
        while waiting or alive:
            while waiting and len(alive) < AT_ONCE:
                seed = waiting.pop()
                folder = place / seed
                alive.append(Life(App(server, folder / "spool", folder), seed, 2 + random.Random(seed).randrange(12)))
            assert holds(lambda: any(life.is_over for life in alive), 60), [life.seed for life in alive]
            for life in [life for life in alive if life.is_over]:
                alive.remove(life)
                yield life
    finally:
        for life in alive:
            life.kill()


@pytest.fixture
def place(spool: Path) -> Iterator[Path]:
    """A folder that every user may enter, because a life may change its user."""
    closed = [spool, spool.parent, spool.parent.parent]
    for folder in closed:
        folder.chmod(0o711)
    yield spool
    for folder in closed:
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("count", "seeds"),
    [(12, 1), pytest.param(1000, 10**9, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
    ids=["some", "many"],
)
def test_every_call_of_a_random_life_is_accounted_for(place: Path, count: int, seeds: int) -> None:
    first = int(os.environ.get("LIVES_SEED", random.randrange(seeds)))
    print(f"LIVES_SEED={first}")
    lives = [str(first + number) for number in range(int(os.environ.get("LIVES", count)))]

    bad = []
    with Server() as server:
        for life in live(server, place, lives):
            life.deliver_all()
            missing, foreign = life.missing(), life.foreign_bytes()
            if missing or foreign:
                bad.append(
                    f"life {life.seed}: missing {missing[:5]} ({len(missing)}), foreign {foreign}\n{life.story()}"
                )

    assert not bad, "\n\n".join(bad)
