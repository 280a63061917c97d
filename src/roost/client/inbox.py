"""A queue with a bound that tells what was dropped, and where."""

from __future__ import annotations

from collections import deque
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

__all__ = ["Gap", "Inbox", "Overflow"]

T = TypeVar("T")

Overflow: TypeAlias = Literal["drop_oldest", "drop_newest"]
"""What is dropped of a queue that is full."""


class Gap(msgspec.Struct, frozen=True):
    """So many items were dropped here."""

    count: int


class Inbox(Generic[T]):
    """A queue of bounded count and size.

    All that arrives is numbered, so that whoever takes sees by the numbers what is missing.

    Args:
        max_count: Items that it holds.
        max_size: Bytes that these may have together; a single item may have more.
        overflow: What is dropped when it is full.

    Example:
        >>> inbox = Inbox(2, 1_000, "drop_oldest")
        >>> [inbox.put(letter, 1) for letter in "abcd"]
        [0, 0, 1, 1]
        >>> inbox.take(), inbox.take(), inbox.take(), inbox.take()
        (Gap(count=2), 'c', 'd', None)
    """

    __slots__ = (
        "_arrived_count",
        "_items",
        "_max_count",
        "_max_size",
        "_overflow",
        "_size",
        "_told_count",
    )

    def __init__(self, max_count: int, max_size: int, overflow: Overflow) -> None:
        self._max_count = max_count
        self._max_size = max_size
        self._overflow = overflow
        self._items: deque[tuple[int, T, int]] = deque()  # number, item, size
        self._size = 0
        self._arrived_count = 0
        self._told_count = 0  # taken, or told as a gap

    def put(self, item: T, size: int) -> int:
        """Add an item of so many bytes; return how many were dropped because of that."""
        items, dropped_count = self._items, 0
        number, self._arrived_count = self._arrived_count, self._arrived_count + 1
        while items and not self._has_room(size):
            dropped_count += 1
            if self._overflow == "drop_newest":
                return dropped_count
            self._size -= items.popleft()[2]
        items.append((number, item, size))
        self._size += size
        return dropped_count

    def take(self) -> T | Gap | None:
        """The next item, or what was dropped before it; None if there is nothing."""
        number = self._items[0][0] if self._items else self._arrived_count
        if number > self._told_count:
            gap = Gap(number - self._told_count)
            self._told_count = number
            return gap
        if not self._items:
            return None
        _, item, size = self._items.popleft()
        self._size -= size
        self._told_count += 1
        return item

    def _has_room(self, size: int) -> bool:
        return len(self._items) < self._max_count and self._size + size <= self._max_size
