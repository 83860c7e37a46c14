"""Check the documents: code blocks run, links have a target, and the commands and settings that they name exist.

A Python block runs in a fresh interpreter and a folder of its own. It runs as written, except that a backend without an
address as a keyword argument gets the address of a server on this machine, and that its folder stands for /tmp. A block
that begins with a comment that names a file (`# shop/shipping.py`) is a module: it is written to that file and
imported, and the blocks below it can import it too. A block that cannot run here has `<!-- not run: reason -->` before
it.

A shell block without that marker runs when all its commands are in `COMMANDS_TO_RUN`; the others only have to parse.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest

from shipper.cli import COMMANDS, make_parser

from .support.leftovers import Scene
from .support.waiting import SLOWER

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [*ROOT.glob("*.md"), *sorted((ROOT / "shipper").rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]
README_BYTES = 17 * 1024
LINK = re.compile(r"\]\(([^)\s]+)(?: [^)]*)?\)|^\[[^\]]+\]: +(\S+)", re.MULTILINE)
MODULE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(
    r"^(?P<marker><!-- not run: (?P<reason>.+?) -->\s*?\n\s*?)?^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```\s*$",
    re.MULTILINE | re.DOTALL,
)
SHELLS = {"bash", "console", "sh", "shell"}
COMMANDS_TO_RUN = {"cat", "echo", "export", "printf", "python", "python3", "shipper", "some-program", "unset"}
PROGRAMS = {
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
    "python3": f'exec {shlex.quote(sys.executable)} "$@"',
    "shipper": f'exec {shlex.quote(sys.executable)} -m shipper.cli "$@"',
    "some-program": "echo a line; echo another",
}
"""Commands that are put on a block's PATH, and the shell script of each."""
ADDRESSES = {"Trakerr": "url", "JKool": "url", "Http": "url", "Otlp": "endpoint"}
"""Backend's class → its keyword for the address."""
TIMEOUT = 60.0 * SLOWER
FILE = re.compile(r"# (?P<path>(?:\w+/)*\w+\.py)\n")

# Raises in any process that a block starts when it looks up or calls a machine other than this one, or makes a folder
# in /tmp, where another run of these tests would meet it.
STAY_HERE = """\
import os
import sys

OWN = (os.path.dirname(os.path.dirname(__file__)) + "/", os.environ["TMPDIR"] + "/")


def stay_here(event, arguments):
    host = None
    if event == "os.mkdir":
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if path.startswith("/tmp/") and not path.startswith(OWN):
            raise PermissionError(f"the documentation tests make no folder that others could make too: {path}")
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    if isinstance(host, bytes):
        host = host.decode()
    if host and host not in ("localhost", "0.0.0.0", "::1") and not host.startswith("127."):
        raise ConnectionRefusedError(f"the documentation tests stay on this machine: {host}")


sys.addaudithook(stay_here)
"""

TRACEBACK = """\
Traceback (most recent call last):
  File "backup.py", line 7, in <module>
    raise OSError("disk full")
OSError: disk full
"""


@dataclasses.dataclass(frozen=True)
class Block:
    document: str
    line: int
    language: str
    text: str
    reason: str | None  # why the block is not run; None when it may run

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def module(self) -> str | None:
        """The file that a Python block names in its first line, if any."""
        found = FILE.match(self.text)
        return found["path"] if found and self.language == "python" else None


def relative(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks(document: Path) -> Iterator[Block]:
    """Yield every fenced block that names its language."""
    text = document.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(relative(document), line, found["language"], found["text"], found["reason"])


def of_language(*languages: str) -> list[Block]:
    return [block for document in DOCUMENTS for block in blocks(document) if block.language in languages]


class Capture(ThreadingHTTPServer):
    """A server that answers every POST request with 200 and counts them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Capture

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def capture() -> Iterator[Capture]:
    with Capture() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Address(ast.NodeTransformer):
    def __init__(self, url: str) -> None:
        self.url = url

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        setting = ADDRESSES.get(name)
        if setting is None or any(keyword.arg in (setting, None) for keyword in node.keywords):
            return node
        if name in ("Http", "Otlp"):  # the address may be the first argument
            node.args = []
        node.keywords.append(ast.keyword(setting, ast.Constant(self.url)))
        return node


def addressed(source: str, url: str, folder: Path) -> str:
    """Return the source with ``folder`` for /tmp, and ``url`` for backends without an address as a keyword argument."""
    source = source.replace('"/tmp/', f'"{folder}/')
    return ast.unparse(ast.fix_missing_locations(_Address(url).visit(ast.parse(source))))


def environment(folder: Path, server: Capture) -> dict[str, str]:
    """Return the environment for a block: programs and the spool in ``folder``, backends that send to ``server``."""
    here = folder / "stay"
    here.mkdir()
    (here / "sitecustomize.py").write_text(STAY_HERE)
    for name, command in PROGRAMS.items():
        (here / name).write_text(f"#!/bin/sh\n{command}\n")
        (here / name).chmod(0o700)
    paths = [str(here), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PATH": os.pathsep.join((str(here), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "SHIPPER_SPOOL": str(folder / "spool"),
        "SHIPPER_TRAKERR_API_KEY": "api-key",
        "SHIPPER_TRAKERR_URL": server.url,
        "SHIPPER_JKOOL_TOKEN": "access-token",
        "SHIPPER_JKOOL_URL": server.url,
    }


def test_the_readme_is_short_and_has_examples() -> None:
    assert len(README.read_bytes()) <= README_BYTES
    assert {block.language for block in blocks(README)} >= {"python", "bash"}


def prose(document: Path) -> str:
    """The document without its blocks of code."""
    return BLOCK.sub("", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """The fragments that GitHub gives to the headings of a document."""
    found: list[str] = []
    for heading in HEADING.findall(prose(document)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")
        found.append(f"{name}-{found.count(name)}" if name in found else name)
    return set(found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_leads_somewhere(document: Path) -> None:
    """Within the repository, its file and heading have to exist; an external link only has to be an https address."""
    links = [inline or below for inline, below in LINK.findall(prose(document))]

    assert [link for link in links if not leads_somewhere(document, link)] == []


def leads_somewhere(document: Path, link: str) -> bool:
    address = urlsplit(link)
    if address.scheme:
        return address.scheme == "https" and bool(address.netloc)
    target = (document.parent / unquote(address.path)).resolve() if address.path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not address.fragment or (target.suffix == ".md" and unquote(address.fragment) in anchors(target))


def test_every_module_that_the_architecture_names_exists() -> None:
    named = set(MODULE.findall((ROOT / "shipper" / "ARCHITECTURE.md").read_text(encoding="utf-8")))

    assert len(named) > 20, "modules are no longer named as `package/module.py`"
    assert [each for each in sorted(named) if not ((ROOT / "shipper" / each).exists() or (ROOT / each).exists())] == []


def test_every_module_that_a_docstring_or_a_comment_names_exists() -> None:
    """Its path is relative to the folder of the file that names it, to the package, or to the root."""
    package = ROOT / "shipper"
    missing = [
        f"{source.relative_to(ROOT)}: {named}"
        for source in package.rglob("*.py")
        for named in re.findall(r"`([\w./]+\.py)`", source.read_text(encoding="utf-8"))
        if named != "gunicorn.conf.py" and not any((at / named).exists() for at in (source.parent, package, ROOT))
    ]

    assert missing == []


def test_every_test_that_the_architecture_names_exists() -> None:
    text = (ROOT / "shipper" / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)

    assert named
    missing = [test for path, test in named if f"def {test}(" not in (ROOT / path).read_text()]
    assert missing == []



def test_the_architecture_describes_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "shipper").glob("*/__init__.py")}
    text = (ROOT / "shipper" / "ARCHITECTURE.md").read_text(encoding="utf-8")

    assert [package for package in sorted(packages) if f"`{package}/`" not in text] == []


def run(command: list[str], block: Block, folder: Path, server: Capture) -> subprocess.CompletedProcess[str]:
    """Run a block as a reader would, and kill the processes that it leaves. AssertionError when it fails."""
    before = Scene.now()
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder, server),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    finally:
        # A shipper process that the block has not stopped would go on delivering for a while.
        for process in before.processes([folder]):
            with contextlib.suppress(psutil.Error):
                process.kill()
    assert done.returncode == 0, f"{block}:\n{done.stdout}\n{done.stderr}"
    return done


def write_modules(block: Block, folder: Path, url: str) -> None:
    """Write the modules that stand above the block in its document, and the block itself if it is a module."""
    for each in blocks(ROOT / block.document):
        if each.module is not None and each.line <= block.line:
            path = folder / each.module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(addressed(each.text, url, folder), encoding="utf-8")


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_a_python_block_runs(block: Block, spool: Path, capture: Capture) -> None:
    compile(block.text, str(block), "exec")
    if block.reason is not None:
        pytest.skip(f"not run: {block.reason}")
    write_modules(block, spool, capture.url)
    script = spool / "block.py"
    script.write_text(addressed(block.text, capture.url, spool), encoding="utf-8")
    name = block.module and block.module.removesuffix(".py").replace("/", ".")

    done = run([sys.executable, *(("-c", f"import {name}") if name else (str(script),))], block, spool, capture)

    assert "Traceback" not in done.stderr or "raise" in block.text, done.stderr
    if "shipper.start(" in block.text and "shipper.stop(" in block.text and "Receiver(" not in block.text:
        assert capture.requests > 0, "nothing arrived"


def typed(block: Block) -> str:
    """Return what a reader types: the lines after a prompt (``$ ``) if there are any, else the whole block."""
    lines = block.text.splitlines()
    return "\n".join([line[2:] for line in lines if line.startswith("$ ")] or lines)


def commands(script: str) -> set[str]:
    """Return the names of the programs that a script starts."""
    parts = re.split(r"\n|&&|\|\||[|;]", re.sub(r"\\\n|#.*", "", script))
    return {Path(part.split()[0]).name for part in parts if part.strip()}


@pytest.mark.parametrize("block", of_language(*SHELLS), ids=str)
def test_a_shell_block_runs(block: Block, spool: Path, capture: Capture) -> None:
    parsed = subprocess.run(["bash", "-n"], input=typed(block), capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, f"{block}:\n{parsed.stderr}"
    others = commands(typed(block)) - COMMANDS_TO_RUN
    if block.reason is not None or others:
        return
    (spool / "traceback.txt").write_text(TRACEBACK)

    run(["bash", "-euo", "pipefail", "-c", typed(block)], block, spool, capture)


def test_the_commands_in_the_documents_exist() -> None:
    """Commands and options in backticks in a sentence or a table, such as `shipper status --json`."""
    wrong = []
    for document in DOCUMENTS:
        for code in re.findall(r"`shipper ([a-z]+[^`]*)`", prose(document)):
            name, *options = re.findall(r"^[a-z-]+|--[a-z][a-z-]*", code)
            if name not in COMMANDS or set(options) - options_of(name):
                wrong.append(f"{relative(document)}: shipper {code}")

    assert wrong == []


def options_of(command: str) -> set[str]:
    (subcommands,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {option for action in subcommands.choices[command]._actions for option in action.option_strings}


def settings_of_the_documents() -> list[str]:
    """Return the names in backticks in the first column of every table below a heading about settings."""
    names: list[str] = []
    inside = False
    for line in "\n".join(map(prose, DOCUMENTS)).splitlines():
        if line.startswith("#"):
            inside = "settings" in line.lower() or line == "## Configuration"
        elif inside and line.startswith("|"):
            names += re.findall(r"`([A-Za-z_][\w.]*)`", line.split("|")[1])
    return names


def settings_of_the_code() -> set[str]:
    """Return the parameters of `start`, of backends and of public dataclasses, also as ``Batching.max_age``."""
    door: Any = importlib.import_module("shipper")
    shown = [*vars(door).values(), *vars(importlib.import_module("shipper.config.settings")).values()]
    kinds = [kind for kind in shown if inspect.isclass(kind) and dataclasses.is_dataclass(kind)]
    kinds += [getattr(door, name) for name in (*ADDRESSES, "Console", "JetStream")]
    names = set(inspect.signature(door.start).parameters)
    for kind in kinds:
        fields = {*inspect.signature(kind).parameters}
        names |= fields | {f"{prefix}.{field}" for field in fields for prefix in (kind.__name__, kind.__name__.lower())}
    return names


def test_every_setting_in_the_documents_exists() -> None:
    named = settings_of_the_documents()

    assert len(named) > 40, "the tables of settings are not where they were"
    assert [each for each in named if each not in settings_of_the_code()] == []
