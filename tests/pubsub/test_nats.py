"""The adapter for NATS, on a real server."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.nats import NatsAdapter
from roost.testing.adapters import LinkConformance, Node, OutageConformance
from tests.engines import NatsServer, free_port, greeter
from tests.pubsub.broker_scenes import BrokerScenes

CERTIFICATES = Path(__file__).parent / "certificates"


class NatsEngine(NatsServer):
    """A server with users and a larger ``max_payload``, and adapters for it."""

    scheme = "nats"

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder,
            "max_payload: 8MB",
            "write_deadline: 1s",
            "authorization { users = [",
            "  {user: alice, password: secret}",
            "  {user: bob, password: secret, permissions: {pub: 'suite.>', sub: 'suite.>'}}",
            "  {user: carol, password: secret, permissions: {pub: 'suite.>', sub: 'suite.all'}}",
            "  {user: dave, password: secret, permissions: {pub: 'other.>', sub: 'suite.>'}}",
            "]}",
        )

    def adapter(
        self, node_name: str | None = None, namespace: str = "suite", *, port: int = 0
    ) -> NatsAdapter:
        return NatsAdapter(self.url(port), node_name=node_name, namespace=namespace)

    def url(self, port: int = 0) -> str:
        return f"nats://alice:secret@127.0.0.1:{port or self.port}"

    def missing(self) -> NatsAdapter:
        return NatsAdapter(self.url(free_port()))

    def refused(self) -> NatsAdapter:
        return NatsAdapter(f"nats://alice:wrong@127.0.0.1:{self.port}")

    async def publish(self, address: tuple[str, ...], data: bytes) -> None:
        client = await nats.connect(self.url())
        await client.publish(".".join(("suite", *address)), data)
        await client.flush()
        await client.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsEngine]:
    with NatsEngine(tmp_path_factory.mktemp("nats")) as engine:
        yield engine


class TestNats(BrokerScenes, LinkConformance, OutageConformance):
    """NATS carries a cluster."""

    kind = NatsAdapter
    library = "nats"
    extra = "nats"

    async def test_what_the_server_does_not_carry_goes_in_pieces(self, tmp_path: Path) -> None:
        """Messages over ``max_payload`` arrive as they were, in order; up to 4 MiB."""
        with NatsServer(tmp_path, "max_payload: 4096") as server:
            url = f"nats://127.0.0.1:{server.port}"
            one, two = (NatsAdapter(url, node_name=name) for name in ("alice", "bob"))
            async with self.running(one, two) as (a, b):
                messages = [
                    b"y" * 1_000,
                    bytes(range(256)) * 20,
                    b"z" * (4 << 20),
                    b"",
                    b"x" * 5_000,
                ]
                a.adapter.publish(b"x" * ((4 << 20) + 1))
                for message in messages:
                    a.adapter.publish(message)
                    a.adapter.publish_to("bob", message)

                await self.receives(b, *[each for each in messages for _ in range(2)])
                assert a.adapter.counters == {"too_large": 1}

    async def test_a_limit_that_carries_nothing_is_told(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What can't go in sensible pieces loses itself only, and the log says what to change."""
        with NatsServer(tmp_path, "max_payload: 150") as server:
            url = f"nats://127.0.0.1:{server.port}"
            one, two = (NatsAdapter(url, node_name=name) for name in ("alice", "bob"))
            async with self.running(one, two) as (a, b):
                for _ in range(3):
                    a.adapter.publish(b"x" * 5_000)
                a.adapter.publish(b"y")

                await self.receives(b, b"y")
                assert a.adapter.counters == {"too_large": 3}
        (record,) = (each for each in caplog.records if "too large" in each.getMessage())
        assert "1 messages were too large, the last with 5000 bytes" in record.getMessage()
        assert "150 bytes" in record.getMessage()

    async def test_a_slow_consumer(self, engine: NatsEngine) -> None:
        """A node that reads too slowly is thrown out by the server, and comes back."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            flood = threading.Thread(target=_flood, args=(engine.port, "suite.node.bob"))
            flood.start()
            time.sleep(3)  # noqa: ASYNC251  # that is the point
            flood.join()
            await self.is_told(b, "attached")
            await self.meet(a, b)

            assert b.adapter.counters["reattached"] == 1

    async def test_a_user_with_few_permissions(self, engine: NatsEngine) -> None:
        """A user who may publish and subscribe below the namespace can do everything."""

        def adapter(user: str) -> NatsAdapter:
            url = f"nats://{user}:secret@127.0.0.1:{engine.port}"
            return NatsAdapter(url, namespace="suite", node_name=user)

        async with self.running(engine.adapter("alice"), adapter("bob")) as (a, b):
            await a.adapter.close()
            await self.is_told(b, "link_down")
        for user in ("carol", "dave"):
            with pytest.raises(AdapterError, match="no permission"):
                await adapter(user).start(lambda data: None, Node(adapter(user)))

    async def test_any_of_several_servers_will_do(self, engine: NatsEngine) -> None:
        """Any of the servers will do; those that don't run are passed over."""
        url = f"nats://alice:secret@127.0.0.1:{free_port()},127.0.0.1:{engine.port}"
        for _ in range(4):  # the first to try is drawn by lot
            async with self.running(NatsAdapter(url), NatsAdapter(url)):
                pass

    async def test_a_token_may_be_an_argument_or_stand_in_the_url(self, tmp_path: Path) -> None:
        """A token may be an argument, or stand in the URL in the user's place."""
        with NatsServer(tmp_path, "authorization {token: 's%cret'}") as server:
            there = f"127.0.0.1:{server.port}"
            one = NatsAdapter(f"nats://{there}", token="s%cret")
            two = NatsAdapter(f"nats://s%25cret@{there}")
            async with self.running(one, two):
                assert two.engine == f"nats://{there}"
            with pytest.raises(AdapterError, match="credentials"):
                await NatsAdapter(f"nats://{there}").start(lambda data: None, Node(one))

    async def test_tls_needs_the_certificate_of_the_authority(
        self, tmp_path: Path, engine: NatsEngine
    ) -> None:
        """TLS works with the authority's certificate, and fails with a reason in other cases."""
        with NatsServer(
            tmp_path,
            f"tls {{cert_file: '{CERTIFICATES}/server.pem', "
            f"key_file: '{CERTIFICATES}/server.key'}}",
        ) as server:
            url = f"tls://localhost:{server.port}"
            context = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
            async with self.running(NatsAdapter(url, tls=context), NatsAdapter(url, tls=context)):
                pass
            in_url = NatsAdapter(f"{url}?tls_ca={CERTIFICATES}/authority.pem")
            async with self.running(in_url, NatsAdapter(url, tls=context)):
                pass
            adapter = NatsAdapter(url)
            with pytest.raises(AdapterError, match="certificate can't be verified"):
                await adapter.start(lambda data: None, Node(adapter))

    async def test_no_credentials_in_the_clear(self) -> None:
        """With tls:// a server without TLS gets no credentials: it may be somebody in between."""
        info = b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576}\r\n'
        async with greeter(info) as (port, heard):
            adapter = NatsAdapter(f"tls://alice:secret@127.0.0.1:{port}")
            with pytest.raises(AdapterError, match="does not offer TLS"):
                await adapter.start(lambda data: None, Node(adapter))

        assert heard == b""


def _flood(port: int, subject: str) -> None:
    """Send 100 MB as fast as the server takes it."""
    with socket.create_connection(("127.0.0.1", port)) as flood:
        flood.sendall(b'CONNECT {"user":"alice","pass":"secret","verbose":false}\r\n')
        for _ in range(100):
            flood.sendall(b"PUB %s 1000000\r\n%s\r\n" % (subject.encode(), b"x" * 1_000_000))
        flood.sendall(b"PING\r\n")
        while b"PONG" not in flood.recv(4096):
            pass


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1", "unknown scheme"),
        ("nats://", "host is missing"),
        ("nats://127.0.0.1:port", "port"),
        ("nats://127.0.0.1/path", "follows the port"),
        ("nats://alice:sec/ret@127.0.0.1", "."),
        ("nats://127.0.0.1,tls://127.0.0.2", "mixes"),
        ("nats://127.0.0.1,", "host is missing"),
    ],
)
def test_urls_that_can_not_work(url: str, reason: str):
    """A URL that can't work is refused at once, with the reason, and never shown."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        NatsAdapter(url)

    assert "ret" not in re.sub("expected.*", "", str(caught.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://alice:secret@10.0.0.5", "nats://10.0.0.5:4222"),
        ("10.0.0.5", "nats://10.0.0.5:4222"),
        ("tls://secret@a:1,b:2", "tls://a:1,tls://b:2"),
        ("nats://alice:secret@a,nats://bob:secret@b", "nats://a:4222,nats://b:4222"),
        ("nats://[::1]:4223", "nats://[::1]:4223"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str):
    """Errors and the log name the servers without credentials."""
    assert NatsAdapter(url).engine == shown


def test_one_kind_of_credentials():
    """Credentials of two kinds are refused: nobody could say which one counts."""
    with pytest.raises(ConfigurationError, match="several kinds of credentials"):
        NatsAdapter("nats://alice:secret@127.0.0.1", token="secret")


def test_credentials_files_need_another_package(tmp_path: Path):
    """Without the package nkeys a credentials file is refused with the command to install it."""
    with pytest.raises(ConfigurationError, match=re.escape('pip install "nats-py[nkeys]"')):
        NatsAdapter("nats://127.0.0.1", credentials=tmp_path / "user.creds")
