"""Many timers as one: what a protocol waits for, and when."""

from __future__ import annotations

import heapq
from collections.abc import Hashable

__all__ = ["Timers"]


class Timers:
    """When each thing is due; times come from outside.

    Example:
        >>> timers = Timers()
        >>> timers.set("heartbeat", 25.0)
        >>> timers.set("join", 10.0)
        >>> timers.next_at(), timers.pop_due(12.0), timers.pop_due(12.0), timers.next_at()
        (10.0, 'join', None, 25.0)
    """

    __slots__ = ("_at", "_heap", "_last")

    def __init__(self) -> None:
        self._at: dict[Hashable, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Hashable]] = []  # what was set anew is in it twice
        self._last = 0

    def set(self, key: Hashable, at: float) -> None:
        """Make ``key`` due at a time, instead of any earlier one."""
        self._last += 1
        self._at[key] = at, self._last
        heapq.heappush(self._heap, (at, self._last, key))
        if len(self._heap) > 2 * len(self._at) + 16:
            self._rebuild()

    def cancel(self, key: Hashable) -> None:
        """Forget ``key``, if it is set."""
        self._at.pop(key, None)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._at

    def next_at(self) -> float | None:
        """When the next one is due."""
        while self._heap:
            at, number, key = self._heap[0]
            if self._at.get(key) == (at, number):
                return at
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now: float) -> Hashable | None:
        """The key of one that is due, which is forgotten; None if none is."""
        at = self.next_at()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._at[key]
        return key

    def postpone(self, by: float) -> None:
        """Make everything due later."""
        self._at = {key: (at + by, number) for key, (at, number) in self._at.items()}
        self._rebuild()

    def _rebuild(self) -> None:
        self._heap = [(at, number, key) for key, (at, number) in self._at.items()]
        heapq.heapify(self._heap)
