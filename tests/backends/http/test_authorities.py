"""Which certificates of servers are trusted, also through tunnels of proxies; against real servers."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from shipper.errors import RetryableError, UnauthorisedError

from ...support.http_backends import HANDSHAKE, Clock, Described, handshakes, sending, sent
from ...support.servers import Server


@dataclass(frozen=True)
class Certificates:
    """Paths of a test authority, and of a certificate for 127.0.0.1 and service.test that it signed."""

    authority: Path
    server: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "service.test").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "server.pem")
    )
    return Certificates(folder / "ca.pem", folder / "server.pem")


def test_the_backends_own_authority_wins_over_the_environment(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TLS too, each new connection begins with a handshake."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.server))
    with Server(context=certificates.context()) as server:
        backend = Described(server.url, shakes_hands=True, ca_bundle=str(certificates.authority))
        clock = Clock()
        with sending(backend, clock) as sender:
            assert [sent(sender) for _ in range(2)] == [None, None]
            clock.now += 241
            assert sent(sender) is None

        assert handshakes(server) == [[True, False, False], [True, False]]


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_authority_can_come_from_the_environment(
    name: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificates.authority))
    with Server(context=certificates.context()) as server, sending(Described(server.url)) as sender:
        monkeypatch.delenv(name)
        assert sent(sender) is None


@pytest.mark.parametrize("variable", [None, "SSL_CERT_FILE"])
def test_a_relative_ca_bundle_is_relative_to_the_applications_folder(
    variable: str | None, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipper process works in another folder."""
    folder, name = os.path.split(certificates.authority)
    if variable is not None:
        monkeypatch.setenv(variable, name)
    with Server(context=certificates.context()) as server:
        backend = Described(server.url, ca_bundle=name if variable is None else None)
        with sending(backend, cwd=folder) as sender:
            assert sent(sender) is None


def test_a_certificate_of_an_unknown_authority_is_retryable(certificates: Certificates) -> None:
    with Server(context=certificates.context()) as server, sending(Described(server.url, shakes_hands=True)) as sender:
        answer = sent(sender)

        assert type(answer) is RetryableError
        assert "TLS" in answer.reason
        assert "CERTIFICATE_VERIFY_FAILED" in answer.reason
        assert server.requests == []


def test_a_missing_ca_bundle_is_unauthorised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    with sending(Described("https://127.0.0.1:1/")) as sender:
        answer = sent(sender)

    assert isinstance(answer, UnauthorisedError)
    assert "/no/such/file" in answer.reason


def test_a_server_without_tls_is_retryable(certificates: Certificates) -> None:
    with Server() as server, sending(Described(f"https://127.0.0.1:{server.port}", timeout=(0.3, 0.3))) as sender:
        assert type(sent(sender)) is RetryableError


def test_each_tunnel_begins_with_a_handshake(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy itself gets only CONNECT; the handshake is the first request inside each tunnel."""
    clock = Clock()
    with Server(tunnel_context=certificates.context()) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        backend = Described("https://service.test/p", shakes_hands=True, ca_bundle=str(certificates.authority))
        with sending(backend, clock) as sender:
            assert [sent(sender, "e") for _ in range(2)] == [None, None]
            clock.now += 241
            assert sent(sender, "e") is None

        lines = [[request.line.rsplit(" ", 1)[0] for request in requests] for requests in proxy.connections]
        assert lines == [
            ["CONNECT service.test:443", "POST /p", "POST /p", "POST /p"],
            ["CONNECT service.test:443", "POST /p", "POST /p"],
        ]
        assert [[request.body for request in requests[1:]] for requests in proxy.connections] == [
            [HANDSHAKE, b"e", b"e"],
            [HANDSHAKE, b"e"],
        ]
