"""A channel's mailbox: one thing at a time, in order.

Theory of operation. What a channel has to handle is a *step*: a method and its argument. A step
that returns runs at once on the loop; a step that returns an awaitable becomes the mailbox's task,
and the task goes on with what came meanwhile. Only ``deliver`` runs a step where it is called, at
the top of the stack; ``post`` leaves it to the loop, so that no handler ever runs inside another
one. After ``TURN_DURATION`` others get their turn.

All steps run in one context, the copy made when the connection was accepted. What one raises is
contained, as ``application`` says; who closes the mailbox bounds the time of what still runs.

Most channels have nothing to do most of the time, and then they have no queue either: an empty
deque takes 760 bytes.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias

from roost.channels.application import close, contain

__all__ = ["Mailbox", "MailboxHost", "Step"]

TURN_DURATION: Final = 0.005  # seconds of one channel's steps before others get their turn
SLOW_STEP: Final = 0.1  # seconds that a step may hold the loop before the host hears of it

Step: TypeAlias = Callable[[Any], Any]


class MailboxHost(Protocol):
    """Whose mailbox it is; hears how each step ended, and may close the mailbox then."""

    def finished(self, argument: Any, result: Any) -> None:
        """A step returned, and what it returned was awaited if it was awaitable."""
        ...

    def failed(self, argument: Any, error: BaseException) -> None:
        """A step raised, or was cancelled."""
        ...

    def held_loop(self, argument: Any, duration: float) -> None:
        """A step took over ``SLOW_STEP`` seconds to return."""
        ...


class Mailbox:
    """Run steps one after the other.

    Args:
        host: Hears how they end.
        context: What they run in.
        max_count: Steps that may wait; whoever adds to a full mailbox says what happens then.

    Attributes:
        current: The argument of the step that is running; None if there is none.
    """

    __slots__ = (
        "_awaitable",
        "_context",
        "_host",
        "_is_busy",
        "_is_closed",
        "_max_count",
        "_task",
        "_waiting",
        "current",
    )

    def __init__(self, host: MailboxHost, context: contextvars.Context, max_count: int) -> None:
        self.current: Any = None
        self._host = host
        self._context = context
        self._max_count = max_count
        self._waiting: deque[tuple[Step, Any]] | None = None  # never empty
        self._is_closed = False
        self._is_busy = False  # a step runs or is awaited, or the next tick will go on
        self._task: asyncio.Task[None] | None = None
        self._awaitable: Awaitable[Any] | None = None  # of the task, until that has begun

    @property
    def is_full(self) -> bool:
        waiting = self._waiting
        return (0 if waiting is None else len(waiting)) >= self._max_count

    def deliver(self, step: Step, argument: Any) -> None:
        """Run a step now, or after those that are before it."""
        if self._is_busy:
            self._put(step, argument)
        elif not self._is_closed:
            self._run(step, argument)

    def post(self, step: Step, argument: Any) -> None:
        """Run a step in a later callback of the loop, after those that are before it."""
        self._put(step, argument)
        if not self._is_busy:
            self._ask_for_turn()

    def close(self, *, cancel: bool = False) -> asyncio.Task[None] | None:
        """Run nothing more; what waits is dropped.

        Args:
            cancel: Cancel an awaiting step, too.

        Returns:
            The task of an awaiting step, which may still end; None if that is who closes.
        """
        self._is_closed = True
        self._waiting = None
        task = self._task
        if task is None or task is asyncio.current_task():
            return None
        task.add_done_callback(self._close_unstarted)
        if cancel:
            task.cancel()
        return task

    def _put(self, step: Step, argument: Any) -> None:
        if self._is_closed:
            return
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((step, argument))

    def _next(self) -> tuple[Step, Any]:
        assert self._waiting is not None
        first = self._waiting.popleft()
        if not self._waiting:
            self._waiting = None
        return first

    def _ask_for_turn(self) -> None:
        if not self._is_closed:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._run_waiting)

    def _run_waiting(self) -> None:
        self._is_busy = False
        if self._waiting is not None:
            self._run(*self._next())

    def _run(self, step: Step, argument: Any) -> None:
        """Run a step, and those that come meanwhile."""
        self._is_busy = True
        ends_at = 0.0
        while True:
            awaitable = self._context.run(self._take, step, argument)
            if awaitable is not None:
                self._await(awaitable)
                return
            if self._waiting is None:
                break
            now = time.perf_counter()
            if not ends_at:
                ends_at = now + TURN_DURATION
            elif now > ends_at:
                self._ask_for_turn()
                return
            step, argument = self._next()
        self._is_busy = False

    def _take(self, step: Step, argument: Any) -> Awaitable[Any] | None:
        """Run a step up to its end, or up to where there is something to await."""
        self.current = argument
        started_at = time.perf_counter()
        try:
            result = step(argument)
        except BaseException as error:
            contain(error)
            self._host.failed(argument, error)
        else:
            duration = time.perf_counter() - started_at
            if duration > SLOW_STEP:
                self._host.held_loop(argument, duration)
            # What most steps return is checked first: the general question takes a microsecond.
            if result is not None and type(result) is not dict and inspect.isawaitable(result):
                return result
            self._host.finished(argument, result)
        self.current = None
        return None

    def _await(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable
        task = asyncio.get_running_loop().create_task(
            self._run_async(awaitable), context=self._context
        )
        self._task = None if task.done() else task  # done: tasks are eager here

    async def _run_async(self, awaitable: Awaitable[Any] | None) -> None:
        """Await a step, and then run those that came meanwhile."""
        self._awaitable = None
        ends_at = time.perf_counter() + TURN_DURATION
        while awaitable is not None:
            argument = self.current
            try:
                result = await awaitable
            except BaseException as error:
                contain(error)
                self._host.failed(argument, error)
            else:
                self._host.finished(argument, result)
            self.current = awaitable = None
            while awaitable is None and self._waiting is not None:
                if time.perf_counter() > ends_at:
                    await asyncio.sleep(0)
                    ends_at = time.perf_counter() + TURN_DURATION
                else:
                    awaitable = self._take(*self._next())
        self._task = None
        self._is_busy = False

    def _close_unstarted(self, task: asyncio.Task[None]) -> None:
        """A task that is cancelled before it began never gets to what it was to await."""
        if self._awaitable is not None:
            close(self._awaitable)
