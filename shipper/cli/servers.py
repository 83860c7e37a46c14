"""The options that name a stream: servers and credentials, by default from SHIPPER_JETSTREAM_ variables."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..backends.jetstream import JetStream
    from ..stream.client import Client

_OPTIONS = {
    "servers": ("URLS", "servers of NATS, separated by commas, such as nats://a:4222,nats://b:4222"),
    "stream": ("NAME", "the stream's name (SHIPPER)"),
    "subject": ("WORD", "what its subjects begin with (shipper)"),
    "user": ("NAME", "the user; its password is in $SHIPPER_JETSTREAM_PASSWORD"),
    "credentials": ("FILE", "a .creds file"),
    "ca-bundle": ("PATH", "CA certificates"),
    "client-cert": ("FILES", "a client certificate and its key, separated by a comma"),
}


def add_servers(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the options to a parser; without ``required`` only ``--servers``."""
    names = list(_OPTIONS) if required else ["servers"]
    for name in names:
        metavar, text = _OPTIONS[name]
        variable = f"SHIPPER_JETSTREAM_{name.replace('-', '_').upper()}"
        parser.add_argument(f"--{name}", metavar=metavar, help=f"{text} (${variable})")


def stream_settings(given: argparse.Namespace, environ: Mapping[str, str] = os.environ, **more: Any) -> JetStream:
    """The settings of the stream, from ``more``, else from options, else from ``environ``.

    ConfigurationError when one is wrong.
    """
    from ..config.environment import backend_from

    named = {name.replace("-", "_"): getattr(given, name.replace("-", "_"), None) for name in _OPTIONS}
    variables = {f"SHIPPER_JETSTREAM_{name.upper()}": value for name, value in named.items() if value is not None}
    for name, value in more.items():
        if value is not None:
            variables[f"SHIPPER_JETSTREAM_{name.upper()}"] = str(value)
    found: JetStream = backend_from("jetstream", {**environ, **variables})
    return found


@contextlib.contextmanager
def connected(settings: JetStream, command: str) -> Iterator[Client]:
    """Provide a client, which the servers see as ``shipper <command>``; close it at the end of ``with``."""
    from ..stream.client import Client

    client = Client(settings, name=f"shipper {command}")
    try:
        yield client
    finally:
        client.close()
