"""A conformance suite for adapters: does this engine carry a cluster?

Give it adapters, and it states what PubSub and presences rely on. It needs pytest, pytest-asyncio
and the engine itself: a fake in its place would only show what you believe of it.

::

    import pytest
    from roost.testing.adapters import AdapterConformance, LinkConformance, OutageConformance

    class MyEngine:
        def __init__(self, url):
            self.url = url

        def adapter(self, node_name=None, namespace="suite"):
            return MyAdapter(self.url, node_name=node_name, namespace=namespace)

    class TestMyAdapter(AdapterConformance):
        @pytest.fixture
        def engine(self):
            with my_server() as url:
                yield MyEngine(url)

Add ``LinkConformance`` to the bases if the adapter reports links, and ``OutageConformance`` if its
engine is a server that the tests can stop: it then needs a ``BreakableEngine``. The fixture may
live longer than a test, as every test leaves the engine empty and working.

What takes time is waited for, ``patience`` seconds at most; there are no pauses. To show that
something does *not* arrive, a test sends something else after it, which does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any, ClassVar, Protocol

import pytest

from roost.exceptions import AdapterError
from roost.pubsub.adapter import Adapter

__all__ = [
    "AdapterConformance",
    "BreakableEngine",
    "Engine",
    "LinkConformance",
    "Node",
    "OutageConformance",
]


class Engine(Protocol):
    """Makes adapters that reach each other."""

    def adapter(self, node_name: str | None = None, namespace: str = "suite") -> Adapter:
        """A new adapter, not started; adapters of different namespaces don't hear each other."""
        ...


class BreakableEngine(Engine, Protocol):
    """An engine that can fail; each of these returns once it is so."""

    def missing(self) -> Adapter:
        """An adapter for an address where there is no engine."""
        ...

    def refused(self) -> Adapter:
        """An adapter that this engine refuses, for credentials of which ``wrong`` is a part."""
        ...

    async def stop(self) -> None:
        """End the engine's process without a goodbye, as ``kill -9`` does."""
        ...

    async def start(self) -> None:
        """Start it again, at the same address."""
        ...

    async def stall(self) -> None:
        """Halt its process, as ``kill -STOP`` does: connections stay, nothing is answered."""
        ...

    async def resume(self) -> None:
        """Let it go on."""
        ...


class Node:
    """An adapter that runs, and what came of it.

    Attributes:
        adapter: The adapter.
        messages: What was delivered, in order.
        told: What was reported of links, for example ``("link_up", "alice", "6f1c")``.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.messages: list[bytes] = []
        self.told: list[tuple[str, ...]] = []
        self.met: set[bytes] = set()

    async def start(self) -> None:
        await self.adapter.start(self.deliver, self)

    def deliver(self, data: bytes) -> None:
        if data.startswith(_MEETING):
            self.met.add(data)
        else:
            self.messages.append(data)

    def link_up(self, node_name: str, link: str) -> None:
        self.told.append(("link_up", node_name, link))

    def link_down(self, link: str) -> None:
        self.told.append(("link_down", link))

    def detached(self) -> None:
        self.told.append(("detached",))

    def attached(self) -> None:
        self.told.append(("attached",))


_MEETING = b"roost.testing: is anybody there? "
_meetings = count()


class _Suite:
    patience: ClassVar[float] = 15.0
    """Seconds to wait at most for what must happen."""

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it holds, or fail: ``what`` didn't happen."""
        deadline = time.monotonic() + self.patience
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {self.patience:g} s")
            await asyncio.sleep(0.005)

    @asynccontextmanager
    async def running(self, *adapters: Adapter) -> AsyncIterator[list[Node]]:
        """Run adapters that have met: what one publishes now reaches the others."""
        async with AsyncExitStack() as stack:
            nodes = [Node(adapter) for adapter in adapters]
            for node in nodes:
                await node.start()
                stack.push_async_callback(node.adapter.close)
            await self.meet(*nodes)
            yield nodes

    async def meet(self, *nodes: Node) -> None:
        """Wait until each of the nodes hears each other; some engines find them by and by."""
        deadline = time.monotonic() + self.patience
        words = [_MEETING + b"%d" % next(_meetings) for _ in nodes]

        def have_met() -> bool:
            return all(
                {*words} - {word} <= node.met for node, word in zip(nodes, words, strict=True)
            )

        while not have_met():
            if time.monotonic() > deadline:
                pytest.fail(f"the nodes don't hear each other within {self.patience:g} s")
            for node, word in zip(nodes, words, strict=True):
                node.adapter.publish(word)
            for _ in range(10):
                if not have_met():
                    await asyncio.sleep(0.01)

    async def is_told(self, node: Node, what: str) -> None:
        """Wait until one such thing was reported to the node, for example ``detached``."""
        name = node.adapter.node_name
        await self.until(lambda: what in [told[0] for told in node.told], f"{name} is told {what}")

    async def is_attached(self, node: Node) -> None:
        """Wait until the node is attached."""
        await self.until(lambda: node.adapter.is_attached, f"{node.adapter.node_name} is attached")

    async def receives(self, node: Node, *messages: bytes) -> None:
        """Wait until the node has as many messages, and see that they are these, in order."""
        await self.until(
            lambda: len(node.messages) >= len(messages),
            f"{node.adapter.node_name} receives {len(messages)} messages",
        )
        assert _short(node.messages) == _short(messages)
        assert node.messages == [*messages]


def _short(messages: Any) -> list[bytes]:
    return [message[:40] for message in messages][:20]


@pytest.mark.asyncio
class AdapterConformance(_Suite):
    """What holds for every adapter. The fixture ``engine`` is an ``Engine``."""

    largest_size: ClassVar[int] = 1 << 20
    """Bytes of the largest message that the engine is set up to carry."""

    async def test_a_broadcast_reaches_all_others_and_not_its_sender(self, engine: Engine) -> None:
        """What a node publishes arrives once at each other node, and not at itself."""
        async with self.running(*map(engine.adapter, ("alice", "bob", "carol"))) as (a, b, c):
            a.adapter.publish(b"hello")
            await self.receives(b, b"hello")
            await self.receives(c, b"hello")
            b.adapter.publish(b"fence")

            await self.receives(a, b"fence")
            await self.receives(c, b"hello", b"fence")
            assert b.messages == [b"hello"]

    async def test_a_message_for_one_node_reaches_it_alone(self, engine: Engine) -> None:
        """What is published to one node arrives there, and at no other."""
        async with self.running(*map(engine.adapter, ("alice", "bob", "carol"))) as (a, b, c):
            a.adapter.publish_to("bob", b"for bob")
            a.adapter.publish(b"fence")

            await self.receives(b, b"for bob", b"fence")
            await self.receives(c, b"fence")

    async def test_a_message_for_an_unknown_node_reaches_nobody(self, engine: Engine) -> None:
        """Nothing happens when a message is for a node that isn't there."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            for name in ("nobody", "bo", "bob2", "*", ">", "all"):
                a.adapter.publish_to(name, b"for nobody")
            a.adapter.publish(b"fence")

            await self.receives(b, b"fence")
            assert a.messages == []

    @pytest.mark.parametrize("name", ["b.c", ".b.", "b c", "b:c", "*", "b/c", "%62", "ü" * 100])
    async def test_a_node_may_have_any_name(self, engine: Engine, name: str) -> None:
        """Names may hold what is special to an engine, and are the same to all nodes."""
        async with self.running(engine.adapter("alice"), engine.adapter(name)) as (a, b):
            a.adapter.publish_to(name, b"for you")

            await self.receives(b, b"for you")

    async def test_messages_of_a_sender_keep_their_order(self, engine: Engine) -> None:
        """Messages to all and to one node arrive in the order in which they were published."""
        async with self.running(*map(engine.adapter, ("alice", "bob", "carol"))) as (a, b, c):
            for number in range(3_000):
                if number % 7 in (2, 3, 5):
                    a.adapter.publish_to("bob", b"alice %d" % number)
                else:
                    a.adapter.publish(b"alice %d" % number)
                if number % 3 == 0:
                    c.adapter.publish_to("bob", b"carol %d" % number)
                if number % 100 == 0:
                    await asyncio.sleep(0)

            await self.until(lambda: len(b.messages) >= 4_000, "bob receives 4,000 messages")
            of_alice = [message for message in b.messages if message.startswith(b"alice")]
            of_carol = [message for message in b.messages if message.startswith(b"carol")]
            assert of_alice == [b"alice %d" % number for number in range(3_000)]
            assert of_carol == [b"carol %d" % number for number in range(0, 3_000, 3)]

    async def test_messages_are_any_bytes(self, engine: Engine) -> None:
        """Bytes arrive as they were: none at all, all 256 values, line ends, the largest size."""
        messages = [
            b"",
            bytes(range(256)),
            b"\r\n",
            b"PING\r\n\0",
            bytes(range(256)) * (self.largest_size // 256),
            b"",
        ]
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            for message in messages:
                a.adapter.publish(message)
            for message in messages:
                a.adapter.publish_to("bob", message)

            await self.receives(b, *messages, *messages)

    async def test_two_nodes_of_one_name_hear_each_other(self, engine: Engine) -> None:
        """A node knows its own messages by its run, not by its name; so can clashes be seen."""
        async with self.running(engine.adapter("alice"), engine.adapter("alice")) as (a, b):
            a.adapter.publish(b"from one")
            await self.receives(b, b"from one")
            b.adapter.publish(b"from the other")

            await self.receives(a, b"from the other")

    async def test_namespaces_are_apart(self, engine: Engine) -> None:
        """Adapters of another namespace neither hear what is published to all nor to one."""
        pair = self.running(engine.adapter("alice", "one"), engine.adapter("bob", "one"))
        others = self.running(engine.adapter("bob", "two"), engine.adapter("carol", "two"))
        async with pair as (a, b), others as (other_b, other_c):
            a.adapter.publish(b"in one")
            a.adapter.publish_to("bob", b"for bob in one")
            await self.receives(b, b"in one", b"for bob in one")
            other_c.adapter.publish(b"in two")

            await self.receives(other_b, b"in two")

    async def test_nothing_is_delivered_after_close(self, engine: Engine) -> None:
        """A node that closed hears nothing, and what it publishes is no error."""
        async with self.running(*map(engine.adapter, ("alice", "bob", "carol"))) as (a, b, c):
            await b.adapter.close()
            a.adapter.publish(b"to all")
            a.adapter.publish_to("bob", b"to bob")
            b.adapter.publish(b"of one who has gone")
            b.adapter.publish_to("carol", b"of one who has gone")
            a.adapter.publish(b"fence")

            await self.receives(c, b"to all", b"fence")
            assert b.messages == []

    async def test_what_was_published_before_close_is_sent(self, engine: Engine) -> None:
        """Close sends what waits, be it a goodbye."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            messages = [b"%1024d" % number for number in range(3_000)]
            for message in messages:
                a.adapter.publish(message)
            await a.adapter.close()

            await self.receives(b, *messages)

    async def test_close_is_idempotent(self, engine: Engine) -> None:
        """Nothing happens when an adapter is closed that isn't running."""
        adapter = engine.adapter("alice")
        await adapter.close()
        async with self.running(adapter):
            await adapter.close()
            await adapter.close()

    async def test_close_leaves_no_task(self, engine: Engine) -> None:
        """After close no task of the adapter is left."""
        before = asyncio.all_tasks()
        async with self.running(*map(engine.adapter, ("alice", "bob"))):
            pass

        await self.until(lambda: asyncio.all_tasks() <= before, "the tasks end")

    async def test_it_starts_again(self, engine: Engine) -> None:
        """An adapter that was closed can be started again and works as before."""
        alice = engine.adapter("alice")
        async with self.running(alice, engine.adapter("bob")):
            pass
        async with self.running(alice, engine.adapter("bob")) as (a, b):
            a.adapter.publish_to("bob", b"hello again")
            b.adapter.publish_to("alice", b"so are you")

            await self.receives(b, b"hello again")
            await self.receives(a, b"so are you")

    async def test_it_starts_again_on_another_loop(self, engine: Engine) -> None:
        """An adapter works on one event loop after the other."""
        alice, bob = engine.adapter("alice"), engine.adapter("bob")

        async def scene() -> None:
            async with self.running(alice, bob) as (a, b):
                a.adapter.publish(b"on another loop")
                await self.receives(b, b"on another loop")

        for _ in range(2):
            await asyncio.to_thread(asyncio.run, scene())

    async def test_a_cancelled_start_leaves_nothing(self, engine: Engine) -> None:
        """A start may be cancelled at any moment; no task is left, and it can be started again."""
        before = asyncio.all_tasks()
        adapter = engine.adapter("alice")
        for microseconds in (0, 1, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000):
            start = asyncio.create_task(Node(adapter).start())
            await asyncio.sleep(0)  # up to where it first waits
            if microseconds:
                await asyncio.wait({start}, timeout=microseconds / 1e6)
            start.cancel()
            await asyncio.wait({start})
            await adapter.close()  # in case it had started by then
        await self.until(lambda: asyncio.all_tasks() <= before, "the tasks end")

        async with self.running(adapter, engine.adapter("bob")):
            pass

    async def test_an_error_of_deliver_does_not_end_it(self, engine: Engine) -> None:
        """When ``deliver`` raises, the next messages are delivered all the same."""
        async with self.running(engine.adapter("alice")) as (a,):
            bob = Node(engine.adapter("bob"))

            def deliver(data: bytes) -> None:
                bob.deliver(data)
                raise RuntimeError("an error of deliver, as the test wants it")

            await bob.adapter.start(deliver, bob)
            try:
                await self.meet(a, bob)
                a.adapter.publish(b"one")
                a.adapter.publish(b"two")

                await self.receives(bob, b"one", b"two")
            finally:
                await bob.adapter.close()

    async def test_it_says_how_it_is(self, engine: Engine) -> None:
        """It has the name that it was given, reaches others, and is attached while it runs."""
        adapter = engine.adapter("alice")
        assert adapter.node_name == "alice"
        assert adapter.reaches_others
        states = [adapter.is_attached]
        async with self.running(adapter):
            states.append(adapter.is_attached)
            assert adapter.free_size > 0
            assert adapter.max_size is None or adapter.max_size > 0
        assert [*states, adapter.is_attached] == [False, True, False]
        assert engine.adapter().node_name != engine.adapter().node_name


@pytest.mark.asyncio
class LinkConformance(_Suite):
    """What holds for adapters that report links. The fixture ``engine`` is an ``Engine``."""

    async def test_nodes_are_told_of_each_other(self, engine: Engine) -> None:
        """Who is there, and who comes, is reported with name and link, and once only."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await self.until(lambda: a.told and b.told, "both are told")
            a.adapter.publish(b"hello")
            await self.receives(b, b"hello")

            assert a.told == [("link_up", "bob", b.adapter.link)]
            assert b.told == [("link_up", "alice", a.adapter.link)]

    async def test_a_newcomer_is_told_of_silent_nodes(self, engine: Engine) -> None:
        """A node that starts gets a report of silent nodes, and they one of it."""
        alice, bob = Node(engine.adapter("alice")), Node(engine.adapter("bob"))
        try:
            await alice.start()
            await bob.start()
            await self.is_told(alice, "link_up")
            await self.is_told(bob, "link_up")
        finally:
            await alice.adapter.close()
            await bob.adapter.close()

    async def test_a_link_that_ends_is_told_of(self, engine: Engine) -> None:
        """A node that is gone is reported to the others, and no other node is."""
        async with self.running(*map(engine.adapter, ("alice", "bob", "carol"))) as (a, b, c):
            await self.until(lambda: len(a.told) == 2, "alice is told of both")
            await b.adapter.close()

            for node in (a, c):
                ends = [("link_down", b.adapter.link)]
                await self.is_told(node, "link_down")
                assert _ends(node) == ends

    async def test_each_start_has_a_link_of_its_own(self, engine: Engine) -> None:
        """The death of an old run is reported by its own link: the next is not taken for dead."""
        bob = engine.adapter("bob")
        async with self.running(engine.adapter("alice")) as (a,):
            links = []
            for _ in range(2):
                async with self.running(bob) as (b,):
                    links.append(bob.link)
                    await self.until(lambda: bob.link in str(a.told), "alice is told of bob")
                    assert b.adapter.link
            await self.until(lambda: len(_ends(a)) == 2, "the ends are told")

            assert len({*links}) == 2
            assert [told for told in a.told if told[0] == "link_up"] == [
                ("link_up", "bob", link) for link in links
            ]
            assert sorted(_ends(a)) == sorted(("link_down", link) for link in links)


@pytest.mark.asyncio
class OutageConformance(_Suite):
    """What holds when the engine fails. The fixture ``engine`` is a ``BreakableEngine``."""

    flood_count: ClassVar[int] = 100_000
    """How many messages are published to an engine that takes none."""

    max_waiting_size: ClassVar[int] = 64 * 2**20
    """Bytes of messages that may wait in the adapter; a kilobyte comes with each of the flood."""

    close_timeout: ClassVar[float] = 3.0
    """Seconds that ``close`` may take."""

    async def test_a_restart_of_the_engine_is_survived(self, engine: BreakableEngine) -> None:
        """When the engine dies nodes get a report that they are detached, and one when it is back.

        No link is reported to have ended: to be detached says nothing about others.
        """
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await engine.stop()
            try:
                for node in (a, b):
                    await self.is_told(node, "detached")
                    assert not node.adapter.is_attached
                before = a.adapter.counters.total()
                a.adapter.publish(b"to nobody")
            finally:
                await engine.start()

            for node in (a, b):
                await self.is_told(node, "attached")
                assert node.adapter.is_attached
            await self.meet(a, b)
            a.adapter.publish(b"it is back")
            await self.receives(b, b"it is back")
            assert a.adapter.counters.total() > before
            assert [told for told in a.told if told[0] in ("attached", "detached")] == [
                ("detached",),
                ("attached",),
            ]
            assert _ends(a) == _ends(b) == []

    async def test_an_engine_that_stalls_is_noticed(self, engine: BreakableEngine) -> None:
        """An engine that holds its connections and says nothing counts as detached."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await engine.stall()
            try:
                for node in (a, b):
                    await self.is_told(node, "detached")
            finally:
                await engine.resume()

            for node in (a, b):
                await self.is_attached(node)
            await self.meet(a, b)
            a.adapter.publish(b"it goes on")
            await self.receives(b, b"it goes on")

    async def test_a_flood_at_a_stalled_engine_is_bounded(self, engine: BreakableEngine) -> None:
        """Publishing never waits for the engine; what is over the bound is dropped and counted."""
        message = b"x" * 1024
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, b):
            await engine.stall()
            try:
                longest = 0.0
                for number in range(self.flood_count):
                    started_at = time.perf_counter()
                    a.adapter.publish(message)
                    longest = max(longest, time.perf_counter() - started_at)
                    if number % 1_000 == 0:
                        await asyncio.sleep(0)
                dropped = a.adapter.counters.total()
                free_size = a.adapter.free_size
            finally:
                await engine.resume()

            assert longest < 0.5
            assert free_size == 0
            assert dropped >= self.flood_count - self.max_waiting_size // len(message)
            for node in (a, b):
                await self.is_attached(node)
            await self.meet(a, b)

    async def test_close_does_not_wait_for_a_stalled_engine(self, engine: BreakableEngine) -> None:
        """Close gives up on what waits after a second or two."""
        async with self.running(*map(engine.adapter, ("alice", "bob"))) as (a, _):
            await engine.stall()
            try:
                for _ in range(10_000):
                    a.adapter.publish(b"x" * 1024)
                async with asyncio.timeout(self.close_timeout):
                    await a.adapter.close()
            finally:
                await engine.resume()

    async def test_start_says_that_there_is_no_engine(self, engine: BreakableEngine) -> None:
        """A start without an engine fails with an error that says where it was looked for."""
        before = asyncio.all_tasks()
        adapter = engine.missing()
        with pytest.raises(AdapterError) as caught:
            await adapter.start(_ignore, Node(adapter))

        assert caught.value.engine
        assert caught.value.reason
        assert not adapter.is_attached
        await self.until(lambda: asyncio.all_tasks() <= before, "the tasks end")
        await adapter.close()

    async def test_start_says_that_it_was_refused(self, engine: BreakableEngine) -> None:
        """Wrong credentials are distinguished from a missing engine, and never shown."""
        before = asyncio.all_tasks()
        errors = {}
        for adapter in (engine.refused(), engine.missing()):
            with pytest.raises(AdapterError) as caught:
                await adapter.start(_ignore, Node(adapter))
            errors[adapter] = caught.value
        refused, missing = errors.values()

        assert refused.reason != missing.reason
        assert "credentials" in refused.reason
        assert "wrong:" not in str(refused)
        assert ":wrong" not in str(refused)
        await self.until(lambda: asyncio.all_tasks() <= before, "the tasks end")


def _ends(node: Node) -> list[tuple[str, ...]]:
    return [told for told in node.told if told[0] == "link_down"]


def _ignore(data: bytes) -> None:
    pass
