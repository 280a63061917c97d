"""What ``Presence`` and ``Tracker`` have in common: owners, and a run between start and stop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeVar

from roost.aliases import Meta
from roost.channels.channel import Channel
from roost.channels.tasks import asking, to_the_end
from roost.exceptions import ConfigurationError, NotStarted
from roost.naming import DEFAULT_LIMITS, MAX_NAME_SIZE, NameLimits, configured_name
from roost.presence.owners.owned_tracker import OwnedTracker
from roost.presence.owners.owner import Lease, Owner
from roost.pubsub.loop_lock import LoopLock
from roost.pubsub.pubsub import PubSub

__all__ = ["TrackerBase", "topic_of"]


class TrackingRun(Protocol):
    """What is there between start and stop."""

    @property
    def pubsub(self) -> PubSub: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def owned(self) -> OwnedTracker: ...
    def track(self, owner: Owner, topic: str, key: str, meta: Meta) -> str: ...
    def update(
        self, owner: Owner, topic: str, key: str, meta: Meta | Callable[[dict[str, Any]], Meta]
    ) -> str: ...
    def stop(self) -> None:
        """Do nothing more, and cancel what runs."""
        ...

    async def stopped(self) -> None:
        """Wait for the end of what was cancelled, for a bounded time."""
        ...


Run = TypeVar("Run", bound=TrackingRun)


class TrackerBase(ABC, Generic[Run]):
    """Track presences for owners while an endpoint, or whoever else started it, runs.

    Args:
        name: What it is called between nodes: the same on all of them, and different from the
            others of its PubSub. By default the name of its class.

    Raises:
        ConfigurationError: A name that is no text, or has over 255 bytes.
    """

    def __init__(self, *, name: str | None = None) -> None:
        name = type(self).__name__ if name is None else name
        self.name = configured_name(name, "name", MAX_NAME_SIZE)
        self._run: Run | None = None
        self._users = 0
        self._lock = LoopLock()

    # Changing.

    def track(
        self,
        owner: Owner,
        key: str | int,
        meta: Meta | None = None,
        *,
        topic: str | None = None,
    ) -> str:
        """Hold ``key`` in ``topic`` until ``owner`` ends, and return the new ref.

        Args:
            owner: A channel, an ``asyncio.Task``, or a ``Lease``.
            key: Groups presences, for example a user id; an integer becomes a string.
            meta: A small JSON object; by default ``{}``.
            topic: Where; may be left out only for a channel, whose topic it then is.

        Raises:
            AlreadyTracked: The owner tracks this key in this topic; use ``update``.
            InvalidKey: The key can't be one.
            InvalidName: The topic can't be one.
            PayloadError: The meta is not a JSON object, or has over 65,536 bytes.
            ChannelClosed: The channel has ended.
            NotStarted: It is not running.
            WrongThread: Not on the thread of its event loop; as all that follows.
        """
        run = self._here("track")
        limits = run.pubsub.name_limits
        meta = {} if meta is None else meta
        return run.track(owner, topic_of(owner, topic, limits), limits.key(key), meta)

    def untrack(self, owner: Owner, key: str | int, *, topic: str | None = None) -> None:
        """Let a presence leave; nothing happens if there is none."""
        run = self._here("untrack")
        limits = run.pubsub.name_limits
        run.owned.untrack(owner, topic_of(owner, topic, limits), limits.key(key))

    def update(
        self,
        owner: Owner,
        key: str | int,
        meta: Meta | Callable[[dict[str, Any]], Meta],
        *,
        topic: str | None = None,
    ) -> str:
        """Replace the meta of a presence and return the new ``phx_ref``.

        Nobody sees the key missing in between; clients get one diff with the new meta in ``joins``
        and the old one in ``leaves``.

        Args:
            owner: As for ``track``.
            key: As for ``track``.
            meta: The new meta; or a function of the present one, which gets it with its refs and
                may change it. It is sync, and atomic.
            topic: As for ``track``.

        Raises:
            NotTracked: The owner does not track this key in this topic; use ``track``.
            PayloadError: The new meta is not a JSON object, or has over 65,536 bytes.
        """
        run = self._here("update")
        limits = run.pubsub.name_limits
        return run.update(owner, topic_of(owner, topic, limits), limits.key(key), meta)

    @asynccontextmanager
    async def lease(
        self, topic: str, key: str | int, meta: Meta | None = None
    ) -> AsyncIterator[Lease]:
        """Show ``key`` in ``topic`` for the duration of an ``async with`` block.

        Example:
            ``async with online.lease("workers", worker_id, {"queue": "mail"}): …``
        """
        limits = self._here("lease").pubsub.name_limits
        lease = Lease(self, limits.topic(topic), limits.key(key))
        self.track(lease, lease.key, meta, topic=lease.topic)
        try:
            yield lease
        finally:
            lease.end()

    @staticmethod
    def check_key(key: str | int, limits: NameLimits = DEFAULT_LIMITS) -> str:
        """Return ``key`` as it is tracked, or raise; for use in ``join``, to refuse in time.

        Args:
            key: Text, or an integer, which becomes a string.
            limits: Those of the PubSub, if it has others than the default.

        Raises:
            InvalidKey: It is a name of JavaScript's object prototype, too long, no Unicode text, or
                neither text nor an integer.

        Example:
            >>> TrackerBase.check_key(7)
            '7'
        """
        return limits.key(key)

    # Life.

    @abstractmethod
    async def _start(self, pubsub: PubSub) -> Run:
        """Make a run."""

    async def start(self, pubsub: PubSub) -> None:
        """Start on a PubSub that runs, or join the users of the run there; endpoints do this.

        Raises:
            ConfigurationError: It is running on another PubSub.
        """
        async with self._lock.here():
            run = self._run
            if run is not None and run.loop.is_closed():
                run, self._users = None, 0  # the loop took its run along
            if run is None:
                self._run = await self._start(pubsub)
            elif run.pubsub is not pubsub:
                raise ConfigurationError(
                    f"{type(self).__qualname__} is running on another PubSub: it belongs to one; "
                    "give both endpoints the same pubsub"
                )
            self._users += 1

    async def stop(self) -> None:
        """Stop when the last user stops it; whoever is cancelled meanwhile is so afterwards."""
        with asking():
            if self._lock.here().locked():  # somebody starts or stops it: this comes after that
                await to_the_end(self._stop())
            else:
                await self._stop()

    async def _stop(self) -> None:
        async with self._lock.here():
            run = self._current()
            self._users -= 1
            if self._users == 0:
                self._run = None
                run.stop()
                await to_the_end(run.stopped())

    @asynccontextmanager
    async def running(self, pubsub: PubSub) -> AsyncIterator[Self]:
        """Run for the duration of an ``async with`` block, without an endpoint."""
        async with pubsub.running():
            await self.start(pubsub)
            try:
                yield self
            finally:
                await self.stop()

    def _current(self) -> Run:
        if self._run is None:
            raise NotStarted(
                type(self).__qualname__,
                "name it in Endpoint(presences=[…]), or trackers=[…], and run the endpoint",
            )
        return self._run

    def _here(self, what: str) -> Run:
        """The run, if this is the thread and the loop that it is on.

        Raises:
            NotStarted: It is not running.
            WrongThread: It is on another one.
        """
        run = self._run
        if run is None or _get_running_loop() is not run.loop:
            run = self._current()
            run.pubsub.check_thread(what)
        return run


def topic_of(owner: Owner, topic: str | None, limits: NameLimits) -> str:
    """The topic given, or else the owner's own."""
    if isinstance(owner, Channel):
        return owner.topic if topic is None else limits.topic(topic)
    if isinstance(owner, type) or not hasattr(owner, "add_done_callback"):
        raise TypeError(
            f"{owner!r} can't own a presence, since it does not say when it ends: expected a "
            "channel (self, in its methods), an asyncio.Task, or a lease; the key comes after it"
        )
    if topic is None:
        raise TypeError(f"topic is needed: {type(owner).__name__} has no topic of its own")
    return limits.topic(topic)
