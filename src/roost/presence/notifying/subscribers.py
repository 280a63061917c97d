"""What each subscriber of a topic holds, and what it is sent because of that.

Theory of operation. A subscriber *holds* a version of its topic: that of the last state that it was
sent, brought forward by the diffs since. Every message follows from it. A diff to somebody who
holds v has what changed after v, no more and no less. A state is never older than what its receiver
holds. Most subscribers hold the same version at any time, the one that all were brought to last,
and get the same frame. Those who don't are

- ahead: they were sent a state since. They get what changed after it, and are like the others.
- behind: they are sent no diffs while a list is being made for them, or before their channel has
  had the chance to push one. Then they get their state, or else what they missed, which the feed
  keeps for them.

Nothing here knows what the client makes of the messages, but for one thing. phoenix.js, from 1.4
on, keeps the diffs that come before the first state of a join, and applies them after it. So a
client may hold back diffs

- that this subscription was sent before its first state,
- that an earlier channel of the same connection and topic was sent, after the client sent its new
  join, or
- that an earlier connection was sent; they survive a reconnect.

The server can't know which diffs those are, and whoever is in them may have left since. Only a
second copy of the state settles them: the first copy makes the client apply them, the second one
corrects the result. The second copy changes nothing for clients without such a queue.

A channel that intercepts diffs gets them when others are sent them, and pushes them when its
handler runs. By then its client may hold a state that has them already: then they are not sent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from roost.channels.fastlane import Fastlane, dispatch
from roost.presence.definition import PresenceDefinition
from roost.presence.notifying.diffs import MemberEncoder, encode_diffs
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscription
from roost.tracker.feed import TopicFeed
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload

__all__ = ["Holding", "Subscribers", "SubscribersHost", "holding_of"]

# Bytes of a state that is sent twice because its client may hold back diffs of an earlier
# connection. That is rare, and doubling what all get who reconnect to a large topic is dear.
MAX_REPEATED_SIZE: Final = 65_536

MAX_APART: Final = 64  # versions of a topic from which subscribers are sent diffs of their own

NOTHING: Final = -1  # a version before all others


_Groups: TypeAlias = dict[int, list[Subscription]]  # subscribers by the version that they hold


class Holding:
    """What one subscription holds of one presence.

    Attributes:
        version: Of the last state that it was sent; if it is behind, the version that it holds. It
            counts while it is higher than that of the topic's subscribers, or while ``is_behind``.
        has_state: It was sent a state.
        is_behind: It missed diffs that others were sent.
        list_count: Lists that are being made for it.
        was_sent_diffs: It was sent diffs.
        may_hold_back: An earlier channel of its connection was sent diffs.
    """

    __slots__ = (
        "has_state",
        "is_behind",
        "list_count",
        "may_hold_back",
        "version",
        "was_sent_diffs",
    )

    def __init__(self, earlier: Holding | None) -> None:
        self.version: int = NOTHING if earlier is None else earlier.version
        self.has_state = False
        self.is_behind = False
        self.list_count = 0
        self.was_sent_diffs = False
        self.may_hold_back: bool = earlier is not None and (
            earlier.was_sent_diffs or earlier.may_hold_back
        )

    def fall_behind(self, version: int, end: int) -> bool:
        """Others were sent the diff to ``end``, while this one holds ``version``: is that less?"""
        if version < end:
            self.is_behind = True
            self.version = version
        return self.is_behind

    def receive_state(self, version: int, level: int, lane: Fastlane, size: int) -> bool:
        """A state is sent.

        Args:
            version: Its version.
            level: What all hold who are neither ahead nor behind.
            lane: The subscription's.
            size: Of its payload, in bytes.

        Returns:
            Whether it must be sent twice, to settle diffs that the client holds back.
        """
        is_first = not self.has_state
        self.has_state = True
        self.is_behind = version < level
        self.version = version
        return is_first and (
            self.was_sent_diffs
            or self.may_hold_back
            or (lane.is_reconnected and size <= MAX_REPEATED_SIZE)
        )


def holding_of(subscription: object, host: object) -> Holding | None:
    """What a channel's subscription holds of a presence; None for other subscribers."""
    if not isinstance(subscription, Subscription):
        return None
    lane = subscription.metadata
    if type(lane) is not Fastlane:
        return None
    return lane.holdings.get(host) or _begin(lane, host)


def _begin(lane: Fastlane, host: object) -> Holding:
    earlier = None if lane.earlier is None else lane.earlier.get(host)
    holding = lane.holdings[host] = Holding(earlier)
    return holding


class SubscribersHost(Protocol):
    """The presence, as far as its subscribers are concerned."""

    @property
    def presence(self) -> PresenceDefinition: ...
    @property
    def pubsub(self) -> PubSub: ...

    def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
        """Deliver a state or diff to subscriptions, in the way that the application chose."""
        ...


class Subscribers:
    """Send the subscribers of one topic what they lack.

    Args:
        topic: The topic.
        host: Whose topic it is.
        version: What they hold.

    Attributes:
        version: What all hold who are neither ahead nor behind.
    """

    __slots__ = ("_behind", "_count", "_host", "_marks", "_topic", "version")

    def __init__(self, topic: str, host: SubscribersHost, version: int) -> None:
        self.version = version
        self._topic = topic
        self._host = host
        self._behind: list[Holding] = []
        # Where subscriptions were made in what is pending: how many there were, and the version.
        self._marks: list[tuple[int, int]] = []
        self._count: bytes | None = None  # that all were sent last

    @property
    def oldest_version(self) -> int:
        """What those hold who are farthest behind."""
        behind = self._behind = [each for each in self._behind if each.is_behind]
        return min([self.version, *(each.version for each in behind)])

    @property
    def are_level(self) -> bool:
        """Whether nobody is behind."""
        return not any(each.is_behind for each in self._behind)

    @property
    def wait_for_diffs(self) -> bool:
        """Whether somebody is behind who waits for no list."""
        return any(each.is_behind and not each.list_count for each in self._behind)

    def is_past(self, holding: Holding, version: int) -> bool:
        """Whether a subscriber holds more than a state of ``version``."""
        return self._held_by(holding) > version

    def before_change(self, version: int) -> None:
        """What changes at ``version`` is news to all who are subscribed by now."""
        count = self._host.pubsub.subscription_count
        if not self._marks or self._marks[-1][0] != count:
            self._marks.append((count, version - 1))

    def reached(self, version: int) -> None:
        """All hold ``version`` now, but for those who are behind, or ahead."""
        self.version = version
        marks = self._marks
        while len(marks) > 1 and marks[1][1] <= version:
            del marks[0]
        if marks:
            marks[0] = marks[0][0], max(marks[0][1], version)

    def _version_at(self, number: int, end: int) -> int:
        """The version at which a subscription was made, if that is pending."""
        return next((version for count, version in self._marks if count >= number), end)

    def skip(self, version: int) -> None:
        """Nobody is sent what changed until ``version``."""
        self.version = version
        for holding in self._behind:
            holding.is_behind = False
        self._behind.clear()

    # What they are sent.

    def send_diff(self, feed: TopicFeed, end: int, encode: MemberEncoder) -> list[Subscription]:
        """Bring all to the version ``end``, which the feed was taken at.

        Returns:
            Those who are so far behind that they need a state.

        Raises:
            Failed: What ``encode`` raises; nobody was sent anything, and it may be called again.
        """
        groups, lost, held = self._group(feed, end)
        shared = self._share(groups)
        legs = [*self._legs_to_others(feed, groups, shared, encode)]
        changes = feed.changes(min(shared, default=end), end)
        for version, payload in encode_diffs(changes, sorted(shared, reverse=True), encode):
            legs.append((shared[version], payload, end))
        host = self._host
        for receivers, payload, leg_end in legs:
            if payload is not None:
                diff = _Diff(payload, host, leg_end)
                host.dispatch(receivers, Broadcast(self._topic, host.presence.diff_event, diff))
        for holding in self._behind:
            holding.is_behind = False
        self._behind = [each for each, version in held if each.fall_behind(version, end)]
        self.version = end
        return lost

    def _share(self, groups: _Groups) -> _Groups:
        """Who is sent the same diff to the end, by the version that they hold before it.

        When hundreds come one after the other within a period, each holds another version, and
        diffs of their own would fill the memory. So those next to each other are first brought to
        the version of the last one of them.
        """
        ahead = sorted(version for version in groups if version != self.version)
        if len(ahead) <= MAX_APART:
            return groups
        shared = {self.version: groups[self.version]} if self.version in groups else {}
        for first in range(0, len(ahead), MAX_APART):
            chunk = ahead[first : first + MAX_APART]
            shared[chunk[-1]] = [each for version in chunk for each in groups[version]]
        return shared

    def _legs_to_others(
        self, feed: TopicFeed, groups: _Groups, shared: _Groups, encode: MemberEncoder
    ) -> Iterator[tuple[list[Subscription], bytes | None, int]]:
        """What brings each group to the version from which it shares, with that version."""
        ends = sorted(shared)
        legs: dict[int, list[int]] = {}
        for version in groups:
            if version not in shared:
                legs.setdefault(ends[bisect_left(ends, version)], []).append(version)
        for end, versions in legs.items():
            changes = feed.changes(min(versions), end)
            for version, payload in encode_diffs(changes, sorted(versions, reverse=True), encode):
                yield groups[version], payload, end

    def _group(
        self, feed: TopicFeed, end: int
    ) -> tuple[_Groups, list[Subscription], list[tuple[Holding, int]]]:
        """By what they hold, who is sent a diff; who needs a state; and who is sent nothing now."""
        host, level = self._host, self.version
        common: list[Subscription] = []
        groups: _Groups = {}
        lost: list[Subscription] = []
        held: list[tuple[Holding, int]] = []
        for subscription in host.pubsub.subscriptions(self._topic):
            lane = subscription.metadata
            if type(lane) is Fastlane:
                holding: Holding | None = lane.holdings.get(host)
                if holding is None:
                    holding = _begin(lane, host)
                    if lane.number is not None:
                        # phoenix.js before 1.4 counts a join twice that it is sent twice. What
                        # the client knows from before is at most what there was when it joined.
                        holding.version = max(holding.version, self._version_at(lane.number, end))
                if holding.list_count or lane.is_entering:
                    held.append((holding, self._held_by(holding)))
                    continue
                if holding.is_behind or holding.version > level:
                    version = holding.version
                    if version < end:
                        holding.was_sent_diffs = True
                        if feed.reaches(version):
                            groups.setdefault(version, []).append(subscription)
                        else:
                            lost.append(subscription)
                    continue
                holding.was_sent_diffs = True
            common.append(subscription)
        if common:
            groups.setdefault(level, []).extend(common)
        return groups, lost, held

    def send_state(
        self, state: JsonPayload, version: int, receivers: Sequence[Subscription] | None = None
    ) -> None:
        """Send subscribers, by default all, a state in place of what they hold."""
        host = self._host
        message = Broadcast(self._topic, host.presence.state_event, state)
        if receivers is None:
            receivers = host.pubsub.subscriptions(self._topic)
        if not receivers:
            return
        host.dispatch(receivers, message)
        size = len(state.encoded)
        again = []
        for subscription in receivers:
            holding = holding_of(subscription, host)
            if holding is None:
                continue
            if holding.receive_state(version, self.version, subscription.metadata, size):
                again.append(subscription)
        if again:
            host.dispatch(again, message)

    def send_count(self, count: JsonPayload) -> None:
        """Send all a count, if it is news."""
        if count.encoded != self._count:
            self._count = count.encoded
            message = Broadcast(self._topic, self._host.presence.count_event, count)
            dispatch(self._host.pubsub.subscriptions(self._topic), None, message)

    def forget_count(self, unless: JsonPayload | None = None) -> None:
        """Not all know the same count: the next one is news, unless it is what all know."""
        if unless is None or unless.encoded != self._count:
            self._count = None

    def _held_by(self, holding: Holding) -> int:
        return holding.version if holding.is_behind else max(holding.version, self.version)


class _Diff(JsonPayload):
    """A diff on its way to channels, which may push it later than others are sent it."""

    __slots__ = ("_end", "_host")

    def __init__(self, encoded: bytes, host: object, end: int) -> None:
        super().__init__(encoded)
        self._host = host
        self._end = end

    def is_news_to(self, subscription: object) -> bool:
        holding = holding_of(subscription, self._host)
        return holding is None or holding.version < self._end
