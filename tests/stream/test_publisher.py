"""Publishing to real servers: what counts as delivered, and what a failure says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trustme

from shipper.backends.jetstream import JetStream
from shipper.errors import ConfigurationError, DeliveryError, RetryableError, TooLargeError, UnauthorisedError
from shipper.stream.api import call
from shipper.stream.client import Client
from shipper.stream.publisher import Publisher
from shipper.stream.streams import consumer, create_consumer, create_stream, events_stream, find_stream

from ..support.http_backends import CONTEXT
from ..support.nats_servers import Cluster, running_cluster
from ..support.streams import Stream, answers_of, event, publish, stream_on
from ..support.waiting import holds

ACCOUNTS = "authorization { users: [ { user: publisher, password: right } ] }"


def stored(stream: Stream) -> int:
    info = find_stream(stream.client, stream.settings.stream)
    assert info is not None
    count: int = info["state"]["messages"]
    return count


def only(answers: Sequence[DeliveryError | None]) -> DeliveryError:
    """The one answer that all events got."""
    assert len({id(answer) for answer in answers}) == 1
    assert answers[0] is not None
    return answers[0]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def guarded(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A server that wants a password, over TLS."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    tls = f"tls {{ cert_file: {folder}/cert.pem, key_file: {folder}/key.pem, timeout: 5 }}"
    with running_cluster(1, more=f"{ACCOUNTS}\n{tls}", scheme="tls") as found:
        yield found


@pytest.fixture
def ca_bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_an_event_counts_as_delivered_once_its_message_is_stored(stream: Stream) -> None:
    stream.make("relay-http")

    with stream.publisher() as publisher:
        answers = answers_of(publisher, [event(1), event(2)])

    assert answers == [None, None]
    assert stored(stream) == 1


def test_the_same_batch_sent_again_is_stored_once(stream: Stream) -> None:
    stream.make("relay-http")

    with stream.publisher() as publisher:
        answers = [answers_of(publisher, [event(number)]) for number in (1, 1, 2)]

    assert answers == [[None]] * 3
    assert stored(stream) == 2


def test_the_same_batch_sent_again_when_the_window_has_passed_is_stored_again_under_the_same_ids(
    stream: Stream,
) -> None:
    config = {**events_stream(stream.settings), "duplicate_window": 100_000_000}
    create_stream(stream.client, config)
    create_consumer(stream.client, stream.settings.stream, consumer("relay-http"))

    with stream.publisher() as publisher:
        assert holds(lambda: publisher.send([event(1)]) == [None] and stored(stream) == 2)


def test_nothing_is_published_while_a_consumer_is_missing(stream: Stream) -> None:
    """With interest retention the server keeps no message for a consumer that does not exist yet."""
    stream.make("relay-http")

    with stream.publisher(durables=("relay-http", "relay-otlp")) as publisher:
        refused = only(answers_of(publisher, [event(1)]))
        create_consumer(stream.client, stream.settings.stream, consumer("relay-otlp"))
        publish(publisher, [event(1)])

    assert isinstance(refused, RetryableError)
    assert "relay-otlp" in refused.reason
    assert stored(stream) == 1


def test_nothing_is_published_to_a_stream_without_any_consumer(stream: Stream) -> None:
    stream.make()

    with stream.publisher() as publisher:
        refused = only(answers_of(publisher, [event(1)]))

    assert isinstance(refused, RetryableError)
    assert "has no consumer yet" in refused.reason
    assert stored(stream) == 0


def test_without_a_stream_the_events_wait_and_the_error_says_what_to_do(stream: Stream) -> None:
    with stream.publisher() as publisher:
        refused = only(answers_of(publisher, [event(1)]))

    assert isinstance(refused, RetryableError)
    assert "shipper stream init" in refused.reason


def test_a_publisher_may_make_the_stream_itself(stream: Stream) -> None:
    with stream.publisher(create=True) as publisher:
        refused = only(answers_of(publisher, [event(1)]))

    assert "has no consumer yet" in refused.reason
    assert stored(stream) == 0
    assert find_stream(stream.client, stream.settings.dead_stream) is not None


def test_a_full_stream_holds_events_back_until_there_is_room(cluster: Cluster) -> None:
    with stream_on(cluster, max_bytes=300_000) as stream:
        stream.make("relay-http")
        with stream.publisher() as publisher:
            publish(publisher, [event(1, "x" * 200_000)])
            refused = only(answers_of(publisher, [event(2, "y" * 200_000)]))
            call(stream.client, f"STREAM.PURGE.{stream.settings.stream}")
            publish(publisher, [event(2, "y" * 200_000)])

        assert isinstance(refused, RetryableError)
        assert "is full" in refused.reason
        assert stored(stream) == 1


def test_of_a_batch_only_the_event_that_is_too_large_is_refused(stream: Stream) -> None:
    config = {**events_stream(stream.settings), "max_msg_size": 50_000}
    create_stream(stream.client, config)
    create_consumer(stream.client, stream.settings.stream, consumer("relay-http"))
    events = [event(1), event(2, "x" * 100_000), event(3), event(4)]

    with stream.publisher() as publisher:
        answers = answers_of(publisher, events)

    assert [type(answer) for answer in answers] == [type(None), TooLargeError, type(None), type(None)]


def test_a_wrong_password_is_refused_credentials(guarded: Cluster, ca_bundle: str) -> None:
    settings = JetStream(guarded.servers, user="publisher", password="wrong", ca_bundle=ca_bundle, timeout=2.0)
    publisher = Publisher(settings)
    publisher.open(CONTEXT)
    try:
        refused = only(answers_of(publisher, [event(1)]))
    finally:
        publisher.close()

    assert isinstance(refused, UnauthorisedError)
    assert "Authorization Violation" in refused.reason


def test_the_right_password_over_tls_is_taken(guarded: Cluster, ca_bundle: str) -> None:
    client = Client(
        JetStream(guarded.servers, user="publisher", password="right", ca_bundle=ca_bundle, replicas=1), name="test"
    )
    try:
        assert call(client, "INFO")["limits"]
    finally:
        client.close()


def test_a_certificate_of_another_authority_is_named_as_the_reason(guarded: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    settings = JetStream(guarded.servers, user="publisher", password="right", ca_bundle=str(other), timeout=2.0)
    client = Client(settings, name="test")
    try:
        with pytest.raises(DeliveryError, match="certificate is refused"):
            call(client, "INFO")
    finally:
        client.close()


def test_without_a_server_events_wait_and_the_error_names_the_servers() -> None:
    client = Client(JetStream("nats://127.0.0.1:1", timeout=1.0), name="test")
    try:
        with pytest.raises(RetryableError, match=r"nats://127\.0\.0\.1:1"):
            call(client, "INFO")
    finally:
        client.close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("servers", ()),
        ("servers", "http://host:4222"),
        ("servers", "nats://user:secret@host:4222"),
        ("stream", "a.b"),
        ("subject", ""),
        ("user", "without a password"),
        ("durables", ["a b"]),
        ("replicas", 2),
        ("timeout", 0),
        ("credentials", "/missing"),
    ],
)
def test_a_wrong_setting_is_refused_and_no_password_shown(setting: str, value: object) -> None:
    values = {"servers": "nats://host:4222", setting: value}

    with pytest.raises(ConfigurationError) as caught:
        JetStream(**values)  # type: ignore[arg-type]

    assert setting in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_application_that_publishes_does_not_import_nats() -> None:
    source = "import shipper, sys; shipper.JetStream('nats://host:4222'); print('nats' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
