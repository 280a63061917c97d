"""Tasks that belong together, and how they end: cancelled, and within a bound.

A task may ignore that it is cancelled. Whoever waits for the end of tasks here waits for a while
and then gives them up: they are named in the log, and go on without anybody who waits for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol, TypeVar

__all__ = [
    "CANCEL_TIMEOUT",
    "STOP_TIMEOUT",
    "Tasks",
    "askers",
    "asking",
    "end",
    "to_the_end",
    "until_done",
]

logger = logging.getLogger("roost.channels")

T = TypeVar("T")

# Tasks that wait for the stop in whose context we are; they may be among those that it ends.
_askers: contextvars.ContextVar[tuple[asyncio.Task[Any] | None, ...]] = contextvars.ContextVar(
    "askers", default=()
)

CANCEL_TIMEOUT: Final = 1.0  # seconds for a cancelled task to end before it is given up
STOP_TIMEOUT: Final = 1.5  # the same for tasks that themselves wait so for others


class TaskOwner(Protocol):
    """Whoever has something to say of a task of its own."""

    @property
    def task_name(self) -> str:
        """What it does, for the log."""
        ...

    def task_cancelled(self) -> None:
        """It was cancelled, maybe before it began."""
        ...


class Tasks:
    """Tasks that are kept while they run.

    Args:
        context: What they run in, each in a copy; by default in that of whoever starts them.

    Attributes:
        have_ended: They were cancelled, and no other begins any more.
    """

    __slots__ = ("_context", "_running", "have_ended")

    def __init__(self, context: contextvars.Context | None = None) -> None:
        self._context = context
        self._running: dict[asyncio.Task[Any], TaskOwner | None] = {}
        self.have_ended = False

    def __bool__(self) -> bool:
        """Whether one of them is running."""
        return bool(self._running)

    def spawn(
        self,
        coroutine: Coroutine[Any, Any, T],
        *,
        context: contextvars.Context | None = None,
        owner: TaskOwner | None = None,
    ) -> asyncio.Task[T]:
        """Run a coroutine, until it ends or ``cancel`` is called; after that it never begins.

        Args:
            coroutine: What to run.
            context: What it runs in; by default a copy of the context of all of them.
            owner: Hears of its cancellation, and names it in the log should it ignore that.
        """
        if context is None and self._context is not None:
            context = self._context.copy()
        task = asyncio.get_running_loop().create_task(coroutine, context=context)
        self._running[task] = owner
        task.add_done_callback(self._forget)
        if self.have_ended:
            task.cancel()
        return task

    async def wait(self) -> None:
        """Wait until those that run now have ended; one must be running.

        Raises:
            RuntimeError: One of them waits, which would never end.
        """
        if asyncio.current_task() in self._running:
            raise RuntimeError("what is called by a presence or tracker can't wait for itself")
        await asyncio.wait(self._running)

    def cancel(self) -> None:
        """Cancel them all, and whatever is spawned later; ``end`` waits for them.

        Whoever waits for that himself, as a callback that stops its endpoint does, goes on.
        """
        self.have_ended = True
        for asker in askers():
            self._running.pop(asker, None)
        for task in self._running:
            task.cancel()

    async def end(self) -> None:
        """Wait for the ends of those that were cancelled, up to ``STOP_TIMEOUT`` seconds."""
        for task, owner in self._running.items():
            if owner is not None:
                task.set_name(owner.task_name)
        await _give_up(list(self._running), STOP_TIMEOUT)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        owner = self._running.pop(task, None)
        if owner is not None and task.cancelled():
            owner.task_cancelled()


@contextmanager
def asking() -> Iterator[None]:
    """In this block the present task stops something, and waits for that."""
    token = _askers.set((*_askers.get(), asyncio.current_task()))
    try:
        yield
    finally:
        _askers.reset(token)


def askers() -> set[asyncio.Task[Any]]:
    """The tasks that wait for the stop that this is a part of; nobody shall wait for them."""
    return {task for task in _askers.get() if task is not None}


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their ends, up to ``CANCEL_TIMEOUT`` seconds."""
    for task in tasks:
        task.cancel()
    await _give_up(tasks, CANCEL_TIMEOUT)


async def _give_up(tasks: Collection[asyncio.Task[Any]], timeout: float) -> None:
    """Wait for tasks that were cancelled; those that take longer are given up, and logged."""
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=timeout)
    for task in pending:
        task.add_done_callback(_retrieve)
        name, code = task.get_name(), task.get_coro()
        logger.error("gave up on a task that ignores cancellation: %s (%r)", name, code)


async def until_done(task: asyncio.Task[Any], *, timeout: float | None = None) -> None:
    """Wait for a task, or for ``timeout`` seconds.

    ``asyncio.wait`` does the same for any number, and takes five times as long.
    """
    if task.done():
        return
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    timer = None if timeout is None else loop.call_later(timeout, wake)
    try:
        await waiter
    finally:
        task.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await what cleans up, without a way to interrupt it.

    Whoever is cancelled meanwhile is so once it has ended. So it has to be bounded.

    Example:
        >>> async def clean_up():
        ...     await asyncio.sleep(0)
        ...     print("clean")
        >>> async def main():
        ...     task = asyncio.create_task(to_the_end(clean_up()))
        ...     await asyncio.sleep(0)
        ...     task.cancel()
        ...     await asyncio.wait([task])
        ...     return task.cancelled()
        >>> asyncio.run(main())
        clean
        True
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    _retrieve(task)
    raise cancelled


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Nobody asks any more what a task raised; asyncio shall not complain about that."""
    if not task.cancelled():
        task.exception()
