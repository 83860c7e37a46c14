"""What every test gets: nothing may be left over, nothing of the user's settings comes in."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing.util import get_temp_dir
from pathlib import Path

import hypothesis
import psutil
import pytest

from .support import leftovers
from .support.waiting import holds

GRACE = 5.0
"""Seconds that stragglers have to go after a test."""

# The machine's load says nothing about us, so an example has no time limit of its own; a test has one.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", default=bool(os.environ.get("LONG_TESTS")), help="run the long fault storms too"
    )


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("SHIPPER_")]:
        del os.environ[name]
    leftovers.mark_this_run()
    _share_the_package()


def _share_the_package() -> None:
    """Processes that tests start import the same package as the tests do, from whatever folder they run in."""
    spec = find_spec("shipper")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations))).parent
    if folder.name == "site-packages":
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: runs with --long"))


def pytest_collection_finish() -> None:
    """After each test the collector is run; what has been imported by now it need not look through every time."""
    leftovers.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary directory with a short path that nobody else writes to, so that what is left in it is ours.

    Spools in their default place go below it too, out of the user's home; they are not counted as left over.
    """
    # pytest's own folders outlive the tests, and multiprocessing's is removed when the interpreter ends.
    tmp_path_factory.getbasetemp()
    get_temp_dir()
    folder = Path(tempfile.mkdtemp(prefix="t-"))
    state = folder / "state"
    state.mkdir(mode=0o700)

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", str(folder))
        environment.setenv("XDG_STATE_HOME", str(state))
        tempfile.tempdir = None
        yield folder

    tempfile.tempdir = None
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest, own_temporary_directory: Path) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, an open FIFO or a folder behind; end such processes."""
    before = leftovers.Scene.now()

    yield

    paths = (str(own_temporary_directory), *_folders_of(request))
    leftovers.collect()
    if holds(lambda: not before.leftovers(paths), GRACE):
        return
    left = before.leftovers(paths)
    for process in before.processes(paths):
        with contextlib.suppress(psutil.Error):
            process.kill()
    if left:
        pytest.fail("left over after the test:\n  " + "\n  ".join(left), pytrace=False)


def _folders_of(request: pytest.FixtureRequest) -> tuple[str, ...]:
    folder = request.node.funcargs.get("tmp_path")
    return () if folder is None else (str(folder),)


@pytest.fixture
def spool() -> Iterator[Path]:
    """An empty folder of our own (mode 0700) with a short path; gone after the test."""
    folder = Path(tempfile.mkdtemp(prefix="s-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
