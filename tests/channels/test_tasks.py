"""How tasks that belong together begin and end."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from roost.channels.tasks import CANCEL_TIMEOUT, Tasks, askers, asking, end, to_the_end
from tests.virtual_clock import virtually

name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")


async def forever() -> None:
    await asyncio.sleep(1e9)


async def ignores_cancellation(seconds: float) -> None:
    ends_at = asyncio.get_running_loop().time() + seconds
    while (rest := ends_at - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(rest)
        except asyncio.CancelledError:
            continue
    raise LookupError


@virtually
async def test_after_the_end_no_task_begins():
    """Whoever is late is cancelled before it runs."""
    began = []

    async def late() -> None:
        began.append(True)

    tasks = Tasks()
    running = tasks.spawn(forever())
    await asyncio.sleep(0)
    tasks.cancel()
    await tasks.end()
    too_late = tasks.spawn(late())
    await asyncio.wait([too_late])

    assert running.cancelled()
    assert too_late.cancelled()
    assert began == []


@virtually
async def test_what_one_task_sets_no_other_sees():
    """Each has a copy of the context of all of them."""
    seen = []

    async def look() -> None:
        seen.append(name.get())
        name.set("mallory")

    tasks = Tasks(contextvars.copy_context())
    for _ in range(2):
        tasks.spawn(look())
        await tasks.wait()

    assert seen == ["nobody", "nobody"]


@virtually
async def test_what_is_to_end_is_cancelled_and_waited_for():
    """Whoever ends tasks goes on as soon as they have."""
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    began_at = asyncio.get_running_loop().time()

    await end([task])

    assert task.cancelled()
    assert asyncio.get_running_loop().time() == began_at


@virtually
async def test_who_ignores_its_cancellation_is_given_up(caplog: pytest.LogCaptureFixture):
    """It is named in the log, and nobody hears of what it raises later."""
    complaints: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    task = asyncio.create_task(ignores_cancellation(5), name="slow")
    await asyncio.sleep(0)
    began_at = loop.time()

    await end([task])

    assert loop.time() == pytest.approx(began_at + CANCEL_TIMEOUT)
    assert "gave up on a task that ignores cancellation: slow" in caplog.text
    await asyncio.wait([task])
    del task
    await asyncio.sleep(1)
    assert complaints == []


@virtually
async def test_all_who_wait_for_a_stop_are_known():
    """Also those in whose stop another one runs."""
    found = []

    async def inner() -> None:
        with asking():
            found.append(askers())

    async def outer() -> None:
        with asking():
            await asyncio.create_task(inner(), name="inner")

    await asyncio.create_task(outer(), name="outer")

    assert {task.get_name() for task in found[0]} == {"outer", "inner"}
    assert askers() == set()


@virtually
async def test_what_cleans_up_is_not_interrupted():
    """Whoever is cancelled meanwhile, however often, is so when it has ended."""
    ended = []

    async def clean_up() -> None:
        await asyncio.sleep(1)
        ended.append(True)

    task = asyncio.create_task(to_the_end(clean_up()))
    for _ in range(3):
        await asyncio.sleep(0.1)
        task.cancel()
    await asyncio.wait([task])

    assert ended == [True]
    assert task.cancelled()
