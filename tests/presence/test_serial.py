"""CallQueue: calls into the application, one after the other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest

from roost.channels.application import Failed
from roost.channels.tasks import Tasks
from roost.presence.following.call_queue import CallQueue
from tests.presence.failures import FAILURES
from tests.virtual_clock import virtually


class Scene:
    """A serial, what its calls did, and what was reported of them."""

    def __init__(self, *, max_count: int = 100) -> None:
        self.done: list[str] = []
        self.errors: list[Failed] = []
        self.tasks = Tasks()
        self.serial = CallQueue(
            self.tasks,
            self.errors.append,
            on_empty=lambda: self.done.append("empty"),
            max_count=max_count,
        )

    def call(self, function: Callable[[], Any]) -> bool:
        """Add a call; returns whether there was room for it."""
        return self.serial.put(lambda _: function(), None, copy_context())

    def put(self, *names: str, seconds: float | None = None) -> None:
        """Add calls that say their names; async ones, which take their time, if it is given."""
        for name in names:
            if seconds is None:
                assert self.call(partial(self.done.append, name))
            else:
                assert self.call(partial(self.take, name, seconds))

    async def take(self, name: str, seconds: float) -> None:
        self.done.append(f"{name} began")
        await asyncio.sleep(seconds)
        self.done.append(f"{name} ended")


@virtually
async def test_calls_run_in_their_order_after_whoever_put_them():
    """Putting calls runs none of them; they run together at the end of the tick."""
    scene = Scene()

    scene.put("a", "b")
    assert scene.done == []
    await asyncio.sleep(0)

    assert scene.done == ["a", "b", "empty"]
    assert not scene.tasks


@virtually
async def test_what_is_async_ends_before_the_next_call():
    """Sync and async calls keep one order; those that follow an async one wait for it."""
    scene = Scene()

    scene.put("a")
    scene.put("b", "c", seconds=1)
    scene.put("d")
    await asyncio.sleep(0.5)

    assert scene.done == ["a", "b began"]
    await asyncio.sleep(2)
    assert scene.done[2:] == ["b ended", "c began", "c ended", "d", "empty"]
    assert not scene.tasks


@pytest.mark.parametrize("seconds", [None, 1.0], ids=["sync", "async"])
@virtually
async def test_what_a_call_puts_runs_behind_what_waits(seconds: float | None):
    """A call that puts another one goes on first, and so do those that waited already."""
    scene = Scene()

    def nest() -> Any:
        scene.put("c", seconds=seconds)
        scene.serial.flush()  # one that runs is not interrupted
        scene.done.append("a")

    scene.call(nest)
    scene.put("b", seconds=seconds)
    await asyncio.sleep(3)

    if seconds is None:
        assert scene.done == ["a", "b", "c", "empty"]
    else:
        assert scene.done == ["a", "b began", "b ended", "c began", "c ended", "empty"]


@virtually
async def test_it_runs_again_after_it_was_empty():
    """Empty is not the end: what is put later runs, too."""
    scene = Scene()
    scene.put("a", seconds=1)
    await asyncio.sleep(2)

    scene.put("b")
    await asyncio.sleep(0)

    assert scene.done == ["a began", "a ended", "empty", "b", "empty"]


@pytest.mark.parametrize("fail", FAILURES)
@pytest.mark.parametrize("first", [None, 1.0], ids=["at once", "after an async call"])
def test_what_a_call_raises_is_reported_and_the_next_runs(
    fail: Callable[[], Any], first: float | None
):
    """An error, or the cancellation of what a call uses, ends that call alone."""

    @virtually
    async def play() -> None:
        scene = Scene()
        scene.put("a", seconds=first)
        scene.call(fail)
        scene.put("b")
        await asyncio.sleep(5)

        (error,) = scene.errors
        assert isinstance(error.error, LookupError | asyncio.CancelledError)
        assert scene.done[-2:] == ["b", "empty"]

    play()


@virtually
async def test_a_call_too_many_is_refused():
    """No more than ``max_count`` calls wait; the one that runs is not among them."""
    scene = Scene(max_count=2)
    scene.put("a", seconds=1)
    await asyncio.sleep(0.5)
    scene.put("b", "c")

    assert scene.serial.is_full
    assert not scene.call(partial(scene.done.append, "d"))

    await asyncio.sleep(1)
    assert scene.done == ["a began", "a ended", "b", "c", "empty"]
    scene.put("e")
    await asyncio.sleep(0)
    assert scene.done[-2:] == ["e", "empty"]


@virtually
async def test_a_flush_calls_at_once():
    """Flush does not wait for the end of the tick, and nothing is called twice."""
    scene = Scene()
    scene.put("a", "b")

    scene.serial.flush()

    assert scene.done == ["a", "b", "empty"]
    await asyncio.sleep(0)
    assert scene.done == ["a", "b", "empty"]


@virtually
async def test_after_a_stop_nothing_is_called():
    """What waits at a stop, or comes later, is forgotten; what runs goes on by itself."""
    idle, running = Scene(), Scene()
    running.put("a", seconds=1)
    await asyncio.sleep(0.5)
    for scene in (idle, running):
        scene.put("b", "c")
        scene.serial.stop()
        scene.put("d")
    await asyncio.sleep(1)

    assert idle.done == []
    assert running.done == ["a began", "a ended", "empty"]


@virtually
async def test_its_task_can_be_cancelled():
    """Who stops it and cancels its task ends the call that it is in, which is no error of that."""
    scene = Scene()
    scene.put("a", seconds=60)
    await asyncio.sleep(1)
    scene.put("b")

    scene.serial.stop()
    scene.tasks.cancel()
    await scene.tasks.end()

    assert scene.errors == []
    assert scene.done == ["a began", "empty"]


@virtually
async def test_a_call_that_cancels_its_own_task_fails_and_the_next_runs():
    """A call may be cancelled by its own code: that ends this call, and is reported."""
    scene = Scene()

    async def cancel_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    scene.call(cancel_itself)
    scene.put("b")
    await asyncio.sleep(1)

    (error,) = scene.errors
    assert isinstance(error.error, asyncio.CancelledError)
    assert scene.done == ["b", "empty"]


@virtually
async def test_its_task_can_be_cancelled_before_it_begins():
    """An async call whose task never took a step leaves no coroutine that nobody awaited."""
    scene = Scene()
    coroutine = scene.take("a", 1)
    scene.call(lambda: coroutine)
    scene.serial.flush()

    scene.serial.stop()
    scene.tasks.cancel()
    await scene.tasks.end()

    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert scene.done == ["empty"]


@virtually
async def test_what_waits_for_the_end_of_the_tick_is_not_bounded():
    """Calls of one tick that take no time are all made, however few may wait for an async one."""
    scene = Scene(max_count=2)

    scene.put("a", "b", "c", "d")
    await asyncio.sleep(0)

    assert scene.done == ["a", "b", "c", "d", "empty"]


@virtually
async def test_each_call_runs_in_a_context_of_its_own():
    """What an async call sets is not seen by those behind it."""
    scene = Scene()
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def say() -> None:
        before = name.get()
        name.set("somebody")
        await asyncio.sleep(0.1)
        scene.done.append(f"{before}, then {name.get()}")

    for _ in range(2):
        scene.call(say)
    await asyncio.sleep(1)

    assert scene.done == ["nobody, then somebody", "nobody, then somebody", "empty"]
