"""Topics, subscribers and broadcasts on one node, and the life of a PubSub."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from roost import PubSub
from roost.exceptions import ConfigurationError, NotStarted, WrongThread
from roost.pubsub import LocalAdapter, Subscriber, Subscription
from roost.pubsub.adapter import LinkEvents


@pytest.fixture
async def pubsub() -> AsyncIterator[PubSub]:
    async with PubSub(LocalAdapter("a")).running() as pubsub:
        yield pubsub


class Inbox:
    """A subscriber that keeps what it gets."""

    def __init__(self) -> None:
        self._messages: list[Any] = []

    def __call__(self, message: Any) -> None:
        self._messages.append(message)

    def take(self) -> list[Any]:
        """What came since the last time."""
        messages, self._messages = self._messages, []
        return messages


Broadcast = Callable[[PubSub, Subscriber, str, Any], None]

BROADCASTS: dict[str, Broadcast] = {
    "broadcast": lambda pubsub, sender, topic, message: pubsub.broadcast(topic, message),
    "broadcast_from": lambda pubsub, sender, topic, message: pubsub.broadcast_from(
        sender, topic, message
    ),
    "local_broadcast": lambda pubsub, sender, topic, message: pubsub.local_broadcast(
        topic, message
    ),
    "direct_broadcast": lambda pubsub, sender, topic, message: pubsub.direct_broadcast(
        "a", topic, message
    ),
}

any_broadcast = pytest.mark.parametrize("broadcast", BROADCASTS.values(), ids=BROADCASTS)


# Subscriptions.


@pytest.mark.conforms("PS-1")
def test_a_node_has_a_name():
    """The name of a node is a string: the given one, or one that no other process has."""
    assert PubSub(LocalAdapter("a")).node_name == "a"
    assert isinstance(PubSub().node_name, str)
    assert PubSub().node_name != PubSub().node_name


@pytest.mark.conforms("PS-2")
async def test_subscribe_and_unsubscribe(pubsub: PubSub):
    """A subscription names its subscriber, and no metadata by default; unsubscribing removes it."""
    alice = Inbox()
    subscription = pubsub.subscribe("room:1", alice)

    assert pubsub.subscriptions("room:1") == (subscription,)
    assert (subscription.subscriber, subscription.metadata) == (alice, None)

    pubsub.unsubscribe(subscription)

    assert pubsub.subscriptions("room:1") == ()


@pytest.mark.conforms("PS-6")
async def test_unsubscribing_without_a_subscription_is_harmless(pubsub: PubSub):
    """Who ends a subscription that has ended, or all of none, has what they want."""
    subscription = pubsub.subscribe("room:1", Inbox())
    pubsub.unsubscribe(subscription)

    pubsub.unsubscribe(subscription)
    pubsub.unsubscribe_all("room:1", Inbox())

    assert pubsub.subscriptions("room:1") == ()


async def test_each_subscription_is_one_delivery(pubsub: PubSub):
    """Who subscribes twice gets each message twice, until one of the two ends."""
    alice = Inbox()
    first = pubsub.subscribe("room:1", alice)
    pubsub.subscribe("room:1", alice)

    pubsub.broadcast("room:1", "hello")
    assert alice.take() == ["hello", "hello"]

    pubsub.unsubscribe(first)
    pubsub.broadcast("room:1", "again")
    assert alice.take() == ["again"]


async def test_unsubscribe_all_ends_the_subscriptions_of_one_subscriber_to_one_topic(
    pubsub: PubSub,
):
    """As Phoenix's unsubscribe: all of the caller's to the topic, and nobody else's."""
    alice, bob = Inbox(), Inbox()
    for topic in ("room:1", "room:1", "room:2"):
        pubsub.subscribe(topic, alice)
    pubsub.subscribe("room:1", bob)

    pubsub.unsubscribe_all("room:1", alice)

    assert [each.subscriber for each in pubsub.subscriptions("room:1")] == [bob]
    assert [each.subscriber for each in pubsub.subscriptions("room:2")] == [alice]


# Broadcasts.


@pytest.mark.conforms("PS-3")
async def test_a_broadcast_reaches_every_subscriber(pubsub: PubSub):
    """Every subscriber gets the message itself, when broadcast returns."""
    alice, bob = Inbox(), Inbox()
    pubsub.subscribe("room:1", alice)
    pubsub.subscribe("room:1", bob)
    message = object()

    pubsub.broadcast("room:1", message)

    assert alice.take() == bob.take() == [message]


@pytest.mark.conforms("PS-4")
async def test_a_broadcast_reaches_no_other_topic(pubsub: PubSub):
    """Topics are exact: there are neither prefixes nor wildcards."""
    others = [Inbox() for _ in range(4)]
    for topic, inbox in zip(("room:12", "room:", "room:*", "*"), others, strict=True):
        pubsub.subscribe(topic, inbox)

    pubsub.broadcast("room:1", "hello")

    assert [inbox.take() for inbox in others] == [[], [], [], []]


@pytest.mark.conforms("PS-5")
async def test_broadcast_from_skips_its_sender(pubsub: PubSub):
    """All subscriptions of the sender are skipped, and only those."""
    alice, bob = Inbox(), Inbox()
    for subscriber in (alice, alice, bob):
        pubsub.subscribe("room:1", subscriber)

    pubsub.broadcast_from(alice, "room:1", "hello")

    assert (alice.take(), bob.take()) == ([], ["hello"])


@pytest.mark.conforms("PS-7")
async def test_direct_broadcast_to_the_own_node(pubsub: PubSub):
    """A message for the own node is delivered here."""
    alice = Inbox()
    pubsub.subscribe("room:1", alice)

    pubsub.direct_broadcast(pubsub.node_name, "room:1", "hello")

    assert alice.take() == ["hello"]


@pytest.mark.conforms("PS-8")
async def test_direct_broadcast_to_an_unknown_node(pubsub: PubSub):
    """A message for a node that does not exist is nobody's, and no error."""
    alice = Inbox()
    pubsub.subscribe("room:1", alice)

    pubsub.direct_broadcast("nowhere", "room:1", "hello")

    assert alice.take() == []


@pytest.mark.conforms("PS-9")
async def test_a_local_broadcast_reaches_the_subscribers_on_this_node(pubsub: PubSub):
    """A local broadcast reaches the subscribers on this node."""
    alice = Inbox()
    pubsub.subscribe("room:1", alice)

    pubsub.local_broadcast("room:1", "hello")

    assert alice.take() == ["hello"]


@pytest.mark.conforms("PS-10")
async def test_local_broadcast_with_a_sender(pubsub: PubSub):
    """A local broadcast skips its sender, too."""
    alice, bob = Inbox(), Inbox()
    pubsub.subscribe("room:1", alice)
    pubsub.subscribe("room:1", bob)

    pubsub.local_broadcast("room:1", "hello", sender=alice)

    assert (alice.take(), bob.take()) == ([], ["hello"])


@pytest.mark.conforms("PS-11")
async def test_a_custom_dispatcher(pubsub: PubSub):
    """A dispatcher gets each subscription with its metadata, duplicates too, and the sender."""
    alice, bob = Inbox(), Inbox()
    pubsub.subscribe("room:1", alice, "first")
    pubsub.subscribe("room:1", alice, "second")
    pubsub.subscribe("room:1", bob)
    calls: list[tuple[list[tuple[Any, Any]], Any, Any]] = []

    def dispatcher(
        subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any
    ) -> None:
        entries = [(each.subscriber, each.metadata) for each in subscriptions]
        calls.append((entries, sender, message))

    pubsub.broadcast("room:1", 1, dispatcher=dispatcher)
    pubsub.broadcast_from(alice, "room:1", 2, dispatcher=dispatcher)
    pubsub.local_broadcast("room:1", 3, dispatcher=dispatcher)
    pubsub.local_broadcast("room:1", 4, sender=bob, dispatcher=dispatcher)
    pubsub.direct_broadcast("a", "room:1", 5, dispatcher=dispatcher)

    entries = [(alice, "first"), (alice, "second"), (bob, None)]
    assert calls == [
        (entries, None, 1),
        (entries, alice, 2),
        (entries, None, 3),
        (entries, bob, 4),
        (entries, None, 5),
    ]
    assert alice.take() == bob.take() == []


async def test_a_dispatcher_is_not_called_for_nobody(pubsub: PubSub):
    """A topic without subscribers costs no dispatch."""

    def dispatcher(
        subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any
    ) -> None:
        pytest.fail("there is nobody to dispatch to")

    pubsub.broadcast("room:1", "hello", dispatcher=dispatcher)


@any_broadcast
async def test_a_subscriber_that_raises_keeps_nobody_from_their_message(
    pubsub: PubSub, broadcast: Broadcast, caplog: pytest.LogCaptureFixture
):
    """The others get their message, the caller no exception, and the log the traceback."""

    def broken(message: Any) -> None:
        raise RuntimeError("broken subscriber")

    bob = Inbox()
    pubsub.subscribe("room:1", broken)
    pubsub.subscribe("room:1", bob)

    broadcast(pubsub, Inbox(), "room:1", "hello")

    assert bob.take() == ["hello"]
    assert "a subscriber of 'room:1' raised" in caplog.text
    assert "broken subscriber" in caplog.text


async def test_who_comes_during_a_dispatch_gets_the_next_message(pubsub: PubSub):
    """A dispatch goes to those who were subscribed when it began."""
    late = Inbox()

    def invite(message: Any) -> None:
        pubsub.subscribe("room:1", late)

    invitation = pubsub.subscribe("room:1", invite)

    pubsub.broadcast("room:1", "hello")
    assert late.take() == []

    pubsub.unsubscribe(invitation)
    pubsub.broadcast("room:1", "again")
    assert late.take() == ["again"]


async def test_who_goes_during_a_dispatch_still_gets_this_message(pubsub: PubSub):
    """Who is unsubscribed by an earlier subscriber gets the message on its way, and no other."""
    bob = Inbox()

    def remove_bob(message: Any) -> None:
        pubsub.unsubscribe(subscription)

    pubsub.subscribe("room:1", remove_bob)
    subscription = pubsub.subscribe("room:1", bob)

    pubsub.broadcast("room:1", "hello")
    pubsub.broadcast("room:1", "again")

    assert bob.take() == ["hello"]


async def test_a_broadcast_within_a_broadcast(pubsub: PubSub):
    """A subscriber may broadcast on the same topic; everybody gets both."""
    alice, bob = Inbox(), Inbox()

    def answer(message: Any) -> None:
        if message == "ping":
            pubsub.broadcast("room:1", "pong")

    for subscriber in (alice, answer, bob):
        pubsub.subscribe("room:1", subscriber)

    pubsub.broadcast("room:1", "ping")

    assert alice.take() == ["ping", "pong"]
    assert sorted(bob.take()) == ["ping", "pong"]


# Threads.


async def in_thread(function: Callable[[], object]) -> BaseException | None:
    """Run a function in a thread; return what it raised."""

    def run() -> BaseException | None:
        try:
            function()
        except Exception as error:
            return error
        return None

    return await asyncio.to_thread(run)


USES: dict[str, Callable[[PubSub], object]] = {
    "subscribe": lambda pubsub: pubsub.subscribe("room:1", print),
    "unsubscribe": lambda pubsub: pubsub.unsubscribe(Subscription("room:1", print)),
    "broadcast": lambda pubsub: pubsub.broadcast("room:1", "hello"),
    "local_broadcast": lambda pubsub: pubsub.local_broadcast("room:1", "hello"),
    "direct_broadcast": lambda pubsub: pubsub.direct_broadcast("b", "room:1", "hello"),
}

any_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@any_use
async def test_it_belongs_to_the_thread_of_its_loop(
    pubsub: PubSub, use: Callable[[PubSub], object]
):
    """From another thread, everything but call_soon raises and names what may be called there."""
    error = await in_thread(lambda: use(pubsub))

    assert isinstance(error, WrongThread)
    assert "endpoint.broadcast" in str(error)


@any_use
def test_it_must_be_running(use: Callable[[PubSub], object]):
    """Before start, everything raises and names the remedy."""
    with pytest.raises(NotStarted, match=r"pubsub\.running\(\)"):
        use(PubSub())


async def test_call_soon_on_the_loops_thread_is_at_once(pubsub: PubSub):
    """On the loop's thread the callback has run when call_soon returns."""
    threads = []
    pubsub.call_soon(lambda: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]


async def test_call_soon_from_another_thread_is_on_the_loops_thread(pubsub: PubSub):
    """From another thread the callback runs on the loop's thread, soon."""
    ran_in: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    await asyncio.to_thread(pubsub.call_soon, lambda: ran_in.set_result(threading.get_ident()))

    async with asyncio.timeout(5):
        assert await ran_in == threading.get_ident()


def test_call_soon_must_be_running():
    """Before start there is no loop to call back on."""
    with pytest.raises(NotStarted):
        PubSub().call_soon(lambda: None)


# Life.


async def ticks() -> None:
    """Let everything run that can run."""
    for _ in range(10):
        await asyncio.sleep(0)


class Engine(LocalAdapter):
    """An adapter that notes its starts and closes, and lets a test hold or fail them.

    Attributes:
        gate: A start or close goes on when it is set.
        error: What start raises.
    """

    def __init__(self) -> None:
        super().__init__("a")
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.deliver: Callable[[bytes], None]

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        self.log.append("starting")
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.deliver = deliver
        self.log.append("started")

    async def close(self) -> None:
        self.log.append("closing")
        await self.gate.wait()
        self.log.append("closed")


async def test_the_last_user_ends_the_run():
    """Several users share a run; subscriptions live until the last of them stops."""
    engine = Engine()
    pubsub = PubSub(engine)
    await pubsub.start()
    await pubsub.start()
    pubsub.subscribe("room:1", Inbox())

    await pubsub.stop()
    assert len(pubsub.subscriptions("room:1")) == 1

    await pubsub.stop()
    assert not pubsub.is_running
    assert engine.log == ["starting", "started", "closing", "closed"]


async def test_stopping_once_too_often():
    """A stop without a start is a mistake of the caller, and says so."""
    pubsub = PubSub()
    async with pubsub.running():
        pass

    with pytest.raises(NotStarted):
        await pubsub.stop()


async def test_a_new_run_knows_nothing_of_the_last():
    """Subscriptions belong to a run; ending one of an earlier run is harmless."""
    pubsub = PubSub()
    alice = Inbox()
    async with pubsub.running():
        subscription = pubsub.subscribe("room:1", alice)

    async with pubsub.running():
        pubsub.broadcast("room:1", "hello")
        pubsub.unsubscribe(subscription)

    assert alice.take() == []


def test_it_runs_on_one_loop_after_the_other():
    """A PubSub at module level serves one test after the other, each on a loop of its own."""
    engine = Engine()
    pubsub = PubSub(engine)

    async def use() -> list[Any]:
        engine.gate = asyncio.Event()
        starts = [asyncio.ensure_future(pubsub.start()) for _ in range(2)]
        await ticks()
        engine.gate.set()
        await asyncio.gather(*starts)
        alice = Inbox()
        pubsub.subscribe("room:1", alice)
        pubsub.broadcast("room:1", "hello")
        await asyncio.gather(pubsub.stop(), pubsub.stop())
        return alice.take()

    assert asyncio.run(use()) == ["hello"]
    assert asyncio.run(use()) == ["hello"]


def test_a_loop_that_was_closed_without_stop_takes_its_run_along():
    """A run whose loop is gone does not keep the next loop from starting one."""
    pubsub = PubSub()

    async def start_only() -> None:
        await pubsub.start()

    async def start_and_stop() -> None:
        async with pubsub.running():
            assert pubsub.is_running

    asyncio.run(start_only())
    asyncio.run(start_and_stop())
    assert not pubsub.is_running


async def test_it_does_not_run_on_two_loops_at_once():
    """Another loop can't join a run: nothing in it is meant for two threads."""
    pubsub = PubSub()

    def start_elsewhere() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(pubsub.start())

    async with pubsub.running():
        await asyncio.to_thread(start_elsewhere)
        assert pubsub.is_running


async def test_users_that_start_together_all_wait_for_the_adapter():
    """Nobody's start returns before the adapter's does, and it is started once."""
    engine = Engine()
    engine.gate.clear()
    pubsub = PubSub(engine)
    starts = [asyncio.ensure_future(pubsub.start()) for _ in range(2)]
    await ticks()
    assert not any(start.done() for start in starts)

    engine.gate.set()
    await asyncio.gather(*starts)

    assert engine.log == ["starting", "started"]


async def test_a_start_during_a_stop_waits_for_it():
    """The adapter is closed before it is started anew, never both at once."""
    engine = Engine()
    pubsub = PubSub(engine)
    await pubsub.start()
    engine.gate.clear()

    stop = asyncio.ensure_future(pubsub.stop())
    start = asyncio.ensure_future(pubsub.start())
    await ticks()
    engine.gate.set()
    await asyncio.gather(stop, start)

    assert engine.log == ["starting", "started", "closing", "closed", "starting", "started"]
    assert pubsub.is_running


async def test_a_start_that_fails_leaves_nothing():
    """If the adapter can't start, the error is the caller's and the next start tries again."""
    engine = Engine()
    engine.error = OSError("no engine")
    pubsub = PubSub(engine)

    with pytest.raises(OSError, match="no engine"):
        await pubsub.start()
    assert not pubsub.is_running

    engine.error = None
    async with pubsub.running():
        assert engine.log == ["starting", "starting", "started"]


async def test_running_stops_after_an_error():
    """The run ends with its block, however that ends."""
    pubsub = PubSub()

    async def fail() -> None:
        async with pubsub.running():
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert not pubsub.is_running


async def test_what_arrives_while_it_stops_is_dropped():
    """An adapter may deliver until its close returns; there is nobody for it, and no error."""
    engine = Engine()
    pubsub = PubSub(engine)
    await pubsub.start()
    engine.gate.clear()
    stop = asyncio.ensure_future(pubsub.stop())
    await ticks()

    engine.deliver(b"late")

    engine.gate.set()
    await stop
    assert pubsub.counters == {}
