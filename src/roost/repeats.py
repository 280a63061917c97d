"""What happens again and again, in the log: at once, and then once a minute with the number."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from roost.logs import PERIOD

__all__ = ["Repeats"]


class Repeats:
    """One kind of what may happen thousands of times.

    On an event loop what a burst adds up to is logged when the minute is over, if the loop still
    runs then; a thread without one has no timer, and waits for the next time that it happens.

    Example:
        >>> dropped = Repeats()
        >>> for _ in range(1_000):
        ...     dropped.note(lambda count: print("dropped", count))
        dropped 1
    """

    __slots__ = ("_count", "_log", "_logged_at", "_timer")

    def __init__(self) -> None:
        self._count = 0
        self._logged_at: float | None = None
        self._log: Callable[[int], None] | None = None  # of the last time, if that has to wait
        self._timer: asyncio.TimerHandle | None = None

    def note(self, log: Callable[[int], None], count: int = 1) -> None:
        """It happened, so many times.

        Args:
            log: Is called with how often it happened since it was logged last: now, or, unless it
                happens again meanwhile, when the minute is over.
            count: How often it happened.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        now = time.monotonic() if loop is None else loop.time()
        self._count += count
        if self._logged_at is None or now - self._logged_at >= PERIOD:
            self._sum_up(log, now)
        elif loop is not None:
            self._log = log
            if self._timer is None:
                self._timer = loop.call_at(self._logged_at + PERIOD, self._minute_is_over)

    def _minute_is_over(self) -> None:
        if self._log is not None and self._logged_at is not None:
            self._sum_up(self._log, self._logged_at + PERIOD)

    def _sum_up(self, log: Callable[[int], None], now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._log = None
        self._logged_at = now
        count, self._count = self._count, 0
        log(count)
