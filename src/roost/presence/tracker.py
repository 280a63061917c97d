"""Tracker: presences for the server alone, with nothing broadcast."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from roost.aliases import Meta
from roost.channels.application import Failed
from roost.channels.tasks import Tasks
from roost.crdt.entry import Entry
from roost.presence.base import TrackerBase, topic_of
from roost.presence.following.call_queue import CallQueue
from roost.presence.owners.owned_tracker import OwnedTracker
from roost.presence.owners.owner import Owner
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscription
from roost.repeats import Repeats
from roost.tracker.meta import decode_meta
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated

__all__ = ["Tracker", "TrackerDiff"]

logger = logging.getLogger("roost.presence")

MAX_WAITING: Final = 10_000  # diffs and messages; more are dropped, counted and logged

TrackerDiff: TypeAlias = dict[str, tuple[list[tuple[str, Meta]], list[tuple[str, Meta]]]]
"""Topic → (joins, leaves), each a list of (key, meta)."""


class Tracker(TrackerBase["TrackerRun"]):
    """Who does what where, for server code: jobs, devices, workers, documents that are open.

    It is what a ``Presence`` is made of, without broadcasts: subclass it, say in ``handle_diff``
    what a change means, and give an instance to ``Endpoint(trackers=[…])``; there may be several.
    The behaviour is that of ``Phoenix.Tracker``. Departures: ``handle_diff`` runs after the change
    is visible, and an exception in it is logged and ends nothing.

    Example:
        >>> class Jobs(Tracker):
        ...     def handle_diff(self, diff):
        ...         for topic, (joins, leaves) in diff.items():
        ...             for key, meta in leaves:
        ...                 print("nobody works on", key, "any more")
    """

    # What an application defines.

    def handle_diff(self, diff: TrackerDiff) -> Awaitable[None] | None:
        """Something changed; ``async def`` or ``def``.

        The calls run one after the other, each with the changes of one operation: when an owner
        ends, one diff has all that it tracked. An update is a join of the new meta and a leave of
        the old one. Up to 10,000 diffs and messages wait for a slow one; more are dropped and
        counted (``tracker_full``).

        Args:
            diff: Topic → (joins, leaves), each a list of (key, meta).
        """
        return None

    def handle_info(self, message: Any) -> Awaitable[None] | None:
        """Handle a message of ``send``, or of a topic subscribed to; ``async def`` or ``def``."""
        name = type(self).__qualname__
        logger.warning("%s received unexpected message in handle_info: %r", name, message)
        return None

    # What an application calls, besides ``track``, ``untrack``, ``update`` and ``lease``.

    def untrack_all(self, owner: Owner) -> None:
        """Let all presences of an owner leave, in one diff."""
        self._here("untrack_all").owned.untrack_all(owner)

    def list(self, topic: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """The (key, meta) of everybody in a topic, key by key."""
        run = self._here("list")
        topic = run.pubsub.name_limits.topic(topic)
        return [_decoded(entry) for entry in run.owned.protocol.list(topic)]

    def get_by_key(self, topic: str, key: str | int) -> Sequence[dict[str, Any]]:
        """The metas of one key, in the order of their arrival. O(1)."""
        run = self._here("get_by_key")
        limits = run.pubsub.name_limits
        entries = run.owned.protocol.get_by_key(limits.topic(topic), limits.key(key))
        return [decode_meta(entry.meta) for entry in entries]

    def is_tracked(self, owner: Owner, key: str | int, *, topic: str | None = None) -> bool:
        """Whether ``owner`` tracks ``key``."""
        run = self._here("is_tracked")
        limits = run.pubsub.name_limits
        return run.owned.tracks(owner, topic_of(owner, topic, limits), limits.key(key))

    def send(self, message: Any) -> None:
        """Give ``handle_info`` a message, behind what waits already; works from any thread.

        Raises:
            NotStarted: The tracker is not running.
        """
        run = self._current()
        run.pubsub.call_soon(partial(self._deliver, run, message))

    def _deliver(self, run: TrackerRun, message: Any) -> None:
        """Handle what may be from another thread, unless the run ended on its way here."""
        if self._run is run:
            run.receive(message)
        else:
            run.pubsub.counters["stopped"] += 1

    def subscribe(self, topic: str) -> None:
        """Receive the broadcasts of a topic in ``handle_info``; twice is once."""
        run = self._here("subscribe")
        run.subscribe(run.pubsub.name_limits.topic(topic))

    def unsubscribe(self, topic: str) -> None:
        """Receive them no longer."""
        run = self._here("unsubscribe")
        run.unsubscribe(run.pubsub.name_limits.topic(topic))

    async def settled(self) -> None:
        """Wait until every diff and message was handled; for tests."""
        await self._here("settled").settled()

    async def _start(self, pubsub: PubSub) -> TrackerRun:
        return TrackerRun(self, pubsub)


class TrackerRun:
    """A tracker at work, from start to stop."""

    def __init__(self, tracker: Tracker, pubsub: PubSub) -> None:
        self.pubsub = pubsub
        self.loop = asyncio.get_running_loop()
        self.owned = OwnedTracker(pubsub, tracker.name, self._changed)
        self.track = self.owned.track
        self.update = self.owned.update
        self._tracker = tracker
        self._context = contextvars.copy_context()
        self._tasks = Tasks(self._context)
        self._calls = CallQueue(self._tasks, self._log, max_count=MAX_WAITING)
        self._dropped = Repeats()
        self._subscriptions: dict[str, Subscription] = {}
        self.owned.start()

    def receive(self, message: Any) -> None:
        self._put(self._tracker.handle_info, message, contextvars.copy_context())

    def subscribe(self, topic: str) -> None:
        if topic not in self._subscriptions:
            self._subscriptions[topic] = self.pubsub.subscribe(topic, self.receive)

    def unsubscribe(self, topic: str) -> None:
        subscription = self._subscriptions.pop(topic, None)
        if subscription is not None:
            self.pubsub.unsubscribe(subscription)

    async def settled(self) -> None:
        while True:
            self._calls.flush()
            if not self._tasks:
                break
            await self._tasks.wait()

    def stop(self) -> None:
        self.owned.stop()
        for topic in list(self._subscriptions):
            self.unsubscribe(topic)
        self._calls.stop()
        self._tasks.cancel()

    async def stopped(self) -> None:
        await self._tasks.end()

    def _changed(self, events: Sequence[TrackerEvent]) -> None:
        # Changes of other nodes come in the context of the task that reads messages: not in that.
        event = events[0]
        entry = event.new if isinstance(event, Updated) else event.entry
        is_own = entry.ref_prefix == self.owned.protocol.origin.ref_prefix
        context = contextvars.copy_context() if is_own else self._context.copy()
        self._put(self._tracker.handle_diff, _diff(events), context)

    def _put(
        self,
        function: Callable[[Any], Any],
        argument: Any,
        context: contextvars.Context,
    ) -> None:
        if not self._calls.put(function, argument, context):
            self.pubsub.counters["tracker_full"] += 1
            name = type(self._tracker).__qualname__
            what = "%s is too slow: dropped %d diffs or messages"
            self._dropped.note(lambda count: logger.error(what, name, count))

    def _log(self, failed: Failed) -> None:
        logger.error("%s raised, the next is called", failed.name, exc_info=failed.error)


def _diff(events: Sequence[TrackerEvent]) -> TrackerDiff:
    diff: TrackerDiff = {}
    for event in events:
        match event:
            case Joined(entry):
                diff.setdefault(entry.topic, ([], []))[0].append(_decoded(entry))
            case Left(entry):
                diff.setdefault(entry.topic, ([], []))[1].append(_decoded(entry))
            case Updated(old, new):
                joins, leaves = diff.setdefault(new.topic, ([], []))
                joins.append(_decoded(new))
                leaves.append(_decoded(old))
            case _:
                raise AssertionError(f"unknown event of the tracker: {event!r}")
    return diff


def _decoded(entry: Entry) -> tuple[str, dict[str, Any]]:
    return entry.key, decode_meta(entry.meta)
