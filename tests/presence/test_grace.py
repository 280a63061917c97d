"""``leave_grace``: a presence outlives its owner for a while, in case somebody returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from roost import (
    Channel,
    Endpoint,
    Join,
    Leave,
    Policy,
    Presence,
    PubSub,
    Snapshot,
    TopicFull,
    Update,
    event,
)
from roost.exceptions import AlreadyTracked, NotTracked, PayloadError
from roost.presence import Lease
from roost.presence.owners import grace
from roost.testing import ChannelCase, JoinedCase
from tests.models.phoenix_presence import ClientPresence
from tests.presence.renewal import renew
from tests.presence.scenes import TOPIC, app, join, lease, told
from tests.virtual_clock import virtually

GRACE = 5.0
LONG = "long:1"  # a topic with a grace of 50 seconds
SHORT = "short:1"  # one without
FULL = "full:1"  # one that admits two members


class Online(Presence):
    """Presences that wait for those who return, and note down what the callbacks are told."""

    policies = {
        "room:*": Policy(leave_grace=GRACE),
        "long:*": Policy(leave_grace=50.0),
        "short:*": Policy(),
        "full:*": Policy(leave_grace=GRACE, max_members=2),
        "bare:*": Policy(leave_grace=GRACE, counts_above=0, keep_metas=False),
    }

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def on_join(self, join: Join) -> None:
        self.called.append(f"+{join.key}" + " first" * join.is_first)

    def on_update(self, update: Update) -> None:
        self.called.append(f"~{update.key}")

    def on_leave(self, leave: Leave) -> None:
        self.called.append(f"-{leave.key}" + " last" * leave.is_last)


def room_of(online: Presence) -> type[Channel]:
    """A channel that tracks its client with the params of its join as meta."""

    class Room(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            meta = dict(self.assigns)
            await online.enter(self, meta.pop("name"), meta)

        @event("crash")
        def crash(self, payload: Any) -> None:
            raise LookupError("crash")

        @event("untrack")
        def untrack(self, payload: Any) -> None:
            online.untrack(self, self.assigns["name"])

    return Room


class Scene:
    """Alice watches a topic in all ways that there are.

    Args:
        case: The endpoint.
        online: Its presence.
        topic: What is watched.
    """

    def __init__(self, case: ChannelCase, online: Online, topic: str = TOPIC) -> None:
        self.case, self.online, self.topic = case, online, topic
        self.watches = [online.watch(topic), online.watch(["bob"])]
        self.listener: JoinedCase

    async def start(self) -> Scene:
        """Look at what is there, so that only changes are told from now on."""
        self.listener = await join(self.case, topic=self.topic)
        await self.changes()
        return self

    async def changes(self) -> dict[str, list[str]]:
        """What was told to a client, to callbacks, to the watches, since the last time."""
        await self.online.settled()
        called, self.online.called = self.online.called, []
        return {
            "client": told(self.listener),
            "callbacks": called,
            "topic": await self._read(0),
            "key": await self._read(1),
        }

    async def _read(self, number: int) -> list[str]:
        lines = []
        try:
            async with asyncio.timeout(0):
                async for change in self.watches[number]:
                    if not isinstance(change, Snapshot):
                        lines.append(_line(change))
        except TimeoutError:
            pass
        return lines


def _line(change: Join | Update | Leave) -> str:
    match change:
        case Join(is_first=is_first):
            return f"+{change.key}" + " first" * is_first
        case Update():
            return f"~{change.key}"
        case Leave(is_last=is_last):
            return f"-{change.key}" + " last" * is_last


NOTHING: dict[str, list[str]] = {"client": [], "callbacks": [], "topic": [], "key": []}


def everywhere(line: str) -> dict[str, list[str]]:
    """All are told the same, once; a client is not told of edges, and an update is a diff."""
    return {
        "client": [f"+{line[1:]} -{line[1:]}" if line[0] == "~" else line.split()[0]],
        "callbacks": [line],
        "topic": [line],
        "key": [line],
    }


async def metas(online: Presence, key: str = "bob", topic: str = TOPIC) -> list[dict[str, Any]]:
    entry = await online.get_by_key(topic, key)
    return [] if entry is None else entry["metas"]


async def refs(online: Presence, key: str = "bob", topic: str = TOPIC) -> list[str]:
    return [meta["phx_ref"] for meta in await metas(online, key, topic)]


def timers() -> int:
    """How many timers the loop has that were not cancelled."""
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(not timer.cancelled() for timer in scheduled)


# Returning.


@pytest.mark.parametrize(
    "meta",
    [
        {"n": 1, "of": [{"a": 1, "b": 2}], "online_at": 7},
        {"of": [{"b": 2, "a": 1}], "n": 1},
        {"n": 1, "of": [{"a": 1, "b": 2}], "online_at": 8, "phx_ref": "x", "phx_ref_prev": "y"},
    ],
    ids=["the same", "in another order", "at another time"],
)
@virtually
async def test_a_return_tells_nobody_anything(meta: Any):
    """Within the grace the new owner gets the presence as it was, and nobody hears of it."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", n=1, of=[{"a": 1, "b": 2}], online_at=7)
        before = await metas(online)
        scene = await Scene(case, online).start()

        bob.end()
        await asyncio.sleep(GRACE - 0.1)
        assert await metas(online) == before
        ref = online.track(Lease(online, TOPIC, "bob"), "bob", meta, topic=TOPIC)
        await asyncio.sleep(2 * GRACE)

        assert ref == before[0]["phx_ref"]
        assert await metas(online) == before
        assert await scene.changes() == NOTHING


@virtually
async def test_a_return_with_another_meta_is_one_update():
    """It is told as an update: nobody left, nobody joined."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", device="phone")
        (old,) = await metas(online)
        scene = await Scene(case, online).start()

        bob.end()
        await asyncio.sleep(1)
        again = Lease(online, TOPIC, "bob")
        ref = online.track(again, "bob", {"device": "laptop"}, topic=TOPIC)

        assert await metas(online) == [
            {"device": "laptop", "phx_ref": ref, "phx_ref_prev": old["phx_ref"]}
        ]
        assert await scene.changes() == everywhere("~bob")
        await asyncio.sleep(2 * GRACE)
        assert await scene.changes() == NOTHING


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"muted": True}, {"muted": 1}),
        ({"n": 1}, {"n": 1, "more": None}),
        ({"at": {"online_at": 1}}, {"at": {"online_at": 2}}),
        ({"tags": ["a", "b"]}, {"tags": ["b", "a"]}),
    ],
)
@virtually
async def test_any_other_difference_is_an_update(old: Any, new: Any):
    """What a client would take for another value is one; only the outer ``online_at`` is not."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", **old)
        scene = await Scene(case, online).start()
        bob.end()
        lease(online, "bob", **new)

        (meta,) = await metas(online)
        assert repr({name: meta[name] for name in new}) == repr(new)
        assert await scene.changes() == everywhere("~bob")


@virtually
async def test_a_client_keeps_the_key_through_a_return():
    """A list as phoenix.js keeps it never lacks the key, and calls nobody a newcomer."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", device="phone")
        room = await join(case, room_of(online), name="alice")
        presence = ClientPresence(lambda: room.join_ref)
        presence.receive_state(await room.assert_push("presence_state"))
        edges: list[str] = []
        presence.on_join = lambda key, old, new: edges.append(f"+{key}") if old is None else None
        presence.on_leave = lambda key, now, left: None if now["metas"] else edges.append(f"-{key}")

        bob.end()
        await asyncio.sleep(1)
        lease(online, "bob", device="laptop")
        presence.receive_diff(await room.assert_push("presence_diff"))

        (meta,) = presence.state["bob"]["metas"]
        assert meta["device"] == "laptop"
        assert edges == []
        await room.refute_push("presence_diff")


@pytest.mark.parametrize("leave", ["leaves", "crashes", "loses its connection"])
@virtually
async def test_a_channel_that_comes_back_was_never_gone(leave: str):
    """Leaving, a crash and a lost connection are all waited for; the list is the same after."""
    online = Online()
    room = room_of(online)
    async with ChannelCase(app(online)) as case:
        scene = await Scene(case, online).start()
        bob = await join(case, room, name="bob", n=1)
        before = await bob.assert_push("presence_state")
        assert await scene.changes() == everywhere("+bob first")

        match leave:
            case "leaves":
                bob.leave()
                await bob.assert_closed()
            case "crashes":
                bob.push("crash")
                await bob.assert_errored()
            case _:
                bob.client.close()
        await case.settled()
        await asyncio.sleep(GRACE - 1)
        again = await join(case, room, name="bob", n=1)

        assert await again.assert_push("presence_state") == before
        await asyncio.sleep(2 * GRACE)
        assert await scene.changes() == NOTHING


@virtually
async def test_a_rejoin_of_the_same_client_is_a_return():
    """A client that joins again while its channel is there takes its presence over."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        scene = await Scene(case, online).start()
        bob = await join(case, room_of(online), name="bob", n=1)
        (ref,) = await refs(online)
        await scene.changes()

        again = await bob.client.join(TOPIC, {"name": "bob", "n": 1})
        await again.assert_push("presence_state")

        assert await refs(online) == [ref]
        await asyncio.sleep(2 * GRACE)
        assert await scene.changes() == NOTHING


# Not returning.


@pytest.mark.parametrize("owner", ["lease", "task", "channel"])
@virtually
async def test_who_does_not_return_leaves_after_the_grace_once(owner: str):
    """Until then the presence is listed and counted; then it leaves like any other."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        scene = await Scene(case, online).start()
        end = await tracked_by(owner, case, online)
        await scene.changes()
        end()
        await asyncio.sleep(GRACE - 0.1)

        assert (await online.list(TOPIC)).keys() == {"bob"}
        assert online.count_users(TOPIC) == online.count_connections(TOPIC) == 1
        assert online.online(["bob"]) == {"bob"}
        assert await scene.changes() == NOTHING

        await asyncio.sleep(0.2)
        assert await online.list(TOPIC) == {}
        assert online.count_users(TOPIC) == online.count_connections(TOPIC) == 0
        assert online.online(["bob"]) == set()
        assert await scene.changes() == everywhere("-bob last")
        await asyncio.sleep(2 * GRACE)
        assert await scene.changes() == NOTHING
        assert timers() == 0


async def tracked_by(owner: str, case: ChannelCase, online: Presence) -> Callable[[], object]:
    """Bob, tracked by such an owner; returns what ends it."""
    match owner:
        case "lease":
            return lease(online, "bob").end
        case "task":
            task = asyncio.ensure_future(asyncio.sleep(600))
            online.track(task, "bob", {}, topic=TOPIC)
            return task.cancel
        case _:
            room = await join(case, room_of(online), name="bob")
            await room.assert_push("presence_state")
            return room.client.close


@virtually
async def test_who_was_taken_over_and_ends_again_is_waited_for_again():
    """Each end has the whole grace, however often somebody comes and goes."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob")
        before = await refs(online)
        scene = await Scene(case, online).start()
        for _ in range(5):
            bob.end()
            await asyncio.sleep(GRACE - 1)
            bob = lease(online, "bob")
        await asyncio.sleep(2 * GRACE)
        assert await refs(online) == before

        bob.end()
        await asyncio.sleep(GRACE - 1)
        assert await scene.changes() == NOTHING
        await asyncio.sleep(2)
        assert await scene.changes() == everywhere("-bob last")


@virtually
async def test_untrack_has_no_grace():
    """Who untracks means it."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        scene = await Scene(case, online).start()
        bob = await join(case, room_of(online), name="bob")
        await bob.assert_push("presence_state")
        await scene.changes()

        bob.push("untrack")
        await asyncio.sleep(0)

        assert await scene.changes() == everywhere("-bob last")
        bob.client.close()
        await asyncio.sleep(2 * GRACE)
        assert await scene.changes() == NOTHING


@virtually
async def test_who_hides_is_not_waited_for():
    """A hidden presence ends with its owner, and no visible one comes back to its place."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        scene = await Scene(case, online).start()
        bob = lease(online, "bob")
        online.hide(bob, "bob", topic=TOPIC)
        await scene.changes()

        bob.end()

        assert online.list_hidden(TOPIC) == {}
        lease(online, "bob", hidden=True)
        assert await scene.changes() == NOTHING


@virtually
async def test_who_comes_hidden_is_no_return():
    """A hidden presence of the same key takes nothing over; the visible one leaves in the end."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob")
        scene = await Scene(case, online).start()
        bob.end()
        lease(online, "bob", hidden=True)

        assert len(await refs(online)) == 1
        await asyncio.sleep(GRACE + 1)
        assert await scene.changes() == everywhere("-bob last")
        assert online.list_hidden(TOPIC).keys() == {"bob"}


# Several devices, topics and owners.


@virtually
async def test_each_device_returns_to_its_own_presence():
    """Of several presences of a key, the one with the same meta is taken over."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        devices = {name: lease(online, "bob", device=name) for name in ("phone", "laptop", "tv")}
        before = await metas(online)
        scene = await Scene(case, online).start()
        for device in devices.values():
            device.end()
        for name in ("tv", "laptop", "phone"):
            lease(online, "bob", device=name)
        await asyncio.sleep(2 * GRACE)

        assert await metas(online) == before
        assert await scene.changes() == NOTHING


@virtually
async def test_one_of_two_returns():
    """The other one leaves after its grace, and is not the last."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        phone, laptop = lease(online, "bob", device=1), lease(online, "bob", device=2)
        scene = await Scene(case, online).start()
        phone.end()
        laptop.end()
        lease(online, "bob", device=2)

        await asyncio.sleep(GRACE + 1)
        assert [meta["device"] for meta in await metas(online)] == [2]
        assert await scene.changes() == everywhere("-bob")


@virtually
async def test_an_unknown_device_takes_the_place_of_who_waited_longest():
    """No presence looks like it, so it is an update of the oldest."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        phone, laptop = lease(online, "bob", device=1), lease(online, "bob", device=2)
        scene = await Scene(case, online).start()
        laptop.end()
        await asyncio.sleep(1)
        phone.end()
        lease(online, "bob", device=3)

        assert sorted(meta["device"] for meta in await metas(online)) == [1, 3]
        assert await scene.changes() == everywhere("~bob")
        await asyncio.sleep(GRACE)
        assert await scene.changes() == everywhere("-bob")


@virtually
async def test_a_further_device_beside_those_who_are_there_is_a_join():
    """Nobody waits, so nothing is taken over."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "bob")
        scene = await Scene(case, online).start()
        lease(online, "bob")

        assert len(await refs(online)) == 2
        assert await scene.changes() == everywhere("+bob")


@virtually
async def test_each_topic_has_its_own_grace():
    """An owner's presences leave when the grace of their topics is over, some at once."""
    online = Online()
    async with online.running(PubSub()):
        bob = lease(online, "bob")
        for topic in (LONG, SHORT):
            online.track(bob, "bob", {}, topic=topic)
        there: list[list[str]] = []
        for seconds in (0, 4.9, 0.2, 44.8, 0.2):
            bob.end()
            await asyncio.sleep(seconds)
            there.append([each for each in (TOPIC, LONG, SHORT) if online.count_users(each)])

        assert there == [[TOPIC, LONG], [TOPIC, LONG], [LONG], [LONG], []]


@virtually
async def test_a_return_is_to_one_topic():
    """Who returns to one topic leaves the others of its former owner."""
    online = Online()
    async with online.running(PubSub()):
        bob = lease(online, "bob")
        online.track(bob, "bob", {}, topic="room:2")
        bob.end()
        lease(online, "bob")
        await asyncio.sleep(GRACE + 1)

        assert online.count_users(TOPIC) == 1
        assert online.count_users("room:2") == 0


@virtually
async def test_an_owner_may_take_over_and_track_more():
    """What an owner took over and what it tracks by itself leave with it, each once."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "bob").end()
        scene = await Scene(case, online).start()
        owner = Lease(online, TOPIC, "bob")
        online.track(owner, "carol", {}, topic=TOPIC)
        online.track(owner, "bob", {}, topic=TOPIC)
        online.track(owner, "bob", {}, topic=SHORT)
        await asyncio.sleep(2 * GRACE)
        assert online.online(["bob", "carol"]) == {"bob", "carol"}
        await scene.changes()

        owner.end()
        assert online.count_users(SHORT) == 0
        assert (await scene.changes())["client"] == []
        await asyncio.sleep(GRACE + 1)

        assert (await scene.changes())["client"] == ["-bob -carol"]


# The new owner.


@virtually
async def test_the_new_owner_has_all_rights():
    """It updates, hides, shows and untracks what it took over."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "bob", n=1).end()
        scene = await Scene(case, online).start()
        bob = lease(online, "bob", n=1)

        bob.update(lambda meta: {**meta, "n": meta["n"] + 1})
        assert [meta["n"] for meta in await metas(online)] == [2]
        assert await scene.changes() == everywhere("~bob")
        online.hide(bob, "bob", topic=TOPIC)
        assert online.list_hidden(TOPIC).keys() == {"bob"}
        assert await scene.changes() == everywhere("-bob last")
        online.show(bob, "bob", topic=TOPIC)
        assert await scene.changes() == everywhere("+bob first")
        with pytest.raises(AlreadyTracked):
            online.track(bob, "bob", {}, topic=TOPIC)
        online.untrack(bob, "bob", topic=TOPIC)
        assert await scene.changes() == everywhere("-bob last")
        with pytest.raises(NotTracked):
            bob.update({})
        bob.end()
        await asyncio.sleep(GRACE + 1)
        assert await scene.changes() == NOTHING


@virtually
async def test_what_was_taken_over_and_hidden_ends_silently():
    """A presence that its new owner hid has no grace, as any hidden one."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "bob").end()
        bob = lease(online, "bob")
        online.hide(bob, "bob", topic=TOPIC)
        scene = await Scene(case, online).start()

        bob.end()

        assert online.list_hidden(TOPIC) == {}
        await asyncio.sleep(GRACE + 1)
        assert await scene.changes() == NOTHING


@pytest.mark.parametrize("who", ["the owner that ended", "another owner"])
@virtually
async def test_nobody_else_has_any(who: str):
    """Neither the former owner nor a stranger can touch it, before or after the return."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        former = lease(online, "bob")
        scene = await Scene(case, online).start()
        former.end()
        other = former if who == "the owner that ended" else lease(online, "carol", "room:2")
        await scene.changes()

        for _ in range(2):
            for change in (online.hide, online.show):
                with pytest.raises(NotTracked):
                    change(other, "bob", topic=TOPIC)
            with pytest.raises(NotTracked):
                online.update(other, "bob", {}, topic=TOPIC)
            online.untrack(other, "bob", topic=TOPIC)
            other.end()
            lease(online, "bob")
            await asyncio.sleep(GRACE + 1)

        assert (await scene.changes())["topic"] == ["+bob"]  # the second time nobody waited


@virtually
async def test_who_ended_again_has_no_rights_any_more():
    """What an owner took over is nobody's once that owner ended, too."""
    online = Online()
    async with online.running(PubSub()):
        lease(online, "bob", n=1).end()
        bob = lease(online, "bob", n=1)
        bob.end()

        with pytest.raises(NotTracked):
            bob.update({"n": 2})
        online.untrack(bob, "bob", topic=TOPIC)

        assert [meta["n"] for meta in await metas(online)] == [1]


@virtually
async def test_who_untracked_may_track_again():
    """After ``untrack`` of what was taken over, a new presence begins, with a ref of its own."""
    online = Online()
    async with online.running(PubSub()):
        lease(online, "bob").end()
        (former,) = await refs(online)
        bob = lease(online, "bob")
        online.untrack(bob, "bob", topic=TOPIC)

        ref = online.track(bob, "bob", {"n": 1}, topic=TOPIC)

        assert ref != former
        assert await refs(online) == [ref]
        bob.end()
        await asyncio.sleep(GRACE + 1)
        assert await refs(online) == []


@virtually
async def test_an_owner_that_has_ended_returns_for_a_grace():
    """A lease that tracks again after its end is an owner that ends at once."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob")
        scene = await Scene(case, online).start()
        bob.end()
        await asyncio.sleep(GRACE - 1)
        online.track(bob, "bob", {}, topic=TOPIC)
        await asyncio.sleep(GRACE - 1)
        assert await scene.changes() == NOTHING

        await asyncio.sleep(2)

        assert await scene.changes() == everywhere("-bob last")


# Other policies.


@virtually
async def test_who_waits_counts_as_a_member_and_is_admitted():
    """A full topic keeps the place of who may return, and takes nobody else."""
    online = Online()
    async with online.running(PubSub()):
        lease(online, "alice", FULL)
        lease(online, "bob", FULL).end()
        with pytest.raises(TopicFull):
            lease(online, "carol", FULL)

        lease(online, "bob", FULL).end()
        assert online.count_connections(FULL) == 2
        await asyncio.sleep(GRACE + 1)

        lease(online, "carol", FULL)
        with pytest.raises(TopicFull):
            lease(online, "bob", FULL)


@virtually
async def test_a_return_without_metas_tells_nothing():
    """Where no metas are kept, every return is the same."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", "bare:1", n=1)
        (before,) = await metas(online, topic="bare:1")
        scene = await Scene(case, online, "bare:1").start()
        bob.end()
        lease(online, "bob", "bare:1", n=2)
        await asyncio.sleep(2 * GRACE)

        assert await metas(online, topic="bare:1") == [before] == [{"phx_ref": before["phx_ref"]}]
        assert await scene.changes() == NOTHING


# The end.


@virtually
async def test_a_stop_waits_for_nobody():
    """When the presence stops during a grace, no timer is left; a restart knows nobody."""
    online = Online()
    pubsub = PubSub()
    bob = None
    for _ in range(2):
        async with online.running(pubsub):
            assert online.count_users(TOPIC) == 0
            bob = lease(online, "bob")
            bob.end()
            again = lease(online, "bob")
            again.end()
            lease(online, "carol").end()
            assert timers() == 2
        assert timers() == 0


@virtually
async def test_an_endpoint_stops_with_those_who_would_return():
    """The end of an endpoint is the end of its channels, whatever their grace."""
    online = Online()
    endpoint = app(online)
    for _ in range(2):
        async with ChannelCase(endpoint) as case:
            bob = await join(case, room_of(online), name="bob")
            assert (await bob.assert_push("presence_state")).keys() == {"bob"}
        assert timers() == 0


# Metas that misbehave on their way: an ``encode_hook`` is the application's, and runs amid it.


class Odd:
    """A value of a meta whose encoding does something.

    Args:
        act: What.
    """

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act


def encode_odd(value: Any) -> Any:
    if not isinstance(value, Odd):
        raise NotImplementedError
    act, value.act = value.act, lambda: None
    act()
    return "odd"


def odd_app(online: Presence) -> Endpoint:
    return Endpoint({}, presences=[online], encode_hook=encode_odd)


def odd(act: Callable[[], object]) -> Mapping[str, Any]:
    return {"n": Odd(act)}


@virtually
async def test_a_meta_that_is_refused_changes_nothing():
    """Who returns with a meta that is no JSON gets the error, and is waited for still."""
    online = Online()
    async with ChannelCase(odd_app(online)) as case:
        bob = lease(online, "bob", n=1)
        before = await metas(online)
        scene = await Scene(case, online).start()
        bob.end()
        again = Lease(online, TOPIC, "bob")
        with pytest.raises(PayloadError):
            online.track(again, "bob", {"n": b"x"}, topic=TOPIC)

        assert await metas(online) == before
        online.track(again, "bob", {"n": 1}, topic=TOPIC)
        assert await scene.changes() == NOTHING


@virtually
async def test_the_place_may_be_taken_during_the_encoding():
    """If another owner returns amid the encoding, the presence is that one's."""
    online = Online()
    async with ChannelCase(odd_app(online)):
        lease(online, "bob").end()
        (ref,) = await refs(online)
        others: list[Lease] = []
        bob = Lease(online, TOPIC, "bob")

        mine = online.track(
            bob, "bob", odd(lambda: others.append(lease(online, "bob"))), topic=TOPIC
        )

        assert mine != ref
        assert await refs(online) == [ref, mine]
        bob.end()
        others[0].end()
        await asyncio.sleep(GRACE + 1)
        assert await refs(online) == []


@virtually
async def test_the_presence_may_go_during_the_encoding():
    """If nobody waits any more after the encoding, the return is a join."""
    online = Online()
    async with ChannelCase(odd_app(online)):
        lease(online, "bob").end()
        (ref,) = await refs(online)

        def take_and_untrack() -> None:
            other = lease(online, "bob")
            online.untrack(other, "bob", topic=TOPIC)

        bob = Lease(online, TOPIC, "bob")
        mine = online.track(bob, "bob", odd(take_and_untrack), topic=TOPIC)

        assert mine != ref
        assert await refs(online) == [mine]


@virtually
async def test_an_owner_does_not_return_twice():
    """If the owner itself returns amid the encoding, it is told; no presence is left behind."""
    online = Online()
    async with ChannelCase(odd_app(online)):
        phone, laptop = lease(online, "bob", device=1), lease(online, "bob", device=2)
        phone.end()
        laptop.end()
        bob = Lease(online, TOPIC, "bob")

        with pytest.raises(AlreadyTracked):
            online.track(
                bob,
                "bob",
                odd(lambda: online.track(bob, "bob", {"device": 2}, topic=TOPIC)),
                topic=TOPIC,
            )

        await asyncio.sleep(GRACE + 1)
        assert [meta["device"] for meta in await metas(online)] == [2]
        bob.end()
        await asyncio.sleep(GRACE + 1)
        assert await refs(online) == []


@pytest.mark.parametrize("again", [False, True], ids=["for good", "and begins anew"])
@pytest.mark.parametrize("waits", [True, False], ids=["returning", "new"])
@virtually
async def test_an_owner_that_ends_during_the_encoding_leaves_no_ghost(waits: bool, again: bool):
    """Whoever ends amid the encoding of its meta is gone after the grace at the latest."""
    online = Online()
    async with ChannelCase(odd_app(online)):
        if waits:
            lease(online, "bob").end()
        bob = Lease(online, TOPIC, "bob")
        online.track(bob, "carol", {}, topic=SHORT)

        def end() -> None:
            bob.end()
            if again:
                online.track(bob, "carol", {}, topic="short:2")

        online.track(bob, "bob", odd(end), topic=TOPIC)

        await asyncio.sleep(GRACE + 1)
        assert online.online(["bob", "carol"]) == set()


async def test_a_lease_may_end_in_any_thread():
    """Its presence leaves on the loop's thread, where its callbacks run."""
    left = asyncio.Event()

    class Online(Presence):
        def on_leave(self, leave: Leave) -> None:
            left.set()

    async with Online().running(PubSub()) as online:
        alice = lease(online, "alice")
        await online.settled()
        await asyncio.to_thread(alice.end)
        await asyncio.wait_for(left.wait(), 5)

        assert online.count_users(TOPIC) == 0


@virtually
async def test_who_returns_after_the_node_took_a_new_id_gets_the_new_ref():
    """The entry that waits is another one by then: the returned ref is the one that is listed."""
    online = Online()
    async with online.running(PubSub()):
        lease(online, "alice", device=1).end()
        await asyncio.sleep(1)
        renew(online)

        again = Lease(online, TOPIC, "alice")
        ref = online.track(again, "alice", {"device": 1}, topic=TOPIC)

        assert [meta["phx_ref"] for meta in (await online.list(TOPIC))["alice"]["metas"]] == [ref]
        again.end()
        await asyncio.sleep(GRACE + 1)
        assert online.count_connections(TOPIC) == 0


@virtually
async def test_each_who_returns_looks_at_no_meta_twice(monkeypatch: pytest.MonkeyPatch):
    """A thousand connections of one key that return with other metas cost a thousand looks each."""
    looks = 0

    def look(meta: Mapping[str, Any], lasting: Any = grace._lasting) -> bytes:
        nonlocal looks
        looks += 1
        return lasting(meta)  # type: ignore[no-any-return]

    monkeypatch.setattr(grace, "_lasting", look)
    online = Online()
    async with online.running(PubSub()):
        gone = [lease(online, "visitors", n=n) for n in range(1000)]
        for each in gone:
            each.end()
        await asyncio.sleep(1)
        for n in range(1000, 2000):
            lease(online, "visitors", n=n)

        assert online.count_connections(TOPIC) == 1000
        assert looks == 2000


@virtually
async def test_who_ends_again_is_known_by_its_latest_meta():
    """Whoever took over a presence, and changed it, waits with the meta that it has then."""
    online = Online()
    async with online.running(PubSub()):
        for gone in [lease(online, "alice", device=device) for device in (1, 9)]:
            gone.end()
        await asyncio.sleep(1)
        lease(online, "alice", device=2).end()  # took over the first, with another meta
        await asyncio.sleep(1)

        lease(online, "alice", device=1)  # nobody is like this one: it takes over the second

        metas = (await online.list(TOPIC))["alice"]["metas"]
        assert sorted(meta["device"] for meta in metas) == [1, 2]
        await asyncio.sleep(GRACE + 1)
        metas = (await online.list(TOPIC))["alice"]["metas"]
        assert [meta["device"] for meta in metas] == [1]
