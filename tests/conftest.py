"""What every test gets: a place of its own, no settings of the user's, and a check that nothing is left over."""

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
"""Seconds that stragglers have to go after a test."""

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
    """Every run tries the same examples, so that a change is not blamed for chance; long runs look for new ones.

    Not quite: hypothesis also tries numbers and texts from the source of modules, of those that are imported by then.

    The machine's load says nothing about us, so an example has no time limit of its own; a test has one.
    """
    hypothesis.settings.register_profile("tests", deadline=None, derandomize=not random)
    hypothesis.settings.load_profile("tests")


def _share_the_package() -> None:
    """Processes that tests start import the same package as the tests do, from whatever folder they run in."""
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
    """After each test the collector is run; what has been imported by now it need not look through every time."""
    leftovers.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test waits for its turn before its time limit begins to count."""
    with item.config.stash[TURNS].taken(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """A worker can send only text that has an encoding; what tests log, and compare, may have lone surrogates."""
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
    """A temporary directory with a short path that nobody else writes to, so that what is left in it is ours.

    The user's home is below it too, and so are spools in their default place; they are not counted as left over.
    """
    # pytest's own folders outlive the tests, and multiprocessing's is removed when the interpreter ends.
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
    """An empty folder of our own (mode 0700) with a short path; gone after the test."""
    return Path(tempfile.mkdtemp(prefix="s-", dir=own_temporary_directory / "spools"))
