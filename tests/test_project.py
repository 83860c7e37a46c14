"""What holds for the project as a whole: its top level, its wheel, and what importing it costs."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

from shipper._version import DISTRIBUTION

ROOT = Path(__file__).resolve().parent.parent
AGREED = {"LICENSE", "README.md", "setup.cfg", "setup.py", "shipper", "tests", "tox.ini"}
PRODUCTS = {"__pycache__", "build", "dist", "shipper_logs.egg-info", "venv"}
"""What building and running leave at the top level; `.gitignore` has them."""

STRANGERS = ("nats", "psutil", "requests", "rich", "starlette", "tenacity", "urllib3", "uvicorn")
SOMEBODYS_HOME = re.compile(r"/(?:home|Users)/(?!you\b)\w")


def our_files() -> Iterator[Path]:
    """Yield the project's files, but no symbolic links, build products or files in hidden folders other than `.ci`."""
    for folder, folders, names in os.walk(ROOT):
        here = Path(folder)
        folders[:] = [name for name in folders if name not in PRODUCTS and (name == ".ci" or not name.startswith("."))]
        yield from (here / name for name in names if not (here / name).is_symlink())


def test_the_top_level_holds_only_what_is_agreed() -> None:
    there = {entry.name for entry in ROOT.iterdir() if not entry.name.startswith(".")}

    assert there - PRODUCTS == AGREED


def test_products_are_ignored_by_git() -> None:
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}

    assert {".tox", ".tox-venv", "*.egg-info", "__pycache__", "build", "dist", "venv"} <= ignored


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    # Skip a path of one name, such as "/app": files may contain it without meaning this machine.
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    places = [str(place) for place in (ROOT, home) if len(place.parts) > 2]

    naming = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in our_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if SOMEBODYS_HOME.search(line) or any(place in line for place in places)
    ]

    assert naming == []


@pytest.mark.parametrize("script", ["tests/run", ".ci/run"])
def test_a_script_is_executable_and_parses(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / script)], check=False).returncode == 0


@pytest.mark.parametrize("arguments", [["--repeat"], ["--repeat", "x"], ["--repeat=0"], ["--repeat", "-e", "tests"]])
def test_repeating_not_a_number_of_times_is_refused_before_anything_is_made(arguments: list[str]) -> None:
    ran = subprocess.run([ROOT / "tests" / "run", *arguments], capture_output=True, text=True, check=False)

    value = arguments[1] if len(arguments) > 1 else arguments[0].partition("=")[2]
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f'tests/run: --repeat takes how many times, such as 20, not "{value}"\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the checkout, built from a copy so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("LICENSE", "README.md", "setup.cfg", "setup.py"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "shipper", copy / "shipper", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return copy / "dist" / built.stdout.splitlines()[-1]


def test_the_wheel_has_every_file_of_the_package_and_none_of_the_tests(wheel: Path) -> None:
    """Documents (`.md`) may be missing: they are for readers of the repository."""
    below = (path for path in our_files() if path.is_relative_to(ROOT / "shipper"))
    package = {str(path.relative_to(ROOT)) for path in below if path.suffix != ".md"}

    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())

    assert "shipper/py.typed" in shipped
    assert package - shipped == set()
    assert [name for name in shipped if name.startswith("tests")] == []


def test_the_wheel_carries_its_licence_and_its_entry_points(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith("/METADATA")).rpartition("/")[0]
        metadata = archive.read(f"{info}/METADATA").decode()
        entry_points = ConfigParser()
        entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())

    assert any(name.endswith("/LICENSE") for name in names)
    assert "Apache-2.0" in metadata
    assert f"Name: {DISTRIBUTION}\n" in metadata
    assert set(entry_points["shipper.backends"]) == {"trakerr", "jkool"}
    assert entry_points["console_scripts"]["shipper"] == "shipper.cli:main"


def fresh_interpreter(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in ``folder``, outside of the checkout, so that it imports the package that the tests import."""
    command = [sys.executable, "-W", "error", "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["shipper", "shipper.trakerr", "shipper.jkool"])
def test_importing_the_application_side_imports_no_stranger(module: str, tmp_path: Path) -> None:
    script = f"import sys, {module}; print(*sorted(set({STRANGERS!r}) & set(sys.modules)))"

    done = fresh_interpreter(script, tmp_path)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_importing_every_module_starts_nothing_and_says_nothing(tmp_path: Path) -> None:
    script = "\n".join(
        (
            "import pkgutil, importlib, threading, shipper",
            "found = pkgutil.walk_packages(shipper.__path__, 'shipper.')",
            "names = [module.name for module in found if not module.name.endswith('__main__')]",
            "[importlib.import_module(name) for name in names]",
            "print(threading.active_count(), len(names) > 10)",
        )
    )

    done = fresh_interpreter(script, tmp_path)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1 True", "")
