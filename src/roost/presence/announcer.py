"""What one topic's subscribers are told, and when.

Theory of operation. Changes gather in the topic's feed. The topic is *due* at the end of the tick
if it was quiet, else ``diff_period`` after its last diff. When it is due, what gathered goes out as
one diff, through ``fetch`` if there is one; until that returns, further changes gather, so that a
topic has at most one diff under way and one that gathers. After it ``handle_metas`` runs, if there
is one.

A topic whose policy says so goes over to *counting* when it has too many members: its subscribers
get the count and an empty list, since what they hold will not be kept up to date, and from then on
a count instead of each diff. When it is small again they get a fresh state. A client that is pushed
a list meanwhile gets the same two messages in its place.

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
from roost.presence.policy import Policy
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
        policy: What they are told.
        run: The presence.

    Attributes:
        is_counting: They are told counts, and hold empty lists.
    """

    __slots__ = (
        "_due",
        "_feed",
        "_is_telling",
        "_next_at",
        "_owes_state",
        "_pushed",
        "_run",
        "_state",
        "_told_count",
        "_topic",
        "is_counting",
        "policy",
    )

    def __init__(self, topic: str, version: int, policy: Policy, run: PresenceRun) -> None:
        self.policy = policy
        self.is_counting = policy.counts(0, is_counting=False)
        self._topic = topic
        self._run = run
        self._feed = TopicFeed(version, max_count=run.presence.max_diff_count)
        self._due: asyncio.Handle | None = None
        self._next_at = 0.0  # on the loop's clock
        self._is_telling = False
        self._owes_state = False  # a diff would not do
        self._pushed: dict[Subscription, int] = {}
        self._state: StateCache | None = None  # from the first list on
        self._told_count: bytes | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everybody was told everything."""
        return not self._feed.is_pending and not self._is_telling and not self._owes_state

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

    def turn(self) -> None:
        """Go over to counting, or back, if the members are so many, or so few, now."""
        self._turn()
        self._schedule()

    def _turn(self) -> None:
        member_count = self._run.tracker.count_keys(self._topic)
        if self.policy.counts(member_count, is_counting=self.is_counting) is self.is_counting:
            return
        self.is_counting = not self.is_counting
        self._owes_state = not self.is_counting
        self._told_count = None
        if self.is_counting:
            self._tell_count()
            self._send_state(JsonPayload(b"{}"), self._run.tracker.version)

    def flush(self) -> None:
        """Tell now what is to be told; ``fetch`` may still take its time."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._is_telling:
            return
        if self.is_idle:
            self._run.forget_if_empty(self._topic)
        else:
            self._tell()

    def stop(self) -> None:
        """Tell nothing more."""
        if self._due is not None:
            self._due.cancel()

    def _schedule(self) -> None:
        if self._due is not None or self._is_telling or self.is_idle:
            return
        loop = self._run.loop
        if loop.time() >= self._next_at:
            self._due = loop.call_soon(self.flush)
        else:
            self._due = loop.call_at(self._next_at, self.flush)

    def _tell(self) -> None:
        self._turn()
        policy, run = self.policy, self._run
        period = policy.count_period if self.is_counting else policy.diff_period
        self._next_at = run.loop.time() + period
        is_state = self._feed.overflowed or self._owes_state
        diff = self._feed.take()
        self._owes_state = False
        if self.is_counting:
            self._tell_count()
        if not self._lists_are_kept and run.metas is None:
            self._finish_telling(diff.end)
        elif is_state:
            self._is_telling = True
            run.spawn(self._tell_state())
        elif not diff.joins and not diff.leaves:
            self._finish_telling(diff.end)
        elif run.is_bare and run.metas is None:
            self._send_diff(diff)
            self._finish_telling(diff.end)
        else:
            self._is_telling = True
            run.spawn(self._tell_diff(diff))

    @property
    def _lists_are_kept(self) -> bool:
        """Whether anybody here is to be told of a diff."""
        if self.is_counting or not self.policy.announce:
            return False
        return bool(self._run.pubsub.subscriptions(self._topic))

    async def _tell_diff(self, diff: Diff) -> None:
        run = self._run
        try:
            fetched = run.fetcher.bare_diff(diff)
            if not run.is_bare:
                fetched = await run.fetcher.diff(self._topic, diff)
        except Exception:  # whatever it is, the topic must not fall silent
            logger.exception("fetching for %r failed, its presences go out bare", self._topic)
        self._send_diff(diff, fetched.payload)
        if run.metas is not None:
            await run.metas.handle_diff(self._topic, fetched.joins, fetched.leaves)
        self._finish_telling(diff.end)

    def _send_diff(self, diff: Diff, fetched: bytes | None = None) -> None:
        """Tell a diff, as fetched or bare; it is encoded if there is anybody to be told."""
        if not self._lists_are_kept:
            return
        run, pushed = self._run, self._pushed
        event = run.presence.diff_event
        receivers: list[Subscription] = []
        held: list[list[tuple[int, Broadcast]]] = []  # of those who wait for their state
        for subscription in run.pubsub.subscriptions(self._topic):
            listener = listener_of(subscription, run)
            if listener is not None:
                lane: Fastlane = subscription.metadata
                # An intercepting channel gets every diff: its mailbox may hold older ones.
                if event not in lane.intercepts:
                    if listener.held is not None:
                        held.append(listener.held)
                        continue
                    if pushed and pushed.get(subscription, -1) >= diff.end:
                        continue
                lane.was_told = True
                if listener.told is Told.NOTHING:
                    listener.told = Told.DIFFS
            receivers.append(subscription)
        if not receivers and not held:
            return
        payload = encode_bare_diff(diff.joins, diff.leaves) if fetched is None else fetched
        message = Broadcast(self._topic, event, JsonPayload(payload))
        for each in held:
            each.append((diff.end, message))
        if receivers:
            run.dispatch(receivers, message)

    async def _tell_state(self) -> None:
        """Instead of a diff: the state, for all."""
        run = self._run
        try:
            presences = await run.list(self._topic)
        except Exception:
            logger.exception("listing %r failed", self._topic)
        else:
            if self._lists_are_kept:
                self._send_state(presences, presences.version)
            if run.metas is not None:
                await run.metas.handle_state(self._topic, presences.decode())
        self._finish_telling(-1)

    def _send_state(self, payload: JsonPayload, version: int) -> None:
        """Give all subscribers a state in place of the one that they hold."""
        if not self.policy.announce:
            return
        run = self._run
        message = Broadcast(self._topic, run.presence.state_event, payload)
        receivers = run.pubsub.subscriptions(self._topic)
        run.dispatch(receivers, message)
        run.dispatch([each for each in receivers if run.told_state(each, version)], message)

    def hand_out_count(self) -> None:
        """Somebody got the present count."""
        if self._told_count != self._run.count(self._topic).encoded:
            self._told_count = None  # not all know the same: the next one is news to somebody

    def _tell_count(self) -> None:
        payload = self._run.count(self._topic)
        if payload.encoded == self._told_count or not self.policy.announce:
            return
        self._told_count = payload.encoded
        message = Broadcast(self._topic, self._run.presence.count_event, payload)
        dispatch(self._run.pubsub.subscriptions(self._topic), None, message)

    def _finish_telling(self, end: int) -> None:
        self._is_telling = False
        if self._pushed:
            self._pushed = {
                each: version for each, version in self._pushed.items() if version > end
            }
        if not self.is_idle:
            self._schedule()
            return
        self._pushed.clear()
        loop = self._run.loop
        if loop.time() >= self._next_at:
            self._run.forget_if_empty(self._topic)
        elif not self._run.tracker.count_entries(self._topic):
            # Not yet: whoever comes before is told when the period is over.
            self._due = loop.call_at(self._next_at, self.flush)
