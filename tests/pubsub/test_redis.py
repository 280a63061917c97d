"""The adapter for Redis, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.broker import neighbours
from roost.pubsub.redis import RedisAdapter
from roost.testing.adapters import LinkConformance, Node, OutageConformance
from tests.engines import Proxy, RedisServer, free_port
from tests.pubsub.broker_scenes import BrokerScenes
from tests.waiting import until

CERTIFICATES = Path(__file__).parent / "certificates"


class RedisEngine(RedisServer):
    """A server with a password, and adapters for it."""

    scheme = "redis"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--requirepass", "secret")

    def adapter(
        self, node_name: str | None = None, namespace: str = "suite", *, port: int = 0
    ) -> RedisAdapter:
        return RedisAdapter(self.url(port), node_name=node_name, namespace=namespace)

    def url(self, port: int = 0) -> str:
        return f"redis://:secret@127.0.0.1:{port or self.port}"

    def missing(self) -> RedisAdapter:
        return RedisAdapter(self.url(free_port()))

    def refused(self) -> RedisAdapter:
        return RedisAdapter(f"redis://:wrong@127.0.0.1:{self.port}")

    async def execute(self, *words: str | bytes) -> object:
        """Run a command and return its answer."""
        async with Redis.from_url(self.url()) as client:
            return await client.execute_command(*words)

    async def publish(self, address: tuple[str, ...], data: bytes) -> None:
        await self.execute("PUBLISH", ":".join(("suite", *address)), data)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisEngine]:
    with RedisEngine(tmp_path_factory.mktemp("redis")) as engine:
        yield engine


class TestRedis(BrokerScenes, LinkConformance, OutageConformance):
    """Redis carries a cluster."""

    kind = RedisAdapter
    library = "redis"
    extra = "redis"

    @pytest.mark.parametrize("options", ["?protocol=3", "?protocol=2"])
    @pytest.mark.parametrize("scheme", ["redis", "valkey"])
    async def test_urls_that_others_write(
        self, engine: RedisEngine, scheme: str, options: str
    ) -> None:
        """Valkey's own scheme, and a version of the protocol, change nothing."""
        url = engine.url().replace("redis", scheme) + options
        one, two = (RedisAdapter(url) for _ in range(2))
        async with self.running(one, two):
            assert one.is_attached

    async def test_a_subscription_that_the_server_ends(self, engine: RedisEngine) -> None:
        """A server that ends our subscription alone found us too slow: counted, and made again."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await engine.execute("CLIENT", "KILL", "TYPE", "pubsub")
            for node in (a, b):
                await self.is_told(node, "attached")
            await self.meet(a, b)

            assert a.adapter.counters["slow_consumer"] == 1
            assert b.adapter.counters["slow_consumer"] == 1

    async def test_a_replica_is_refused(
        self, engine: RedisEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is published on one reaches nobody at the primary: a node would not be heard.

        A server that becomes one under our feet is left, to find the primary by its address.
        """
        of = (str(engine.port), "--masterauth", "secret", "--requirepass", "secret")
        with RedisServer(tmp_path, "--replicaof", "127.0.0.1", *of) as server:
            url = f"redis://:secret@127.0.0.1:{server.port}"
            with pytest.raises(AdapterError, match=r"it is a replica, .* primary's address"):
                await RedisAdapter(url).start(lambda data: None, Node(engine.adapter()))

            async with Redis.from_url(url) as client:
                await client.execute_command("REPLICAOF", "NO", "ONE")
                async with self.running(RedisAdapter(url, namespace="suite")) as (a,):
                    await client.execute_command("REPLICAOF", "127.0.0.1", str(engine.port))
                    await self.is_told(a, "detached")
                    assert "it is a replica" in caplog.text

                    await client.execute_command("REPLICAOF", "NO", "ONE")
                    await self.is_told(a, "attached")

    async def test_others_that_are_not_understood_are_missed(
        self, engine: RedisEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Somebody is subscribed who is not heard: a node that hangs, or speaks another version."""
        monkeypatch.setattr(neighbours, "LONELY_PERIOD", 0.1)
        async with (
            self.running(engine.adapter("alice")) as (a,),
            Redis.from_url(engine.url()) as client,
            client.pubsub() as stranger,
        ):
            await stranger.subscribe("suite:all")
            await until(lambda: a.adapter.is_isolated)

            await stranger.unsubscribe()
            await until(lambda: not a.adapter.is_isolated)

    async def test_what_a_cut_left_of_a_node_is_nobody_else(
        self, engine: RedisEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server may believe for minutes in an attachment of ours that is dead."""
        monkeypatch.setattr(neighbours, "LONELY_PERIOD", 0.1)
        async with (
            self.running(engine.adapter("alice")) as (a,),
            Redis.from_url(engine.url()) as client,
            client.pubsub() as dead,
        ):
            await dead.subscribe("suite:all", "suite:node:alice", "suite:link:old")
            await self.is_checked(engine, 3)

            assert not a.adapter.is_isolated

    async def is_checked(self, engine: RedisEngine, count: int) -> None:
        """Nodes have asked the server so often for a sign of life."""
        wanted = await _count_of_numsub(engine) + count
        while await _count_of_numsub(engine) < wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    @pytest.mark.parametrize("number", [0, 1])
    async def test_one_of_the_connections_is_cut(self, engine: RedisEngine, number: int) -> None:
        """The loss of either of the two connections is noticed."""
        async with (
            Proxy(engine.port) as proxy,
            self.running(engine.adapter("alice", port=proxy.port)) as (a,),
        ):
            proxy.cut_one(number)
            await self.is_told(a, "detached")
            await self.is_told(a, "attached")

    async def test_a_consumer_over_the_limit_of_the_server(self, engine: RedisEngine) -> None:
        """A message over the server's output limit costs the readers their subscription only."""
        limit = ("CONFIG", "SET", "client-output-buffer-limit")
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await engine.execute(*limit, "pubsub 256kb 0 0")
            try:
                a.adapter.publish(b"x" * 5_000_000)
                await self.is_told(b, "attached")
            finally:
                await engine.execute(*limit, "pubsub 32mb 8mb 60")
            await self.is_attached(a)
            await self.meet(a, b)

            assert b.adapter.counters["slow_consumer"] == 1

    async def test_a_check_is_one_round_trip_for_all_links(self, engine: RedisEngine) -> None:
        """However many nodes are there, each asks the server one question a second."""
        names = [f"node-{number}" for number in range(6)]
        async with self.running(*map(engine.adapter, names)):
            before = await _count_of_numsub(engine)

            async def asked() -> int:
                return await _count_of_numsub(engine) - before

            while await asked() < len(names):
                pass
            assert await asked() <= 2 * len(names)

    async def test_a_user_with_few_permissions(self, engine: RedisEngine) -> None:
        """A user needs the permissions that the documentation names, and each of them."""
        minimal = ["resetkeys", "&suite:*", "+publish", "+subscribe", "+pubsub|numsub"]

        def adapter() -> RedisAdapter:
            url = f"redis://bob:secret@127.0.0.1:{engine.port}"
            return RedisAdapter(url, namespace="suite", node_name="bob")

        await engine.execute("ACL", "SETUSER", "bob", "reset", "on", ">secret", *minimal)
        async with self.running(engine.adapter("alice"), adapter()):
            pass
        for missing in minimal[1:]:
            rules = [rule for rule in minimal if rule != missing]
            await engine.execute("ACL", "SETUSER", "bob", "reset", "on", ">secret", *rules)
            with pytest.raises(AdapterError, match="no permission"):
                await adapter().start(lambda data: None, Node(adapter()))

    async def test_a_unix_socket(self, tmp_path: Path) -> None:
        """A server can be reached by the path of its socket; a path without one is told."""
        path = tmp_path / "redis.sock"
        with RedisServer(tmp_path, "--unixsocket", str(path)):
            one, two = (RedisAdapter(f"unix://{path}", node_name=name) for name in ("a", "b"))
            async with self.running(one, two):
                assert one.engine == f"unix://{path}"
        with pytest.raises(AdapterError, match=r"No such file|refused"):
            await one.start(lambda data: None, Node(one))

    async def test_tls_needs_the_certificate_of_the_authority(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """TLS works with the authority's certificate, and fails with a reason in other cases."""
        port = free_port()
        authority = str(CERTIFICATES / "authority.pem")
        options = {
            "--tls-port": str(port),
            "--tls-cert-file": str(CERTIFICATES / "server.pem"),
            "--tls-key-file": str(CERTIFICATES / "server.key"),
            "--tls-ca-cert-file": authority,
            "--tls-auth-clients": "no",
        }
        with RedisServer(tmp_path, *(word for pair in options.items() for word in pair)) as server:
            url = f"rediss://localhost:{port}"
            one = RedisAdapter(url, ssl_ca_certs=authority)
            two = RedisAdapter(f"{url}?ssl_ca_certs={authority}")
            async with self.running(one, two):
                assert two.engine == url

            monkeypatch.setattr("roost.pubsub.broker.adapter.CONNECT_TIMEOUT", 1.0)
            for wrong, reason in {
                url: "certificate can't be verified",
                f"rediss://localhost:{server.port}": "no answer .* speak TLS",
                f"redis://localhost:{port}": "closed the connection",
            }.items():
                adapter = RedisAdapter(wrong)
                with pytest.raises(AdapterError, match=reason):
                    await adapter.start(lambda data: None, Node(adapter))


async def _count_of_numsub(engine: RedisEngine) -> int:
    stats = await engine.execute("INFO", "commandstats")
    assert isinstance(stats, dict)
    return int(stats["cmdstat_pubsub|numsub"]["calls"])


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1", {}),
        ("127.0.0.1:6379", {}),
        ("redis://127.0.0.1:port", {}),
        ("redis://127.0.0.1?socket_connect_timeout=soon", {}),
        ("redis://127.0.0.1", {"no_such_option": 1}),
        ("redis://127.0.0.1?protocol=4", {}),
        ("redis://127.0.0.1", {"protocol": "new"}),
    ],
)
def test_urls_and_options_that_can_not_work(url: str, options: dict[str, Any]):
    """What redis-py can't make a connection of is refused at once, with its reason."""
    with pytest.raises(ConfigurationError, match="a Redis URL or option that can't work"):
        RedisAdapter(url, **options)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rediss://alice:secret@10.0.0.5:6379/0?ssl_password=secret", "rediss://10.0.0.5:6379/0"),
        ("redis://:sec@ret@10.0.0.5", "redis://10.0.0.5"),
        ("valkeys://:secret@10.0.0.5:6379", "valkeys://10.0.0.5:6379"),
        ("unix://alice:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_credentials_are_not_shown(url: str, shown: str):
    """Errors and the log name the engine without credentials and options."""
    assert RedisAdapter(url).engine == shown
