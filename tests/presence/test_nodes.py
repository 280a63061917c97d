"""Presences of several nodes: everybody sees everybody, whichever node they are on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from roost import Channel, Endpoint, Presence, PubSub, Socket, Tracker
from roost.exceptions import ConfigurationError
from roost.presence.changes import Join, Leave, Update
from roost.presence.owners.owner import Lease
from roost.testing import ChannelCase, JoinedCase
from tests.pubsub.nodes import Network, NodeAdapter
from tests.virtual_clock import virtually

TOPIC = "room:1"


class Online(Presence):
    pass


class Jobs(Tracker):
    pass


class Node:
    """One node with its presences and a socket whose channels enter ``online``."""

    def __init__(self, network: Network, name: str) -> None:
        self.adapter: NodeAdapter = network.adapter(name)
        self.pubsub = PubSub(self.adapter)
        self.online = online = Online()
        self.jobs = Jobs()

        class RoomChannel(Channel[Any]):
            async def join(self, topic: str, params: Any) -> None:
                self.key = params["name"]

            async def after_join(self) -> None:
                await online.enter(self, self.key, {"n": 1})

        class UserSocket(Socket):
            channels = {"room:*": RoomChannel}

        self.socket = UserSocket
        self.endpoint = Endpoint(
            {"/": UserSocket}, presences=[self.online], trackers=[self.jobs], pubsub=self.pubsub
        )
        self.case = ChannelCase(self.endpoint)

    async def join(self, name: str) -> JoinedCase:
        client = await self.case.connect(self.socket)
        return await client.join(TOPIC, {"name": name})

    def lease(self, key: str, meta: Any = None) -> Lease:
        lease = Lease(self.online, TOPIC, key)
        self.online.track(lease, key, meta or {}, topic=TOPIC)
        return lease

    async def keys(self) -> list[str]:
        return sorted(await self.online.list(TOPIC))


@asynccontextmanager
async def nodes(*names: str) -> AsyncIterator[list[Node]]:
    network = Network()
    async with AsyncExitStack() as stack:
        started = [Node(network, name) for name in names]
        for node in started:
            await stack.enter_async_context(node.case)
        yield started


def network_of(node: Node) -> Network:
    return node.adapter._network


async def soon() -> None:
    """Time enough for a change to be broadcast, and for its diff."""
    await asyncio.sleep(0.2)


@virtually
async def test_who_joins_on_one_node_is_seen_by_clients_of_the_other():
    """A joins, b's client gets a diff; b's client leaves, and a's client gets a diff."""
    async with nodes("a", "b") as (a, b):
        bob = await b.join("bob")
        await bob.assert_push("presence_state")
        await soon()

        alice = await a.join("alice")
        state = await alice.assert_push("presence_state")
        assert sorted(state) == ["alice", "bob"]
        diff = await bob.assert_push("presence_diff")
        assert list(diff["joins"]) == ["alice"]
        assert diff["leaves"] == {}

        bob.leave()
        diff = await alice.assert_push("presence_diff")
        assert diff["joins"] == {}
        assert list(diff["leaves"]) == ["bob"]


@virtually
async def test_one_user_on_two_nodes_has_two_presences():
    """They share a key, and each leaves by itself."""
    async with nodes("a", "b") as (a, b):
        first, second = a.lease("alice"), b.lease("alice")
        await soon()
        for node in (a, b):
            assert node.online.count_users(TOPIC) == 1
            assert node.online.count_connections(TOPIC) == 2

        first.end()
        await soon()
        assert [await node.keys() for node in (a, b)] == [["alice"], ["alice"]]
        second.end()
        await soon()
        assert [await node.keys() for node in (a, b)] == [[], []]


@virtually
async def test_an_update_is_one_step_on_every_node():
    """Whoever watches on another node sees an update, and no leave."""
    async with nodes("a", "b") as (a, b):
        lease = a.lease("alice", {"typing": False})
        await soon()
        async with b.online.watch(TOPIC) as watch:
            await anext(watch)
            a.online.update(lease, "alice", {"typing": True}, topic=TOPIC)
            change = await anext(watch)
            assert isinstance(change, Update)
            assert (change.old_meta["typing"], change.meta["typing"]) == (False, True)


@virtually
async def test_callbacks_run_on_every_node_and_know_whose_it_is():
    """What only one node shall do is done where a change is local."""
    told: list[tuple[str, str, bool]] = []

    class Telling(Online):
        def __init__(self, node: str) -> None:
            super().__init__(name="telling")
            self.node = node

        def on_join(self, join: Join) -> None:
            told.append((self.node, "join", join.is_local))

        def on_update(self, update: Update) -> None:
            told.append((self.node, "update", update.is_local))

        def on_leave(self, leave: Leave) -> None:
            told.append((self.node, "leave", leave.is_local))

    async with nodes("a", "b") as (a, b):
        here, there = Telling("a"), Telling("b")
        async with here.running(a.pubsub), there.running(b.pubsub):
            lease = Lease(here, TOPIC, "alice")
            here.track(lease, "alice", {}, topic=TOPIC)
            await soon()
            here.update(lease, "alice", {"typing": True}, topic=TOPIC)
            await soon()
            lease.end()
            await soon()

    assert sorted(told) == [
        *(("a", what, True) for what in ("join", "leave", "update")),
        *(("b", what, False) for what in ("join", "leave", "update")),
    ]


@virtually
async def test_who_is_hidden_is_hidden_on_every_node():
    """Only ``list_hidden`` shows it, on any of them."""
    async with nodes("a", "b") as (a, b):
        lease = Lease(a.online, TOPIC, "alice")
        a.online.track(lease, "alice", {}, topic=TOPIC, hidden=True)
        await soon()
        assert await b.keys() == []
        assert list(b.online.list_hidden(TOPIC)) == ["alice"]
        a.online.show(lease, "alice", topic=TOPIC)
        await soon()
        assert await b.keys() == ["alice"]


@virtually
async def test_a_node_that_stops_takes_its_presences_along_at_once():
    """It says goodbye."""
    async with nodes("a", "b") as (a, b):
        async with AsyncExitStack() as stack:
            c = Node(network_of(a), "c")
            await stack.enter_async_context(c.case)
            c.lease("carol")
            await soon()
            assert await a.keys() == await b.keys() == ["carol"]
        await soon()
        assert await a.keys() == await b.keys() == []
        assert a.pubsub.node_names == ["a", "b"]


@virtually
async def test_a_node_that_crashes_is_missed():
    """Its presences go within the down period; or within seconds where its link is seen to die."""
    for sees_links, at_most in ((False, 32.0), (True, 3.0)):
        async with nodes("a", "b", "c") as (a, b, c):
            c.lease("carol")
            await asyncio.sleep(2.0)
            assert await a.keys() == ["carol"]
            c.adapter.crash()
            if sees_links:
                for node in (a, b):
                    node.adapter.links.link_down(c.adapter.link)
            await asyncio.sleep(at_most)
            assert await a.keys() == await b.keys() == []


@virtually
async def test_trackers_of_a_node_are_apart_on_the_others_as_well():
    """A key in a presence is none in a tracker, and the other way round."""
    async with nodes("a", "b") as (a, b):
        a.lease("alice", {"n": 1})
        lease = Lease(a.jobs, TOPIC, "bob")
        a.jobs.track(lease, "bob", {"n": 2}, topic=TOPIC)
        await soon()
        assert await b.keys() == ["alice"]
        assert [key for key, _ in b.jobs.list(TOPIC)] == ["bob"]


@virtually
async def test_a_presence_that_starts_later_shows_who_is_there():
    """What other nodes track is held before there is a presence to show it."""
    async with nodes("a", "b") as (a, b):
        late_a, late_b = Online(name="late"), Online(name="late")
        async with late_a.running(a.pubsub):
            late_a.track(Lease(late_a, TOPIC, "alice"), "alice", {}, topic=TOPIC)
            await soon()
            assert await b.keys() == []
            async with late_b.running(b.pubsub):
                assert list(await late_b.list(TOPIC)) == ["alice"]
        await soon()
        async with late_b.running(b.pubsub):
            assert list(await late_b.list(TOPIC)) == []


@virtually
async def test_two_presences_of_one_name_are_refused():
    """Other nodes could not tell them apart."""
    async with nodes("a") as (a,):
        with pytest.raises(ConfigurationError, match="'Online'"):
            async with Online().running(a.pubsub):
                pass


@virtually
async def test_a_presence_that_failed_to_start_can_be_started_again():
    """It leaves no name behind."""

    class Failing(Online):
        is_broken = True

        def init(self) -> Any:
            if self.is_broken:
                raise RuntimeError("not yet")

        def handle_metas(self, topic: Any, diff: Any, presences: Any, state: Any) -> Any:
            return None

    async with nodes("a") as (a,):
        failing = Failing()
        with pytest.raises(RuntimeError, match="not yet"):
            await failing.start(a.pubsub)
        failing.is_broken = False
        async with failing.running(a.pubsub):
            assert await failing.list(TOPIC) == {}


@virtually
async def test_ten_thousand_presences_arrive_at_once():
    """A burst is joined into few messages, and all of it is there."""
    async with nodes("a", "b") as (a, b):
        for n in range(10_000):
            a.online.track(Lease(a.online, TOPIC, str(n)), str(n), {}, topic=TOPIC)
        await soon()
        assert b.online.count_users(TOPIC) == 10_000
