"""What a channel has ends with it: tasks, timers, subscriptions, callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roost import Broadcast, Channel, JoinRefused, Socket, event
from roost.exceptions import ChannelClosed
from roost.testing import ChannelCase
from tests.channels.scenes import Join, Notes, said, ticks
from tests.virtual_clock import run_virtually

# Tasks.


async def test_a_spawned_task_ends_with_its_channel(join: Join):
    """A task of the channel is cancelled when the channel ends, before terminate is called."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("start")
        def start(self, payload: Any) -> None:
            self.spawn(self.work())

        async def work(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)  # it may clean up
                notes.add("cancelled")
                raise

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push("start")
    await ticks()
    room.leave()

    assert [await notes.take(), await notes.take()] == ["cancelled", "left"]


async def test_a_spawned_task_works_beside_the_handlers(join: Join):
    """A task holds up nothing, and may say what a handler may say."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        def after_join(self) -> None:
            self.spawn(self.work())

        async def work(self) -> str:
            await gate.wait()
            self.push("worked")
            return "done"

        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {}

    room = await join(RoomChannel)
    await room.assert_reply(room.push("ping"), "ok")

    gate.set()
    await room.assert_push("worked")
    assert room.channel.is_joined


async def test_spawn_returns_the_task(join: Join):
    """Who spawns may await the result, or cancel the task, which is no crash."""
    room = await join(Channel)

    async def answer() -> int:
        return 42

    assert await room.channel.spawn(answer()) == 42

    task = room.channel.spawn(asyncio.sleep(60))
    task.cancel()
    await asyncio.wait({task})
    await ticks()
    assert room.channel.is_joined


async def test_a_spawned_task_that_raises_ends_its_channel(
    join: Join, caplog: pytest.LogCaptureFixture
):
    """Nothing fails quietly: an error in a task is an error of its channel."""
    notes = Notes()

    class RoomChannel(Channel):
        @event("start")
        def start(self, payload: Any) -> None:
            self.spawn(self.work())

        async def work(self) -> None:
            raise LookupError("in the task")

        def terminate(self, reason: Any) -> None:
            notes.add(reason)

    room = await join(RoomChannel)
    room.push("start")

    await room.assert_errored()
    assert isinstance(await notes.take(), LookupError)
    assert "in the task" in caplog.text


async def test_a_task_of_a_join_that_fails_ends_with_it(join: Join):
    """What join spawned is cancelled if the join is refused, or ends the join if it raises."""
    notes = Notes()

    class Refusing(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.assigns["task"] = self.spawn(asyncio.sleep(60))
            notes.add(self.assigns["task"])
            raise JoinRefused({"reason": "no"})

    with pytest.raises(JoinRefused, match="no"):
        await join(Refusing)
    assert (await notes.take()).cancelled()

    class Failing(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.spawn(self.fail())
            await asyncio.Event().wait()

        async def fail(self) -> None:
            raise LookupError

    with pytest.raises(JoinRefused, match="join crashed"):
        await join(Failing)


async def test_a_task_that_never_began_leaves_no_warning(join: Join):
    """A coroutine that was spawned in the tick of the end is closed, and none is forgotten."""

    async def never() -> None:
        pytest.fail("it never begins")

    room = await join(Channel)
    room.channel.spawn(never())
    await room.close()

    with pytest.raises(ChannelClosed):
        room.channel.spawn(never())


# Messages and timers.


async def test_a_sent_message_ends_with_its_channel(join: Join):
    """What still waits in the mailbox at the end is dropped."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)
            self.stop()

    room = await join(RoomChannel)
    room.channel.send("first")
    room.channel.send("second")
    await room.assert_closed()
    await ticks()
    assert notes.all() == ["first"]


def test_send_after_waits():
    """A message arrives after its delay, in the order of time, unless its handle is cancelled."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add((asyncio.get_running_loop().time(), message))

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await joined(case, RoomChannel)
            channel = room.channel
            channel.send_after(2.0, "late")
            channel.send_after(1.0, "soon")
            channel.send_after(1.5, "never").cancel()
            await asyncio.sleep(10)
            assert notes.all() == [(1.0, "soon"), (2.0, "late")]

    run_virtually(scene())


def test_a_timer_that_rang_is_forgotten():
    """A channel that has one after the other keeps none of them."""

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            pass

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await case.client(Socket()).join("room:1", channel=RoomChannel)
            for _ in range(10):
                room.channel.send_after(1.0, "tick")
                await asyncio.sleep(2)

            (runner,) = room.client.connection.runners
            resources = runner._resources
            assert resources is not None
            assert not resources._timers

    run_virtually(scene())


def test_send_after_ends_with_its_channel():
    """A timer of a channel that has ended does nothing."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await joined(case, RoomChannel)
            handle = room.channel.send_after(1.0, "late")
            await room.close()
            assert handle.cancelled()
            await asyncio.sleep(10)
            assert notes.all() == []

    run_virtually(scene())


def test_send_after_to_a_full_mailbox_is_dropped():
    """A timer has nobody to raise to: its message is dropped and counted."""

    class RoomChannel(Channel):
        max_mailbox_count = 1

        @event("think")
        async def think(self, payload: Any) -> None:
            await asyncio.sleep(5)

    async def scene() -> None:
        async with ChannelCase() as case:
            room = await joined(case, RoomChannel)
            room.push("think")
            for _ in range(3):
                room.channel.send_after(1.0, "tick")
            await asyncio.sleep(2)
            assert case.endpoint.counters["mailbox_full"] == 2

    run_virtually(scene())


# Subscriptions.


async def test_a_topic_is_subscribed_to_once(case: ChannelCase, join: Join):
    """Subscribing again changes nothing: each broadcast comes once."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)

    room = await join(RoomChannel)
    for _ in range(3):
        room.channel.subscribe("news")
    case.broadcast("news", "flash", {"n": 1})
    case.endpoint.pubsub.broadcast("news", "plain")
    await ticks()

    assert notes.all() == [Broadcast("news", "flash", {"n": 1}), "plain"]


async def test_unsubscribing_ends_a_subscription_and_is_harmless_without_one(
    case: ChannelCase, join: Join
):
    """Unsubscribing ends it, and is harmless for a topic that was not subscribed to."""
    notes = Notes()

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> None:
            notes.add(message)

    room = await join(RoomChannel)
    room.channel.subscribe("news")
    room.channel.unsubscribe("news")
    room.channel.unsubscribe("news")
    case.broadcast("news", "flash")
    await ticks()

    assert notes.all() == []
    assert case.endpoint.pubsub.subscriptions("news") == ()


async def test_subscriptions_end_with_the_channel(case: ChannelCase, join: Join):
    """Nothing of an ended channel is subscribed to anything."""
    room = await join(Channel)
    room.unsubscribe()  # the test kit's own
    room.channel.subscribe("news")
    assert len(case.endpoint.pubsub.subscriptions("room:1")) == 1

    await room.close()

    assert case.endpoint.pubsub.subscriptions("room:1") == ()
    assert case.endpoint.pubsub.subscriptions("news") == ()


async def test_a_refused_join_leaves_no_subscription(case: ChannelCase, join: Join):
    """What join subscribed to ends with its refusal."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.subscribe("news")
            raise JoinRefused

    with pytest.raises(JoinRefused):
        await join(RoomChannel)
    assert case.endpoint.pubsub.subscriptions("room:1") == ()
    assert case.endpoint.pubsub.subscriptions("news") == ()


# Callbacks.


async def test_done_callbacks_are_called_with_the_channel(join: Join):
    """Each callback is called once, at the end, in order, before terminate."""
    notes = Notes()

    class RoomChannel(Channel):
        def terminate(self, reason: Any) -> None:
            notes.add("terminate")

    room = await join(RoomChannel)
    room.channel.add_done_callback(lambda channel: notes.add(("first", channel)))
    room.channel.add_done_callback(lambda channel: notes.add(("second", channel)))
    assert notes.all() == []

    await room.close()
    await room.close()

    channel = room.channel
    assert notes.all() == [("first", channel), ("second", channel), "terminate"]


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
async def test_a_done_callback_that_raises_keeps_nothing_from_ending(
    case: ChannelCase, join: Join, caplog: pytest.LogCaptureFixture, error: type[BaseException]
):
    """Its error is logged; the other callbacks are called, and the channel ends as it would."""
    notes = Notes()

    def fail(channel: Channel) -> None:
        raise error("in a callback")

    room = await join(Channel)
    room.channel.add_done_callback(fail)
    room.channel.add_done_callback(notes.add)
    ref = room.leave()

    await room.assert_reply(ref, "ok")
    await room.assert_closed()
    assert notes.all() == [room.channel]
    assert "in a callback" in caplog.text
    await case.settled()
    assert said(room.client) == []


async def joined(case: ChannelCase, channel: type[Channel]) -> Any:
    return await case.client(Socket()).join("room:1", channel=channel)
