"""Names of presences: what fetch returns, what TrackJoins finds, what questions are about."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from roost import Channel, Endpoint, Presence, PubSub, Socket, TrackJoins
from roost.exceptions import ConfigurationError, InvalidKey, InvalidName, JoinRefused
from roost.naming import NameLimits
from roost.presence import SqliteLastSeen
from roost.presence.owners.owner import Lease
from roost.testing import ChannelCase
from tests.presence.somebody import TOPIC, somebody
from tests.pubsub.nodes import Network
from tests.virtual_clock import virtually


class SafeText(str):
    """Text that a template engine marked as safe: ``str`` of it is the same object."""

    def __str__(self) -> str:
        return self


class Level(int, enum.Enum):
    HIGH = 7


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Room(Channel):
    pass


class AnySocket(Socket):
    channels = {"*": Room}


# What fetch returns.


class Fetching(Presence):
    """Its ``fetch`` gives each key another form."""

    def __init__(self, form: Callable[[str], Any]) -> None:
        super().__init__()
        self.form = form
        self.diffs: list[Any] = []

    def fetch(self, topic: str, presences: Any) -> Any:
        return {self.form(key): {**entry, "n": 1} for key, entry in presences.items()}

    def init(self) -> Any:
        return 0

    def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
        self.diffs.append((list(diff["joins"]), list(presences)))


@pytest.mark.parametrize("form", [int, SafeText, lambda key: Level(int(key))], ids=str)
@virtually
async def test_keys_that_fetch_returns_become_text(form: Callable[[str], Any]):
    """A row's integer id is the key that it was made of, for lists, lookups, diffs and metas."""
    online = Fetching(form)
    async with ChannelCase(Endpoint({"/": AnySocket}, presences=[online])) as case:
        alice = await (await case.connect(AnySocket)).join(TOPIC)
        somebody(online, "7")
        await online.settled()

        assert list(await online.list(TOPIC)) == ["7"]
        found = await online.get_by_key(TOPIC, 7)
        assert found is not None
        assert found["n"] == 1
        diff = await alice.assert_push("presence_diff")
        assert diff["joins"]["7"]["n"] == 1
        assert online.diffs == [(["7"], ["7"])]
        assert type(online.diffs[0][0][0]) is str


@pytest.mark.parametrize(
    "form",
    [
        lambda key: "__proto__",
        lambda key: "k" * 1_025,
        lambda key: "\ud800",
        lambda key: key.encode(),
    ],
    ids=["proto", "long", "surrogate", "bytes"],
)
@virtually
async def test_a_key_that_fetch_must_not_return(
    form: Callable[[str], Any], caplog: pytest.LogCaptureFixture
):
    """The fetch has failed: it is logged, and the presences are sent without fetched data."""
    online = Fetching(form)
    async with ChannelCase(Endpoint({"/": AnySocket}, presences=[online])) as case:
        alice = await (await case.connect(AnySocket)).join(TOPIC)
        somebody(online, "alice")
        await online.settled()

        assert list(await online.list(TOPIC)) == ["alice"]
        diff = await alice.assert_push("presence_diff")
        assert list(diff["joins"]) == ["alice"]
        assert "can't be a presence key" in caplog.text


@virtually
async def test_two_keys_of_fetch_that_are_the_same_text(caplog: pytest.LogCaptureFixture):
    """Neither can be chosen."""

    class Online(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            return {**presences, **{int(key): entry for key, entry in presences.items()}}

    online = Online()
    async with ChannelCase(Endpoint({}, presences=[online])):
        somebody(online, "7")
        assert "n" not in (await online.list(TOPIC))["7"]
        assert "the same once they are text" in caplog.text


# What TrackJoins finds.


@pytest.mark.parametrize(
    ("found", "key"),
    [
        ("alice", "alice"),
        (7, "7"),
        (Level.HIGH, "7"),
        (Colour.RED, "red"),
        (SafeText("safe"), "safe"),
        (UUID(int=7), str(UUID(int=7))),
    ],
    ids=repr,
)
@virtually
async def test_what_track_joins_finds_becomes_a_key(found: Any, key: str):
    """Text, an integer, an enum of these, or a UUID, for the channel's topic and for others."""
    online = Presence()

    class Member(Channel):
        presence = TrackJoins(online, id=lambda channel: found)

    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        alice = await case.client(Socket()).join(TOPIC, channel=Member)
        alice.channel.subscribe(SafeText("news"))

        for topic in (TOPIC, "news"):
            assert list(await online.list(topic)) == [key]
        alice.channel.unsubscribe(SafeText("news"))
        assert online.count_users("news") == 0


@pytest.mark.parametrize("found", [True, 1.5, b"alice", ["alice"], object()], ids=lambda f: type(f))
@virtually
async def test_what_track_joins_must_not_find(found: Any, caplog: pytest.LogCaptureFixture):
    """Whatever has several spellings, or none, is a mistake of the application."""
    online = Presence()

    class Member(Channel):
        presence = TrackJoins(online, id=lambda channel: found)

    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        with pytest.raises(JoinRefused, match="join crashed"):
            await case.client(Socket()).join(TOPIC, channel=Member)
        assert "can't be a presence key" in caplog.text


@pytest.mark.parametrize("given", ["b\ud800", "constructor"], ids=ascii)
def test_a_browser_id_that_is_no_key(given: str):
    """The client gets one that is made up, as if it had sent none."""
    socket = Socket()
    socket.params = {"browser_id": given}

    assert UUID(socket.browser_id).version == 4


# Questions.


@virtually
async def test_collections_of_keys():
    """Text is no collection of keys, and neither is what can't be iterated."""
    online = Presence()
    async with ChannelCase(Endpoint({}, presences=[online])):
        somebody(online, "97")
        assert online.online([97, SafeText("97"), "bob"]) == {"97"}
        for keys in ("alice", b"ab", bytearray(b"ab"), 7, None):
            with pytest.raises(TypeError, match="expected a collection of keys"):
                online.online(keys)  # type: ignore[arg-type]
        for of in (b"ab", 7, None):
            with pytest.raises(TypeError, match="expected a collection of keys"):
                online.watch(of)  # type: ignore[arg-type]
        with pytest.raises(InvalidName, match="of: expected at most 1,024 bytes"):
            online.watch("t" * 1_025)
        watch = online.watch(SafeText(TOPIC))
        assert type(watch.of) is str


async def test_last_seen_is_asked_for_keys():
    """As ``online``."""

    class Online(Presence):
        last_seen_store = SqliteLastSeen(":memory:")

    async with Online().running(PubSub()) as online:
        somebody(online, "7")
        assert list(await online.last_seen([Level.HIGH])) == ["7"]
        for bad in ("\ud800", 1.5, "k" * 1_025):
            with pytest.raises(InvalidKey, match="keys: "):
                await online.last_seen([bad])  # type: ignore[list-item]


# Options.


@virtually
async def test_the_names_of_presence_events():
    """Other text is plain text, and what can't be an event is refused at the start."""

    class Online(Presence):
        diff_event = SafeText("diff")
        state_event = Colour.RED

    online = Online()
    async with ChannelCase(Endpoint({"/": AnySocket}, presences=[online])) as case:
        alice = await (await case.connect(AnySocket)).join(TOPIC)
        await online.push_state(alice.channel)
        await alice.assert_push("red")
        somebody(online, "bob")
        await alice.assert_push("diff")

    class Wrong(Presence):
        count_event = 7  # type: ignore[assignment]

    with pytest.raises(InvalidName, match="count_event: expected text, got int"):
        await Wrong().start(case.endpoint.pubsub)


@virtually
async def test_limits_hold_on_every_node():
    """What is tracked within them arrives; what a node with wider ones tracks is left out."""
    network = Network()
    narrow = NameLimits(max_key_size=36, max_topic_size=64)
    wide = NameLimits(max_key_size=2_048)
    nodes = []
    for name, limits in (("a", wide), ("b", narrow)):
        online = Presence()
        pubsub = PubSub(network.adapter(name), name_limits=limits)
        nodes.append((online, Endpoint({}, presences=[online], pubsub=pubsub)))
    (on_a, a), (on_b, b) = nodes
    async with a.running(), b.running():
        await asyncio.sleep(1)
        for key in ("k" * 36, "k" * 37, "k" * 2_048):
            somebody(on_a, key)
        somebody(on_a, "alice", topic="t" * 65)
        with pytest.raises(InvalidKey, match="2,049 bytes can't be a presence key"):
            somebody(on_a, "k" * 2_049)
        with pytest.raises(InvalidKey, match="NameLimits"):
            somebody(on_b, "k" * 37)
        async with on_a.lease(TOPIC, "l" * 36):
            await asyncio.sleep(1)
            assert set(await on_b.list(TOPIC)) == {"k" * 36, "l" * 36}
        assert b.health()["dropped"]["trackers"] == {"unsound_row": 3}
        assert Presence.check_key("k" * 1_024) == "k" * 1_024
        with pytest.raises(InvalidKey):
            Presence.check_key("k" * 37, narrow)


def test_limits_are_given_once():
    """As everything that belongs to the PubSub."""
    assert Endpoint({}).pubsub.name_limits == NameLimits()
    limits = NameLimits(max_key_size=36)
    assert Endpoint({}, name_limits=limits).pubsub.name_limits is limits
    with pytest.raises(ConfigurationError, match="give name_limits to the PubSub"):
        Endpoint({}, pubsub=PubSub(), name_limits=limits)


@virtually
async def test_a_lease_has_plain_names():
    """They are what its presence is tracked under."""
    async with Presence().running(PubSub()) as online:
        async with online.lease(SafeText(TOPIC), Level.HIGH) as lease:
            assert (lease.topic, lease.key) == (TOPIC, "7")
            assert {type(lease.topic), type(lease.key)} == {str}
            lease.update({"n": 1})
        assert Lease(online, TOPIC, "x").key == "x"
