"""What a channel hears, for ``async for``: nothing is lost without saying so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from roost.client.exceptions import ClientError, MessagesDropped
from roost.client.host import Limits
from roost.client.inbox import Gap, Inbox

__all__ = ["Stream"]

T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator that can be read on after an exception, or from several tasks.

    It begins when it is made, and holds what was not read yet, up to its bounds. It ends after what
    it holds, when the channel ends: quietly if that was left, closed or ended by the server as it
    should, else with the error.

    Raises:
        MessagesDropped: It was read too slowly; read on for what was kept.

    Attributes:
        dropped_count: Items that were dropped so far.
        is_read: Whether somebody has begun to.
    """

    def __init__(
        self,
        topic: str,
        limits: Limits,
        on_close: Callable[[Stream[T]], None],
    ) -> None:
        self.dropped_count = 0
        self.is_read = False
        self._topic = topic
        self._inbox: Inbox[T] = Inbox(
            limits.max_queue_count, limits.max_queue_size, limits.overflow
        )
        self._on_close = on_close
        self._arrived = asyncio.Event()
        self._has_ended = False
        self._error: ClientError | None = None

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while (item := self.take()) is None:
            self._arrived.clear()
            await self._arrived.wait()
        return item

    def take(self) -> T | None:
        """The next item, or None if there is none yet; raises as ``receive`` does."""
        self.is_read = True
        item = self._inbox.take()
        if isinstance(item, Gap):
            raise MessagesDropped(self._topic, item.count)
        if item is None and self._error is not None:
            raise self._error
        if item is None and self._has_ended:
            raise StopAsyncIteration
        return item

    async def receive(self, timeout: float | None = None) -> T:
        """The next item.

        Args:
            timeout: Seconds to wait; None: as long as it takes.

        Raises:
            TimeoutError: None came in time.
            StopAsyncIteration: The channel has ended.
            MessagesDropped: It was read too slowly; read on for what was kept.
        """
        async with asyncio.timeout(timeout):
            return await anext(self)

    def close(self) -> None:
        """End it: nothing is kept for it any more."""
        self._on_close(self)
        self.end(None)

    def put(self, item: T, size: int) -> int:
        """Add an item; return how many were dropped because of that."""
        dropped_count = self._inbox.put(item, size)
        self.dropped_count += dropped_count
        self._arrived.set()
        return dropped_count

    def end(self, error: ClientError | None) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self._error = error
        self._arrived.set()
