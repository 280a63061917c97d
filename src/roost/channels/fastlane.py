"""The way of a broadcast that skips the channels: encoded once, written to every connection.

A channel's subscription carries a ``Fastlane``: where its client is, and which events the channel
wants to see first. A broadcast is encoded once for each serializer and node, and the same frame
goes to every connection (Phoenix's ``Phoenix.Channel.Server.dispatch``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final, Protocol

from roost.channels.application import contain
from roost.exceptions import LocalProtocolError, PayloadError
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscriber, Subscription, deliver
from roost.wire.frame import Frame
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload, prepare
from roost.wire.serializers import Serializer

__all__ = ["FASTLANE", "Fastlane", "Intercepted", "Transport", "broadcast", "dispatch"]

logger = logging.getLogger("roost.channels")

FASTLANE: Final = "fastlane"
"""Name of the dispatcher between nodes."""


class Transport(Protocol):
    """The way to one client."""

    def write(self, frame: Frame) -> None:
        """Send a frame after all earlier ones; returns at once, and does nothing once closed."""
        ...

    def close(self, code: int) -> None:
        """Close the connection once what was written is sent."""
        ...


class Fastlane:
    """The metadata of a channel's subscription to its own topic.

    Args:
        transport: The way to the client.
        serializer: How its frames are written.
        intercepts: Events that go to the channel instead.
        counters: Where skipped broadcasts are counted.

    Attributes:
        is_superseded: The channel has ended, since its client has joined the topic again. Until
            that join is decided, the client is sent presence diffs only.
        is_entering: The channel has joined, and its ``after_join`` has not begun.
        is_reconnected: The client seems to have had another connection before.
        number: Of the subscription, counted by its PubSub, if the client may know the topic from
            before; else None.
        holdings: What the subscription holds of each presence, which keeps it here.
        earlier: What the last one of the same connection and topic held, if there was one.
    """

    __slots__ = (
        "counters",
        "earlier",
        "holdings",
        "intercepts",
        "is_entering",
        "is_reconnected",
        "is_superseded",
        "number",
        "serializer",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        serializer: Serializer,
        intercepts: Container[str],
        counters: Counter[str],
    ) -> None:
        self.transport = transport
        self.serializer = serializer
        self.intercepts = intercepts
        self.counters = counters
        self.is_superseded = False
        self.is_entering = False
        self.is_reconnected = False
        self.holdings: dict[object, Any] = {}
        self.number: int | None = None
        self.earlier: Mapping[object, Any] | None = None


class Intercepted(Broadcast, frozen=True):
    """A broadcast that goes to a channel, with values of its own.

    Args:
        source: What its client would have been sent.
    """

    source: JsonPayload | None = None


def broadcast(
    pubsub: PubSub,
    topic: str,
    event: str,
    payload: Any,
    *,
    sender: Subscriber | None = None,
    is_local: bool = False,
) -> None:
    """Broadcast an event to all subscribers of a topic.

    Args:
        pubsub: Whose subscribers.
        topic: Where; a name that is made already, as is ``event``.
        event: What.
        payload: A JSON object or bytes; encoded here, once.
        sender: Whose subscriptions are skipped.
        is_local: On this node only.

    Raises:
        PayloadError: The payload is neither; nobody got it.
    """
    message = Broadcast(topic, event, prepare(payload, pubsub.encoder))
    pubsub.publish(topic, message, sender=sender, dispatcher=dispatch, is_local=is_local)


def dispatch(
    subscriptions: Sequence[Subscription],
    sender: Subscriber | None,
    message: Broadcast,
    /,
    *,
    to_superseded: bool = False,
) -> None:
    """Send a broadcast to subscriptions: past the channels to their clients where that is possible.

    A subscriber whose serializer can't carry the payload is skipped, counted and logged; the
    others get it.
    """
    frames: dict[Serializer, Frame | None] = {}
    serializer: Serializer | None = None  # of the last one; nearly all have the same
    frame: Frame | None = None
    event = message.event
    for subscription in subscriptions:
        if sender is not None and subscription.subscriber == sender:
            continue
        lane = subscription.metadata
        if type(lane) is not Fastlane:
            deliver(subscription, _decoded(message))
        elif event in lane.intercepts:
            if not lane.is_superseded:
                deliver(subscription, _intercepted(message))
        elif to_superseded or not lane.is_superseded:
            if lane.serializer is not serializer:
                serializer = lane.serializer
                if serializer not in frames:
                    frames[serializer] = _encode(serializer, message)
                frame = frames[serializer]
            if frame is None:
                lane.counters["unencodable"] += 1
            else:
                lane.transport.write(frame)


def _decoded(message: Broadcast) -> Broadcast:
    """The broadcast for Python code: with values of its own, which it may change."""
    payload = message.payload
    if not isinstance(payload, JsonPayload):
        return message
    return Broadcast(message.topic, message.event, payload.decode())


def _intercepted(message: Broadcast) -> Broadcast:
    """The broadcast for a channel that may push it, too."""
    payload = message.payload
    if not isinstance(payload, JsonPayload):
        return message
    return Intercepted(message.topic, message.event, payload.decode(), payload)


def _encode(serializer: Serializer, message: Broadcast) -> Frame | None:
    try:
        return serializer.fastlane(message)
    except (LocalProtocolError, PayloadError) as error:
        logger.warning(
            "%s can't carry the broadcast of %r to %r, its clients are skipped: %s",
            type(serializer).__name__,
            message.event,
            message.topic,
            error,
        )
        return None
    except BaseException as error:  # of a serializer or an encode_hook of the application
        contain(error)
        name = type(serializer).__name__
        logger.error(
            "%s failed for %r in %r, its clients are skipped",
            name,
            message.event,
            message.topic,
            exc_info=error,
        )
        return None
