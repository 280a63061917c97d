"""PubSub: one object for each system of nodes that hear each other."""

from __future__ import annotations

import asyncio
import logging
import threading
from asyncio import _get_running_loop
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from roost.exceptions import ConfigurationError, InvalidMessage, NotStarted, WrongThread
from roost.naming import (
    DEFAULT_LIMITS,
    MAX_NAME_SIZE,
    NameLimits,
    configured_name,
    is_short,
    make_name,
)
from roost.pubsub.adapter import Adapter
from roost.pubsub.envelope import Envelope, decode_envelope, encode_envelope
from roost.pubsub.loop_lock import LoopLock
from roost.pubsub.registry import (
    Dispatcher,
    Registry,
    Subscriber,
    Subscription,
    deliver_to_all,
)
from roost.pubsub.replicator import Replicator, check_node_name
from roost.pubsub.urls import adapter_for
from roost.repeats import Repeats
from roost.strict_json import EncodeHook, JsonEncoder
from roost.tracker.options import ReplicationOptions
from roost.wire.messages import Broadcast

__all__ = ["PubSub"]

logger = logging.getLogger("roost.pubsub")

# What a message between nodes is begins it.
_BROADCAST: Final = b"B"
_TRACKER: Final = b"T"


class _Run:
    """What exists from start to stop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self.registry = Registry()
        self.replicator: Replicator | None = None
        self.users = 0


class PubSub:
    """Topics, subscribers and broadcasts, here and on all other nodes of the adapter's cluster.

    It may be started by several endpoints and presences; the last one to stop it ends the run.
    Apart from ``call_soon`` everything belongs to the thread of the loop that started it.

    Args:
        adapter: The way to other nodes: an adapter, or a URL that names one, such as
            ``zenoh://10.0.0.5:7447``, ``redis://localhost`` or ``nats://localhost``. By default
            ``auto``: this process, and its siblings where a server runs several workers; ``local``
            is this process in any case.
        node_name: Name of this node, if the adapter is given as a URL; by default unique.
        encode_hook: Turns objects of your own into JSON values, in every payload and meta.
        dispatchers: Name → dispatcher, the same on every node, for broadcasts with a dispatcher
            of your own.
        replication: The periods of its trackers; the same on every node.
        name_limits: How long topics, keys, events and statuses may be; the same on every node.

    Raises:
        ConfigurationError: A URL that can't work, or whose engine is not installed.

    Example:
        >>> async def main():
        ...     async with PubSub().running() as pubsub:
        ...         pubsub.subscribe("room:1", print)
        ...         pubsub.broadcast("room:1", "hello")
        >>> asyncio.run(main())
        hello
    """

    def __init__(
        self,
        adapter: Adapter | str | None = None,
        *,
        node_name: str | None = None,
        encode_hook: EncodeHook | None = None,
        dispatchers: Mapping[str, Dispatcher] | None = None,
        replication: ReplicationOptions | None = None,
        name_limits: NameLimits = DEFAULT_LIMITS,
    ) -> None:
        if adapter is None or isinstance(adapter, str):
            adapter = adapter_for(adapter, node_name)
        elif node_name is not None:
            raise ConfigurationError("give node_name to the adapter that you give")
        self.adapter: Adapter = adapter
        self.encoder = JsonEncoder(encode_hook)
        self.counters: Counter[str] = Counter()
        """What was dropped and why: reason → how often."""
        self.name_limits = name_limits
        self._replication = replication or ReplicationOptions()
        self._dispatchers: dict[str, Dispatcher] = {}
        self._names: dict[Dispatcher, str] = {}
        for name, dispatcher in (dispatchers or {}).items():
            self.add_dispatcher(name, dispatcher)
        self._run: _Run | None = None
        self._lock = LoopLock()
        self._dropped: defaultdict[str, Repeats] = defaultdict(Repeats)  # by reason

    @property
    def node_name(self) -> str:
        """Unique name of this node."""
        return self.adapter.node_name

    # Life.

    async def start(self) -> None:
        """Start, or join the users of a run of this loop; each start needs a ``stop``.

        Raises:
            ConfigurationError: It is running on another event loop.
        """
        async with self._lock.here():
            run = self._run
            if run is not None and run.loop is not asyncio.get_running_loop():
                if not run.loop.is_closed():
                    raise ConfigurationError("this PubSub is running on another event loop")
                run = None  # a loop that was closed without stop took its run along
            if run is None:
                run = _Run()
                check_node_name(self.adapter.node_name)  # before anything is open
                await self.adapter.start(self._receive, _Links(run))
                run.replicator = Replicator(
                    self.adapter, self._send_tracker, self._replication, self.name_limits
                )
                self._run = run
            run.users += 1

    async def stop(self) -> None:
        """End the run when its last user stops it.

        Raises:
            NotStarted: There is no run.
        """
        async with self._lock.here():
            run = self._current()
            run.users -= 1
            if run.users == 0:
                self.replicator.close()
                self._run = None
                await self.adapter.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PubSub]:
        """Run for the duration of a ``with`` block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    @property
    def node_names(self) -> list[str]:
        """The nodes that are up, as far as this one knows, itself included; sorted."""
        return self.replicator.node_names

    @property
    def replicator(self) -> Replicator:
        """Runs the trackers of this node.

        Raises:
            NotStarted: There is no run.
        """
        replicator = self._current().replicator
        assert replicator is not None, "there is one from start to stop"
        return replicator

    @property
    def is_running(self) -> bool:
        return self._run is not None

    def check_thread(self, what: str) -> None:
        """Raise if ``what`` is not called on the loop's thread, or without a run.

        Raises:
            NotStarted: Nothing started this PubSub.
            WrongThread: Another thread called, or another event loop.
        """
        run = self._current()
        running = _get_running_loop()
        if running is run.loop:
            return
        if running is not None or run.thread_id != threading.get_ident():
            raise WrongThread(what)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` on the loop's thread: now if we are on it, else as soon as it can.

        Raises:
            NotStarted: Nothing started this PubSub.
        """
        run = self._current()
        if run.thread_id == threading.get_ident():
            callback()
        else:
            run.loop.call_soon_threadsafe(self._call_in, run, callback)

    def _call_in(self, run: _Run, callback: Callable[[], None]) -> None:
        """Run what another thread asked for, unless the run ended on its way here."""
        if self._run is run:
            callback()
        else:
            self.counters["stopped"] += 1

    # Subscriptions.

    def subscribe(self, topic: str, subscriber: Subscriber, metadata: Any = None) -> Subscription:
        """Subscribe ``subscriber`` to exactly ``topic``; twice means two deliveries.

        Args:
            topic: No wildcards.
            subscriber: Called with each message on the loop's thread; it must not block or raise.
            metadata: For dispatchers.

        Raises:
            InvalidName: The topic can't be one.
        """
        self.check_thread("subscribe")
        subscription = Subscription(self.name_limits.topic(topic), subscriber, metadata)
        self._current().registry.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End one subscription; nothing happens if it has ended. O(1)."""
        self.check_thread("unsubscribe")
        self._current().registry.remove(subscription)

    def unsubscribe_all(self, topic: str, subscriber: Subscriber) -> None:
        """End all subscriptions of ``subscriber`` to ``topic``; O(subscriptions of the topic)."""
        for subscription in self.subscriptions(topic):
            if subscription.subscriber == subscriber:
                self.unsubscribe(subscription)

    def subscriptions(self, topic: str) -> tuple[Subscription, ...]:
        """The subscriptions to a topic on this node."""
        return self._current().registry.subscriptions(self.name_limits.topic(topic))

    @property
    def subscription_count(self) -> int:
        """How many subscriptions were ever made here: what was before which."""
        return self._current().registry.count

    # Broadcasts.

    def broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Subscriber | None = None,
        dispatcher: Dispatcher = deliver_to_all,
    ) -> None:
        """Publish to all subscribers on all nodes: the others first, then this one, at once.

        Args:
            topic: Where.
            message: Any value; if there are other nodes, a ``Broadcast``, or what MessagePack has:
                None, bool, numbers, str, bytes, and lists and dicts of them.
            sender: Whose subscriptions are skipped; it lives on this node.
            dispatcher: Hands the message to the subscriptions; a dispatcher of your own must be
                among ``dispatchers`` if there are other nodes.

        Raises:
            PayloadError: The message can't be sent to other nodes; nobody got it.
            InvalidName: The topic can't be one, or the event of a ``Broadcast``.
            ConfigurationError: The dispatcher has no name.
            NotStarted, WrongThread: As ``check_thread``.
        """
        topic, message = self._named(topic, message)
        self.publish(topic, message, sender=sender, dispatcher=dispatcher)

    def broadcast_from(
        self,
        sender: Subscriber,
        topic: str,
        message: Any,
        *,
        dispatcher: Dispatcher = deliver_to_all,
    ) -> None:
        """``broadcast``, but the subscriptions of ``sender`` are skipped."""
        self.broadcast(topic, message, sender=sender, dispatcher=dispatcher)

    def local_broadcast(
        self,
        topic: str,
        message: Any,
        *,
        sender: Subscriber | None = None,
        dispatcher: Dispatcher = deliver_to_all,
    ) -> None:
        """Publish to the subscribers on this node only."""
        topic, message = self._named(topic, message)
        self.publish(topic, message, sender=sender, dispatcher=dispatcher, is_local=True)

    def direct_broadcast(
        self,
        node_name: str,
        topic: str,
        message: Any,
        *,
        dispatcher: Dispatcher = deliver_to_all,
    ) -> None:
        """Publish to the subscribers on one node; nothing happens if there is no such node.

        Raises:
            InvalidName: As ``broadcast``, or no node can have such a name.
            PayloadError, ConfigurationError, NotStarted, WrongThread: As ``broadcast``.
        """
        topic, message = self._named(topic, message)
        node_name = make_name(node_name, "node_name", MAX_NAME_SIZE)
        self.check_thread("broadcast")
        if node_name == self.node_name:
            self.publish(topic, message, dispatcher=dispatcher, is_local=True)
        elif self.adapter.reaches_others:
            data = _BROADCAST + self._envelope(topic, message, dispatcher)
            self.adapter.publish_to(node_name, data)

    def publish(
        self,
        topic: str,
        message: Any,
        *,
        sender: Subscriber | None = None,
        dispatcher: Dispatcher = deliver_to_all,
        is_local: bool = False,
    ) -> None:
        """``broadcast``, for callers within roost whose names are made already."""
        self.check_thread("broadcast")
        if not is_local and self.adapter.reaches_others:
            self.adapter.publish(_BROADCAST + self._envelope(topic, message, dispatcher))
        subscriptions = self._current().registry.subscriptions(topic)
        if subscriptions:
            dispatcher(subscriptions, sender, message)

    def add_dispatcher(self, name: str, dispatcher: Dispatcher) -> None:
        """Make a dispatcher known under the name that other nodes use for it.

        Raises:
            ConfigurationError: The name can't be one.
        """
        name = configured_name(name, "dispatchers", MAX_NAME_SIZE)
        self._dispatchers[name] = dispatcher
        self._names[dispatcher] = name

    def _named(self, topic: str, message: Any) -> tuple[str, Any]:
        """A topic and a message as they are given, with names that are made."""
        limits = self.name_limits
        if isinstance(message, Broadcast):
            message = Broadcast(
                limits.topic(message.topic, "message.topic"),
                limits.event(message.event, "message.event"),
                message.payload,
            )
        return limits.topic(topic), message

    def _envelope(self, topic: str, message: Any, dispatcher: Dispatcher) -> bytes:
        name = None if dispatcher is deliver_to_all else self._names.get(dispatcher)
        if name is None and dispatcher is not deliver_to_all:
            raise ConfigurationError(
                "other nodes can't know this dispatcher: give it a name in PubSub(dispatchers=…)"
            )
        return encode_envelope(Envelope(topic, name, message))

    def _receive(self, data: bytes) -> None:
        """A message of another node; a bad one is dropped, it must not end the adapter."""
        if self._run is None:
            return  # starting, or stopping: there is nobody here
        kind, rest = data[:1], data[1:]
        if kind == _BROADCAST:
            self._receive_broadcast(rest)
        elif kind == _TRACKER:
            self.replicator.receive(rest)
        else:
            self._drop("unknown_kind", f"it begins with {kind!r}")

    def _send_tracker(self, node_name: str | None, data: bytes) -> None:
        if node_name is None:
            self.adapter.publish(_TRACKER + data)
        else:
            self.adapter.publish_to(node_name, _TRACKER + data)

    def _receive_broadcast(self, data: bytes) -> None:
        try:
            envelope = decode_envelope(data, self.name_limits)
        except InvalidMessage as error:
            self._drop("invalid_envelope", error)
            return
        name = envelope.dispatcher
        dispatcher = deliver_to_all if name is None else self._dispatchers.get(name)
        if dispatcher is None:
            self._drop("unknown_dispatcher", f"nobody here knows its dispatcher {name!r}")
            return
        try:
            self.publish(envelope.topic, envelope.message, dispatcher=dispatcher, is_local=True)
        except Exception as error:  # a message that is none for this dispatcher, say
            self._drop("failed_dispatch", error)

    def _drop(self, reason: str, explanation: object) -> None:
        self.counters[reason] += 1
        what = "dropped %d messages of other nodes, the last: %s"
        self._dropped[reason].note(lambda count: logger.warning(what, count, explanation))

    def _current(self) -> _Run:
        run = self._run
        if run is None:
            raise NotStarted(
                "this PubSub", "use it inside `async with endpoint.running()` or pubsub.running()"
            )
        return run


class _Links:
    """What an adapter reports of its links, from its start on."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def link_up(self, node_name: str, link: str) -> None:
        # Whoever is there before we are hears our hello.
        if self._run.replicator is not None and is_short(node_name) and is_short(link):
            self._run.replicator.link_up(node_name, link)

    def link_down(self, link: str) -> None:
        if self._run.replicator is not None:
            self._run.replicator.link_down(link)

    def detached(self) -> None:
        if self._run.replicator is not None:
            self._run.replicator.detached()

    def attached(self) -> None:
        if self._run.replicator is not None:
            self._run.replicator.attached()
