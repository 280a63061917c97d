"""docs/big-rooms.md: its programs run, and its arithmetic is what happens."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from roost import Channel, Endpoint, Policy, Presence, Socket
from roost.exceptions import JoinRefused
from roost.testing import ChannelCase, JoinedCase
from roost.wire.messages import Broadcast, Message
from tests.docs.guide import Guide
from tests.virtual_clock import virtually

GUIDE = Guide("big-rooms.md")


class Crowd:
    """Many clients in one room with one policy, and what they were told."""

    def __init__(self, policy: Policy) -> None:
        class Online(Presence):
            policies = {"*": policy}

        self.online = online = Online()

        class RoomChannel(Channel):
            async def after_join(self) -> None:
                await online.enter(self, self.assigns["user_id"])

        class UserSocket(Socket):
            channels = {"*": RoomChannel}

            def connect(self, params: Any, info: object) -> None:
                self.assigns["user_id"] = params["user_id"]

        self._socket = UserSocket
        self.case = ChannelCase(Endpoint({}, presences=[online]))
        self.rooms: list[JoinedCase] = []  # also of connections that were closed since

    async def join(self, count: int, *, every: float) -> None:
        """Let so many join, one in a number of seconds, and tell them everything."""
        for _ in range(count):
            client = await self.case.connect(self._socket, {"user_id": str(len(self.rooms))})
            self.rooms.append(await client.join("room:1"))
            await asyncio.sleep(every)
        await self.online.settled()

    async def reload(self, room: JoinedCase) -> None:
        """Close the connection and be back with another one half a second later."""
        room.client.close()
        await asyncio.sleep(0.5)
        user_id = room.client.socket.assigns["user_id"]
        client = await self.case.connect(self._socket, {"user_id": user_id})
        self.rooms.append(await client.join("room:1"))
        await asyncio.sleep(0.5)
        await self.online.settled()

    def told(self, event: str) -> list[Any]:
        """The payloads of an event that anybody got."""
        return [
            received.payload
            for room in self.rooms
            for received in room.client.transport.received
            if isinstance(received, Message | Broadcast) and received.event == event
        ]


# The arithmetic.


def test_the_figures_of_the_table_follow_their_formulas():
    """Its figures are N(N−1)/2 messages and N(N+1)/2 entries."""
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", GUIDE.text, flags=re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        people, messages, entries = (int(figure.replace(",", "")) for figure in row)
        assert messages == people * (people - 1) // 2
        assert entries == people * (people + 1) // 2


@virtually
@pytest.mark.parametrize("count", [10, 40])
async def test_what_a_room_costs_where_each_change_is_told(count: int):
    """N people who join one after the other cost N(N-1)/2 messages, and N(N+1)/2 entries."""
    crowd = Crowd(Policy(diff_period=0))
    async with crowd.case:
        await crowd.join(count, every=0.01)
        assert len(crowd.told("presence_diff")) == count * (count - 1) // 2
        assert sum(map(len, crowd.told("presence_state"))) == count * (count + 1) // 2

        before = len(crowd.told("presence_diff"))
        await crowd.reload(crowd.rooms[0])
        # Its leave and its join, told to all others.
        assert len(crowd.told("presence_diff")) == before + 2 * (count - 1)


# What happens by itself.


@virtually
async def test_changes_are_told_together():
    """Forty who join within 40 ms are told in two diffs: at once, and 50 ms later."""
    crowd = Crowd(Policy())
    async with crowd.case:
        await crowd.join(1, every=1.0)
        await crowd.join(40, every=0.001)
        await asyncio.sleep(1)
        diffs = [
            received.payload
            for received in crowd.rooms[0].client.transport.received
            if isinstance(received, Broadcast) and received.event == "presence_diff"
        ]
        assert [len(diff["joins"]) for diff in diffs] == [1, 39]


# Policies.


async def join(case: ChannelCase, guide: Any, topic: str, user_id: str) -> JoinedCase:
    """A client of the guide joins a topic."""
    client = await case.connect(guide.UserSocket, {"user_id": user_id})
    return await client.join(topic)


async def enter(case: ChannelCase, guide: Any, topic: str, user_id: str) -> JoinedCase:
    """``join``, and wait for the list."""
    room = await join(case, guide, topic, user_id)
    await room.assert_push("presence_state")
    return room


@virtually
async def test_policies_in_code():
    """The event of the table has its own capacity, others have the common one."""
    guide = GUIDE.run(until="Policies")
    events = guide.Events()
    async with ChannelCase(Endpoint({}, presences=[events])):
        for topic, capacity in (("event:1", 500), ("event:2", 50)):
            owner = events.lease(topic, "0")
            async with owner as lease:
                for number in range(1, capacity):
                    events.track(lease, number, {}, topic=topic)
                with pytest.raises(JoinRefused):
                    events.track(lease, "one more", {}, topic=topic)


@virtually
async def test_one_diff_a_second():
    """In a class the first change is told at once, all others of its second together."""
    guide = GUIDE.run(until="Policies")
    async with ChannelCase(guide.endpoint) as case:
        alice = await enter(case, guide, "class:1", "alice")
        await asyncio.sleep(2)
        started_at = asyncio.get_running_loop().time()
        rooms = []
        for name in ("bob", "carol", "dave"):
            rooms.append(await enter(case, guide, "class:1", name))
            await asyncio.sleep(0.1)
        await alice.assert_push("presence_diff", where=lambda diff: list(diff["joins"]) == ["bob"])
        told = await alice.assert_push("presence_diff", timeout=5)
        assert list(told["joins"]) == ["carol", "dave"]
        assert asyncio.get_running_loop().time() - started_at == pytest.approx(1.0, abs=0.01)
        assert len(await guide.online.list("class:1")) == 4


@virtually
async def test_a_number_instead_of_a_list():
    """Above 1,000 there are counts and an empty list; at 750 there is a list again."""
    guide = GUIDE.run(until="A number instead of a list")
    online = guide.online
    async with ChannelCase(guide.endpoint) as case:
        alice = await enter(case, guide, "concert:1", "alice")
        async with online.lease("concert:1", "1") as crowd:
            for number in range(2, 1001):
                online.track(crowd, number, {}, topic="concert:1")
            await alice.assert_push("presence_count", {"users": 1001, "connections": 1001})
            assert await alice.assert_push("presence_state") == {}
            assert len(await online.list("concert:1")) == 1001

            bob = await join(case, guide, "concert:1", "bob")
            await bob.assert_push("presence_count", {"users": 1002})
            assert await bob.assert_push("presence_state") == {}
            await alice.assert_push("presence_count", {"users": 1002}, timeout=2)
            await alice.refute_push("presence_count", timeout=2)  # nothing has changed

            for number in range(2, 253):
                online.untrack(crowd, number, topic="concert:1")
            await alice.assert_push("presence_count", {"users": 751}, timeout=2)
            online.untrack(crowd, 253, topic="concert:1")
            state = await alice.assert_push("presence_state", timeout=2)
            assert len(state) == 750


@virtually
async def test_a_silent_room_tells_nobody_and_the_server_knows_everything():
    """Nobody is told anything, and the server knows everything."""
    guide = GUIDE.run(until="Policies")
    async with ChannelCase(guide.endpoint) as case:
        alice = await enter(case, guide, "friends:alice", "alice")
        async with guide.online.watch("friends:alice") as watch:
            assert list((await anext(watch)).presences) == ["alice"]
            bob = await enter(case, guide, "friends:alice", "bob")
            assert (await anext(watch)).key == "bob"
        bob.leave()
        await alice.refute_push("presence_diff", timeout=2)
        await case.settled()
        assert (await guide.online.list("friends:alice")).keys() == {"alice"}
        assert guide.online.online(["alice", "bob"]) == {"alice"}


@virtually
async def test_a_few_seconds_of_grace():
    """Back within five seconds it is the same presence, and nobody is told; else it leaves."""
    guide = GUIDE.run(until="Policies")
    online = guide.online
    async with ChannelCase(guide.endpoint) as case:
        alice = await enter(case, guide, "class:1", "alice")
        bob = await enter(case, guide, "class:1", "bob")
        await alice.assert_push("presence_diff", {"joins": {"bob": {}}}, timeout=2)
        before = await online.get_by_key("class:1", "bob")

        bob.client.close()
        await asyncio.sleep(4.9)
        bob = await enter(case, guide, "class:1", "bob")
        assert await online.get_by_key("class:1", "bob") == before
        await alice.refute_push("presence_diff", timeout=10)

        bob.client.close()
        left_at = asyncio.get_running_loop().time()
        await alice.assert_push("presence_diff", {"leaves": {"bob": {}}}, timeout=10)
        assert asyncio.get_running_loop().time() - left_at == pytest.approx(5.0, abs=0.01)

        carol = await enter(case, guide, "class:1", "carol")
        await alice.assert_push("presence_diff", {"joins": {"carol": {}}}, timeout=2)
        online.untrack(carol.channel, "carol")
        await alice.assert_push("presence_diff", {"leaves": {"carol": {}}}, timeout=1.1)


@virtually
async def test_a_full_room_refuses_the_fifth_player_but_no_second_tab():
    """The fifth player is refused; a second tab of the first is not."""
    guide = GUIDE.run(until="Policies")
    async with ChannelCase(guide.endpoint) as case:
        for name in ("alice", "bob", "carol", "dave", "alice"):
            await enter(case, guide, "game:1", name)
        with pytest.raises(JoinRefused) as refused:
            await join(case, guide, "game:1", "erin")
        assert refused.value.payload == {"reason": "full", "max_members": 4}


def test_every_advised_policy_is_one():
    """Each row of the table of advice is what a Policy takes."""
    table = GUIDE.text.split("## Which one?")[1]
    advised = re.findall(r"\| `(.*)` \|$", table, flags=re.MULTILINE)
    assert len(advised) == 5
    for options in advised:
        assert eval(f"Policy({options})", {"Policy": Policy}) != Policy()
