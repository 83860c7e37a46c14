"""The example's accounts: publisher and relay can do their work, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import shipper.relay
from shipper.backends.jetstream import JetStream
from shipper.errors import DeliveryError, UnauthorisedError
from shipper.relay.dead_letters import StreamDeadLetterStore
from shipper.stream.api import call
from shipper.stream.client import Client
from shipper.stream.publisher import Publisher
from shipper.stream.streams import consumer, create_consumer, create_streams

from ..support.http_backends import CONTEXT
from ..support.nats_servers import Cluster, running_cluster, server_binary
from ..support.servers import Reply, Request
from ..support.streams import STREAM_BYTES, Sink, Stream, event, publish
from ..support.waiting import wait_until

EXAMPLES = Path(shipper.relay.__file__).parent / "examples"
PASSWORDS = {f"{user.upper()}_PASSWORD": f"the-{user}" for user in ("operator", "publisher", "relay")}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Cluster]:
    """A server with the example's accounts."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in PASSWORDS.items():
            environment.setenv(name, value)
        with running_cluster(1, more=(EXAMPLES / "accounts.conf").read_text()) as found:
            yield found


def settings(cluster: Cluster, user: str) -> JetStream:
    return JetStream(
        cluster.servers, user=user, password=f"the-{user}", replicas=1, max_bytes=STREAM_BYTES, timeout=1.0
    )


@pytest.fixture
def operator(guarded: Cluster) -> Iterator[Stream]:
    """The streams and a relay's consumer, made by the operator; gone afterwards."""
    client = Client(settings(guarded, "operator"), name="test")
    create_streams(client, settings(guarded, "operator"))
    create_consumer(client, "SHIPPER", consumer("relay-http"))
    yield Stream(guarded, client, settings(guarded, "operator"))
    for name in ("SHIPPER", "SHIPPER_DEAD"):
        client.request(f"$JS.API.STREAM.DELETE.{name}")
    client.close()


def test_the_publishers_and_the_relays_rights_suffice(guarded: Cluster, operator: Stream) -> None:
    def refuse(request: Request) -> Reply | None:
        return Reply(status=400) if b"bad event" in request.body else None

    more = {"SHIPPER_JETSTREAM_USER": "relay", "SHIPPER_JETSTREAM_PASSWORD": "the-relay"}
    publisher = Publisher(settings(guarded, "publisher"))
    publisher.open(CONTEXT)
    with Sink(refuse) as sink, operator.relay(sink, variables=more):
        publish(publisher, [event(1), event(2, "bad event"), event(3)])
        sink.wait_for({"event 1", "event 3"})
        wait_until(lambda: bool(StreamDeadLetterStore(operator.client, operator.settings).letters()), 20, "the letter")
        relays = operator.client.gather(operator.settings.relays_subject, 1.0)
    publisher.close()

    assert len(relays) == 1


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("publisher", "STREAM.MSG.GET.SHIPPER"),
        ("publisher", "CONSUMER.MSG.NEXT.SHIPPER.relay-http"),
        ("relay", "STREAM.PURGE.SHIPPER"),
    ],
)
def test_nobody_may_do_more_than_its_work(guarded: Cluster, operator: Stream, user: str, subject: str) -> None:
    client = Client(settings(guarded, user), name="test")
    try:
        with pytest.raises(DeliveryError) as caught:
            call(client, subject, {"seq": 1})
    finally:
        client.close()

    assert isinstance(caught.value, UnauthorisedError)
    assert "permissions violation" in caught.value.reason.lower()


def test_the_example_of_a_server_is_understood_by_the_server(tmp_path: Path) -> None:
    """The paths of its certificates are replaced, because those files do not exist here."""
    text = (EXAMPLES / "nats.conf").read_text()
    for path in ("server.pem", "server-key.pem", "ca.pem"):
        text = text.replace(f"/etc/nats/tls/{path}", str(tmp_path / path))
    authority = trustme.CA()
    issued = authority.issue_cert("nats1")
    issued.private_key_pem.write_to_path(str(tmp_path / "server-key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "nats.conf").write_text(text)
    (tmp_path / "accounts.conf").write_text((EXAMPLES / "accounts.conf").read_text())

    command = [server_binary(), "-t", "-c", str(tmp_path / "nats.conf")]
    done = subprocess.run(command, env={**PASSWORDS, "NATS_NAME": "nats1"}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
