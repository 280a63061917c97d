"""Presence: tracking, telling, listing, fetching, owners."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from roost import (
    AlreadyTracked,
    Channel,
    Endpoint,
    NotTracked,
    Policy,
    Presence,
    PubSub,
    Socket,
    event,
    intercept,
)
from roost.channels import connection, mailbox
from roost.exceptions import (
    ChannelClosed,
    ConfigurationError,
    InvalidKey,
    NotJoined,
    NotStarted,
    PayloadError,
    WrongThread,
)
from roost.naming import RESERVED_KEYS
from roost.presence.owners.owner import Lease
from roost.testing import ChannelCase, ClientCase, JoinedCase
from tests.presence.scenes import told_of
from tests.virtual_clock import run_virtually, virtually

TOPIC = "room:1"


class Online(Presence):
    """Presences without fetch."""


class Fetched(Presence):
    """Presences whose fetch takes as long as the test says, and remembers its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, list[str]]] = []
        self.delays: list[float] = []
        self.default_delay = 0.0

    async def fetch(self, topic: str, presences: Any) -> Any:
        self.calls.append(
            {key: [meta["phx_ref"] for meta in presences[key]["metas"]] for key in presences}
        )
        await asyncio.sleep(self.delays.pop(0) if self.delays else self.default_delay)
        return {key: {**entry, "name": key.title()} for key, entry in presences.items()}


class Listener(Channel):
    """Subscribed to the topic, tracks nothing by itself."""


class Room(Channel):
    """What the guide's channel does."""

    everybody: Presence

    async def after_join(self) -> None:
        await self.everybody.enter(self, self.assigns.get("name", "alice"), {"n": 1})


def app(presence: Presence, room: type[Channel] = Listener) -> Endpoint:
    class UserSocket(Socket):
        channels = {"room:*": room}

    return Endpoint({"/": UserSocket}, presences=[presence])


def room_of(online: Presence) -> type[Room]:
    class RoomOf(Room):
        everybody = online

    return RoomOf


async def join(case: ChannelCase, room: type[Channel] = Listener, **assigns: Any) -> JoinedCase:
    """A client in the room."""
    socket = Socket()
    socket.assigns.update(assigns)
    return await case.client(socket).join(TOPIC, channel=room)


def lease(presence: Presence, key: str, topic: str = TOPIC, meta: Any = None) -> Lease:
    """Somebody who is there until the lease ends."""
    made = Lease(presence, topic, key)
    presence.track(made, key, meta or {}, topic=topic)
    return made


# Telling.


@pytest.mark.conforms("XPRES-6")
@virtually
async def test_a_join_and_a_leave_are_told_with_the_same_ref():
    """Track broadcasts a join with the new ref, the owner's end a leave with it."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        bob = Lease(online, TOPIC, "bob")

        ref = online.track(bob, "bob", {"n": 1}, topic=TOPIC)

        joined = {"bob": {"metas": [{"n": 1, "phx_ref": ref}]}}
        diff = await alice.assert_push("presence_diff")
        assert diff == {"joins": joined, "leaves": {}}

        bob.end()

        diff = await alice.assert_push("presence_diff")
        assert diff == {"joins": {}, "leaves": joined}
        assert await online.list(TOPIC) == {}


@pytest.mark.conforms("XPRES-12")
@virtually
async def test_an_update_is_one_diff_with_the_new_and_the_old_meta():
    """An update joins the new meta, with the previous ref, and leaves the old one, in one diff."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        bob = lease(online, "bob", meta={"status": "online"})
        await online.settled()
        alice = await join(case)
        (old,) = (await online.list(TOPIC))["bob"]["metas"]

        ref = bob.update(lambda meta: {**meta, "status": "away"})

        new = {"status": "away", "phx_ref": ref, "phx_ref_prev": old["phx_ref"]}
        diff = await alice.assert_push("presence_diff")
        assert diff == {"joins": {"bob": {"metas": [new]}}, "leaves": {"bob": {"metas": [old]}}}
        assert (await online.list(TOPIC))["bob"]["metas"] == [new]


@virtually
async def test_the_first_change_is_told_at_once_and_further_ones_joined():
    """A quiet topic tells within the tick; what follows within the period goes out together."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        loop = asyncio.get_running_loop()
        began_at = loop.time()

        lease(online, "a")
        await alice.assert_push("presence_diff", {"joins": {"a": {}}})
        assert loop.time() == began_at

        lease(online, "b")
        lease(online, "c")
        diff = await alice.assert_push("presence_diff")
        assert diff["joins"].keys() == {"b", "c"}
        assert loop.time() == pytest.approx(began_at + Policy().diff_period)


@virtually
async def test_who_came_and_left_within_a_diff_is_not_told():
    """Nobody sees the leave of somebody whose join nobody saw."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)

        lease(online, "a").end()
        lease(online, "b")

        assert (await alice.assert_push("presence_diff"))["joins"].keys() == {"b"}
        await alice.refute_push("presence_diff")


@virtually
async def test_enter_pushes_the_state_and_no_diff_that_is_in_it():
    """After enter a client has the state with itself in it, and its own join is not told again."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        lease(online, "bob")
        await online.settled()

        alice = await join(case, room_of(online))

        state = await alice.assert_push("presence_state")
        assert state.keys() == {"alice", "bob"}
        await alice.refute_push("presence_diff")


@virtually
async def test_state_before_track_tells_the_own_join():
    """In the order of Phoenix 1.2, state first, a client hears of its own join in a diff."""
    online = Online()

    class StateFirst(Channel):
        async def after_join(self) -> None:
            self.push("presence_state", await online.list(self))
            online.track(self, "alice", {})

    async with ChannelCase(app(online)) as case:
        alice = await join(case, StateFirst)

        assert await alice.assert_push("presence_state") == {}
        await alice.assert_push("presence_diff", {"joins": {"alice": {}}})


@virtually
async def test_a_diff_that_is_being_fetched_keeps_its_place():
    """A later diff does not overtake one whose fetch takes longer."""
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        online.delays = [0.3, 0.0]

        bob = lease(online, "bob")
        await asyncio.sleep(0.1)
        bob.end()

        assert (await alice.assert_push("presence_diff"))["joins"].keys() == {"bob"}
        assert (await alice.assert_push("presence_diff"))["leaves"].keys() == {"bob"}


@virtually
async def test_two_presences_of_one_topic_do_not_mind_each_other():
    """While one presence makes its list, the other one's diffs arrive."""
    people, cursors = Fetched(), Online()

    class Both(Channel):
        async def after_join(self) -> None:
            await people.enter(self, "alice", {})

    endpoint = Endpoint({}, presences=[people, cursors])
    async with ChannelCase(endpoint) as case:
        people.default_delay = 0.3
        alice = await join(case, Both)
        await asyncio.sleep(0.1)

        lease(cursors, "bob")

        await alice.assert_push("presence_diff", {"joins": {"bob": {}}}, timeout=0.1)
        await alice.assert_push("presence_state", {"alice": {}})


@virtually
async def test_an_enter_that_is_given_up_tells_what_it_held():
    """If no state comes, the client gets the diffs that waited for it."""
    online = Fetched()

    class Impatient(Channel):
        async def after_join(self) -> None:
            try:
                async with asyncio.timeout(0.2):
                    await online.enter(self, "alice", {})
            except TimeoutError:
                online.default_delay = 0.0

    async with ChannelCase(app(online)) as case:
        online.delays = [0.0]
        online.default_delay = 0.3
        alice = await join(case, Impatient)
        online.delays = [0.0, 60.0, 0.0]
        await asyncio.sleep(0.1)

        lease(online, "bob")

        await alice.assert_push("presence_diff", {"joins": {"bob": {}}}, timeout=1)
        await alice.refute_push("presence_state")


@virtually
async def test_what_is_fetched_leaves_nothing_behind():
    """A topic whose lists were fetched is remembered no longer than the fetch takes."""
    online = Fetched()
    async with ChannelCase(app(online)):
        for number in range(10):
            lease(online, "alice", f"room:{number}")
            await online.list(f"room:{number}")

        assert online._run is not None
        assert not online._run.fetcher._listings
        assert not online._run.fetcher._asked
        assert not online._run.fetcher._open


@virtually
async def test_past_the_bound_of_noted_topics_every_rejoin_gets_the_state_twice(
    monkeypatch: pytest.MonkeyPatch,
):
    """What a connection remembers is bounded; past that a client may have been told of any."""
    monkeypatch.setattr(connection, "MAX_KEPT_TOPICS", 2)
    online = Online()

    class Watcher(Channel):
        @event("list")
        async def list_them(self, payload: Any) -> None:
            await online.push_state(self)

    class UserSocket(Socket):
        channels = {"*": Watcher}

    async def state_count(client: ClientCase, topic: str, *, is_told: bool = False) -> int:
        """Join a topic, get the list, perhaps be told of somebody, and leave."""
        room = await client.join(topic)
        room.push("list")
        await online.settled()
        await case.settled()
        lines = told_of(client.transport.received)
        client.transport.received.clear()
        if is_told:
            lease(online, "alice", topic)
            await room.assert_push("presence_diff")
        await room.assert_reply(room.leave(), "ok")
        await case.settled()
        return sum(line.startswith("state") for line in lines)

    async with ChannelCase(Endpoint({"/": UserSocket}, presences=[online])) as case:
        client = case.client(UserSocket())
        assert await state_count(client, "room:0", is_told=True) == 1
        assert await state_count(client, "room:0") == 2
        assert await state_count(client, "room:1") == 1
        for number in (1, 2, 3):
            await state_count(client, f"room:{number}", is_told=True)

        assert await state_count(client, "room:3") == 2
        assert await state_count(client, "room:4") == 2
        assert client.connection._holdings is not None
        assert len(client.connection._holdings) == 2


class GivesUp(Channel):
    """Gives up its first ``enter`` after 0.2 s; then pushes the list when it is asked to."""

    everybody: Fetched

    async def after_join(self) -> None:
        online = self.everybody
        online.delays = [2.0]
        try:
            async with asyncio.timeout(0.2):
                await online.push_state(self)
        except TimeoutError:
            pass

    @event("list")
    async def list_them(self, payload: Any) -> None:
        self.push("presence_state", await self.everybody.list(self))


@virtually
async def test_after_an_enter_that_was_given_up_the_first_state_is_sent_twice():
    """The client was told diffs before it, which it may apply on top of its first state."""
    online = Fetched()

    class Room(GivesUp):
        everybody = online

    async with ChannelCase(app(online)) as case:
        lease(online, "carol")
        await online.settled()
        alice = await join(case, Room)
        bob = lease(online, "bob")
        await alice.assert_push("presence_diff", {"joins": {"bob": {}}}, timeout=1)
        await asyncio.sleep(3)  # what was asked for the state is still being fetched
        online.delays = [0.1]  # of the diff, so that the state comes first
        bob.end()
        await asyncio.sleep(0.01)
        alice.push("list")

        state = await alice.assert_push("presence_state")
        assert list(state) == ["carol"]
        assert await alice.assert_push("presence_state") == state
        await alice.refute_push("presence_diff", timeout=1)


@virtually
async def test_an_intercepting_channel_pushes_no_diff_from_before_its_state():
    """Its mailbox may hold diffs that are older than its state: its client is not sent them."""
    online = Online()

    class Tutorial(Channel):
        @intercept("presence_diff")
        def handle_diff(self, diff: Any) -> None:
            self.push("presence_diff", diff)

        @event("list")
        async def list_them(self, payload: Any) -> None:
            await asyncio.sleep(0.02)
            self.push("presence_state", await online.list(self))

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Tutorial)
        alice.push("list")
        await alice.assert_push("presence_state")
        alice.push("list")
        bob = lease(online, "bob")
        await asyncio.sleep(0.01)  # bob's join is in the mailbox, behind the handler
        bob.end()
        assert await alice.assert_push("presence_state") == {}

        await alice.refute_push("presence_diff")
        lease(online, "carol")
        await alice.assert_push("presence_diff", {"joins": {"carol": {}}})


@virtually
async def test_too_many_changes_become_a_fresh_state():
    """A diff that would name too many presences is replaced by the state, for all."""

    class Small(Online):
        max_diff_count = 3

    online = Small()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)

        for key in "abcde":
            lease(online, key)

        assert (await alice.assert_push("presence_state")).keys() == set("abcde")
        await alice.refute_push("presence_diff")
        lease(online, "f")
        assert (await alice.assert_push("presence_diff"))["joins"].keys() == {"f"}


@virtually
async def test_diffs_flow_while_a_newer_join_is_being_decided():
    """On a duplicate join the client hears of presences until the new channel has subscribed."""
    online = Online()
    gate = asyncio.Event()

    class SlowRejoin(Channel):
        async def join(self, topic: str, params: Any) -> None:
            if params.get("slow"):
                await gate.wait()

    async with ChannelCase(app(online)) as case:
        alice = await join(case, SlowRejoin)
        bob = lease(online, "bob")
        await alice.assert_push("presence_diff", {"joins": {"bob": {}}})

        alice.client.send("9", "9", TOPIC, "phx_join", {"slow": True})
        bob.end()
        case.broadcast(TOPIC, "shout")

        await alice.assert_push("presence_diff", {"leaves": {"bob": {}}})
        await alice.refute_push("shout")
        gate.set()
        await alice.assert_reply("9", "ok")
        lease(online, "carol")
        await alice.assert_push("presence_diff", {"joins": {"carol": {}}})
        await alice.refute_push("presence_diff")


@virtually
async def test_a_client_that_rejoins_gets_the_state_twice():
    """Diffs that phoenix.js held back since its new join are settled by a second state."""
    online = Online()
    room = room_of(online)
    async with ChannelCase(app(online)) as case:
        alice = await join(case, room)
        await alice.assert_push("presence_state")
        await alice.refute_push("presence_state")
        lease(online, "bob")
        await alice.assert_push("presence_diff")

        again = await alice.client.join(TOPIC)

        first = await again.assert_push("presence_state")
        assert await again.assert_push("presence_state") == first


@virtually
async def test_an_intercepting_channel_sees_diffs_first():
    """A channel that intercepts presence_diff pushes it itself, as the tutorial does."""
    online = Online()

    class Tutorial(Channel):
        @intercept("presence_diff")
        def handle_diff(self, diff: Any) -> None:
            self.push("presence_diff", {**diff, "seen": True})

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Tutorial)
        lease(online, "bob")

        await alice.assert_push("presence_diff", {"joins": {"bob": {}}, "seen": True})
        await alice.refute_push("presence_diff")


# Listing.


@virtually
async def test_metas_of_one_key_come_in_the_order_of_their_arrival():
    """Two connections of one user are two metas of one key."""
    online = Online()
    async with ChannelCase(app(online)):
        lease(online, "alice", meta={"device": 1})
        lease(online, "alice", meta={"device": 2})

        presences = await online.list(TOPIC)

        assert [meta["device"] for meta in presences["alice"]["metas"]] == [1, 2]
        assert online.count_users(TOPIC) == 1
        assert online.count_connections(TOPIC) == 2


@virtually
async def test_an_unchanged_list_keeps_its_bytes():
    """The bytes of the state are made anew only when something changed."""
    online = Online()
    async with ChannelCase(app(online)):
        bob = lease(online, "bob")

        first, second = await online.list(TOPIC), await online.list(TOPIC)
        assert first.encoded is second.encoded

        lease(online, "alice")
        bob.end()
        assert list(await online.list(TOPIC)) == ["alice"]
        assert list(first) == ["bob"]


@virtually
async def test_a_list_that_nobody_asks_for_again_costs_nothing():
    """What is kept from list to list does not grow with those who came and left since."""
    online = Online()
    async with ChannelCase(app(online)):
        lease(online, "alice")
        await online.list(TOPIC)
        for number in range(3000):
            lease(online, f"visitor-{number}").end()

        assert online._run is not None
        assert online._run._announcers[TOPIC]._state is None
        assert list(await online.list(TOPIC)) == ["alice"]


@virtually
async def test_get_by_key_is_the_entry_or_none():
    """One key's entry, fetched; None for a key or a topic where nobody is."""
    online = Fetched()
    async with ChannelCase(app(online)):
        lease(online, "alice", meta={"n": 1})

        entry = await online.get_by_key(TOPIC, "alice")

        assert entry is not None
        assert entry["name"] == "Alice"
        assert [meta["n"] for meta in entry["metas"]] == [1]
        assert await online.get_by_key(TOPIC, "bob") is None
        assert await online.get_by_key("room:2", "alice") is None


@pytest.mark.conforms("XPRES-4")
@virtually
async def test_integer_keys_become_strings():
    """A key may be an integer; it is listed as a string."""
    online = Online()
    async with ChannelCase(app(online)):
        online.track(Lease(online, TOPIC, "7"), 7, {}, topic=TOPIC)

        assert list(await online.list(TOPIC)) == ["7"]
        assert await online.get_by_key(TOPIC, 7) is not None


# Fetch.


@virtually
async def test_fetch_runs_once_for_all_who_joined_or_left():
    """One call gets the union of joins and leaves, whoever listens."""
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        alice, bob = await join(case), await join(case)
        leaving = lease(online, "a")
        await alice.assert_push("presence_diff")
        await bob.assert_push("presence_diff")
        online.calls.clear()

        leaving.end()
        lease(online, "b")

        diff = await alice.assert_push("presence_diff")
        assert diff["leaves"]["a"]["name"] == "A"
        assert diff["joins"]["b"]["name"] == "B"
        assert [call.keys() for call in online.calls] == [{"a", "b"}]
        assert await bob.assert_push("presence_diff") == diff


@virtually
async def test_without_subscribers_a_diff_fetches_nothing():
    """Where nobody listens, nobody asks the database."""
    online = Fetched()
    async with ChannelCase(app(online)):
        lease(online, "a")
        await online.settled()

        assert online.calls == []


@virtually
async def test_concurrent_lists_of_one_version_share_a_fetch():
    """Ten lists at once run fetch once; after a change it runs again."""
    online = Fetched()
    async with ChannelCase(app(online)):
        lease(online, "a")
        online.default_delay = 0.3

        lists = await asyncio.gather(*(online.list(TOPIC) for _ in range(10)))

        assert len(online.calls) == 1
        assert all(each["a"]["name"] == "A" for each in lists)
        lease(online, "b")
        assert (await online.list(TOPIC))["b"]["name"] == "B"
        assert len(online.calls) == 2


@virtually
async def test_a_list_is_current_when_it_returns():
    """Who leaves during the fetch is not in the list, and who comes is, fetched."""
    online = Fetched()
    async with ChannelCase(app(online)):
        leaving = lease(online, "a")
        online.delays = [0.3, 0.1]

        listing = asyncio.ensure_future(online.list(TOPIC))
        await asyncio.sleep(0.1)
        leaving.end()
        lease(online, "b")

        presences = await listing
        assert {key: entry["name"] for key, entry in presences.items()} == {"b": "B"}


@virtually
async def test_who_comes_during_the_last_fetch_is_not_listed_but_told():
    """A list gives up on latecomers after three fetches: they are in the diff that follows it."""
    online = Fetched()
    room = room_of(online)
    async with ChannelCase(app(online)) as case:
        # In turn: the diff of alice, the list, then for each latecomer a diff and another list.
        online.delays = [0.0, 0.2, 0.0, 0.2, 0.0, 0.2, 0.0]
        alice = await join(case, room)
        for key in "abc":
            await asyncio.sleep(0.1)
            lease(online, key)
            await asyncio.sleep(0.1)

        state = await alice.assert_push("presence_state")
        assert {key: entry.get("name") for key, entry in state.items()} == {
            "alice": "Alice",
            "a": "A",
            "b": "B",
        }
        diff = await alice.assert_push("presence_diff")
        assert diff["joins"].keys() == {"c"}
        assert diff["joins"]["c"]["name"] == "C"
        await alice.refute_push("presence_diff")


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda presences: 1 / 0, id="raises"),
        pytest.param(lambda presences: None, id="returns nothing"),
        pytest.param(lambda presences: {"bob": {}}, id="loses the metas"),
        pytest.param(lambda presences: {"bob": {"metas": [{}]}}, id="loses the refs"),
        pytest.param(
            lambda presences: {key: {**entry, "x": b""} for key, entry in presences.items()},
            id="returns what is no JSON",
        ),
        pytest.param(lambda presences: asyncio.sleep(60), id="overruns"),
    ],
)
def test_a_failing_fetch_lets_presences_out_bare(wrong: Any, caplog: pytest.LogCaptureFixture):
    """Whatever fetch does wrong is logged, and diffs and lists go out without it."""

    class Wrong(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            result = wrong(presences)
            return await result if asyncio.iscoroutine(result) else result

    async def scene() -> None:
        online = Wrong()
        async with ChannelCase(app(online)) as case:
            alice = await join(case)
            lease(online, "bob", meta={"n": 1})

            diff = await alice.assert_push("presence_diff", timeout=30)

            assert [meta["n"] for meta in diff["joins"]["bob"]["metas"]] == [1]
            assert [meta["n"] for meta in (await online.list(TOPIC))["bob"]["metas"]] == [1]

    run_virtually(scene())
    assert "Wrong.fetch failed for 'room:1'" in caplog.text


@virtually
async def test_a_fetch_whose_query_is_cancelled_does_not_silence_the_topic():
    """A diff whose fetch was cancelled is sent without fetched data; later diffs are sent, too."""

    class Cancelled(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            query: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            query.cancel()
            return await query

    online = Cancelled()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        for key in "ab":
            lease(online, key)
            await alice.assert_push("presence_diff", {"joins": {key: {}}})


@virtually
async def test_channels_that_join_together_share_their_fetches(monkeypatch: pytest.MonkeyPatch):
    """A hundred joins in one tick ask for a hundred keys, not for each other's again and again."""
    monkeypatch.setattr(mailbox, "TURN_DURATION", 60.0)  # a slow machine would make it two ticks
    online = Fetched()
    room = room_of(online)
    async with ChannelCase(app(online)) as case:
        rooms = await asyncio.gather(*(join(case, room, name=f"user-{n}") for n in range(100)))
        for each in rooms:
            assert len(await each.assert_push("presence_state")) == 100

        asked = sum(len(call) for call in online.calls)
        assert asked == 200  # once for the lists, and once for the diff
        assert len(online.calls) == 2


@virtually
async def test_nobody_is_fetched_for_an_empty_topic():
    """A list of nobody asks nothing of the database."""
    online = Fetched()
    async with ChannelCase(app(online)):
        assert await online.list(TOPIC) == {}
        assert online.calls == []


@virtually
async def test_fetch_may_hide_keys():
    """A key that fetch leaves out is neither listed nor told."""

    class Discreet(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            return {key: entry for key, entry in presences.items() if key != "spy"}

    online = Discreet()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        lease(online, "spy")
        lease(online, "bob")

        assert (await alice.assert_push("presence_diff"))["joins"].keys() == {"bob"}
        assert (await online.list(TOPIC)).keys() == {"bob"}


# Changing.


@virtually
async def test_one_owner_tracks_a_key_once():
    """A second track of the same owner, topic and key is refused, with both names."""
    online = Online()
    async with ChannelCase(app(online)):
        bob = lease(online, "bob")

        with pytest.raises(AlreadyTracked) as caught:
            online.track(bob, "bob", {}, topic=TOPIC)

        assert (caught.value.topic, caught.value.key) == (TOPIC, "bob")
        online.track(bob, "bob", {}, topic="room:2")
        online.track(bob, "carol", {}, topic=TOPIC)


@pytest.mark.conforms("XPRES-11", "XPRES-13")
@virtually
async def test_only_what_is_tracked_can_be_updated():
    """Update of nothing is an error with topic and key; untrack of nothing is none."""
    online = Online()
    async with ChannelCase(app(online)):
        bob = lease(online, "bob")

        with pytest.raises(NotTracked) as caught:
            online.update(bob, "carol", {}, topic=TOPIC)

        assert (caught.value.topic, caught.value.key) == (TOPIC, "carol")
        online.untrack(bob, "carol", topic=TOPIC)
        online.untrack(Lease(online, TOPIC, "x"), "x", topic=TOPIC)
        online.untrack(bob, "bob", topic=TOPIC)
        assert online.count_users(TOPIC) == 0


@virtually
async def test_harmful_keys_and_metas_are_refused():
    """Names of JavaScript's object prototype, non-strings, and metas that are no JSON objects."""
    online = Online()
    async with ChannelCase(app(online)):
        owner = Lease(online, TOPIC, "x")

        for key in (*RESERVED_KEYS, None, True, 1.5, b"bob"):
            with pytest.raises(InvalidKey):
                online.track(owner, key, {}, topic=TOPIC)  # type: ignore[arg-type]
        for meta in ({"n": float("nan")}, [1], {"b": b"x"}):
            with pytest.raises(PayloadError):
                online.track(owner, "bob", meta, topic=TOPIC)  # type: ignore[arg-type]
        assert online.count_connections(TOPIC) == 0


@virtually
async def test_a_task_is_an_owner():
    """What a task tracks leaves when the task ends, however it ends."""
    online = Online()
    async with ChannelCase(app(online)):
        task = asyncio.ensure_future(asyncio.sleep(60))
        online.track(task, "worker", {}, topic=TOPIC)
        assert online.count_users(TOPIC) == 1

        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)

        assert online.count_users(TOPIC) == 0


@virtually
async def test_a_lease_shows_somebody_for_a_while():
    """A lease is present inside its block, may change its meta, and leaves after it, for good."""
    online = Online()
    async with ChannelCase(app(online)):
        async with online.lease(TOPIC, "worker", {"jobs": 0}) as worker:
            worker.update({"jobs": 1})
            (meta,) = (await online.list(TOPIC))["worker"]["metas"]
            assert meta["jobs"] == 1

        assert online.count_users(TOPIC) == 0
        online.track(worker, "worker", {}, topic=TOPIC)
        await asyncio.sleep(0)
        assert online.count_users(TOPIC) == 0


@virtually
async def test_presences_leave_before_their_channel_cleans_up():
    """A terminate that takes its time keeps no ghost."""
    online = Online()
    counts: list[int] = []

    class Slow(Room):
        everybody = online

        async def terminate(self, reason: object) -> None:
            counts.append(online.count_users(TOPIC))
            await asyncio.sleep(1)
            with pytest.raises(ChannelClosed):
                online.track(self, "ghost", {})

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Slow)
        await alice.assert_push("presence_state")

        alice.leave()
        await alice.assert_closed()
        await case.endpoint.hub.settled()

        assert counts == [0]


@virtually
async def test_a_cancelled_join_leaves_nothing_tracked():
    """What a join tracked is gone when the client leaves before it is decided."""
    online = Online()

    class Eager(Channel):
        async def join(self, topic: str, params: Any) -> None:
            online.track(self, "alice", {})
            try:
                await asyncio.sleep(60)
            finally:
                with pytest.raises(ChannelClosed):
                    online.track(self, "ghost", {})

    async with ChannelCase(app(online)) as case:
        client = case.client(Socket())
        client._routes.override(TOPIC, Eager)
        client.send("1", "1", TOPIC, "phx_join", {})
        await asyncio.sleep(0.1)
        assert online.count_users(TOPIC) == 1

        client.send("1", "2", TOPIC, "phx_leave", {})
        await asyncio.sleep(0.1)

        assert online.count_users(TOPIC) == 0


@virtually
async def test_enter_needs_a_joined_channel_and_keeps_what_is_tracked():
    """Enter in join raises; a key that the channel tracked before stays as it is."""
    online = Online()
    errors: list[type[BaseException]] = []

    class Early(Channel):
        async def join(self, topic: str, params: Any) -> None:
            try:
                await online.enter(self, "alice", {"early": True})
            except NotJoined as error:
                errors.append(type(error))

        @event("enter")
        async def again(self, payload: Any) -> None:
            await online.enter(self, "alice", {"early": False})

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Early)
        alice.push("enter")

        state = await alice.assert_push("presence_state")

        assert errors == [NotJoined]
        assert [meta["early"] for meta in state["alice"]["metas"]] == [True]


@virtually
async def test_lists_are_not_pushed_after_the_end():
    """Who holds a channel that has ended hears so, and not that it has yet to join."""
    online = Online()
    async with ChannelCase(app(online)) as case:
        alice = await join(case, Channel)
        await alice.assert_reply(alice.leave(), "ok")
        await case.settled()

        assert alice.channel.has_ended
        for push in (online.push_state(alice.channel), online.enter(alice.channel, "alice")):
            with pytest.raises(ChannelClosed):
                await push


# Life.


@pytest.mark.conforms("XPRES-1")
def test_a_presence_runs_with_an_endpoint():
    """Used outside an endpoint it says what to do; it starts again on another loop."""
    online = Online()
    endpoint = app(online)

    async def scene() -> None:
        async with endpoint.running():
            lease(online, "bob")
            assert online.count_users(TOPIC) == 1

    for _ in range(2):
        asyncio.run(scene())
        with pytest.raises(NotStarted, match="Endpoint"):
            online.count_users(TOPIC)


@virtually
async def test_a_presence_belongs_to_one_pubsub():
    """Two endpoints may share it with their PubSub, not with two."""
    online = Online()
    pubsub = PubSub()
    async with (
        Endpoint({}, presences=[online], pubsub=pubsub).running(),
        Endpoint({}, presences=[online], pubsub=pubsub).running(),
    ):
        with pytest.raises(ConfigurationError, match="another PubSub"):
            await app(online).start()
        lease(online, "bob")
        assert online.count_users(TOPIC) == 1


@virtually
async def test_changes_belong_to_the_loops_thread():
    """Track from another thread raises and says what to do."""
    online = Online()
    async with ChannelCase(app(online)):
        caught: list[BaseException] = []

        def run() -> None:
            try:
                lease(online, "bob")
            except WrongThread as error:
                caught.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()

        assert "track" in str(caught[0])
        assert online.count_users(TOPIC) == 0


@pytest.mark.conforms("XPRES-14")
@virtually
async def test_settled_waits_for_fetches():
    """After settled everything was told, and no fetch is running."""
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        online.default_delay = 0.3
        lease(online, "a")
        lease(online, "b")

        await online.settled()

        assert len(alice.client.transport.received) == 1
        assert len(online.calls) == 1


@virtually
async def test_stopping_with_a_fetch_under_way_ends_it():
    """A stop cancels what is being fetched, for diffs and for lists; nothing is left behind."""
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        await join(case)
        online.default_delay = 60
        lease(online, "a")
        listing = asyncio.ensure_future(online.list(TOPIC))
        await asyncio.sleep(0.1)

    loop = asyncio.get_running_loop()
    stopped_at = loop.time()
    assert list(await listing) == ["a"]
    assert loop.time() == stopped_at
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others == set()
