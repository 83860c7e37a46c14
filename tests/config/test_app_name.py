"""The default name of an app: the same in all of its processes, different for different programs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from shipper import JKool, Trakerr
from shipper.config.environment import resolve

from ..support.needs import need
from ..support.waiting import PATIENCE

TELL = "from shipper.config.app_name import default_app\nprint(default_app(), flush=True)\n"


SPAWN = """
import multiprocessing
from shipper.config.app_name import default_app
def tell(_=None):
    return default_app()
if __name__ == "__main__":
    names = {default_app()}
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            names.update(pool.map(tell, [0]))
    print(*names)
"""


def told(*command: str, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_script_is_named_after_its_file_wherever_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TELL)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "shop.py").write_text(TELL)

    names = {
        told(sys.executable, "shop.py", cwd=tmp_path),
        told(sys.executable, "shop.py", "--port", "80", cwd=tmp_path),
        told(sys.executable, "../shop.py", cwd=tmp_path / "sub"),
        told(sys.executable, str(tmp_path / "shop.py"), cwd=Path("/")),
    }
    other = told(sys.executable, "shop.py", cwd=tmp_path / "sub")

    assert len(names) == 1
    assert names.pop().startswith("shop-")
    assert other.startswith("shop-")
    assert other not in names


def test_a_package_that_is_run_is_named_after_its_folder(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "__main__.py").write_text(TELL)
    (tmp_path / "shop" / "job.py").write_text(TELL)

    assert told(sys.executable, "-m", "shop", cwd=tmp_path).startswith("shop-")
    assert told(sys.executable, "-m", "shop.job", cwd=tmp_path).startswith("job-")


def test_children_of_every_start_method_have_their_parents_name(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SPAWN)

    names = told(sys.executable, "shop.py", cwd=tmp_path).split()

    assert len(names) == 1


def test_a_command_and_a_script_from_stdin_are_named_after_their_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = {told(sys.executable, "-c", TELL, cwd=tmp_path), told(sys.executable, "-", cwd=tmp_path, stdin=TELL)}

    assert len(names) == 1
    assert names.pop().startswith("python-")
    assert told(sys.executable, "-c", TELL, cwd=tmp_path / "other") not in names


def test_an_installed_server_is_named_after_itself_its_folder_and_its_application(tmp_path: Path) -> None:
    environment = tmp_path / "venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python3").symlink_to(sys.executable)
    server = environment / "server"
    server.write_text(
        "import importlib, sys\nsys.path.insert(0, '')\nimportlib.import_module(sys.argv[1].split(':')[0])\n" + TELL
    )
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text("")
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.py").write_text("")

    first = told(sys.executable, str(server), "one:app", cwd=tmp_path)

    assert first.startswith("server-")
    assert told(sys.executable, str(server), "one:app", "--workers", "3", cwd=tmp_path) == first
    assert told(sys.executable, str(server), "two:app", cwd=tmp_path) != first
    assert told(sys.executable, str(server), "one:app", cwd=tmp_path / "one") != first


def test_a_server_has_one_name_before_and_after_it_has_loaded_its_application(tmp_path: Path) -> None:
    environment = tmp_path / "venv" / "bin"
    environment.mkdir(parents=True)
    (environment / "python3").symlink_to(sys.executable)
    server = environment / "server"
    server.write_text(f"import sys\nsys.path.insert(0, '')\n{TELL}import shop.one\nprint(default_app())\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "one.py").write_text("")

    before, after = told(sys.executable, str(server), "shop.one:app", cwd=tmp_path).split()

    assert before == after


def test_a_worker_of_loky_has_its_parents_name(tmp_path: Path) -> None:
    need(find_spec("loky"), "loky")
    (tmp_path / "shop.py").write_text(
        "from shipper.config.app_name import default_app\n"
        "if __name__ == '__main__':\n"
        "    from loky import get_reusable_executor\n"
        "    print(default_app(), get_reusable_executor(1).submit(default_app).result())\n"
    )

    mine, worker = told(sys.executable, "shop.py", cwd=tmp_path).split()

    assert mine == worker


@pytest.mark.skipif(sys.version_info[:3] == (3, 13, 0), reason="importing anything there is a SystemError in 3.13.0")
def test_a_deleted_working_directory_is_handled(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = f"import os\nos.rmdir(os.getcwd())\n{TELL}from shipper.config.environment import resolve\n"
    code += "print(resolve((), {}, {'SHIPPER_TRAKERR_API_KEY': 'k'}).cwd)"

    assert told(sys.executable, "-c", code, cwd=tmp_path / "gone").endswith("/")


def test_an_app_without_a_name_has_its_destinations_in_it() -> None:
    """Two notebooks in one folder, each with a key of its own, must not get each other's events."""
    one, two = JKool("one"), JKool("two")
    trakerr = Trakerr("key")

    def name(*backends: object, **given: str) -> str:
        return resolve(backends, given, {}).app

    assert name(one) == name(JKool("one", timeout=(3, 3), level=40))
    assert len({name(one), name(two), name(JKool("one", url="http://localhost")), name(one, trakerr)}) == 4
    assert name(one, trakerr) == name(trakerr, one)
    assert name(one, spool="/tmp/x") == name(two, spool="/tmp/x")
    assert name(one, app="shop") == name(two, app="shop") == "shop"
