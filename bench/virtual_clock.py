"""An event loop whose clock jumps: a minute in which little happens takes no time.

Only for code without real I/O: a socket would never be waited for.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ["VirtualClockLoop"]


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for its next timer, the loop sets its clock to it.

    Args:
        hears_threads: Other threads may call into it (``call_soon_threadsafe``); it costs two
            microseconds of each tick.
    """

    def __init__(self, *, hears_threads: bool = True) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self, hears_threads))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Set the clock forward."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop, hears_threads: bool) -> None:
        super().__init__()
        self._loop = loop
        self._hears_threads = hears_threads

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0) if self._hears_threads else []
        if timeout is None and not ready:
            raise RuntimeError("nothing will ever happen: everybody waits, and there is no timer")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready
