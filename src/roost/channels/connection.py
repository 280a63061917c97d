"""One connection: its socket, its protocol, its channels."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from typing import Any

from roost.channels.application import Failed, call
from roost.channels.fastlane import Transport
from roost.channels.hub import Hub
from roost.channels.router import Router
from roost.channels.runner import ChannelRunner
from roost.channels.socket import Socket
from roost.pubsub.registry import Subscription
from roost.wire.messages import Broadcast, Message, Outgoing, Reply
from roost.wire.protocol import (
    ConnectionProtocol,
    Deliver,
    StartChannel,
    StopChannel,
    StopReason,
    Unrouted,
)
from roost.wire.serializers import Serializer

__all__ = ["Connection"]

logger = logging.getLogger("roost.channels")

MAX_TOLD_TOPICS = 1_000
MAX_HELD_SIZE = 8_388_608  # bytes of a client's messages that wait; more are answered overloaded
_OVERLOADED = {"reason": "overloaded"}
DISCONNECTED = 1001  # close code after a ``disconnect`` broadcast; phoenix.js reconnects


class _Held(weakref.ref[Message]):
    """A message that waits, for as long as anybody holds it; ``size`` is in bytes."""

    __slots__ = ("size",)

    size: int


class Connection:
    """Carry out what the protocol of one connection says, and report to it.

    Args:
        hub: Shared by all connections.
        socket: Connected; its id is taken here.
        transport: The way to the client.
        serializer: What the client speaks.
        router: Finds the channel of a topic.
        max_channels: Channels that the client may have at once.
        context: The context variables that handlers see.
        socket_id: Broadcasts of ``disconnect`` to this topic close the connection.
    """

    __slots__ = (
        "_held",
        "_held_size",
        "_id_subscription",
        "_is_closed",
        "_lingering",
        "_protocol",
        "_router",
        "_runners",
        "_told_topics",
        "context",
        "hub",
        "serializer",
        "socket",
        "transport",
    )

    def __init__(
        self,
        hub: Hub,
        socket: Socket,
        transport: Transport,
        serializer: Serializer,
        *,
        router: Router,
        max_channels: int,
        context: contextvars.Context,
        socket_id: str | None = None,
    ) -> None:
        self.hub = hub
        self.socket = socket
        self.transport = transport
        self.serializer = serializer
        self.context = context
        self._router = router
        self._protocol = ConnectionProtocol(has_route=router.has_route, max_channels=max_channels)
        self._runners: dict[int, ChannelRunner] = {}
        # Subscriptions of channels that a newer join is replacing, by topic.
        self._lingering: dict[str, Subscription] | None = None
        # Topics whose earlier channels were told of presences; past the bound it means all topics.
        self._told_topics: frozenset[str] = frozenset()
        # Messages that wait, by the id of their weak reference.
        self._held: dict[int, _Held] = {}
        self._held_size = 0
        self._is_closed = False
        self._id_subscription = (
            None if socket_id is None else hub.pubsub.subscribe(socket_id, self._receive_for_id)
        )

    def receive_frame(self, data: str | bytes) -> None:
        """A frame of the client.

        Raises:
            InvalidMessage: It is no message; the connection is to be closed.
        """
        message = self.serializer.decode(data)
        if self._held_size > MAX_HELD_SIZE:
            self.hub.counters["inbound_full"] += 1
            self.send(Reply(message.join_ref, message.ref, message.topic, "error", _OVERLOADED))
            return
        self.receive(message)
        handled = weakref.ref(message)
        del message
        self._hold(handled(), len(data))

    def _hold(self, message: Message | None, size: int) -> None:
        """Count a message that waits for its channel, until it is handled and nobody holds it."""
        if message is not None:
            self._held_size += size
            held = _Held(message, self._release)
            held.size = size
            self._held[id(held)] = held

    def _release(self, held: _Held) -> None:
        del self._held[id(held)]
        self._held_size -= held.size

    def receive(self, message: Message) -> None:
        """A message of the client."""
        if not self._is_closed:
            self._protocol.receive(message)
            self._carry_out()

    def close(self, reason: str) -> None:
        """The connection is gone: end its channels; does nothing the second time.

        Args:
            reason: For the channels' ``terminate``.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._held.clear()
        if self._id_subscription is not None:
            self.hub.pubsub.unsubscribe(self._id_subscription)
            self._id_subscription = None
        for topic in list(self._lingering or ()):
            self._drop_lingering(topic)
        for runner in list(self._runners.values()):
            runner.end(reason)

    @property
    def runners(self) -> list[ChannelRunner]:
        """The channels that have not ended."""
        return list(self._runners.values())

    # For channels (``ChannelHost``).

    def send(self, message: Outgoing) -> None:
        self.transport.write(self.serializer.encode(message))

    def join_succeeded(self, runner: ChannelRunner, response: Any) -> None:
        self._drop_lingering(runner.topic)
        if runner.topic in self._told_topics or len(self._told_topics) >= MAX_TOLD_TOPICS:
            assert runner.subscription is not None
            runner.subscription.metadata.was_told_before = True
        if not self._is_closed:
            self._protocol.join_succeeded(runner.channel_id, response)
            self._carry_out()

    def join_failed(self, runner: ChannelRunner, response: Any) -> None:
        self._runners.pop(runner.channel_id, None)
        if not self._is_closed:
            self._protocol.join_failed(runner.channel_id, response)
            self._protocol.channel_ended(runner.channel_id)  # if it was stopped meanwhile
            self._carry_out()

    def channel_closed(self, runner: ChannelRunner) -> None:
        if not self._is_closed:
            self._protocol.channel_closed(runner.channel_id)
            self._carry_out()

    def channel_ended(self, runner: ChannelRunner) -> None:
        self._runners.pop(runner.channel_id, None)
        if self._is_closed:
            return
        if runner.subscription is not None:
            self._note_told(runner.subscription)
        self._protocol.channel_ended(runner.channel_id)
        self._carry_out()

    # What the protocol says.

    def _carry_out(self) -> None:
        for output in self._protocol.outputs():
            if self._is_closed:  # by what was carried out just now
                return
            # By type, the most frequent first: class patterns take a microsecond of each message.
            if type(output) is Deliver:
                self._runners[output.channel_id].deliver(output.message)
            elif type(output) is Reply or type(output) is Message:
                self.send(output)
            elif type(output) is StartChannel:
                self._start_channel(output.channel_id, output.message)
            elif type(output) is StopChannel:
                self._stop_channel(output.channel_id, output.reason)
            elif type(output) is Unrouted:
                self._refused(output.message, output.reason)
            else:
                raise AssertionError(f"unknown output of the protocol: {output!r}")

    def _start_channel(self, channel_id: int, message: Message) -> None:
        route = self._router.find(message.topic)
        if route is None:
            raise AssertionError(f"the protocol let {message.topic!r} pass, which has no route")
        try:
            channel = call(None, route.channel)
            channel.topic = message.topic
            channel.assigns = {**self.socket.assigns, **route.assigns}
            channel.socket = self.socket
            runner = ChannelRunner(channel_id, channel, self, message)
        except Exception as error:  # one of our class, or assigns that are no mapping
            cause = error.error if isinstance(error, Failed) else error
            logger.error("%r could not be made", route.channel, exc_info=cause)
            self._protocol.join_failed(channel_id, {"reason": "join crashed"})
            self._carry_out()
            return
        self._runners[channel_id] = runner
        runner.start()

    def _stop_channel(self, channel_id: int, reason: StopReason) -> None:
        runner = self._runners[channel_id]
        lingering = runner.subscription if reason is StopReason.DUPLICATE_JOIN else None
        if lingering is not None:
            self._lingering = self._lingering or {}
            self._lingering[runner.topic] = lingering
        runner.end(reason.value, linger=lingering is not None, cancel=True)

    def _refused(self, message: Message, reason: str) -> None:
        self._drop_lingering(message.topic)
        level = logging.WARNING if reason == "unmatched topic" else logging.ERROR
        logger.log(level, "refused to join %r: %s", message.topic, reason)

    def _drop_lingering(self, topic: str) -> None:
        subscription = None if self._lingering is None else self._lingering.pop(topic, None)
        if subscription is not None:
            self.hub.pubsub.unsubscribe(subscription)
            self._note_told(subscription)

    def _note_told(self, ended: Subscription) -> None:
        """Remember that the client was told presence diffs of a topic whose channel ended."""
        if ended.metadata.was_told and len(self._told_topics) < MAX_TOLD_TOPICS:
            self._told_topics |= {ended.topic}

    def _receive_for_id(self, message: Any) -> None:
        if isinstance(message, Broadcast) and message.event == "disconnect":
            self.transport.close(DISCONNECTED)
            # In a tick of its own: the broadcaster may be one of these channels.
            asyncio.get_running_loop().call_soon(self.close, "disconnected")
