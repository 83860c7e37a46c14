"""Hooks and fixtures for all tests: no settings from the environment, a temporary directory, a check for leftovers."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from multiprocessing.util import get_temp_dir
from pathlib import Path

import hypothesis
import psutil
import pytest

from .support import leftovers, order
from .support.turns import Turns
from .support.waiting import holds

GRACE = 5.0
"""Seconds that processes, threads and files of a test may take to go after it."""

TURNS = pytest.StashKey[Turns]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", default=bool(os.environ.get("LONG_TESTS")), help="run the long fault storms too"
    )


def pytest_configure(config: pytest.Config) -> None:
    for name in [name for name in os.environ if name.startswith("SHIPPER_")]:
        del os.environ[name]
    leftovers.mark_this_run()
    config.stash[TURNS] = Turns()
    config.pluginmanager.register(order.Order(config))
    _settle_examples(random=config.getoption("--long"))
    _share_the_package()


def _settle_examples(*, random: bool) -> None:
    """Make hypothesis try the same examples in every run, or new ones if ``random``.

    With the same examples no change is blamed for chance. They may still differ: hypothesis also takes constants from
    the source of the modules that are imported by then.

    A slow example may be due to the machine's load, so examples have no time limit; only the whole test has one.
    There are hypothesis' usual 100 of each property that does not say how many, or as many as TEST_EXAMPLES says.
    """
    count = int(os.environ.get("TEST_EXAMPLES", "100"))
    hypothesis.settings.register_profile("tests", max_examples=count, deadline=None, derandomize=not random)
    hypothesis.settings.load_profile("tests")


def _share_the_package() -> None:
    """Make processes that tests start import the same package as the tests, whatever folder they run in."""
    spec = find_spec("shipper")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(next(iter(spec.submodule_search_locations))).parent
    if folder.name == "site-packages":
        return
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    order.arrange(items)
    if config.getoption("--long"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long: runs with --long"))


def pytest_collection_finish() -> None:
    """Exclude the objects that exist by now from garbage collection, which runs after each test."""
    leftovers.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test waits for its turn before its time limit begins to count."""
    with item.config.stash[TURNS].taken(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """Escape lone surrogates, which tests log and compare: a pytest-xdist worker can send only valid UTF-8."""
    return _encodable((yield))


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _encodable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_encodable(each) for each in value)
    return value


@pytest.fixture(scope="session", autouse=True)
def own_temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make the temporary directory of this test run, with a short path: whatever is left in it comes from the tests.

    `HOME` and `XDG_STATE_HOME` are folders in it; what tests leave in these is not counted as left over.
    """
    # Make these two outside of it: pytest's outlives the tests, and multiprocessing's lasts until the interpreter ends.
    tmp_path_factory.getbasetemp()
    get_temp_dir()
    folder = Path(tempfile.mkdtemp(prefix="t-"))

    with pytest.MonkeyPatch.context() as environment:
        for name, variable in (("home", "HOME"), ("state", "XDG_STATE_HOME")):
            (folder / name).mkdir(mode=0o700)
            environment.setenv(variable, str(folder / name))
        (folder / "spools").mkdir(mode=0o700)
        environment.setenv("TMPDIR", str(folder))
        tempfile.tempdir = None
        yield folder

    tempfile.tempdir = None
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_over(request: pytest.FixtureRequest, own_temporary_directory: Path) -> Iterator[None]:
    """Fail a test that leaves a process, a thread, an open FIFO, a temporary file or shared memory behind."""
    before = leftovers.Scene.now()

    yield

    places = [own_temporary_directory, *_folders_of(request)]
    leftovers.collect()
    try:
        if not holds(lambda: not before.leftovers(places), GRACE):
            _fail(before, places)
    finally:
        for spool in (own_temporary_directory / "spools").iterdir():
            shutil.rmtree(spool, ignore_errors=True)


def _fail(before: leftovers.Scene, places: list[Path]) -> None:
    left = before.leftovers(places)
    for process in before.processes(places):
        with contextlib.suppress(psutil.Error):
            process.kill()
    if left:
        pytest.fail("left over after the test:\n  " + "\n  ".join(left), pytrace=False)


def _folders_of(request: pytest.FixtureRequest) -> list[Path]:
    folder = request.node.funcargs.get("tmp_path")
    return [] if folder is None else [folder]


@pytest.fixture
def spool(own_temporary_directory: Path) -> Path:
    """Make an empty folder (mode 0700) with a short path; it is removed after the test."""
    return Path(tempfile.mkdtemp(prefix="s-", dir=own_temporary_directory / "spools"))
