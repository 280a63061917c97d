"""What waits to be sent to an engine: bounded, so that an engine that stalls costs no memory.

``publish`` puts a message in and returns; one task takes what has gathered and sends it in one go.
So batches are small while the engine keeps up, and grow by themselves when it doesn't. At the bound
the new message is dropped, counted and logged: the older ones were promised first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque

from roost.repeats import Repeats

__all__ = ["Address", "Batch", "Outbox"]

logger = logging.getLogger("roost.pubsub")

Address = tuple[str, ...]
"""Whom a message is for: ``("all",)``, ``("node", name)`` or ``("link", link)``."""

Batch = list[tuple[Address, list[bytes]]]
"""Messages in order; those next to each other and for the same address are together."""

FREE_SIZE = 1 << 20  # bytes that may wait before those who have much to send wait as well
BATCH_SIZE = 1 << 20  # bytes taken at once: so much is lost at most when the engine goes away
RUN_SIZE = 1 << 16  # bytes for one address together: what an engine likes as one message
RUN_COUNT = 1_000  # messages together: a receiver hands them over without a pause


class Outbox:
    """A queue of addressed messages with one reader, for one event loop.

    Args:
        max_count: How many messages may wait.
        max_size: How many bytes they may have together.
        counters: Where drops are counted, by reason.

    Example:
        >>> outbox = Outbox(max_count=2, max_size=100, counters=Counter())
        >>> for message in (b"one", b"two", b"three"):
        ...     outbox.put(("all",), message)
        >>> asyncio.run(outbox.take())
        [(('all',), [b'one', b'two'])]
        >>> outbox.counters
        Counter({'outbox_full': 1})
    """

    def __init__(self, *, max_count: int, max_size: int, counters: Counter[str]) -> None:
        self.max_count = max_count
        self.max_size = max_size
        self.counters = counters
        self._waiting: deque[tuple[Address, bytes]] = deque()
        self._size = 0
        self._dropped = Repeats()
        self._taken_count = 0
        self._taken_size = 0
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()

    def __len__(self) -> int:
        """How many messages wait; those that were taken no longer do."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """How many bytes wait."""
        return self._size

    @property
    def free_size(self) -> int:
        """How many bytes more make nothing wait long; what was taken and not sent counts, too."""
        return max(min(FREE_SIZE, self.max_size // 2) - self._size - self._taken_size, 0)

    def put(self, address: Address, message: bytes) -> None:
        """Append a message, or drop it at the bound; returns at once."""
        if len(message) > self.max_size:
            self.counters["too_large"] += 1
        elif len(self._waiting) >= self.max_count or self._size + len(message) > self.max_size:
            self.counters["outbox_full"] += 1
            self._dropped.note(self._log_dropped)
        else:
            self._waiting.append((address, message))
            self._size += len(message)
            self._filled.set()
            self._emptied.clear()

    def _log_dropped(self, count: int) -> None:
        what = "the engine is too slow: dropped %d messages for other nodes, %d of %d wait"
        logger.warning(what, count, len(self._waiting), self.max_count)

    async def take(self) -> Batch:
        """Wait until there is something, and take about ``BATCH_SIZE`` bytes of it.

        Call ``sent`` when the engine has it.
        """
        await self._filled.wait()
        batch: Batch = []
        batch_size = run_size = 0
        while self._waiting and batch_size < BATCH_SIZE:
            address, message = self._waiting.popleft()
            batch_size += len(message)
            self._taken_count += 1
            run_size += len(message)
            if (
                batch
                and batch[-1][0] == address
                and run_size <= RUN_SIZE
                and len(batch[-1][1]) < RUN_COUNT
            ):
                batch[-1][1].append(message)
            else:
                batch.append((address, [message]))
                run_size = len(message)
        self._size -= batch_size
        self._taken_size += batch_size
        if not self._waiting:
            self._filled.clear()
        return batch

    def sent(self) -> None:
        """The engine has what was taken."""
        self._taken_count = self._taken_size = 0
        if not self._waiting:
            self._emptied.set()

    def drop_all(self, reason: str) -> None:
        """Drop what waits and count it as ``reason``, and what was taken as ``unconfirmed``."""
        if self._waiting:
            self.counters[reason] += len(self._waiting)
        if self._taken_count:
            self.counters["unconfirmed"] += self._taken_count
        self._waiting.clear()
        self._size = 0
        self._filled.clear()
        self.sent()

    async def emptied(self) -> None:
        """Wait until the engine has everything."""
        await self._emptied.wait()
