"""The documents are true: their Python runs, their commands parse, their links lead somewhere, their settings exist.

A block runs in a fresh interpreter, in a folder of its own, as it is written but for one thing: a backend that is made
without a url gets that of a server on this machine. One that can't run here has `<!-- not run: reason -->` before it.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from .support.leftovers import Scene

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "shipper").rglob("*.md")), *sorted((ROOT / "tests").rglob("*.md"))]
README_BYTES = 17 * 1024
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"`((?:[a-z_]+/)+[a-z_]+\.py)`")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(
    r"^(?P<marker><!-- not run: (?P<reason>.+?) -->\s*?\n\s*?)?^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```\s*$",
    re.MULTILINE | re.DOTALL,
)
SHELLS = {"bash", "console", "sh", "shell"}
BACKENDS = {"Trakerr", "JKool"}
TIMEOUT = 60.0

# Raises in any process that a block starts when it looks up or calls a machine other than this one.
STAY_HERE = """\
import sys


def stay_here(event, arguments):
    host = None
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


@dataclasses.dataclass(frozen=True)
class Block:
    document: str
    line: int
    language: str
    text: str
    reason: str | None  # why it is not run

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def relative(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks(document: Path) -> Iterator[Block]:
    """Every fenced block that names its language."""
    text = document.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(relative(document), line, found["language"], found["text"], found["reason"])


def of_language(*languages: str) -> list[Block]:
    return [block for document in DOCUMENTS for block in blocks(document) if block.language in languages]


class Capture(ThreadingHTTPServer):
    """Says 200 to everything, and counts."""

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
        """Tests say nothing."""


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
        if name in BACKENDS and not any(keyword.arg in ("url", None) for keyword in node.keywords):
            node.keywords.append(ast.keyword("url", ast.Constant(self.url)))
        return node


def addressed(source: str, url: str) -> str:
    """The block with ``url`` for every backend that is made without one."""
    return ast.unparse(ast.fix_missing_locations(_Address(url).visit(ast.parse(source))))


def environment(folder: Path, server: Capture) -> dict[str, str]:
    """What a reader's shell would have, with every address and every file on this machine and in ``folder``."""
    here = folder / "stay"
    here.mkdir()
    (here / "sitecustomize.py").write_text(STAY_HERE)
    paths = [str(here), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
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
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(document)))
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(prose(document)):
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if link.startswith("https://"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_module_that_the_architecture_names_exists() -> None:
    named = set(MODULE.findall((ROOT / "shipper" / "ARCHITECTURE.md").read_text(encoding="utf-8")))

    assert len(named) > 20, "modules are no longer named as `package/module.py`"
    assert [each for each in sorted(named) if not ((ROOT / "shipper" / each).exists() or (ROOT / each).exists())] == []


def test_the_architecture_describes_every_package() -> None:
    packages = {path.parent.name for path in (ROOT / "shipper").glob("*/__init__.py")}
    text = (ROOT / "shipper" / "ARCHITECTURE.md").read_text(encoding="utf-8")

    assert [package for package in sorted(packages) if f"`{package}/`" not in text] == []


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_a_python_block_runs(block: Block, spool: Path, capture: Capture) -> None:
    compile(block.text, str(block), "exec")
    if block.reason is not None:
        pytest.skip(f"not run: {block.reason}")
    script = spool / "block.py"
    script.write_text(addressed(block.text, capture.url), encoding="utf-8")
    before = Scene.now()

    try:
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=spool,
            env=environment(spool, capture),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    finally:
        # What a block has not stopped goes on delivering for a while; other tests wait for that.
        for process in before.processes((str(spool),)):
            with contextlib.suppress(psutil.Error):
                process.kill()

    assert done.returncode == 0, f"{block}:\n{done.stderr}"
    assert "Traceback" not in done.stderr or "raise" in block.text
    if "shipper.start(" in block.text and "shipper.stop(" in block.text and "Receiver(" not in block.text:
        assert capture.requests > 0, "nothing arrived"


@pytest.mark.parametrize("block", of_language(*SHELLS), ids=str)
def test_a_shell_block_parses(block: Block) -> None:
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    script = "\n".join(typed) if typed else block.text

    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)

    assert done.returncode == 0, f"{block}:\n{done.stderr}"


def settings_of_the_documents() -> list[str]:
    """The names in backticks in the first column of every table below a heading about settings."""
    names: list[str] = []
    inside = False
    for line in "\n".join(map(prose, DOCUMENTS)).splitlines():
        if line.startswith("#"):
            inside = "settings" in line.lower() or line == "## Configuration"
        elif inside and line.startswith("|"):
            names += re.findall(r"`([A-Za-z_][\w.]*)`", line.split("|")[1])
    return names


def settings_of_the_code() -> set[str]:
    """Names of start()'s keywords, and of the fields of every dataclass that the door or the settings show."""
    door: Any = importlib.import_module("shipper")
    shown = [*vars(door).values(), *vars(importlib.import_module("shipper.config.settings")).values()]
    kinds = [kind for kind in shown if inspect.isclass(kind) and dataclasses.is_dataclass(kind)]
    kinds += [getattr(door, name) for name in BACKENDS]
    names = set(inspect.signature(door.start).parameters)
    for kind in kinds:
        fields = {*inspect.signature(kind).parameters}
        names |= fields | {f"{prefix}.{field}" for field in fields for prefix in (kind.__name__, kind.__name__.lower())}
    return names


def test_every_setting_in_the_documents_exists() -> None:
    named = settings_of_the_documents()

    assert len(named) > 40, "the tables of settings are not where they were"
    assert [each for each in named if each not in settings_of_the_code()] == []
