"""Presence: what applications subclass and call."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from roost.aliases import Meta, Presences
from roost.channels import fastlane
from roost.channels.channel import Channel
from roost.channels.patterns import TopicPatterns
from roost.exceptions import ConfigurationError
from roost.presence.base import TrackerBase, topic_of
from roost.presence.changes import Join, Leave, Update
from roost.presence.following.watch import Watch
from roost.presence.last_seen import LastSeenStore
from roost.presence.notifying.presence_list import PresenceList
from roost.presence.owners.owner import Owner
from roost.presence.policy import Policy
from roost.presence.run import PresenceRun
from roost.pubsub.pubsub import PubSub
from roost.pubsub.registry import Subscription
from roost.tracker.feed import MAX_COUNT
from roost.wire.messages import COUNT, DIFF, STATE, Broadcast

__all__ = ["Presence"]

_DEFAULT = Policy()


class Presence(TrackerBase[PresenceRun]):
    """Who is in which topic, with how many connections, and what is known of each.

    Give an instance to ``Endpoint(presences=[…])``; then every subscriber of a topic is sent its
    joins and leaves as ``presence_diff``, and ``presence_state`` is what ``enter`` or ``list``
    yields. The names, payloads and order are Phoenix's, so that phoenix.js follows along.

    Attributes:
        policies: Topic pattern → ``Policy``, the first match wins: how often its
            subscribers are sent diffs, above how many members only counts, how long presences stay
            when their owner ends, how many members it admits.
        fetch_timeout: Seconds that ``fetch`` may take; then presences are sent as tracked.
        fetch_ttl: Seconds that what ``fetch`` returned for a presence may be used again, by lists
            and diffs. 0: only by lists of the same tick.
        max_diff_count: Presences that one diff may name; beyond, subscribers get a fresh state.
        last_seen_store: Keeps when each key was last seen, for ``last_seen``; for example
            ``SqliteLastSeen("last_seen.db")``. None keeps nothing.
        state_event, diff_event, count_event: Names of the events, for clients that use others.

    Example:
        >>> class Online(Presence):
        ...     policies = {"room:*": Policy(leave_grace=5.0)}
        ...
        ...     async def fetch(self, topic, presences):
        ...         users = await users_by_id(presences)
        ...         return {key: {**entry, "user": users[key]} for key, entry in presences.items()}
        ...
        ...     def on_leave(self, leave):
        ...         if leave.is_last:
        ...             print(f"{leave.key} is gone from {leave.topic}")
    """

    policies: ClassVar[Mapping[str, Policy]] = {}
    fetch_timeout: ClassVar[float] = 5.0
    fetch_ttl: ClassVar[float] = 0.0
    max_diff_count: ClassVar[int] = MAX_COUNT
    last_seen_store: ClassVar[LastSeenStore | None] = None
    state_event: ClassVar[str] = STATE
    diff_event: ClassVar[str] = DIFF
    count_event: ClassVar[str] = COUNT

    _patterns: TopicPatterns[Policy] = TopicPatterns({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._patterns = _patterns_of(cls)

    # What an application defines.

    def fetch(self, topic: str, presences: Presences) -> Presences | Awaitable[Presences]:
        """Add to presences what clients should know of them; ``async def`` or ``def``.

        It is called once for each list and once for each diff and node, never for each
        subscriber, with all presences that joined or left: query once for all keys. If it raises
        or takes over ``fetch_timeout``, that is logged, and the presences are sent without fetched
        data: as they were tracked.

        Args:
            topic: The topic.
            presences: Key → ``{"metas": [{…, "phx_ref": …}, …]}``; yours to change.

        Returns:
            The same keys and metas, with anything added to the entries. A key left out is not
            shown to anybody. Leave it out in every call, or clients that were sent its join are not
            sent its leave.
        """
        return presences

    def policy(self, topic: str) -> Policy:
        """The policy of a topic; override to compute it.

        A topic keeps the policy that it had with its first presence, until it is empty. By default
        it is the first of ``policies`` that matches, or ``Policy()``. It may be asked for often,
        and must not raise.
        """
        return self._patterns.find(topic) or _DEFAULT

    def on_join(self, join: Join) -> Awaitable[None] | None:
        """A presence came; ``async def`` or ``def``, as ``on_update`` and ``on_leave``.

        The callbacks of one topic run one after the other, in the order of its changes, on each
        node for all presences that it sees; ``join.is_local`` says whether it is this node's own.
        What they raise is logged. While an async one runs, the further changes of its topic wait,
        up to 10,000; more are dropped and counted (``callbacks_full``). When the presence stops,
        what runs is cancelled and what waits is dropped; nobody leaves by that. So set right what
        you keep elsewhere when you start.
        """
        return None

    def on_update(self, update: Update) -> Awaitable[None] | None:
        """A presence has a new meta."""
        return None

    def on_leave(self, leave: Leave) -> Awaitable[None] | None:
        """A presence went."""
        return None

    def init(self) -> Any:
        """The first state for ``handle_metas``; ``async def`` or ``def``."""
        return None

    def handle_metas(
        self,
        topic: str,
        diff: Mapping[str, Presences],
        presences: Mapping[str, Sequence[Mapping[str, Any]]],
        state: Any,
    ) -> Any:
        """See each diff after it was broadcast, as Phoenix's callback; ``async def`` or ``def``.

        It needs ``init``. The calls run one after the other, over all topics, and the next diff of
        a topic waits for its call: one that hangs silences every topic that changes. Start a task
        for what may be slow. What it raises is logged, and the state stays.

        Args:
            topic: The topic.
            diff: ``{"joins": presences, "leaves": presences}``, as fetched.
            presences: Key → metas of the whole topic after the diff, as fetched; ``{}`` when it is
                empty. It is a view that is only right during the call.
            state: What ``init`` or the last call returned.

        Returns:
            The new state; None keeps the present one.
        """
        return None

    def dispatch(self, subscriptions: Sequence[Subscription], message: Broadcast) -> None:
        """Deliver a state or diff to subscriptions; override to do it another way.

        Args:
            subscriptions: Those who are to get it, on this node.
            message: ``presence_state`` or ``presence_diff``.
        """
        fastlane.dispatch(subscriptions, None, message, to_superseded=True)

    # Changing.

    def track(
        self,
        owner: Owner,
        key: str | int,
        meta: Meta | None = None,
        *,
        topic: str | None = None,
        hidden: bool = False,
    ) -> str:
        """Show ``key`` in ``topic`` until ``owner`` ends, and return the new ``phx_ref``.

        Args:
            owner: A channel, an ``asyncio.Task``, or a ``Lease``.
            key: Groups presences, usually a user id; an integer becomes a string.
            meta: A small JSON object; by default ``{"online_at": unix seconds}``.
            topic: Where; may be left out only for a channel, whose topic it then is.
            hidden: It is in nobody's list, count or watch, only in ``list_hidden``.

        Raises:
            AlreadyTracked: The owner tracks this key in this topic; use ``update``.
            InvalidKey: The key can't be one, see ``check_key``.
            InvalidName: The topic can't be one.
            PayloadError: The meta is not a JSON object, or has over 65,536 bytes.
            TopicFull: The topic's policy admits no further key.
            ChannelClosed: The channel has ended.
            NotStarted: No endpoint is running with this presence.
        """
        run = self._here("track")
        limits = run.pubsub.name_limits
        if meta is None:
            meta = {"online_at": int(time.time())}
        topic = topic_of(owner, topic, limits)
        return run.track(owner, topic, limits.key(key), meta, hidden=hidden)

    def hide(self, owner: Owner, key: str | int, *, topic: str | None = None) -> str:
        """Take a presence out of all lists and counts, for which it leaves; return its ref.

        Raises:
            NotTracked: The owner does not track this key in this topic.
        """
        run = self._here("hide")
        limits = run.pubsub.name_limits
        return run.owned.hide(owner, topic_of(owner, topic, limits), limits.key(key))

    def show(self, owner: Owner, key: str | int, *, topic: str | None = None) -> str:
        """Put a hidden presence into the lists and counts, for which it joins; return its ref.

        Raises:
            NotTracked: The owner does not track this key in this topic.
            TopicFull: The topic's policy admits no further key.
        """
        run = self._here("show")
        limits = run.pubsub.name_limits
        return run.show(owner, topic_of(owner, topic, limits), limits.key(key))

    async def enter(
        self,
        channel: Channel[Any],
        key: str | int,
        meta: Meta | None = None,
        *,
        hidden: bool = False,
    ) -> PresenceList:
        """Track ``key`` for a channel and push it the list of everybody, in one step.

        Call it in ``after_join``. A key that the channel tracks already is left as it is: where a
        policy has ``max_members``, ``track`` in ``join``, which refuses the join in time.

        Args:
            channel: The channel.
            key: Who it is.
            meta: As for ``track``.
            hidden: It sees everybody, and nobody sees it.

        Returns:
            The list that was pushed; in a topic that only counts it is empty.

        Raises:
            InvalidKey, PayloadError, TopicFull, ChannelClosed, NotStarted: As ``track``.
            NotJoined: The join was not accepted yet.
        """
        run = self._here("enter")
        name = run.pubsub.name_limits.key(key)
        if not run.owned.tracks(channel, channel.topic, name):
            self.track(channel, name, meta, hidden=hidden)
        return await run.push_list(channel)

    async def push_state(self, channel: Channel[Any]) -> PresenceList:
        """Push a channel the list of its topic, tracking nobody; diffs follow from there.

        In a topic that only counts it is the count that is pushed, and an empty list.

        Raises:
            NotJoined: The join was not accepted yet; call it in ``after_join``.
            ChannelClosed: The channel has ended.
        """
        return await self._here("push_state").push_list(channel)

    # Reading.

    async def list(self, where: str | Channel[Any]) -> PresenceList:
        """Everybody in a topic, after ``fetch``; current at the moment it returns.

        Args:
            where: A topic, or a channel for its topic.
        """
        run = self._here("list")
        if isinstance(where, Channel):
            return await run.list_for(where)
        return await run.list(_topic(where, run))

    async def get_by_key(self, where: str | Channel[Any], key: str | int) -> dict[str, Any] | None:
        """The entry of one key, after ``fetch``; None if it is not there. O(1) without fetch."""
        run = self._here("get_by_key")
        return await run.get_by_key(_topic(where, run), run.pubsub.name_limits.key(key))

    def count_users(self, where: str | Channel[Any]) -> int:
        """How many keys are in a topic. O(1)."""
        run = self._here("count_users")
        return run.tracker.count_keys(_topic(where, run))

    def count_connections(self, where: str | Channel[Any]) -> int:
        """How many presences are in a topic. O(1)."""
        run = self._here("count_connections")
        return run.tracker.count_entries(_topic(where, run))

    def list_hidden(self, where: str | Channel[Any]) -> Presences:
        """Those who hide in a topic: key → ``{"metas": [...]}``, without ``fetch``.

        It is for the server alone; no client is ever sent them.
        """
        run = self._here("list_hidden")
        return run.list_hidden(_topic(where, run))

    def online(self, keys: Collection[str | int]) -> set[str]:
        """Those of ``keys`` that are anywhere, whatever the topic. O(number of keys asked for).

        The first question about keys makes an index of all presences, which is kept from then on.

        Example:
            ``friends = online.online(friend_ids)``
        """
        run = self._here("online")
        return run.online(_keys(keys, run))

    async def last_seen(self, keys: Collection[str | int]) -> dict[str, float]:
        """When keys were last seen in any topic, in unix seconds; unknown ones are missing.

        For those who are online it is now; for the others, when they last joined, changed or left.
        After a crash of this process it may be when they came.

        Raises:
            ConfigurationError: There is no ``last_seen_store``.
            Exception: What the store raises.
        """
        run = self._here("last_seen")
        return await run.last_seen(set(_keys(keys, run)))

    def watch(self, of: str | Collection[str | int]) -> Watch:
        """Watch a topic, or people wherever they are: who is there, and what changes from then on.

        Args:
            of: A topic; or a collection of keys, in all topics. Then ``is_first`` and ``is_last``
                mark the first and the last presence of a key anywhere.

        Returns:
            An async iterator, to be closed: use it in an ``async with`` block. ``Watch`` says what
            it yields.

        Example:
            ``async with online.watch(friend_ids) as watch: async for change in watch: …``
        """
        run = self._here("watch")
        if isinstance(of, str):
            return run.watch(run.pubsub.name_limits.topic(of, "of"))
        return run.watch(frozenset(_keys(of, run, "of")))

    async def settled(self) -> None:
        """Wait until everything was sent; for tests, so that no fetch outlives them."""
        await self._here("settled").settled()

    # Life.

    @classmethod
    def defines(cls, name: str) -> bool:
        """Whether an application's class defines one of the callbacks."""
        return getattr(cls, name) is not getattr(Presence, name)

    async def _start(self, pubsub: PubSub) -> PresenceRun:
        if self.defines("handle_metas") and not self.defines("init"):
            name = type(self).__qualname__
            raise ConfigurationError(
                f"missing {name}.init callback for client state: handle_metas needs a first one"
            )
        self._patterns = _patterns_of(self)  # an instance may have policies of its own
        for name in ("state_event", "diff_event", "count_event"):
            setattr(self, name, pubsub.name_limits.event(getattr(self, name), name))
        return await PresenceRun.start(self, pubsub)


def _topic(where: str | Channel[Any], run: PresenceRun) -> str:
    if not isinstance(where, str) and isinstance(where, Channel):
        return where.topic
    return run.pubsub.name_limits.topic(where, "where")


def _keys(keys: Collection[str | int], run: PresenceRun, argument: str = "keys") -> Sequence[str]:
    if isinstance(keys, str | bytes | bytearray):  # a collection of characters, or integers
        raise TypeError(f"expected a collection of keys, got {keys!r}: write [{keys!r}]")
    if not isinstance(keys, Iterable):
        raise TypeError(f"expected a collection of keys, got {type(keys).__name__}")
    limits = run.pubsub.name_limits
    return [limits.key(key, argument) for key in keys]


def _patterns_of(presence: Presence | type[Presence]) -> TopicPatterns[Policy]:
    for pattern, policy in presence.policies.items():
        if not isinstance(policy, Policy):
            raise ConfigurationError(f"the policy of {pattern!r} must be a Policy, got {policy!r}")
    return TopicPatterns(presence.policies)
