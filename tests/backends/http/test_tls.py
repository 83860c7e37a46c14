"""Certificates: which ones are trusted, which one the client presents, and the error for a wrong one."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shipper import ConfigurationError, JKool, Trakerr
from shipper.backends.http.sender import Sender
from shipper.backends.protocol import AppContext
from shipper.config.environment import resolve
from shipper.errors import DeliveryError, UnauthorisedError
from shipper.event.model import Event

from ...support.http_backends import Behaviour, Described, serving, together
from ...support.http_backends import sending as sending_described
from ...support.servers import CLOSE, HANG, RESET, Reply, Server

trustme = pytest.importorskip("trustme")

CONTEXT = AppContext("app", "/", "host", "127.0.0.1", lambda time: None)


class Files:
    """Certificates in files: an authority, a client signed by it, and a client signed by another authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.server = self.authority.issue_cert("127.0.0.1")
        self.client("client", self.authority)
        self.client("stranger", trustme.CA())

    def client(self, name: str, authority: Any) -> None:
        issued = authority.issue_cert(f"{name}@corp.test")
        issued.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.crt"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}.pem"))

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def context(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, wants_client: bool = True) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        context.maximum_version = version
        if wants_client:
            self.authority.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@contextmanager
def sending(backend: Trakerr | JKool, context: AppContext = CONTEXT) -> Iterator[Sender]:
    sender = Sender(backend)
    sender.open(context)
    yield sender
    sender.close()


def sent(sender: Sender) -> DeliveryError | None:
    (result,) = sender.send([Event(message="event")])
    return result


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


# Client certificates.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("given", [("client.crt", "client.key"), ("client.pem",), "client.pem"], ids=str)
@pytest.mark.parametrize("kind", [Trakerr, JKool])
def test_a_client_certificate_is_presented(
    kind: type[Trakerr | JKool], given: tuple[str, ...] | str, version: ssl.TLSVersion, files: Files
) -> None:
    paths = files.path(given) if isinstance(given, str) else tuple(map(files.path, given))
    with Server(context=files.context(version)) as server:
        backend = kind("key", url=server.url, ca_bundle=files.path("ca.pem"), client_cert=paths)
        with sending(backend) as sender:
            assert sent(sender) is None

        assert server.requests


@pytest.mark.parametrize("kind", [Trakerr, JKool])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_the_first_error_says_that_a_client_certificate_is_missing(
    version: ssl.TLSVersion, kind: type[Trakerr | JKool], files: Files
) -> None:
    with Server(context=files.context(version)) as server:
        with sending(kind("key", url=server.url, ca_bundle=files.path("ca.pem"))) as sender:
            result = sent(sender)

        assert result is not None
        assert "client_cert" in result.reason
        assert server.requests == []


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_the_first_error_says_that_the_client_certificate_is_refused(version: ssl.TLSVersion, files: Files) -> None:
    with Server(context=files.context(version)) as server:
        given = (files.path("stranger.crt"), files.path("stranger.key"))
        with sending(Trakerr("key", url=server.url, ca_bundle=files.path("ca.pem"), client_cert=given)) as sender:
            result = sent(sender)

        assert isinstance(result, UnauthorisedError)
        assert "refuses the client certificate" in result.reason


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("client.crt", "stranger.key"), "the key does not belong to the certificate"),
        (("client.crt", "encrypted.key"), "the key is encrypted"),
        (("ca.txt", "client.key"), "PEM format"),
        (("client.crt",), "PEM format"),
    ],
)
def test_a_wrong_client_certificate_is_told_before_a_connection_is_opened(
    given: tuple[str, ...], problem: str, files: Files
) -> None:
    encrypt(files.folder / "client.key", files.folder / "encrypted.key")
    (files.folder / "ca.txt").write_text("no certificate")
    with Server(context=files.context()) as server:
        paths = [files.path(name) for name in given]
        with sending(Trakerr("key", url=server.url, ca_bundle=files.path("ca.pem"), client_cert=paths)) as sender:
            result = sent(sender)

        assert isinstance(result, UnauthorisedError)
        assert "client_cert: " in result.reason
        assert problem in result.reason
        assert server.connections == []


def encrypt(key: Path, encrypted: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encrypted.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"password"),
        )
    )


@pytest.mark.parametrize("kind", [Trakerr, JKool])
@pytest.mark.parametrize(
    "given", ["missing.pem", ("missing.pem",), ("ca.pem", "missing.pem"), ("ca.pem",) * 3, (), 5, ("ca.pem", 5), "."]
)
def test_a_client_certificate_that_is_no_file_is_refused(given: Any, kind: type[Trakerr | JKool], files: Files) -> None:
    def place(name: Any) -> Any:
        return files.path(name) if isinstance(name, str) else name

    paths = tuple(map(place, given)) if isinstance(given, tuple) else place(given)

    with pytest.raises(ConfigurationError, match=rf"{kind.__name__}\.client_cert"):
        kind("key", client_cert=paths)


@pytest.mark.parametrize(("variable", "kind"), [("TRAKERR_API_KEY", "TRAKERR"), ("JKOOL_TOKEN", "JKOOL")])
def test_a_client_certificate_comes_from_the_environment(variable: str, kind: str, files: Files) -> None:
    pair = files.path("client.crt"), files.path("client.key")
    variables = {f"SHIPPER_{variable}": "key", f"SHIPPER_{kind}_CLIENT_CERT": ", ".join(pair)}

    (backend,) = resolve((), {"app": "test"}, variables).backends

    assert backend.client_cert == pair


def test_a_client_certificate_is_found_from_any_working_directory(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files.folder)

    assert Trakerr("key", client_cert="client.pem").client_cert == (files.path("client.pem"),)


def test_a_certificate_that_is_renewed_is_used_from_then_on(files: Files, tmp_path: Path) -> None:
    renewed = tmp_path / "renewed.pem"
    shutil.copy(files.path("stranger.pem"), renewed)
    with Server(context=files.context()) as server:
        backend = Trakerr("key", url=server.url, ca_bundle=files.path("ca.pem"), client_cert=str(renewed))
        with sending(backend) as sender:
            before = sent(sender)
            shutil.copy(files.path("client.pem"), tmp_path / "new.pem")
            os.replace(tmp_path / "new.pem", renewed)
            after = sent(sender)

    assert isinstance(before, UnauthorisedError)
    assert after is None


# Authorities.


def hashed_folder(certificate: str, folder: Path) -> Path:
    """A folder as OpenSSL reads it: each file is named after the hash of its subject."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    command = ["openssl", "x509", "-noout", "-hash", "-in", certificate]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    folder.mkdir()
    shutil.copy(certificate, folder / f"{name}.0")
    return folder


def test_authorities_come_from_the_folders_in_ssl_cert_dir(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hashed_folder(files.path("ca.pem"), tmp_path / "certs")
    monkeypatch.setenv("SSL_CERT_DIR", f"/no/such/folder:{folder}")
    with Server(context=files.context(wants_client=False)) as server, sending(Trakerr("k", url=server.url)) as sender:
        assert sent(sender) is None


def test_ssl_cert_dir_may_be_relative_to_the_applications_working_directory(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed_folder(files.path("ca.pem"), tmp_path / "certs")
    monkeypatch.setenv("SSL_CERT_DIR", "certs")
    context = replace(CONTEXT, cwd=str(tmp_path))
    tls = files.context(wants_client=False)
    with Server(context=tls) as server, sending(Trakerr("k", url=server.url), context) as sender:
        assert sent(sender) is None


def test_a_folder_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", "/no/such/folder")
    with sending(Trakerr("k", url="https://127.0.0.1:1")) as sender:
        result = sent(sender)

    assert isinstance(result, UnauthorisedError)
    assert "SSL_CERT_DIR: there is no folder /no/such/folder" in result.reason


def test_the_backends_own_folder_of_authorities_is_used(files: Files, tmp_path: Path) -> None:
    folder = hashed_folder(files.path("ca.pem"), tmp_path / "certs")
    with (
        Server(context=files.context(wants_client=False)) as server,
        sending(Trakerr("k", url=server.url, ca_bundle=str(folder))) as sender,
    ):
        assert sent(sender) is None


# Connections.


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("fate", [HANG, RESET, CLOSE], ids=["silence", "reset", "close"])
def test_dead_idle_connections_with_tls_cost_one_attempt(fate: Reply, version: ssl.TLSVersion, files: Files) -> None:
    behaviour = Behaviour()
    with serving(behaviour, context=files.context(version, wants_client=False)) as server:
        timeout = (5, 0.5 if fate is HANG else 5)
        backend = Described(server.url, True, timeout=timeout, ca_bundle=files.path("ca.pem"))
        with sending_described(backend) as sender:
            together(sender, backend.meeting, 4)
            behaviour.answer = lambda conn, nth, request: fate if conn < 4 else None

            assert sent(sender) is None

            assert len(server.connections) == 5
