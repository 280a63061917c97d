"""``on_join``, ``on_update`` and ``on_leave``: called in order, contained when they fail."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from roost.logs import Repeats
from roost.presence.changes import Change, Join, Leave, Update
from roost.presence.serial import Serial, Spawn

if TYPE_CHECKING:
    from roost.presence.presence import Presence

__all__ = ["Callbacks"]

logger = logging.getLogger("roost.presence")

MAX_WAITING: Final = 10_000  # changes of one topic; more are dropped, counted and logged


class Callbacks:
    """Call an application's callbacks, one after the other for each topic.

    While an ``async def`` callback of a topic runs, the topic's further changes wait; other topics
    do not.

    Args:
        presence: Whose callbacks they are.
        spawn: Starts a task that ends with the presence's run.
        counters: Where dropped changes are counted.
    """

    def __init__(self, presence: Presence, spawn: Spawn, counters: Counter[str]) -> None:
        self._presence = presence
        self._spawn = spawn
        self._counters = counters
        self._dropped = Repeats()
        self._topics: dict[str, Serial] = {}  # those with something to call

    def note(self, change: Change) -> None:
        """Something changed."""
        topic = change.topic
        serial = self._topics.get(topic)
        if serial is None:
            serial = self._topics[topic] = Serial(
                self._spawn,
                self._log,
                on_empty=partial(self._topics.pop, topic, None),
                max_count=MAX_WAITING,
            )
        if not serial.put(partial(self._call, change)):
            self._counters["callbacks_full"] += 1
            if dropped := self._dropped.note(asyncio.get_running_loop().time()):
                name = type(self._presence).__qualname__
                what = "the callbacks of %s are too slow: dropped %d changes, the last of %r"
                logger.error(what, name, dropped, topic)

    def flush(self) -> None:
        """Call now what is to be called; what is async still takes its time."""
        for serial in list(self._topics.values()):
            serial.flush()

    def stop(self) -> None:
        """Call nothing more."""
        for serial in list(self._topics.values()):
            serial.stop()

    def _call(self, change: Change) -> Any:
        match change:
            case Join():
                return self._presence.on_join(change)
            case Update():
                return self._presence.on_update(change)
            case Leave():
                return self._presence.on_leave(change)
            case _:
                raise AssertionError(f"unknown change: {change!r}")

    def _log(self, error: BaseException) -> None:
        name = type(self._presence).__qualname__
        logger.error("a callback of %s raised, the next is called", name, exc_info=error)
