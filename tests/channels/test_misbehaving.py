"""Code of the application in channels and sockets: what it does wrong ends one channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from roost import Channel, Endpoint, Socket, event
from roost.channels.application import Failed
from roost.exceptions import JoinRefused
from roost.testing import ChannelCase
from tests.channels.scenes import Join, Notes, said
from tests.presence.strange import STRANGE, Stubborn
from tests.virtual_clock import run_virtually
from tests.waiting import until

user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("where", ["join", "event", "info", "after_join", "terminate"])
async def test_a_channel_fails_in_strange_ways(
    case: ChannelCase, join: Join, where: str, strange: Callable[[], Any], caplog: Any
):
    """Whatever it is, the client is told, and the topic can be joined again."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> Any:
            return strange() if where == "join" else None

        def after_join(self) -> Any:
            return strange() if where == "after_join" else None

        @event("shout")
        def shout(self, payload: Any) -> Any:
            if where == "info":
                self.send("anything")
            return strange() if where == "event" else None

        def handle_info(self, message: Any) -> Any:
            return strange()

        def terminate(self, reason: Any) -> Any:
            return strange() if where == "terminate" else None

    if where == "join":
        with pytest.raises(JoinRefused, match="join crashed"):
            await join(RoomChannel)
        assert "crashed" in caplog.text
        return
    room = await join(RoomChannel)
    if where in ("event", "info"):
        room.push("shout")
    if where == "terminate":
        room.leave()
    await until(lambda: room.channel.has_ended)
    await case.settled()
    assert said(room.client)[-1].startswith("phx_close" if where == "terminate" else "phx_error")
    assert "crashed" in caplog.text
    await room.client.join("room:1", channel=Channel)


async def test_a_threaded_handler_that_raises_stop_iteration(join: Join):
    """No future can carry it; the channel ends as with any other error."""

    class RoomChannel(Channel):
        @event("next", threaded=True)
        def next(self, payload: Any) -> Any:
            raise StopIteration

    room = await join(RoomChannel)
    room.push("next")

    await room.assert_push("phx_error", {})


@pytest.mark.parametrize("error", [LookupError, Stubborn])
async def test_a_channel_that_can_not_be_made_refuses_its_join(
    case: ChannelCase, error: type[BaseException]
):
    """An error of its constructor is one of the join; the connection lives on."""

    class Broken(Channel):
        def __init__(self) -> None:
            raise error

    client = case.client(Socket())
    with pytest.raises(JoinRefused, match="join crashed"):
        await client.join("room:1", channel=Broken)
    await client.join("room:1", channel=Channel)


async def test_done_callbacks_run_in_the_context_of_their_connection(case: ChannelCase):
    """Whoever ends a channel does not lend its context to what was to be called then."""
    notes = Notes()

    class RoomChannel(Channel):
        def after_join(self) -> None:
            self.add_done_callback(lambda channel: notes.add(user.get()))

        def terminate(self, reason: Any) -> None:
            notes.add(user.get())

    class UserSocket(Socket):
        def connect(self, params: Any, info: Any) -> None:
            user.set("alice")

    client = await case.connect(UserSocket)
    await client.join("room:1", channel=RoomChannel)
    user.set("the server")
    client.close()
    await case.settled()

    assert notes.all() == ["alice", "alice"]


@pytest.mark.parametrize("hook", ["async def", "raises"])
async def test_who_tracks_joins_and_fails_refuses_them(case: ChannelCase, hook: str, caplog: Any):
    """A presence of a channel whose ``start`` is async, or raises, refuses the join."""

    class Start:
        def __call__(self, channel: Any, topic: str) -> Any:
            if hook == "raises":
                raise Stubborn
            return asyncio.sleep(0)

    class Tracks:
        start = Start()

        def stop(self, channel: Any, topic: str) -> None: ...

    class RoomChannel(Channel):
        presence = Tracks()

    with pytest.raises(JoinRefused, match="join crashed"):
        await case.client(Socket()).join("room:1", channel=RoomChannel)
    assert "crashed" in caplog.text


async def test_a_hook_of_the_encoder_that_raises_ends_one_channel(join: Join):
    """A reply that can't be encoded ends its channel, whatever the hook raises."""

    class Value:
        pass

    class RoomChannel(Channel):
        @event("shout")
        def shout(self, payload: Any) -> Any:
            return {"value": Value()}

    def hook(value: Any) -> Any:
        raise Stubborn

    async with ChannelCase(Endpoint({}, encode_hook=hook)) as case:
        room = await case.client(Socket()).join("room:1", channel=RoomChannel)
        room.push("shout")
        await room.assert_push("phx_error", {})


def test_a_handler_may_stop_its_endpoint():
    """The stop does not wait for the handler that waits for it."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("stop")
        async def stop_all(self, payload: Any) -> None:
            await endpoint.stop()
            notes.add("stopped")

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    endpoint = Endpoint({"/": UserSocket})

    async def play() -> None:
        frames: asyncio.Queue[Any] = asyncio.Queue()
        answers: list[Any] = []

        async def send(event: Any) -> None:
            answers.append(event)
            if event["type"] == "websocket.close":
                frames.put_nowait({"type": "websocket.disconnect", "code": event["code"]})

        await endpoint.start()
        frames.put_nowait({"type": "websocket.connect"})
        for text in ('["1","1","room:1","phx_join",{}]', '["1","2","room:1","stop",{}]'):
            frames.put_nowait({"type": "websocket.receive", "text": text})
        headers = [(b"host", b"example.com")]
        scope = {
            "type": "websocket",
            "path": "/websocket",
            "headers": headers,
            "query_string": b"vsn=2.0.0",
        }
        await endpoint(scope, frames.get, send)
        await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == 1
        assert notes.all() == ["draining", "stopped"]
        assert not endpoint.pubsub.is_running

    run_virtually(play())


def test_the_error_says_what_failed():
    """For logs: the class and the method."""
    assert str(Failed("Online.fetch", LookupError())) == "Online.fetch failed"
