"""Names at every door for applications: refused there with the argument's name, or made a plain
text that reaches the other node and its clients; nothing else that the node tracks is held up.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost import Broadcast, Channel, Endpoint, NotTracked, Presence, PubSub, Socket, Tracker
from roost.exceptions import InvalidKey, InvalidName
from roost.naming import RESERVED_KEYS
from roost.presence import Lease
from roost.testing import ChannelCase, JoinedCase
from roost.wire.messages import Reply
from roost.wire.payload import JsonPayload
from tests.pubsub.nodes import Network
from tests.virtual_clock import run_virtually, virtually

ROOM = "room:1"
PLENTY = 0.3  # seconds: a change reaches the other node and its clients
SIZES = {"topic": 1_024, "key": 1_024, "event": 1_024, "status": 1_024, "node_name": 255}


class SafeText(str):
    """Text that a template engine marked as safe: ``str`` of it is the same object."""

    def __str__(self) -> str:
        return self


class Colour(str, enum.Enum):  # noqa: UP042
    RED = "red"


class Level(int, enum.Enum):
    HIGH = 7


class Jobs(Tracker):
    def handle_info(self, message: Any) -> None:
        self.heard = message


class Room(Channel):
    def handle_in(self, event: str, payload: Any) -> None:
        self.socket.store["act"](self)


class AnySocket(Socket):
    channels = {"*": Room}


class Node:
    def __init__(self, network: Network, name: str) -> None:
        self.adapter = network.adapter(name)
        self.pubsub = PubSub(self.adapter)
        self.online, self.jobs = Presence(name="online"), Jobs()
        self.endpoint = Endpoint(
            {"/": AnySocket},
            presences=[self.online],
            trackers=[self.jobs],
            pubsub=self.pubsub,
        )
        self.case = ChannelCase(self.endpoint)


class Scene:
    """Alice's client is on node a, in room 1; Bob's is on node b, in room 1 and wherever asked.

    Attributes:
        got: What a plain subscriber of node b received.
    """

    def __init__(self, a: Node, b: Node) -> None:
        self.a, self.b = a, b
        self.got: list[Any] = []
        self.owner = Lease(a.online, ROOM, "owner")
        self.sender = self.got.append
        self.alice: JoinedCase
        self.bob: JoinedCase
        self.there: JoinedCase

    async def start(self, topic: str) -> None:
        """Let the clients join, Bob in ``topic`` as well."""
        self.alice = await (await self.a.case.connect(AnySocket)).join(ROOM)
        bob = await self.b.case.connect(AnySocket)
        self.bob = self.there = await bob.join(ROOM)
        if topic != ROOM:
            self.there = await bob.join(topic)
        self.b.pubsub.subscribe(topic, self.got.append)

    def act(self, function: Callable[[Any], Any]) -> None:
        """Call something of Alice's channel while it handles a message."""
        raised: list[Exception] = []

        def act(channel: Any) -> None:
            try:
                function(channel)
            except Exception as error:
                raised.append(error)

        self.alice.client.socket.store["act"] = act
        self.alice.push("act")
        if raised:
            raise raised[0]

    def pushed(self, joined: JoinedCase, event: str) -> list[Any]:
        """The payloads of ``event`` that a client got in its topic."""
        return [
            each.payload
            for each in joined.client.transport.received
            if not isinstance(each, Reply) and (each.topic, each.event) == (joined.topic, event)
        ]

    def replied(self, status: str) -> bool:
        return any(
            getattr(each, "status", None) == status for each in self.alice.client.transport.received
        )


@asynccontextmanager
async def scene(topic: str = ROOM) -> AsyncIterator[Scene]:
    network = Network()
    a, b = Node(network, "a"), Node(network, "b")
    async with a.case, b.case:
        made = Scene(a, b)
        await asyncio.sleep(PLENTY)
        await made.start(topic)
        yield made


class Door(NamedTuple):
    """Where an application gives a name.

    Args:
        of: What kind of name.
        argument: As what it is given.
        call: Gives it.
        is_seen: Whether it arrived where it was to arrive; None if it goes nowhere.
    """

    of: str
    argument: str
    call: Callable[[Scene, Any], Any]
    is_seen: Callable[[Scene, str], object] | None = None

    @property
    def may_be_left_out(self) -> bool:
        return ", topic=x)" in inspect.getsource(self.call)


def joined_as(scene: Scene, key: str) -> bool:
    diffs = scene.pushed(scene.bob, "presence_diff")
    return any(key in diff["joins"] for diff in diffs)


def joined_in(scene: Scene, topic: str) -> bool:
    diffs = scene.pushed(scene.there, "presence_diff")
    return any("alice" in diff["joins"] for diff in diffs)


async def leased(scene: Scene, topic: Any, key: Any, tracking: str = "online") -> None:
    async with getattr(scene.a, tracking).lease(topic, key):
        await asyncio.sleep(PLENTY)


def message(topic: Any = ROOM, event: Any = "hi") -> Broadcast:
    return Broadcast(topic, event, JsonPayload(b"{}"))


def shouted(scene: Scene, topic: str) -> bool:
    return bool(scene.got) and bool(scene.pushed(scene.there, "hi"))


def event_seen(scene: Scene, event: str) -> bool:
    return bool(scene.pushed(scene.bob, event))


DOORS: dict[str, Door] = {
    # Presence.
    "track, key": Door(
        "key", "key", lambda s, x: s.a.online.track(s.owner, x, {}, topic=ROOM), joined_as
    ),
    "track, topic": Door(
        "topic", "topic", lambda s, x: s.a.online.track(s.owner, "alice", {}, topic=x), joined_in
    ),
    "lease, key": Door("key", "key", lambda s, x: leased(s, ROOM, x), joined_as),
    "lease, topic": Door("topic", "topic", lambda s, x: leased(s, x, "alice"), joined_in),
    "enter": Door("key", "key", lambda s, x: s.a.online.enter(s.alice.channel, x, {}), joined_as),
    "update, key": Door("key", "key", lambda s, x: s.a.online.update(s.owner, x, {}, topic=ROOM)),
    "update, topic": Door(
        "topic", "topic", lambda s, x: s.a.online.update(s.owner, "k", {}, topic=x)
    ),
    "untrack, key": Door("key", "key", lambda s, x: s.a.online.untrack(s.owner, x, topic=ROOM)),
    "untrack, topic": Door(
        "topic", "topic", lambda s, x: s.a.online.untrack(s.owner, "k", topic=x)
    ),
    "hide, key": Door("key", "key", lambda s, x: s.a.online.hide(s.owner, x, topic=ROOM)),
    "hide, topic": Door("topic", "topic", lambda s, x: s.a.online.hide(s.owner, "k", topic=x)),
    "show, key": Door("key", "key", lambda s, x: s.a.online.show(s.owner, x, topic=ROOM)),
    "show, topic": Door("topic", "topic", lambda s, x: s.a.online.show(s.owner, "k", topic=x)),
    "list": Door("topic", "where", lambda s, x: s.a.online.list(x)),
    "list_hidden": Door("topic", "where", lambda s, x: s.a.online.list_hidden(x)),
    "get_by_key, key": Door("key", "key", lambda s, x: s.a.online.get_by_key(ROOM, x)),
    "get_by_key, where": Door("topic", "where", lambda s, x: s.a.online.get_by_key(x, "k")),
    "count_users": Door("topic", "where", lambda s, x: s.a.online.count_users(x)),
    "count_connections": Door("topic", "where", lambda s, x: s.a.online.count_connections(x)),
    "online": Door("key", "keys", lambda s, x: s.a.online.online([x])),
    "watch, keys": Door("key", "of", lambda s, x: s.a.online.watch(Once(x)).close()),
    "check_key": Door("key", "key", lambda s, x: s.a.online.check_key(x)),
    # Tracker.
    "job, key": Door(
        "key",
        "key",
        lambda s, x: s.a.jobs.track(s.owner, x, {}, topic=ROOM),
        lambda s, x: s.b.jobs.list(ROOM)[0][0] == x,
    ),
    "job, topic": Door(
        "topic",
        "topic",
        lambda s, x: s.a.jobs.track(s.owner, "k", {}, topic=x),
        lambda s, x: s.b.jobs.list(x),
    ),
    "job lease, topic": Door("topic", "topic", lambda s, x: leased(s, x, "k", "jobs")),
    "jobs": Door("topic", "topic", lambda s, x: s.a.jobs.list(x)),
    "get job, topic": Door("topic", "topic", lambda s, x: s.a.jobs.get_by_key(x, "k")),
    "get job, key": Door("key", "key", lambda s, x: s.a.jobs.get_by_key(ROOM, x)),
    "is_tracked, topic": Door(
        "topic", "topic", lambda s, x: s.a.jobs.is_tracked(s.owner, "k", topic=x)
    ),
    "is_tracked, key": Door("key", "key", lambda s, x: s.a.jobs.is_tracked(s.owner, x, topic=ROOM)),
    "tracker subscribes": Door("topic", "topic", lambda s, x: s.a.jobs.subscribe(x)),
    "tracker unsubscribes": Door("topic", "topic", lambda s, x: s.a.jobs.unsubscribe(x)),
    # Endpoint.
    "broadcast, topic": Door(
        "topic", "topic", lambda s, x: s.a.endpoint.broadcast(x, "hi"), shouted
    ),
    "broadcast, event": Door(
        "event", "event", lambda s, x: s.a.endpoint.broadcast(ROOM, x), event_seen
    ),
    "broadcast_from, topic": Door(
        "topic", "topic", lambda s, x: s.a.endpoint.broadcast_from(s.sender, x, "hi"), shouted
    ),
    "broadcast_from, event": Door(
        "event", "event", lambda s, x: s.a.endpoint.broadcast_from(s.sender, ROOM, x), event_seen
    ),
    "local_broadcast, topic": Door(
        "topic", "topic", lambda s, x: s.b.endpoint.local_broadcast(x, "hi"), shouted
    ),
    "local_broadcast, event": Door(
        "event", "event", lambda s, x: s.b.endpoint.local_broadcast(ROOM, x), event_seen
    ),
    "local_broadcast_from, event": Door(
        "event",
        "event",
        lambda s, x: s.b.endpoint.local_broadcast_from(print, ROOM, x),
        event_seen,
    ),
    "endpoint.subscribe": Door("topic", "topic", lambda s, x: s.a.endpoint.subscribe(x, print)),
    # PubSub.
    "subscribe": Door("topic", "topic", lambda s, x: s.a.pubsub.subscribe(x, print)),
    "subscriptions": Door("topic", "topic", lambda s, x: s.a.pubsub.subscriptions(x)),
    "unsubscribe_all": Door("topic", "topic", lambda s, x: s.a.pubsub.unsubscribe_all(x, print)),
    "publish": Door(
        "topic", "topic", lambda s, x: s.a.pubsub.broadcast(x, 1), lambda s, x: s.got == [1]
    ),
    "publish_from": Door(
        "topic",
        "topic",
        lambda s, x: s.a.pubsub.broadcast_from(print, x, 1),
        lambda s, x: s.got == [1],
    ),
    "publish locally": Door(
        "topic", "topic", lambda s, x: s.b.pubsub.local_broadcast(x, 1), lambda s, x: s.got == [1]
    ),
    "publish to, topic": Door(
        "topic",
        "topic",
        lambda s, x: s.a.pubsub.direct_broadcast("b", x, 1),
        lambda s, x: s.got == [1],
    ),
    "publish to, node": Door(
        "node_name", "node_name", lambda s, x: s.a.pubsub.direct_broadcast(x, ROOM, 1)
    ),
    "message's event": Door(
        "event",
        "message.event",
        lambda s, x: s.a.pubsub.broadcast(ROOM, message(event=x)),
        lambda s, x: x in [each.event for each in s.got],
    ),
    "message's topic": Door(
        "topic", "message.topic", lambda s, x: s.a.pubsub.broadcast(ROOM, message(topic=x))
    ),
    # Channel.
    "push": Door(
        "event",
        "event",
        lambda s, x: s.act(lambda channel: channel.push(x)),
        lambda s, x: s.pushed(s.alice, x),
    ),
    "channel.broadcast": Door(
        "event", "event", lambda s, x: s.act(lambda channel: channel.broadcast(x)), event_seen
    ),
    "channel.broadcast_from": Door(
        "event", "event", lambda s, x: s.act(lambda channel: channel.broadcast_from(x)), event_seen
    ),
    "reply": Door(
        "status",
        "status",
        lambda s, x: s.act(lambda channel: channel.reply(status=x)),
        lambda s, x: s.replied(x),
    ),
    "ref.reply": Door(
        "status",
        "status",
        lambda s, x: s.act(lambda channel: channel.ref.reply(status=x)),
        lambda s, x: s.replied(x),
    ),
    "channel.subscribe": Door("topic", "topic", lambda s, x: s.alice.channel.subscribe(x)),
    "channel.unsubscribe": Door("topic", "topic", lambda s, x: s.alice.channel.unsubscribe(x)),
}


class Once(list):  # type: ignore[type-arg]
    """A collection of one thing that need not be hashable."""

    def __init__(self, only: Any) -> None:
        super().__init__([only])


def made(of: str, given: Any) -> str | None:
    """The name that is made of ``given``; None if it is refused. It restates the documentation."""
    if of == "key" and isinstance(given, int) and not isinstance(given, bool):
        digits = "".join(reversed(list(digits_of(abs(given))))) or "0"
        text = "-" + digits if given < 0 else digits
    elif isinstance(given, str):
        text = "".join(given)
    else:
        return None
    if any("\ud800" <= character <= "\udfff" for character in text):
        return None
    if of == "key" and text in RESERVED_KEYS:
        return None
    return text if len(text.encode()) <= SIZES[of] else None


def digits_of(number: int) -> Any:
    if number >= 10**1_100:
        yield from "9" * 1_100  # long enough to be refused
        return
    while number:
        number, digit = divmod(number, 10)
        yield str(digit)


async def walk_through(door: Door, given: Any) -> None:
    """Give a name at a door, and see what became of it, and of everybody else."""
    expected = made(door.of, given)
    topic = expected if expected is not None and door.of == "topic" else ROOM
    async with scene(topic) as s:
        s.a.online.track(Lease(s.a.online, ROOM, "x"), "first", {}, topic=ROOM)
        if given is None and door.may_be_left_out:
            with pytest.raises(TypeError, match="topic is needed"):
                await _done(door.call(s, given))
        elif expected is None:
            with pytest.raises(InvalidName) as refused:
                await _done(door.call(s, given))
            assert refused.value.argument == door.argument
            assert door.argument in str(refused.value)
            assert len(str(refused.value)) < 500
            assert isinstance(refused.value, InvalidKey) is (door.of == "key")
        else:
            try:
                await _done(door.call(s, given))
            except NotTracked:
                assert door.is_seen is None
        s.a.online.track(Lease(s.a.online, ROOM, "y"), "last", {}, topic=ROOM)
        await asyncio.sleep(PLENTY)

        if expected is not None and door.is_seen is not None:
            assert door.is_seen(s, expected)
        assert {"first", "last"} <= set(await s.b.online.list(ROOM))
        assert any("last" in diff["joins"] for diff in s.pushed(s.bob, "presence_diff"))
        assert s.alice.channel.is_joined
        assert (s.a.endpoint.health()["status"], s.b.endpoint.health()["status"]) == ("ok", "ok")
        for node in (s.a, s.b):
            assert all(type(topic) is str for topic in node.online._current()._announcers)


async def _done(result: Any) -> None:
    if inspect.isawaitable(result):
        await result


ODD: list[Any] = [
    "plain",
    "",
    "null\0 and \x1b control\r\n",
    "naïve 🐦",
    SafeText("safe"),
    SafeText("sûr"),
    Colour.RED,
    "lone \ud800 surrogate",
    "x" * 255,
    "x" * 256,
    "é" * 512,
    "é" * 513,
    "x" * 1_024,
    "x" * 1_025,
    "x" * 5_000_000,
    "__proto__",
    SafeText("__proto__"),
    "constructor",
    7,
    -7,
    0,
    Level.HIGH,
    10**1_023,
    10**1_024,
    10**5_000,
    True,
    None,
    1.5,
    b"bytes",
    bytearray(b"bytes"),
    uuid.UUID(int=7),
    ["room:1"],
    {"body": "hi", "password": "secret"},
    object(),
    str,
]


def shown(given: Any) -> str:
    return f"{type(given).__name__} {ascii(given)[:20]}" if not isinstance(given, int) else "int"


@pytest.mark.parametrize("name", DOORS)
@virtually
async def test_odd_names_are_refused_where_they_are_given_or_arrive_as_text(name: str):
    """What can't be a name is refused where it is given; what can be one arrives as plain text."""
    for given_name in ODD:
        await walk_through(DOORS[name], given_name)


anything = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(), max_size=300),  # with lone surrogates
    st.text(max_size=40).map(SafeText),
    st.integers(),
    st.integers(-(10**30), 10**30).map(lambda n: n * 10**1_010),
    st.sampled_from(sorted(RESERVED_KEYS)),
    st.binary(max_size=8),
    st.floats(),
    st.none() | st.booleans() | st.uuids() | st.decimals(),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(DOORS)), anything)
def test_anything_as_a_name(name: str, given_name: Any):
    """Any object at any door is refused there, or reaches the other node and its clients intact."""
    run_virtually(walk_through(DOORS[name], given_name))
