"""How handlers run: one thing at a time in each channel, in order, and nobody waits for others."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from itertools import pairwise
from typing import Any

import pytest

from roost import Channel, Socket, event, intercept
from roost.channels import mailbox
from roost.channels.mailbox import Mailbox
from roost.exceptions import ConfigurationError, MailboxFull, WrongThread
from roost.testing import ChannelCase
from tests.channels.scenes import Join, Notes, said, ticks

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

# Def handlers, async handlers.


async def test_a_def_handler_runs_inline(join: Join):
    """A def handler has run, and its reply is written, when its message has been received."""

    class RoomChannel(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            assert asyncio.current_task() is not None  # of the receiver: it has none of its own
            return {}

    room = await join(RoomChannel)
    room.push("ping")
    assert said(room.client) == ["reply ok 1/2"]


async def test_an_async_handler_runs_as_a_task(join: Join):
    """An async handler has a task, which is its channel's alone and ends with its work."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(Channel):
        @event("ping")
        async def ping(self, payload: Any) -> Any:
            notes.add(asyncio.current_task())
            await gate.wait()
            return {}

    room = await join(RoomChannel)
    ref = room.push("ping")
    task = await notes.take()
    assert task is not asyncio.current_task()
    assert said(room.client) == []

    gate.set()
    await room.assert_reply(ref, "ok")
    assert task.done()


async def test_messages_are_handled_in_order_whatever_their_handlers(join: Join):
    """Def, async and threaded handlers take turns: each message waits for the one before it."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.assigns["log"] = []

        @event("def")
        def inline(self, payload: Any) -> None:
            self.assigns["log"].append(payload["n"])

        @event("async")
        async def later(self, payload: Any) -> None:
            for _ in range(payload["n"] % 4):
                await asyncio.sleep(0)
            self.assigns["log"].append(payload["n"])

        @event("thread", threaded=True)
        def in_thread(self, payload: Any) -> None:
            self.assigns["log"].append(payload["n"])

        @event("log")
        def log(self, payload: Any) -> Any:
            return {"log": self.assigns["log"]}

    room = await join(RoomChannel)
    names = ["async", "def", "thread", "def", "async", "async", "def", "def", "thread"] * 5
    for n, name in enumerate(names):
        room.push(name, {"n": n})
    ref = room.push("log")
    await room.assert_reply(ref, "ok", {"log": list(range(len(names)))})


async def test_everything_that_is_handled_takes_turns(case: ChannelCase, join: Join):
    """Interceptions and sent messages wait behind a handler that runs, in their order."""
    gate, notes = asyncio.Event(), Notes()

    class RoomChannel(Channel):
        @event("think")
        async def think(self, payload: Any) -> None:
            await gate.wait()
            notes.add("thought")

        @event("ping")
        def ping(self, payload: Any) -> None:
            notes.add("ping")

        @intercept("shout")
        def shout(self, payload: Any) -> None:
            notes.add("shout")

        def handle_info(self, message: Any) -> None:
            notes.add(message)

    room = await join(RoomChannel)
    room.push("think")
    case.broadcast("room:1", "shout")
    room.push("ping")
    room.channel.send("info")
    await ticks()
    assert notes.all() == []

    gate.set()
    assert [await notes.take() for _ in range(4)] == ["thought", "shout", "ping", "info"]


async def test_no_handler_runs_inside_another(case: ChannelCase, join: Join):
    """What a handler causes in its own channel is handled when it has returned."""

    class RoomChannel(Channel):
        @event("go")
        def go(self, payload: Any) -> Any:
            self.send("info")
            self.broadcast("shout")
            self.push("end of go")

        @intercept("shout")
        def shout(self, payload: Any) -> None:
            self.push("intercepted")

        def handle_info(self, message: Any) -> None:
            self.push("info")

    room = await join(RoomChannel)
    room.push("go")
    await ticks()
    assert said(room.client) == ["end of go 1/", "info 1/", "intercepted 1/"]


async def test_a_slow_handler_holds_up_its_channel_only(case: ChannelCase):
    """Other topics of the same connection, and its heartbeats, are answered meanwhile."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        @event("think")
        async def think(self, payload: Any) -> Any:
            await gate.wait()
            return {}

        @event("ping")
        def ping(self, payload: Any) -> Any:
            return {}

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    alice = await case.connect(UserSocket)
    first, second = await alice.join("room:1"), await alice.join("room:2")
    thinking, waiting = first.push("think"), first.push("ping")

    ref = second.push("ping")
    await second.assert_reply(ref, "ok")
    alice.send(None, "99", "phoenix", "heartbeat", {})
    assert said(alice) == ["reply ok /99"]

    gate.set()
    await first.assert_reply(thinking, "ok")
    await first.assert_reply(waiting, "ok")


async def test_a_slow_join_holds_up_its_topic_only(case: ChannelCase):
    """A join that takes its time delays no other topic and no heartbeat."""
    gate = asyncio.Event()

    class SlowChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await gate.wait()

    class UserSocket(Socket):
        channels = {"slow": SlowChannel, "room:*": Channel}

    alice = await case.connect(UserSocket)
    joining = asyncio.ensure_future(alice.join("slow"))
    await ticks()
    await alice.join("room:1")
    alice.send(None, "99", "phoenix", "heartbeat", {})
    assert said(alice) == ["reply ok /99"]
    assert not joining.done()

    gate.set()
    await joining


@pytest.mark.parametrize("first", ["at once", "async"])
async def test_a_busy_channel_leaves_turns_to_others(
    join: Join, monkeypatch: pytest.MonkeyPatch, first: str
):
    """A channel that sends itself message after message has a turn of 5 ms, and then waits."""
    clock = Clock()
    monkeypatch.setattr(mailbox, "time", clock)
    handled, others = 0, [0]  # how many were handled when others had their turn

    class RoomChannel(Channel):
        def handle_info(self, message: Any) -> Any:
            nonlocal handled
            handled += 1
            clock.now += 0.001
            if handled < 100:
                self.send(message)
            return asyncio.sleep(0) if first == "async" and handled == 1 else None

    def another() -> None:
        others.append(handled)
        if handled < 100:
            asyncio.get_running_loop().call_soon(another)

    room = await join(RoomChannel)
    room.channel.send("again")
    another()
    await ticks(100)

    turns = [later - earlier for earlier, later in pairwise(others)]
    assert sum(turns) == 100
    assert max(turns) <= 7  # and one more, before the time is looked at


async def test_many_steps_at_once_are_all_done(join: Join):
    """More steps than one turn has are finished in further turns, behind def and async handlers."""

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.assigns["count"] = 0

        @event("start")
        async def start(self, payload: Any) -> None:
            await asyncio.sleep(0)

        @event("count")
        def count(self, payload: Any) -> Any:
            self.assigns["count"] += 1
            return {"count": self.assigns["count"]}

    room = await join(RoomChannel)
    for _ in range(2):
        room.push("start")
        for _ in range(300):
            ref = room.push("count")
    await room.assert_reply(ref, "ok", {"count": 600})


async def test_handlers_that_never_wait_let_others_have_their_turn(join: Join):
    """An async handler that keeps its own channel busy does not keep the loop."""
    turns = 0

    class RoomChannel(Channel):
        async def handle_info(self, message: Any) -> None:
            self.send("again")

    room = await join(RoomChannel)
    room.channel.send("begin")
    for _ in range(10):
        await asyncio.sleep(0)
        turns += 1

    assert turns == 10
    await room.close()


# Threads.


async def test_a_threaded_handler_runs_in_a_thread(case: ChannelCase):
    """A handler that blocks runs elsewhere, sees the context, and may return a reply."""

    class RoomChannel(Channel):
        @event("block", threaded=True)
        def block(self, payload: Any) -> Any:
            seen = user.get()
            user.set("changed in the thread")
            return {"thread": threading.get_ident(), "user": seen}

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        def connect(self, params: Any, info: Any) -> None:
            user.set("alice")

    alice = await case.connect(UserSocket)
    room = await alice.join("room:1")
    for _ in range(2):  # the context is a copy: what it changes stays in the thread
        reply = await room.assert_reply(room.push("block"), "ok")
        assert reply["thread"] != threading.get_ident()
        assert reply["user"] == "alice"


@pytest.mark.parametrize(
    "use",
    [
        lambda channel: channel.push("hello"),
        lambda channel: channel.broadcast("hello"),
        lambda channel: channel.broadcast_from("hello"),
        lambda channel: channel.reply(),
        lambda channel: channel.send("hello"),
        lambda channel: channel.send_after(1, "hello"),
        lambda channel: channel.stop(),
        lambda channel: channel.subscribe("news"),
        lambda channel: channel.unsubscribe("news"),
        lambda channel: channel.add_done_callback(print),
        lambda channel: channel.spawn(asyncio.sleep(0)),
    ],
    ids=[
        "push",
        "broadcast",
        "broadcast_from",
        "reply",
        "send",
        "send_after",
        "stop",
        "subscribe",
        "unsubscribe",
        "add_done_callback",
        "spawn",
    ],
)
async def test_a_thread_cant_use_the_channel(join: Join, use: Any):
    """What belongs to the loop's thread raises in a threaded handler, and says what to do."""

    class RoomChannel(Channel):
        @event("block", threaded=True)
        def block(self, payload: Any) -> Any:
            with pytest.raises(WrongThread, match="call_soon_threadsafe") as error:
                use(self)
            return {"what": error.value.what}

    room = await join(RoomChannel)
    await room.assert_reply(room.push("block"), "ok")


async def test_a_threaded_handler_that_raises(join: Join):
    """An error in the thread is an error of the handler."""

    class RoomChannel(Channel):
        @event("block", threaded=True)
        def block(self, payload: Any) -> Any:
            raise RuntimeError("in the thread")

    room = await join(RoomChannel)
    room.push("block")
    await room.assert_errored()


def test_an_async_handler_cant_be_threaded():
    """That would be two ways of not blocking: refused where it is declared."""
    with pytest.raises(ConfigurationError, match="block is async"):

        class RoomChannel(Channel):
            @event("block", threaded=True)
            async def block(self, payload: Any) -> None: ...


# The context.


async def test_every_handler_sees_the_context_of_connect(case: ChannelCase, join: Join):
    """Context variables set in connect are seen wherever the channel's code runs."""
    notes = Notes()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            notes.add(("join", user.get()))

        async def after_join(self) -> None:
            notes.add(("after_join", user.get()))

        @event("def")
        def inline(self, payload: Any) -> None:
            notes.add(("def", user.get()))

        @event("async")
        async def later(self, payload: Any) -> None:
            notes.add(("async", user.get()))
            self.spawn(self.spawned())

        async def spawned(self) -> None:
            notes.add(("spawned", user.get()))

        @intercept("shout")
        def shout(self, payload: Any) -> None:
            notes.add(("intercept", user.get()))

        def handle_info(self, message: Any) -> None:
            notes.add(("info", user.get()))

        async def terminate(self, reason: Any) -> None:
            notes.add(("terminate", user.get()))

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

        async def connect(self, params: Any, info: Any) -> None:
            user.set(params["name"])

    steps = ["join", "after_join", "def", "async", "spawned", "intercept", "info", "terminate"]
    for name in ("alice", "bob"):
        client = await case.connect(UserSocket, {"name": name})
        room = await client.join(f"room:{name}")
        room.push("def")
        room.push("async")
        case.broadcast(f"room:{name}", "shout")
        room.channel.send("info")
        await ticks()
        await room.close()
        assert sorted(notes.all()) == sorted((step, name) for step in steps)
    assert user.get() == "nobody"


# What holds the loop.


async def test_a_handler_that_holds_the_loop_is_named_in_the_log(
    join: Join, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A def handler over 100 ms delays everybody: the log has its channel and event."""
    clock = Clock()
    monkeypatch.setattr(mailbox, "time", clock)

    class RoomChannel(Channel):
        @event("work")
        def work(self, payload: Any) -> None:
            clock.now += payload["seconds"]

    with caplog.at_level(logging.WARNING, "roost.channels"):
        room = await join(RoomChannel)
        room.push("work", {"seconds": 0.1})
        room.push("work", {"seconds": 0.125})

    (record,) = caplog.records
    assert "RoomChannel 'room:1'> held the event loop for 125 ms" in record.getMessage()
    assert "handling work: make the handler async, or threaded" in record.getMessage()


def test_between_two_messages_none_is_handled():
    """A def handler that returned is not current any more, nor is what it was given kept."""

    class Host:
        def finished(self, argument: Any, result: Any) -> None:
            assert box.current is argument

    host: Any = Host()
    box = Mailbox(host, contextvars.copy_context(), 10)
    box.deliver(lambda argument: None, "message")

    assert box.current is None


class Clock:
    """Time that goes by as a test says."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


# Bounds.


async def test_a_full_mailbox_answers_overloaded(
    case: ChannelCase, join: Join, caplog: pytest.LogCaptureFixture
):
    """What a client sends beyond the bound is answered at once, counted, logged, not handled."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        max_mailbox_count = 2

        @event("think")
        async def think(self, payload: Any) -> Any:
            await gate.wait()
            return {}

    room = await join(RoomChannel)
    refs = [room.push("think") for _ in range(5)]  # one runs, two wait

    for ref in refs[3:]:
        await room.assert_reply(ref, "error", {"reason": "overloaded"})
    assert case.endpoint.counters["mailbox_full"] == 2
    (line,) = caplog.messages  # the second one is in a line that comes in a minute
    assert line.startswith("full mailboxes took no more of 1 messages, the last for <")
    assert "RoomChannel 'room:1'>" in line

    gate.set()
    for ref in refs[:3]:
        await room.assert_reply(ref, "ok")
    assert said(room.client) == []


async def test_a_full_mailbox_drops_interceptions_and_other_topics(case: ChannelCase, join: Join):
    """Broadcasts for a full mailbox are dropped and counted; the broadcaster does not notice."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        max_mailbox_count = 1

        def join(self, topic: str, params: Any) -> None:
            self.subscribe("news")

        @event("think")
        async def think(self, payload: Any) -> None:
            await gate.wait()

        @intercept("shout")
        def shout(self, payload: Any) -> None:
            self.push("shout", payload)

    room = await join(RoomChannel)
    room.push("think")
    for n in range(3):
        case.broadcast("room:1", "shout", {"n": n})
    case.broadcast("news", "flash")
    assert case.endpoint.counters["mailbox_full"] == 3

    gate.set()
    await room.assert_push("shout", {"n": 0})
    await ticks()
    assert said(room.client) == []


async def test_send_to_a_full_mailbox_raises(join: Join):
    """Who sends learns that the message was not taken; the error has the bound."""

    class RoomChannel(Channel):
        max_mailbox_count = 3

    room = await join(RoomChannel)
    for n in range(3):
        room.channel.send(n)

    with pytest.raises(MailboxFull, match=r"'room:1' is full \(3 messages\)") as error:
        room.channel.send("one too many")
    assert (error.value.topic, error.value.max_count) == ("room:1", 3)


async def test_a_leave_gets_into_a_full_mailbox(join: Join):
    """A client that gives up on an overloaded channel must get out of it."""
    gate = asyncio.Event()

    class RoomChannel(Channel):
        max_mailbox_count = 1

        @event("think")
        async def think(self, payload: Any) -> None:
            await gate.wait()

    room = await join(RoomChannel)
    room.push("think")
    room.push("think")
    ref = room.leave()
    gate.set()

    await room.assert_reply(ref, "ok")
    await room.assert_closed()


# A mailbox by itself.


class Host:
    """Notes how steps end."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []

    def finished(self, argument: Any, result: Any) -> None:
        self.log.append((argument, result))

    def failed(self, argument: Any, error: BaseException) -> None:
        self.log.append((argument, type(error).__name__))

    def held_loop(self, argument: Any, duration: float) -> None:
        self.log.append((argument, "held"))


async def test_deliver_runs_at_once_and_post_later():
    """Deliver is for the top of the stack; what was posted before still comes before."""
    host = Host()
    box = Mailbox(host, contextvars.copy_context(), 10)

    box.deliver(str.upper, "a")
    assert host.log == [("a", "A")]

    box.post(str.upper, "b")
    box.deliver(str.upper, "c")
    assert host.log == [("a", "A")]

    await ticks(1)
    assert host.log == [("a", "A"), ("b", "B"), ("c", "C")]


async def test_a_closed_mailbox_runs_nothing():
    """Closing drops what waits and what comes; what runs may finish, or is cancelled."""
    host, gate = Host(), asyncio.Event()
    box = Mailbox(host, contextvars.copy_context(), 10)

    async def wait(argument: str) -> str:
        await gate.wait()
        return argument.upper()

    box.deliver(wait, "a")
    box.deliver(str.upper, "b")
    await ticks()
    task = box.close()
    box.deliver(str.upper, "c")
    box.post(str.upper, "d")
    gate.set()
    assert task is not None
    await task

    await ticks()
    assert host.log == [("a", "A")]


async def test_a_cancelled_step_that_never_began_leaves_no_warning():
    """A coroutine whose task is cancelled before its first step is closed, not forgotten."""
    host = Host()
    box = Mailbox(host, contextvars.copy_context(), 10)

    async def never(argument: str) -> None:
        pytest.fail("it never begins")

    box.deliver(never, "a")
    task = box.close(cancel=True)
    assert task is not None
    await asyncio.wait({task})
    await ticks()
    assert host.log in ([], [("a", "CancelledError")])
