"""What Phoenix's own tests of its server-side Presence state, as far as other tests do not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from roost import Channel, Endpoint, Presence, PubSub, Socket, event
from roost.exceptions import ConfigurationError
from roost.presence import Lease
from roost.pubsub.registry import Subscription
from roost.testing import ChannelCase
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload
from tests.presence.somebody import TOPIC, somebody
from tests.virtual_clock import run_virtually, virtually


class Default(Presence):
    """Presences as they are."""


class Extra(Presence):
    """Each entry has something more."""

    def fetch(self, topic: str, presences: Any) -> Any:
        return {key: {**entry, "extra": "extra"} for key, entry in presences.items()}


class Metas(Presence):
    """Hands what ``handle_metas`` gets to the test: (topic, diff, presences), in values."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []

    def init(self) -> Any:
        return {}

    def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
        now = {key: list(metas) for key, metas in presences.items()}
        self.calls.append((topic, dict(diff), now))
        return state


class Room(Channel):
    """Tracks and untracks itself when its client asks for it."""

    online: Presence

    @event("come")
    def on_come(self, payload: Any) -> dict[str, Any]:
        return {"ref": self.online.track(self, payload["key"], {"n": 1})}

    @event("go")
    def on_go(self, payload: Any) -> dict[str, Any]:
        self.online.untrack(self, payload["key"])
        return {}

    @event("list")
    async def on_list(self, payload: Any) -> Any:
        return await self.online.list(self)


def room_of(presence: Presence) -> type[Room]:
    class RoomOf(Room):
        online = presence

    return RoomOf


# Fetch and list.


@pytest.mark.conforms("XPRES-2")
def test_by_default_fetch_changes_nothing():
    """Presences go through fetch as they are."""
    presences = {"alice": {"metas": [{"n": 1, "phx_ref": "ref"}]}}

    assert Default().fetch(TOPIC, presences) == presences


@pytest.mark.conforms("XPRES-3")
@virtually
async def test_a_topic_and_a_channel_can_be_listed():
    """A list of a topic, or of a channel's topic, has the entries as fetched; {} if empty."""
    online = Extra()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = await case.client(Socket()).join(TOPIC, channel=room_of(online))
        assert await online.list(TOPIC) == {}
        assert await room.assert_reply(room.push("list"), "ok") == {}

        lease = Lease(online, TOPIC, "alice")
        ref = online.track(lease, "alice", {"n": 1}, topic=TOPIC)

        expected = {"alice": {"extra": "extra", "metas": [{"n": 1, "phx_ref": ref}]}}
        assert await online.list(TOPIC) == expected
        assert await room.assert_reply(room.push("list"), "ok") == expected
        assert await online.list("room:2") == {}


@pytest.mark.conforms("XPRES-5")
@virtually
async def test_one_key_has_the_metas_of_all_who_track_it():
    """Get by key yields the fetched entry, or None (Phoenix: []) where the key is not."""
    async with Extra().running(PubSub()) as online:
        first = online.track(Lease(online, TOPIC, "1"), 1, {"n": 1}, topic=TOPIC)
        second = online.track(Lease(online, TOPIC, "1"), "1", {"n": 2}, topic=TOPIC)
        somebody(online, "2")

        entry = {
            "extra": "extra",
            "metas": [{"n": 1, "phx_ref": first}, {"n": 2, "phx_ref": second}],
        }
        assert await online.get_by_key(TOPIC, "1") == entry
        assert await online.get_by_key(TOPIC, 1) == entry
        assert await online.get_by_key(TOPIC, 3) is None
        assert await online.get_by_key(TOPIC, "nobody") is None
        assert await online.get_by_key("room:2", 1) is None


# Diffs.


@pytest.mark.conforms("XPRES-7")
@virtually
async def test_a_join_and_a_leave_are_told_as_fetched():
    """Both diffs carry what fetch added, and the ref of the join is the ref of the leave."""
    async with Extra().running(PubSub()) as online:
        diffs = subscribe(online)
        alice = Lease(online, TOPIC, "alice")

        ref = online.track(alice, "alice", {"n": 1}, topic=TOPIC)
        await online.settled()
        alice.end()
        await online.settled()

        told = {"alice": {"extra": "extra", "metas": [{"n": 1, "phx_ref": ref}]}}
        assert diffs == [{"joins": told, "leaves": {}}, {"joins": {}, "leaves": told}]
        assert await online.list(TOPIC) == {}


def subscribe(online: Presence) -> list[Any]:
    """Collect the diffs that a subscriber of the topic is told."""
    diffs: list[Any] = []

    def hear(message: Broadcast) -> None:
        assert message.event == "presence_diff"
        diffs.append(message.payload)

    online._current().pubsub.subscribe(TOPIC, hear)
    return diffs


@pytest.mark.parametrize("kind", [Default, Extra])
@pytest.mark.conforms("XPRES-8")
def test_who_overrides_dispatch_gets_the_diffs(kind: type[Presence]):
    """A dispatch of one's own is handed the subscriptions and the diffs, and tells them itself."""
    receivers: list[list[str]] = []
    diffs: list[Any] = []

    class Custom(kind):  # type: ignore[valid-type, misc]
        def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
            receivers.append([subscription.metadata for subscription in subscriptions])
            assert isinstance(message.payload, JsonPayload)
            diffs.append(message.payload.decode())

    async def play() -> None:
        async with Custom().running(PubSub()) as online:
            heard: list[Any] = []
            online._current().pubsub.subscribe(TOPIC, heard.append, "a subscriber")
            somebody(online, "alice").end()
            bob = somebody(online, "bob")
            await online.settled()
            bob.end()
            await online.settled()
            assert heard == []

    run_virtually(play())
    assert receivers == [["a subscriber"]] * 2
    joined, left = diffs
    assert (list(joined["joins"]), list(joined["leaves"])) == (["bob"], [])
    assert (list(left["joins"]), list(left["leaves"])) == ([], ["bob"])


@pytest.mark.parametrize("kind", [Default, Extra])
def test_a_dispatch_that_raises_once_costs_one_diff(
    kind: type[Presence], caplog: pytest.LogCaptureFixture
):
    """It is logged, and the next diff of the topic is told."""
    diffs: list[Any] = []

    class Custom(kind):  # type: ignore[valid-type, misc]
        def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
            diffs.append(message.payload.decode())
            assert len(diffs) > 1, "the first one fails"

    async def play() -> None:
        async with Custom().running(PubSub()) as online:
            online._current().pubsub.subscribe(TOPIC, print)
            bob = somebody(online, "bob")
            await online.settled()
            bob.end()
            await online.settled()

    run_virtually(play())
    assert [list(diff["leaves"]) for diff in diffs] == [[], ["bob"]]
    assert "the first one fails" in caplog.text


@pytest.mark.conforms("XPRES-9")
@virtually
async def test_untrack_lets_one_key_leave():
    """What else the owner tracks stays, and is told of to nobody."""
    async with Default().running(PubSub()) as online:
        owner = Lease(online, TOPIC, "")
        ref = online.track(owner, "alice", {"n": 1}, topic=TOPIC)
        online.track(owner, "bob", {"n": 2}, topic=TOPIC)
        await online.settled()
        diffs = subscribe(online)

        online.untrack(owner, "alice", topic=TOPIC)
        await online.settled()

        left = {"alice": {"metas": [{"n": 1, "phx_ref": ref}]}}
        assert diffs == [{"joins": {}, "leaves": left}]
        assert list(await online.list(TOPIC)) == ["bob"]


@pytest.mark.conforms("XPRES-10")
@virtually
async def test_a_channel_tracks_and_untracks_in_its_topic():
    """A channel need not say its topic, neither to come nor to go."""
    online = Default()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = await case.client(Socket()).join(TOPIC, channel=room_of(online))

        ref = (await room.assert_reply(room.push("come", {"key": "alice"}), "ok"))["ref"]
        told = {"alice": {"metas": [{"n": 1, "phx_ref": ref}]}}
        assert await room.assert_push("presence_diff") == {"joins": told, "leaves": {}}
        assert await online.list(TOPIC) == told

        await room.assert_reply(room.push("go", {"key": "alice"}), "ok")
        assert await room.assert_push("presence_diff") == {"joins": {}, "leaves": told}
        assert await online.list(TOPIC) == {}


# handle_metas.


@pytest.mark.conforms("XPRES-15")
@virtually
async def test_handle_metas_needs_init():
    """Without a first state the presence does not start, and the error says what is missing."""

    class Stateless(Presence):
        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            return state

    endpoint = Endpoint({}, presences=[Stateless()])

    with pytest.raises(ConfigurationError, match=r"missing .*Stateless\.init .* client state"):
        await endpoint.start()


@pytest.mark.conforms("XPRES-16")
@virtually
async def test_handle_metas_gets_the_diff_and_the_metas_of_a_new_topic():
    """Metas are as fetched, with their refs, in the diff and in the presences."""
    async with Metas().running(PubSub()) as online:
        ref = online.track(Lease(online, TOPIC, "alice"), "alice", {"n": 1}, topic=TOPIC)
        await online.settled()

        meta = {"n": 1, "phx_ref": ref}
        diff = {"joins": {"alice": {"metas": [meta]}}, "leaves": {}}
        assert online.calls == [(TOPIC, diff, {"alice": [meta]})]


async def presences_after(online: Metas) -> dict[str, list[int]]:
    """The presences of the last call: key → the n of its metas."""
    await online.settled()
    return {key: [meta["n"] for meta in metas] for key, metas in online.calls[-1][2].items()}


@pytest.mark.conforms("XPRES-17")
@virtually
async def test_a_further_key_is_added_to_the_presences():
    """The second key stands beside the first, whose metas stay."""
    async with Metas().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        assert await presences_after(online) == {"alice": [1]}
        somebody(online, "bob", n=2)
        assert await presences_after(online) == {"alice": [1], "bob": [2]}
        assert online.calls[-1][1]["joins"].keys() == {"bob"}


@pytest.mark.conforms("XPRES-18")
@virtually
async def test_further_metas_of_a_key_are_appended():
    """The metas of a key are in the order of their arrival."""
    async with Metas().running(PubSub()) as online:
        for n in (3, 1, 2):
            somebody(online, "alice", n=n)
            await asyncio.sleep(1)
        assert await presences_after(online) == {"alice": [3, 1, 2]}
        assert len(online.calls) == 3


@pytest.mark.conforms("XPRES-19")
@virtually
async def test_when_the_last_presence_leaves_there_are_none():
    """The call for the last leave has it in the diff, and no presences."""
    async with Metas().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        await online.settled()
        alice.end()
        assert await presences_after(online) == {}
        assert online.calls[-1][1]["leaves"].keys() == {"alice"}


@pytest.mark.conforms("XPRES-20")
@virtually
async def test_a_key_leaves_with_its_only_meta_and_others_stay():
    """A key without metas is in the presences no longer."""
    async with Metas().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        somebody(online, "bob", n=2)
        await online.settled()
        alice.end()
        assert await presences_after(online) == {"bob": [2]}


@pytest.mark.conforms("XPRES-21")
@virtually
async def test_one_of_several_metas_leaves_alone():
    """A key keeps its other metas, in their order."""
    async with Metas().running(PubSub()) as online:
        leases = [somebody(online, "alice", n=n) for n in (1, 2, 3)]
        await online.settled()
        leases[1].end()
        assert await presences_after(online) == {"alice": [1, 3]}
