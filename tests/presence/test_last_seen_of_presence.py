"""``last_seen``: when somebody was last here, as a presence tells it and keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from roost import Channel, Policy, Presence, PubSub
from roost.exceptions import ConfigurationError, InvalidKey
from roost.presence import SqliteLastSeen
from roost.presence import run as run_module
from roost.testing import ChannelCase
from tests.presence.scenes import TOPIC, app, join, lease
from tests.virtual_clock import run_virtually, virtually


class Clock:
    """The time of day, as the test sets it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_module, "time", clock)
    return clock


class Memory:
    """A store that keeps its times as long as the test lives.

    Attributes:
        on_read: Called while a read is under way.
    """

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.on_read: Callable[[], object] = lambda: None

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def record(self, seen_at: Mapping[str, float]) -> None:
        for key, at in seen_at.items():
            self.times[key] = max(at, self.times.get(key, at))

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        found = {key: self.times[key] for key in keys if key in self.times}
        self.on_read()
        await asyncio.sleep(0)
        return found


def make_online(store: Any) -> Presence:
    """A presence with a store, whose topics ``patient:*`` wait for those who return."""

    class Online(Presence):
        policies = {"patient:*": Policy(leave_grace=5.0)}
        last_seen_store = store

    return Online()


def test_who_is_online_is_seen_now(clock: Clock):
    """For those who are here it is now, however long ago they came."""

    async def scene() -> None:
        online = make_online(Memory())
        async with online.running(PubSub()):
            lease(online, "alice")
            clock.now = 5_000.0

            assert await online.last_seen(["alice"]) == {"alice": 5_000.0}

    run_virtually(scene())


def test_who_left_was_seen_then(clock: Clock):
    """For the others it is when they left, from all that they were in."""

    async def scene() -> None:
        online = make_online(Memory())
        async with online.running(PubSub()):
            here, there = lease(online, "alice"), lease(online, "alice", "room:2")
            clock.now = 2_000.0
            here.end()
            clock.now = 3_000.0
            assert await online.last_seen(["alice"]) == {"alice": 3_000.0}
            there.end()
            clock.now = 4_000.0

            assert await online.last_seen(["alice"]) == {"alice": 3_000.0}
            await asyncio.sleep(10)  # written meanwhile
            assert await online.last_seen(["alice"]) == {"alice": 3_000.0}

    run_virtually(scene())


def test_who_was_never_seen_is_missing(clock: Clock):
    """Unknown keys have no time, and nobody is answered for who was not asked for."""

    async def scene() -> None:
        online = make_online(Memory())
        async with online.running(PubSub()):
            lease(online, "alice")
            lease(online, "bob").end()

            assert await online.last_seen(["bob", "carol"]) == {"bob": 1_000.0}
            assert await online.last_seen([]) == {}

    run_virtually(scene())


def test_integers_are_keys_and_what_is_none_is_refused(clock: Clock):
    """Keys are checked as ``track`` does; answers are strings."""

    async def scene() -> None:
        online = make_online(Memory())
        async with online.running(PubSub()):
            lease(online, "7").end()

            assert await online.last_seen([7, "7"]) == {"7": 1_000.0}
            with pytest.raises(InvalidKey):
                await online.last_seen([None])  # type: ignore[list-item]

    run_virtually(scene())


@virtually
async def test_without_a_store_there_are_no_times():
    """``last_seen`` says what is missing."""

    class Online(Presence):
        pass

    async with Online().running(PubSub()) as online:
        with pytest.raises(
            ConfigurationError, match=r"Online keeps no times: give .* last_seen_store"
        ):
            await online.last_seen(["alice"])


def test_who_hides_is_not_seen(clock: Clock):
    """Nothing that a hidden presence does is a time; hiding itself is, as a leave."""

    async def scene() -> None:
        store = Memory()
        online = make_online(store)
        async with online.running(PubSub()):
            spy = lease(online, "spy", hidden=True)
            spy.update({"n": 1})
            alice = lease(online, "alice")
            clock.now = 2_000.0
            online.hide(alice, "alice", topic=TOPIC)
            clock.now = 3_000.0
            alice.update({"n": 1})
            lease(online, "guest", hidden=True).end()

            assert await online.last_seen(["spy", "alice", "guest"]) == {"alice": 2_000.0}
            clock.now = 4_000.0
        assert store.times == {"alice": 2_000.0}

    run_virtually(scene())


def test_who_waits_to_return_is_here(clock: Clock):
    """During the grace somebody is online; when it is over, that is when they left."""

    async def scene() -> None:
        online = make_online(Memory())
        async with online.running(PubSub()):
            lease(online, "alice", "patient:1").end()
            clock.now = 1_004.0
            await asyncio.sleep(4)
            assert await online.last_seen(["alice"]) == {"alice": 1_004.0}
            clock.now = 1_005.0
            await asyncio.sleep(1)
            clock.now = 1_100.0

            assert await online.last_seen(["alice"]) == {"alice": 1_005.0}

    run_virtually(scene())


def test_who_leaves_while_the_store_is_asked_is_seen_now(clock: Clock):
    """Neither who leaves nor who comes during the read gets the time of long ago."""

    async def scene() -> None:
        store = Memory()
        online = make_online(store)
        async with online.running(PubSub()):
            alice = lease(online, "alice")
            lease(online, "bob").end()
            clock.now = 9_000.0
            await asyncio.sleep(10)  # their times are in the store

            def change() -> None:
                alice.end()
                lease(online, "bob")
                lease(online, "carol")

            store.on_read = change

            assert await online.last_seen(["alice", "bob", "carol"]) == {
                "alice": 9_000.0,
                "bob": 9_000.0,
                "carol": 9_000.0,
            }

    run_virtually(scene())


def test_the_stop_records_those_who_are_online(clock: Clock):
    """Who is here when the presence stops was seen then."""

    async def scene() -> None:
        store = Memory()
        online = make_online(store)
        async with online.running(PubSub()):
            lease(online, "alice")
            lease(online, "bob").end()
            lease(online, "carol", "patient:1").end()
            await asyncio.sleep(2)
            clock.now = 5_000.0

        assert store.times == {"alice": 5_000.0, "bob": 1_000.0, "carol": 5_000.0}

    run_virtually(scene())


def test_the_stop_of_an_endpoint_records_its_clients(clock: Clock):
    """Channels end with their endpoint, and their keys were seen then."""
    store = Memory()
    online = make_online(store)

    class Room(Channel):
        async def after_join(self) -> None:
            await online.enter(self, "alice")

    async def scene() -> None:
        async with ChannelCase(app(online)) as case:
            alice = await join(case, Room)
            await alice.assert_push("presence_state")
            await asyncio.sleep(2)
            clock.now = 5_000.0

    run_virtually(scene())
    assert store.times == {"alice": 5_000.0}


async def test_times_outlive_the_endpoint(clock: Clock, tmp_path: Path):
    """With an SQLite file they are there after a restart, also for another presence."""
    path = tmp_path / "seen.db"
    endpoint = app(online := make_online(SqliteLastSeen(path)))
    async with endpoint.running():
        lease(online, "alice")
        lease(online, "bob").end()
        clock.now = 2_000.0

    clock.now = 3_000.0
    async with endpoint.running():
        lease(online, "bob")
        times = await online.last_seen(["alice", "bob", "carol"])
        assert times == {"alice": 2_000.0, "bob": 3_000.0}

    clock.now = 4_000.0
    other = make_online(SqliteLastSeen(path))
    async with app(other).running():
        assert await other.last_seen(["alice", "bob"]) == {"alice": 2_000.0, "bob": 3_000.0}


async def test_a_store_that_cannot_be_opened_keeps_the_endpoint_from_starting(tmp_path: Path):
    """The file is looked at when the endpoint starts; once it can be opened, the endpoint does."""
    path = tmp_path / "folder" / "seen.db"
    endpoint = app(online := make_online(SqliteLastSeen(path)))
    with pytest.raises(ConfigurationError, match=r"seen\.db"):
        await endpoint.start()

    path.parent.mkdir()
    async with endpoint.running():
        lease(online, "alice")
        assert online.count_users(TOPIC) == 1
