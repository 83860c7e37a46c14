"""A deployment removes the virtual environment, or all of Python, below a running application."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

import shipper

from ..support.apps import App
from ..support.servers import Server

DEPENDENCIES = ("msgpack", "psutil", "requests", "urllib3", "tenacity", "certifi", "idna", "charset_normalizer")


@pytest.fixture
def app(spool: Path, tmp_path: Path) -> Iterator[App]:
    with Server() as server:
        made = App(server, spool, tmp_path)
        made.environment.pop("PYTHONPATH", None)
        yield made
        made.wait_for_end()


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A virtual environment with a copy of the package in it."""
    folder = tmp_path / "release"
    venv.create(folder, with_pip=False, symlinks=True)
    installed = Path(sysconfig.get_path("purelib"))
    site = folder / "lib" / installed.parent.name / "site-packages"
    for name in DEPENDENCIES:
        shutil.copytree(installed / name, site / name)
    for module in installed.glob("*mypyc*.so"):
        shutil.copy(module, site)
    shutil.copytree(Path(shipper.__file__).parent, site / "shipper", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(site / "shipper", quiet=1)
    return folder


def run(app: App, environment: Path, source: str) -> tuple[str, str]:
    """Run ``source`` with the environment's Python; return its stdout and stderr."""
    script = app.write(source)
    done = subprocess.run(
        [str(environment / "bin" / "python"), str(script), str(environment)],
        env=app.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_without_its_environment_an_application_ships_stops_and_tells_its_status(
    app: App, environment: Path
) -> None:
    output, errors = run(app, environment, """
        import shutil
        begin()
        log.error("before")
        assert shipper.flush(60)
        shutil.rmtree(sys.argv[1])
        log.error("after")
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("failed")
        print(shipper.status().running, shipper.stop(30).flushed)
    """)  # fmt: skip

    assert (output, errors) == ("True True\n", "")
    assert app.messages() == ["before", "after", "failed"]


@pytest.mark.parametrize("ending", ["print(shipper.stop(10).flushed)", "print(False)"], ids=["stop", "exit"])
def test_a_process_that_can_not_be_started_again_is_named_and_the_next_release_delivers(
    app: App, environment: Path, ending: str
) -> None:
    output, errors = run(app, environment, f"""
        import shutil
        begin()
        log.error("before")
        assert shipper.flush(60)
        shutil.rmtree(sys.argv[1])
        os.kill(shipper.status().pid, signal.SIGKILL)
        while shipper.status().running:
            time.sleep(0.02)
        log.error("after")
        {ending}
    """)  # fmt: skip

    assert output == "False\n"
    assert "can't be started" in errors
    assert "Traceback" not in errors
    app.environment["PYTHONPATH"] = str(Path(shipper.__file__).parent.parent)
    app.run("begin(); assert shipper.stop(60).flushed")
    assert app.messages() == ["before", "after"]


def test_the_supervisor_survives_what_can_not_be_imported_any_more(app: App, environment: Path) -> None:
    """All of Python is gone, the standard library too."""
    output, errors = run(app, environment, """
        begin()
        assert shipper.flush(60)
        class Gone:
            def find_spec(self, name, path=None, target=None):
                raise ModuleNotFoundError(f"No module named {name!r}")
        finders, sys.meta_path[:] = sys.meta_path[:], [Gone()]
        sys.modules.pop("subprocess")
        os.kill(shipper.status().pid, signal.SIGKILL)
        while shipper.status().running:
            time.sleep(0.02)
        log.error("after")
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            time.sleep(0.05)
        print([each.name for each in threading.enumerate() if each.name == "shipper-supervisor"])
        print(shipper.stop(0.5).flushed)
        sys.meta_path[:] = finders
    """)  # fmt: skip

    assert output == "['shipper-supervisor']\nFalse\n"
    assert "supervising the shipper process failed" in errors
    assert "Traceback" not in errors
    app.environment["PYTHONPATH"] = str(Path(shipper.__file__).parent.parent)
    app.run("begin(); assert shipper.stop(60).flushed")
    assert app.messages() == ["after"]
