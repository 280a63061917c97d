"""Presences and trackers belong to one thread and one loop: elsewhere they say so at once."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from roost import Presence, PubSub
from roost.exceptions import WrongThread
from roost.presence import Lease, Tracker
from tests.presence.somebody import TOPIC, somebody
from tests.virtual_clock import virtually


class Online(Presence):
    """Fetches."""

    async def fetch(self, topic: str, presences: Any) -> Any:
        await asyncio.sleep(0.01)
        return presences


def _lease(tracking: Any) -> Lease:
    return Lease(tracking, TOPIC, "bob")


PRESENCE: dict[str, Callable[[Presence], Any]] = {
    "track": lambda online: online.track(_lease(online), "bob", {}, topic=TOPIC),
    "untrack": lambda online: online.untrack(_lease(online), "bob", topic=TOPIC),
    "update": lambda online: online.update(_lease(online), "bob", {}, topic=TOPIC),
    "hide": lambda online: online.hide(_lease(online), "bob", topic=TOPIC),
    "show": lambda online: online.show(_lease(online), "bob", topic=TOPIC),
    "list": lambda online: online.list(TOPIC),
    "get_by_key": lambda online: online.get_by_key(TOPIC, "alice"),
    "count_users": lambda online: online.count_users(TOPIC),
    "count_connections": lambda online: online.count_connections(TOPIC),
    "list_hidden": lambda online: online.list_hidden(TOPIC),
    "online": lambda online: online.online(["alice"]),
    "last_seen": lambda online: online.last_seen(["alice"]),
    "watch": lambda online: online.watch(TOPIC),
    "settled": lambda online: online.settled(),
}
TRACKER: dict[str, Callable[[Tracker], Any]] = {
    "track": lambda jobs: jobs.track(_lease(jobs), "bob", {}, topic=TOPIC),
    "untrack": lambda jobs: jobs.untrack(_lease(jobs), "bob", topic=TOPIC),
    "untrack_all": lambda jobs: jobs.untrack_all(_lease(jobs)),
    "update": lambda jobs: jobs.update(_lease(jobs), "bob", {}, topic=TOPIC),
    "list": lambda jobs: jobs.list(TOPIC),
    "get_by_key": lambda jobs: jobs.get_by_key(TOPIC, "alice"),
    "is_tracked": lambda jobs: jobs.is_tracked(_lease(jobs), "alice", topic=TOPIC),
    "subscribe": lambda jobs: jobs.subscribe(TOPIC),
    "unsubscribe": lambda jobs: jobs.unsubscribe(TOPIC),
    "settled": lambda jobs: jobs.settled(),
}


async def _awaited(operation: Callable[[], Any]) -> Any:
    result = operation()
    return await result if asyncio.iscoroutine(result) else result


def _at_once(operation: Callable[[], Any]) -> Any:
    """Call it; what is async is run on a loop of this thread, as sync code is advised to."""
    return asyncio.run(asyncio.wait_for(_awaited(operation), 5))


@pytest.mark.parametrize("name", PRESENCE)
async def test_a_presence_in_another_thread(name: str):
    """Every method says that this is the wrong thread, whether it is async or not."""
    async with Online().running(PubSub()) as online:
        somebody(online, "alice")
        with pytest.raises(WrongThread) as raised:
            await asyncio.to_thread(_at_once, lambda: PRESENCE[name](online))
        assert raised.value.what == name
        assert list(await online.list(TOPIC)) == ["alice"]


@pytest.mark.parametrize("name", TRACKER)
async def test_a_tracker_in_another_thread(name: str):
    """So does every method of a tracker, but ``send``."""
    async with Tracker().running(PubSub()) as jobs:
        with pytest.raises(WrongThread) as raised:
            await asyncio.to_thread(_at_once, lambda: TRACKER[name](jobs))
        assert raised.value.what == name


@pytest.mark.parametrize("name", ["list", "count_users", "watch"])
def test_another_loop_of_the_same_thread(name: str):
    """A second loop of one thread is as wrong as a second thread."""
    pubsub, online = PubSub(), Online()
    first = asyncio.new_event_loop()
    try:
        first.run_until_complete(pubsub.start())
        first.run_until_complete(online.start(pubsub))
        with pytest.raises(WrongThread):
            _at_once(lambda: PRESENCE[name](online))
        assert online.count_users(TOPIC) == 0  # no loop runs: this is the right thread
        first.run_until_complete(online.stop())
        first.run_until_complete(pubsub.stop())
    finally:
        first.close()


async def test_a_watch_is_read_on_its_loop():
    """A watch that is handed to another thread can't be read there."""
    async with Online().running(PubSub()) as online:
        watch = online.watch(TOPIC)
        with pytest.raises(WrongThread):
            await asyncio.to_thread(lambda: _at_once(lambda: watch.__anext__()))
        watch.close()


@contextmanager
def debug_mode() -> Iterator[None]:
    """asyncio's debug mode, which refuses to be called from other threads."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    try:
        yield
    finally:
        loop.set_debug(False)


async def test_in_debug_mode_a_wrong_thread_does_not_poison_the_topic():
    """After a list in a wrong thread the topic is listed as ever."""
    async with Online().running(PubSub()) as online:
        somebody(online, "alice")
        with debug_mode(), warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(WrongThread):
                await asyncio.to_thread(_at_once, lambda: online.list(TOPIC))
        async with asyncio.timeout(5):
            assert list(await online.list(TOPIC)) == ["alice"]


@virtually
async def test_a_task_that_can_not_be_started_does_not_poison_the_topic():
    """A batch is known once it is under way: what fails before leaves nothing behind."""
    async with Online().running(PubSub()) as online:
        somebody(online, "alice")
        tasks = online._current()._tasks
        spawn = tasks.spawn
        failures = [RuntimeError("no task")]

        class Failing:
            have_ended = False

            def spawn(self, coroutine: Any, **options: Any) -> Any:
                if failures:
                    coroutine.close()
                    raise failures.pop()
                return spawn(coroutine, **options)

        online._current().fetcher._tasks = Failing()  # type: ignore[assignment]
        with pytest.raises(RuntimeError):
            await online.list(TOPIC)
        async with asyncio.timeout(5):
            assert list(await online.list(TOPIC)) == ["alice"]
