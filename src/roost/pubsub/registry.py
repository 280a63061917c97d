"""Who is subscribed to what, on this node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

__all__ = ["Dispatcher", "Registry", "Subscriber", "Subscription", "deliver", "deliver_to_all"]

logger = logging.getLogger("roost.pubsub")

Subscriber: TypeAlias = Callable[[Any], None]
"""Takes a message, on the loop's thread, and returns at once."""


class Subscription:
    """One subscription of one subscriber to one topic.

    Args:
        topic: The exact topic.
        subscriber: Who gets the messages.
        metadata: Anything that a dispatcher wants to know of it.
    """

    __slots__ = ("metadata", "subscriber", "topic")

    def __init__(self, topic: str, subscriber: Subscriber, metadata: Any = None) -> None:
        self.topic = topic
        self.subscriber = subscriber
        self.metadata = metadata

    def __repr__(self) -> str:
        return f"Subscription({self.topic!r}, {self.subscriber!r}, {self.metadata!r})"


class Dispatcher(Protocol):
    """Hands one message to the subscriptions of its topic, on one node."""

    def __call__(
        self, subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any, /
    ) -> None:
        """Deliver ``message``; skip the subscriptions of ``sender``."""
        ...


class Registry:
    """Topic → subscriptions, in the order of their arrival.

    A snapshot of a topic's subscriptions is kept until they change, so that a dispatch neither
    copies them nor minds who comes and goes during it.

    Attributes:
        count: How many subscriptions were ever added: what was before which.
    """

    __slots__ = ("_snapshots", "_topics", "count")

    def __init__(self) -> None:
        self.count = 0
        self._topics: dict[str, dict[Subscription, None]] = {}
        self._snapshots: dict[str, tuple[Subscription, ...]] = {}

    def add(self, subscription: Subscription) -> None:
        self.count += 1
        self._snapshots.pop(subscription.topic, None)
        self._topics.setdefault(subscription.topic, {})[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Remove one subscription; nothing happens if it is not there. O(1)."""
        subscriptions = self._topics.get(subscription.topic)
        if subscriptions is None or subscription not in subscriptions:
            return
        self._snapshots.pop(subscription.topic, None)
        del subscriptions[subscription]
        if not subscriptions:
            del self._topics[subscription.topic]

    def subscriptions(self, topic: str) -> tuple[Subscription, ...]:
        """The subscriptions of a topic."""
        snapshot = self._snapshots.get(topic)
        if snapshot is None:
            subscriptions = self._topics.get(topic)
            if subscriptions is None:
                return ()
            snapshot = self._snapshots[topic] = tuple(subscriptions)
        return snapshot


def deliver_to_all(
    subscriptions: Sequence[Subscription], sender: Subscriber | None, message: Any, /
) -> None:
    """The default dispatcher: every subscriber but ``sender`` gets the message itself."""
    for subscription in subscriptions:
        if sender is None or subscription.subscriber != sender:
            deliver(subscription, message)


def deliver(subscription: Subscription, message: Any) -> None:
    """Call one subscriber; if it raises, that is logged, and the others get their message."""
    try:
        subscription.subscriber(message)
    except (SystemExit, KeyboardInterrupt, GeneratorExit):  # the process ends
        raise
    except BaseException:
        logger.exception("a subscriber of %r raised", subscription.topic)
