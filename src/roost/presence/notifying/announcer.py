"""When the subscribers of one topic are notified, and by which kind of message.

Theory of operation. Changes gather in the topic's feed. The topic is *due* at the end of the tick
if it was quiet, else ``diff_period`` after its last diff. When it is due, what gathered is sent as
one diff, through ``fetch`` if there is one. Until ``fetch`` returns, further changes gather, so
that a topic has at most one diff that is being sent and one that gathers. After it ``handle_metas``
runs, if there is one.

A topic whose policy says so switches to *counting* when it has too many members. Its subscribers
are sent the count and an empty list, since what they hold will not be kept up to date, and from
then on a count instead of each diff. When the topic is small again they are sent a fresh state. A
client that is pushed a list meanwhile is sent the same two messages in its place.

``subscribers`` decides what each of them is sent, by what it holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from roost.channels.application import Contained, Failed
from roost.crdt.entry import Entry
from roost.presence.following.handle_metas import MetasHandler
from roost.presence.notifying.diffs import AsTracked, Fetched, MemberEncoder
from roost.presence.notifying.fetch import Fetcher
from roost.presence.notifying.presence_list import PresenceList
from roost.presence.notifying.state_cache import StateCache
from roost.presence.notifying.subscribers import Subscribers, SubscribersHost
from roost.presence.policy import Policy
from roost.pubsub.registry import Subscription
from roost.tracker.feed import TopicFeed
from roost.tracker.protocol import Joined, Left, TrackerEvent, TrackerProtocol, Updated
from roost.wire.payload import JsonPayload
from roost.wire.presence import decode_grouped

__all__ = ["Announcer"]

logger = logging.getLogger("roost.presence")

_as_tracked = AsTracked()


class AnnouncerHost(SubscribersHost, Protocol):
    """The presence, as far as one of its topics is concerned.

    Attributes:
        is_unfetched: Nothing is fetched.
        tracker: To be read.
        fetcher: Calls ``fetch``.
        metas: Calls ``handle_metas``; None if there is none.
    """

    loop: asyncio.AbstractEventLoop
    is_unfetched: bool
    tracker: TrackerProtocol
    fetcher: Fetcher
    metas: MetasHandler | None

    async def list(self, topic: str) -> PresenceList: ...
    def count(self, topic: str) -> JsonPayload: ...
    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]: ...
    def refresh(self, subscription: Subscription) -> None:
        """Send a subscription the list of its topic, as soon as it is made."""
        ...

    def forget_if_empty(self, topic: str) -> None:
        """A topic has nothing more to send: forget it if nobody is there, or waits for a list."""
        ...


class Announcer:
    """Announce the presences of one topic to its subscribers.

    Args:
        topic: The topic.
        version: The tracker's version before the topic's first change.
        policy: What they are sent, and how often.
        host: The presence that it belongs to.

    Attributes:
        is_counting: They are sent counts, and hold empty lists.
        subscribers: Who they are, and what they hold.
    """

    __slots__ = (
        "_due",
        "_feed",
        "_handled_at",
        "_host",
        "_is_sending",
        "_listed_at",
        "_next_at",
        "_owes_state",
        "_state",
        "_topic",
        "is_counting",
        "policy",
        "subscribers",
    )

    def __init__(self, topic: str, version: int, policy: Policy, host: AnnouncerHost) -> None:
        self.policy = policy
        self.is_counting = policy.counts(0, is_counting=False)
        self._topic = topic
        self._host = host
        self._feed = TopicFeed(version, max_count=host.presence.max_diff_count)
        self._due: asyncio.Handle | None = None
        self._next_at = 0.0  # on the loop's clock
        self._is_sending = False
        self._owes_state = False  # a diff would not do
        self._handled_at = version  # what ``handle_metas`` holds
        self._listed_at = version  # of the last list that was made
        self._state: StateCache | None = None  # from the first list on
        self.subscribers = Subscribers(topic, host, version)

    @property
    def is_idle(self) -> bool:
        """Whether all were sent everything, but for those who wait for a list."""
        return not (
            self._feed.is_pending
            or self._is_sending
            or self._owes_state
            or self.subscribers.wait_for_diffs
        )

    @property
    def can_be_forgotten(self) -> bool:
        """Whether nobody will miss it while the topic is empty."""
        return self.is_idle and self.subscribers.are_level

    def changed(self, event: TrackerEvent) -> None:
        """Something changed in the topic."""
        self.subscribers.before_change(event.version)
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
            self._state = StateCache(self._topic, self._host.tracker)
        return self._state.encode()

    def list_made(self) -> None:
        """Somebody gets a list, which has what is pending, or a part of it."""
        if self._feed.is_pending:
            self._listed_at = self._host.tracker.version

    def list_ended(self) -> None:
        """A subscription no longer waits for a list: it was pushed, or will not be."""
        if self._due is None and not self._is_sending:
            self._go_on()

    def switch(self) -> None:
        """Switch to counts, or back to lists, if the topic has so many members, or so few, now."""
        self._switch()
        self._schedule()

    def _switch(self) -> None:
        member_count = self._host.tracker.count_keys(self._topic)
        if self.policy.counts(member_count, is_counting=self.is_counting) is self.is_counting:
            return
        self.is_counting = not self.is_counting
        self._owes_state = not self.is_counting
        self.subscribers.forget_count()
        if self.is_counting:
            self._send_count()
            self._send_state(JsonPayload(b"{}"), self._host.tracker.version)

    def flush(self) -> None:
        """Send now what is due or gathers; ``fetch`` may still take its time."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._is_sending:
            return
        if self.is_idle:
            self._host.forget_if_empty(self._topic)
        else:
            self._send()

    def stop(self) -> None:
        """Send nothing more."""
        if self._due is not None:
            self._due.cancel()

    def _schedule(self) -> None:
        if self._due is not None or self._is_sending or self.is_idle:
            return
        loop = self._host.loop
        if loop.time() >= self._next_at:
            self._due = loop.call_soon(self.flush)
        else:
            self._due = loop.call_at(self._next_at, self.flush)

    def _send(self) -> None:
        self._switch()
        policy, host = self.policy, self._host
        period = policy.count_period if self.is_counting else policy.diff_period
        self._next_at = host.loop.time() + period
        is_state = self._feed.overflowed or self._owes_state
        end = self._feed.take()
        self._owes_state = False
        if self.is_counting:
            self._send_count()
        if not self._lists_are_kept and host.metas is None:
            self._finish(end)
        elif is_state:
            self._is_sending = True
            host.spawn(self._list_and_send_state(end))
        elif host.is_unfetched and host.metas is None:
            self._send_diff(end, _as_tracked)
            self._finish(end)
        else:
            self._is_sending = True
            host.spawn(self._fetch_and_send_diff(end))

    @property
    def _lists_are_kept(self) -> bool:
        """Whether anybody here is to be sent diffs.

        Nobody is when the topic counts, or did so when the diff began: a state follows.
        """
        if self.is_counting or self._owes_state or not self.policy.announce:
            return False
        return bool(self._host.pubsub.subscriptions(self._topic))

    async def _fetch_and_send_diff(self, end: int) -> None:
        """Send a diff, and then call ``handle_metas``."""
        host = self._host
        handled = self._feed.diff(self._handled_at, end)
        try:
            encode: MemberEncoder = _as_tracked
            presences = None
            if not host.is_unfetched:
                entries = self._entries_sent(end)
                presences = await host.fetcher.diff(self._topic, entries)
                asked = {entry.ref for entry in entries}
                contained = Contained(host.presence.fetch)
                encode = Fetched(presences, asked, host.pubsub.encoder, contained)
        except Exception:  # whatever it is, the topic must not fall silent
            logger.exception(
                "fetching for %r failed, its presences are sent without fetched data", self._topic
            )
        is_shown = self._send_diff(end, encode)
        if host.metas is not None:
            if presences is None or not is_shown:
                joins, leaves = decode_grouped(handled.joins), decode_grouped(handled.leaves)
            else:
                joins, leaves = host.fetcher.sides(presences, handled)
            await host.metas.handle_diff(self._topic, joins, leaves)
        self._finish(end)

    def _entries_sent(self, end: int) -> Sequence[Entry]:
        """All who are in the diff of any subscriber, who may be more than those in most diffs."""
        level, oldest = self.subscribers.version, self.subscribers.oldest_version
        if max(self._listed_at, self._handled_at, level) == min(oldest, level):
            diff = self._feed.diff(level, end)
            return (*diff.joins, *diff.leaves)
        touched = self._feed.changes(oldest, end)
        return list({change.entry.ref: change.entry for change in touched}.values())

    def _send_diff(self, end: int, encode: MemberEncoder) -> bool:
        """Send all what changed until ``end``; False if what was fetched could not be encoded."""
        if not self._lists_are_kept:
            return True
        is_encoded = True
        try:
            lost = self.subscribers.send_diff(self._feed, end, encode)
        except Failed as failed:  # what fetch added is no JSON, or an encode_hook raised
            what = "%s failed for %r, its presences are sent without fetched data"
            logger.error(what, failed.name, self._topic, exc_info=failed.error)
            is_encoded = False
            lost = self.subscribers.send_diff(self._feed, end, _as_tracked)
        for subscription in lost:
            self._host.refresh(subscription)
        return is_encoded

    async def _list_and_send_state(self, end: int) -> None:
        """Send all the state, in place of a diff."""
        host = self._host
        try:
            presences = await host.list(self._topic)
        except Exception:
            logger.exception("listing %r failed", self._topic)
        else:
            if self._lists_are_kept:
                self._send_state(presences, presences.version)
            if host.metas is not None:
                await host.metas.handle_state(self._topic, presences.decode())
                self._handled_at = presences.version
        self._finish(end)

    def _send_state(self, payload: JsonPayload, version: int) -> None:
        """Send all subscribers a state in place of the one that they hold."""
        if self.policy.announce:
            self.subscribers.send_state(payload, version)

    def _send_count(self) -> None:
        if self.policy.announce:
            self.subscribers.send_count(self._host.count(self._topic))

    def _finish(self, end: int) -> None:
        self._is_sending = False
        subscribers = self.subscribers
        if not self._lists_are_kept:
            subscribers.skip(end)
        subscribers.reached(end)
        self._handled_at = max(self._handled_at, end)
        self._feed.forget(subscribers.oldest_version)
        self._go_on()

    def _go_on(self) -> None:
        """Schedule what is to be sent next, or let the topic rest."""
        if not self.is_idle:
            self._schedule()
            return
        loop = self._host.loop
        if loop.time() >= self._next_at:
            self._host.forget_if_empty(self._topic)
        elif not self._host.tracker.count_entries(self._topic):
            # Not yet: changes before the end of the period are sent when it is over.
            self._due = loop.call_at(self._next_at, self.flush)
