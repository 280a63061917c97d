"""Names that clients give, and names that are declared: what is no name costs who gave it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import Channel, Endpoint, Presence, PubSub, Route, Socket, TrackJoins, event, intercept
from roost.channels.connection import MAX_KEPT_TOPICS
from roost.channels.router import Router
from roost.exceptions import ConfigurationError, InvalidMessage, JoinRefused
from roost.naming import NameLimits
from roost.testing import ChannelCase
from roost.wire.messages import Message
from roost.wire.serializers import Serializer, V1Serializer, V2Serializer
from tests.channels.scenes import FrameClient
from tests.virtual_clock import run_virtually, virtually


class Room(Channel):
    @event("ping")
    def ping(self, payload: Any) -> Any:
        return {"pong": 1}


ANY = {"*": Room}


def frame(serializer: type[Serializer], *fields: Any) -> str:
    """A message as JSON text: join_ref, ref, topic, event, payload."""
    if serializer is V2Serializer:
        return json.dumps(fields)
    names = ("join_ref", "ref", "topic", "event", "payload")
    return json.dumps(dict(zip(names, fields, strict=True)))


def pushed(join_ref: bytes, ref: bytes, topic: bytes, name: bytes) -> bytes:
    """A binary push."""
    fields = (join_ref, ref, topic, name)
    return bytes([0, *map(len, fields)]) + b"".join(fields) + b"data"


class Client(FrameClient):
    """A client that sends frames.

    Attributes:
        said: What it was told: topic, ref, status and response of each reply.
    """

    def __init__(self, case: ChannelCase, serializer: type[Serializer] = V2Serializer) -> None:
        super().__init__(case, ANY, serializer)
        self.serializer = serializer

    def say(self, *fields: Any) -> None:
        self.connection.receive_frame(frame(self.serializer, *fields))

    @property
    def said(self) -> list[tuple[Any, ...]]:
        frames, self.frames[:] = list(self.frames), []
        told = []
        for each in frames:
            fields = json.loads(each.data)
            if self.serializer is V2Serializer:
                _, ref, topic, _, payload = fields
            else:
                ref, topic, payload = fields["ref"], fields["topic"], fields["payload"]
            told.append((topic, ref, payload["status"], payload["response"]))
        return told


BOTH = pytest.mark.parametrize("serializer", [V1Serializer, V2Serializer])


@BOTH
@pytest.mark.parametrize("letter", ["x", "é", "🐦"])
@virtually
async def test_a_topic_that_is_too_long_is_answered(serializer: type[Serializer], letter: str):
    """The client hears which name was too long and how long it may be; its connection lives."""
    async with ChannelCase() as case:
        client = Client(case, serializer)
        topic = letter * (1_024 // len(letter.encode()))

        client.say("1", "1", topic, "phx_join", {})
        client.say("2", "2", topic + letter, "phx_join", {})
        client.say("1", "3", topic, "ping", {})

        assert client.said == [
            (topic, "1", "ok", {}),
            (topic + letter, "2", "error", {"reason": "topic too long", "max_size": 1_024}),
            (topic, "3", "ok", {"pong": 1}),
        ]
        assert case.endpoint.counters == {"name_too_long": 1}


@BOTH
@virtually
async def test_an_event_that_is_too_long_is_answered(serializer: type[Serializer]):
    """Its channel never sees it, and lives."""
    async with ChannelCase() as case:
        client = Client(case, serializer)
        client.say("1", "1", "room:1", "phx_join", {})
        client.say("1", "2", "room:1", "e" * 1_025, {})
        client.say("1", "3", "room:1", "ping", {})

        assert client.said == [
            ("room:1", "1", "ok", {}),
            ("room:1", "2", "error", {"reason": "unknown event"}),
            ("room:1", "3", "ok", {"pong": 1}),
        ]


@BOTH
@pytest.mark.parametrize("field", ["ref", "join_ref"])
@pytest.mark.parametrize(
    "ref",
    ["r" * 256, "é" * 128, 10**300, ["r" * 300], {"r": "r" * 300}],
    ids=["str", "wide", "int", "list", "dict"],
)
@virtually
async def test_a_join_with_a_ref_that_is_too_long_costs_its_sender_the_connection(
    serializer: type[Serializer], field: str, ref: Any
):
    """Its channel would send it with everything."""
    async with ChannelCase() as case:
        client = Client(case, serializer)
        refs = {"join_ref": "1", "ref": "1", field: ref}

        with pytest.raises(InvalidMessage, match="a ref"):
            client.say(refs["join_ref"], refs["ref"], "room:1", "phx_join", {})

        assert client.said == []
        assert client.connection.runners == []


@virtually
async def test_a_topic_that_is_too_long_is_joined_by_nobody(caplog: pytest.LogCaptureFixture):
    """Whatever else is said of it is answered as for any topic that nobody joined."""
    async with ChannelCase() as case:
        client = FrameClient(case, {"room:*": Room}, V2Serializer)
        topic, other = "room:" + "x" * 1_024, "y" * 100_000
        for each, event_name in (
            (topic, "ping"),
            (topic, "phx_leave"),
            (other, "phx_join"),
            (other, "ping"),
            (other, "e" * 2_000),
        ):
            client.send("1", "1", each, event_name, {})

        told = [json.loads(each.data)[4] for each in client.frames]
        assert [(each["status"], each["response"]) for each in told] == [
            ("error", {"reason": "unmatched topic"}),
            ("ok", {}),
            ("error", {"reason": "unmatched topic"}),
            ("error", {"reason": "unmatched topic"}),
            ("error", {"reason": "unknown event"}),
        ]
        assert len(caplog.text) < 1_000


@BOTH
@virtually
async def test_a_ref_may_be_any_short_value(serializer: type[Serializer]):
    """Clients number their messages, or name them as they like."""
    async with ChannelCase() as case:
        for ref in ("r" * 255, "é" * 127, "", 7, 1.5, True, None, ["a", 1], {"a": None}):
            client = Client(case, serializer)
            client.say(ref, ref, "room:1", "phx_join", {})
            assert client.said == [("room:1", ref, "ok", {})]


@virtually
async def test_limits_below_what_a_binary_frame_carries():
    """Each form of a message passes by the same door."""
    pubsub = PubSub(name_limits=NameLimits(max_topic_size=64, max_event_size=64, max_ref_size=64))
    async with ChannelCase(Endpoint({}, pubsub=pubsub)) as case:
        client = Client(case)
        client.connection.receive_frame(pushed(b"1", b"1", b"t" * 65, b"phx_join"))
        client.connection.receive_frame(pushed(b"1", b"2", b"t" * 64, b"e" * 65))
        with pytest.raises(InvalidMessage, match="a ref of at most 64 bytes, got 65 bytes"):
            client.connection.receive_frame(pushed(b"1", b"r" * 65, b"t", b"phx_join"))

        assert client.said == [
            ("t" * 65, "1", "error", {"reason": "topic too long", "max_size": 64}),
            ("t" * 64, "2", "error", {"reason": "unknown event"}),
        ]


class Text(str):
    pass


@pytest.mark.parametrize(
    "message",
    [
        ("1", "1", 7, "ping"),
        ("1", "1", "room:1", None),
        ("1", "1", "room:\ud800", "phx_join"),
        ("1", "1", "room:1", "\udfff"),
        ("1", "\ud800", "room:1", "phx_join"),
        ("\ud800", "1", "room:1", "phx_join"),
        ("1", b"1", "room:1", "phx_join"),
        ("1", "1", b"room:1", "phx_join"),
    ],
    ids=ascii,
)
@virtually
async def test_what_a_decoder_of_ones_own_lets_pass_is_refused(message: tuple[Any, ...]):
    """An application's own serializer, too, can give nobody a name that is none."""
    async with ChannelCase() as case:
        client = FrameClient(case, ANY, V2Serializer)

        join_ref, ref, topic, name = message

        with pytest.raises(InvalidMessage):
            client.connection.receive(Message(join_ref, ref, topic, name, {}))

        assert (client.frames, client.connection.runners) == ([], [])


@virtually
async def test_a_decoder_may_give_other_text():
    """A subclass of str is its characters."""
    async with ChannelCase() as case:
        client = FrameClient(case, ANY, V2Serializer)
        client.send("1", "1", Text("room:1"), Text("phx_join"), {})

        (runner,) = client.connection.runners
        assert (runner.topic, type(runner.topic)) == ("room:1", str)


@virtually
async def test_what_a_connection_remembers_of_topics_is_bounded():
    """A client may have been told of 1,000 topics; a megabyte of names at most."""
    online = Presence()

    class Member(Channel):
        presence = TrackJoins(online, id=lambda channel: "alice")

    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        client = FrameClient(case, {"*": Member}, V2Serializer)
        for number in range(20):
            for topic in (f"{number:1024}", f"{number:1025}", "x" * 100_000 + str(number)):
                client.send("1", "1", topic, "phx_join", {})
                await online.settled()
                client.send("1", "2", topic, "phx_leave", {})
                await case.settled()
        kept = client.connection._holdings

        assert kept is not None
        assert len(kept) == 20
        assert max(map(len, kept)) * MAX_KEPT_TOPICS <= 1_024_000


fields = st.one_of(
    st.text(max_size=3_000),
    st.sampled_from(["room:1", "phx_join", "ping", "x" * 1_024, "x" * 1_025, "é" * 513, "r" * 256]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=200), max_size=3),
)


@given(st.lists(st.tuples(fields, fields, fields, fields, st.just({})), max_size=6))
def test_whatever_a_client_calls_things(messages: list[tuple[Any, ...]]):
    """It is answered or disconnected; nothing else is raised, and nothing long is kept."""

    async def scene() -> None:
        async with ChannelCase() as case:
            client = Client(case)
            for message in messages:
                try:
                    client.connection.receive_frame(msgspec.json.encode(message).decode())
                except InvalidMessage:
                    break
            for runner in client.connection.runners:
                assert len(runner.topic.encode()) <= 1_024
                assert len(json.dumps(runner.join_ref, ensure_ascii=False).encode()) <= 257 * 2
            assert all(len(each) < 20_000 for each in client.frames)

    run_virtually(scene())


# What is declared.


class Named(str):
    pass


def test_patterns_are_text():
    """A route that no topic can match is refused where it is declared."""
    for channels in ({7: Room}, {b"room:*": Room}, {None: Room}, {"room:\ud800": Room}):
        with pytest.raises(ConfigurationError, match="topic pattern: expected"):
            Router(channels)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="topic pattern: expected"):
            Endpoint({"/": type("AnySocket", (Socket,), {"channels": channels})})
    assert Router({Named("room:*"): Route(Room)}).has_route("room:1")


def test_handlers_are_declared_for_text():
    """Whoever forgets the event is told at once."""
    for name in (7, b"ping", None, lambda self, payload: None):
        for declare in (event, intercept):
            with pytest.raises(ConfigurationError, match=r"expected text|write @"):
                declare(name)  # type: ignore[arg-type]


@virtually
async def test_an_event_of_other_text_has_a_handler():
    """It is declared under its characters."""

    class PingRoom(Channel):
        @event(Named("ping"))
        def ping(self, payload: Any) -> Any:
            return {}

    (name,) = PingRoom.event_handlers
    assert (name, type(name)) == ("ping", str)


@pytest.mark.parametrize("given_id", [7, b"users:1", "users:\ud800", "u" * 1_025], ids=ascii)
@virtually
async def test_an_id_that_is_no_topic(given_id: Any):
    """Nobody could disconnect its connections."""

    class IdSocket(Socket):
        def id(self) -> str:
            return given_id  # type: ignore[no-any-return]

    async with ChannelCase() as case:
        with pytest.raises(TypeError, match="id returned"):
            await case.connect(IdSocket)


@virtually
async def test_an_id_of_other_text():
    """It is the topic of its characters."""

    class IdSocket(Socket):
        def id(self) -> str:
            return Named("users:1")

    async with ChannelCase() as case:
        client = await case.connect(IdSocket)
        case.broadcast("users:1", "disconnect")
        await client.assert_closed(1001)


@virtually
async def test_a_client_with_a_key_that_is_too_long_is_refused_by_track_joins():
    """It is no crash of ours, with limits of the application's own."""
    online = Presence()

    class Member(Channel):
        presence = TrackJoins(online, id=[("params", "name")])

    class AnySocket(Socket):
        channels = {"*": Member}

    endpoint = Endpoint(
        {"/": AnySocket}, presences=[online], name_limits=NameLimits(max_key_size=36)
    )
    async with ChannelCase(endpoint) as case:
        alice = await case.connect(AnySocket, {"browser_id": "b" * 64})
        for params in ({"name": "a" * 37}, {}):
            with pytest.raises(JoinRefused, match="invalid key"):
                await alice.join("room:1", params)
        await alice.join("room:1", {"name": "a" * 36})

        assert online.count_users("room:1") == 1
