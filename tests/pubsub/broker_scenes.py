"""What holds for the adapters of Redis and NATS alike, beyond what every adapter must do."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol

import pytest

from roost.exceptions import AdapterError, ConfigurationError
from roost.pubsub.broker.adapter import BrokerAdapter
from roost.testing.adapters import AdapterConformance, Node
from tests.engines import Proxy, greeter, open_sockets


class BrokerEngine(Protocol):
    """A real server, and ways to connect to it."""

    port: int
    scheme: str

    def adapter(
        self, node_name: str | None = None, namespace: str = "suite", *, port: int = 0
    ) -> BrokerAdapter: ...

    def url(self) -> str: ...

    async def publish(self, address: tuple[str, ...], data: bytes) -> None:
        """Publish as a stranger does."""
        ...


class BrokerScenes(AdapterConformance):
    """To be mixed into the tests of an adapter; ``engine`` is a ``BrokerEngine``."""

    kind: Callable[..., BrokerAdapter]
    library: str
    extra: str

    async def test_a_cut_is_noticed_and_healed(self, engine: BrokerEngine) -> None:
        """A node cut off from the engine knows it within three seconds, and comes back by itself.

        What it publishes meanwhile is dropped and counted; the other node goes on.
        """
        async with Proxy(engine.port) as proxy:
            alice = engine.adapter("alice", port=proxy.port)
            async with self.running(alice, engine.adapter("bob")) as (a, b):
                proxy.cut()
                cut_at = time.monotonic()
                alice.publish(b"on its way")
                await asyncio.sleep(0.1)  # for the sender to take it
                alice.publish(b"waits")
                await self.is_told(a, "detached")
                assert time.monotonic() - cut_at < 4
                alice.publish(b"too late")
                # What the meeting left on its way may be among them.
                assert alice.counters["unconfirmed"] >= 1
                assert alice.counters["detached"] >= 2
                assert alice.counters.keys() == {"unconfirmed", "detached"}
                assert b.adapter.is_attached
                proxy.heal()
                healed_at = time.monotonic()
                await self.is_attached(a)
                assert time.monotonic() - healed_at < 6
                await self.meet(a, b)

                assert b.messages in ([], [b"on its way"])

    async def test_dropped_connections_are_made_again(self, engine: BrokerEngine) -> None:
        """A reset is noticed at once, and takes a fraction of a second."""
        async with Proxy(engine.port) as proxy:
            alice = engine.adapter("alice", port=proxy.port)
            async with self.running(alice, engine.adapter("bob")) as (a, b):
                for _ in range(3):
                    a.told.clear()
                    proxy.drop()
                    await self.is_told(a, "attached")
                    assert a.told == [("detached",), ("attached",)]
                await self.meet(a, b)

                assert alice.counters["reattached"] == 3

    async def test_a_killed_node_is_told_of(self, engine: BrokerEngine) -> None:
        """Of a node that was killed the others know within a few seconds."""
        async with self.running(engine.adapter("alice")) as (a,):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.pubsub.silent_node", engine.url()),
                stdout=subprocess.PIPE,
            )
            try:
                assert process.stdout is not None
                link = (await process.stdout.readline()).decode().strip()
                await self.until(lambda: ("link_up", "mallory", link) in a.told, "mallory is up")
            finally:
                process.kill()
                await process.wait()
            killed_at = time.monotonic()
            await self.is_told(a, "link_down")

            assert time.monotonic() - killed_at < 5
            assert a.told == [("link_up", "mallory", link), ("link_down", link)]

    async def test_silent_nodes_stay_up(self, engine: BrokerEngine) -> None:
        """Nodes that have nothing to say are not taken for dead."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await asyncio.sleep(4.5)  # several checks: what must not happen can't be waited for

            assert len(a.told) == len(b.told) == 1

    async def test_strangers_are_not_heard(self, engine: BrokerEngine) -> None:
        """What is no frame is dropped and counted, wherever it is published, and harms nobody."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            strange = [("all",), ("node", "bob"), ("link", b.adapter.link)]
            for address in strange:
                await engine.publish(address, b"hello from a stranger")
            await self.until(lambda: b.adapter.counters["unsound"] == 3, "three are counted")
            a.adapter.publish(b"fence")

            await self.receives(b, b"fence")
            assert a.adapter.counters["unsound"] == 1

    async def test_a_loop_that_was_held_up_does_not_blame_the_engine(
        self, engine: BrokerEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A callback that blocks the loop for longer than the silence allowed costs nothing."""
        monkeypatch.setattr("roost.pubsub.broker.adapter.CHECK_INTERVAL", 0.0)  # always under way
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            for _ in range(2):
                time.sleep(2.5)  # noqa: ASYNC251  # that is the point
                a.adapter.publish(b"late")
                await asyncio.sleep(0.3)

            await self.receives(b, b"late", b"late")
            assert [told[0] for told in a.told + b.told] == ["link_up", "link_up"]

    async def test_failures_leave_no_socket(self, engine: BrokerEngine) -> None:
        """Neither a start that fails or is cancelled, nor close, leaves a connection."""
        before = open_sockets()
        async with Proxy(engine.port) as proxy:
            proxy.cut()
            adapter = engine.adapter("alice", port=proxy.port)
            start = asyncio.create_task(adapter.start(_ignore, Node(adapter)))
            await self.until(lambda: proxy.connection_count, "it connects")
            start.cancel()
            await asyncio.wait({start})
        async with self.running(engine.adapter("alice")):
            assert open_sockets() > before
        adapter = engine.adapter("alice")
        await adapter.start(_ignore, Node(adapter))
        await adapter.close()  # before any of its tasks has begun

        await self.until(lambda: open_sockets() <= before, "the sockets are closed")

    async def test_closing_while_cut_leaves_no_socket(self, engine: BrokerEngine) -> None:
        """What the engine has not taken does not keep the connection open."""
        before = open_sockets()
        async with Proxy(engine.port) as proxy:
            async with self.running(engine.adapter("alice", port=proxy.port)) as (a,):
                proxy.cut()
                for _ in range(4):
                    a.adapter.publish(b"x" * 7_900_000)
                async with asyncio.timeout(3):
                    await a.adapter.close()

            port = proxy.port
            await self.until(
                lambda: port not in [theirs for _, theirs in open_sockets() - before],
                "the sockets are closed",
            )

    async def test_an_engine_that_does_not_answer(
        self, engine: BrokerEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A start at an engine that accepts and says nothing fails in time."""
        monkeypatch.setattr("roost.pubsub.broker.adapter.CONNECT_TIMEOUT", 0.3)
        async with Proxy(engine.port) as proxy:
            proxy.cut()
            adapter = engine.adapter("alice", port=proxy.port)
            with pytest.raises(AdapterError, match="no answer within"):
                await adapter.start(_ignore, Node(adapter))

    async def test_an_unknown_host(self, engine: BrokerEngine) -> None:
        """A name that does not resolve is told apart from a server that does not run."""
        adapter = self.kind(f"{engine.scheme}://alice:secret@no-such-host.invalid:1")
        with pytest.raises(AdapterError, match=r"^\w+://no-such-host.invalid:1: .*resolved"):
            await adapter.start(_ignore, Node(adapter))

    async def test_a_server_of_another_kind(self) -> None:
        """What answers in another protocol is told apart."""
        async with greeter(b"220 mail.example ESMTP\r\n") as (port, _):
            adapter = self.kind(f"{self.extra}://127.0.0.1:{port}")
            with pytest.raises(AdapterError, match=r"what answers there is no \w+ server"):
                await adapter.start(_ignore, Node(adapter))

    async def test_the_log_tells_of_an_outage(
        self, engine: BrokerEngine, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The log says that the engine was lost and is back, and never shows a password."""
        caplog.set_level(logging.INFO, "roost.pubsub")
        async with (
            Proxy(engine.port) as proxy,
            self.running(engine.adapter("alice", port=proxy.port)) as (a,),
        ):
            proxy.drop()
            await self.is_told(a, "attached")

        texts = [record.getMessage() for record in caplog.records if record.name == "roost.pubsub"]
        assert texts[0].startswith("detached from ")
        assert texts[-1].startswith("attached to ")
        assert "secret" not in str(texts)

    async def test_it_is_not_started_twice(self, engine: BrokerEngine) -> None:
        """A start while it runs is refused, and the run goes on."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            with pytest.raises(ConfigurationError, match="close it first"):
                await a.start()
            a.adapter.publish(b"still here")

            await self.receives(b, b"still here")

    @pytest.mark.parametrize(
        "options",
        [
            {"namespace": ""},
            {"namespace": "a.b"},
            {"namespace": "a:b"},
            {"namespace": "x" * 65},
            {"node_name": ""},
            {"node_name": "ü" * 128},
            {"max_outbox_count": 0},
            {"max_outbox_size": 0},
        ],
        ids=str,
    )
    async def test_options_that_can_not_work(
        self, engine: BrokerEngine, options: dict[str, object]
    ) -> None:
        """An option that can't work is refused at once, and by its name."""
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            self.kind(engine.url(), **options)

    async def test_the_library_may_be_missing(self) -> None:
        """Without the library roost can be imported; an adapter says how to install it."""
        code = f"""
import sys
sys.modules[{self.library!r}] = None
import roost
from {self.kind.__module__} import {self.kind.__name__} as Adapter
from roost.exceptions import ConfigurationError
try:
    Adapter("{self.extra}://127.0.0.1")
except ConfigurationError as error:
    assert 'pip install "roost[{self.extra}]"' in str(error), error
else:
    raise AssertionError("not raised")
"""
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)


def _ignore(data: bytes) -> None:
    pass
