"""How code of an application is run: contained, bounded, and in its context."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from roost.channels.application import (
    Contained,
    Failed,
    InContext,
    TookTooLong,
    call,
    run,
    settle,
)
from tests.presence.strange import Stubborn
from tests.virtual_clock import virtually

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


def context_of(who: str) -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(name.set, who)
    return context


async def forever() -> None:
    await asyncio.sleep(1e9)


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def uses_what_was_cancelled() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.mark.parametrize("code", [cancels_itself, uses_what_was_cancelled])
@virtually
async def test_a_cancellation_that_nobody_asked_for_is_a_failure(code: Any):
    """Whoever waits for it goes on."""
    with pytest.raises(Failed) as caught:
        await run(contextvars.copy_context(), code)

    assert isinstance(caught.value.error, asyncio.CancelledError)
    assert caught.value.name == code.__name__


@virtually
async def test_code_that_uses_what_was_cancelled_costs_its_task_nothing():
    """A task that runs one piece of code after the other runs the next one."""
    with pytest.raises(Failed):
        await settle(uses_what_was_cancelled, uses_what_was_cancelled())


@virtually
async def test_whose_task_is_cancelled_is_cancelled():
    """That is no failure of the code that the task runs."""
    task = asyncio.create_task(settle(forever, forever()))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


@virtually
async def test_what_takes_too_long_is_cancelled():
    """Whoever waits goes on when it has ended."""
    ended_at = []

    async def slow() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.5)
            ended_at.append(asyncio.get_running_loop().time())

    began_at = asyncio.get_running_loop().time()
    with pytest.raises(TookTooLong):
        await run(contextvars.copy_context(), slow, timeout=2.0)

    assert ended_at == [pytest.approx(began_at + 2.5)]
    assert asyncio.get_running_loop().time() == pytest.approx(began_at + 2.5)


@virtually
async def test_what_is_waited_for_no_longer_is_cancelled():
    """It ends before whoever waited goes on."""
    ended = []

    async def slow() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.5)
            ended.append(True)

    task = asyncio.create_task(run(contextvars.copy_context(), slow))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert ended == [True]


def test_no_exception_of_a_block_gets_out():
    """Not even one that is no ``Exception``, but for those that end the process."""

    def fetch() -> None: ...

    for error in (Stubborn, LookupError, asyncio.CancelledError):
        with pytest.raises(Failed), Contained(fetch):
            raise error
        with pytest.raises(Failed):
            call(None, _raise, error)
    with pytest.raises(SystemExit), Contained(fetch):
        raise SystemExit


def _raise(error: type[BaseException]) -> None:
    raise error


@virtually
async def test_code_runs_in_its_context_to_its_end():
    """Before and after each await, and what it sets nobody else sees."""

    async def ask() -> list[str]:
        names = [name.get()]
        await asyncio.sleep(1)
        names.append(name.get())
        name.set("mallory")
        return names

    assert await run(context_of("alice"), ask) == ["alice", "alice"]
    assert name.get() == "nobody"


@virtually
async def test_a_coroutine_catches_errors_in_its_context():
    """It may be awaited in a task of another one."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.set_exception, LookupError())

    async def ask() -> list[str]:
        names = []
        try:
            await future
        except LookupError:
            names.append(name.get())
        await asyncio.sleep(0)
        return [*names, name.get()]

    assert await InContext(context_of("alice"), ask()) == ["alice", "alice"]
    assert name.get() == "nobody"
