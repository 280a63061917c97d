"""How channels end: who is told, in which order, and what is called exactly once."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Any

import pytest

from roost import Channel, JoinRefused, ReplyError, Socket, event, intercept
from roost.exceptions import ChannelClosed, NotJoined
from roost.testing import ChannelCase, JoinedCase
from tests.channels.scenes import Join, Notes, said, ticks
from tests.virtual_clock import run_virtually


def ending(notes: Notes, *, is_async: bool = False) -> type[Channel]:
    """A channel that can end in every way, and notes the reason."""

    class RoomChannel(Channel):
        @event("stop")
        def stop_now(self, payload: Any) -> None:
            self.stop(*payload.get("reason", []))

        @event("crash")
        def crash(self, payload: Any) -> None:
            raise LookupError("crash")

        def terminate(self, reason: Any) -> Any:
            notes.add(reason)

    class AsyncRoomChannel(RoomChannel):
        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(0)
            notes.add(reason)

    return AsyncRoomChannel if is_async else RoomChannel


# terminate.


ENDINGS: dict[str, Callable[[JoinedCase], object]] = {
    "left": lambda room: room.leave(),
    "closed": lambda room: room.client.close(),
    "disconnected": lambda room: room.client.connection.close("disconnected"),
    "draining": lambda room: room.client.connection.close("draining"),
    "duplicate_join": lambda room: room.client.send("9", "9", "room:1", "phx_join", {}),
    "normal": lambda room: room.push("stop"),
    "shutdown": lambda room: room.push("stop", {"reason": ["shutdown"]}),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
@pytest.mark.parametrize("reason", ENDINGS)
async def test_terminate_gets_the_reason_once(
    case: ChannelCase, join: Join, reason: str, is_async: bool
):
    """However a channel ends, terminate is called exactly once, and says why it ended."""
    notes = Notes()
    room = await join(ending(notes, is_async=is_async))

    ENDINGS[reason](room)

    assert await notes.take() == reason
    for end_again in (ENDINGS["closed"], ENDINGS["left"], ENDINGS["disconnected"]):
        end_again(room)
        await case.settled()
    if reason != "duplicate_join":  # there the newer channel ends now
        assert notes.all() == []
    assert not room.channel.is_joined


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
async def test_terminate_gets_the_exception(
    case: ChannelCase, join: Join, is_async: bool, caplog: pytest.LogCaptureFixture
):
    """A crash calls terminate with the exception, and logs it."""
    notes = Notes()
    room = await join(ending(notes, is_async=is_async))

    room.push("crash")

    error = await notes.take()
    assert isinstance(error, LookupError)
    assert "crashed in a handler" in caplog.text
    room.client.close()
    await case.settled()
    assert notes.all() == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(JoinRefused({"reason": "no"}), "refused"), (LookupError("boom"), LookupError)],
    ids=["refused", "crashed"],
)
async def test_terminate_is_called_for_a_join_that_fails(join: Join, error: Exception, reason: Any):
    """A channel whose join began is terminated, too: refused, or with the exception."""
    notes = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            raise error

        async def terminate(self, reason: Any) -> None:
            for method in (self.push, self.broadcast):
                with pytest.raises(NotJoined):
                    method("goodbye")
            notes.add(reason)

    with pytest.raises(JoinRefused):
        await join(RoomChannel)

    (noted,) = notes.all()  # the reply came behind the clean-up
    assert noted == reason or isinstance(noted, reason)


@pytest.mark.conforms("CT-13")
async def test_a_handler_that_raises(join: Join, caplog: pytest.LogCaptureFixture):
    """Its channel crashes: terminate gets the exception, the client phx_error and no phx_close."""
    notes = Notes()
    alice, bob = await join(ending(notes)), await join(ending(notes))
    alice.channel.add_done_callback(lambda channel: notes.add("done"))

    alice.push("crash")

    await alice.assert_errored()
    assert notes.all()[0] == "done"
    assert said(alice.client) == []
    assert "LookupError: crash" in caplog.text
    assert bob.channel.is_joined


@pytest.mark.conforms("CT-14")
async def test_a_handler_that_stops(join: Join):
    """Its channel ends gracefully; what the client still sends is answered as unmatched."""
    notes = Notes()
    room = await join(ending(notes))

    room.push("stop")

    await room.assert_closed()
    assert notes.all() == ["normal"]
    ref = room.push("stop")
    await room.assert_reply(ref, "error", {"reason": "unmatched topic"})
    assert notes.all() == []


@pytest.mark.conforms("CT-15")
@pytest.mark.parametrize("response", [{}, {"bye": 1}])
async def test_a_handler_that_stops_and_replies(join: Join, response: dict[str, Any]):
    """The reply comes first, then the graceful end."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("stop")
        async def stop_with_reply(self, payload: Any) -> Any:
            self.stop("shutdown")
            return response

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    ref = room.push("stop")

    assert await notes.take() == "shutdown"
    assert said(room.client) == ["reply ok 1/2", "phx_close 1/1"]
    assert await room.assert_reply(ref, "ok") == response


@pytest.mark.conforms("CT-26")
async def test_an_interceptor_that_stops(case: ChannelCase, join: Join):
    """A broadcast may end a channel that intercepts it, gracefully."""
    notes = Notes()

    class RoomChannel(ending(notes)):  # type: ignore[misc]
        @intercept("close")
        def stop_now(self, payload: Any) -> None:
            self.stop("shutdown")

    room = await join(RoomChannel)
    case.broadcast("room:1", "close")

    await room.assert_closed()
    assert notes.all() == ["shutdown"]


@pytest.mark.conforms("CT-27")
async def test_handle_info_may_stop(join: Join):
    """A message may end the channel, gracefully."""
    notes = Notes()

    class RoomChannel(ending(notes)):  # type: ignore[misc]
        async def handle_info(self, message: Any) -> None:
            self.stop(message)

    room = await join(RoomChannel)
    room.channel.send("shutdown")

    await room.assert_closed()
    assert notes.all() == ["shutdown"]


@pytest.mark.conforms("CT-32")
async def test_a_leave_is_answered_before_the_channel_ends(join: Join):
    """The client's leave is answered, then the channel ends; leaving again is harmless."""
    notes = Notes()
    room = await join(ending(notes))

    ref = room.leave()

    assert said(room.client) == ["reply ok 1/2", "phx_close 1/1"]
    await room.assert_reply(ref, "ok", {})
    await room.assert_closed()
    assert notes.all() == ["left"]
    await room.assert_reply(room.leave(), "ok", {})
    assert notes.all() == []


async def test_a_leave_waits_for_the_handler_that_runs(join: Join):
    """Messages before the leave are handled before it."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        @event("think")
        async def think(self, payload: Any) -> Any:
            await gate.wait()
            return {}

    room = await join(RoomChannel)
    room.push("think")
    room.leave()
    await ticks()
    assert said(room.client) == []

    gate.set()
    await room.assert_closed()
    assert said(room.client) == ["reply ok 1/2", "reply ok 1/3"]


# stop.


async def test_stop_from_outside(join: Join):
    """Whoever holds a channel may stop it; a handler that runs is done first, and replies."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(ending(notes)):  # type: ignore[misc]
        @event("think")
        async def think(self, payload: Any) -> Any:
            await gate.wait()
            return {}

    idle, busy = await join(RoomChannel), await join(RoomChannel)
    busy.push("think")
    await ticks()
    for room in (idle, busy):
        room.channel.stop("kicked")

    await idle.assert_closed()
    assert said(busy.client) == []
    gate.set()
    await busy.assert_closed()
    assert said(busy.client) == ["reply ok 1/2"]
    assert notes.all() == ["kicked", "kicked"]


async def test_nothing_is_handled_after_a_stop(join: Join):
    """What waits behind the handler that stops is dropped; the first reason counts."""
    notes = Notes()

    class RoomChannel(ending(notes)):  # type: ignore[misc]
        @event("think")
        async def think(self, payload: Any) -> None:
            await asyncio.sleep(0)
            self.stop("first")
            self.stop("second")
            await asyncio.sleep(0)

    room = await join(RoomChannel)
    room.push("think")
    room.push("crash")

    await room.assert_closed()
    assert notes.all() == ["first"]
    assert said(room.client) == []


async def test_stop_in_join_and_after_join(join: Join):
    """A join that stops is accepted first: the client is told that it is in, and then the end."""
    notes = Notes()

    class InJoin(ending(notes)):  # type: ignore[misc]
        def join(self, topic: str, params: Any) -> None:
            self.stop("in join")

    class AfterJoin(ending(notes)):  # type: ignore[misc]
        async def after_join(self) -> None:
            self.push("welcome")
            self.stop("in after_join")

    room = await join(InJoin)
    await room.assert_closed()
    room = await join(AfterJoin)
    await room.assert_closed()
    assert said(room.client) == ["welcome 1/"]
    assert notes.all() == ["in join", "in after_join"]


async def test_a_handler_that_stops_and_refuses(join: Join):
    """An error reply is a reply: the stop comes behind it."""

    class RoomChannel(Channel):
        @event("stop")
        def stop_with_error(self, payload: Any) -> Any:
            self.stop()
            raise ReplyError

    room = await join(RoomChannel)
    room.push("stop")
    await ticks()
    assert said(room.client) == ["reply error 1/2", "phx_close 1/1"]


async def test_a_handler_that_stops_and_crashes(join: Join):
    """A crash is a crash, whatever was to come."""
    notes = Notes()

    class RoomChannel(ending(notes)):  # type: ignore[misc]
        @event("both")
        def both(self, payload: Any) -> Any:
            self.stop()
            raise LookupError

    room = await join(RoomChannel)
    room.push("both")

    await room.assert_errored()
    assert isinstance(await notes.take(), LookupError)
    assert said(room.client) == []


# The order on the wire.


class Goodbye(Channel):
    """A channel that has a last word."""

    def after_join(self) -> None:
        self.push("welcome")

    @event("stop")
    def stop_with_reply(self, payload: Any) -> Any:
        self.stop()
        return {}

    @event("crash")
    def crash(self, payload: Any) -> None:
        self.reply()
        raise LookupError

    async def terminate(self, reason: Any) -> None:
        self.push("goodbye")
        await asyncio.sleep(0)
        self.broadcast("gone")
        self.push("really")


@pytest.mark.parametrize("end", ["phx_leave", "stop"])
async def test_the_wire_of_a_graceful_end(case: ChannelCase, join: Join, end: str):
    """The reply, then phx_close, then what terminate pushes; its broadcast is for others."""
    room, bob = await join(Goodbye), await join(Channel)
    room.push(end)
    await case.settled()

    assert said(room.client) == [
        "welcome 1/",
        "reply ok 1/2",
        "phx_close 1/1",
        "goodbye 1/",
        "really 1/",
    ]
    await bob.assert_push("gone")


async def test_the_wire_of_a_crash(case: ChannelCase, join: Join):
    """The reply if one was given, then what terminate pushes, then phx_error."""
    room, bob = await join(Goodbye), await join(Channel)
    room.push("crash")
    await case.settled()

    assert said(room.client) == [
        "welcome 1/",
        "reply ok 1/2",
        "goodbye 1/",
        "really 1/",
        "phx_error 1/1",
    ]
    await bob.assert_push("gone")
    await room.assert_errored()


async def test_a_broadcast_while_a_duplicate_join_is_decided(
    case: ChannelCase, caplog: pytest.LogCaptureFixture
):
    """The old channel's subscription is there, for presence diffs; it hears nothing else."""
    may_join = asyncio.Event()
    may_join.set()
    notes = Notes()

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await may_join.wait()

        def handle_info(self, message: Any) -> None:
            notes.add(message)

    client = case.client(Socket())
    await client.join("room:1", channel=RoomChannel)
    may_join.clear()
    client.send("9", "9", "room:1", "phx_join", {})
    await ticks()
    case.endpoint.pubsub.broadcast("room:1", "news")
    may_join.set()
    await case.settled()

    assert notes.all() == []
    assert caplog.messages == []


async def test_the_wire_of_a_duplicate_join(case: ChannelCase, join: Join):
    """The old channel has its last word; then the new join's reply, and the old one's close."""
    room = await join(Goodbye)
    await room.assert_push("welcome")
    room.client.send("7", "7", "room:1", "phx_join", {})
    await case.settled()
    await ticks()

    assert said(room.client) == [
        "goodbye 1/",
        "really 1/",
        "reply ok 7/7",
        "phx_close 1/1",
        "welcome 7/",
    ]


async def test_the_wire_of_a_leave_and_a_join(case: ChannelCase, join: Join):
    """A leave and a join in one batch are answered in that order."""
    room = await join(Channel)
    room.leave()
    room.client.send("7", "7", "room:1", "phx_join", {})
    await case.settled()

    assert said(room.client) == ["reply ok 1/2", "phx_close 1/1", "reply ok 7/7"]


async def test_the_wire_of_a_refused_join(case: ChannelCase):
    """Only the error reply."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            raise JoinRefused

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    alice = await case.connect(UserSocket)
    alice.send("1", "1", "room:1", "phx_join", {})
    await ticks()
    assert said(alice) == ["reply error 1/1"]


# terminate that fails.


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async"])
@pytest.mark.parametrize(
    ("end", "frames"),
    [("phx_leave", ["reply ok 1/2", "phx_close 1/1"]), ("crash", ["phx_error 1/1"])],
)
async def test_a_terminate_that_raises(
    case: ChannelCase,
    join: Join,
    end: str,
    frames: list[str],
    is_async: bool,
    caplog: pytest.LogCaptureFixture,
):
    """Its error is logged, and the channel ends as it would have: it can be joined again."""

    class RoomChannel(Channel):
        @event("crash")
        def crash(self, payload: Any) -> None:
            raise LookupError

        def terminate(self, reason: Any) -> Any:
            raise RuntimeError("no end of trouble")

    class AsyncRoomChannel(RoomChannel):
        async def terminate(self, reason: Any) -> None:
            await asyncio.sleep(0)
            raise RuntimeError("no end of trouble")

    room = await join(AsyncRoomChannel if is_async else RoomChannel)
    room.push(end)
    await case.settled()

    assert said(room.client) == frames
    assert "crashed in terminate" in caplog.text
    assert "no end of trouble" in caplog.text
    await room.client.join("room:1")


def test_a_terminate_over_its_time_is_cancelled(caplog: pytest.LogCaptureFixture):
    """Clean-up has shutdown_timeout; then it is cancelled, and the log says so."""
    notes = Notes()

    class RoomChannel(Channel):
        async def terminate(self, reason: Any) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                notes.add(asyncio.get_running_loop().time())

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await case.client(Socket()).join("room:1", channel=RoomChannel)
            await room.close()
            assert notes.all() == [Channel.shutdown_timeout]
            assert asyncio.get_running_loop().time() == Channel.shutdown_timeout

    run_virtually(scene())
    assert "cancelled terminate after 5.0 s" in caplog.text


def test_a_terminate_that_ignores_its_cancellation_is_given_up():
    """A channel that can't be ended doesn't keep its topic: a second later it can be joined."""
    release = asyncio.Event()

    class RoomChannel(Channel):
        async def terminate(self, reason: Any) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pass

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await case.client(Socket()).join("room:1", channel=RoomChannel)
            room.leave()
            await room.client.join("room:1", channel=Channel, timeout=60)
            assert asyncio.get_running_loop().time() == Channel.shutdown_timeout + 1
            release.set()

    run_virtually(scene())


@pytest.mark.conforms("CT-34")
async def test_no_time_for_a_stuck_terminate(join: Join):
    """With a shutdown_timeout of 0 a terminate that waits is cancelled at once."""
    notes = Notes()

    class RoomChannel(Channel):
        shutdown_timeout = 0.0

        async def terminate(self, reason: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                notes.add("cancelled")
                raise

    room = await join(RoomChannel)
    await room.close()
    assert notes.all() == ["cancelled"]


# A handler that runs at the end.


async def test_a_handler_may_finish_when_its_connection_ends(case: ChannelCase, join: Join):
    """Work that began is not torn: terminate waits for it, and what it says reaches nobody."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> Any:
            await gate.wait()
            self.push("saved")
            notes.add("saved")
            return {}

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push("save")
    await ticks()
    room.client.close()
    await ticks()
    assert notes.all() == []

    gate.set()
    await case.settled()
    assert notes.all() == ["saved", "closed"]


def test_a_handler_over_its_time_is_cancelled():
    """When the connection ends a handler has shutdown_timeout to finish, and no more."""
    notes = Notes()

    class RoomChannel(Channel):
        shutdown_timeout = 3.0

        @event("save")
        async def save(self, payload: Any) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                notes.add(asyncio.get_running_loop().time())

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await case.client(Socket()).join("room:1", channel=RoomChannel)
            room.push("save")
            await ticks()
            room.client.close()
            await case.settled()
            assert notes.all() == [3.0, "closed"]

    run_virtually(scene())


def test_a_handler_that_ignores_its_cancellation_is_given_up(caplog: pytest.LogCaptureFixture):
    """It is named in the log, a second after it was cancelled, and terminate is called."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> None:
            release = self.assigns["release"]
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pass

        def terminate(self, reason: Any) -> None:
            notes.add((reason, asyncio.get_running_loop().time()))

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await case.client(Socket()).join("room:1", channel=RoomChannel)
            release = room.channel.assigns["release"] = asyncio.Event()
            room.push("save")
            await ticks()
            room.client.close()
            await case.settled()
            assert notes.all() == [("closed", Channel.shutdown_timeout + 1)]
            release.set()
            await ticks()

    run_virtually(scene())
    assert "gave up on a task that ignores cancellation" in caplog.text


async def test_a_handler_is_cancelled_by_a_newer_join(case: ChannelCase, join: Join):
    """A client that joins anew has given up on what the old channel does."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("think")
        async def think(self, payload: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                notes.add("cancelled")
                raise

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push("think")
    await ticks()
    again = await room.client.join("room:1")

    assert notes.all() == ["cancelled", "duplicate_join"]
    assert again.channel is not room.channel
    subscriptions = case.endpoint.pubsub.subscriptions("room:1")
    assert again.channel.subscription in subscriptions
    assert room.channel.subscription not in subscriptions


async def test_an_error_while_ending_is_logged(
    case: ChannelCase, join: Join, caplog: pytest.LogCaptureFixture
):
    """A handler that fails after its connection ended has nobody to tell but the log."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(Channel):
        @event("save")
        async def save(self, payload: Any) -> Any:
            await gate.wait()
            raise LookupError("too late")

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push("save")
    await ticks()
    room.client.close()
    gate.set()
    await case.settled()

    assert notes.all() == ["closed"]
    assert "too late" in caplog.text


# Cancellations.


@pytest.mark.parametrize("name", ["def", "async", "waiting"])
async def test_a_cancellation_that_nobody_asked_for_is_a_crash(join: Join, name: str):
    """A CancelledError that leaks out of a handler must not leave a channel without a word."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("def")
        def inline(self, payload: Any) -> None:
            raise asyncio.CancelledError

        @event("async")
        async def later(self, payload: Any) -> None:
            raise asyncio.CancelledError

        @event("waiting")
        async def waiting(self, payload: Any) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push(name)

    await room.assert_errored()
    assert isinstance(await notes.take(), asyncio.CancelledError)


async def test_a_cancellation_in_join_is_a_crash(join: Join):
    """A join that was cancelled by nobody is answered."""

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            raise asyncio.CancelledError

    with pytest.raises(JoinRefused, match="join crashed"):
        await join(RoomChannel)


async def test_a_crash_in_after_join(join: Join):
    """The client was told that it is in: it is told of the crash, too."""

    class RoomChannel(Channel):
        async def after_join(self) -> None:
            raise LookupError

    room = await join(RoomChannel)
    await room.assert_errored()


async def test_a_crash_in_handle_info(join: Join, caplog: pytest.LogCaptureFixture):
    """Any handler that raises ends its channel."""

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            raise LookupError(message)

    with caplog.at_level(logging.ERROR):
        room = await join(RoomChannel)
        room.channel.send("boom")
        await room.assert_errored()
    with pytest.raises(ChannelClosed):
        room.channel.send("again")


# Presence.


class Roll:
    """A presence that notes who is where; it may refuse."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.notes = Notes()
        self.error = error

    def start(self, channel: Channel[Any], topic: str) -> object:
        self.notes.add(f"start {topic}")
        if self.error is not None:
            raise self.error
        return "anything"

    def stop(self, channel: Channel[Any], topic: str) -> object:
        self.notes.add(f"stop {topic}")
        return "anything"


@pytest.fixture
def roll() -> Roll:
    return Roll()


def on_roll(roll: Any) -> type[Channel]:
    """A channel of that presence."""

    class RoomChannel(Channel):
        presence = roll

    return RoomChannel


@pytest.mark.parametrize(
    ("of_socket", "of_channel", "expected"),
    [
        (None, None, None),
        ("socket", None, "socket"),
        (None, "channel", "channel"),
        ("socket", "channel", "channel"),
        ("socket", False, None),
        (None, False, None),
    ],
)
async def test_whose_presence_starts(
    case: ChannelCase, of_socket: str | None, of_channel: Any, expected: str | None
):
    """A channel's own presence goes before that of its socket, and False is nobody's."""
    rolls: dict[Any, Any] = {"socket": Roll(), "channel": Roll(), False: False, None: None}

    class RoomChannel(Channel):
        presence = rolls[of_channel]

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}
        presence = rolls[of_socket]

    room = await (await case.connect(UserSocket)).join("room:1")
    room.channel.subscribe("news")
    room.channel.unsubscribe("news")

    for name in ("socket", "channel"):
        told = ["start room:1", "start news", "stop news"] if name == expected else []
        assert rolls[name].notes.all() == told


async def test_a_presence_starts_before_anybody_hears_of_the_channel(case: ChannelCase):
    """It starts behind join, and before the subscription, the reply, and after_join."""
    notes = Notes()
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")

    class Told:
        def start(self, channel: Channel[Any], topic: str) -> None:
            assert channel.subscription is None
            notes.add(("start", name.get(), said(alice)))

        def stop(self, channel: Channel[Any], topic: str) -> None: ...

    class RoomChannel(Channel):
        presence = Told()

        async def join(self, topic: str, params: Any) -> None:
            await asyncio.sleep(0)
            notes.add("join")

        def after_join(self) -> None:
            notes.add(("after_join", said(alice)))

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: Any) -> None:
            name.set("alice")

    alice = await case.connect(UserSocket)
    alice.send("1", "1", "room:1", "phx_join", {})
    await ticks()

    assert notes.all() == ["join", ("start", "alice", []), ("after_join", ["reply ok 1/1"])]


class Full(JoinRefused):
    """A refusal as presences have it."""


@pytest.mark.parametrize(
    ("error", "payload", "reason"),
    [
        (Full({"reason": "full"}), {"reason": "full"}, "refused"),
        (LookupError("boom"), {"reason": "join crashed"}, LookupError),
        (asyncio.CancelledError(), {"reason": "join crashed"}, asyncio.CancelledError),
        (Full({"reason": object()}), {"reason": "join crashed"}, Exception),
    ],
    ids=["refused", "crashed", "cancelled", "unsendable"],
)
async def test_a_presence_that_fails_refuses_the_join(
    case: ChannelCase, join: Join, error: BaseException, payload: Any, reason: Any
):
    """What start raises is as if join had raised it; the client can't tell the difference."""
    roll, notes = Roll(error), Notes()

    class RoomChannel(Channel):
        presence = roll

        def after_join(self) -> None:
            pytest.fail("it never joined")

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    with pytest.raises(JoinRefused) as refused:
        await join(RoomChannel)

    assert refused.value.payload == payload
    assert case.endpoint.pubsub.subscriptions("room:1") == ()
    (noted,) = notes.all()
    assert noted == reason or isinstance(noted, reason)


async def test_a_refused_join_starts_nothing(join: Join, roll: Roll):
    """Neither a join that is refused nor one whose response can't be sent starts a presence."""

    class Refusing(on_roll(roll)):  # type: ignore[misc]
        def join(self, topic: str, params: Any) -> Any:
            if topic == "room:secret":
                raise JoinRefused
            return {"unsendable": object()}

    for topic in ("room:secret", "room:1"):
        with pytest.raises(JoinRefused):
            await join(Refusing, topic)

    assert roll.notes.all() == []


async def test_a_connection_that_closes_while_a_presence_starts(case: ChannelCase):
    """A channel that ended meanwhile is not joined."""

    class Closing(Roll):
        def start(self, channel: Channel[Any], topic: str) -> None:
            alice.close()

    alice = case.client(Socket())
    alice._routes.override("room:1", on_roll(Closing()))
    alice.send("1", "1", "room:1", "phx_join", {})
    await case.settled()

    assert alice.transport.received == []
    assert case.endpoint.pubsub.subscriptions("room:1") == ()


async def test_each_topic_starts_and_stops_once(join: Join, roll: Roll):
    """Subscribing again starts nothing, unsubscribing again stops nothing, and may be repeated."""
    room = await join(on_roll(roll))
    assert roll.notes.all() == ["start room:1"]

    for _ in range(2):
        room.channel.subscribe("news")
    for _ in range(2):
        room.channel.unsubscribe("news")
    room.channel.subscribe("news")

    assert roll.notes.all() == ["start news", "stop news", "start news"]


async def test_the_own_topic_starts_once(join: Join, roll: Roll):
    """Subscribing to the own topic, before or after the join, starts and stops nothing."""

    class RoomChannel(on_roll(roll)):  # type: ignore[misc]
        def join(self, topic: str, params: Any) -> None:
            self.subscribe(topic)
            assert roll.notes.all() == []

    room = await join(RoomChannel)
    room.channel.unsubscribe("room:1")
    room.channel.subscribe("room:1")

    assert roll.notes.all() == ["start room:1"]


async def test_a_subscription_in_join(join: Join, roll: Roll):
    """Join may subscribe: that starts at once, before the channel's own topic does."""

    class RoomChannel(on_roll(roll)):  # type: ignore[misc]
        def join(self, topic: str, params: Any) -> None:
            self.subscribe("news")

    await join(RoomChannel)

    assert roll.notes.all() == ["start news", "start room:1"]


async def test_a_presence_that_fails_undoes_the_subscription(
    case: ChannelCase, join: Join, roll: Roll
):
    """What start raises goes to whoever subscribes, and the topic can be subscribed to later."""
    room = await join(on_roll(roll))
    roll.error = LookupError("boom")
    with pytest.raises(LookupError):
        room.channel.subscribe("news")
    assert case.endpoint.pubsub.subscriptions("news") == ()

    roll.error = None
    room.channel.subscribe("news")

    assert len(case.endpoint.pubsub.subscriptions("news")) == 1
    assert roll.notes.all() == ["start room:1", "start news", "start news"]


@pytest.mark.parametrize("end", ["left", "closed", "normal"])
async def test_the_end_of_a_channel_stops_nothing(
    case: ChannelCase, join: Join, roll: Roll, end: str
):
    """What belongs to a channel ends with it; stop is for topics that a living channel leaves."""

    class RoomChannel(ending(Notes())):  # type: ignore[misc]
        presence = roll

    room = await join(RoomChannel)
    room.channel.subscribe("news")
    ENDINGS[end](room)
    await case.settled()

    assert roll.notes.all() == ["start room:1", "start news"]
