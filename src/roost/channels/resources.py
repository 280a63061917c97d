"""What belongs to a channel and ends with it: tasks, timers, subscriptions, callbacks."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from roost.channels.application import Failed, call
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscriber, Subscription

__all__ = ["Resources"]


class Resources:
    """The things of one channel; made when it gets the first.

    Args:
        pubsub: For subscriptions.
    """

    __slots__ = ("_callbacks", "_pubsub", "_subscriptions", "_tasks", "_timers")

    def __init__(self, pubsub: PubSub) -> None:
        # Dicts for sets: as long as they are empty, they take a third of the memory.
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._pubsub = pubsub
        self._callbacks: list[Callable[[Any], object]] = []
        self._subscriptions: dict[str, Subscription] = {}
        self._timers: dict[object, asyncio.TimerHandle] = {}

    def add_task(self, task: asyncio.Task[Any], on_error: Callable[[BaseException], None]) -> None:
        """Cancel ``task`` with the channel; ``on_error`` hears if it raises before or after."""
        self._tasks[task] = None

        def done(task: asyncio.Task[Any]) -> None:
            self._tasks.pop(task, None)
            if not task.cancelled() and (error := task.exception()) is not None:
                on_error(error)

        task.add_done_callback(done)

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call ``callback`` after ``delay`` seconds, unless the channel ends before."""

        timer = object()  # not the handle, which would be part of what it refers to
        handle = asyncio.get_running_loop().call_later(delay, self._fire, timer, callback)
        self._timers[timer] = handle
        return handle

    def _fire(self, timer: object, callback: Callable[[], None]) -> None:
        self._timers.pop(timer, None)
        callback()

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

    def add_callback(self, callback: Callable[[Any], object]) -> None:
        """Call ``callback(channel)`` when the channel ends."""
        self._callbacks.append(callback)

    def release(
        self,
        channel: object,
        context: contextvars.Context,
        on_error: Callable[[BaseException], None],
    ) -> set[asyncio.Task[Any]]:
        """The channel ends: let everything go; the tasks are cancelled, and returned.

        Args:
            channel: For the callbacks.
            context: What they are called in.
            on_error: Hears what they raise.
        """
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        for topic in list(self._subscriptions):
            self.unsubscribe(topic)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                call(context, callback, channel)
            except Failed as failed:
                on_error(failed.error)
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks
