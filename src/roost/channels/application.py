"""Code of the application: the one way in which it is run.

Theory of operation. What an application defines, be it ``join``, ``fetch``, ``on_join``,
``connect`` or the methods of a store, is run by ``call`` as far as it is ``def``, and by ``run`` or
``complete`` as far as it may be ``async def``. Handlers are run by a ``Mailbox``, and callbacks by
a ``CallQueue``, which use what is here. Three rules hold for all of it:

- It is contained. Whatever it raises, ``Failed`` is what comes of it, and whoever called says in
  the log what follows. Two things pass: the end of the process (``sys.exit``, Ctrl-C), as
  everywhere in asyncio, and the cancellation of whoever waits.
- Its end is bounded. What is cancelled, as it took too long or since the presence stops, has
  ``CANCEL_TIMEOUT`` seconds to end. After that nobody waits for it any more.
- It runs in the right context: that of the change that it is about, or of the connection, or of
  the run. What it sets there is gone with the call, but for what ``connect`` and handlers set,
  which belongs to their connection.

``tests/test_application_code.py`` finds calls that go past this.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final

from roost.channels.tasks import end, until_done

__all__ = [
    "Contained",
    "Failed",
    "InContext",
    "TookTooLong",
    "call",
    "call_sync",
    "check_ran",
    "close",
    "complete",
    "contain",
    "name_of",
    "run",
    "settle",
]

_ENDS_PROCESS: Final = (SystemExit, KeyboardInterrupt, GeneratorExit)


class Failed(Exception):
    """Code of the application raised, used what was cancelled, or took too long.

    Attributes:
        name: What was called, for example ``"Online.fetch"``.
        error: What it raised; ``TimeoutError`` if it took too long.
    """

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(name, error)
        self.name = name
        self.error = error

    def __str__(self) -> str:
        return f"{self.name} failed"


class TookTooLong(Failed):
    """Code of the application took longer than it may, and was cancelled."""


def call(context: contextvars.Context | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call code of the application; what it returns may have to be awaited.

    Args:
        context: What it runs in; None for that of the caller.
        function: What to call.
        args: Its arguments.

    Raises:
        Failed: It raised.

    Example:
        >>> call(None, int, "one")
        Traceback (most recent call last):
        ...
        roost.channels.application.Failed: int failed
    """
    try:
        if context is None:
            return function(*args)
        return context.run(function, *args)
    except BaseException as error:
        contain(error)
        raise Failed(name_of(function), error) from error


def call_sync(context: contextvars.Context | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call code of the application that has to be ``def``.

    An ``async def`` where there is nothing to await would run nothing, and what it returns counts
    as true.

    Raises:
        Failed: It raised, or it is ``async def``.
    """
    result = call(context, function, *args)
    if result is not None and inspect.isawaitable(result):
        close(result)
        raise Failed(name_of(function), TypeError("it must be def, not async def"))
    return result


async def run(
    context: contextvars.Context,
    function: Callable[..., Any],
    *args: Any,
    timeout: float | None = None,
) -> Any:
    """Call code of the application, and await what it returns if that is awaitable.

    Args:
        context: What it runs in.
        function: What to call; ``async def`` or ``def``.
        args: Its arguments.
        timeout: Seconds that it may take; None for any number.

    Raises:
        Failed: It raised, or took longer.
    """
    result = call(context, function, *args)
    if result is None or not inspect.isawaitable(result):
        return result
    return await complete(context, function, result, timeout=timeout)


async def complete(
    context: contextvars.Context,
    function: Callable[..., Any],
    awaitable: Awaitable[Any],
    *,
    timeout: float | None = None,
) -> Any:
    """Await what ``function`` returned, in a task of its own; as ``run`` does.

    When whoever waits is cancelled, so is the task, and that is waited for, but not for long.
    """
    task = asyncio.get_running_loop().create_task(settle(function, awaitable), context=context)
    try:
        await until_done(task, timeout=timeout)
        if not task.done():
            raise TimeoutError(f"it took over {timeout} s")
    except (asyncio.CancelledError, TimeoutError) as error:
        task.set_name(name_of(function))
        await end([task])
        if isinstance(error, TimeoutError):
            raise TookTooLong(name_of(function), error) from error
        raise
    finally:
        if task.cancelled():
            close(awaitable)
    if task.cancelled():  # by itself
        raise Failed(name_of(function), asyncio.CancelledError())
    return task.result()


async def settle(function: Callable[..., Any], awaitable: Awaitable[Any]) -> Any:
    """Await what ``function`` returned.

    Raises:
        Failed: It raised, or used what was cancelled.
        asyncio.CancelledError: The task in which this runs was cancelled.
    """
    try:
        return await awaitable
    except BaseException as error:
        contain(error)
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling() > 0:
                raise
        raise Failed(name_of(function), error) from error


class InContext:
    """Await a coroutine so that it runs in a context, in the task that awaits it.

    A task for each of many short coroutines would take longer than they do.
    """

    __slots__ = ("_awaitable", "_context")

    def __init__(self, context: contextvars.Context, awaitable: Awaitable[Any]) -> None:
        self._context = context
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        awaitable = self._awaitable
        coroutine = awaitable if inspect.iscoroutine(awaitable) else _await(awaitable)
        run, send, throw = self._context.run, coroutine.send, coroutine.throw
        try:
            waits_for = run(send, None)
            while True:
                try:
                    value = yield waits_for
                except BaseException as error:
                    waits_for = run(throw, error)
                else:
                    waits_for = run(send, value)
        except StopIteration as returned:
            return returned.value


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def close(awaitable: Awaitable[Any]) -> None:
    """A task that is cancelled before it began never gets to what it was to await."""
    if (
        inspect.iscoroutine(awaitable)
        and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED
    ):
        awaitable.close()


def contain(error: BaseException) -> None:
    """Return if ``error`` is to be contained; raise it again if it ends the process."""
    if isinstance(error, _ENDS_PROCESS):
        raise error


class Contained:
    """A block that uses what an application returned, which may be code of its own.

    Args:
        function: What returned it.

    Raises:
        Failed: Something in the block raised.

    Example:
        >>> def fetch(topic, presences): ...
        >>> with Contained(fetch):
        ...     raise LookupError("of a mapping that the application made")
        Traceback (most recent call last):
        ...
        roost.channels.application.Failed: fetch failed
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            contain(error)
            raise Failed(name_of(self._function), error) from error


def check_ran(function: Callable[..., Any], result: object) -> None:
    """Check what a callback returned whose result is of no interest.

    Raises:
        Failed: It has a ``yield``, so that nothing in it ran.
    """
    if inspect.isasyncgen(result) or inspect.isgenerator(result):
        reason = f"it returned {type(result).__name__}: what has a yield does not run by itself"
        raise Failed(name_of(function), TypeError(reason))


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function in the log: with the class of the object that it is a method of."""
    name: str = getattr(function, "__name__", "") or type(function).__qualname__
    owner = getattr(function, "__self__", None)
    if owner is None or inspect.ismodule(owner):
        return getattr(function, "__qualname__", name)
    kind = owner if isinstance(owner, type) else type(owner)
    return f"{kind.__qualname__}.{name}"
