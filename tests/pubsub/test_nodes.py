"""Two nodes and a network in memory: what reaches the other node, and what is dropped there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from roost import Channel, Endpoint, PubSub, Socket, event
from roost.exceptions import ConfigurationError, NotStarted, PayloadError, WrongThread
from roost.pubsub import Subscriber, Subscription
from roost.pubsub.registry import deliver_to_all
from roost.testing import ChannelCase, JoinedCase
from tests.pubsub.nodes import Network, NodeAdapter

pack = msgspec.msgpack.encode


class RoomChannel(Channel):
    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)

    @event("shout_from")
    def shout_from(self, payload: Any) -> None:
        self.broadcast_from("shout", payload)


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def id(self) -> str:
        return "users:alice"


def loudly(subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any) -> None:
    """A dispatcher of the application's own."""
    deliver_to_all(subscriptions, sender, message.upper())


def quietly(subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any) -> None:
    """A dispatcher that no node has a name for."""


class Node:
    """One node: an endpoint whose PubSub has the network's adapter.

    Attributes:
        case: To connect clients to it.
        received: What its plain subscriber of ``room:1`` got.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.adapter = network.adapter(name)
        self.pubsub = PubSub(self.adapter, dispatchers={"loudly": loudly})
        self.case = ChannelCase(Endpoint({"/": UserSocket}, pubsub=self.pubsub))
        self.received: list[Any] = []

    async def join(self) -> JoinedCase:
        client = await self.case.connect(UserSocket)
        return await client.join("room:1")


class Cluster:
    """Nodes a and b, with a plain subscriber of ``room:1`` each."""

    def __init__(self) -> None:
        self.network = Network()
        self.a, self.b = Node(self.network, "a"), Node(self.network, "b")

    @property
    def received(self) -> tuple[list[Any], list[Any]]:
        return self.a.received, self.b.received

    async def settled(self) -> None:
        """Wait until what was published so far has arrived: a marker sent last arrives last."""
        for sender, receiver in ((self.a, self.b), (self.b, self.a)):
            arrived: list[Any] = []
            subscription = receiver.pubsub.subscribe("marker", arrived.append)
            sender.pubsub.broadcast("marker", "x")
            await receiver.case.settled()
            assert arrived == ["x"]
            receiver.pubsub.unsubscribe(subscription)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    async with cluster.a.case, cluster.b.case:
        for node in (cluster.a, cluster.b):
            node.pubsub.subscribe("room:1", node.received.append)
        yield cluster


# PubSub.


async def test_a_broadcast_reaches_the_subscribers_of_all_nodes(cluster: Cluster):
    """Both nodes' subscribers get it, once; on the own node it has arrived on return."""
    cluster.a.pubsub.broadcast("room:1", {"n": [1, "x", None]})
    assert cluster.a.received == [{"n": [1, "x", None]}]

    await cluster.settled()
    assert cluster.received == ([{"n": [1, "x", None]}], [{"n": [1, "x", None]}])


async def test_a_sender_is_skipped_on_its_node_only(cluster: Cluster):
    """A sender lives on one node; the others don't know it, and need not."""
    cluster.a.pubsub.broadcast_from(cluster.a.received.append, "room:1", "hello")
    await cluster.settled()
    assert cluster.received == ([], ["hello"])


async def test_a_local_broadcast_stays_on_its_node(cluster: Cluster):
    """Nothing is even encoded for the others."""
    cluster.a.adapter.sent.clear()
    cluster.a.pubsub.local_broadcast("room:1", "hello")
    assert cluster.a.adapter.sent == []

    await cluster.settled()
    assert cluster.received == (["hello"], [])


async def test_a_direct_broadcast_reaches_the_named_node_only(cluster: Cluster):
    """The own node doesn't hear it, unless it is the one that is named."""
    cluster.a.pubsub.direct_broadcast("b", "room:1", "to b")
    cluster.a.pubsub.direct_broadcast("a", "room:1", "to a")
    cluster.a.pubsub.direct_broadcast("nowhere", "room:1", "to nobody")
    await cluster.settled()
    assert cluster.received == (["to a"], ["to b"])


async def test_broadcasts_of_one_sender_arrive_in_order(cluster: Cluster):
    """One after the other, as they were sent."""
    for n in range(100):
        cluster.a.pubsub.broadcast("room:1", n)
    await cluster.settled()
    assert cluster.b.received == list(range(100))


async def test_a_named_dispatcher_works_on_every_node(cluster: Cluster):
    """Each node hands the message out with the dispatcher of that name; no sender arrives."""
    cluster.a.pubsub.broadcast("room:1", "hello", dispatcher=loudly)
    await cluster.settled()
    assert cluster.received == (["HELLO"], ["HELLO"])


async def test_a_dispatcher_without_a_name_is_refused(cluster: Cluster):
    """The other nodes could not know it: the caller is told, and nobody gets the message."""
    with pytest.raises(ConfigurationError, match=r"PubSub\(dispatchers="):
        cluster.a.pubsub.broadcast("room:1", "hello", dispatcher=quietly)
    with pytest.raises(ConfigurationError, match=r"PubSub\(dispatchers="):
        cluster.a.pubsub.direct_broadcast("b", "room:1", "hello", dispatcher=quietly)
    await cluster.settled()
    assert cluster.received == ([], [])


async def test_a_message_that_cant_be_sent_reaches_nobody(cluster: Cluster):
    """The others come first: what they can't get, this node's subscribers don't get either."""
    with pytest.raises(PayloadError, match="object"):
        cluster.a.pubsub.broadcast("room:1", object())
    await cluster.settled()
    assert cluster.received == ([], [])


async def test_what_may_not_be_published_is_not_sent(cluster: Cluster):
    """A call from the wrong thread, or before the start, raises before anything leaves the node."""
    cluster.a.adapter.sent.clear()

    def publish(pubsub: PubSub) -> None:
        with pytest.raises((WrongThread, NotStarted)):
            pubsub.broadcast("room:1", "hello")
        with pytest.raises((WrongThread, NotStarted)):
            pubsub.direct_broadcast("b", "room:1", "hello")

    await asyncio.to_thread(publish, cluster.a.pubsub)
    stopped = cluster.network.adapter("c")
    publish(PubSub(stopped))

    assert cluster.a.adapter.sent == stopped.sent == []


async def test_a_node_that_stopped_hears_nothing():
    """A node that is gone is gone for the others, too; that is nobody's error."""
    network = Network()
    a, b = PubSub(network.adapter("a")), PubSub(network.adapter("b"))
    received: list[Any] = []
    async with a.running():
        async with b.running():
            b.subscribe("room:1", received.append)
        a.broadcast("room:1", "hello")
        a.direct_broadcast("b", "room:1", "hello")
        assert list(network.nodes) == ["a"]
    assert received == []


# Channels.


async def test_a_channels_broadcast_reaches_clients_of_all_nodes(cluster: Cluster):
    """Clients on both nodes get the event with equal payloads, the sender's included."""
    alice, bob = await cluster.a.join(), await cluster.b.join()

    alice.push("shout", {"body": "hi"})

    assert await alice.assert_push("shout") == {"body": "hi"}
    assert await bob.assert_push("shout") == {"body": "hi"}


async def test_bytes_reach_clients_of_all_nodes(cluster: Cluster):
    """A binary broadcast stays binary on the other node."""
    alice, bob = await cluster.a.join(), await cluster.b.join()

    alice.push("shout", b"\x00\xff")

    assert await alice.assert_push("shout") == b"\x00\xff"
    assert await bob.assert_push("shout") == b"\x00\xff"


async def test_broadcast_from_skips_one_client_in_the_whole_cluster(cluster: Cluster):
    """Only the sender's client is skipped; its neighbour and the other node's clients are not."""
    alice, carol = await cluster.a.join(), await cluster.a.join()
    bob = await cluster.b.join()

    alice.push("shout_from", {"body": "hi"})

    await carol.assert_push("shout", {"body": "hi"})
    await bob.assert_push("shout", {"body": "hi"})
    await alice.refute_push("shout", timeout=0)


async def test_a_users_connections_are_closed_on_all_nodes(cluster: Cluster):
    """Broadcasting disconnect to a socket id logs the user out everywhere."""
    alice, again = await cluster.a.join(), await cluster.b.join()

    cluster.a.case.broadcast("users:alice", "disconnect")

    await alice.client.assert_closed(1001)
    await again.client.assert_closed(1001)


# What is dropped.


async def dropped(
    cluster: Cluster, data: bytes, caplog: pytest.LogCaptureFixture
) -> tuple[dict[str, int], str]:
    """Deliver bytes to node b, and return what it counted and logged.

    Delivering must not raise, and what comes next must arrive.
    """
    cluster.b.pubsub.counters.clear()
    with caplog.at_level(logging.WARNING, "roost.pubsub"):
        cluster.b.adapter.deliver(b"B" + data)
    cluster.a.pubsub.broadcast("room:1", "next")
    await cluster.settled()
    assert cluster.b.received == ["next"]
    return dict(cluster.b.pubsub.counters), caplog.text


async def test_bytes_of_no_kind_are_dropped(cluster: Cluster, caplog: pytest.LogCaptureFixture):
    """What is neither a broadcast nor a tracker's message is counted, and logged."""
    for data in (b"", b"X", b"\x00\xff"):
        cluster.b.pubsub.counters.clear()
        with caplog.at_level(logging.WARNING, "roost.pubsub"):
            cluster.b.adapter.deliver(data)
        assert cluster.b.pubsub.counters == {"unknown_kind": 1}


async def test_bad_bytes_of_another_tracker_are_dropped(cluster: Cluster):
    """They are counted, and harm nobody."""
    cluster.b.adapter.deliver(b"T\xc1\xff")

    assert cluster.b.pubsub.replicator.counters == {"unsound": 1}


BAD = {
    "garbage": b"\xc1\xff\x00",
    "another format": pack([99, "room:1", None, 0, "hello"]),
    "invalid JSON": pack([1, "room:1", "fastlane", 1, "shout", False, b'{"a":']),
    "invalid UTF-8": pack([1, "room:1", "fastlane", 1, "shout", False, b'{"a":"\xff"}']),
    "no object": pack([1, "room:1", "fastlane", 1, "shout", False, b'"text"']),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
async def test_bad_bytes_of_another_node_are_dropped(
    cluster: Cluster, data: bytes, caplog: pytest.LogCaptureFixture
):
    """One bad node costs its own messages: they are counted and logged, and life goes on."""
    bob = await cluster.b.join()

    counters, log = await dropped(cluster, data, caplog)

    assert counters == {"invalid_envelope": 1}
    assert "dropped 1 messages of other nodes, the last: " in log
    await bob.refute_push("shout", timeout=0)


async def test_a_message_for_an_unknown_dispatcher_is_dropped(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
):
    """A newer node may know a dispatcher that this one does not: counted, and named in the log."""
    data = pack([1, "room:1", "brand new", 0, "hello"])

    counters, log = await dropped(cluster, data, caplog)

    assert counters == {"unknown_dispatcher": 1}
    assert "'brand new'" in log


@pytest.mark.parametrize("dispatcher", ["fastlane", "loudly"])
async def test_a_message_that_is_none_for_its_dispatcher_is_dropped(
    cluster: Cluster, dispatcher: str, caplog: pytest.LogCaptureFixture
):
    """A dispatcher that raises for what another node sent does not harm the adapter."""
    data = pack([1, "room:1", dispatcher, 0, 7])

    counters, log = await dropped(cluster, data, caplog)

    assert counters == {"failed_dispatch": 1}
    assert "dropped 1 messages of other nodes, the last: " in log


# Links.


async def test_link_events_are_logged(caplog: pytest.LogCaptureFixture):
    """What an adapter tells of its links is in the log, with the node's name."""
    adapter = NodeAdapter(Network(), "a")
    async with PubSub(adapter).running():
        with caplog.at_level(logging.INFO, "roost.cluster"):
            adapter.links.link_up("b", "b1")
            adapter.links.link_down("b1")
            adapter.links.detached()
            adapter.links.attached()

    assert [record.getMessage() for record in caplog.records] == [
        "b can be reached (link b1)",
        "link b1 is gone",
        "this node is cut off from the others: what they have is shown as it was",
        "this node can reach others again",
    ]
