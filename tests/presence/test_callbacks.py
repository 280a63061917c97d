"""on_join, on_update and on_leave: called in order, contained when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from roost import Channel, Endpoint, Join, Leave, Policy, Presence, PubSub, Socket, Update
from roost.presence.following import callbacks
from roost.testing import ChannelCase
from tests.presence.failures import FAILURES
from tests.presence.somebody import TOPIC, somebody
from tests.virtual_clock import run_virtually, virtually


class Noted(Presence):
    """Notes what its callbacks get."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Join | Update | Leave] = []

    def on_join(self, join: Join) -> Any:
        self.changes.append(join)

    def on_update(self, update: Update) -> Any:
        self.changes.append(update)

    def on_leave(self, leave: Leave) -> Any:
        self.changes.append(leave)

    @property
    def heard(self) -> list[str]:
        """The changes in words."""
        return [_words(change) for change in self.changes]


class SlowlyNoted(Noted):
    """Takes a second for each join and leave; updates are sync."""

    async def on_join(self, join: Join) -> None:
        await asyncio.sleep(1)
        super().on_join(join)

    async def on_leave(self, leave: Leave) -> None:
        await asyncio.sleep(1)
        super().on_leave(leave)


def _words(change: Join | Update | Leave) -> str:
    match change:
        case Join():
            return f"{change.key} came" + (" first" if change.is_first else "")
        case Update():
            return f"{change.key} changed"
        case Leave():
            return f"{change.key} went" + (" last" if change.is_last else "")


# What they get.


@virtually
async def test_each_change_is_told_in_full():
    """Join, update and leave say who, where, with which metas, and at which version."""
    async with Noted().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        alice.update({"n": 2})
        alice.end()
        await online.settled()

        join, update, leave = online.changes
        assert isinstance(join, Join)
        assert isinstance(update, Update)
        assert isinstance(leave, Leave)
        assert [(each.topic, each.key) for each in online.changes] == [(TOPIC, "alice")] * 3
        assert [each.version for each in online.changes] == [1, 2, 3]
        assert join.meta == {"n": 1, "phx_ref": join.meta["phx_ref"]}
        assert update.old_meta == join.meta
        assert update.meta == {
            "n": 2,
            "phx_ref": update.meta["phx_ref"],
            "phx_ref_prev": join.meta["phx_ref"],
        }
        assert leave.meta == update.meta
        assert join.is_first
        assert leave.is_last


@virtually
async def test_the_first_and_the_last_connection_of_a_key_are_known():
    """Of two connections of one key in a topic the first comes first and the last goes last."""
    async with Noted().running(PubSub()) as online:
        phone, laptop = somebody(online, "alice"), somebody(online, "alice")
        elsewhere = somebody(online, "alice", "room:2")
        somebody(online, "bob")
        for each in (phone, laptop, elsewhere):
            each.end()
        await online.settled()

        here = [_words(change) for change in online.changes if change.topic == TOPIC]
        assert here == [
            "alice came first",
            "alice came",
            "bob came first",
            "alice went",
            "alice went last",
        ]
        there = [_words(change) for change in online.changes if change.topic == "room:2"]
        assert there == ["alice came first", "alice went last"]


@virtually
async def test_each_of_them_may_be_left_out():
    """Who defines only one callback hears of nothing else."""

    class Leaves(Presence):
        gone: list[str] = []

        def on_leave(self, leave: Leave) -> None:
            self.gone.append(leave.key)

    async with Leaves().running(PubSub()) as online:
        alice = somebody(online, "alice")
        alice.update({"n": 1})
        somebody(online, "bob")
        alice.end()
        await online.settled()

        assert online.gone == ["alice"]


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Policy(announce=False), id="announces nothing"),
        pytest.param(Policy(counts_above=0), id="counts"),
        pytest.param(Policy(diff_period=60), id="seldom"),
    ],
)
def test_they_do_not_depend_on_what_subscribers_are_told(policy: Policy):
    """Whatever is broadcast, each change is told at the end of its tick, even if it is undone."""

    class Quiet(Noted):
        policies = {"*": policy}

    async def play() -> None:
        async with Quiet().running(PubSub()) as online:
            for _ in range(2):
                somebody(online, "alice").end()
                await asyncio.sleep(0)

            assert online.heard == ["alice came first", "alice went last"] * 2

    run_virtually(play())


@virtually
async def test_who_hides_is_not_told_of():
    """Hiding is a leave and showing a join; what happens in hiding is nothing."""
    async with Noted().running(PubSub()) as online:
        alice = somebody(online, "alice")
        online.hide(alice, "alice", topic=TOPIC)
        alice.update({"n": 1})
        online.show(alice, "alice", topic=TOPIC)
        online.hide(alice, "alice", topic=TOPIC)
        alice.end()
        await online.settled()

        assert online.heard == ["alice came first", "alice went last"] * 2


@virtually
async def test_who_returns_in_time_is_not_told_of():
    """Within the grace nobody left; after it the leave is told."""

    class Patient(Noted):
        policies = {"*": Policy(leave_grace=5.0)}

    async with Patient().running(PubSub()) as online:
        somebody(online, "alice").end()
        await asyncio.sleep(4)
        somebody(online, "alice").end()
        await asyncio.sleep(4)
        assert online.heard == ["alice came first"]

        await asyncio.sleep(2)
        assert online.heard == ["alice came first", "alice went last"]


@virtually
async def test_a_channel_is_an_owner_like_others():
    """Its presences are told of when it joins and when it ends."""
    online = Noted()

    class Room(Channel):
        async def join(self, topic: str, params: Any) -> None:
            online.track(self, "alice", {})
            online.track(self, "bob", {})

    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        room = await case.client(Socket()).join(TOPIC, channel=Room)
        assert online.heard == ["alice came first", "bob came first"]

        await room.close()

        assert online.heard[2:] == ["alice went last", "bob went last"]


# Order.


@virtually
async def test_they_run_after_the_operation():
    """Track returns before anybody hears of it; the presence is listed by then."""
    seen: list[list[str]] = []

    class Looking(Presence):
        async def on_join(self, join: Join) -> None:
            seen.append(list(await self.list(join.topic)))

    async with Looking().running(PubSub()) as online:
        somebody(online, "alice")
        somebody(online, "bob")
        assert seen == []

        await online.settled()

        assert seen == [["alice", "bob"], ["alice", "bob"]]


@pytest.mark.parametrize("kind", [Noted, SlowlyNoted], ids=["sync", "sync and async"])
def test_the_changes_of_a_topic_come_in_order(kind: type[Noted]):
    """One callback ends before the next begins, whether they are sync or async."""

    async def play() -> None:
        async with kind().running(PubSub()) as online:
            alice = somebody(online, "alice")
            bob = somebody(online, "bob")
            alice.update({})
            alice.end()
            bob.update({})
            await online.settled()

            assert online.heard == [
                "alice came first",
                "bob came first",
                "alice changed",
                "alice went last",
                "bob changed",
            ]
            assert [change.version for change in online.changes] == [1, 2, 3, 4, 5]

    run_virtually(play())


@virtually
async def test_an_async_one_holds_up_its_own_topic_only():
    """While a callback of one topic waits, other topics go on."""

    class Stuck(Noted):
        async def on_join(self, join: Join) -> None:
            await asyncio.sleep(60 if join.topic == TOPIC else 1)
            super().on_join(join)

    async with Stuck().running(PubSub()) as online:
        somebody(online, "alice").update({})
        somebody(online, "bob", "room:2").update({})
        somebody(online, "carol", "room:3").update({})
        await asyncio.sleep(2)

        assert online.heard == [
            "bob came first",
            "bob changed",
            "carol came first",
            "carol changed",
        ]
        await asyncio.sleep(60)
        assert online.heard[4:] == ["alice came first", "alice changed"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_a_callback_changes_is_told_behind_what_waits(is_async: bool):
    """A callback may track, update and let leave; its calls do not interrupt it."""

    class Answering(Noted):
        def on_join(self, join: Join) -> Any:
            if join.key == "alice":
                bot = somebody(self, "bot")
                bot.update({"n": 1})
                bot.end()
            super().on_join(join)
            return asyncio.sleep(1) if is_async else None

    async def play() -> None:
        async with Answering().running(PubSub()) as online:
            somebody(online, "alice")
            somebody(online, "bob")
            await online.settled()

            assert online.heard == [
                "alice came first",
                "bob came first",
                "bot came first",
                "bot changed",
                "bot went last",
            ]

    run_virtually(play())


# Failures and bounds.


@pytest.mark.parametrize("fail", FAILURES)
def test_what_one_raises_is_logged_and_the_next_is_called(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    """An error ends its callback alone: neither the tracking, nor the telling, nor the next one."""

    class Wrong(Noted):
        def on_join(self, join: Join) -> Any:
            super().on_join(join)
            return fail() if join.key == "alice" else None

    async def play() -> None:
        async with Wrong().running(PubSub()) as online:
            somebody(online, "alice").update({})
            somebody(online, "bob")
            await online.settled()
            somebody(online, "carol")
            await online.settled()

            assert online.heard == [
                "alice came first",
                "alice changed",
                "bob came first",
                "carol came first",
            ]
            assert online.count_users(TOPIC) == 3

    run_virtually(play())
    assert caplog.text.count("raised, the next is called") == 1
    assert "Wrong.on_join raised, the next is called" in caplog.text


def test_too_many_that_wait_are_dropped_counted_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A topic keeps so many changes for a slow callback and no more; other topics keep theirs."""
    monkeypatch.setattr(callbacks, "MAX_WAITING", 3)
    online = SlowlyNoted()
    pubsub = PubSub()

    async def play() -> None:
        async with online.running(pubsub):
            somebody(online, "alice")
            await asyncio.sleep(0.5)  # its callback runs, and waits no longer
            for key in "abcde":
                somebody(online, key)
            somebody(online, "bob", "room:2")
            await online.settled()
            somebody(online, "carol")
            await online.settled()

    run_virtually(play())
    keys = [change.key for change in online.changes if change.topic == TOPIC]
    assert keys == ["alice", "a", "b", "c", "carol"]
    assert "bob" in [change.key for change in online.changes]
    assert pubsub.counters["callbacks_full"] == 2
    assert caplog.messages == [
        "the callbacks of SlowlyNoted are too slow: dropped 1 changes, the last of 'room:1'"
    ]


def test_ten_thousand_changes_may_wait():
    """The bound that ``on_join`` documents."""
    assert callbacks.MAX_WAITING == 10_000


# Life.


@virtually
async def test_settled_waits_for_them():
    """After settled no callback runs, and none is due, not even for what a callback changed."""

    class Chain(SlowlyNoted):
        async def on_join(self, join: Join) -> None:
            await super().on_join(join)
            if len(join.key) < 3:
                somebody(self, join.key + "i")

    async with Chain().running(PubSub()) as online:
        somebody(online, "a")

        await online.settled()

        assert online.heard == ["a came first", "ai came first", "aii came first"]
        assert asyncio.get_running_loop().time() == 3


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_stop_ends_the_one_that_runs_and_forgets_the_rest(seconds: float):
    """When the presence stops, the callback that runs is cancelled, however far it is."""
    ends: list[str] = []

    class Endless(Presence):
        async def on_join(self, join: Join) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ends.append(join.key)

    async def play() -> None:
        async with Endless().running(PubSub()) as online:
            somebody(online, "alice")
            somebody(online, "bob")
            await asyncio.sleep(seconds)
        assert asyncio.get_running_loop().time() == seconds
        await asyncio.sleep(1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(play())
    assert ends == (["alice"] if seconds else [])


@virtually
async def test_a_stop_tells_of_nobody_who_goes_with_it():
    """The end of the presence is no leave, and who came in its last tick came too late."""
    async with Noted().running(PubSub()) as online:
        alice = somebody(online, "alice")
        await online.settled()
        somebody(online, "bob")
    alice.end()
    await asyncio.sleep(1)

    assert online.heard == ["alice came first"]


@virtually
async def test_a_topic_with_nothing_to_call_takes_no_memory():
    """What is kept for a topic is forgotten with its last callback."""
    async with SlowlyNoted().running(PubSub()) as online:
        for n in range(100):
            somebody(online, "alice", f"room:{n}")
        run_callbacks = online._current()._callbacks
        assert run_callbacks is not None
        assert len(run_callbacks._topics) == 100

        await online.settled()

        assert run_callbacks._topics == {}
