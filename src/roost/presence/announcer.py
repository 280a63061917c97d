"""What one topic's subscribers are told, and when.

Theory of operation. Changes gather in the topic's feed. The topic is *due* at the end of the tick
if it was quiet, else ``diff_period`` after its last diff. When it is due, what gathered goes out as
one diff, through ``fetch`` if there is one; until that returns, further changes gather, so that a
topic has at most one diff under way and one that gathers.

A subscription that was pushed the list of version v is not sent diffs that end at or before v.
phoenix.js makes two exceptions necessary, since it holds back diffs that come before the state of
its present join, and applies them after it:

- A client that got diffs of its subscription before the state needs every later diff, too, so that
  the last word on each ref is the last one that it hears. ``enter`` avoids the case: it holds
  diffs back while its list is being made.
- A client that was told diffs by an earlier channel of the same connection and topic may have got
  the last of them after it sent its new join, and misses some that came in between. Nothing tells
  the server which. So it gets the state twice: the second settles what the first left.

Who was pushed what is remembered only while a diff that could end at or before it is pending.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from roost.channels.fastlane import Fastlane, dispatch
from roost.presence.listener import Told, listener_of
from roost.presence.state import StateCache
from roost.pubsub.registry import Subscription
from roost.tracker.feed import Diff, TopicFeed
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload
from roost.wire.presence import encode_bare_diff

if TYPE_CHECKING:
    from roost.presence.run import PresenceRun

__all__ = ["Announcer"]

logger = logging.getLogger("roost.presence")


class Announcer:
    """Tell the subscribers of one topic about its presences.

    Args:
        topic: The topic.
        version: The tracker's version before the topic's first change.
        run: The presence.
    """

    __slots__ = (
        "_due",
        "_feed",
        "_is_telling",
        "_next_at",
        "_pushed",
        "_run",
        "_state",
        "_topic",
    )

    def __init__(self, topic: str, version: int, run: PresenceRun) -> None:
        self._topic = topic
        self._run = run
        self._feed = TopicFeed(version, max_count=run.presence.max_diff_count)
        self._due: asyncio.Handle | None = None
        self._next_at = 0.0  # on the loop's clock
        self._is_telling = False
        self._pushed: dict[Subscription, int] = {}
        self._state: StateCache | None = None  # from the first list on

    @property
    def is_idle(self) -> bool:
        """Whether everybody was told everything."""
        return not self._feed.is_pending and not self._is_telling

    def note(self, event: TrackerEvent) -> None:
        """Something changed in the topic."""
        match event:
            case Joined(entry, version, _):
                self._feed.join(entry, version)
            case Left(entry, version, _):
                self._feed.leave(entry, version)
            case Updated(old, entry, version):
                self._feed.leave(old, version)
                self._feed.join(entry, version)
            case _:
                raise AssertionError(f"unknown event of the tracker: {event!r}")
        if self._state is not None:
            self._state.changed(entry.key)
            if self._state.is_outgrown:  # nobody lists any more
                self._state = None
        self._schedule()

    def state(self) -> bytes:
        """The present state, without fetch."""
        if self._state is None:
            self._state = StateCache(self._topic, self._run.tracker)
        return self._state.encode()

    def hand_out(self) -> None:
        """Somebody got the present state."""
        self._feed.hand_out()

    def pushed(self, subscription: Subscription, version: int) -> None:
        """A subscription was pushed the state of ``version``."""
        if not self.is_idle:
            self._pushed[subscription] = version

    def flush(self) -> None:
        """Tell now what is to be told; ``fetch`` may still take its time."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._feed.is_pending and not self._is_telling:
            self._tell()

    def stop(self) -> None:
        """Tell nothing more."""
        if self._due is not None:
            self._due.cancel()

    def _schedule(self) -> None:
        if self._due is not None or self._is_telling or not self._feed.is_pending:
            return
        loop = self._run.loop
        if loop.time() >= self._next_at:
            self._due = loop.call_soon(self.flush)
        else:
            self._due = loop.call_at(self._next_at, self.flush)

    def _tell(self) -> None:
        self._next_at = self._run.loop.time() + self._run.presence.diff_period
        overflowed = self._feed.overflowed
        diff = self._feed.take()
        if not self._run.pubsub.subscriptions(self._topic):
            self._finish_telling(diff.end)
        elif overflowed:
            self._is_telling = True
            self._run.spawn(self._tell_state())
        elif not diff.joins and not diff.leaves:
            self._finish_telling(diff.end)
        elif self._run.is_bare:
            payload = encode_bare_diff(diff.joins, diff.leaves)
            self._send_diff(diff, payload)
        else:
            self._is_telling = True
            self._run.spawn(self._tell_fetched(diff))

    async def _tell_fetched(self, diff: Diff) -> None:
        try:
            payload = await self._run.fetcher.diff(self._topic, diff)
        except Exception:  # whatever it is, the topic must not fall silent
            logger.exception("fetching for %r failed, its presences go out bare", self._topic)
            payload = encode_bare_diff(diff.joins, diff.leaves)
        self._send_diff(diff, payload)

    def _send_diff(self, diff: Diff, payload: bytes) -> None:
        subscriptions = self._run.pubsub.subscriptions(self._topic)
        message = Broadcast(self._topic, self._run.presence.diff_event, JsonPayload(payload))
        receivers = [each for each in subscriptions if self._receives(each, diff.end, message)]
        dispatch(receivers, None, message, to_lingering=True)
        self._finish_telling(diff.end)

    def _receives(self, subscription: Subscription, end: int, message: Broadcast) -> bool:
        """Whether a subscription gets a diff now."""
        listener = listener_of(subscription, self._run)
        if listener is None:
            return True
        lane: Fastlane = subscription.metadata
        if message.event not in lane.intercepts:
            if listener.held is not None:
                listener.held.append((end, message))
                return False
            if self._pushed.get(subscription, -1) >= end:
                return False
        # An intercepting channel gets every diff: its mailbox may hold older ones.
        lane.was_told = True
        listener.told = max(listener.told, Told.DIFFS)
        return True

    async def _tell_state(self) -> None:
        """Instead of a diff that would be too long: the state, for all."""
        try:
            presences = await self._run.list(self._topic)
        except Exception:
            logger.exception("listing %r failed", self._topic)
            self._finish_telling(-1)
            return
        event = self._run.presence.state_event
        message = Broadcast(self._topic, event, presences)
        receivers = self._run.pubsub.subscriptions(self._topic)
        dispatch(receivers, None, message, to_lingering=True)
        twice = [each for each in receivers if presences.pushed_to(each, event)]
        dispatch(twice, None, message, to_lingering=True)
        self._finish_telling(-1)

    def _finish_telling(self, end: int) -> None:
        self._is_telling = False
        if self._pushed:
            self._pushed = {
                each: version for each, version in self._pushed.items() if version > end
            }
        if self._feed.is_pending:
            self._schedule()
        else:
            self._pushed.clear()
            self._run.forget_if_empty(self._topic)
