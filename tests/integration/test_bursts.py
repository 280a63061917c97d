"""Joins and leaves that come faster than they can be decided: one channel, one presence, no rest.

A gate is what a slow join waits for; a test opens it, or does not.
"""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from roost import Channel, ConnectInfo, Endpoint, Presence, Socket, event
from tests.clients import Client, connect, ok
from tests.servers import run_uvicorn, settled

pytestmark = pytest.mark.usefixtures("each_path")


class Stage:
    """An endpoint whose joins wait at a gate if their parameters say so.

    Attributes:
        gate: What slow joins wait for.
        joining: Topics of slow joins that got to the gate, as they come.
        ended: (topic, reason) of the channels that ended, as they end.
        channels: All channels that exist.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.joining: asyncio.Queue[str] = asyncio.Queue()
        self.ended: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.channels: weakref.WeakSet[Channel] = weakref.WeakSet()
        self.online = Presence()
        stage = self

        class SlowChannel(Channel):
            async def join(self, topic: str, params: dict[str, Any]) -> None:
                stage.channels.add(self)
                stage.online.track(self, self.assigns["user"], {})
                if params.get("slow"):
                    stage.joining.put_nowait(topic)
                    await stage.gate.wait()

            def after_join(self) -> None:
                self.push("welcome")

            @event("ping")
            def ping(self, payload: Any) -> Any:
                return payload

            def terminate(self, reason: str | BaseException) -> None:
                stage.ended.put_nowait((self.topic, reason))

        class QuickChannel(SlowChannel):
            def join(self, topic: str, params: dict[str, Any]) -> None:  # type: ignore[override]
                stage.channels.add(self)
                stage.online.track(self, self.assigns["user"], {})

        class UserSocket(Socket):
            channels = {"room:*": SlowChannel, "quick:*": QuickChannel}

            def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
                self.assigns["user"] = params["user"]

            def id(self) -> str:
                return f"users:{self.assigns['user']}"

        self.endpoint = Endpoint({"/socket": UserSocket}, presences=[self.online])

    def subscription_count(self, topic: str) -> int:
        return len(self.endpoint.pubsub.subscriptions(topic))

    def has_one(self, topic: str) -> bool:
        """Whether there is one channel in a topic, and one presence."""
        return (
            self.subscription_count(topic) == 1
            and self.online.count_connections(topic) == 1
            and len([each for each in self.channels if each.topic == topic and each.is_joined]) == 1
        )

    def has_none(self, topic: str) -> bool:
        """Whether nobody is in a topic, and nothing of a channel is left."""
        gc.collect()
        return (
            self.subscription_count(topic) == 0
            and self.online.count_connections(topic) == 0
            and not [each for each in self.channels if each.topic == topic]
        )

    async def next_ended(self) -> tuple[str, Any]:
        async with asyncio.timeout(5):
            return await self.ended.get()


@asynccontextmanager
async def staged(vsn: str) -> AsyncIterator[tuple[Stage, Client]]:
    """Alice, connected; nothing may be left of her when she is gone."""
    stage = Stage()
    async with run_uvicorn(stage.endpoint) as url:
        async with connect(url, params={"user": "alice"}, vsn=vsn) as alice:
            yield stage, alice
        await settled(stage.endpoint)
        await stage.online.settled()
        for topic in ("room:1", "room:2", "quick:1"):
            assert stage.has_none(topic)


async def test_join_leave_join_in_one_batch(vsn: str):
    """The leave cancels the join that is being decided; the second join stands."""
    async with staged(vsn) as (stage, alice):
        await alice.send_together(
            ("1", "1", "room:1", "phx_join", {}),
            ("1", "2", "room:1", "phx_leave", {}),
            ("3", "3", "room:1", "phx_join", {}),
        )

        assert await _told(alice, 4) == [
            alice.seen("1", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
            alice.seen("3", "3", "room:1", "phx_reply", ok({})),
            alice.seen("3", None, "room:1", "welcome", {}),
        ]
        assert stage.has_one("room:1")
        assert await stage.next_ended() == ("room:1", "left")


async def test_join_leave_join_of_a_channel_that_decides_at_once(vsn: str):
    """A `def` join is decided before the leave is looked at: all three are answered."""
    async with staged(vsn) as (stage, alice):
        await alice.send_together(
            ("1", "1", "quick:1", "phx_join", {}),
            ("1", "2", "quick:1", "phx_leave", {}),
            ("3", "3", "quick:1", "phx_join", {}),
        )

        told = [(each.event, each.ref) for each in await _told(alice, 6)]
        assert [ref for event, ref in told if event == "phx_reply"] == ["1", "2", "3"]
        assert told.index(("phx_reply", "2")) < told.index(("phx_close", "1"))
        assert stage.has_one("quick:1")


async def test_many_joins_in_one_batch(vsn: str):
    """Each join takes the place of the one before; the last one stands."""
    async with staged(vsn) as (stage, alice):
        joins: list[Any] = [(str(ref), str(ref), "room:1", "phx_join", {}) for ref in range(1, 51)]
        await alice.send_together(*joins)

        assert await alice.reply("50", timeout=10) == {}
        assert stage.has_one("room:1")
        await alice.send("50", "51", "room:1", "ping", {"n": 1})
        assert await alice.reply("51") == {"n": 1}


async def test_joins_and_leaves_in_one_batch(vsn: str):
    """What the last message of a batch says is what counts, and every leave is answered."""
    async with staged(vsn) as (stage, alice):
        batch: list[Any] = []
        for ref in range(1, 50, 2):
            batch += [
                (str(ref), str(ref), "room:1", "phx_join", {}),
                (str(ref), str(ref + 1), "room:1", "phx_leave", {}),
            ]
        await alice.send_together(*batch)

        for ref in range(2, 51, 2):
            assert await alice.reply(str(ref)) == {}
        await alice.heartbeat()
        assert stage.subscription_count("room:1") == 0
        assert stage.online.count_connections("room:1") == 0


async def test_a_client_that_gives_up_and_rejoins(vsn: str):
    """phoenix.js leaves after its join timeout and joins anew: the old join is cancelled."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {"slow": True})
        await stage.joining.get()
        assert stage.online.count_connections("room:1") == 1

        await alice.send("1", "2", "room:1", "phx_leave", {})
        await alice.send("3", "3", "room:1", "phx_join", {"slow": True})

        assert await stage.joining.get() == "room:1"
        assert await alice.receive_messages(2) == [
            alice.seen("1", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
        ]
        assert await stage.next_ended() == ("room:1", "left")
        assert stage.online.count_connections("room:1") == 1

        stage.gate.set()
        assert await _told(alice, 2) == [
            alice.seen("3", "3", "room:1", "phx_reply", ok({})),
            alice.seen("3", None, "room:1", "welcome", {}),
        ]
        assert stage.has_one("room:1")


async def test_a_client_that_gives_up_and_rejoins_without_a_leave(vsn: str):
    """A newer join cancels the one that is being decided; only the newer one is answered."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {"slow": True})
        await stage.joining.get()

        await alice.send("2", "2", "room:1", "phx_join", {})

        assert await _told(alice, 3) == [
            alice.seen("2", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
            alice.seen("2", None, "room:1", "welcome", {}),
        ]
        assert await stage.next_ended() == ("room:1", "duplicate_join")
        assert stage.has_one("room:1")


async def test_a_client_that_gives_up_for_good(vsn: str):
    """A leave during the join is answered at once, and the topic is free."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {"slow": True})
        await stage.joining.get()

        await alice.send("1", "2", "room:1", "phx_leave", {})

        assert await alice.receive_messages(2) == [
            alice.seen("1", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
        ]
        assert await stage.next_ended() == ("room:1", "left")
        assert stage.has_none("room:1")


@pytest.mark.parametrize("by", ["client", "server"])
async def test_the_connection_ends_during_a_join(vsn: str, by: str):
    """The join is cancelled and cleans up; what it tracked leaves."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {"slow": True})
        await stage.joining.get()
        assert stage.online.count_connections("room:1") == 1

        if by == "client":
            await alice.close()
        else:
            stage.endpoint.broadcast("users:alice", "disconnect")
            assert await alice.closed() == 1001

        reason = "closed" if by == "client" else "disconnected"
        assert await stage.next_ended() == ("room:1", reason)
        assert stage.has_none("room:1")


async def test_the_wire_order_of_a_duplicate_join(vsn: str):
    """The new join's reply, the close of the old channel, then what the new channel says."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {})
        await alice.receive("welcome")
        await alice.heartbeat()

        await alice.send("2", "2", "room:1", "phx_join", {})

        assert await _told(alice, 3) == [
            alice.seen("2", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
            alice.seen("2", None, "room:1", "welcome", {}),
        ]
        assert await stage.next_ended() == ("room:1", "duplicate_join")
        assert stage.has_one("room:1")


async def test_a_leave_racing_a_join(vsn: str):
    """A leave and a join in one batch: both are answered, in that order."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {})
        await alice.receive("welcome")
        await alice.heartbeat()

        await alice.send_together(
            ("1", "2", "room:1", "phx_leave", {}), ("3", "3", "room:1", "phx_join", {})
        )

        assert await _told(alice, 4) == [
            alice.seen("1", "2", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
            alice.seen("3", "3", "room:1", "phx_reply", ok({})),
            alice.seen("3", None, "room:1", "welcome", {}),
        ]
        assert stage.has_one("room:1")


async def test_a_slow_join_delays_nothing_else(vsn: str):
    """Heartbeats and other topics go on while a join takes a minute; its own messages wait."""
    async with staged(vsn) as (stage, alice):
        await alice.send("1", "1", "room:1", "phx_join", {"slow": True})
        await alice.send("1", "2", "room:1", "ping", {"n": 1})
        await alice.send("1", "3", "room:1", "ping", {"n": 2})
        await stage.joining.get()

        assert await alice.heartbeat() == []
        await alice.send("4", "4", "room:2", "phx_join", {})
        assert await alice.reply("4") == {}
        await alice.send("4", "5", "room:2", "ping", {"n": 3})
        assert await alice.reply("5") == {"n": 3}
        await alice.send("4", "6", "room:2", "phx_leave", {})
        await alice.receive("phx_close", topic="room:2")
        earlier = await alice.heartbeat()
        assert [each for each in earlier if each.topic == "room:1"] == []

        stage.gate.set()
        assert await _told(alice, 4) == [
            alice.seen("1", "1", "room:1", "phx_reply", ok({})),
            alice.seen("1", None, "room:1", "welcome", {}),
            alice.seen("1", "2", "room:1", "phx_reply", ok({"n": 1})),
            alice.seen("1", "3", "room:1", "phx_reply", ok({"n": 2})),
        ]


async def _told(alice: Client, count: int) -> list[Any]:
    """The next `count` messages that are not about presence, and nothing more right after."""
    messages: list[Any] = []
    while len(messages) < count:
        messages.append(await alice.receive_message())
        messages = [each for each in messages if each.event != "presence_diff"]
    rest = [each for each in await alice.heartbeat() if each.event != "presence_diff"]
    assert rest == []
    return messages
