"""Presence: what applications subclass and call."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from roost.aliases import Meta, Presences
from roost.channels.channel import Channel
from roost.exceptions import ConfigurationError, InvalidKey, NotStarted
from roost.presence.listing import PresenceList
from roost.presence.owner import Lease, Owner
from roost.presence.run import PresenceRun
from roost.pubsub.pubsub import PubSub
from roost.tracker.feed import MAX_COUNT
from roost.wire.messages import DIFF, STATE
from roost.wire.presence import FORBIDDEN_KEYS

__all__ = ["Presence"]


class Presence:
    """Who is in which topic, with how many connections, and what is known of each.

    Give an instance to ``Endpoint(presences=[…])``; then every subscriber of a topic is told of its
    joins and leaves by ``presence_diff``, and ``presence_state`` is what ``enter`` or ``list``
    yields. The names, payloads and order are Phoenix's, so that phoenix.js follows along.

    Attributes:
        diff_period: Seconds between two diffs of one topic. The first change in a quiet topic is
            told at once; those that follow are joined.
        fetch_timeout: Seconds that ``fetch`` may take; then presences go out without it.
        max_diff_count: Presences that one diff may name; beyond, subscribers get a fresh state.
        state_event, diff_event: Names of the two events, for clients that use others.

    Example:
        >>> class Online(Presence):
        ...     async def fetch(self, topic, presences):
        ...         users = await users_by_id(presences)
        ...         return {key: {**entry, "user": users[key]} for key, entry in presences.items()}
    """

    diff_period: ClassVar[float] = 0.05
    fetch_timeout: ClassVar[float] = 5.0
    max_diff_count: ClassVar[int] = MAX_COUNT
    state_event: ClassVar[str] = STATE
    diff_event: ClassVar[str] = DIFF

    def __init__(self) -> None:
        self._run: PresenceRun | None = None
        self._users = 0

    # What an application defines.

    def fetch(self, topic: str, presences: Presences) -> Presences | Awaitable[Presences]:
        """Add to presences what clients should know of them; ``async def`` or ``def``.

        It is called once for each list and once for each diff and node, never for each
        subscriber, with all presences that joined or left: query once for all keys. If it raises
        or takes over ``fetch_timeout``, that is logged and the presences go out bare.

        Args:
            topic: The topic.
            presences: Key → ``{"metas": [{…, "phx_ref": …}, …]}``; yours to change.

        Returns:
            The same keys and metas, with anything added to the entries. A key left out is not
            shown to anybody.
        """
        return presences

    # Changing.

    def track(self, owner: Owner, key: str | int, meta: Meta, *, topic: str | None = None) -> str:
        """Show ``key`` in ``topic`` until ``owner`` ends, and return the new ``phx_ref``.

        Args:
            owner: A channel, an ``asyncio.Task``, or a ``Lease``.
            key: Groups presences, usually a user id; an integer becomes a string.
            meta: A small JSON object, for example ``{"online_at": 1520417565}``.
            topic: Where; may be left out only for a channel, whose topic it then is.

        Raises:
            AlreadyTracked: The owner tracks this key in this topic; use ``update``.
            InvalidKey: The key is a name of JavaScript's object prototype, or no string.
            PayloadError: The meta is not a JSON object.
            ChannelClosed: The channel has ended.
            NotStarted: No endpoint is running with this presence.
        """
        return self._current().track(owner, _topic(owner, topic), self.check_key(key), meta)

    def untrack(self, owner: Owner, key: str | int, *, topic: str | None = None) -> None:
        """Let a presence leave; nothing happens if there is none."""
        self._current().untrack(owner, _topic(owner, topic), self.check_key(key))

    def update(
        self,
        owner: Owner,
        key: str | int,
        meta: Meta | Callable[[dict[str, Any]], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        """Replace the meta of a presence and return the new ``phx_ref``.

        Nobody sees the key missing; clients get the new meta with ``phx_ref_prev``.

        Args:
            owner: Who tracks it.
            key: Its key.
            meta: The whole new meta, or a function of the present one (JSON values, refs
                included), sync and atomic.
            topic: As in ``track``.

        Raises:
            NotTracked: The owner does not track this key in this topic; use ``track``.
            PayloadError: The new meta is not a JSON object.

        Example:
            ``online.update(self, user_id, lambda meta: {**meta, "status": "away"})``
        """
        return self._current().update(owner, _topic(owner, topic), self.check_key(key), meta)

    async def enter(
        self, channel: Channel[Any], key: str | int, meta: Meta | None = None
    ) -> PresenceList:
        """Track ``key`` for a channel and push it the list of everybody, in one step.

        Call it in ``after_join``. A key that the channel tracks already is left as it is.

        Args:
            channel: The channel.
            key: Who it is.
            meta: By default ``{"online_at": unix seconds}``.

        Raises:
            InvalidKey, PayloadError, ChannelClosed, NotStarted: As ``track``.
            NotJoined: The join was not accepted yet.
        """
        run = self._current()
        if not run.tracks(channel, channel.topic, self.check_key(key)):
            meta = {"online_at": int(time.time())} if meta is None else meta
            self.track(channel, key, meta)
        return await run.push_list(channel)

    @asynccontextmanager
    async def lease(
        self, topic: str, key: str | int, meta: Meta | None = None
    ) -> AsyncIterator[Lease]:
        """Show ``key`` in ``topic`` for the duration of an ``async with`` block.

        Example:
            ``async with online.lease("workers", worker_id, {"queue": "mail"}): …``
        """
        lease = Lease(self, topic, self.check_key(key))
        self.track(lease, key, {} if meta is None else meta, topic=topic)
        try:
            yield lease
        finally:
            lease.end()

    # Reading.

    async def list(self, where: str | Channel[Any]) -> PresenceList:
        """Everybody in a topic, after ``fetch``; current at the moment it returns.

        Args:
            where: A topic, or a channel for its topic.
        """
        return await self._current().list(_where(where))

    async def get_by_key(self, where: str | Channel[Any], key: str | int) -> dict[str, Any] | None:
        """The entry of one key, after ``fetch``; None if it is not there. O(1) without fetch."""
        return await self._current().get_by_key(_where(where), self.check_key(key))

    def count_users(self, where: str | Channel[Any]) -> int:
        """How many keys are in a topic. O(1)."""
        return self._current().count_users(_where(where))

    def count_connections(self, where: str | Channel[Any]) -> int:
        """How many presences are in a topic. O(1)."""
        return self._current().count_connections(_where(where))

    async def settled(self) -> None:
        """Wait until everybody was told everything; for tests, so that no fetch outlives them."""
        await self._current().settled()

    @staticmethod
    def check_key(key: str | int) -> str:
        """Return ``key`` as presences have it, or raise; for use in ``join``, to refuse in time.

        Raises:
            InvalidKey: The key is a name of JavaScript's object prototype, or no string.

        Example:
            >>> Presence.check_key(7)
            '7'
        """
        if isinstance(key, int) and not isinstance(key, bool):
            return str(key)
        if not isinstance(key, str) or key in FORBIDDEN_KEYS:
            raise InvalidKey(key)
        return key

    # Life.

    async def start(self, pubsub: PubSub) -> None:
        """Start on a PubSub, or join the users of the run there; endpoints do this.

        Raises:
            ConfigurationError: It is running on another PubSub.
        """
        run = self._run
        if run is not None and run.loop.is_closed():
            run, self._users = None, 0  # the loop took its run along
        if run is None:
            is_bare = type(self).fetch is Presence.fetch
            self._run = PresenceRun(self, pubsub, is_bare=is_bare)
        elif run.pubsub is not pubsub:
            raise ConfigurationError(
                f"{type(self).__qualname__} is running on another PubSub: a presence belongs to "
                "one; give both endpoints the same pubsub"
            )
        self._users += 1

    async def stop(self) -> None:
        """Stop when the last user stops it."""
        run = self._current()
        self._users -= 1
        if self._users == 0:
            self._run = None
            await run.stop()

    def _current(self) -> PresenceRun:
        if self._run is None:
            raise NotStarted(
                type(self).__qualname__, "name it in Endpoint(presences=[…]), and run the endpoint"
            )
        return self._run


def _topic(owner: Owner, topic: str | None) -> str:
    if topic is not None:
        return topic
    if isinstance(owner, Channel):
        return owner.topic
    raise TypeError(f"topic is needed: {type(owner).__name__} has no topic of its own")


def _where(where: str | Channel[Any]) -> str:
    return where if isinstance(where, str) else where.topic
