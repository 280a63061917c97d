"""A clock for judging the silence of others (docs/replication.md, rule 4.1)."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Clock"]

RESOLUTION: Final = 1e-6  # seconds: sums of floats miss a deadline by less


class Clock:
    """Time that a sleep of this process does not advance.

    It advances with the caller's clock, but by ``max_step`` at most at once: whoever slept for a
    minute has not heard from anybody for a minute, and must judge nobody for it.

    Args:
        now: The present time of the caller, monotonic, in seconds.
        max_step: Seconds.

    Attributes:
        now: The present time of this clock.
        woke_at: When it last was that the caller had slept for longer than ``max_step``.

    Example:
        >>> clock = Clock(100.0, max_step=3.0)
        >>> clock.advance(101.0)
        >>> clock.advance(161.0)
        >>> clock.now
        4.0
    """

    __slots__ = ("_caller_now", "_max_step", "now", "woke_at")

    def __init__(self, now: float, *, max_step: float) -> None:
        self.now = 0.0
        self.woke_at = -math.inf
        self._caller_now = now
        self._max_step = max_step

    def advance(self, now: float) -> None:
        """It is ``now`` on the caller's clock."""
        self.now += min(max(now - self._caller_now, 0.0), self._max_step)
        if now - self._caller_now > self._max_step:
            self.woke_at = self.now
        self._caller_now = max(now, self._caller_now)

    def is_due(self, at: float) -> bool:
        """Whether an instant of this clock has come."""
        return at <= self.now + RESOLUTION

    def on_callers(self, at: float) -> float:
        """When an instant of this clock comes on the caller's, unless the process sleeps."""
        return self._caller_now + max(at - self.now, 0.0)
