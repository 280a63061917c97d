"""Who is in a topic, as a client sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from inspect import iscoroutinefunction
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

import msgspec

from roost.client.exceptions import ChannelEnded, ClientError
from roost.client.messages import Stream
from roost.client.mirror import Change, Entry, Mirror
from roost.exceptions import ConfigurationError

__all__ = ["OnChange", "Presence", "contain"]

M = TypeVar("M")

OnChange = Callable[[str, Entry | None, Entry], object]
"""Called with a key, the entry before a join or after a leave, and what joined or left."""

log: Final = logging.getLogger("roost.client")


class Presence(Mapping[str, list[M]], Generic[M]):
    """Who is in a topic: a mapping of keys to their metas, kept up to date by the channel.

    It stays as it was while the connection is lost, and differs by what has changed meanwhile once
    the server has sent its list again. Take a copy (``dict(presence)``) of what you want to keep.

    Metas are dicts with a ``phx_ref``, or what you gave the channel as ``meta``.
    """

    def __init__(
        self, topic: str, mirror: Mirror, meta: type[M], make_stream: Callable[[], Stream[Change]]
    ) -> None:
        self._topic = topic
        self._mirror = mirror
        self._meta = meta
        self._make_stream = make_stream
        self._on_join: dict[object, OnChange] = {}
        self._on_leave: dict[object, OnChange] = {}
        self._on_sync: dict[object, Callable[[], object]] = {}
        self._streams: WeakSet[Stream[Change]] = WeakSet()
        self._synced = asyncio.Event()
        self._has_ended = False
        self._error: ClientError | None = None

    def __getitem__(self, key: str) -> list[M]:
        """The metas of a key.

        Raises:
            KeyError: It is not there.
            msgspec.ValidationError: A meta is not of the type that you gave.
        """
        metas = self._mirror.entries[key]["metas"]
        if self._meta is dict:
            return list(metas)
        return [msgspec.convert(meta, self._meta) for meta in metas]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mirror.entries)

    def __len__(self) -> int:
        return len(self._mirror.entries)

    def __contains__(self, key: object) -> bool:
        return key in self._mirror.entries

    def __repr__(self) -> str:
        return f"Presence({self._topic!r}, {list(self)!r})"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def entry(self, key: str) -> Entry:
        """All that is known of a key: ``metas``, and what the server's ``fetch`` added.

        Raises:
            KeyError: It is not there.
        """
        return self._mirror.entries[key]

    @property
    def user_count(self) -> int:
        """How many keys there are; also in a topic so large that the server sends no lists."""
        return self._mirror.user_count

    @property
    def connection_count(self) -> int:
        """How many metas there are, of all keys."""
        return self._mirror.connection_count

    @property
    def is_synced(self) -> bool:
        """Whether it is up to date, as far as messages travel: not while the connection is lost."""
        return self._mirror.is_synced

    async def synced(self, timeout: float | None = None) -> Presence[M]:
        """Wait until it is up to date; return itself.

        Args:
            timeout: Seconds; None: as long as it takes.

        Raises:
            TimeoutError: The server has not sent a list in time; some channels never do.
            ChannelEnded: The channel has ended.
        """
        async with asyncio.timeout(timeout):
            while not self.is_synced or self._has_ended:
                if self._has_ended:
                    raise self._error or ChannelEnded(self._topic)
                self._synced.clear()
                await self._synced.wait()
        return self

    def changes(self) -> Stream[Change]:
        """The changes from now on, for ``async for``; several for one diff of the server."""
        stream = self._make_stream()
        self._streams.add(stream)
        return stream

    # Callbacks.

    def on_join(self, callback: OnChange) -> Callable[[], None]:
        """Call ``callback(key, current, joined)`` when metas join.

        Args:
            callback: Not a coroutine function: those read ``changes``.

        Returns:
            What ends it.
        """
        return _register(self._on_join, callback)

    def on_leave(self, callback: OnChange) -> Callable[[], None]:
        """Call ``callback(key, current, left)`` when metas leave; as ``on_join``."""
        return _register(self._on_leave, callback)

    def on_sync(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback()`` after each list and diff, whatever it changed; as ``on_join``."""
        return _register(self._on_sync, callback)

    # From the channel.

    def changed(self, changes: list[Change]) -> None:
        """The mirror took something."""
        for change in changes:
            callbacks = self._on_join if change.kind == "join" else self._on_leave
            for callback in tuple(callbacks.values()):
                contain(callback, change.key, change.current, change.entry)
            for stream in self._streams:
                stream.put(change, 0)
        for sync in tuple(self._on_sync.values()):
            contain(sync)
        if self.is_synced:
            self._synced.set()

    def forget(self, stream: Stream[Change]) -> None:
        """A stream was closed."""
        self._streams.discard(stream)

    def end(self, error: ClientError | None) -> None:
        """The channel has ended."""
        self._has_ended = True
        self._error = error
        self._synced.set()
        for stream in tuple(self._streams):
            stream.end(error)


F = TypeVar("F", bound=Callable[..., object])


def _register(callbacks: dict[object, F], callback: F) -> Callable[[], None]:
    if iscoroutinefunction(callback):
        raise ConfigurationError(
            "a callback of a presence can't be a coroutine function: read changes() in a task"
        )
    handle = object()
    callbacks[handle] = callback

    def end() -> None:
        callbacks.pop(handle, None)

    return end


def contain(callback: Callable[..., object], *arguments: Any) -> None:
    """Call a callback of the application; what it raises is logged, and touches nothing else."""
    try:
        callback(*arguments)
    except Exception:
        log.exception("a callback raised")
