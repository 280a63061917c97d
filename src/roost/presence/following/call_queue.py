"""Calls into the application, one after the other, whether they are sync or async."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from roost.channels.application import Failed, InContext, call, check_ran, close, name_of, settle
from roost.channels.tasks import Tasks

__all__ = ["CallQueue"]


class CallQueue:
    """A queue of calls that runs in ticks of its own, so that whoever fills it goes on first.

    Calls made while one runs queue behind it. What a call raises is reported, and the next one
    runs. Each runs in a context of its own, async ones in one task after the other.

    Args:
        tasks: Where those tasks belong.
        on_error: Hears of a call that failed.
        on_empty: Called when there is nothing more to call.
        max_count: How many calls may wait for an async one. Those that wait for the end of the
            tick do not count: the tick bounds them.
    """

    __slots__ = (
        "_due",
        "_first",
        "_function",
        "_has_stopped",
        "_is_running",
        "_max_count",
        "_on_empty",
        "_on_error",
        "_tasks",
        "_waiting",
    )

    def __init__(
        self,
        tasks: Tasks,
        on_error: Callable[[Failed], None],
        *,
        on_empty: Callable[[], object] = lambda: None,
        max_count: int,
    ) -> None:
        self._tasks = tasks
        self._on_error = on_error
        self._on_empty = on_empty
        self._max_count = max_count
        self._waiting: deque[tuple[Callable[[Any], Any], Any, contextvars.Context]] = deque()
        self._due: asyncio.Handle | None = None
        self._function: Callable[[Any], Any] = _nothing  # that is awaited
        self._first: Awaitable[Any] | None = None  # of the task, until that has begun
        self._is_running = False
        self._has_stopped = False

    @property
    def is_full(self) -> bool:
        """Whether too many calls wait for an async one."""
        return self._is_running and len(self._waiting) >= self._max_count

    def put(
        self, function: Callable[[Any], Any], argument: Any, context: contextvars.Context
    ) -> bool:
        """Add a call; False, and nothing happens, if too many wait.

        Args:
            function: A method of the application, ``async def`` or ``def``.
            argument: Its argument.
            context: What it runs in; used for nothing else.
        """
        if self.is_full:
            return False
        if self._has_stopped:
            return True
        self._waiting.append((function, argument, context))
        if self._due is None and not self._is_running:
            self._due = asyncio.get_running_loop().call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Call now what waits; what is async still takes its time."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if not self._is_running:
            self._go_on()

    def stop(self) -> None:
        """Call nothing more; what runs goes on, and whoever cancels it hears of no error."""
        self._has_stopped = True
        self._waiting.clear()
        if self._due is not None:
            self._due.cancel()

    def _go_on(self) -> None:
        self._is_running = True
        awaited = self._call_until_async()
        if awaited is None:
            self._finish()
        else:
            self._first = awaited[0]
            self._tasks.spawn(self._run(*awaited), owner=self)

    async def _run(self, awaitable: Awaitable[Any], context: contextvars.Context) -> None:
        self._first = None
        while True:
            try:
                await settle(self._function, InContext(context, awaitable))
            except Failed as failed:
                self._on_error(failed)
            awaited = self._call_until_async()
            if awaited is None:
                break
            awaitable, context = awaited
        self._finish()

    @property
    def task_name(self) -> str:
        return name_of(self._function)

    def task_cancelled(self) -> None:
        if self._first is not None:
            close(self._first)
        if not self._has_stopped:  # a call cancelled the task that it runs in
            self._on_error(Failed(self.task_name, asyncio.CancelledError()))
        self._go_on()

    def _call_until_async(self) -> tuple[Awaitable[Any], contextvars.Context] | None:
        """Make the calls up to one that is to be awaited."""
        while self._waiting:
            function, argument, context = self._waiting.popleft()
            try:
                result = call(context, function, argument)
                if result is not None:
                    if inspect.isawaitable(result):
                        self._function = function
                        return result, context
                    check_ran(function, result)
            except Failed as failed:
                self._on_error(failed)
        return None

    def _finish(self) -> None:
        self._is_running = False
        self._on_empty()


def _nothing(_: Any) -> None:
    """What was awaited before anything was."""
