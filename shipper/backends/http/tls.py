"""TLS of a backend's connections: which certificates are trusted, and the client certificate."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import requests.utils
from urllib3.util.ssl_ import create_urllib3_context

from .failure import SetupError


class CaCertificates(NamedTuple):
    """Paths of a file and of folders (separated by colons, as OpenSSL reads them) with trusted certificates."""

    file: str | None = None
    folders: str | None = None


def find_ca_certificates(own: str | None, environ: Mapping[str, str], cwd: str) -> CaCertificates:
    """Return the certificates to trust. Raises SetupError when they don't exist.

    ``own`` wins over ``REQUESTS_CA_BUNDLE``, then ``CURL_CA_BUNDLE``; each is a file or a folder. Without them,
    ``SSL_CERT_FILE`` replaces the default file of requests, and the folders in ``SSL_CERT_DIR`` are searched too.
    Relative paths start from ``cwd``: the shipper process has another working directory than its application.
    """
    for named in (own, environ.get("REQUESTS_CA_BUNDLE"), environ.get("CURL_CA_BUNDLE")):
        if named:
            path = _existing(named, cwd)
            return CaCertificates(folders=path) if os.path.isdir(path) else CaCertificates(path)
    file = environ.get("SSL_CERT_FILE") or requests.utils.DEFAULT_CA_BUNDLE_PATH
    return CaCertificates(_existing(file, cwd), _folders(environ.get("SSL_CERT_DIR", ""), cwd))


def _existing(named: str, cwd: str) -> str:
    path = os.path.join(cwd, named)
    if not os.path.exists(path):
        raise SetupError(f"there are no CA certificates at {path}")
    return path


def _folders(named: str, cwd: str) -> str | None:
    paths = [os.path.join(cwd, each) for each in named.split(os.pathsep) if each]
    if paths and not any(os.path.isdir(path) for path in paths):
        raise SetupError(f"SSL_CERT_DIR: there is no folder {os.pathsep.join(paths)}")
    return os.pathsep.join(paths) or None


class Tls:
    """The SSL context of new connections, made again when one of its files has changed.

    So new connections use certificates that were renewed while the process runs.
    """

    def __init__(self, trusted: CaCertificates, client_cert: Sequence[str] | None) -> None:
        self._trusted = trusted
        self._client_cert = tuple(client_cert or ())
        self._made_of = self._files()
        self._context = self._new_context()

    def context(self) -> ssl.SSLContext:
        """Return the context. Raises OSError or SetupError when a renewed file can't be read."""
        files = self._files()
        if files != self._made_of:
            self._context = self._new_context()
            self._made_of = files
        return self._context

    def _files(self) -> list[tuple[int, int, int]]:
        """Inode, size and time of each file: they change when the file does."""
        found = [os.stat(path) for path in (self._trusted.file, *self._client_cert) if path]
        return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in found]

    def _new_context(self) -> ssl.SSLContext:
        context = create_urllib3_context()
        try:
            context.load_verify_locations(*self._trusted)
        except ssl.SSLError as exc:
            raise SetupError(f"{self._trusted.file} has no CA certificates in PEM format ({exc.reason})") from None
        if self._client_cert:
            self._load_client_cert(context)
        return context

    def _load_client_cert(self, context: ssl.SSLContext) -> None:
        def refuse() -> str:  # without this function OpenSSL would ask for the password on the terminal
            raise SetupError("client_cert: the key is encrypted; use a key without a password")

        try:
            certificate, key = self._client_cert[0], self._client_cert[-1]
            context.load_cert_chain(certificate, key, password=refuse)
        except ssl.SSLError as exc:
            is_mismatch = exc.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
            problem = "the key does not belong to the certificate" if is_mismatch else _UNREADABLE.format(exc)
            raise SetupError(f"client_cert: {problem}") from None


_UNREADABLE = "the files have no certificate, or no key, in PEM format ({})"
