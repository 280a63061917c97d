"""Hidden members, who see everybody and are seen by nobody; and lists without tracking."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from roost import Channel, Join, Leave, Policy, Presence, Snapshot, Update, event
from roost.exceptions import AlreadyTracked, NotJoined, NotTracked, PayloadError, TopicFull
from roost.presence import Lease
from roost.testing import ChannelCase
from tests.presence.scenes import TOPIC, Listener, app, join, lease, told
from tests.virtual_clock import virtually

FULL = "full:1"  # admits one member


class Online(Presence):
    """Presences that note down whatever a callback is told.

    Attributes:
        noted: What the callbacks were told.
        fetched: Whom ``fetch`` was asked for.
    """

    policies = {"full:*": Policy(max_members=1)}

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []
        self.fetched: list[str] = []

    async def fetch(self, topic: str, presences: Any) -> Any:
        self.fetched += presences
        return presences

    def on_join(self, join: Join) -> None:
        self.noted.append(f"+{join.key}" + " first" * join.is_first)

    def on_update(self, update: Update) -> None:
        self.noted.append(f"~{update.key}")

    def on_leave(self, leave: Leave) -> None:
        self.noted.append(f"-{leave.key}" + " last" * leave.is_last)

    def init(self) -> int:
        return 0

    def handle_metas(
        self, topic: str, diff: Mapping[str, Any], presences: Mapping[str, Any], state: Any
    ) -> None:
        self.noted.append(" ".join(["metas", *sorted(presences)]))

    def take_notes(self) -> list[str]:
        noted, self.noted = self.noted, []
        return noted


def room_of(online: Presence) -> type[Channel]:
    """A channel that enters as the params of its join say."""

    class Room(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            await online.enter(self, self.assigns["name"], {}, hidden=self.assigns["hidden"])

        @event("show")
        def show(self, payload: Any) -> None:
            online.show(self, self.assigns["name"])

        @event("hide")
        def hide(self, payload: Any) -> None:
            online.hide(self, self.assigns["name"])

    return Room


async def watched(watch: Any) -> list[str]:
    """What a watch has to tell: sorted keys for a snapshot, and a line for each change."""
    lines = []
    try:
        async with asyncio.timeout(0):
            async for change in watch:
                match change:
                    case Snapshot(presences):
                        lines.append(" ".join(sorted(presences)))
                    case Join(_, key):
                        lines.append(f"+{key}")
                    case Update(_, key):
                        lines.append(f"~{key}")
                    case Leave(_, key):
                        lines.append(f"-{key}")
    except TimeoutError:
        pass
    return lines


async def listed(online: Presence) -> list[str]:
    return sorted(await online.list(TOPIC))


# Hiding.


@virtually
async def test_who_hides_is_seen_by_nobody():
    """Neither its coming, nor its updates, nor its end are told or listed anywhere."""
    online = Online()
    async with (
        ChannelCase(app(online)) as case,
        online.watch(TOPIC) as watch,
        online.watch(["spy"]) as watch_of_spy,
    ):
        alice = await join(case)
        lease(online, "bob")
        await online.settled()
        assert told(alice) == ["+bob"]
        assert online.take_notes() == ["+bob first", "metas bob"]
        assert await watched(watch) == ["bob"]
        assert await watched(watch_of_spy) == [""]
        online.fetched.clear()

        spy = lease(online, "spy", hidden=True)
        for number in range(3):
            spy.update({"n": number})

        assert await listed(online) == ["bob"]
        assert await online.get_by_key(TOPIC, "spy") is None
        assert online.count_users(TOPIC) == online.count_connections(TOPIC) == 1
        assert online.online(["bob", "spy"]) == {"bob"}
        spy.end()
        await online.settled()
        assert told(alice) == online.take_notes() == []
        assert await watched(watch) == await watched(watch_of_spy) == []
        assert "spy" not in online.fetched


@virtually
async def test_a_hidden_client_sees_everybody():
    """Enter pushes it the list, without itself, and diffs follow as for anybody else."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob")
        await online.settled()
        spy = await join(case, room_of(online), name="spy", hidden=True)
        assert await spy.assert_push("presence_state", {}) == dict(await online.list(TOPIC))
        bob.end()
        await spy.assert_push("presence_diff", {"joins": {}, "leaves": {"bob": {}}})
        lease(online, "carol")
        await spy.assert_push("presence_diff", {"joins": {"carol": {}}, "leaves": {}})

        assert online.list_hidden(TOPIC).keys() == {"spy"}


@virtually
async def test_only_the_server_can_list_the_hidden():
    """``list_hidden`` has the metas of all hidden members of a topic, and nobody else."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        room = await join(case)
        lease(online, "bob")
        lease(online, "zoe", "room:2", hidden=True)
        one = lease(online, "spy", hidden=True, device=1)
        lease(online, "spy", hidden=True, device=2)
        lease(online, "bob", hidden=True)
        online.fetched.clear()

        hidden = online.list_hidden(TOPIC)

        assert list(hidden) == ["spy", "bob"]
        assert [meta["device"] for meta in hidden["spy"]["metas"]] == [1, 2]
        assert all(meta["phx_ref"] for meta in hidden["spy"]["metas"])
        assert online.list_hidden(room.channel) == hidden
        assert online.list_hidden("room:3") == {}
        assert online.fetched == []
        one.end()
        assert [meta["device"] for meta in online.list_hidden(TOPIC)["spy"]["metas"]] == [2]


@virtually
async def test_an_update_while_hidden_is_seen_when_shown():
    """The meta changes all the same, and its function gets the present one."""
    online = Online()
    async with ChannelCase(app(online)):
        spy = lease(online, "spy", hidden=True, n=1)
        ref = spy.update(lambda meta: {"n": meta["n"] + 1})

        (meta,) = online.list_hidden(TOPIC)["spy"]["metas"]
        assert (meta["n"], meta["phx_ref"]) == (2, ref)
        shown = online.show(spy, "spy", topic=TOPIC)
        assert (await online.list(TOPIC))["spy"]["metas"] == [{"n": 2, "phx_ref": shown}]


@virtually
async def test_a_key_may_be_visible_and_hidden():
    """A hidden connection of somebody who is there is not among the connections."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        visible, hidden = lease(online, "bob", n=1), lease(online, "bob", n=2, hidden=True)
        await online.settled()
        assert [meta["n"] for meta in (await online.list(TOPIC))["bob"]["metas"]] == [1]
        assert online.count_connections(TOPIC) == 1
        told(alice)
        online.take_notes()

        visible.end()
        await online.settled()

        assert told(alice) == ["-bob"]
        assert online.take_notes() == ["-bob last", "metas"]
        online.show(hidden, "bob", topic=TOPIC)
        await online.settled()
        assert told(alice) == ["+bob"]
        assert online.take_notes() == ["+bob first", "metas bob"]


@virtually
async def test_a_hidden_presence_is_one_of_its_owner():
    """An owner tracks a key once, hidden or not; and a wrong meta is one, hidden or not."""
    online = Online()
    async with ChannelCase(app(online)):
        spy = lease(online, "spy", hidden=True)
        for hidden in (True, False):
            with pytest.raises(AlreadyTracked):
                online.track(spy, "spy", {}, topic=TOPIC, hidden=hidden)
        with pytest.raises(PayloadError):
            online.track(spy, "other", {"n": b""}, topic=TOPIC, hidden=True)
        online.untrack(spy, "spy", topic=TOPIC)
        assert online.list_hidden(TOPIC) == {}


@pytest.mark.parametrize("owner", ["lease", "task", "channel"])
@virtually
async def test_a_hidden_presence_ends_with_its_owner(owner: str):
    """However its owner ends, nothing is left, and nobody is told."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        end: Any
        match owner:
            case "lease":
                end = lease(online, "spy", hidden=True).end
            case "task":
                task = asyncio.ensure_future(asyncio.sleep(600))
                online.track(task, "spy", {}, topic=TOPIC, hidden=True)
                end = task.cancel
            case _:
                spy = await join(case, room_of(online), name="spy", hidden=True)
                await spy.assert_push("presence_state", {})
                end = spy.client.close
        assert online.list_hidden(TOPIC).keys() == {"spy"}

        end()
        await asyncio.sleep(1)

        assert online.list_hidden(TOPIC) == {}
        assert told(alice) == online.take_notes() == []


# Showing.


@virtually
async def test_showing_is_a_join_and_hiding_a_leave():
    """For clients, callbacks and watches alike; each has a new ref, and the meta stays."""
    online = Online()
    async with (
        ChannelCase(app(online)) as case,
        online.watch(TOPIC) as watch,
        online.watch(["bob"]) as watch_of_bob,
    ):
        alice = await join(case)
        bob = lease(online, "bob", hidden=True, n=1)
        assert await watched(watch) == await watched(watch_of_bob) == [""]
        (meta,) = online.list_hidden(TOPIC)["bob"]["metas"]

        ref = online.show(bob, "bob", topic=TOPIC)

        assert ref != meta["phx_ref"]
        diff = await alice.assert_push("presence_diff")
        shown = {"bob": {"metas": [{"n": 1, "phx_ref": ref}]}}
        assert diff == {"joins": shown, "leaves": {}}
        assert dict(await online.list(TOPIC)) == shown
        assert online.list_hidden(TOPIC) == {}
        assert online.count_users(TOPIC) == 1
        assert await watched(watch) == await watched(watch_of_bob) == ["+bob"]

        hidden_ref = online.hide(bob, "bob", topic=TOPIC)

        assert hidden_ref not in (ref, meta["phx_ref"])
        assert await alice.assert_push("presence_diff") == {"joins": {}, "leaves": shown}
        assert await online.list(TOPIC) == {}
        hidden = {"bob": {"metas": [{"n": 1, "phx_ref": hidden_ref}]}}
        assert online.list_hidden(TOPIC) == hidden
        assert await watched(watch) == await watched(watch_of_bob) == ["-bob"]
        await online.settled()
        assert online.take_notes() == ["+bob first", "metas bob", "-bob last", "metas"]


@virtually
async def test_clients_show_and_hide_themselves():
    """A channel needs no topic, as for ``track``; its client sees itself come and go."""
    online = Online()
    room = room_of(online)
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        bob = await join(case, room, name="bob", hidden=True)
        bob.push("show")
        await alice.assert_push("presence_diff", {"joins": {"bob": {}}})
        bob.push("hide")
        await alice.assert_push("presence_diff", {"leaves": {"bob": {}}})
        await asyncio.sleep(1)

        assert told(bob) == ["state", "+bob", "-bob"]


@virtually
async def test_who_is_shown_or_hidden_already_stays_so():
    """Nothing happens, and the ref stays."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        bob = Lease(online, TOPIC, "bob")
        ref = online.track(bob, "bob", {}, topic=TOPIC)
        await online.settled()
        assert told(alice) == ["+bob"]
        assert online.show(bob, "bob", topic=TOPIC) == ref
        hidden_ref = online.hide(bob, "bob", topic=TOPIC)
        assert online.hide(bob, "bob", topic=TOPIC) == hidden_ref
        await asyncio.sleep(1)
        assert told(alice) == ["-bob"]


@virtually
async def test_who_is_hidden_again_within_a_diff_is_not_told():
    """Nobody is told of a glimpse that fits between two diffs."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        bob = lease(online, "bob", hidden=True)
        online.show(bob, "bob", topic=TOPIC)
        online.hide(bob, "bob", topic=TOPIC)
        await online.settled()
        assert told(alice) == []


@virtually
async def test_who_is_shown_again_within_a_diff_never_lacked():
    """Hiding and showing between two diffs is told like an update."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        bob = lease(online, "bob")
        await online.settled()
        online.hide(bob, "bob", topic=TOPIC)
        online.show(bob, "bob", topic=TOPIC)
        await online.settled()
        assert told(alice) == ["+bob", "+bob -bob"]


@virtually
async def test_only_the_owner_hides_and_shows():
    """What somebody does not track, it can't hide, whoever else does."""
    online = Online()
    async with ChannelCase(app(online)):
        lease(online, "bob")
        lease(online, "spy", hidden=True)
        other = lease(online, "carol")
        for change in (online.hide, online.show):
            for key in ("bob", "spy"):
                with pytest.raises(NotTracked) as caught:
                    change(other, key, topic=TOPIC)
                assert (caught.value.topic, caught.value.key) == (TOPIC, key)
            with pytest.raises(NotTracked):
                change(other, "carol", topic="room:2")
            with pytest.raises(TypeError, match="topic is needed"):
                change(other, "carol")
        assert await listed(online) == ["bob", "carol"]


@virtually
async def test_the_hidden_take_no_room():
    """A full topic admits hidden members, but shows them only when there is room."""
    online = Online()
    async with ChannelCase(app(online)):
        alice = lease(online, "alice", FULL)
        bob = lease(online, "bob", FULL, hidden=True)
        with pytest.raises(TopicFull):
            online.show(bob, "bob", topic=FULL)
        assert online.list_hidden(FULL).keys() == {"bob"}
        again = lease(online, "alice", FULL, hidden=True)
        online.show(again, "alice", topic=FULL)  # no further member

        alice.end()
        online.hide(again, "alice", topic=FULL)
        online.show(bob, "bob", topic=FULL)
        online.show(bob, "bob", topic=FULL)

        assert (await online.list(FULL)).keys() == {"bob"}
        assert online.list_hidden(FULL).keys() == {"alice"}


# push_state.


def pusher_of(online: Presence) -> type[Channel]:
    """A channel that asks for the list when its client does, and tracks nobody."""

    class Pusher(Listener):
        @event("list")
        async def list_them(self, payload: Any) -> None:
            await online.push_state(self)

    return Pusher


@virtually
async def test_push_state_lists_and_tracks_nobody():
    """A channel gets the list of its topic and is not in it; it returns what was pushed."""
    online = Online()
    pushed: list[Any] = []

    class Audience(Channel):
        async def after_join(self) -> None:
            pushed.append(await online.push_state(self))

    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", n=1)
        await online.settled()
        alice = await join(case, Audience)
        state = await alice.assert_push("presence_state")

        assert [meta["n"] for meta in state["bob"]["metas"]] == [1]
        assert pushed == [state]
        assert await listed(online) == ["bob"]
        assert online.list_hidden(TOPIC) == {}
        lease(online, "carol")
        bob.end()
        await online.settled()
        assert told(alice) == ["+carol -bob"]


@virtually
async def test_no_diff_comes_before_the_list():
    """What changes while the list is fetched is in it, or told after it; nothing is told twice."""

    class Slow(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            await asyncio.sleep(0.3)
            return presences

    online = Slow()

    class Audience(Channel):
        async def after_join(self) -> None:
            await online.push_state(self)

    async with ChannelCase(app(online)) as case:
        lease(online, "bob")
        await online.settled()
        alice = await join(case, Audience)
        await asyncio.sleep(0.1)
        lease(online, "carol")
        await asyncio.sleep(10)

        assert told(alice) == ["state bob carol"]


@virtually
async def test_push_state_needs_a_joined_channel():
    """In ``join`` it says where it belongs."""
    online = Online()
    errors: list[NotJoined] = []

    class Early(Channel):
        async def join(self, topic: str, params: Any) -> None:
            try:
                await online.push_state(self)
            except NotJoined as error:
                errors.append(error)

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Early)
        await asyncio.sleep(1)
        assert [error.topic for error in errors] == [TOPIC]
        assert told(alice) == []


@virtually
async def test_a_state_may_be_pushed_again_and_again():
    """Each is what is there then."""
    online = Presence()
    pusher = pusher_of(online)
    async with ChannelCase(app(online)) as case:
        alice = await join(case, pusher)
        for expected in ([], ["bob"], ["bob", "carol"]):
            alice.push("list")
            state = await alice.assert_push("presence_state")
            assert sorted(state) == expected
            lease(online, "carol" if expected else "bob")
