"""A lock for what lives on several event loops, one after the other."""

from __future__ import annotations

import asyncio

__all__ = ["LoopLock"]


class LoopLock:
    """An ``asyncio.Lock`` that is made anew when the event loop is another one.

    What starts and stops repeatedly holds it meanwhile, so that no start overtakes a stop.

    Example:
        >>> async def main(lock):
        ...     async with lock.here():
        ...         return "held"
        >>> lock = LoopLock()
        >>> asyncio.run(main(lock)), asyncio.run(main(lock))
        ('held', 'held')
    """

    __slots__ = ("_lock", "_loop")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    def here(self) -> asyncio.Lock:
        """The lock of the running loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lock = loop, asyncio.Lock()
        return self._lock
