"""Modules that are loaded later, from code that was kept."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shipper._support.kept_code import keep_code, use_kept_code

from ..support.waiting import PATIENCE

INTERRUPTED = """
import os, signal
os.kill(os.getpid(), signal.SIGUSR1)
VALUE = "kept"
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[Path]:
    """The folder of a package that is loaded; its modules are forgotten afterwards."""
    folder = tmp_path / "keeping"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("keeping")
    yield folder
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "keeping"]:
        del sys.modules[name]


def load(name: str) -> ModuleType:
    with use_kept_code():
        return importlib.import_module(name)


@pytest.mark.parametrize("later", [None, 'VALUE = "of another version"\n'], ids=["removed", "replaced"])
def test_a_module_is_loaded_as_it_was_when_its_code_was_kept(package: Path, later: str | None) -> None:
    file = package / "later.py"
    file.write_text('VALUE = "kept"\n')
    keep_code("keeping.later")
    assert "keeping.later" not in sys.modules
    file.unlink()
    if later is not None:
        file.write_text(later)

    module = load("keeping.later")

    assert (module.VALUE, module.__file__) == ("kept", str(file))


def test_it_is_loaded_where_other_code_has_replaced_all_finders(package: Path) -> None:
    (package / "alone.py").write_text('VALUE = "kept"\n')
    keep_code("keeping.alone")
    finders = sys.meta_path[:]
    try:
        sys.meta_path.clear()
        assert load("keeping.alone").VALUE == "kept"
    finally:
        sys.meta_path[:] = finders


def test_a_signal_handler_that_interrupts_the_import_gets_the_whole_module(package: Path) -> None:
    (package / "inner.py").write_text(INTERRUPTED)
    (package / "outer.py").write_text("from .inner import VALUE\n")
    keep_code("keeping.inner", "keeping.outer")
    found: list[str] = []

    def handle(number: int, frame: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        found.append(load("keeping.outer").VALUE)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        found.append(load("keeping.outer").VALUE)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert found == ["kept", "kept"]
    assert load("keeping.outer") is sys.modules["keeping.outer"]


FORKING = """
import importlib, os, sys, threading
from shipper._support.kept_code import keep_code, use_kept_code

def load():
    with use_kept_code():
        return importlib.import_module("keeping.slow")

sys.path.insert(0, sys.argv[1])
sys.loading = threading.Event()
keep_code("keeping.slow")
thread = threading.Thread(target=load)
thread.start()
sys.loading.wait()
pid = os.fork()
if pid == 0:
    os._exit(load().VALUE)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), load().VALUE)
"""
SLOW = """
import sys, time
sys.loading.set()
end = time.monotonic() + 0.2
while time.monotonic() < end:
    time.sleep(0.01)
VALUE = 17
"""


def test_a_fork_waits_for_a_module_that_another_thread_loads(package: Path) -> None:
    """In the child that thread is gone, and its import would never end."""
    (package / "slow.py").write_text(SLOW)
    command = [sys.executable, "-c", FORKING, str(package.parent)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)

    assert done.stdout.split() == ["17", "17"]


def test_a_module_that_fails_can_be_imported_again(package: Path) -> None:
    condition = f"os.path.exists({str(package / 'now')!r})"
    (package / "failing.py").write_text(f"import os\nif not {condition}: raise NotImplementedError\n")
    keep_code("keeping.failing")
    with pytest.raises(NotImplementedError):
        load("keeping.failing")
    os.remove(package / "failing.py")
    (package / "now").touch()

    assert load("keeping.failing").__name__ == "keeping.failing"


def test_a_module_without_code_is_loaded_at_once(package: Path) -> None:
    class Compiled:
        """As in a program that has been compiled."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> object:
            return importlib.machinery.ModuleSpec(name, self) if name == "keeping.compiled" else None  # type: ignore[arg-type]

        def create_module(self, spec: object) -> None:
            return None

        def exec_module(self, module: ModuleType) -> None:
            module.__dict__["VALUE"] = "compiled"

    finder = Compiled()
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        keep_code("keeping.compiled")
    finally:
        sys.meta_path.remove(finder)  # type: ignore[arg-type]

    assert sys.modules["keeping.compiled"].VALUE == "compiled"


def test_a_module_that_does_not_exist_is_an_error_at_once(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError):
        keep_code("keeping.missing")
