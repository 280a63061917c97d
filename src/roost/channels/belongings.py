"""What belongs to a channel and ends with it: tasks, timers, subscriptions, callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscriber, Subscription

__all__ = ["Belongings"]


class Belongings:
    """The things of one channel; made when it gets the first.

    Args:
        pubsub: For subscriptions.
    """

    __slots__ = ("_callbacks", "_pubsub", "_subscriptions", "_timers", "tasks")

    def __init__(self, pubsub: PubSub) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self._pubsub = pubsub
        self._callbacks: list[Callable[[], object]] = []
        self._subscriptions: dict[str, Subscription] = {}
        self._timers: set[asyncio.TimerHandle] = set()

    def add_task(self, task: asyncio.Task[Any], on_error: Callable[[BaseException], None]) -> None:
        """Cancel ``task`` with the channel; ``on_error`` hears if it raises before or after."""
        self.tasks.add(task)

        def done(task: asyncio.Task[Any]) -> None:
            self.tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                on_error(error)

        task.add_done_callback(done)

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``callback`` after ``delay`` seconds, unless the channel ends before."""

        def fire() -> None:
            self._timers.discard(handle)
            callback()

        handle = asyncio.get_running_loop().call_later(delay, fire)
        self._timers.add(handle)
        return handle

    def subscribe(self, topic: str, subscriber: Subscriber) -> bool:
        """Subscribe to a topic, once; returns whether it was not subscribed to before."""
        if topic in self._subscriptions:
            return False
        self._subscriptions[topic] = self._pubsub.subscribe(topic, subscriber)
        return True

    def unsubscribe(self, topic: str) -> bool:
        """End that subscription; returns whether there was one."""
        subscription = self._subscriptions.pop(topic, None)
        if subscription is None:
            return False
        self._pubsub.unsubscribe(subscription)
        return True

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when the channel ends."""
        self._callbacks.append(callback)

    def release(self, on_error: Callable[[BaseException], None]) -> set[asyncio.Task[Any]]:
        """The channel ends: let everything go; the tasks are cancelled, and returned."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for topic in list(self._subscriptions):
            self.unsubscribe(topic)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:
                on_error(error)
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        return tasks
