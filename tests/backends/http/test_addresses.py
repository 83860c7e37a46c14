"""A host with several addresses is reached as soon as one of them answers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from shipper.backends.http.addresses import Address, connect, connect_to_any

from ...support.servers import Server
from ...support.waiting import scaled

NO_DELAY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def at(host: str, port: int, family: int = socket.AF_INET) -> Address:
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, (host, port)


@pytest.fixture
def good() -> Iterator[Address]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield at("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def refused() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return at("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[Address]:
    """An address that answers nothing: the queue of its listener is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(16):
            client = stack.enter_context(socket.socket())
            client.settimeout(0.2)
            try:
                client.connect(address)
            except TimeoutError:
                yield at(*address)
                return
        pytest.skip("this system queues more connections than it was told")


def peer(sock: socket.socket) -> tuple[str, int]:
    with sock:
        found: tuple[str, int] = sock.getpeername()
        return found


def test_an_address_that_refuses_gives_way_to_the_next(refused: Address, good: Address) -> None:
    assert peer(connect_to_any([refused, refused, good], 30, [])) == good[3]


def test_an_address_that_does_not_answer_gives_way_to_the_next(silent: Address, good: Address) -> None:
    """The next address is tried before the time limit of 60 seconds is over."""
    began = time.monotonic()

    assert peer(connect_to_any([silent, silent, good], 60, [])) == good[3]

    assert time.monotonic() - began < 30


SEND_TO_A_HOST_WITH_TWO_ADDRESSES = """
import socket, sys
from shipper.trakerr.post import post
ports = [int(each) for each in sys.argv[1:]]
found = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)) for port in ports]
socket.getaddrinfo = lambda *args, **options: found
print(post("http://service.test/", b"{}", {}, (600, 60)))
"""


def test_an_event_that_is_sent_from_the_application_goes_to_the_next_address_too(silent: Address) -> None:
    with Server() as server:
        ports = [str(silent[3][1]), server.url.rpartition(":")[2]]
        command = [sys.executable, "-c", SEND_TO_A_HOST_WITH_TWO_ADDRESSES, *ports]
        sent = subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), check=False)

    assert (sent.stdout, sent.stderr) == ("200\n", "")


def test_a_first_address_that_answers_is_taken(good: Address, refused: Address) -> None:
    assert peer(connect_to_any([good, refused], 30, [])) == good[3]


def test_the_time_limit_is_for_all_addresses_together(silent: Address) -> None:
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        connect_to_any([silent] * 50, 0.6, [])

    assert time.monotonic() - began < 0.6 * 50


def test_addresses_that_all_refuse_are_told(refused: Address) -> None:
    with pytest.raises(ConnectionRefusedError):
        connect_to_any([refused, refused], 30, [])


def test_an_address_of_a_family_that_the_machine_lacks_is_passed_over(good: Address) -> None:
    unknown = at("127.0.0.1", 1, family=socket.AF_INET + 1000)

    assert peer(connect_to_any([unknown, good], 30, [])) == good[3]


def test_families_take_turns(silent: Address) -> None:
    """A hundred dead addresses of one family do not delay an address of the other family."""
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError:
            pytest.skip("no IPv6")
        good = at("::1", listener.getsockname()[1], family=socket.AF_INET6)
        began = time.monotonic()

        assert peer(connect_to_any([*[silent] * 100, good], 60, []))[1] == good[3][1]

        assert time.monotonic() - began < 15


def test_the_socket_has_its_options_and_its_time_limit(good: Address) -> None:
    with connect_to_any([good], 30, [NO_DELAY]) as sock:
        assert sock.getsockopt(*NO_DELAY[:2])
        assert sock.gettimeout() == 30


def test_a_name_is_resolved(good: Address) -> None:
    assert peer(connect("localhost", good[3][1], 30, [])) == good[3]


def test_a_name_without_addresses_is_told() -> None:
    with pytest.raises(socket.gaierror):
        connect("no-such-host.invalid", 80, 30, [])
