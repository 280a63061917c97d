"""The tasks of one run: kept while they run, and cancelled with it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Tasks"]


class Tasks:
    """Tasks that belong together.

    Args:
        loop: Where they run.
    """

    __slots__ = ("_loop", "_running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: set[asyncio.Task[Any]] = set()

    def __bool__(self) -> bool:
        """Whether one of them is running."""
        return bool(self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine, until it ends or ``cancel`` is called."""
        task = self._loop.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def wait(self) -> None:
        """Wait until those that run now have ended; one must be running."""
        await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Cancel them all, and wait for their ends."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
