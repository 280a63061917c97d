"""A wall clock that a test sets."""

from __future__ import annotations

import pytest

__all__ = ["Clock", "clock"]


class Clock:
    """What ``time.time`` says.

    Args:
        now: Seconds since 1970.
    """

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time stands still at a round second until the test moves it."""
    clock = Clock(1_700_000_000.0)
    monkeypatch.setattr("time.time", clock)
    return clock
