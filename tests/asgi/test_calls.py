"""endpoint.call: sync code runs on the loop's thread what belongs there, and gets the result."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import pytest

from roost import Endpoint, Presence
from roost.asgi.thread_calls import ThreadCalls
from roost.exceptions import NotStarted, WrongThread
from roost.presence import Lease
from tests.waiting import until

T = TypeVar("T")

TOPIC = "room:1"
user: ContextVar[str] = ContextVar("user", default="nobody")


class Online(Presence):
    """Fetches, which only the loop can."""

    async def fetch(self, topic: str, presences: Any) -> Any:
        await asyncio.sleep(0)
        return {key: {**entry, "name": key.title()} for key, entry in presences.items()}


async def in_thread(function: Callable[[], T]) -> T:
    """Run what is sync in a thread of its own, but not for ever."""
    async with asyncio.timeout(10):
        return await asyncio.to_thread(function)


async def test_a_thread_gets_the_result_of_what_is_async():
    """A list with its fetch is made on the loop, and returned to the thread."""
    online = Online()
    endpoint = Endpoint({}, presences=[online])
    async with endpoint.running():
        lease = Lease(online, TOPIC, "alice")
        online.track(lease, "alice", {"n": 1}, topic=TOPIC)

        presences = await in_thread(lambda: endpoint.call(online.list, TOPIC))
        alice = await in_thread(lambda: endpoint.call(online.get_by_key, TOPIC, "alice"))

    assert presences["alice"]["name"] == "Alice"
    assert alice is not None
    assert alice["name"] == "Alice"


async def test_a_thread_gets_the_result_of_what_is_sync():
    """Counting, tracking and updating belong to the loop's thread as well."""
    online = Online()
    endpoint = Endpoint({}, presences=[online])
    async with endpoint.running():
        lease = Lease(online, TOPIC, "alice")

        def work() -> int:
            endpoint.call(partial(online.track, lease, "alice", {"n": 1}, topic=TOPIC))
            return endpoint.call(online.count_users, TOPIC)

        assert await in_thread(work) == 1


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_what_it_raises_is_raised_in_the_thread(kind: str):
    """An error comes back as it is, whatever it is."""

    def fail() -> None:
        raise StopIteration("no")

    async def fail_later() -> None:
        await asyncio.sleep(0)
        raise LookupError("no")

    error: type[Exception] = StopIteration if kind == "def" else LookupError
    function: Callable[[], Any] = fail if kind == "def" else fail_later

    def work() -> None:
        with pytest.raises(error, match="no"):
            endpoint.call(function)

    endpoint = Endpoint({})
    async with endpoint.running():
        await in_thread(work)


async def test_it_sees_the_context_of_the_thread():
    """What a request set in its thread is seen on the loop, and what is set there stays there."""
    seen: list[str] = []

    async def see() -> None:
        await asyncio.sleep(0)
        seen.append(user.get())
        user.set("changed")

    def work() -> str:
        user.set("alice")
        endpoint.call(see)
        return user.get()

    endpoint = Endpoint({})
    async with endpoint.running():
        assert await in_thread(work) == "alice"

    assert seen == ["alice"]


async def test_on_the_loops_thread_it_raises_instead_of_waiting_for_itself():
    """The error names the way out: to await the method."""
    online = Online()
    endpoint = Endpoint({}, presences=[online])
    async with endpoint.running():
        with pytest.raises(WrongThread, match="await the method") as raised:
            endpoint.call(online.list, TOPIC)

    assert raised.value.is_loops


async def test_what_takes_too_long_is_cancelled():
    """The thread gets a TimeoutError, and nothing goes on."""
    cancelled: list[bool] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    endpoint = Endpoint({})
    async with endpoint.running():
        with pytest.raises(TimeoutError, match="hang took over"):
            await in_thread(lambda: endpoint.call(hang, timeout=0.05))
        await until(lambda: cancelled)


async def test_a_stop_frees_the_threads_that_wait():
    """Whoever waits when the endpoint stops hears that it is not running any more."""
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)  # it ignores that

    endpoint = Endpoint({})
    await endpoint.start()
    waiting = asyncio.create_task(in_thread(lambda: endpoint.call(hang, timeout=None)))
    await until(begun.is_set)
    stopping = asyncio.create_task(endpoint.stop())

    started_at = time.monotonic()
    with pytest.raises(NotStarted, match="stopped while"):
        await waiting
    assert time.monotonic() - started_at < 5
    await stopping
    with pytest.raises(NotStarted):
        await in_thread(lambda: endpoint.call(hang))


async def test_after_the_end_no_call_begins():
    """A thread that is late is told so, and what it would call is not called."""
    called: list[bool] = []
    calls = ThreadCalls()
    await calls.end()

    with pytest.raises(NotStarted, match="stopped while"):
        await in_thread(lambda: calls.call(called.append, (True,), 5.0))

    await asyncio.sleep(0)
    assert called == []


def test_a_loop_that_is_closed_without_a_stop_frees_them_too():
    """A thread does not wait for a loop that is gone."""
    errors: list[BaseException] = []
    endpoint = Endpoint({})
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(60)

    def work() -> None:
        try:
            endpoint.call(hang, timeout=None)
        except BaseException as error:
            errors.append(error)

    async def main() -> None:
        await endpoint.start()
        thread.start()
        await until(begun.is_set)

    thread = threading.Thread(target=work)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(lambda: None)
    loop.close()
    thread.join(10)

    assert not thread.is_alive()
    assert [type(error) for error in errors] == [NotStarted]
    with pytest.raises(NotStarted):
        endpoint.call(hang)


def test_without_a_run_there_is_nobody_to_call():
    """Before the start it says what to do."""
    with pytest.raises(NotStarted):
        Endpoint({}).call(lambda: None)


async def test_health_is_told_in_any_thread():
    """A probe may be a ``def`` route."""
    endpoint = Endpoint({})
    async with endpoint.running():
        assert (await in_thread(endpoint.health))["status"] == "ok"
    assert (await in_thread(endpoint.health))["status"] == "stopped"
