"""Calls into the application, one after the other, whether they are sync or async."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

__all__ = ["Serial", "Spawn", "cancels_us"]

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


def cancels_us(error: BaseException) -> bool:
    """Whether an error that was awaited ends the task that awaits, and must be raised again.

    Otherwise it is the application's: what its code awaited may be cancelled without us.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Serial:
    """A queue of calls that runs in ticks of its own, so that whoever fills it goes on first.

    Calls made while one runs queue behind it. What a call raises is reported, and the next one
    runs.

    Args:
        spawn: Starts a task, for calls that return an awaitable.
        on_error: Gets what a call raised.
        on_empty: Called when there is nothing more to call.
        max_count: How many calls may wait.
    """

    __slots__ = (
        "_due",
        "_is_running",
        "_max_count",
        "_on_empty",
        "_on_error",
        "_spawn",
        "_waiting",
    )

    def __init__(
        self,
        spawn: Spawn,
        on_error: Callable[[BaseException], None],
        *,
        on_empty: Callable[[], object] = lambda: None,
        max_count: int,
    ) -> None:
        self._spawn = spawn
        self._on_error = on_error
        self._on_empty = on_empty
        self._max_count = max_count
        self._waiting: deque[Callable[[], Any]] = deque()
        self._due: asyncio.Handle | None = None
        self._is_running = False

    def put(self, call: Callable[[], Any]) -> bool:
        """Add a call; False, and nothing happens, if too many wait."""
        if len(self._waiting) >= self._max_count:
            return False
        self._waiting.append(call)
        if self._due is None and not self._is_running:
            self._due = asyncio.get_running_loop().call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Call now what waits; what is async still takes its time."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._is_running:
            return
        self._is_running = True
        awaitable = self._call_until_async()
        if awaitable is None:
            self._finish()
        else:
            task = self._spawn(self._run(awaitable))
            if inspect.iscoroutine(awaitable):  # the task may be cancelled before it awaits it
                task.add_done_callback(lambda task: awaitable.close())

    def stop(self) -> None:
        """Call nothing more."""
        self._waiting.clear()
        if self._due is not None:
            self._due.cancel()

    async def _run(self, awaitable: Awaitable[Any] | None) -> None:
        while awaitable is not None:
            try:
                await awaitable
            except (Exception, asyncio.CancelledError) as error:
                if cancels_us(error):
                    raise
                self._on_error(error)
            awaitable = self._call_until_async()
        self._finish()

    def _call_until_async(self) -> Awaitable[Any] | None:
        while self._waiting:
            try:
                result = self._waiting.popleft()()
            except (Exception, asyncio.CancelledError) as error:  # of something that it used
                self._on_error(error)
                continue
            if inspect.isawaitable(result):
                return result
        return None

    def _finish(self) -> None:
        self._is_running = False
        self._on_empty()
