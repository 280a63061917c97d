"""``on_join``, ``on_update`` and ``on_leave``: called in order, contained when they fail."""

from __future__ import annotations

import contextvars
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from roost.channels.application import Failed
from roost.channels.tasks import Tasks
from roost.presence.changes import Change, Join, Leave, Update
from roost.presence.definition import PresenceDefinition
from roost.presence.following.call_queue import CallQueue
from roost.repeats import Repeats

__all__ = ["Callbacks"]

logger = logging.getLogger("roost.presence")

MAX_WAITING: Final = 10_000  # changes of one topic, behind an async callback; more are dropped,
# counted and logged


class Callbacks:
    """Call an application's callbacks, one after the other for each topic.

    While an ``async def`` callback of a topic runs, the topic's further changes wait; other topics
    do not.

    Args:
        presence: Whose callbacks they are.
        tasks: Those of the presence's run.
        context: That of the run. Changes of other nodes are handled in copies of it.
        counters: Where dropped changes are counted, as ``callbacks_full``.
    """

    def __init__(
        self,
        presence: PresenceDefinition,
        tasks: Tasks,
        context: contextvars.Context,
        counters: Counter[str],
    ) -> None:
        self._presence = presence
        self._tasks = tasks
        self._context = context
        self._counters = counters
        self._dropped = Repeats()
        self._topics: dict[str, CallQueue] = {}  # those with something to call

    def changed(self, change: Change) -> None:
        """Something changed: its callback runs in the present context, if this node changed it."""
        topic = change.topic
        serial = self._topics.get(topic)
        if serial is None:
            serial = self._topics[topic] = CallQueue(
                self._tasks,
                self._log,
                on_empty=partial(self._topics.pop, topic, None),
                max_count=MAX_WAITING,
            )
        context = contextvars.copy_context() if change.is_local else self._context.copy()
        if not serial.put(self._callback(change), change, context):
            self._counters["callbacks_full"] += 1
            name = type(self._presence).__qualname__
            what = "the callbacks of %s are too slow: dropped %d changes, the last of %r"
            self._dropped.note(lambda count: logger.error(what, name, count, topic))

    def flush(self) -> None:
        """Call now what is to be called; what is async still takes its time."""
        for serial in list(self._topics.values()):
            serial.flush()

    def stop(self) -> None:
        """Call nothing more."""
        for serial in list(self._topics.values()):
            serial.stop()

    def _callback(self, change: Change) -> Callable[[Any], Any]:
        match change:
            case Join():
                return self._presence.on_join
            case Update():
                return self._presence.on_update
            case Leave():
                return self._presence.on_leave
            case _:
                raise AssertionError(f"unknown change: {change!r}")

    def _log(self, failed: Failed) -> None:
        logger.error("%s raised, the next is called", failed.name, exc_info=failed.error)
