"""What Phoenix's own tests say of a PubSub with several nodes, over each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from roost import Presence, PubSub
from tests.engines import NatsServer, RedisServer, free_port
from tests.waiting import until

TOPIC = "room:1"

Nodes: TypeAlias = dict[str, tuple[PubSub, list[Any]]]
"""Name → its PubSub, and what its subscriber of ``TOPIC`` got."""


class Online(Presence):
    pass


@pytest.fixture(params=["zenoh", "redis", "nats"])
async def urls(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[[], str]]:
    """Makes the URL of one node after the other."""
    async with AsyncExitStack() as stack:
        match request.param:
            case "zenoh":
                port = free_port()
                addresses = iter(
                    [f"?listen=127.0.0.1:{port}", *[f"127.0.0.1:{port}?listen=127.0.0.1:0"] * 9]
                )
                yield lambda: f"zenoh://{next(addresses)}"
            case "redis":
                redis = stack.enter_context(RedisServer(tmp_path))
                yield lambda: f"redis://127.0.0.1:{redis.port}"
            case "nats":
                nats = stack.enter_context(NatsServer(tmp_path))
                yield lambda: f"nats://127.0.0.1:{nats.port}"


@pytest.fixture
async def nodes(urls: Callable[[], str]) -> AsyncIterator[Nodes]:
    """Nodes a, b and c, which know each other."""
    async with AsyncExitStack() as stack:
        nodes: Nodes = {}
        for name in "abc":
            pubsub = PubSub(urls(), node_name=name)
            await stack.enter_async_context(pubsub.running())
            received: list[Any] = []
            pubsub.subscribe(TOPIC, received.append)
            nodes[name] = pubsub, received
        await until(lambda: all(each.node_names == ["a", "b", "c"] for each, _ in nodes.values()))
        yield nodes


async def heard(nodes: Nodes) -> dict[str, list[Any]]:
    """What each node's subscriber got, once all that was sent has arrived."""
    markers = {name: set[str]() for name in nodes}
    for name, (pubsub, _) in nodes.items():
        pubsub.subscribe("marker", markers[name].add)
    for name, (pubsub, _) in nodes.items():
        pubsub.broadcast("marker", name)
    await until(lambda: all(marker == set(nodes) for marker in markers.values()))
    return {name: received for name, (_, received) in nodes.items()}


@pytest.mark.conforms("PSD-1")
async def test_a_broadcast_reaches_all_nodes(nodes: Nodes):
    """Each subscriber gets it once, on its own node and on the others."""
    nodes["a"][0].broadcast(TOPIC, {"n": 1})

    assert await heard(nodes) == {name: [{"n": 1}] for name in "abc"}


@pytest.mark.conforms("PSD-2")
async def test_a_local_broadcast_stays_on_its_node(nodes: Nodes):
    """Nobody else gets it."""
    nodes["a"][0].local_broadcast(TOPIC, "hi")

    assert await heard(nodes) == {"a": ["hi"], "b": [], "c": []}


@pytest.mark.conforms("PSD-3")
async def test_a_direct_broadcast_reaches_the_named_node_only(nodes: Nodes):
    """To a node that there is not it reaches nobody, and raises nothing."""
    nodes["a"][0].direct_broadcast("b", TOPIC, "hi")
    nodes["a"][0].direct_broadcast("nobody", TOPIC, "lost")

    assert await heard(nodes) == {"a": [], "b": ["hi"], "c": []}


async def test_broadcasts_of_one_sender_arrive_in_order(nodes: Nodes):
    """To all and to one, as they were sent."""
    pubsub, _ = nodes["a"]
    for n in range(500):
        pubsub.broadcast(TOPIC, n)
        pubsub.direct_broadcast("b", TOPIC, -n)

    received = await heard(nodes)
    assert received["b"] == [each for n in range(500) for each in (n, -n)]
    assert received["c"] == list(range(500))


async def test_who_is_on_one_node_is_seen_on_all(nodes: Nodes):
    """And leaves everywhere when its node says goodbye."""
    async with AsyncExitStack() as stack:
        online = {name: Online() for name in nodes}
        for name, (pubsub, _) in nodes.items():
            await stack.enter_async_context(online[name].running(pubsub))
        async with online["a"].lease(TOPIC, "alice"), online["b"].lease(TOPIC, "bob"):
            await until(lambda: all(each.count_users(TOPIC) == 2 for each in online.values()))
        await until(lambda: not any(each.count_users(TOPIC) for each in online.values()))
