"""handle_metas and init: the application's view of each topic, moved on by each diff."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from roost import Endpoint, Policy, Presence, PubSub
from roost.testing import ChannelCase
from tests.presence.failures import FAILURES
from tests.presence.somebody import TOPIC, somebody
from tests.virtual_clock import run_virtually, virtually


class Call(NamedTuple):
    """What one call of ``handle_metas`` got; the metas by their n."""

    topic: str
    joins: dict[str, list[int]]
    leaves: dict[str, list[int]]
    presences: dict[str, list[int]]
    state: Any


class Metas(Presence):
    """Remembers what ``handle_metas`` gets; the state is how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def init(self) -> Any:
        return 0

    def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
        joins, leaves = (
            {key: _numbers(entry["metas"]) for key, entry in diff[side].items()}
            for side in ("joins", "leaves")
        )
        now = {key: _numbers(metas) for key, metas in presences.items()}
        self.calls.append(Call(topic, joins, leaves, now, state))
        return state + 1


class SlowMetas(Metas):
    """Takes a second for each call, and notes when it began."""

    def __init__(self) -> None:
        super().__init__()
        self.began_at: list[float] = []

    async def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
        self.began_at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        return super().handle_metas(topic, diff, presences, state)


def _numbers(metas: Any) -> list[int]:
    return [meta["n"] for meta in metas]


# State.


@pytest.mark.parametrize("kind", [Metas, SlowMetas])
def test_one_state_goes_from_call_to_call_over_all_topics(kind: type[Metas]):
    """Each call gets what the one before returned, whichever topic that was about."""

    async def play() -> None:
        async with kind().running(PubSub()) as online:
            for topic in ("room:1", "room:2", "room:1"):
                somebody(online, "alice", topic, n=1)
                await online.settled()

            seen = [(call.topic, call.state) for call in online.calls]
            assert seen == [("room:1", 0), ("room:2", 1), ("room:1", 2)]

    run_virtually(play())


@virtually
async def test_a_call_ends_before_the_next_begins_whatever_its_topic():
    """While an async call runs, the diffs of other topics wait for their calls in order."""
    async with SlowMetas().running(PubSub()) as online:
        for topic in ("room:1", "room:2", "room:3"):
            somebody(online, "alice", topic, n=1)
        await online.settled()

        assert online.began_at == [0, 1, 2]
        assert [(call.topic, call.state) for call in online.calls] == [
            ("room:1", 0),
            ("room:2", 1),
            ("room:3", 2),
        ]


@virtually
async def test_none_keeps_the_state():
    """Who returns nothing need not hand the state on."""

    class Silent(Metas):
        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            super().handle_metas(topic, diff, presences, state)

    async with Silent().running(PubSub()) as online:
        for n in range(3):
            somebody(online, "alice", n=n)
            await online.settled()

        assert [call.state for call in online.calls] == [0, 0, 0]


@pytest.mark.parametrize("fail", FAILURES)
def test_a_call_that_raises_is_logged_and_keeps_the_state(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
):
    """Whatever a call raises, the topic's next diff is told and handled, with the same state."""

    class Wrong(Metas):
        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            result = super().handle_metas(topic, diff, presences, state)
            return fail() if state == 1 else result

    async def play() -> None:
        async with Wrong().running(PubSub()) as online:
            for key in ("alice", "bob", "carol"):
                somebody(online, key, n=1)
                await online.settled()

            assert [call.state for call in online.calls] == [0, 1, 1]
            assert online.calls[-1].presences == {"alice": [1], "bob": [1], "carol": [1]}

    run_virtually(play())
    assert "Wrong.handle_metas raised for 'room:1', its state stays" in caplog.text


@virtually
async def test_init_may_be_async_and_gives_each_run_its_first_state():
    """A presence starts when its init has returned; when it starts again, so does the state."""

    class Stored(Metas):
        async def init(self) -> int:
            await asyncio.sleep(1)
            return 100

    online = Stored()
    for _ in range(2):
        began_at = asyncio.get_running_loop().time()
        async with online.running(PubSub()):
            assert asyncio.get_running_loop().time() == began_at + 1
            somebody(online, "alice", n=1)
            await online.settled()

    assert [call.state for call in online.calls] == [100, 100]
    assert [call.presences for call in online.calls] == [{"alice": [1]}, {"alice": [1]}]


@virtually
async def test_an_init_that_raises_lets_nothing_start():
    """Without a first state there is no presence, and the error says why."""

    class Broken(Metas):
        def init(self) -> Any:
            raise LookupError("no database")

    endpoint = Endpoint({}, presences=[Broken()])

    with pytest.raises(LookupError, match="no database"):
        await endpoint.start()

    assert not endpoint.pubsub.is_running


# When it is called.


@pytest.mark.parametrize("kind", [Metas, SlowMetas])
def test_it_is_called_after_the_broadcast(kind: type[Metas]):
    """When a diff is handled, the subscribers have been told of it."""
    order: list[str] = []

    class Ordered(kind):  # type: ignore[valid-type, misc]
        def dispatch(self, subscriptions: Any, message: Any) -> None:
            order.append("told")

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            order.append("handled")
            return super().handle_metas(topic, diff, presences, state)

    async def play() -> None:
        async with Ordered().running(PubSub()) as online:
            online._current().pubsub.subscribe(TOPIC, order.append)
            for key in "ab":
                somebody(online, key, n=1)
                await online.settled()

    run_virtually(play())
    assert order == ["told", "handled"] * 2


@virtually
async def test_it_is_called_where_nobody_subscribed():
    """The server's view needs no clients."""
    async with Metas().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        await online.settled()
        alice.end()
        await online.settled()

        assert online.calls == [
            Call(TOPIC, {"alice": [1]}, {}, {"alice": [1]}, 0),
            Call(TOPIC, {}, {"alice": [1]}, {}, 1),
        ]


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(Policy(announce=False), id="announces nothing"),
        pytest.param(Policy(counts_above=0, count_period=0.05), id="counts"),
        pytest.param(Policy(counts_above=1, count_period=0.05), id="begins to count"),
    ],
)
def test_it_is_called_in_topics_whose_subscribers_get_no_diffs(policy: Policy):
    """What subscribers are told is one thing, what the server sees another."""

    class Quiet(Metas):
        policies = {"*": policy}

    async def play() -> None:
        online = Quiet()
        async with ChannelCase(Endpoint({}, presences=[online])) as case:
            case.endpoint.pubsub.subscribe(TOPIC, lambda message: None)
            alice = somebody(online, "alice", n=1)
            await online.settled()
            somebody(online, "bob", n=2)
            alice.end()
            await online.settled()

        assert online.calls == [
            Call(TOPIC, {"alice": [1]}, {}, {"alice": [1]}, 0),
            Call(TOPIC, {"bob": [2]}, {"alice": [1]}, {"bob": [2]}, 1),
        ]

    run_virtually(play())


@virtually
async def test_a_topic_that_counts_and_stops_counting_is_seen_as_ever():
    """Neither the way to counts nor the way back hides a change, or shows one twice."""

    class Counting(Metas):
        policies = {"*": Policy(counts_above=2)}

    online = Counting()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        case.endpoint.pubsub.subscribe(TOPIC, lambda message: None)
        all_of_them = [somebody(online, key, n=1) for key in "abc"]
        await online.settled()
        for each in all_of_them[1:]:
            each.end()
        somebody(online, "d", n=2)
        all_of_them[0].end()
        await online.settled()

    assert online.calls == [
        Call(TOPIC, {"a": [1], "b": [1], "c": [1]}, {}, {"a": [1], "b": [1], "c": [1]}, 0),
        Call(TOPIC, {"d": [2]}, {"a": [1], "b": [1], "c": [1]}, {"d": [2]}, 1),
    ]


@virtually
async def test_the_next_diff_of_a_topic_waits_for_the_call():
    """What changes while a call runs gathers, is told after it and handled in one call."""
    async with SlowMetas().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        await asyncio.sleep(0.5)
        somebody(online, "bob", n=2)
        await asyncio.sleep(0.2)
        somebody(online, "carol", n=3)
        await online.settled()

        assert online.began_at == [0, 1]
        assert [call.joins for call in online.calls] == [{"alice": [1]}, {"bob": [2], "carol": [3]}]


@virtually
async def test_what_it_changes_is_handled_in_a_later_call():
    """A call may track and let leave; that is another diff."""

    class Answering(Metas):
        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            if "alice" in diff["joins"]:
                somebody(self, "bot", n=0)
            return super().handle_metas(topic, diff, presences, state)

    async with Answering().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        await online.settled()

        assert [call.presences for call in online.calls] == [
            {"alice": [1]},
            {"alice": [1], "bot": [0]},
        ]


@virtually
async def test_settled_waits_for_a_call():
    """After settled no call is running, and none is due."""
    async with SlowMetas().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        await asyncio.sleep(0.1)
        somebody(online, "bob", n=1)

        await online.settled()

        assert len(online.calls) == 2


def test_a_stop_ends_the_call_that_runs(caplog: pytest.LogCaptureFixture):
    """When the presence stops, the call that runs is cancelled and no other one begins."""
    ends: list[str] = []

    class Endless(Metas):
        async def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ends.append(topic)

    async def play() -> None:
        async with Endless().running(PubSub()) as online:
            somebody(online, "alice", n=1)
            somebody(online, "alice", "room:2", n=1)
            await asyncio.sleep(1)
        assert asyncio.get_running_loop().time() == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(play())
    assert ends == [TOPIC]
    assert caplog.messages == []  # it did nothing wrong


@virtually
async def test_an_empty_topic_takes_no_memory():
    """What is kept for a topic is forgotten when nobody is left."""
    async with Metas().running(PubSub()) as online:
        leases = [somebody(online, "alice", f"room:{n}", n=n) for n in range(100)]
        await online.settled()
        metas = online._current().metas
        assert metas is not None
        assert len(metas._topics) == 100

        for lease in leases:
            lease.end()
        await online.settled()

        assert metas._topics == {}


# What it gets.


@virtually
async def test_an_update_puts_the_new_meta_behind_the_others():
    """An update is a join of the new meta and a leave of the old one, and changes the order."""
    async with Metas().running(PubSub()) as online:
        first = somebody(online, "alice", n=1)
        somebody(online, "alice", n=2)
        await online.settled()

        first.update({"n": 3})
        await online.settled()

        assert online.calls[-1] == Call(TOPIC, {"alice": [3]}, {"alice": [1]}, {"alice": [2, 3]}, 1)


@virtually
async def test_who_came_and_left_within_a_period_is_not_seen():
    """Nobody was told of it, and nothing is handled."""
    async with Metas().running(PubSub()) as online:
        somebody(online, "alice", n=1).end()
        await online.settled()

        assert online.calls == []


@virtually
async def test_who_was_listed_between_a_join_and_a_leave_is_not_seen_either():
    """A leave that is only told because of a list is no change of what ``handle_metas`` saw."""
    async with Metas().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        await online.settled()

        bob = somebody(online, "bob", n=2)
        assert "bob" in await online.list(TOPIC)
        bob.end()
        await online.settled()

        assert [call.presences for call in online.calls] == [{"alice": [1]}]

        carol = somebody(online, "carol", n=3)
        carol.update({"n": 4})
        assert "carol" in await online.list(TOPIC)
        carol.update({"n": 5})
        await online.settled()

        assert online.calls[1:] == [
            Call(TOPIC, {"carol": [5]}, {}, {"alice": [1], "carol": [5]}, 1)
        ]


@virtually
async def test_a_state_instead_of_a_diff_is_handled_as_the_diff_that_it_makes():
    """Where a diff would be too long, what changed is found by comparing the states."""

    class Small(Metas):
        max_diff_count = 2

    async with Small().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        bob = somebody(online, "bob", n=2)
        await online.settled()

        alice.end()
        bob.update({"n": 3})
        carol = somebody(online, "carol", n=4)
        await online.settled()

        assert online.calls[-1] == Call(
            TOPIC,
            {"bob": [3], "carol": [4]},
            {"alice": [1], "bob": [2]},
            {"bob": [3], "carol": [4]},
            1,
        )

        for each in (bob, carol, somebody(online, "dave", n=5)):
            each.end()
        await online.settled()

        assert online.calls[-1] == Call(TOPIC, {}, {"bob": [3], "carol": [4]}, {}, 2)


@virtually
async def test_what_changes_while_a_state_is_made_is_handled_once():
    """A state may be ahead of the diff that follows it, which then has nothing new in it."""

    class SmallAndSlow(Metas):
        max_diff_count = 2

        async def fetch(self, topic: str, presences: Any) -> Any:
            await asyncio.sleep(1)
            return presences

    online = SmallAndSlow()
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        case.endpoint.pubsub.subscribe(TOPIC, lambda message: None)
        for key in "abc":
            somebody(online, key, n=1)
        await asyncio.sleep(0.5)
        somebody(online, "d", n=2)
        await online.settled()

    assert [call.joins.keys() for call in online.calls] == [set("abcd")]


@virtually
async def test_it_gets_presences_as_fetched():
    """What fetch adds to an entry is in the diff, what it adds to the metas in both."""
    diffs: list[Any] = []
    seen: list[Any] = []

    class Named(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            await asyncio.sleep(0.1)
            return {
                key: {
                    "name": key.title(),
                    "metas": [{**meta, "twice": meta["n"] * 2} for meta in entry["metas"]],
                }
                for key, entry in presences.items()
            }

        def init(self) -> Any:
            return {}

        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> None:
            diffs.append(diff)
            seen.append({key: list(metas) for key, metas in presences.items()})

    async with Named().running(PubSub()) as online:
        lease = somebody(online, "alice", n=1)
        await online.settled()
        (bare,) = online._current().tracker.get_by_key(TOPIC, "alice")
        meta = {"n": 1, "phx_ref": bare.ref, "twice": 2}
        entry = {"name": "Alice", "metas": [meta]}
        lease.end()
        await online.settled()

    assert diffs == [
        {"joins": {"alice": entry}, "leaves": {}},
        {"joins": {}, "leaves": {"alice": entry}},
    ]
    assert seen == [{"alice": [meta]}, {}]


@virtually
async def test_metas_are_the_same_by_their_ref_however_fetch_decorates_them():
    """A meta that is fetched differently when it leaves is removed all the same."""

    class Ageing(Metas):
        fetched = 0

        def fetch(self, topic: str, presences: Any) -> Any:
            self.fetched += 1
            for entry in presences.values():
                for meta in entry["metas"]:
                    meta["age"] = self.fetched
            return presences

    async with Ageing().running(PubSub()) as online:
        alice = somebody(online, "alice", n=1)
        somebody(online, "alice", n=2)
        await online.settled()
        alice.end()
        await online.settled()

        assert online.fetched == 2
        assert online.calls[-1].presences == {"alice": [2]}


@virtually
async def test_whom_fetch_leaves_out_is_not_seen():
    """A key that fetch hides from clients is hidden here, too, when it comes and when it goes."""

    class Discreet(Metas):
        def fetch(self, topic: str, presences: Any) -> Any:
            return {key: entry for key, entry in presences.items() if key != "spy"}

    async with Discreet().running(PubSub()) as online:
        spy = somebody(online, "spy", n=1)
        somebody(online, "alice", n=2)
        await online.settled()
        spy.end()
        await online.settled()

        assert online.calls == [Call(TOPIC, {"alice": [2]}, {}, {"alice": [2]}, 0)]


@virtually
async def test_topics_do_not_mix():
    """Each call has the presences of its topic; who returns to an empty one is alone there."""
    async with Metas().running(PubSub()) as online:
        somebody(online, "alice", "room:1", n=1)
        bob = somebody(online, "bob", "room:2", n=2)
        await online.settled()
        bob.end()
        await online.settled()
        somebody(online, "carol", "room:2", n=3)
        await online.settled()

        assert [(call.topic, call.presences) for call in online.calls] == [
            ("room:1", {"alice": [1]}),
            ("room:2", {"bob": [2]}),
            ("room:2", {}),
            ("room:2", {"carol": [3]}),
        ]


@virtually
async def test_the_presences_are_to_be_read():
    """The view of a topic can't be changed, since the next call builds on it."""

    class Meddling(Metas):
        def handle_metas(self, topic: str, diff: Any, presences: Any, state: Any) -> Any:
            with pytest.raises(TypeError):
                presences["bob"] = []
            return super().handle_metas(topic, diff, presences, state)

    async with Meddling().running(PubSub()) as online:
        somebody(online, "alice", n=1)
        await online.settled()

        assert [call.presences for call in online.calls] == [{"alice": [1]}]
