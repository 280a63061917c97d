"""Watches: who is there and what changes, as a stream for server code.

A watch starts with a snapshot, taken at the moment when it is read, and goes on with the changes
after it: between the two nothing is lost and nothing comes twice. A reader that is too slow falls
behind: what it has not read is dropped, and it gets a new snapshot. A watch that nobody has read
yet is behind as well, so its first item is a snapshot, and it keeps no changes until then.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import msgspec

from roost.crdt.entry import Entry
from roost.crdt.index import KeyIndex
from roost.exceptions import WrongThread
from roost.presence.changes import Change, Join, Leave, Snapshot, change_of
from roost.repeats import Repeats
from roost.tracker.protocol import Joined, Left, TrackerEvent, TrackerProtocol, Updated
from roost.wire.presence import decode_grouped

__all__ = ["Watch", "Watches"]

logger = logging.getLogger("roost.presence")

MAX_WAITING: Final = 1_000  # changes; whoever is further behind gets a snapshot instead


class Watch:
    """Who is there, and what changes: an async iterator; made by ``Presence.watch``.

    The first item is a ``Snapshot``; ``Join``, ``Update`` and ``Leave`` follow, each with a
    ``version`` above the one before. Another ``Snapshot`` means that you read too slowly: it
    replaces all that you know. The iteration ends when the watch is closed or the presence stops.
    A watch that nobody holds any more closes by itself.

    Example:
        >>> async def follow(presence):
        ...     async with presence.watch("room:1") as watch:
        ...         async for change in watch:
        ...             match change:
        ...                 case Snapshot(presences):
        ...                     print(sorted(presences))
        ...                 case Join(_, key):
        ...                     print(key, "came")
    """

    __slots__ = ("__weakref__", "_is_behind", "_is_closed", "_waiter", "_waiting", "_watches", "of")

    def __init__(self, watches: Watches, of: str | frozenset[str]) -> None:
        self.of = of
        self._watches = watches
        self._waiting: deque[Change] = deque()
        self._is_behind = True
        self._is_closed = False
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        self._watches.check_loop()
        while True:
            if self._is_behind and not self._is_closed:
                self._is_behind = False
                return self._watches.snapshot(self.of)
            if self._waiting:
                return self._waiting.popleft()
            if self._is_closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("two tasks read one watch: give each a watch of its own")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """End the iteration once what waits was read; nothing happens the second time."""
        self._is_closed = True
        self._watches.remove(self)
        self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def changed(self, change: Change) -> None:
        """Something changed that this watch is about."""
        if self._is_behind:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._watches.fell_behind(self, len(self._waiting) + 1)
            self._waiting.clear()
            self._is_behind = True
        else:
            self._waiting.append(change)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Watches:
    """All watches of one presence.

    Args:
        tracker: To be read.
    """

    def __init__(self, tracker: TrackerProtocol) -> None:
        self._tracker = tracker
        self._loop = asyncio.get_running_loop()
        self._all: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._by_topic: dict[str, weakref.WeakSet[Watch]] = {}
        self._by_key: dict[str, weakref.WeakSet[Watch]] = {}
        self._too_slow = Repeats()
        # All visible entries by key, whatever their topic: from the first question about keys on.
        self._everywhere: KeyIndex | None = None

    def watch(self, of: str | frozenset[str]) -> Watch:
        """Watch a topic, or keys in all topics."""
        watch = Watch(self, of)
        weakref.finalize(watch, self._dropped, of).atexit = False
        self._all.add(watch)
        groups, names = self._groups(of)
        for name in names:
            groups.setdefault(name, weakref.WeakSet()).add(watch)
        return watch

    def online(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that are visible in any topic."""
        index = self._index()
        return {key for key in keys if index.has_key(key)}

    def remove(self, watch: Watch) -> None:
        """A watch is closed."""
        self._all.discard(watch)
        groups, names = self._groups(watch.of)
        for name in names:
            if name in groups:
                groups[name].discard(watch)
        self._sweep(watch.of)

    def changed(self, events: Sequence[TrackerEvent]) -> None:
        """Something changed."""
        for event in events:
            entry = event.new if isinstance(event, Updated) else event.entry
            self._topic_changed(event, entry)
            if self._everywhere is not None:
                self._key_changed(event, entry, self._everywhere)

    def snapshot(self, of: str | frozenset[str]) -> Snapshot:
        """Who is there now."""
        if isinstance(of, str):
            presences = decode_grouped(self._tracker.list(of))
        else:
            index = self._index()
            groups = {key: index.by_key(key) for key in sorted(of)}
            presences = decode_grouped(entry for group in groups.values() for entry in group)
            for key, presence in presences.items():
                presence["topics"] = [entry.topic for entry in groups[key]]
        return Snapshot(presences, self._tracker.version)

    def fell_behind(self, watch: Watch, dropped_count: int) -> None:
        """A watch has dropped changes, as nobody read them in time."""
        of = watch.of  # and not the watch, which ends when nobody else has it
        what = "a watch of %s is too slow: dropped %d changes, its reader gets a snapshot"

        def log(count: int) -> None:
            logger.warning(what, repr(of) if isinstance(of, str) else f"{len(of)} keys", count)

        self._too_slow.note(log, dropped_count)

    def check_loop(self) -> None:
        """Raise if this is not the loop of the presence.

        Raises:
            WrongThread: It is another one.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise WrongThread("watch")

    def stop(self) -> None:
        """The presence stops: end all watches."""
        for watch in list(self._all):
            watch.close()

    def _topic_changed(self, event: TrackerEvent, entry: Entry) -> None:
        watches = self._by_topic.get(entry.topic)
        if watches is not None:
            change = change_of(event, self._tracker.origin.ref_prefix)
            for watch in tuple(watches):
                watch.changed(change)

    def _key_changed(self, event: TrackerEvent, entry: Entry, index: KeyIndex) -> None:
        match event:
            case Joined():
                is_edge = index.add(entry)
            case Left():
                is_edge = index.remove(entry)
            case Updated(old, new):
                index.replace(old, new)
                is_edge = False
        watches = self._by_key.get(entry.key)
        if watches is None:
            return
        change = change_of(event, self._tracker.origin.ref_prefix)
        if isinstance(change, Join):
            change = msgspec.structs.replace(change, is_first=is_edge)
        elif isinstance(change, Leave):
            change = msgspec.structs.replace(change, is_last=is_edge)
        for watch in tuple(watches):
            watch.changed(change)

    def _index(self) -> KeyIndex:
        if self._everywhere is None:
            self._everywhere = KeyIndex()
            for entry in self._tracker.list_all():
                self._everywhere.add(entry)
        return self._everywhere

    def _groups(
        self, of: str | frozenset[str]
    ) -> tuple[dict[str, weakref.WeakSet[Watch]], Iterable[str]]:
        if isinstance(of, str):
            return self._by_topic, (of,)
        self._index()
        return self._by_key, of

    def _dropped(self, of: str | frozenset[str]) -> None:
        """A watch was freed: sweep later, as this may run amid anything, and in any thread."""
        with suppress(RuntimeError):  # the loop is closed, and nothing of this is in use
            self._loop.call_soon_threadsafe(self._sweep, of)

    def _sweep(self, of: str | frozenset[str]) -> None:
        """Forget what nobody watches any more."""
        groups, names = self._groups(of)
        for name in names:
            if name in groups and not groups[name]:
                del groups[name]
