"""Code of the application that misbehaves costs what it is about, and nobody else anything."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from typing import Any

import pytest

from roost import Join, Leave, Policy, Presence, PubSub, Update
from roost.channels.tasks import CANCEL_TIMEOUT, STOP_TIMEOUT
from roost.exceptions import NotStarted
from roost.presence import Lease, Tracker
from roost.presence.following import callbacks
from roost.presence.tracker import TrackerDiff
from roost.testing import ChannelCase
from tests.presence.scenes import app, join, lease, told
from tests.presence.somebody import TOPIC, somebody
from tests.presence.strange import STRANGE, Stubborn, raise_base
from tests.virtual_clock import run_virtually, virtually

user: ContextVar[str] = ContextVar("user", default="nobody")


async def ignore_cancellation(seconds: float) -> None:
    """Go on for some time, whoever cancels."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while loop.time() < ends_at:
        try:
            await asyncio.sleep(ends_at - loop.time())
        except asyncio.CancelledError:
            pass


# Contexts.


class Contexts(Presence):
    """Notes in whose context its callbacks run, before and after they waited."""

    def __init__(self, *, is_async: bool) -> None:
        super().__init__()
        self._is_async = is_async
        self.seen: list[tuple[str, str]] = []

    def _see(self, change: Any) -> Any:
        self.seen.append((change.key, user.get()))
        user.set(f"changed for {change.key}")
        return self._see_later(change) if self._is_async else None

    async def _see_later(self, change: Any) -> None:
        await asyncio.sleep(0.1)
        self.seen.append((change.key, user.get().removeprefix("changed for ")))

    def on_join(self, join: Join) -> Any:
        return self._see(join)

    def on_update(self, update: Update) -> Any:
        return self._see(update)

    def on_leave(self, leave: Leave) -> Any:
        return self._see(leave)


@pytest.mark.parametrize("is_async", [False, True], ids=["def", "async def"])
def test_each_callback_runs_in_the_context_of_its_change(is_async: bool):
    """What happens to bob runs in bob's context, also where alice's callback was before it."""

    async def play() -> None:
        async with Contexts(is_async=is_async).running(PubSub()) as online:
            leases = []
            for key in ("alice", "bob"):
                user.set(key)
                leases.append(somebody(online, key))
                leases[-1].update({"n": 1})
            await online.settled()
            for each in leases:
                user.set(each.key)
                each.end()
            await online.settled()

            assert {key for key, _ in online.seen} == {"alice", "bob"}
            assert all(key == context for key, context in online.seen)
            assert user.get() == "bob"  # what they set is theirs

    run_virtually(play())


@virtually
async def test_fetch_for_several_runs_in_the_context_of_the_run():
    """What is done for all is done in nobody's context: in that of the start."""
    seen: list[str] = []

    class Fetched(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            seen.append(f"fetch for {user.get()}")
            return presences

        def init(self) -> Any:
            return 0

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            seen.append(f"metas for {user.get()}")

        def dispatch(self, subscriptions: Any, message: Any) -> None:
            seen.append(f"dispatch for {user.get()}")
            super().dispatch(subscriptions, message)

    user.set("the application")
    online = Fetched()
    async with ChannelCase(app(online)) as case:
        await join(case)
        for key in ("alice", "bob"):
            user.set(key)
            lease(online, key)
            await online.get_by_key(TOPIC, key)
            await online.list(TOPIC)
        await online.settled()

    assert set(seen) == {
        "fetch for the application",
        "metas for the application",
        "dispatch for the application",
    }


@virtually
async def test_a_tracker_handles_each_diff_in_its_own_context():
    """A diff is handled in the context of its change, a message in its sender's."""
    seen: list[str] = []

    class Jobs(Tracker):
        async def handle_diff(self, diff: TrackerDiff) -> None:
            await asyncio.sleep(0.1)
            seen.append(f"diff of {user.get()}")

        async def handle_info(self, message: Any) -> None:
            await asyncio.sleep(0.1)
            seen.append(f"message of {user.get()}")

    async with Jobs().running(PubSub()) as jobs:
        for key in ("alice", "bob"):
            user.set(key)
            owner = Lease(jobs, TOPIC, key)
            jobs.track(owner, key, {}, topic=TOPIC)
            jobs.send("hello")
        await jobs.settled()

    assert seen == ["diff of alice", "message of alice", "diff of bob", "message of bob"]


# Those who ignore cancellation.


class Holding(Presence):
    """Its on_join does not let itself be cancelled."""

    async def on_join(self, join: Join) -> None:
        await ignore_cancellation(3600)


def test_a_callback_that_ignores_cancellation_is_given_up(caplog: pytest.LogCaptureFixture):
    """The presence stops a moment later, and the log names what it gave up on."""

    async def play() -> None:
        async with Holding().running(PubSub()) as online:
            somebody(online, "alice")
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == 1 + STOP_TIMEOUT

    run_virtually(play())
    (message,) = [each for each in caplog.messages if "gave up" in each]
    assert "Holding.on_join" in message


def test_a_fetch_that_ignores_cancellation_does_not_silence_its_topic(
    caplog: pytest.LogCaptureFixture,
):
    """After fetch_timeout, and a moment for its cancellation, presences are sent as tracked."""

    class Fetched(Presence):
        fetch_timeout = 2.0

        async def fetch(self, topic: str, presences: Any) -> Any:
            await ignore_cancellation(600)

    async def play() -> None:
        online = Fetched()
        async with ChannelCase(app(online)) as case:
            room = await join(case)
            lease(online, "alice")
            await asyncio.sleep(2 + CANCEL_TIMEOUT + 0.1)
            assert told(room) == ["+alice"]
            lease(online, "bob")
            await asyncio.sleep(2 + CANCEL_TIMEOUT + 0.1)
            assert told(room) == ["+bob"]
            assert list(await online.list(TOPIC)) == ["alice", "bob"]
            assert (await online.get_by_key(TOPIC, "alice") or {}).keys() == {"metas"}

    run_virtually(play())
    assert "Fetched.fetch" in caplog.text
    assert "gave up" in caplog.text


def test_a_handle_metas_that_ignores_cancellation_does_not_hold_up_the_stop():
    """The presence stops a moment later."""

    class Metas(Presence):
        def init(self) -> Any:
            return 0

        async def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            await ignore_cancellation(3600)

    async def play() -> None:
        async with Metas().running(PubSub()) as online:
            somebody(online, "alice")
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() <= 1 + 2 * CANCEL_TIMEOUT

    run_virtually(play())


@virtually
async def test_the_start_of_what_ignores_cancellation_can_be_cancelled():
    """An ``init`` that hangs and ignores cancellation does not hold up who starts it."""

    class Metas(Presence):
        async def init(self) -> Any:
            await ignore_cancellation(3600)

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            pass

    pubsub = PubSub()
    async with pubsub.running():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await Metas().start(pubsub)
        assert asyncio.get_running_loop().time() == 1 + CANCEL_TIMEOUT


# Stopping.


class Store:
    """Keeps last seen times, takes its time for each call, and notes what happens."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self.opened = self.closed = 0
        self.record_seconds = 0.0
        self.ignores_cancellation = False

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.closed += 1

    async def record(self, seen_at: Mapping[str, float]) -> None:
        if self.ignores_cancellation:
            await ignore_cancellation(self.record_seconds)
        await asyncio.sleep(self.record_seconds)
        self.times.update(seen_at)

    async def read(self, keys: Collection[str]) -> dict[str, float]:
        if self.ignores_cancellation:
            await ignore_cancellation(self.record_seconds)
        return self.times


class Slow(Presence):
    """Its callbacks take half a second to be cancelled."""

    async def on_join(self, join: Join) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)


@pytest.mark.parametrize("cancel_at", [0.0, 0.1, 0.6])
def test_a_stop_that_is_cancelled_stops_all_the_same(cancel_at: float):
    """Whoever is cancelled while it stops a presence is so once that has stopped."""
    store = Store()
    store.record_seconds = 1.0

    class Seen(Slow):
        last_seen_store = store

    async def play() -> None:
        pubsub = PubSub()
        async with pubsub.running():
            online = Seen()
            await online.start(pubsub)
            somebody(online, "alice")
            await asyncio.sleep(0.2)
            stopping = asyncio.create_task(online.stop())
            await asyncio.sleep(cancel_at)
            stopping.cancel()
            await asyncio.wait([stopping])
            if stopping.cancelled() and store.closed == 0:  # before it began to stop
                await online.stop()

            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert (store.opened, store.closed) == (1, 1)
            assert store.times.keys() == {"alice"}
            with pytest.raises(NotStarted):
                online.count_users(TOPIC)

    run_virtually(play())


@virtually
async def test_the_stop_of_an_endpoint_that_is_cancelled_again_and_again_stops_all():
    """However often it is cancelled, nothing that it started goes on."""
    store = Store()
    store.record_seconds = 1.0

    class Seen(Slow):
        last_seen_store = store

    online = Seen()
    endpoint = app(online)
    await endpoint.start()
    lease(online, "alice")
    await asyncio.sleep(0.2)
    stopping = asyncio.create_task(endpoint.stop())
    for _ in range(20):
        await asyncio.sleep(0.05)
        stopping.cancel()
    await asyncio.wait([stopping])

    assert stopping.cancelled()
    assert store.closed == 1
    assert not endpoint.pubsub.is_running
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_store_that_hangs_does_not_hold_up_the_stop(caplog: pytest.LogCaptureFixture):
    """A store has so many seconds at the stop; then it is closed without the last times."""
    store = Store()
    store.record_seconds = 3600
    store.ignores_cancellation = True

    class Seen(Presence):
        last_seen_store = store

    async def play() -> None:
        async with Seen().running(PubSub()) as online:
            somebody(online, "alice")
            await asyncio.sleep(2)
        assert asyncio.get_running_loop().time() < 60
        assert store.closed == 1

    run_virtually(play())
    assert "Store.record" in caplog.text


@virtually
async def test_a_list_in_flight_at_the_stop_fetches_nothing_more():
    """Whoever waits for a list of a presence that stops gets what is known, without fetch."""
    calls: list[str] = []

    class Fetched(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            calls.append(topic)
            await asyncio.sleep(1)
            return presences

    pubsub = PubSub()
    async with pubsub.running():
        online = Fetched()
        await online.start(pubsub)
        somebody(online, "alice")
        listing = asyncio.create_task(online.list(TOPIC))
        looking = asyncio.create_task(online.get_by_key(TOPIC, "alice"))
        await asyncio.sleep(0.5)
        called = len(calls)
        await online.stop()

        assert list(await listing) == ["alice"]
        assert (await looking or {}).keys() == {"metas"}
        assert len(calls) == called
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_callback_may_stop_its_presence():
    """A callback that stops what it belongs to is not in its own way."""
    ends: list[str] = []
    store = Store()

    class Stopping(Presence):
        last_seen_store = store

        async def on_join(self, join: Join) -> None:
            await self.stop()
            ends.append("stopped")

    async def play() -> None:
        pubsub = PubSub()
        async with pubsub.running():
            online = Stopping()
            await online.start(pubsub)
            somebody(online, "alice")
            await asyncio.sleep(0.5)

            assert ends == ["stopped"]
            assert store.closed == 1
            with pytest.raises(NotStarted):
                online.count_users(TOPIC)

    run_virtually(play())


def test_a_callback_may_stop_its_endpoint(caplog: pytest.LogCaptureFixture):
    """Nor is one that stops the whole endpoint, which stops the presence in a task of its own."""
    ends: list[float] = []

    class Stopping(Presence):
        async def on_join(self, join: Join) -> None:
            await endpoint.stop()
            ends.append(asyncio.get_running_loop().time())

    endpoint = app(Stopping())

    async def play() -> None:
        await endpoint.start()
        (online,) = endpoint._trackings
        somebody(online, "alice")
        await asyncio.sleep(0.5)

    run_virtually(play())
    assert ends == [0]
    assert caplog.messages == []


@virtually
async def test_a_callback_that_waits_for_itself_is_told_so():
    """``settled`` inside a callback would wait for that callback; it raises instead."""
    errors: list[str] = []

    class Waiting(Presence):
        async def on_join(self, join: Join) -> None:
            try:
                await self.settled()
            except RuntimeError as error:
                errors.append(str(error))

    async with Waiting().running(PubSub()) as online:
        somebody(online, "alice")
        async with asyncio.timeout(5):
            await online.settled()

    assert len(errors) == 1
    assert "wait for itself" in errors[0]


# Policies.


def _raise_policy() -> Any:
    raise LookupError("no policy")


async def _async_policy() -> Any:
    return Policy()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(_raise_policy, id="raises"),
        pytest.param(raise_base, id="raises what is no Exception"),
        pytest.param(lambda: None, id="returns None"),
        pytest.param(_async_policy, id="is async"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_policy_that_fails_loses_no_change(bad: Any, caplog: pytest.LogCaptureFixture):
    """Its topic is told as Phoenix would, the log says why, and other topics know nothing of it."""

    class Picky(Presence):
        fails = False

        def __init__(self) -> None:
            super().__init__()
            self.heard: list[str] = []

        def policy(self, topic: str) -> Policy:
            result: Policy = bad() if self.fails and topic == "room:bad" else Policy()
            return result

        def on_leave(self, leave: Leave) -> None:
            self.heard.append(f"{leave.key} left {leave.topic}")

        def on_join(self, join: Join) -> None:
            self.heard.append(f"{join.key} joined {join.topic}")

    async def play() -> None:
        async with Picky().running(PubSub()) as online:
            owner = asyncio.create_task(asyncio.sleep(1))
            for topic in ("room:0", "room:bad", "room:2"):
                online.track(owner, "alice", {}, topic=topic)
            await asyncio.sleep(0.5)
            # The topics are told and empty where they have an announcer: ask anew for a policy.
            online._current()._announcers.clear()
            online.fails = True
            await asyncio.sleep(1)
            await online.settled()

            assert [online.count_users(topic) for topic in ("room:0", "room:bad", "room:2")] == [
                0,
                0,
                0,
            ]
            assert online.heard[3:] == [
                f"alice left {topic}" for topic in ("room:0", "room:bad", "room:2")
            ]

    run_virtually(play())
    assert "Picky.policy" in caplog.text


# How much waits.


@virtually
async def test_callbacks_that_take_no_time_lose_nothing_of_one_tick():
    """What joins within one tick is told, however much it is: it waits for the tick only."""
    keys: list[str] = []

    class Instant(Presence):
        def on_join(self, join: Join) -> None:
            keys.append(join.key)

    pubsub = PubSub()
    async with Instant().running(pubsub) as online:
        for n in range(callbacks.MAX_WAITING + 2_000):
            somebody(online, str(n))
        await online.settled()

        assert len(keys) == callbacks.MAX_WAITING + 2_000
        assert pubsub.counters["callbacks_full"] == 0


# What callbacks change in their arguments.


@pytest.mark.parametrize("ttl", [0.0, 60.0])
def test_what_handle_metas_changes_is_shown_to_nobody(ttl: float):
    """Its arguments are its own: neither clients nor its later calls see what it did to them."""

    class Changing(Presence):
        fetch_ttl = ttl

        def init(self) -> Any:
            return 0

        async def fetch(self, topic: str, presences: Any) -> Any:
            return {
                key: {**entry, "user": {"name": key, "tags": ["new"]}}
                for key, entry in presences.items()
            }

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            for entry in diff["joins"].values():
                entry["user"]["name"] = "nobody"
                entry["user"]["tags"].append("spoilt")
                for meta in entry["metas"]:
                    meta["spoilt"] = True
                    meta.pop("phx_ref", None)
                entry["metas"].clear()
            for metas in presences.values():
                for meta in metas:
                    meta.clear()

    async def play() -> None:
        online = Changing()
        async with ChannelCase(app(online)) as case:
            room = await join(case)
            alice = lease(online, "alice", n=1)
            await asyncio.sleep(1)
            assert told(room) == ["+alice"]
            presences = (await online.list(TOPIC)).decode()
            assert presences["alice"]["user"] == {"name": "alice", "tags": ["new"]}
            (meta,) = presences["alice"]["metas"]
            assert meta.keys() == {"n", "phx_ref"}
            lease(online, "bob")
            alice.end()
            await asyncio.sleep(1)
            assert told(room) == ["+bob -alice"]

    run_virtually(play())


@virtually
async def test_what_a_reader_changes_in_an_entry_is_shown_to_nobody():
    """An entry of ``get_by_key`` is the caller's, also where fetch may be used again."""

    class Fetched(Presence):
        fetch_ttl = 60.0

        async def fetch(self, topic: str, presences: Any) -> Any:
            return {key: {**entry, "user": {"name": key}} for key, entry in presences.items()}

    async with Fetched().running(PubSub()) as online:
        somebody(online, "alice")
        entry = await online.get_by_key(TOPIC, "alice")
        assert entry is not None
        entry["user"]["name"] = "nobody"
        entry["metas"].clear()

        assert (await online.list(TOPIC))["alice"]["user"] == {"name": "alice"}


# Whatever they raise, or return.


@pytest.mark.parametrize("strange", STRANGE)
def test_a_callback_fails_in_strange_ways(strange: Any, caplog: pytest.LogCaptureFixture):
    """It is logged, and the next is called; a generator function, which runs nothing, as well."""

    class Strange(Presence):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[str] = []

        def on_join(self, join: Join) -> Any:
            self.heard.append(join.key)
            return strange() if join.key == "alice" else None

    async def play() -> None:
        async with Strange().running(PubSub()) as online:
            somebody(online, "alice")
            somebody(online, "bob")
            async with asyncio.timeout(5):
                await online.settled()
            assert online.heard == ["alice", "bob"]

    run_virtually(play())
    assert caplog.text.count("Strange.on_join") == 1


@pytest.mark.parametrize("strange", STRANGE)
def test_a_fetch_fails_in_strange_ways(strange: Any, caplog: pytest.LogCaptureFixture):
    """Presences are listed, and sent in diffs, without fetched data."""

    class Strange(Presence):
        def fetch(self, topic: str, presences: Any) -> Any:
            return strange()

    async def play() -> None:
        online = Strange()
        async with ChannelCase(app(online)) as case:
            room = await join(case)
            lease(online, "alice")
            await asyncio.sleep(1)
            assert told(room) == ["+alice"]
            assert list(await online.list(TOPIC)) == ["alice"]
            assert (await online.get_by_key(TOPIC, "alice") or {}).keys() == {"metas"}

    run_virtually(play())
    assert "Strange.fetch" in caplog.text


@pytest.mark.parametrize("strange", STRANGE[:4])
def test_handle_metas_and_dispatch_fail_in_strange_ways(
    strange: Any, caplog: pytest.LogCaptureFixture
):
    """The next diff is handled and sent."""

    class Strange(Presence):
        calls = 0

        def init(self) -> Any:
            return 0

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            self.calls += 1
            return strange()

        def dispatch(self, subscriptions: Any, message: Any) -> Any:
            if self.calls == 0:
                return strange()
            return super().dispatch(subscriptions, message)

    async def play() -> None:
        online = Strange()
        async with ChannelCase(app(online)) as case:
            room = await join(case)
            lease(online, "alice")
            await asyncio.sleep(1)
            lease(online, "bob")
            await asyncio.sleep(1)
            assert online.calls == 2
            assert told(room) == ["+bob"]

    run_virtually(play())
    assert "Strange.handle_metas" in caplog.text
    assert "Strange.dispatch" in caplog.text


@pytest.mark.parametrize("strange", STRANGE)
def test_a_tracker_fails_in_strange_ways(strange: Any, caplog: pytest.LogCaptureFixture):
    """The next diff is handled."""

    class Strange(Tracker):
        calls = 0

        def handle_diff(self, diff: TrackerDiff) -> Any:
            self.calls += 1
            return strange() if self.calls == 1 else None

    async def play() -> None:
        async with Strange().running(PubSub()) as jobs:
            for key in ("alice", "bob"):
                jobs.track(Lease(jobs, TOPIC, key), key, {}, topic=TOPIC)
            async with asyncio.timeout(5):
                await jobs.settled()
            assert jobs.calls == 2

    run_virtually(play())
    assert "Strange.handle_diff" in caplog.text


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_the_end_of_the_process_is_not_contained(end: type[BaseException]):
    """``sys.exit`` in a callback ends the process, as it does anywhere in asyncio."""

    class Exiting(Presence):
        def on_join(self, join: Join) -> None:
            raise end

    async def play() -> None:
        async with Exiting().running(PubSub()) as online:
            somebody(online, "alice")
            await asyncio.sleep(1)

    with pytest.raises(end):
        run_virtually(play())
    assert sys.version_info >= (3, 11)


@virtually
async def test_the_hook_of_an_encoder_fails_in_strange_ways():
    """Whatever ``encode_hook`` raises, presences are sent without fetched data."""

    class Fetched(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            return {key: {**entry, "user": object()} for key, entry in presences.items()}

    def hook(value: Any) -> Any:
        raise Stubborn

    async with Fetched().running(PubSub(encode_hook=hook)) as online:
        somebody(online, "alice")
        presences = await online.list(TOPIC)

        assert presences["alice"].keys() == {"metas"}
