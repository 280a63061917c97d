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

Who is sent what is decided in ``holding``, by what each subscriber holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roost.channels.application import Contained, Failed
from roost.crdt.entry import Entry
from roost.presence.diffs import Bare, Fetched, MemberEncoder
from roost.presence.holding import Subscribers
from roost.presence.policy import Policy
from roost.presence.state import StateCache
from roost.tracker.feed import TopicFeed
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated
from roost.wire.payload import JsonPayload
from roost.wire.presence import decode_grouped

if TYPE_CHECKING:
    from roost.presence.run import PresenceRun

__all__ = ["Announcer"]

logger = logging.getLogger("roost.presence")

_bare = Bare()


class Announcer:
    """Tell the subscribers of one topic about its presences.

    Args:
        topic: The topic.
        version: The tracker's version before the topic's first change.
        policy: What they are told.
        run: The presence.

    Attributes:
        is_counting: They are told counts, and hold empty lists.
        subscribers: Who they are, and what they hold.
    """

    __slots__ = (
        "_due",
        "_feed",
        "_handled_at",
        "_is_telling",
        "_listed_at",
        "_next_at",
        "_owes_state",
        "_run",
        "_state",
        "_topic",
        "is_counting",
        "policy",
        "subscribers",
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
        self._handled_at = version  # what ``handle_metas`` holds
        self._listed_at = version  # of the last list that was handed out
        self._state: StateCache | None = None  # from the first list on
        self.subscribers = Subscribers(topic, run, version)

    @property
    def is_idle(self) -> bool:
        """Whether all were told everything, but for those who wait for a list."""
        return not (
            self._feed.is_pending
            or self._is_telling
            or self._owes_state
            or self.subscribers.wait_for_diffs
        )

    @property
    def can_be_forgotten(self) -> bool:
        """Whether nobody will miss it while the topic is empty."""
        return self.is_idle and self.subscribers.are_level

    def note(self, event: TrackerEvent) -> None:
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
            self._state = StateCache(self._topic, self._run.tracker)
        return self._state.encode()

    def list_made(self) -> None:
        """Somebody gets a list, which has what is pending, or a part of it."""
        if self._feed.is_pending:
            self._listed_at = self._run.tracker.version

    def list_ended(self) -> None:
        """Who waited for a list waits no more: it was pushed, or will not be."""
        if self._due is None and not self._is_telling:
            self._go_on()

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
        self.subscribers.forget_count()
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
        end = self._feed.take()
        self._owes_state = False
        if self.is_counting:
            self._tell_count()
        if not self._lists_are_kept and run.metas is None:
            self._finish_telling(end)
        elif is_state:
            self._is_telling = True
            run.spawn(self._tell_state(end))
        elif run.is_bare and run.metas is None:
            self._send_diff(end, _bare)
            self._finish_telling(end)
        else:
            self._is_telling = True
            run.spawn(self._tell_diff(end))

    @property
    def _lists_are_kept(self) -> bool:
        """Whether anybody here is to be told of a diff.

        Nobody is when the topic counts, or did so when the diff began: a state follows.
        """
        if self.is_counting or self._owes_state or not self.policy.announce:
            return False
        return bool(self._run.pubsub.subscriptions(self._topic))

    async def _tell_diff(self, end: int) -> None:
        """Tell a diff, and then ``handle_metas``."""
        run = self._run
        handled = self._feed.diff(self._handled_at, end)
        try:
            encode: MemberEncoder = _bare
            presences = None
            if not run.is_bare:
                entries = self._entries_told(end)
                presences = await run.fetcher.diff(self._topic, entries)
                asked = {entry.ref for entry in entries}
                contained = Contained(run.presence.fetch)
                encode = Fetched(presences, asked, run.pubsub.encoder, contained)
        except Exception:  # whatever it is, the topic must not fall silent
            logger.exception("fetching for %r failed, its presences go out bare", self._topic)
        is_shown = self._send_diff(end, encode)
        if run.metas is not None:
            if presences is None or not is_shown:
                joins, leaves = decode_grouped(handled.joins), decode_grouped(handled.leaves)
            else:
                joins, leaves = run.fetcher.sides(presences, handled)
            await run.metas.handle_diff(self._topic, joins, leaves)
        self._finish_telling(end)

    def _entries_told(self, end: int) -> Sequence[Entry]:
        """Whoever is in what anybody is told, which may be more than what most are."""
        level, oldest = self.subscribers.version, self.subscribers.oldest_version
        if max(self._listed_at, self._handled_at, level) == min(oldest, level):
            diff = self._feed.diff(level, end)
            return (*diff.joins, *diff.leaves)
        touched = self._feed.changes(oldest, end)
        return list({change.entry.ref: change.entry for change in touched}.values())

    def _send_diff(self, end: int, encode: MemberEncoder) -> bool:
        """Tell all what changed until ``end``, as fetched or bare; False if it had to be bare."""
        if not self._lists_are_kept:
            return True
        is_encoded = True
        try:
            lost = self.subscribers.send_diff(self._feed, end, encode)
        except Failed as failed:  # what fetch added is no JSON, or an encode_hook raised
            what = "%s failed for %r, its presences go out bare"
            logger.error(what, failed.name, self._topic, exc_info=failed.error)
            is_encoded = False
            lost = self.subscribers.send_diff(self._feed, end, _bare)
        for subscription in lost:
            self._run.refresh(subscription)
        return is_encoded

    async def _tell_state(self, end: int) -> None:
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
                self._handled_at = presences.version
        self._finish_telling(end)

    def _send_state(self, payload: JsonPayload, version: int) -> None:
        """Give all subscribers a state in place of the one that they hold."""
        if self.policy.announce:
            self.subscribers.send_state(payload, version)

    def _tell_count(self) -> None:
        if self.policy.announce:
            self.subscribers.send_count(self._run.count(self._topic))

    def _finish_telling(self, end: int) -> None:
        self._is_telling = False
        subscribers = self.subscribers
        if not self._lists_are_kept:
            subscribers.skip(end)
        subscribers.rest(end)
        self._handled_at = max(self._handled_at, end)
        self._feed.forget(subscribers.oldest_version)
        self._go_on()

    def _go_on(self) -> None:
        """See to what is to be told next, or let the topic rest."""
        if not self.is_idle:
            self._schedule()
            return
        loop = self._run.loop
        if loop.time() >= self._next_at:
            self._run.forget_if_empty(self._topic)
        elif not self._run.tracker.count_entries(self._topic):
            # Not yet: whoever comes before is told when the period is over.
            self._due = loop.call_at(self._next_at, self.flush)
