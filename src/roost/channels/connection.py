"""One connection: its socket, its protocol, its channels."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import weakref
from collections.abc import Mapping
from typing import Any

from msgspec.structs import astuple

from roost.aliases import EMPTY
from roost.channels.application import Failed, call
from roost.channels.fastlane import Transport
from roost.channels.hub import Hub
from roost.channels.joins import (
    ConnectionProtocol,
    Deliver,
    StartChannel,
    StopChannel,
    StopReason,
    Unrouted,
)
from roost.channels.router import Router
from roost.channels.runner import ChannelRunner
from roost.channels.socket import Socket
from roost.exceptions import InvalidMessage, InvalidName, PayloadError
from roost.pubsub.registry import Subscription
from roost.wire.messages import HEARTBEAT, JOIN, LEAVE, Broadcast, Message, Outgoing, Reply
from roost.wire.serializers import Serializer, V1Serializer, V2Serializer

__all__ = ["Connection"]

logger = logging.getLogger("roost.channels")

MAX_KEPT_TOPICS = 1_000
FIRST_REF = "1"  # of the first message of a client, as phoenix.js and its like count them
MAX_HELD_SIZE = 8_388_608  # bytes of a client's messages that wait; more are answered overloaded
MAX_PARAMS_SIZE = 16_777_216  # bytes that a client joined with; more joins are answered overloaded
# Bytes that decoding adds for a value, a list and an object: CPython's sizes, with their places.
VALUE_SIZE, LIST_SIZE, OBJECT_SIZE = 48, 64, 184
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
        peer: Where the client is, for logs.
    """

    __slots__ = (
        "_held",
        "_held_size",
        "_holdings",
        "_id_subscription",
        "_is_closed",
        "_is_reconnected",
        "_limits",
        "_protocol",
        "_router",
        "_runners",
        "_short_size",
        "_superseded",
        "context",
        "hub",
        "peer",
        "serializer",
        "socket",
        "socket_id",
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
        peer: str = "",
    ) -> None:
        self.hub = hub
        self.socket = socket
        self.transport = transport
        self.serializer = serializer
        self.context = context
        self.socket_id = socket_id
        self.peer = peer
        self._router = router
        self._limits = limits = hub.pubsub.name_limits
        # What is decoded of so few bytes has no name that is too long; -1: it may be anything.
        self._short_size = -1
        if type(serializer) in (V1Serializer, V2Serializer):
            self._short_size = min(astuple(limits))
        self._protocol = ConnectionProtocol(has_route=router.has_route, max_channels=max_channels)
        self._runners: dict[int, ChannelRunner] = {}
        # Subscriptions of channels that a newer join is replacing, by topic.
        self._superseded: dict[str, Subscription] | None = None
        # What the last subscription to a topic held of presences when its channel ended.
        self._holdings: dict[str, Mapping[object, Any]] | None = None
        self._is_reconnected: bool | None = None  # from the first join on
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
        decoded = self.serializer.decode(data)
        is_short = len(data) <= self._short_size and data.isascii()
        message = decoded if is_short else self._named(decoded)
        del decoded  # nobody but who handles it is to hold it
        if message is None:
            return
        if self._is_full_for(message, len(data)):
            self.hub.counters["inbound_full"] += 1
            self.send(Reply(message.join_ref, message.ref, message.topic, "error", _OVERLOADED))
            return
        if message.event == LEAVE:  # nobody reads its payload, and it may wait however much does
            message = Message(message.join_ref, message.ref, message.topic, LEAVE, EMPTY)
        self._take(message)
        handled = weakref.ref(message)
        del message
        self._hold(handled(), data)

    def _is_full_for(self, message: Message, size: int) -> bool:
        event = message.event
        if event == JOIN:
            size += sum([runner.params_size for runner in self._runners.values()])
            return size > MAX_PARAMS_SIZE or self._held_size > MAX_HELD_SIZE
        if self._held_size <= MAX_HELD_SIZE or event == LEAVE:  # which makes room
            return False
        return event != HEARTBEAT or message.topic != "phoenix"

    def _hold(self, message: Message | None, data: str | bytes) -> None:
        """Count a message that waits for its channel, until it is handled and nobody holds it."""
        if message is not None:
            size = _decoded_size(message, data)
            self._held_size += size
            held = _Held(message, self._release)
            held.size = size
            self._held[id(held)] = held

    def _release(self, held: _Held) -> None:
        del self._held[id(held)]
        self._held_size -= held.size

    def receive(self, message: Message) -> None:
        """A message of the client, decoded; raises as ``receive_frame`` does."""
        named = self._named(message)
        if named is not None:
            self._take(named)

    def _named(self, message: Message) -> Message | None:
        """The message, with names that are names; None if it was answered that one is too long.

        Topics that were joined are remembered for as long as the connection lives.
        """
        limits, max_size = self._limits, self._limits.max_ref_size
        topic, event, ref, join_ref = message.topic, message.event, message.ref, message.join_ref
        if (  # what nearly all pass by, without a call
            type(topic) is type(event) is str
            and len(topic) <= limits.max_topic_size
            and len(event) <= limits.max_event_size
            and topic.isascii()
            and event.isascii()
            and (ref is None or (type(ref) is str and len(ref) <= max_size and ref.isascii()))
            and (
                join_ref is None
                or (type(join_ref) is str and len(join_ref) <= max_size and join_ref.isascii())
            )
        ):
            return message
        return self._named_slowly(message)

    def _named_slowly(self, message: Message) -> Message | None:
        is_join = message.event == JOIN
        self._check_ref(message.ref, is_kept=is_join)
        self._check_ref(message.join_ref, is_kept=is_join)
        topic, event, reason = message.topic, message.event, None
        try:
            topic = self._limits.topic(topic)
        except InvalidName as error:
            if error.max_size is None:
                raise InvalidMessage(f"topic to be {error.expected}", error.got) from error
            if is_join and self._router.has_route(topic):
                reason = {"reason": "topic too long", "max_size": error.max_size}
            # Else it is answered as any topic is that nobody joined, and not remembered.
        try:
            event = self._limits.event(event)
        except InvalidName as error:
            if error.max_size is None:
                raise InvalidMessage(f"event to be {error.expected}", error.got) from error
            reason = {"reason": "unknown event"}  # no handler's event is as long
        if reason is not None:
            self.hub.counters["name_too_long"] += 1
            self.send(Reply(message.join_ref, message.ref, topic, "error", reason))
            return None
        return Message(message.join_ref, message.ref, topic, event, message.payload)

    def _check_ref(self, ref: Any, *, is_kept: bool) -> None:
        """Refs are sent back, those of a join with all that its channel says."""
        if ref is None:
            return
        try:
            is_text = type(ref) is str
            size = len(ref.encode() if is_text else self.hub.pubsub.encoder.encode(ref))
        except (PayloadError, UnicodeEncodeError) as error:
            raise InvalidMessage("a ref that can be sent back", str(error)) from error
        if is_kept and size > self._limits.max_ref_size:
            expected = f"a join with a ref of at most {self._limits.max_ref_size} bytes"
            raise InvalidMessage(expected, f"{size} bytes")

    def _take(self, message: Message) -> None:
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
        for topic in list(self._superseded or ()):
            self._drop_superseded(topic)
        for runner in list(self._runners.values()):
            runner.end(reason)

    @property
    def client(self) -> str:
        """Who the client is, for logs: its socket's id, and its address."""
        return " at ".join(filter(None, (self.socket_id, self.peer))) or "somebody"

    @property
    def runners(self) -> list[ChannelRunner]:
        """The channels that have not ended."""
        return list(self._runners.values())

    # For channels (``ChannelHost``).

    def send(self, message: Outgoing) -> None:
        self.transport.write(self.serializer.encode(message))

    def join_succeeded(self, runner: ChannelRunner, response: Any) -> None:
        self._drop_superseded(runner.topic)
        assert runner.subscription is not None
        lane = runner.subscription.metadata
        lane.is_reconnected = self._is_reconnected
        if self._holdings is not None:
            lane.earlier = self._holdings.get(runner.topic)
            if len(self._holdings) >= MAX_KEPT_TOPICS:
                lane.is_reconnected = True  # what it held before may be among what was not kept
        if lane.is_reconnected or lane.earlier is not None:
            lane.number = self.hub.pubsub.subscription_count
        if not self._is_closed:
            self._protocol.join_succeeded(runner.channel_id, response)
            self._carry_out()

    def join_failed(self, runner: ChannelRunner, response: Any) -> None:
        self._runners.pop(runner.channel_id, None)
        if not self._is_closed:
            self._protocol.join_failed(runner.channel_id, response)
            self._protocol.channel_ended(runner.channel_id)  # if it was stopped meanwhile
            self._carry_out()
            self._drop_superseded_for_nobody(runner.topic)

    def channel_closed(self, runner: ChannelRunner) -> None:
        if not self._is_closed:
            self._protocol.channel_closed(runner.channel_id)
            self._carry_out()

    def channel_ended(self, runner: ChannelRunner) -> None:
        self._runners.pop(runner.channel_id, None)
        if self._is_closed:
            return
        if runner.subscription is not None:
            self._keep_holdings(runner.subscription)
        self._protocol.channel_ended(runner.channel_id)
        self._carry_out()
        self._drop_superseded_for_nobody(runner.topic)

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
        if self._is_reconnected is None:
            self._is_reconnected = message.ref != FIRST_REF
        try:
            channel = call(None, route.channel)
            channel.topic = message.topic
            channel.assigns = {**self.socket.assigns, **route.assigns}
            channel.socket = self.socket
            runner = ChannelRunner(channel_id, channel, self, message)
        except Exception as error:  # one of our class, or assigns that are no mapping
            cause = error.error if isinstance(error, Failed) else error
            what = "%r could not be made (%s)"
            logger.error(what, route.channel, self.client, exc_info=cause)
            self._protocol.join_failed(channel_id, {"reason": "join crashed"})
            self._carry_out()
            return
        self._runners[channel_id] = runner
        runner.start()

    def _stop_channel(self, channel_id: int, reason: StopReason) -> None:
        runner = self._runners[channel_id]
        superseded = runner.subscription if reason is StopReason.DUPLICATE_JOIN else None
        if superseded is not None:
            self._superseded = self._superseded or {}
            self._superseded[runner.topic] = superseded
        runner.end(reason.value, is_superseded=superseded is not None, cancel=True)

    def _refused(self, message: Message, reason: str) -> None:
        level = logging.WARNING if reason == "unmatched topic" else logging.ERROR
        logger.log(level, "refused to join %r: %s (%s)", message.topic, reason, self.client)

    def _drop_superseded_for_nobody(self, topic: str) -> None:
        """A channel is gone: unless a newer join takes its place, its client has left the topic.

        That join may have been refused, have crashed, or have been left before it was decided.
        """
        if self._superseded is None or topic not in self._superseded:
            return
        if all(runner.topic != topic for runner in self._runners.values()):
            self._drop_superseded(topic)

    def _drop_superseded(self, topic: str) -> None:
        subscription = None if self._superseded is None else self._superseded.pop(topic, None)
        if subscription is not None:
            self.hub.pubsub.unsubscribe(subscription)
            self._keep_holdings(subscription)

    def _keep_holdings(self, ended: Subscription) -> None:
        """Keep what a subscription held of presences for the next one to its topic."""
        lane = ended.metadata
        if not lane.holdings and lane.earlier is None:
            return
        if self._holdings is None:
            self._holdings = {}
        if ended.topic in self._holdings or len(self._holdings) < MAX_KEPT_TOPICS:
            self._holdings[ended.topic] = {**(lane.earlier or {}), **lane.holdings}

    def _receive_for_id(self, message: Any) -> None:
        if isinstance(message, Broadcast) and message.event == "disconnect":
            self.transport.close(DISCONNECTED)
            # In a tick of its own: the broadcaster may be one of these channels.
            asyncio.get_running_loop().call_soon(self.close, "disconnected")


def _decoded_size(message: Message, data: str | bytes) -> int:
    """About the memory that a message takes: ``[[],[],…`` decodes to twenty times its text."""
    if isinstance(message.payload, bytes):
        return len(data)
    text = data if isinstance(data, str) else data.decode(errors="replace")
    values, lists, objects = map(text.count, ",[{")
    return len(text) + VALUE_SIZE * values + LIST_SIZE * lists + OBJECT_SIZE * objects
