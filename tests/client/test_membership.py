"""One topic of a client: joins, rejoins, pushes that wait; on a clock of the test."""

from __future__ import annotations

from typing import Any

import pytest

from roost.client.events import PushFailed, Replied
from roost.client.exceptions import (
    AlreadyJoined,
    BufferFull,
    ChannelEnded,
    JoinRejected,
    JoinTimedOut,
    PushInterrupted,
    PushRejected,
    PushTimedOut,
)
from roost.client.membership import (
    Ended,
    Joined,
    JoinFailed,
    Membership,
    ParamsNeeded,
    PresenceEvents,
    Received,
)
from roost.exceptions import FieldTooLong, NotStarted, UnsupportedPayload
from roost.wire.payload import JsonPayload, keep
from tests.client.scene import Scene
from tests.clients import V1, V2

CRASHED = {"reason": "join crashed"}


def reconnect(scene: Scene) -> None:
    """Lose the connection, and have another."""
    scene.lose()
    scene.advance(1)
    scene.connected()


def errors(scene: Scene) -> list[type[Exception]]:
    """Of the pushes that failed."""
    return [type(event.error) for event in scene.take(PushFailed)]


def heard(scene: Scene) -> list[Any]:
    """The payloads that came."""
    return [event.message.payload for event in scene.take(Received)]


# Joins.


@pytest.mark.parametrize("vsn", [V1, V2])
def test_a_join(vsn: str):
    """Its ref is its join_ref, which all messages of the channel carry."""
    scene = Scene(vsn).connected()
    room = scene.join(params={"since": 7})
    assert scene.sent() == [("1", "1", "room:1", "phx_join", {"since": 7})]

    scene.reply("1", {"hello": "alice"})
    assert scene.take(Joined) == [Joined(room, {"hello": "alice"}, is_rejoin=False)]
    scene.push(room, "shout", {"body": "hi"})
    assert scene.sent() == [("1", "2", "room:1", "shout", {"body": "hi"})]


def test_a_join_waits_for_the_connection():
    """It is sent when there is one, once."""
    scene = Scene()
    scene.protocol.connect()
    room = scene.join()
    scene.advance(5)
    assert scene.sent() == []

    scene.connected()

    assert scene.sent() == [("1", "1", "room:1", "phx_join", {})]
    scene.reply("1")
    assert scene.state(room) == "joined"


def test_a_first_join_that_is_refused():
    """The channel is over, and the topic free."""
    scene = Scene().connected()
    room = scene.join()
    scene.reply("1", {"reason": "full"}, status="error")

    (failed,) = scene.take(JoinFailed)
    assert isinstance(failed.error, JoinRejected)
    assert failed.error.response == {"reason": "full"}
    assert scene.state(room) == "closed"
    scene.joined()


def test_a_first_join_that_is_not_answered():
    """It is left, as the server may accept it later, and a late answer changes nothing."""
    scene = Scene().connected()
    room = scene.join(timeout=10)
    scene.sent()
    scene.advance(10)

    (failed,) = scene.take(JoinFailed)
    assert isinstance(failed.error, JoinTimedOut)
    assert scene.sent() == [("1", "2", "room:1", "phx_leave", {})]
    scene.reply("1")
    assert scene.state(room) == "closed"
    assert scene.take(Joined) == []


def test_a_first_join_has_one_deadline():
    """Connections that come and go meanwhile don't prolong it."""
    scene = Scene().connected()
    scene.join(timeout=10)
    for _ in range(4):
        scene.advance(2)
        reconnect(scene)

    assert len(scene.take(JoinFailed)) == 1


def test_a_topic_is_joined_once():
    """A second channel of it would end the first one at the server."""
    scene = Scene().connected()
    scene.join()
    with pytest.raises(AlreadyJoined, match="room:1"):
        scene.join()


def test_parameters_are_asked_for_at_each_join():
    """So that a token in them is a fresh one; an answer that comes too late is not used."""
    scene = Scene().connected()
    room = scene.join(params=None)
    (needed,) = scene.take(ParamsNeeded)
    assert scene.sent() == []
    room.provide(needed.attempt, JsonPayload(b'{"token":1}'))
    assert scene.sent() == [("1", "1", "room:1", "phx_join", {"token": 1})]
    scene.reply("1")

    reconnect(scene)
    (first,) = scene.take(ParamsNeeded)
    reconnect(scene)
    (second,) = scene.take(ParamsNeeded)
    room.provide(first.attempt, JsonPayload(b'{"token":2}'))
    room.provide(second.attempt, JsonPayload(b'{"token":3}'))
    assert scene.sent() == [("2", "2", "room:1", "phx_join", {"token": 3})]


def test_parameters_that_cannot_be_had():
    """A rejoin without them is tried again later."""
    scene = Scene().connected()
    room = scene.join(params=None)
    (needed,) = scene.take(ParamsNeeded)
    room.provide(needed.attempt, JsonPayload(b"{}"))
    scene.reply("1")
    reconnect(scene)
    (needed,) = scene.take(ParamsNeeded)

    room.provide_nothing(needed.attempt, scene.now)

    scene.advance(1)
    assert len(scene.take(ParamsNeeded)) == 1


# Rejoins.


def test_it_is_joined_again_on_each_connection():
    """At once, with a join_ref of its own."""
    scene = Scene().connected()
    room = scene.joined()
    scene.take(Joined)
    reconnect(scene)
    assert scene.sent() == [("2", "2", "room:1", "phx_join", {})]

    scene.reply("2")
    assert scene.take(Joined) == [Joined(room, {}, is_rejoin=True)]


def test_a_channel_that_crashes_is_joined_later_and_later():
    """The delays are those of phoenix.js, as long as it does not succeed."""
    scene = Scene(heartbeat_interval=1_000).connected()
    room = scene.joined()
    scene.say("1", "1", "room:1", "phx_error")
    for delay in (1, 2, 5, 10, 10):
        scene.advance(delay - 0.01)
        assert scene.sent() == []
        scene.advance(0.01)
        assert [event for *_, event, _ in scene.sent()] == ["phx_join"]
        scene.reply(room.join_ref, CRASHED, status="error")


def test_an_accepted_rejoin_is_followed_by_the_first_delay():
    """A channel that crashes once in a while comes back fast each time."""
    scene = Scene().connected()
    room = scene.joined()
    for _ in range(3):
        scene.say(room.join_ref, None, "room:1", "phx_error")
        scene.advance(1)
        scene.sent()
        scene.reply(room.join_ref)
        assert scene.state(room) == "joined"


def test_a_rejoin_that_is_not_answered():
    """It is left, and tried again, for ever."""
    scene = Scene().connected()
    room = scene.joined(timeout=10)
    reconnect(scene)
    scene.sent()
    scene.advance(10)
    assert scene.sent() == [("2", "3", "room:1", "phx_leave", {})]
    scene.advance(1)
    assert scene.sent() == [("4", "4", "room:1", "phx_join", {})]

    scene.reply("2")  # late
    assert scene.state(room) == "joining"
    scene.reply("4")
    assert scene.state(room) == "joined"


def test_a_channel_that_is_refused_again_and_again_is_over():
    """Whoever was thrown out is told, after some attempts."""
    scene = Scene(max_refusals=3).connected()
    room = scene.joined()
    reconnect(scene)
    for delay in (1, 2, 0):
        assert scene.take(Ended) == []
        scene.sent()
        scene.reply(room.join_ref, {"reason": "banned"}, status="error")
        scene.advance(delay)

    (ended,) = scene.take(Ended)
    assert isinstance(ended.error, JoinRejected)
    assert scene.state(room) == "closed"


def test_a_join_that_crashes_is_no_refusal():
    """It is the server's fault, and tried for ever."""
    scene = Scene(max_refusals=1).connected()
    room = scene.joined()
    reconnect(scene)
    for _ in range(20):
        scene.sent()
        scene.reply(room.join_ref, CRASHED, status="error")
        scene.advance(10)

    assert scene.take(Ended) == []


# Messages of earlier joins.


@pytest.mark.parametrize("event", ["shout", "phx_close", "phx_error", "presence_state"])
def test_what_an_earlier_join_says_is_dropped(event: str):
    """Its end is not that of the present one."""
    scene = Scene().connected()
    room = scene.joined()
    scene.say("1", "1", "room:1", "phx_error")
    scene.advance(1)
    scene.sent()
    scene.reply("2")

    scene.say("1", "1", "room:1", event, {})

    assert scene.state(room) == "joined"
    assert heard(scene) == []
    assert scene.protocol.stale_count == 1


@pytest.mark.parametrize("event", ["phx_close", "phx_error"])
def test_version_1_says_the_join_in_the_ref(event: str):
    """There the end of an earlier join is known by its ref."""
    scene = Scene(V1).connected()
    room = scene.joined()
    scene.say(None, "1", "room:1", "phx_error")
    assert scene.state(room) == "errored"
    scene.advance(1)
    scene.sent()
    scene.reply("2")

    scene.say(None, "1", "room:1", event)

    assert scene.state(room) == "joined"


def test_broadcasts_belong_to_no_join():
    """They have no join_ref, and are heard."""
    scene = Scene().connected()
    scene.joined()
    scene.say(None, None, "room:1", "shout", {"body": "hi"})
    scene.say("1", None, "room:1", "shout", {"body": "for you"})
    scene.say(None, None, "room:2", "shout", {"body": "for others"})

    assert heard(scene) == [{"body": "hi"}, {"body": "for you"}]


def test_bytes():
    """Binary pushes, replies and broadcasts are bytes in both directions."""
    scene = Scene().connected()
    room = scene.joined()
    push = scene.push(room, "data", b"\x00\xff")
    assert scene.sent() == [("1", "2", "room:1", "data", b"\x00\xff")]
    scene.hear(b"\x01\x01\x01\x06\x0212room:1ok\xfe")
    scene.hear(b"\x00\x01\x06\x041room:1pushA")
    scene.hear(b"\x02\x06\x05room:1shoutB")

    assert scene.take(Replied) == [Replied(push, b"\xfe")]
    assert heard(scene) == [b"A", b"B"]


def test_version_1_of_supabase_has_messages_without_a_ref():
    """And with a join_ref, which Phoenix leaves out there."""
    scene = Scene(V1).connected()
    scene.joined()
    scene.hear('{"topic":"room:1","event":"system","payload":{"n":1}}')
    scene.hear('{"topic":"room:1","event":"say","payload":{"n":2},"ref":null,"join_ref":"1"}')
    scene.hear('{"topic":"room:1","event":"say","payload":{"n":3},"ref":null,"join_ref":"0"}')

    assert heard(scene) == [{"n": 1}, {"n": 2}]


def test_what_users_of_supabase_broadcast_in_frames_of_bytes():
    """It looks as it does in JSON."""
    scene = Scene().connected()
    scene.joined()
    scene.hear(b'\x04\x06\x03\x02\x01room:1sayXX{"a":1}')
    scene.hear(b"\x04\x06\x03\x00\x00room:1say\xff")

    assert heard(scene) == [
        {"type": "broadcast", "event": "say", "payload": {"a": 1}},
        {"type": "broadcast", "event": "say", "payload": b"\xff"},
    ]


# Pushes.


def test_replies():
    """An ok reply is the response; another status is an error with it."""
    scene = Scene().connected()
    room = scene.joined()
    first, second = scene.push(room), scene.push(room, "ping")
    scene.sent()
    scene.reply(second.ref, {"reason": "no"}, status="error")
    scene.reply(first.ref, {"body": "hi"})

    assert scene.take(Replied) == [Replied(first, {"body": "hi"})]
    (failed,) = scene.take(PushFailed)
    assert isinstance(failed.error, PushRejected)
    assert (failed.error.event, failed.error.response) == ("ping", {"reason": "no"})


def test_pushes_wait_for_the_join():
    """They are sent after it, in order, with its join_ref."""
    scene = Scene().connected()
    room = scene.join()
    for number in range(3):
        scene.push(room, payload={"n": number})
    assert scene.sent() == [("1", "1", "room:1", "phx_join", {})]
    scene.reply("1")

    assert [(join_ref, payload["n"]) for join_ref, *_, payload in scene.sent()] == [
        ("1", 0),
        ("1", 1),
        ("1", 2),
    ]


def test_pushes_that_no_connection_took_go_with_the_next_one():
    """In order, before what was pushed since; nothing is sent twice."""
    scene = Scene().connected()
    room = scene.joined()
    scene.push(room, payload={"n": 0})
    scene.sent()
    scene.push(room, payload={"n": 1})
    scene.push(room, payload={"n": 2})
    scene.lose()
    scene.push(room, payload={"n": 3})
    scene.advance(1)
    scene.connected()
    scene.sent()
    scene.reply(room.join_ref)

    assert [payload["n"] for *_, payload in scene.sent()] == [1, 2, 3]
    assert errors(scene) == [PushInterrupted]


def test_pushes_of_a_channel_that_crashed():
    """What was sent gets no reply any more; what was not goes after the rejoin."""
    scene = Scene().connected()
    room = scene.joined()
    scene.push(room, payload={"n": 0})
    scene.sent()
    scene.push(room, payload={"n": 1})
    scene.say("1", "1", "room:1", "phx_error")
    scene.push(room, payload={"n": 2})
    assert scene.sent() == []
    assert errors(scene) == [PushInterrupted]
    scene.advance(1)
    scene.sent()
    scene.reply(room.join_ref)

    assert [payload["n"] for *_, payload in scene.sent()] == [1, 2]


def test_a_push_has_its_time():
    """Sent or not; what was not sent then never is."""
    scene = Scene().connected()
    room = scene.joined()
    sent = scene.push(room, timeout=5)
    scene.sent()
    scene.lose()
    scene.take(PushFailed)
    unsent = scene.push(room, "late", timeout=5)
    scene.advance(5)

    (failed,) = scene.take(PushFailed)
    assert failed.push is unsent
    assert isinstance(failed.error, PushTimedOut)
    assert not failed.error.was_sent
    assert sent.is_over
    scene.connected()
    scene.sent()
    scene.reply(room.join_ref)
    assert scene.sent() == []


def test_a_push_without_a_reply_in_time():
    """A late reply is passed over."""
    scene = Scene().connected()
    room = scene.joined()
    push = scene.push(room, timeout=5)
    scene.sent()
    scene.advance(5)
    scene.reply(push.ref)

    (failed,) = scene.take(PushFailed)
    assert isinstance(failed.error, PushTimedOut)
    assert failed.error.was_sent
    assert scene.take(Replied) == []


def test_a_push_that_nobody_waits_for_any_more():
    """It is not sent if it was not; else its reply is passed over."""
    scene = Scene().connected()
    room = scene.joined()
    first, second = scene.push(room, "first"), scene.push(room, "second")
    room.cancel(first)
    assert [event for *_, event, _ in scene.sent()] == ["second"]
    room.cancel(second)
    scene.reply(second.ref)

    assert scene.take(Replied) == []


def test_messages_without_a_reply_wait_as_long_as_it_takes():
    """They have no deadline unless they are given one."""
    scene = Scene().connected()
    room = scene.joined()
    scene.lose()
    scene.push(room, "tick", timeout=None, wants_reply=False)
    scene.advance(3_600)
    scene.connected()
    scene.sent()
    scene.reply(room.join_ref)

    assert [event for *_, event, _ in scene.sent()] == ["tick"]


def test_what_waits_has_a_bound():
    """Beyond it a push is refused; those that were sent or given up make room."""
    scene = Scene(max_buffer_count=2).connected()
    room = scene.join()
    first, _ = scene.push(room), scene.push(room)
    with pytest.raises(BufferFull):
        scene.push(room)
    room.cancel(first)
    scene.push(room)
    with pytest.raises(BufferFull):
        scene.push(room)
    scene.reply(room.join_ref)
    with pytest.raises(BufferFull):
        scene.push(room)
    scene.sent()
    scene.push(room)


def test_what_cannot_be_said_is_refused_where_it_is_pushed():
    """And not when the connection takes it."""
    scene = Scene().connected()
    room = scene.joined()
    with pytest.raises(FieldTooLong):
        scene.push(room, "x" * 256, b"")
    scene = Scene(V1).connected()
    room = scene.joined()
    with pytest.raises(UnsupportedPayload):
        scene.push(room, "data", b"")


def test_pushes_before_the_join_was_asked_for():
    """They are refused: nobody might ever send them."""
    room = Scene().connected().protocol.membership("room:1", JsonPayload(b"{}"), PresenceEvents())
    with pytest.raises(NotStarted, match="join"):
        room.push("shout", keep({}), 0.0, timeout=1, wants_reply=True)


# Ends.


def test_leaving():
    """The channel is over at once; the answer tells that the server knows."""
    scene = Scene().connected()
    room = scene.joined()
    asked = scene.push(room)
    scene.push(room, "bye", wants_reply=False)
    left = room.leave(5, scene.now)
    assert scene.take(Ended) == [Ended(room, None, 0)]
    assert [event for *_, event, _ in scene.sent()] == ["shout", "bye", "phx_leave"]
    with pytest.raises(ChannelEnded):
        scene.push(room)

    assert left is not None
    scene.reply(left.ref)
    assert scene.take(Replied) == [Replied(left, {})]
    assert errors(scene) == [ChannelEnded]
    assert asked.is_over


def test_leaving_and_joining_at_once():
    """The answers of the channel that was left do not touch the new one."""
    scene = Scene().connected()
    first = scene.joined()
    first.leave(5, scene.now)
    second = scene.join()
    assert [event for *_, event, _ in scene.sent()] == ["phx_leave", "phx_join"]
    scene.reply(second.join_ref)
    scene.reply("2")
    scene.say("1", "1", "room:1", "phx_close")

    assert scene.state(second) == "joined"


@pytest.mark.parametrize("is_sent", [True, False])
def test_leaving_while_the_connection_is_lost(is_sent: bool):
    """Whoever waits for the answer is told; the next connection knows nothing of the channel."""
    scene = Scene().connected()
    room = scene.joined()
    room.leave(5, scene.now)
    if is_sent:
        scene.sent()
    reconnect(scene)

    assert len(scene.take(PushFailed)) == 1
    assert scene.sent() == []


def test_leaving_without_a_connection():
    """There is nobody to be told."""
    scene = Scene().connected()
    room = scene.joined()
    scene.push(room, "bye", wants_reply=False)
    scene.lose()

    assert room.leave(5, scene.now) is None
    assert scene.take(Ended) == [Ended(room, None, dropped_count=1)]


def test_leaving_while_joining():
    """The server is told, as it may accept the join, and whoever waits for that is told."""
    scene = Scene().connected()
    room = scene.join()
    scene.sent()
    room.leave(5, scene.now)

    assert [event for *_, event, _ in scene.sent()] == ["phx_leave"]
    (failed,) = scene.take(JoinFailed)
    assert isinstance(failed.error, ChannelEnded)


def test_the_server_ends_a_channel():
    """It does not come back by itself, and pushes that wait are told."""
    scene = Scene().connected()
    room = scene.joined()
    scene.push(room)
    scene.sent()
    scene.push(room)
    scene.push(room, "tick", wants_reply=False)
    scene.say("1", "1", "room:1", "phx_close")

    assert scene.take(Ended) == [Ended(room, None, dropped_count=1)]
    assert errors(scene) == [ChannelEnded, ChannelEnded]
    reconnect(scene)
    assert scene.sent() == []


def test_nothing_is_left_behind():
    """After thousands of pushes and joins, a client holds what it held before."""
    scene = Scene().connected()
    for _ in range(300):
        room: Membership = scene.joined()
        push = scene.push(room)
        scene.sent()
        scene.reply(push.ref)
        left = room.leave(5, scene.now)
        assert left is not None
        scene.sent()
        scene.reply(left.ref)
    line = scene.protocol._line

    assert (line.sent, line.topics, line.is_idle) == ({}, {}, True)
    assert len(line.timers._at) == 2
    assert len(line.timers._heap) < 100
