"""`shipper check`: what could keep events from being delivered, with the remedy."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from shipper.receiver import Receiver
from shipper.spool.files import reclaim_file, write_atomically
from shipper.spool.layout import Spool
from shipper.spool.owner import set_owner

from ..support.disks import tmpfs
from ..support.needs import need
from ..support.servers import Reply, Request, Server
from ..support.waiting import PATIENCE


class Line(NamedTuple):
    level: str
    name: str
    text: str
    remedy: str


class Check(NamedTuple):
    code: int
    lines: list[Line]
    stderr: str

    def of(self, name: str) -> list[Line]:
        return [line for line in self.lines if line.name == name]

    @property
    def errors(self) -> list[Line]:
        return [line for line in self.lines if line.level == "error"]


def check(*arguments: str, cwd: str | None = None, **environment: str) -> Check:
    """Run `shipper check` in a process of its own, with no settings but ``environment``."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("SHIPPER_", "http", "HTTP"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "shipper.cli", "check", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=cwd,
        env={**others, **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Check(done.returncode, [Line(**each) for each in json.loads(done.stdout)], done.stderr)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(trakerr_keys=["right"], jkool_tokens=["right"]) as receiver:
        yield receiver


def settings(receiver: Receiver, spool: Path, token: str = "right") -> dict[str, str]:
    return {
        "SHIPPER_TRAKERR_API_KEY": "right",
        "SHIPPER_TRAKERR_URL": receiver.trakerr_url,
        "SHIPPER_JKOOL_TOKEN": token,
        "SHIPPER_JKOOL_URL": receiver.jkool_url,
        "SHIPPER_SPOOL": str(spool),
    }


def test_everything_is_checked_and_no_event_is_sent(receiver: Receiver, spool: Path) -> None:
    done = check(**settings(receiver, spool))

    assert (done.code, done.errors, done.stderr) == (0, [], "")
    names = {line.name for line in done.lines}
    assert names >= {"python", "packages", "system", "pipe", "/dev/shm", "descriptors", "settings", "spool", "disk"}
    assert any("connected to port" in line.text for line in done.of("trakerr"))
    assert any("HTTP 400" in line.text for line in done.of("trakerr"))
    assert any("HTTP 400" in line.text for line in done.of("jkool"))
    assert receiver.events() == []
    assert list(spool.iterdir()) == []


def test_each_setting_has_its_origin_and_no_secret_is_shown(receiver: Receiver, spool: Path) -> None:
    done = check(**settings(receiver, spool), SHIPPER_RETRY_MAXIMUM="5", SHIPPER_APP="shop")

    texts = [line.text for line in done.of("setting")]
    assert "retry.maximum = 5.0 (from SHIPPER_RETRY_MAXIMUM)" in texts
    assert "app = 'shop' (from SHIPPER_APP)" in texts
    assert "trakerr.api_key = set, 5 characters (from SHIPPER_TRAKERR_API_KEY)" in texts
    assert not any("'right'" in text for text in texts)


def test_refused_credentials_are_an_error(receiver: Receiver, spool: Path) -> None:
    done = check(**settings(receiver, spool, token="wrong"))

    assert done.code == 1
    (line,) = done.errors
    assert (line.name, line.remedy) == ("jkool", "Correct key or token.")
    assert "Invalid access token" in line.text


@pytest.mark.parametrize(
    ("reply", "level", "words"),
    [
        (Reply(404), "error", "refuses every request: HTTP 404"),
        (Reply(301, headers={"Location": "https://x.example/"}), "error", "https://x.example/"),
        (Reply(401), "error", "refuses the credentials: HTTP 401"),
        (Reply(503), "warning", "takes no events now: HTTP 503"),
        (Reply(200), "ok", "accepts a request without an event"),
    ],
)
def test_an_answer_is_judged(reply: Reply, level: str, words: str, spool: Path) -> None:
    with Server(default=reply) as server:
        done = check(SHIPPER_TRAKERR_API_KEY="key", SHIPPER_TRAKERR_URL=server.url, SHIPPER_SPOOL=str(spool))

    line = done.of("trakerr")[-1]
    assert line.level == level
    assert words in line.text
    assert bool(line.remedy) is (level != "ok")
    assert done.code == (1 if level == "error" else 0)


def test_a_collector_that_takes_no_gzip_is_an_error_with_the_remedy(spool: Path) -> None:
    def answer(request: Request) -> Reply:
        return Reply(400 if "content-encoding" in request.headers else 200)

    with Server(answer) as server:
        done = check(SHIPPER_OTLP_ENDPOINT=server.url, SHIPPER_SPOOL=str(spool))

    (line,) = done.errors
    assert (line.name, line.text) == ("otlp", "takes no gzip: HTTP 400")
    assert "compress=False" in line.remedy


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:9", "127.0.0.1:9 cannot be reached"), ("http://no-such-host.invalid", "cannot be reached")],
)
def test_a_service_that_cannot_be_reached_is_an_error(url: str, words: str, spool: Path) -> None:
    done = check(SHIPPER_TRAKERR_API_KEY="key", SHIPPER_TRAKERR_URL=url, SHIPPER_SPOOL=str(spool))

    (line,) = done.errors
    assert words in line.text
    assert "Check the URL" in line.remedy


def test_a_proxy_that_cannot_be_reached_is_named(receiver: Receiver, spool: Path) -> None:
    done = check(**settings(receiver, spool), http_proxy="http://user:secret@127.0.0.1:9")

    assert {line.name for line in done.errors} == {"trakerr", "jkool"}
    assert all("the proxy 127.0.0.1:9 cannot be reached" in line.text for line in done.errors)
    assert "secret" not in str(done.lines)


def test_a_certificate_is_checked(spool: Path, tmp_path: Path) -> None:
    import ssl

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with Server(context=context) as server:
        given = {"SHIPPER_TRAKERR_API_KEY": "key", "SHIPPER_TRAKERR_URL": server.url, "SHIPPER_SPOOL": str(spool)}
        unknown = check(**given)
        known = check(**given, SHIPPER_TRAKERR_CA_BUNDLE=str(bundle))

    assert any("its certificate is not trusted" in line.text for line in unknown.errors)
    assert known.errors == []
    assert any("certificate trusted and valid for" in line.text for line in known.of("trakerr"))


def test_wrong_settings_are_an_error_and_the_machine_is_checked_all_the_same(spool: Path) -> None:
    done = check(SHIPPER_TRAKERR_API_KEY="key", SHIPPER_GRACE="soon")

    assert done.code == 1
    (line,) = done.errors
    assert "SHIPPER_GRACE='soon'" in line.text
    assert done.of("python")


def test_nothing_is_connected_to_when_offline(spool: Path) -> None:
    done = check(
        "--offline", SHIPPER_TRAKERR_API_KEY="key", SHIPPER_TRAKERR_URL="http://127.0.0.1:9", SHIPPER_SPOOL=str(spool)
    )

    assert (done.code, done.of("trakerr")) == (0, [])


def test_a_spool_that_others_can_read_is_an_error(spool: Path) -> None:
    spool.chmod(0o755)

    done = check("--offline", SHIPPER_TRAKERR_API_KEY="key", SHIPPER_SPOOL=str(spool))

    assert "mode 0700" in done.of("spool")[0].text
    assert done.code == 1


def test_a_disk_smaller_than_the_quota_is_a_warning(spool: Path) -> None:
    with tmpfs(spool, "1m"):
        done = check("--offline", SHIPPER_TRAKERR_API_KEY="key", SHIPPER_SPOOL=str(spool))

    (line,) = done.of("disk")
    assert (line.level, "SHIPPER_SPOOLING_QUOTA" in line.remedy) == ("warning", True)


def test_a_backend_that_hides_warnings_is_named(spool: Path) -> None:
    done = check("--offline", SHIPPER_TRAKERR_API_KEY="key", SHIPPER_TRAKERR_LEVEL="ERROR", SHIPPER_SPOOL=str(spool))

    (line,) = done.of("level")
    assert line == Line(
        "warning",
        "level",
        "trakerr gets records from ERROR on: warnings are not sent there",
        "Lower its level, or the setting `level`.",
    )


# -- an application's module -----------------------------------------------------------------------------------------

START = (
    "import logging, shipper\nshipper.start(shipper.Trakerr('key', url='http://127.0.0.1:9'), app='shop', spool={!r})\n"
)


def module(folder: Path, spool: Path, more: str = "", start: str = START) -> None:
    (folder / "shop_wsgi.py").write_text(start.format(str(spool)) + more)


def test_a_module_is_imported_without_starting_anything(spool: Path, tmp_path: Path) -> None:
    module(tmp_path, spool, "logging.getLogger('orders').error('at import')\n")

    done = check("--app", "shop_wsgi:app", "--offline", cwd=str(tmp_path))

    assert (done.code, done.stderr) == (0, "")
    assert [line.text for line in done.of("module")] == ["importing shop_wsgi:app calls shipper.start()"]
    assert any("attached to: root" in line.text for line in done.of("handlers"))
    assert "app = 'shop' (from shipper.start())" in [line.text for line in done.of("setting")]
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "name", "words"),
    [
        ("logging.getLogger().handlers = []", "handlers", "no logger has a handler of shipper"),
        ("logging.getLogger('deaf').propagate = False", "handlers", "(propagate is False): deaf"),
        ("logging.getLogger('off').disabled = True", "handlers", "these loggers are disabled: off"),
        ("logging.getLogger().setLevel('ERROR')", "levels", "the root logger's level is ERROR"),
        ("raise SystemExit(3)", "module", "importing shop_wsgi failed: SystemExit: 3"),
    ],
)
def test_what_keeps_records_from_the_handler_is_named(
    more: str, name: str, words: str, spool: Path, tmp_path: Path
) -> None:
    module(tmp_path, spool, more)

    done = check("--app", "shop_wsgi", "--offline", cwd=str(tmp_path))

    assert any(words in line.text and line.remedy for line in done.of(name)), done.lines


def test_a_module_that_does_not_call_start_is_an_error(spool: Path, tmp_path: Path) -> None:
    module(tmp_path, spool, start="import logging\n")

    done = check("--app", "shop_wsgi", "--offline", cwd=str(tmp_path), SHIPPER_TRAKERR_API_KEY="key")

    assert any("does not call shipper.start()" in line.text for line in done.errors)


def test_text_has_a_line_for_each_check_and_its_remedy_below(spool: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shipper.cli", "check", "--offline"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "SHIPPER_TRAKERR_API_KEY": "key", "SHIPPER_SPOOL": str(spool), "SHIPPER_GRACE": "x"},
    )

    lines = done.stdout.splitlines()
    assert lines[0].startswith("ok       python       CPython")
    assert lines[-2].startswith("error    settings     SHIPPER_GRACE='x'")
    assert lines[-1].strip().startswith("-> Correct it")
    assert "\x1b" not in done.stdout


def test_root_sees_the_process_of_a_spool_that_was_made_for_another_user(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "the rights of root")
    with tempfile.TemporaryDirectory(prefix="o-", dir="/tmp") as folder, contextlib.ExitStack() as opened:
        os.chmod(folder, 0o755)
        set_owner("nobody")
        opened.callback(set_owner, "")
        spool = Spool(f"{folder}/spool")
        spool.prepare()
        write_atomically(spool.status, {"app": "shop", "updated": time.time()})
        lock = reclaim_file(spool.lock, os.O_RDWR | os.O_CREAT)
        opened.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)

        found = check("--offline", "--spool", spool.path, SHIPPER_TRAKERR_API_KEY="right", SHIPPER_APP="shop")

    assert [line.level for line in found.of("spool")] == ["warning", "ok"]
    assert not any("No shipper process runs" in line.text for line in found.of("process"))
