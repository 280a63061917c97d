"""Whatever another node says, it costs itself: the node goes on, and remembers nothing long."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost import Endpoint, Presence, PubSub
from roost.crdt.incarnation import OriginId
from roost.naming import RESERVED_KEYS
from roost.presence import Lease
from tests.pubsub.nodes import Network
from tests.virtual_clock import run_virtually

TOPIC = "room:1"
STRANGER = OriginId("stranger", 1, 7)

names: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=20),
    st.sampled_from([TOPIC, "alice", "Presence", "", "x" * 1_025, "é" * 600, "x" * 300_000]),
    st.sampled_from(sorted(RESERVED_KEYS)),
    st.integers(-1, 2**63),
    st.none(),
    st.binary(max_size=5),
)


@st.composite
def origins(draw: st.DrawFn) -> Any:
    name = draw(st.sampled_from(["stranger", "a", "b", "n" * 300, "b~0"]) | names)
    return [name, draw(st.integers(0, 5)), draw(st.integers(0, 9))]


@st.composite
def rows(draw: st.DrawFn) -> Any:
    seq = draw(st.integers(0, 5))
    meta = b'{"phx_ref":"%s"}' % STRANGER.ref(seq).encode()
    tracker = draw(st.sampled_from(["Presence", "x" * 256]) | names)
    return [draw(names), draw(names), draw(st.just(meta) | st.binary()), 1, seq, False, tracker]


parts = st.tuples(
    st.none() | st.integers(0, 3),
    st.integers(0, 6),
    st.integers(-1, 2),
    st.integers(0, 3),
    st.lists(rows(), max_size=4),
    st.lists(st.integers(0, 5), max_size=2),
)
sender = st.just([*("stranger", 1, 7)]) | origins()
numbers = st.integers(-1, 2**40)
messages = st.one_of(
    st.tuples(st.just(0), sender, numbers, numbers, st.just([1, 1]), names),
    st.tuples(st.just(1), sender, numbers, st.just([1, 1]), names),
    st.tuples(st.just(2), sender, parts),
    st.tuples(st.just(3), sender, st.lists(st.tuples(origins(), numbers), max_size=3)),
    st.tuples(st.just(4), sender, origins(), numbers, numbers),
    st.tuples(st.just(5), sender, origins(), numbers, parts),
    st.tuples(st.just(6), sender, origins(), numbers, names),
    st.tuples(st.just(7), sender, names, numbers, numbers),
    st.tuples(st.just(8), sender),
    st.tuples(st.integers(-1, 130), sender, names),
)
envelopes = st.one_of(
    st.tuples(st.just(1), names, names, st.just(0), names),
    st.tuples(st.just(1), names, names, st.just(1), names, st.booleans(), st.just(b"{}")),
)
pack = msgspec.msgpack.encode
data = st.one_of(
    messages.map(lambda message: b"T" + pack(message)),
    envelopes.map(lambda envelope: b"B" + pack(envelope)),
    st.binary(max_size=40),
    st.binary(max_size=40).map(lambda rest: b"T" + rest),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(data, max_size=8))
def test_whatever_another_node_says(said: list[bytes]):
    """Nothing is raised, nothing long is held, and a well-behaved node is still seen and sees."""

    async def scene() -> None:
        network = Network()
        nodes = []
        for name in ("a", "b"):
            online = Presence()
            pubsub = PubSub(network.adapter(name))
            nodes.append((online, Endpoint({}, presences=[online], pubsub=pubsub)))
        (on_a, a), (on_b, b) = nodes
        async with a.running(), b.running():
            await asyncio.sleep(1)
            on_a.track(Lease(on_a, TOPIC, "x"), "alice", {}, topic=TOPIC)
            for each in said:
                network.nodes["b"].deliver(each)
                await asyncio.sleep(0.1)
            for link in ("l" * 256, "stranger"):
                network.nodes["b"].links.link_up("n" * 300, link)
            on_b.track(Lease(on_b, TOPIC, "y"), "bob", {}, topic=TOPIC)
            on_a.track(Lease(on_a, TOPIC, "z"), "carol", {}, topic=TOPIC)
            await asyncio.sleep(20)

            assert {"alice", "bob", "carol"} <= set(await on_b.list(TOPIC))
            assert {"alice", "bob", "carol"} <= set(await on_a.list(TOPIC))
            health = b.health()
            assert health["is_failing"] is False
            assert max(len(name.encode()) for name in health["nodes"]) <= 272
            tracker = on_b._current().tracker
            for entry in tracker.list_all():
                assert entry.key not in RESERVED_KEYS
                assert max(len(entry.key.encode()), len(entry.topic.encode())) <= 1_024

    run_virtually(scene())
