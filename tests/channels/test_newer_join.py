"""While a newer join is decided its client goes on getting presence diffs, and no longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost import Channel, Endpoint, JoinRefused, Presence, Socket
from roost.presence import Lease
from roost.testing import ChannelCase, ClientCase
from tests.channels.scenes import said, ticks


class RoomChannel(Channel):
    """Joins as the client asks: at once, after a while, or not at all."""

    async def join(self, topic: str, params: Any) -> None:
        match params.get("how"):
            case "refuse":
                raise JoinRefused({"reason": "banned"})
            case "crash":
                raise LookupError("crash")
            case "wait":
                await asyncio.Event().wait()


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


class Room:
    """A room with a client in it.

    Args:
        case: Of an endpoint with a presence.
        online: The presence.
    """

    def __init__(self, case: ChannelCase, online: Presence) -> None:
        self.alice: ClientCase = case.client(UserSocket())
        self._case = case
        self._online = online

    async def rejoin(self, how: str) -> None:
        """Join, and join again."""
        self.alice.send("1", "1", "room:1", "phx_join", {})
        await ticks()
        self.alice.send("2", "2", "room:1", "phx_join", {"how": how})
        await ticks()

    async def leave(self) -> None:
        self.alice.send("2", "3", "room:1", "phx_leave", {})
        await self.settle()

    async def settle(self) -> None:
        await self._case.settled()
        await ticks()

    async def is_told(self) -> bool:
        """Whether the client hears of somebody who comes."""
        self.alice.transport.received.clear()
        self._online.track(Lease(self._online, "room:1", "bob"), "bob", {}, topic="room:1")
        await self._online.settled()
        return said(self.alice) != []

    @property
    def subscription_count(self) -> int:
        return len(self._case.endpoint.pubsub.subscriptions("room:1"))


@pytest.mark.parametrize("how", ["refuse", "crash"])
async def test_a_client_whose_newer_join_fails_is_told_nothing_more(how: str):
    """Who may not come back is in no room, and does not hear who is."""
    online = Presence()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = Room(case, online)
        await room.rejoin(how)
        await room.settle()

        assert "reply error 2/2" in said(room.alice)
        assert room.subscription_count == 0
        assert not await room.is_told()


async def test_a_client_that_leaves_while_its_newer_join_is_decided_is_told_nothing_more():
    """It is in no room."""
    online = Presence()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = Room(case, online)
        await room.rejoin("wait")
        await room.leave()

        assert said(room.alice)[-1] == "phx_close 2/2"
        assert room.subscription_count == 0
        assert not await room.is_told()


async def test_a_client_that_leaves_before_its_newer_join_begins_is_told_nothing_more():
    """Both wait for the end of the channel before."""
    online, gate = Presence(), asyncio.Event()

    class SlowToEnd(RoomChannel):
        async def terminate(self, reason: Any) -> None:
            await gate.wait()

    class SlowSocket(Socket):
        channels = {"room:*": SlowToEnd}

    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = Room(case, online)
        room.alice = case.client(SlowSocket())
        await room.rejoin("wait")
        room.alice.send("2", "3", "room:1", "phx_leave", {})
        gate.set()
        await room.settle()

        assert room.subscription_count == 0
        assert not await room.is_told()


async def test_a_client_is_told_while_its_newer_join_is_decided():
    """It has not left: what changes meanwhile reaches it."""
    online = Presence()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = Room(case, online)
        await room.rejoin("wait")

        assert await room.is_told()
        assert room.subscription_count == 1


async def test_a_connection_that_is_lost_while_a_newer_join_is_decided_leaves_nothing():
    """What lingers for the join goes with it."""
    online = Presence()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = Room(case, online)
        await room.rejoin("wait")
        room.alice.connection.close("closed")
        await room.settle()

        assert room.subscription_count == 0
