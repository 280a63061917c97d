"""What an application writes: joins, handlers, replies, pushes, broadcasts, interceptions."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from roost import (
    Broadcast,
    Channel,
    JoinRefused,
    ReplyError,
    ReplyRef,
    Route,
    Socket,
    event,
    intercept,
)
from roost.exceptions import ChannelClosed, ConfigurationError, NoReplyRef, NotJoined, PayloadError
from roost.testing import ChannelCase
from roost.testing.transport import parse_frame
from roost.wire.messages import Message
from roost.wire.serializers import V1Serializer, V2Serializer
from tests.channels.scenes import FrameClient, Join, Notes, said, ticks

# Joining.


@pytest.mark.conforms("CT-4")
async def test_an_accepted_join(case: ChannelCase):
    """The client gets what join returned; the channel has its topic, socket and merged assigns."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> Any:
            assert not self.is_joined
            return {"topic": topic, "params": params}

    class UserSocket(Socket):
        channels = {"room:*": Route(RoomChannel, {"kind": "room"})}

        def connect(self, params: Any, info: Any) -> None:
            self.assigns["user_id"] = params["user_id"]

    alice = await case.connect(UserSocket, {"user_id": "alice"})
    room = await alice.join("room:1", {"since": 7})

    assert room.response == {"topic": "room:1", "params": {"since": 7}}
    channel = room.channel
    assert type(channel) is RoomChannel
    assert (channel.topic, channel.socket, channel.is_joined) == ("room:1", alice.socket, True)
    assert channel.assigns == {"user_id": "alice", "kind": "room"}
    assert repr(channel).endswith("RoomChannel 'room:1'>")


async def test_join_params_stay(join: Join):
    """A channel may look up what its client joined with as long as it lives."""
    room = await join(Channel, params={"since": 7})

    assert room.channel.join_params == {"since": 7}


@pytest.mark.conforms("CT-6")
async def test_a_refused_join(join: Join):
    """JoinRefused is an error reply with its payload, and nothing else follows."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            raise JoinRefused({"reason": "unauthorized"})

    with pytest.raises(JoinRefused) as refused:
        await join(RoomChannel)
    assert refused.value.payload == {"reason": "unauthorized"}


async def test_a_join_refused_without_a_payload(join: Join):
    """A bare JoinRefused is an error reply with an empty object."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            raise JoinRefused

    with pytest.raises(JoinRefused) as refused:
        await join(RoomChannel)
    assert refused.value.payload == {}


@pytest.mark.conforms("CT-7")
@pytest.mark.parametrize("garbage", ["ok", 7, True, ["list"], ("ok", {}), {"load": float("nan")}])
async def test_a_join_that_returns_garbage(
    join: Join, garbage: Any, caplog: pytest.LogCaptureFixture
):
    """What is no response is a crash of the join: the log has the reason, the client none."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> Any:
            return garbage

    with pytest.raises(JoinRefused) as refused:
        await join(RoomChannel)
    assert refused.value.payload == {"reason": "join crashed"}
    assert "crashed in join" in caplog.text


async def test_a_join_that_raises(join: Join, caplog: pytest.LogCaptureFixture):
    """An exception is a crash of the join; the traceback is in the log and stays here."""

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            raise LookupError("secrets of the server")

    with pytest.raises(JoinRefused) as refused:
        await join(RoomChannel)
    assert refused.value.payload == {"reason": "join crashed"}
    assert "secrets of the server" in caplog.text


@pytest.mark.parametrize("response", [{"a": [1, None]}, {}, b"\x00\xff"])
async def test_a_join_may_return_a_dict_or_bytes(join: Join, response: Any):
    """What join returns is the response of its reply."""

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> Any:
            return response

    assert (await join(RoomChannel)).response == response


async def test_a_join_that_returns_nothing(join: Join):
    """None is an empty response."""
    assert (await join(Channel)).response == {}


async def test_bytes_cant_answer_a_join_of_version_1(case: ChannelCase):
    """A client that can't be told of its join has not joined: it crashed."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> bytes:
            return b"\x00"

    alice = FrameClient(case, {"room:*": RoomChannel}, V1Serializer)
    alice.send(None, "1", "room:1", "phx_join", {})
    await ticks()

    assert '"response":{"reason":"join crashed"}' in alice.frames[0].text
    assert case.endpoint.pubsub.subscriptions("room:1") == ()


@pytest.mark.conforms("CT-40")
async def test_a_route_has_assigns(case: ChannelCase):
    """The route's assigns are laid over the connection's; neither of the two is changed."""

    class UserSocket(Socket):
        channels = {
            "room:*": Route(Channel, {"role": "member"}),
            "lobby": Channel,
        }

        def connect(self, params: Any, info: Any) -> None:
            self.assigns.update(user_id="alice", role="guest")

    alice = await case.connect(UserSocket)
    room, lobby = await alice.join("room:1"), await alice.join("lobby")
    room.channel.assigns["muted"] = True

    assert room.channel.assigns == {"user_id": "alice", "role": "member", "muted": True}
    assert lobby.channel.assigns == {"user_id": "alice", "role": "guest"}
    assert alice.socket.assigns == {"user_id": "alice", "role": "guest"}
    assert (await alice.join("room:2")).channel.assigns == {"user_id": "alice", "role": "member"}


@pytest.mark.parametrize("method", ["push", "broadcast", "broadcast_from", "reply"])
async def test_nothing_is_said_in_join(join: Join, method: str):
    """In join the client does not know yet whether it is in: the error names after_join."""
    errors = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            with pytest.raises(NotJoined, match="after_join") as error:
                getattr(self, method)("hello")
            errors.add(error.value)

    await join(RoomChannel)
    assert errors.all()[0].topic == "room:1"


async def test_after_join_runs_behind_the_reply(join: Join):
    """What after_join pushes comes after the join's reply, and before any message is handled."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.assigns["log"] = ["join"]

        async def after_join(self) -> None:
            await asyncio.sleep(0)
            self.assigns["log"].append("after_join")
            self.push("welcome")

        @event("log")
        def log(self, payload: Any) -> Any:
            return {"log": self.assigns["log"]}

    room = await join(RoomChannel)
    ref = room.push("log")
    await room.assert_reply(ref, "ok", {"log": ["join", "after_join"]})
    await room.assert_push("welcome", {})


async def test_after_join_runs_before_what_waited_for_the_join(case: ChannelCase):
    """What a client sent behind its join is handled when after_join is done, an async one, too."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await gate.wait()

        async def after_join(self) -> None:
            await asyncio.sleep(0)
            self.push("welcome")

        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {}

    alice = case.client(Socket())
    joining = asyncio.ensure_future(alice.join("room:1", channel=RoomChannel))
    await ticks()
    alice.send("1", "2", "room:1", "ping", {})
    gate.set()
    await joining
    await ticks()

    assert said(alice) == ["welcome 1/", "reply ok 1/2"]


async def test_messages_wait_for_a_slow_join(case: ChannelCase):
    """A client may send before it has its join reply: that is handled behind it, in order."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await gate.wait()

        @event("ping")
        def ping(self, payload: Any) -> Any:
            return payload

    alice = case.client(Socket())
    joining = asyncio.ensure_future(alice.join("room:1", channel=RoomChannel))
    await ticks()
    alice.send("1", "2", "room:1", "ping", {"n": 1})
    alice.send("1", "3", "room:1", "ping", {"n": 2})
    await ticks()
    assert said(alice) == []

    gate.set()
    await joining
    assert said(alice) == ["reply ok 1/2", "reply ok 1/3"]


# Handlers and their replies.


@pytest.mark.conforms("CT-9")
async def test_a_handler_that_returns_nothing(join: Join):
    """A handler may push and leave the message without a reply."""

    class RoomChannel(Channel):
        @event("notify")
        def notify(self, payload: Any) -> None:
            self.push("noted", payload)

    room = await join(RoomChannel)
    ref = room.push("notify", {"n": 1})

    await room.assert_push("noted", {"n": 1})
    await room.refute_reply(ref, "ok", timeout=0)
    assert said(room.client) == []


@pytest.mark.conforms("CT-10")
@pytest.mark.parametrize("response", [{}, {"n": [1, {"x": None}]}, b"\x00\xff"])
async def test_what_a_handler_returns_is_its_reply(join: Join, response: Any):
    """A dict or bytes is an ok reply to the message, and nothing is pushed."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> Any:
            return response

        @event("ask_later")
        async def ask_later(self, payload: Any) -> Any:
            return response

    room = await join(RoomChannel)
    for name in ("ask", "ask_later"):
        ref = room.push(name)
        assert await room.assert_reply(ref, "ok") == response
    assert said(room.client) == []


@pytest.mark.parametrize("response", [{"reason": "no"}, "no", ["no"], b"\x00"])
async def test_an_error_reply(join: Join, response: Any):
    """ReplyError is an error reply with its payload; the channel lives on."""

    class RoomChannel(Channel):
        @event("ask")
        async def ask(self, payload: Any) -> None:
            raise ReplyError(response)

        @event("ask_inline")
        def ask_inline(self, payload: Any) -> None:
            raise ReplyError(response)

    room = await join(RoomChannel)
    for name in ("ask", "ask_inline", "ask"):
        ref = room.push(name)
        assert await room.assert_reply(ref, "error") == response


@pytest.mark.parametrize("result", ["ok", 7, True, ("ok", {}), {1, 2}, object()])
async def test_a_handler_that_returns_garbage(
    join: Join, result: Any, caplog: pytest.LogCaptureFixture
):
    """What is no reply is a crash, and the log says what was expected of which handler."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> Any:
            return result

    room = await join(RoomChannel)
    room.push("ask")

    await room.assert_errored()
    message = f"the handler of 'ask' returned {type(result).__name__}: expected a dict or bytes"
    assert message in caplog.text


async def test_a_reply_that_is_no_json(join: Join, caplog: pytest.LogCaptureFixture):
    """A reply that can't be encoded is the handler's mistake: it crashes there."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> Any:
            return {"load": float("nan")}

        @event("ask_wrongly")
        def ask_wrongly(self, payload: Any) -> Any:
            raise ReplyError({"load": float("nan")})

    for name in ("ask", "ask_wrongly"):
        room = await join(RoomChannel)
        room.push(name)
        await room.assert_errored()
    assert "nan is not a JSON number" in caplog.text


async def test_an_unknown_event_gets_an_error_reply(join: Join):
    """A client that asks for what there is not is told so; its channel lives on."""

    class RoomChannel(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {}

    room = await join(RoomChannel)
    ref = room.push("no such event")
    await room.assert_reply(ref, "error", {"reason": "unknown event"})

    ref = room.push("ping")
    await room.assert_reply(ref, "ok")


async def test_names_of_methods_are_no_events(join: Join):
    """Events are declared: a client can't call what happens to be a method."""

    class RoomChannel(Channel):
        def secret(self, payload: Any) -> Any:
            return {"secret": 42}

    room = await join(RoomChannel)
    for name in ("secret", "stop", "terminate", "_runner", "__init__"):
        ref = room.push(name)
        await room.assert_reply(ref, "error", {"reason": "unknown event"})


async def test_handle_in_gets_events_without_a_handler(join: Join):
    """One method may handle all other events, whatever they are called."""

    class RoomChannel(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {"by": "ping"}

        async def handle_in(self, event: str, payload: Any) -> Any:
            return {"by": "handle_in", "event": event, "payload": payload}

    room = await join(RoomChannel)
    ref = room.push("ping")
    await room.assert_reply(ref, "ok", {"by": "ping"})
    ref = room.push("anything", {"n": 1})
    await room.assert_reply(ref, "ok", {"event": "anything", "payload": {"n": 1}})


async def test_handlers_are_inherited_and_overridden(join: Join):
    """A subclass has the handlers of its bases; declaring the event again replaces one."""

    class Base(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {"by": "base"}

        @event("who")
        def who(self, payload: Any) -> Any:
            return {"by": "base"}

    class RoomChannel(Base):
        @event("ping")
        def better_ping(self, payload: Any) -> Any:
            return {"by": "room"}

    room = await join(RoomChannel)
    ref = room.push("ping")
    await room.assert_reply(ref, "ok", {"by": "room"})
    ref = room.push("who")
    await room.assert_reply(ref, "ok", {"by": "base"})


def test_two_handlers_for_one_event_are_refused():
    """One of the two would never run: that is an error where the class is defined."""
    with pytest.raises(ConfigurationError, match="two handlers for 'ping': ping and pong"):

        class RoomChannel(Channel):
            @event("ping")
            def ping(self, payload: Any) -> None: ...

            @event("ping")
            def pong(self, payload: Any) -> None: ...


async def test_one_handler_for_two_events(join: Join):
    """A method may be declared for several events: none of the declarations is lost."""

    class RoomChannel(Channel):
        @event("ping")
        @event("pong")
        def either(self, payload: Any) -> Any:
            return {}

    room = await join(RoomChannel)
    await room.assert_reply(room.push("ping"), "ok", timeout=0)
    await room.assert_reply(room.push("pong"), "ok", timeout=0)


async def test_the_payload_is_what_the_client_sent(join: Join):
    """A handler gets decoded JSON of any shape, or bytes."""

    class RoomChannel(Channel):
        @event("echo")
        def echo(self, payload: Any) -> Any:
            return {"type": type(payload).__name__}

    room = await join(RoomChannel)
    for payload in ({"a": 1}, [1], "text", 7, 1.5, True, None, b"\x00"):
        ref = room.push("echo", payload)
        await room.assert_reply(ref, "ok", {"type": type(payload).__name__})


# Replies by hand.


@pytest.mark.conforms("XCH-4")
async def test_a_reply_names_its_message(case: ChannelCase):
    """A reply has the message's topic and ref, the channel's join_ref, a status and a response."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> None:
            self.reply({"n": 1}, status="maybe")

    alice = FrameClient(case, {"room:*": RoomChannel}, V2Serializer)
    alice.join()
    alice.send(None, "7", "room:1", "ask", {})

    assert [frame.text for frame in alice.frames] == [
        '["1","7","room:1","phx_reply",{"status":"maybe","response":{"n":1}}]'
    ]


@pytest.mark.conforms("XCH-5")
async def test_a_reply_without_a_payload(join: Join):
    """A bare status is a reply with an empty object."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> None:
            self.reply()
            self.reply(status="error")

    room = await join(RoomChannel)
    ref = room.push("ask")

    assert await room.assert_reply(ref, "ok") == {}
    assert await room.assert_reply(ref, "error") == {}


@pytest.mark.conforms("XCH-6")
async def test_there_is_no_ref_without_a_message(join: Join):
    """Before the join and outside of a handler there is nothing to reply to; the error says why."""
    errors = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            with pytest.raises(NotJoined, match="join"):
                _ = self.ref
            errors.add("in join")

        def after_join(self) -> None:
            with pytest.raises(NoReplyRef, match=r"keep self\.ref"):
                _ = self.ref
            with pytest.raises(NoReplyRef):
                self.reply()
            errors.add("in after_join")

        @event("ask")
        def ask(self, payload: Any) -> Any:
            with pytest.raises(NoReplyRef):
                _ = self.ref
            errors.add("without a ref")

    room = await join(RoomChannel)
    room.client.send(room.join_ref, None, "room:1", "ask", {})

    assert errors.all() == ["in join", "in after_join", "without a ref"]


@pytest.mark.conforms("CT-12")
async def test_a_reply_later(join: Join):
    """A kept ref is answered by another task, when the handler has long returned."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> None:
            self.spawn(self.answer(self.ref, payload))

        async def answer(self, ref: ReplyRef, payload: Any) -> None:
            await gate.wait()
            ref.reply({"asked": payload["n"]})

    room = await join(RoomChannel)
    first, second = room.push("ask", {"n": 1}), room.push("ask", {"n": 2})
    await ticks()
    assert said(room.client) == []

    gate.set()
    await room.assert_reply(second, "ok", {"asked": 2})
    await room.assert_reply(first, "ok", {"asked": 1})


async def test_any_number_of_replies(join: Join):
    """A message may be answered as often as its client listens, by the channel or by its ref."""

    class RoomChannel(Channel):
        @event("ask")
        async def ask(self, payload: Any) -> Any:
            ref = self.ref
            for n in range(3):
                self.reply({"n": n}, status="progress")
                await asyncio.sleep(0)
            self.reply({"n": 3}, ref=ref)
            return {"n": 4}

    room = await join(RoomChannel)
    ref = room.push("ask")
    await room.assert_reply(ref, "ok", {"n": 4})
    assert said(room.client) == [*["reply progress 1/2"] * 3, "reply ok 1/2"]


@pytest.mark.parametrize("response", [None, "text", 7, [1], False])
async def test_a_reply_by_hand_is_any_json_value(join: Join, response: Any):
    """What a handler can't return as a reply, for None is no reply, it can say."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> None:
            self.reply(response)

    room = await join(RoomChannel)
    ref = room.push("ask")
    assert await room.assert_reply(ref, "ok", timeout=0) == response


async def test_a_message_without_a_ref_is_answered_too(join: Join):
    """A reply is sent even if the client gave no ref: a ref of null is echoed."""

    class RoomChannel(Channel):
        @event("ask")
        def ask(self, payload: Any) -> Any:
            return {}

        @event("ask by hand")
        def ask_by_hand(self, payload: Any) -> None:
            self.reply()

    room = await join(RoomChannel)
    for question in ("ask", "ask by hand"):
        room.client.send(room.join_ref, None, "room:1", question, {})
    assert said(room.client) == ["reply ok 1/", "reply ok 1/"]


# Pushes.


@pytest.mark.conforms("XCH-3")
async def test_a_push_on_the_wire(case: ChannelCase):
    """A push is written by the client's serializer, with the channel's join_ref and no ref."""

    class RoomChannel(Channel):
        @event("go")
        def go(self, payload: Any) -> None:
            self.push("pushed", {"n": 1})

    alice = FrameClient(case, {"room:*": RoomChannel}, V2Serializer)
    bob = FrameClient(case, {"room:*": RoomChannel}, V1Serializer)
    for client in (alice, bob):
        client.join()
        client.send("1", "2", "room:1", "go", {})

    assert alice.frames[0].text == '["1",null,"room:1","pushed",{"n":1}]'
    assert bob.frames[0].text == (
        '{"topic":"room:1","event":"pushed","payload":{"n":1},"ref":null}'
    )
    assert parse_frame(alice.frames[0]) == Message("1", None, "room:1", "pushed", {"n": 1})


async def test_a_join_without_a_join_ref(case: ChannelCase):
    """A client that joins without a join_ref gets pushes with its join's ref, as in Phoenix."""

    class RoomChannel(Channel):
        @event("go")
        def go(self, payload: Any) -> Any:
            self.push("pushed")
            return {}

    client = FrameClient(case, {"room:*": RoomChannel}, V2Serializer)
    client.send(None, "23", "room:1", "phx_join", {})
    client.send(None, "24", "room:1", "go", {})

    assert [frame.text for frame in client.frames] == [
        '[null,"23","room:1","phx_reply",{"status":"ok","response":{}}]',
        '["23",null,"room:1","pushed",{}]',
        '["23","24","room:1","phx_reply",{"status":"ok","response":{}}]',
    ]


@pytest.mark.parametrize(
    "payload", [None, [1], "text", 7, {"load": float("inf")}, {"blob": b"\x00"}]
)
async def test_a_push_that_is_no_json_object(join: Join, payload: Any):
    """What can't be pushed raises where it is given; the client gets nothing."""
    room = await join(Channel)
    with pytest.raises(PayloadError):
        room.channel.push("pushed", payload)
    assert said(room.client) == []


async def test_nothing_is_said_after_the_end(join: Join):
    """Whoever still holds an ended channel gets ChannelClosed for everything."""

    class RoomChannel(Channel):
        @event("keep")
        def keep(self, payload: Any) -> None:
            self.assigns["ref"] = self.ref

    room = await join(RoomChannel)
    room.push("keep")
    channel = room.channel
    await room.close()

    coroutine = asyncio.sleep(0)
    for use in (
        lambda: channel.push("hello"),
        lambda: channel.broadcast("hello"),
        lambda: channel.broadcast_from("hello"),
        lambda: channel.assigns["ref"].reply(),
        lambda: channel.send("hello"),
        lambda: channel.send_after(1, "hello"),
        lambda: channel.spawn(coroutine),
        lambda: channel.subscribe("news"),
        lambda: channel.unsubscribe("news"),
        lambda: channel.add_done_callback(print),
        lambda: channel.stop(),
    ):
        with pytest.raises(ChannelClosed, match="'room:1' has ended"):
            use()
    assert not channel.is_joined


# Broadcasts.


@pytest.mark.conforms("XCH-1")
async def test_broadcast_and_broadcast_from(join: Join):
    """A broadcast reaches the sender's own client, too, broadcast_from only the others."""
    alice, bob = await join(Channel), await join(Channel)

    alice.channel.broadcast("shout", {"n": 1})
    alice.channel.broadcast_from("shout", {"n": 2})

    assert alice.client.transport.received == [Broadcast("room:1", "shout", {"n": 1})]
    assert bob.client.transport.received == [
        Broadcast("room:1", "shout", {"n": 1}),
        Broadcast("room:1", "shout", {"n": 2}),
    ]


@pytest.mark.conforms("XCH-2")
async def test_broadcasts_of_another_sender(case: ChannelCase, join: Join):
    """A broadcast from somebody else skips that subscriber and reaches everybody here."""
    alice = await join(Channel)
    received: list[Any] = []
    others: list[Any] = []
    case.endpoint.subscribe("room:1", received.append)
    case.endpoint.subscribe("room:1", others.append)

    case.endpoint.broadcast("room:1", "shout", {"n": 1})
    case.endpoint.broadcast_from(others.append, "room:1", "shout", {"n": 2})
    alice.channel.broadcast("shout", {"n": 3})
    alice.channel.broadcast_from("shout", {"n": 4})

    assert received == [Broadcast("room:1", "shout", {"n": n}) for n in (1, 2, 3, 4)]
    assert [each.payload["n"] for each in others] == [1, 3, 4]


@pytest.mark.conforms("CT-24")
async def test_broadcasts_reach_the_client_past_its_channel(case: ChannelCase, join: Join):
    """A channel needs no handler for broadcasts, and a busy one doesn't hold them up."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        @event("think")
        async def think(self, payload: Any) -> None:
            await gate.wait()

    room = await join(RoomChannel)
    room.push("think")
    await ticks()

    case.broadcast("room:1", "shout", {"body": "hi"})

    await room.assert_push("shout", {"body": "hi"})
    gate.set()


async def test_a_broadcast_without_a_payload(join: Join):
    """No payload is an empty object."""
    room = await join(Channel)
    room.channel.broadcast("shout")
    assert await room.assert_push("shout") == {}


async def test_a_broadcast_comes_before_a_later_push(join: Join):
    """What a handler says reaches its client in that order, broadcast, pushed or replied."""

    class RoomChannel(Channel):
        @event("go")
        def go(self, payload: Any) -> Any:
            self.push("first")
            self.broadcast("second")
            self.push("third")
            return {}

    room = await join(RoomChannel)
    room.push("go")
    assert said(room.client) == ["first 1/", "second", "third 1/", "reply ok 1/2"]


# Interceptions.


async def test_an_intercepted_event_is_not_sent_by_itself(case: ChannelCase, join: Join):
    """The channel decides what its client gets; nothing is sent by default."""

    class RoomChannel(Channel):
        @intercept("shout")
        def filter_shout(self, payload: Any) -> None:
            if payload["from"] != "bob":
                self.push("shout", {**payload, "seen": True})

    room = await join(RoomChannel)
    case.broadcast("room:1", "shout", {"from": "bob"})
    case.broadcast("room:1", "shout", {"from": "carol"})
    case.broadcast("room:1", "other", {"from": "bob"})

    assert await room.assert_push("shout") == {"from": "carol", "seen": True}
    await room.assert_push("other", {"from": "bob"})
    assert said(room.client) == []


async def test_each_interceptor_has_a_payload_of_its_own(case: ChannelCase, join: Join):
    """A handler may change what it gets: nobody else sees the change."""

    class RoomChannel(Channel):
        @intercept("shout")
        async def sign(self, payload: Any) -> None:
            payload["names"].append("signed")
            self.push("shout", payload)

    rooms = [await join(RoomChannel) for _ in range(3)]
    bystander = await join(Channel)
    original = {"names": ["alice"]}
    case.broadcast("room:1", "shout", original)

    for room in rooms:
        assert await room.assert_push("shout") == {"names": ["alice", "signed"]}
    assert await bystander.assert_push("shout") == {"names": ["alice"]}
    assert original == {"names": ["alice"]}


async def test_bytes_may_be_intercepted(case: ChannelCase, join: Join):
    """A binary broadcast is bytes for the interceptor, too."""

    class RoomChannel(Channel):
        @intercept("shout")
        def double(self, payload: Any) -> None:
            self.push("shout", payload * 2)

    room = await join(RoomChannel)
    case.broadcast("room:1", "shout", b"\x01")
    assert await room.assert_push("shout") == b"\x01\x01"


async def test_a_channel_intercepts_its_own_broadcast(join: Join):
    """A broadcast comes back to its channel as any other's; broadcast_from does not."""

    class RoomChannel(Channel):
        @intercept("shout")
        def mark(self, payload: Any) -> None:
            self.push("shout", {**payload, "to": self.assigns["name"]})

        def join(self, topic: str, params: Any) -> None:
            self.assigns["name"] = params["name"]

    alice = await join(RoomChannel, params={"name": "alice"})
    bob = await join(RoomChannel, params={"name": "bob"})

    alice.channel.broadcast("shout", {"n": 1})
    alice.channel.broadcast_from("shout", {"n": 2})

    assert await bob.assert_push("shout", {"n": 1}) == {"n": 1, "to": "bob"}
    assert await bob.assert_push("shout", {"n": 2}) == {"n": 2, "to": "bob"}
    assert await alice.assert_push("shout") == {"n": 1, "to": "alice"}
    await alice.refute_push("shout", timeout=0)


async def test_an_interceptor_that_raises_ends_its_channel_only(case: ChannelCase, join: Join):
    """The broadcaster and the other subscribers don't notice."""

    class Fragile(Channel):
        @intercept("shout")
        def fail(self, payload: Any) -> None:
            raise RuntimeError("fragile")

    fragile, bob = await join(Fragile), await join(Channel)
    case.broadcast("room:1", "shout")

    await bob.assert_push("shout")
    await fragile.assert_errored()


# Messages of other kinds.


@pytest.mark.conforms("CT-28")
async def test_handle_info_may_push(join: Join):
    """A message that is sent to the channel may become a push."""

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            self.push("info", {"message": message})

    room = await join(RoomChannel)
    room.channel.send("hello")
    await room.assert_push("info", {"message": "hello"})


@pytest.mark.conforms("CT-29")
async def test_handle_info_may_broadcast(join: Join):
    """A message that is sent to the channel may become a broadcast to the others."""

    class RoomChannel(Channel):
        async def handle_info(self, message: Any) -> None:
            self.broadcast_from("info", {"message": message})

    alice, bob = await join(RoomChannel), await join(RoomChannel)
    alice.channel.send("hello")

    await alice.assert_broadcast("info", {"message": "hello"})
    await bob.assert_push("info", {"message": "hello"})
    await alice.refute_push("info", timeout=0)


@pytest.mark.conforms("CT-30")
async def test_a_channel_is_called_by_its_methods(join: Join):
    """On one loop a call with an answer is a call of a method."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.assigns["count"] = params["count"]

        def count(self) -> int:
            count: int = self.assigns["count"]
            return count

    room = await join(RoomChannel, params={"count": 3})
    assert isinstance(room.channel, RoomChannel)
    assert room.channel.count() == 3


@pytest.mark.conforms("CT-31")
async def test_a_message_without_an_answer(join: Join):
    """Send returns at once; the channel handles it in its turn, whatever it is."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)

    room = await join(RoomChannel)
    messages = [None, {"a": 1}, Message("1", "2", "room:1", "ping", {}), object()]
    for message in messages:
        room.channel.send(message)
    assert notes.all() == []

    assert [await notes.take() for _ in messages] == messages
    assert said(room.client) == []


@pytest.mark.conforms("CT-37")
async def test_a_channel_may_listen_to_other_topics(case: ChannelCase, join: Join):
    """Broadcasts of a topic it subscribed to come to handle_info, not to its client."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.subscribe("news")

        def handle_info(self, message: Any) -> None:
            assert isinstance(message, Broadcast)
            self.push(f"{message.topic}:{message.event}", message.payload)

    room = await join(RoomChannel)
    case.broadcast("news", "flash", {"n": 1})

    await room.assert_push("news:flash", {"n": 1})
    assert said(room.client) == []


async def test_a_plain_message_on_the_channels_own_topic(case: ChannelCase, join: Join):
    """What PubSub.broadcast brings to the topic is no event of a client: handle_info gets it."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)

    room = await join(RoomChannel)
    case.endpoint.pubsub.broadcast("room:1", "hello")
    case.endpoint.pubsub.broadcast("room:1", Broadcast("room:1", "shout", {"n": 1}))
    await ticks()

    assert room.channel.is_joined
    assert notes.all() == ["hello", Broadcast("room:1", "shout", {"n": 1})]


async def test_a_message_that_join_sends_is_handled_behind_the_reply(join: Join):
    """Phoenix's idiom works, too: join sends itself a message, and pushes when it handles that."""

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.send("after_join")
            await asyncio.sleep(0)

        def handle_info(self, message: Any) -> None:
            self.push(message)

    room = await join(RoomChannel)
    await room.assert_push("after_join")


@pytest.mark.conforms("CT-38")
async def test_an_unexpected_message_is_logged(join: Join, caplog: pytest.LogCaptureFixture):
    """Without handle_info the log has the message, and the channel lives on."""
    room = await join(Channel)
    room.channel.send("what is this?")
    await ticks()

    assert "received unexpected message in handle_info: 'what is this?'" in caplog.text
    assert room.channel.is_joined


@pytest.mark.parametrize("event", ["presence_state", "presence_diff", "presence_count"])
async def test_presences_of_other_topics_are_not_unexpected(
    case: ChannelCase, join: Join, event: str, caplog: pytest.LogCaptureFixture
):
    """Without handle_info the log has what else is broadcast on a topic subscribed to."""
    room = await join(Channel)
    room.channel.subscribe("news")
    case.broadcast("news", event)
    case.broadcast("news", "flash")
    await ticks()

    (warning,) = caplog.messages
    assert "'flash'" in warning


# The logs.


async def test_joins_and_events_are_logged_without_secrets(
    join: Join, caplog: pytest.LogCaptureFixture
):
    """The join is logged as info, events as debug; passwords and tokens are masked in both."""

    class RoomChannel(Channel):
        @event("login")
        def login(self, payload: Any) -> None: ...

    with caplog.at_level(logging.DEBUG, "roost.channels"):
        room = await join(RoomChannel, params={"name": "alice", "token": "t0p"})
        room.push("login", {"password": "h1dden"})

    joined, handled = caplog.records
    assert joined.levelno == logging.INFO
    assert joined.getMessage() == (
        "JOINED room:1\n  Parameters: {'name': 'alice', 'token': '[FILTERED]'}"
    )
    assert handled.levelno == logging.DEBUG
    assert "HANDLED login INCOMING ON room:1" in handled.getMessage()
    assert "h1dden" not in caplog.text


async def test_logs_may_be_turned_off(join: Join, caplog: pytest.LogCaptureFixture):
    """A channel chooses the levels of its logs; None is silence."""

    class RoomChannel(Channel):
        log_join = None
        log_handle_in = logging.WARNING

        @event("ping")
        def ping(self, payload: Any) -> None: ...

    with caplog.at_level(logging.DEBUG, "roost.channels"):
        room = await join(RoomChannel)
        room.push("ping")

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_log_of_what_clients_sent(join: Join, caplog: pytest.LogCaptureFixture):
    """Each entry is bounded, and on its lines, whatever a client calls its topics and events."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            if "refuse" in params:
                raise JoinRefused

        def handle_in(self, event: str, payload: Any) -> None:
            pass

    forged = "room:1\n2026-01-01 admin logged in"
    large = {"password": "h1dden", "body": "x" * 200_000, "list": [[1] * 100] * 100}
    with caplog.at_level(logging.DEBUG, "roost.channels"):
        room = await join(RoomChannel, forged, large)
        room.push("shout\nforged", large)
        with pytest.raises(JoinRefused):
            await join(RoomChannel, forged, {"refuse": True, **large})

    assert [record.getMessage().count("\n") for record in caplog.records] == [1, 1, 1]
    assert all(len(record.getMessage()) < 4_000 for record in caplog.records)
    assert "h1dden" not in caplog.text


async def test_a_crash_is_logged_with_its_client(
    case: ChannelCase, caplog: pytest.LogCaptureFixture
):
    """The log says whose channel crashed, by the id of the socket."""

    class RoomChannel(Channel):
        @event("crash")
        def crash(self, payload: Any) -> None:
            raise LookupError

    room = await case.client(Socket(), id="users:1").join("room:1", channel=RoomChannel)
    room.push("crash")

    assert caplog.messages[0].endswith("RoomChannel 'room:1'> crashed in a handler (users:1)")
