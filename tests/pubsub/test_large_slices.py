"""A large slice on its way to newcomers, over each engine, with messages that are lost."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from roost import PubSub
from roost.presence.tracker import Tracker
from roost.pubsub.adapter import Adapter, LinkEvents
from roost.pubsub.urls import adapter_for
from tests.engines import NatsServer, RedisServer, free_port
from tests.waiting import until

COUNT = 3_000
META = {"name": "x" * 335}  # 400 bytes with its ref


class LossyAdapter:
    """An adapter that drops some of what it is given, by a chance of its own."""

    def __init__(self, adapter: Adapter, loss: float, seed: int) -> None:
        self._adapter = adapter
        self._loss = loss
        self._rng = random.Random(seed)
        self.sent_size = 0  # bytes given to it for one node

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        await self._adapter.start(deliver, links)

    def publish(self, data: bytes) -> None:
        if self._rng.random() >= self._loss:
            self._adapter.publish(data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        self.sent_size += len(data)
        if self._rng.random() >= self._loss:
            self._adapter.publish_to(node_name, data)


class Node:
    """A node with a tracker, whose messages are lost now and then."""

    def __init__(self, url: str, name: str, loss: float) -> None:
        self.adapter = LossyAdapter(adapter_for(url, name), loss, seed=len(name))
        self.pubsub = PubSub(self.adapter)
        self.tracker = Tracker(name="people")

    def shown(self) -> int:
        return sum(len(self.tracker.list(f"room:{n}")) for n in range(10))

    def is_whole(self) -> bool:
        """Whether it holds all that others have; of some it may not have heard yet."""
        peers = self.pubsub.replicator.peers
        is_current = bool(peers) and not any(peer["is_behind"] for peer in peers)
        return is_current and self.shown() == COUNT

    def shows(self, topic: str) -> bool:
        return bool(self.tracker.list(topic))


@asynccontextmanager
async def nodes(url: str, *names: str, loss: float = 0.0) -> AsyncIterator[list[Node]]:
    async with AsyncExitStack() as stack:
        made = []
        for name in names:
            node = Node(url, name, loss)
            await stack.enter_async_context(node.pubsub.running())
            await stack.enter_async_context(node.tracker.running(node.pubsub))
            made.append(node)
        yield made


async def fill(node: Node, owner: asyncio.Task[Any], count: int = COUNT, **meta: Any) -> None:
    for number in range(count):
        topic = f"room:{number % 10}"
        node.tracker.track(owner, f"user-{number}", {**META, **meta}, topic=topic)
        if number % 100 == 0:
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def owner() -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(asyncio.sleep(3600))
    yield task
    task.cancel()


@pytest.fixture(params=["zenoh", "redis", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "redis":
            with RedisServer(tmp_path) as server:
                yield f"redis://127.0.0.1:{server.port}"
        case "nats":
            with NatsServer(tmp_path, "max_payload: 8192") as server:
                yield f"nats://127.0.0.1:{server.port}"
        case _:
            yield f"zenoh://127.0.0.1:{free_port()}"


@pytest.mark.asyncio
async def test_newcomers_get_a_large_slice_although_messages_are_lost(url, owner):
    """Two newcomers at once, a tenth of all lost: whole within the bound, at the slice's cost."""
    async with nodes(url, "first", loss=0.1) as (first,):
        await fill(first, owner)
        size = sum(entry.size for entry in first.pubsub.replicator._own)
        async with nodes(url, "second", "third", loss=0.1) as newcomers:
            for node in newcomers:
                await until(node.is_whole, 60)
                assert node.shown() == COUNT
            assert first.adapter.sent_size < 2.5 * size * len(newcomers)
            assert all(node.pubsub.adapter.counters["outbox_full"] == 0 for node in newcomers)


@pytest.mark.asyncio
async def test_the_limit_of_a_server_may_change_while_it_runs(tmp_path: Path, owner):
    """Metas near their bound pass under 8 kB, and what is tracked after a reload does as well."""
    with NatsServer(tmp_path, "max_payload: 8192") as server:
        url = f"nats://127.0.0.1:{server.port}"
        async with nodes(url, "first", "second") as (first, second):
            await fill(first, owner, 20, bio="y" * 64_000)
            await until(lambda: second.shown() == 20, 30)
            for limit in ("max_payload: 4096", "max_payload: 1048576"):
                server.lines = (limit,)
                server.command()
                assert server.process is not None
                server.process.send_signal(signal.SIGHUP)
                topic = limit.replace(" ", "")
                first.tracker.track(owner, "late", {"bio": "z" * 60_000}, topic=topic)
                await until(partial(second.shows, topic), 30)
            assert first.pubsub.adapter.counters["too_large"] == 0
