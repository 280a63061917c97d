"""Calls from other threads: they run on the loop's thread, and their results come back.

Whoever calls waits in its own thread, so it has to be freed whatever happens: by the result, by
its timeout, by the end of the endpoint, and by the end of a loop that was closed without it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from time import monotonic
from typing import Any, Final

from roost.channels.application import Failed, call, close, name_of, settle
from roost.channels.tasks import Tasks
from roost.exceptions import NotStarted, WrongThread

__all__ = ["ThreadCalls"]

LOOK_PERIOD: Final = 1.0  # seconds after which a thread that waits looks for a loop that is gone


class ThreadCalls:
    """The calls that other threads wait for, during one run of an endpoint; made on its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._lock = threading.Lock()  # for what follows
        self._waiting: set[Future[Any]] = set()
        self._has_ended = False
        # Of the loop's thread alone.
        self._tasks = Tasks()
        self._running: dict[Future[Any], asyncio.Task[Any]] = {}

    @property
    def is_loops_thread(self) -> bool:
        """Whether this is the thread that the calls are made on."""
        return (
            _get_running_loop() is self._loop or threading.get_ident() == self._thread_id
        ) and not self._loop.is_closed()

    def call(
        self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None
    ) -> Any:
        """Call ``function`` on the loop's thread, await what is awaitable, and return the result.

        Raises:
            WrongThread: This is the loop's thread.
            NotStarted: The run has ended, or ended meanwhile.
            TimeoutError: It took longer.
            BaseException: What ``function`` raised.
        """
        if self.is_loops_thread:
            raise WrongThread("endpoint.call", is_loops=True)
        future: Future[Any] = Future()
        with self._lock:
            if self._has_ended:
                raise _stopped()
            self._waiting.add(future)
        try:
            self._post(self._start, future, function, args, contextvars.copy_context())
            self._wait(future, function, timeout)
            return future.result()
        except BaseException:
            self._abandon(future)
            raise
        finally:
            with self._lock:
                self._waiting.discard(future)

    async def end(self) -> None:
        """Cancel all calls, and free the threads that wait for them."""
        with self._lock:
            self._has_ended = True
        self._tasks.cancel()
        for future in list(self._waiting):
            self._set_error(future, _stopped())
        await self._tasks.end()

    # In the thread that waits.

    def _wait(
        self, future: Future[Any], function: Callable[..., Any], timeout: float | None
    ) -> None:
        ends_at = None if timeout is None else monotonic() + timeout
        while True:
            rest = LOOK_PERIOD if ends_at is None else min(LOOK_PERIOD, ends_at - monotonic())
            wait([future], max(rest, 0.0))
            if future.done():
                return
            if ends_at is not None and monotonic() >= ends_at:
                raise TimeoutError(f"{name_of(function)} took over {timeout} s")
            if self._loop.is_closed():
                raise _stopped()

    def _abandon(self, future: Future[Any]) -> None:
        """Nobody waits any more."""
        if not future.done() and not self._loop.is_closed():
            self._post(self._cancel, future)

    def _post(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError as error:  # the loop is closed
            raise _stopped() from error

    # On the loop.

    def _start(
        self,
        future: Future[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> None:
        if future.done():  # the run has ended since
            return
        try:
            result = call(context, function, *args)
        except Failed as failed:
            self._set_error(future, failed.error)
            return
        if not inspect.isawaitable(result):
            self._set_result(future, result)
            return
        task = self._tasks.spawn(settle(function, result), context=context)
        self._running[future] = task
        task.add_done_callback(partial(self._done, future, result))

    def _done(self, future: Future[Any], awaitable: Any, task: asyncio.Task[Any]) -> None:
        del self._running[future]
        if task.cancelled():
            close(awaitable)
            self._set_error(future, asyncio.CancelledError())
            return
        error = task.exception()
        if error is None:
            self._set_result(future, task.result())
        else:
            self._set_error(future, error.error if isinstance(error, Failed) else error)

    def _cancel(self, future: Future[Any]) -> None:
        task = self._running.get(future)
        if task is None:
            self._set_error(future, asyncio.CancelledError())  # it has not begun
        else:
            task.cancel()

    def _set_result(self, future: Future[Any], result: Any) -> None:
        if not future.done():
            future.set_result(result)

    def _set_error(self, future: Future[Any], error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)


def _stopped() -> NotStarted:
    return NotStarted("this endpoint", "it stopped while a thread waited for it")
