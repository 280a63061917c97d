"""Policies: what a topic's subscribers are told, how often, and who may be in it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import pytest

from roost import (
    Channel,
    Join,
    JoinRefused,
    Leave,
    Policy,
    Presence,
    PubSub,
    Snapshot,
    TopicFull,
    Update,
    event,
    intercept,
)
from roost.exceptions import ConfigurationError, NotTracked
from roost.presence import Lease
from roost.presence.notifying import fetch as fetching
from roost.testing import ChannelCase, JoinedCase
from tests.presence.scenes import TOPIC, Listener, app, join, lease, told, told_of
from tests.virtual_clock import virtually


def make_online(policy: Policy, **attributes: Any) -> Presence:
    """A presence with one policy for all topics."""
    online: Presence = type("Online", (Presence,), {"policies": {"*": policy}, **attributes})()
    return online


def now() -> float:
    return asyncio.get_running_loop().time()


async def told_after(room: JoinedCase, seconds: float) -> list[str]:
    await asyncio.sleep(seconds)
    return told(room)


# The values.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"diff_period": -0.1}, "diff_period must be a number of seconds, got -0.1"),
        ({"diff_period": math.nan}, "diff_period must be a number of seconds, got nan"),
        ({"count_period": math.inf}, "count_period must be a number of seconds, got inf"),
        ({"leave_grace": -1}, "leave_grace must be a number of seconds, got -1"),
        ({"counts_above": -1}, "counts_above must not be negative, got -1"),
        ({"max_members": 0}, "max_members must be at least 1, got 0"),
        ({"keep_metas": False}, "keep_metas=False leaves nothing to list"),
        ({"keep_metas": False, "counts_above": 1}, "keep_metas=False leaves nothing to list"),
    ],
)
def test_values_that_cannot_work_are_refused(fields: dict[str, Any], reason: str):
    """Each with the reason, and before anything runs."""
    with pytest.raises(ConfigurationError) as caught:
        Policy(**fields)
    assert reason in str(caught.value)


def test_values_at_the_bounds_work():
    """Zeros are values, and the two ways not to list anybody need no metas."""
    Policy(diff_period=0, count_period=0, leave_grace=0, counts_above=0, max_members=1)
    Policy(keep_metas=False, counts_above=0)
    Policy(keep_metas=False, announce=False)


def test_a_policy_stays_as_it_is():
    """It is a value: equal to its like, and nobody changes it."""
    policy = Policy(leave_grace=5.0)
    assert policy == Policy(leave_grace=5.0) != Policy()
    with pytest.raises(AttributeError):
        policy.leave_grace = 6.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bound", "goes_over_at", "goes_back_at"),
    [(1, 2, 0), (4, 5, 3), (10, 11, 7), (1000, 1001, 750)],
)
def test_a_topic_goes_back_at_three_quarters(bound: int, goes_over_at: int, goes_back_at: int):
    """Between the two bounds it stays as it is."""
    policy = Policy(counts_above=bound)
    for members in range(2 * bound):
        assert policy.counts(members, is_counting=False) is (members >= goes_over_at)
        assert policy.counts(members, is_counting=True) is (members > goes_back_at)


# Whose policy it is.


class Patterned(Presence):
    policies = {
        "room:lobby": Policy(max_members=1),
        "room:*": Policy(max_members=2),
        "room:vip": Policy(max_members=3),
        "news": Policy(max_members=4),
    }


@pytest.mark.parametrize(
    ("topic", "max_members"),
    [("room:lobby", 1), ("room:1", 2), ("room:vip", 2), ("news", 4), ("news:1", None), ("x", None)],
)
def test_the_first_pattern_that_matches_wins(topic: str, max_members: int | None):
    """In the order of the declaration; a topic that none matches has the default."""
    assert Patterned().policy(topic) == Policy(max_members=max_members)


def test_subclasses_inherit_policies_or_have_their_own():
    """As any attribute of a class."""

    class Same(Patterned):
        pass

    class Other(Patterned):
        policies = {"*": Policy(max_members=9)}

    assert Same().policy("news").max_members == 4
    assert Other().policy("news").max_members == 9
    assert Patterned().policy("news").max_members == 4


def test_a_wrong_pattern_is_refused_with_its_class():
    """A star belongs at the end."""
    with pytest.raises(ConfigurationError, match="must end with"):
        type("Wrong", (Presence,), {"policies": {"room:*:x": Policy()}})


@virtually
async def test_code_may_decide_the_policy():
    """An override is asked for a topic when its first presence comes, and again when all left."""

    class Decided(Presence):
        size = 1

        def policy(self, topic: str) -> Policy:
            return Policy(max_members=self.size)

    online = Decided()
    async with online.running(PubSub()):
        alice = lease(online, "alice")
        with pytest.raises(TopicFull):
            lease(online, "bob")
        online.size = 2
        with pytest.raises(TopicFull):
            lease(online, "bob")
        lease(online, "alice", "room:2")
        lease(online, "bob", "room:2")
        alice.end()
        await asyncio.sleep(1)
        lease(online, "alice")
        lease(online, "bob")
        assert online.count_users(TOPIC) == online.count_users("room:2") == 2


@virtually
async def test_a_policy_may_look_at_who_is_online():
    """What it reads is right, then and later."""

    class Looking(Presence):
        def policy(self, topic: str) -> Policy:
            self.online(["alice"])
            return Policy()

    online = Looking()
    async with online.running(PubSub()):
        alice = lease(online, "alice")
        assert online.online(["alice"]) == {"alice"}
        alice.end()
        assert online.online(["alice"]) == set()


# diff_period.


@virtually
async def test_without_a_period_each_tick_has_its_diff():
    """What changes in one tick goes out together at its end, and the next tick has the next."""
    online = make_online(Policy(diff_period=0))
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        began_at = now()
        for number in range(3):
            lease(online, f"a{number}")
            lease(online, f"b{number}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert told(alice) == [f"+a{number} +b{number}"]
        assert now() == began_at


@virtually
async def test_a_long_period_joins_what_changes_in_it():
    """The first change is told at once, the rest of the second in one diff at its end."""
    online = make_online(Policy(diff_period=1.0))
    async with ChannelCase(app(online)) as case:
        alice = await join(case)
        visitor = lease(online, "visitor")
        assert await told_after(alice, 0.1) == ["+visitor"]
        for key in "abcde":
            lease(online, key)
            await asyncio.sleep(0.1)
        visitor.end()
        assert await told_after(alice, 0.39) == []
        assert await told_after(alice, 0.02) == ["+a +b +c +d +e -visitor"]

        await asyncio.sleep(5)
        lease(online, "f")
        assert told(alice) == []
        assert await told_after(alice, 0.01) == ["+f"]


@virtually
async def test_each_topic_has_its_own_period():
    """A slow topic does not hold up a fast one."""

    class Two(Presence):
        policies = {"slow:*": Policy(diff_period=10.0)}

    online = Two()
    async with ChannelCase(app(online)) as case:
        slow, fast = await join(case, topic="slow:1"), await join(case)
        for key in "ab":
            lease(online, key, "slow:1")
            lease(online, key)
            await asyncio.sleep(0.01)
        assert (await told_after(slow, 9.9), told(fast)) == (["+a"], ["+a", "+b"])
        assert await told_after(slow, 0.1) == ["+b"]


# announce.


class Quiet(Presence):
    """Tells subscribers nothing, and notes down what it is told itself."""

    policies = {"*": Policy(announce=False)}
    max_diff_count = 3

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def on_join(self, join: Join) -> None:
        self.noted.append(f"+{join.key}")

    def on_update(self, update: Update) -> None:
        self.noted.append(f"~{update.key}")

    def on_leave(self, leave: Leave) -> None:
        self.noted.append(f"-{leave.key}")

    def init(self) -> int:
        return 0

    def handle_metas(
        self, topic: str, diff: Mapping[str, Any], presences: Mapping[str, Any], state: int
    ) -> None:
        self.noted.append(" ".join(["metas", *sorted(presences)]))


@virtually
async def test_a_quiet_topic_tells_subscribers_nothing():
    """Lists, callbacks, ``handle_metas`` and watches work as ever."""
    online = Quiet()
    async with ChannelCase(app(online)) as case, online.watch(TOPIC) as watch:
        alice = await join(case)
        plain = case.endpoint.subscribe(TOPIC, lambda broadcast: online.noted.append("told"))
        assert isinstance(await anext(watch), Snapshot)
        bob = lease(online, "bob")
        await online.settled()
        bob.update({"n": 1})
        await online.settled()
        bob.end()
        await online.settled()

        assert online.noted == ["+bob", "metas bob", "~bob", "metas bob", "-bob", "metas"]
        kinds = [type(await anext(watch)) for _ in range(3)]
        assert kinds == [Join, Update, Leave]
        for key in "abcdef":  # too many for a diff
            lease(online, key)
        await asyncio.sleep(10)
        assert online.noted[-1] == "metas a b c d e f"
        assert len(await online.list(TOPIC)) == online.count_users(TOPIC) == 6
        assert told(alice) == []
        case.endpoint.unsubscribe(plain)


@virtually
async def test_a_quiet_topic_gives_lists_to_those_who_ask():
    """Enter and ``push_state`` push the list; nothing follows."""
    online = Quiet()
    async with ChannelCase(app(online)) as case:
        lease(online, "alice")
        bob = await join(case, enterer(online), key="bob")
        carol = await join(case, asker(online))
        assert await told_after(bob, 1) == ["state alice bob"]
        assert told(carol) == ["state alice bob"]
        lease(online, "dave")
        assert await told_after(bob, 1) == told(carol) == []


@virtually
async def test_a_quiet_topic_that_counts_is_quiet():
    """Those who ask get the count, and nobody is told of another."""
    online = make_online(Policy(announce=False, counts_above=2, keep_metas=False))
    async with ChannelCase(app(online)) as case:
        listener, member = await join(case), await join(case, enterer(online), key="a")
        for key in "bc":
            lease(online, key)
        await asyncio.sleep(5)
        late = await join(case, asker(online))
        assert await told_after(late, 5) == ["count 3/3", "state"]
        assert told(member) == ["state a"]
        assert told(listener) == []


# counts_above: the kinds of clients.


def enterer(online: Presence) -> type[Channel]:
    """A channel that enters under the key of its params."""

    class Enterer(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            await online.enter(self, self.assigns["key"], {})

    return Enterer


def asker(online: Presence) -> type[Channel]:
    """A channel that tracks nobody, and asks for the list."""

    class Asker(Channel):
        async def after_join(self) -> None:
            await online.push_state(self)

        @event("ask")
        async def ask(self, payload: Any) -> None:
            await online.push_state(self)

    return Asker


def phoenix(online: Presence) -> type[Channel]:
    """A channel in the order of Phoenix's documentation: track, then push the list."""

    class Tutorial(Channel):
        async def join(self, topic: str, params: Any) -> None:
            self.assigns.update(params)

        async def after_join(self) -> None:
            online.track(self, self.assigns["key"], {})
            self.push("presence_state", await online.list(self))

    return Tutorial


def interceptor(online: Presence) -> type[Channel]:
    """A channel that sees diffs first and pushes them itself; it enters, too."""

    class Interceptor(enterer(online)):  # type: ignore[misc]
        @intercept("presence_diff")
        def handle_diff(self, diff: Any) -> None:
            self.push("presence_diff", diff)

    return Interceptor


COUNTING = Policy(counts_above=4)

KINDS = {"enters": enterer, "asks": asker, "as Phoenix": phoenix, "intercepts": interceptor}


async def crowd(online: Presence, count: int, first: int = 0) -> list[Lease]:
    """So many members, told already."""
    leases = [lease(online, f"user-{number}") for number in range(first, first + count)]
    await online.settled()
    return leases


@pytest.mark.parametrize("kind", KINDS)
@virtually
async def test_a_topic_that_grows_tells_counts(kind: str):
    """Going over, a client gets the count and an empty list; then counts instead of diffs."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        await crowd(online, 2)
        client = await join(case, KINDS[kind](online), key="user-0")
        connections = online.count_connections(TOPIC)
        lines = await told_after(client, 1)
        assert lines[0].startswith("state user-0")

        lease(online, "a")
        lease(online, "b")
        assert await told_after(client, 1) == ["+a +b"]
        lease(online, "c")
        assert await told_after(client, 0.01) == [f"count 5/{connections + 3}", "state"]
        lease(online, "d").update({})
        lease(online, "c").update({})
        assert await told_after(client, 0.98) == []
        assert await told_after(client, 0.02) == [f"count 6/{connections + 5}"]


@pytest.mark.parametrize("kind", KINDS)
@virtually
async def test_a_topic_that_shrinks_tells_its_list_again(kind: str):
    """Going back, a client gets the list, and then diffs."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        members = await crowd(online, 6)
        client = await join(case, KINDS[kind](online), key="user-0")
        lines = await told_after(client, 5)
        assert lines[:2] == [f"count 6/{online.count_connections(TOPIC)}", "state"]
        assert set(lines) == set(lines[:2])

        for member in members[-2:]:
            member.end()
        assert await told_after(client, 5) == [f"count 4/{online.count_connections(TOPIC)}"]
        members[3].end()
        (state,) = await told_after(client, 5)
        assert state.split()[0] == "state"
        assert [key.split("×")[0] for key in state.split()[1:]] == ["user-0", "user-1", "user-2"]
        lease(online, "a")
        assert await told_after(client, 5) == ["+a"]
        lease(online, "b")
        assert (await told_after(client, 5))[-1] == "state"


@pytest.mark.parametrize("kind", KINDS)
@virtually
async def test_who_comes_to_a_topic_that_counts_gets_the_count(kind: str):
    """It is the count with the newcomer in it, and an empty list in place of the list."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        await crowd(online, 8)
        others = await join(case)
        await asyncio.sleep(5)
        assert told(others) == []

        client = await join(case, KINDS[kind](online), key="newcomer")
        users = online.count_users(TOPIC)
        assert users == 8 + (kind != "asks")

        lines = await told_after(client, 5)
        assert lines[:2] == [f"count {users}/{users}", "state"]
        assert set(lines[2:]) <= {f"count {users}/{users}"}
        assert told(others) == ([] if kind == "asks" else [f"count {users}/{users}"])


@pytest.mark.parametrize("kind", KINDS)
@virtually
async def test_who_makes_it_too_many_gets_the_count_too(kind: str):
    """The client whose own join takes the topic over ends with the count and an empty list."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        await crowd(online, 4 if kind != "asks" else 5)
        others = await join(case)
        client = await join(case, KINDS[kind](online), key="newcomer")

        lines = await told_after(client, 5)

        assert lines[-2:] == ["count 5/5", "state"]
        assert told(others) == ([] if kind == "asks" else ["count 5/5", "state"])


@virtually
async def test_who_only_subscribes_is_told_the_same():
    """A channel without a list of its own, and a function, get counts, states and diffs.

    The channel's first state goes twice, as always after diffs.
    """
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        received: list[Any] = []
        plain = case.endpoint.subscribe(TOPIC, received.append)
        listener = await join(case)

        await crowd(online, 2)
        members = await crowd(online, 4, first=2)
        for member in members:
            member.end()
        await asyncio.sleep(5)

        lines = ["+user-0 +user-1", "count 6/6", "state", "state user-0 user-1"]
        assert told_of(received) == lines
        lines.insert(3, "state")  # its client may hold back the diff until its first state
        assert told(listener) == lines
        case.endpoint.unsubscribe(plain)


@virtually
async def test_a_channel_may_intercept_counts():
    """Then it gets them in place of its client."""
    online = make_online(Policy(counts_above=0))
    counts: list[Any] = []

    class Intercepting(Listener):
        @intercept("presence_count")
        def handle_count(self, count: Any) -> None:
            counts.append(count)

    async with ChannelCase(app(online)) as case:
        room = await join(case, Intercepting)
        lease(online, "alice")
        await asyncio.sleep(1)
        assert counts == [{"users": 1, "connections": 1}]
        assert told(room) == ["state"] * 0


@virtually
async def test_the_events_may_have_other_names():
    """For clients that use others, as ``state_event`` and ``diff_event`` do."""
    online = make_online(Policy(counts_above=1), count_event="crowd", state_event="people")
    async with ChannelCase(app(online)) as case:
        alice = await join(case, enterer(online), key="alice")
        await alice.assert_push("people", {"alice": {}})
        lease(online, "bob")
        await alice.assert_push("crowd", {"users": 2, "connections": 2})
        await alice.assert_push("people", {})


# counts_above: when.


@virtually
async def test_a_topic_at_the_bound_does_not_change_its_mind():
    """It counts until three quarters are left, and lists until there are more than the bound."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        members = await crowd(online, 5)
        assert await told_after(client, 5) == ["count 5/5", "state"]
        lines = []
        for _ in range(3):
            members.pop().end()
            lines += await told_after(client, 5)
            members += await crowd(online, 1, first=9)
            lines += await told_after(client, 5)
        assert lines == ["count 4/4", "count 5/5"] * 3

        members.pop().end()
        members.pop().end()
        assert await told_after(client, 5) == ["state user-0 user-1 user-2"]
        members += await crowd(online, 1, first=9)
        members.pop().end()
        assert await told_after(client, 5) == ["+user-9", "-user-9"]


@virtually
async def test_connections_do_not_make_a_crowd():
    """It is members that count, whatever their connections."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        for _ in range(20):
            lease(online, "alice")
        assert await told_after(client, 5) == ["+alice×20"]


@virtually
async def test_a_count_that_did_not_change_is_not_told():
    """Who comes and goes within a period, or changes, changes no count."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        members = await crowd(online, 5)
        assert await told_after(client, 0.5) == ["count 5/5", "state"]

        members[0].update({"n": 1})
        lease(online, "visitor").end()
        members[1].end()
        lease(online, "another")
        assert await told_after(client, 5) == []

        lease(online, "another")
        assert await told_after(client, 5) == ["count 5/6"]


@virtually
async def test_a_topic_that_counts_again_tells_the_count_again():
    """Whoever was shown a list meanwhile knows no count, also if it is the one of before."""
    online = make_online(Policy(counts_above=2))
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        lease(online, "alice")
        assert await told_after(client, 5) == ["+alice"]
        for states in (["state", "state"], ["state"]):  # its first state settles the diff before
            others = [lease(online, key) for key in ("bob", "carol")]
            assert await told_after(client, 5) == ["count 3/3", *states]

            for each in others:
                each.end()
            assert await told_after(client, 5) == ["state alice"]


@virtually
async def test_a_count_that_one_client_knows_alone_is_not_that_of_all():
    """Who comes is told the count of then, which may be another one than the others are told."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        await crowd(online, 5)
        listener = await join(case)
        await asyncio.sleep(5)
        lease(online, "alice")
        await asyncio.sleep(0.1)
        bob = lease(online, "bob")  # is counted when the period is over
        client = await join(case, asker(online))
        await asyncio.sleep(0.1)
        assert told(client) == ["count 7/7", "state"]
        bob.end()
        await asyncio.sleep(5)

        assert told(client) == ["count 6/6"]
        assert told(listener)[-1] == "count 6/6"


@virtually
async def test_counts_keep_their_period():
    """The first change after a pause is told at once, and then one count for each period."""
    online = make_online(Policy(counts_above=0, count_period=10.0))
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        times: list[float] = []
        watching = case.endpoint.subscribe(TOPIC, lambda count: times.append(now()))
        for number in range(250):
            lease(online, f"user-{number}")
            await asyncio.sleep(0.1)
        assert times == pytest.approx([0.0, 10.0, 20.0])
        assert len(told(client)) == 3
        await asyncio.sleep(4.99)
        assert told(client) == []
        assert await told_after(client, 0.02) == ["count 250/250"]
        case.endpoint.unsubscribe(watching)


@virtually
async def test_without_a_period_each_tick_has_its_count():
    """``count_period=0`` tells every change that a tick ends with."""
    online = make_online(Policy(counts_above=0, count_period=0))
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        for number in range(1, 4):
            lease(online, f"a{number}")
            lease(online, f"a{number}")
            assert await told_after(client, 0.001) == [f"count {number}/{2 * number}"]


@virtually
async def test_a_topic_that_always_counts_has_no_lists():
    """``counts_above=0``: a count and an empty list, from nobody on and back to nobody."""
    online = make_online(Policy(counts_above=0))
    async with ChannelCase(app(online)) as case:
        client = await join(case, asker(online))
        assert await told_after(client, 5) == ["count 0/0", "state"]
        bob = lease(online, "bob")
        assert await told_after(client, 5) == ["count 1/1"]
        bob.end()
        assert await told_after(client, 5) == ["count 0/0"]
        member = await join(case, enterer(online), key="alice")
        assert await told_after(client, 5) == ["count 1/1"]
        lines = told(member)
        assert lines[:2] == ["count 1/1", "state"]
        assert set(lines[2:]) <= {"count 1/1"}


@virtually
async def test_everybody_leaves_a_topic_that_counts():
    """An empty topic lists: what is told is an empty list, and the next to come is a diff."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        client = await join(case)
        members = await crowd(online, 5)
        assert await told_after(client, 5) == ["count 5/5", "state"]
        for member in members:
            member.end()
        assert await told_after(client, 5) == ["state"]
        lease(online, "alice")
        assert await told_after(client, 5) == ["+alice"]


@virtually
async def test_who_asks_again_after_the_topic_went_back_gets_the_list():
    """Asking is answered by what the topic is at that moment."""
    online = make_online(COUNTING)
    async with ChannelCase(app(online)) as case:
        members = await crowd(online, 5)
        client = await join(case, asker(online))
        assert await told_after(client, 5) == ["count 5/5", "state"]
        for member in members[2:]:
            member.end()
        client.push("ask")
        lines = await told_after(client, 5)
        assert lines
        assert set(lines) == {"state user-0 user-1"}


@virtually
async def test_counting_fetches_nobody():
    """Where no list is told, none is fetched, for nobody's join and for no diff."""
    calls: list[int] = []

    def fetch(self: Presence, topic: str, presences: Any) -> Any:
        calls.append(len(presences))
        return presences

    online = make_online(COUNTING, fetch=fetch)
    async with ChannelCase(app(online)) as case:
        await crowd(online, 5)
        client = await join(case, enterer(online), key="alice")
        lease(online, "bob")
        await asyncio.sleep(5)
        assert told(client)[:2] == ["count 6/6", "state"]
        assert calls == []
        assert len(await online.list(TOPIC)) == 7  # the server may ask
        assert calls == [7]


@virtually
async def test_a_topic_that_grows_during_a_fetch_tells_no_list_of_then():
    """A list or diff that comes back when the topic counts is not told any more."""

    async def fetch(self: Presence, topic: str, presences: Any) -> Any:
        await asyncio.sleep(1)
        return presences

    online = make_online(COUNTING, fetch=fetch)
    async with ChannelCase(app(online)) as case:
        listener = await join(case)
        lease(online, "a")  # its diff takes a second
        client = await join(case, asker(online))  # so does the list
        await asyncio.sleep(0.5)
        await asyncio.gather(*(join(case, enterer(online), key=key) for key in "bcde"))

        lines = await told_after(client, 5)
        assert lines[:2] == ["count 5/5", "state"]
        assert set(lines[2:]) <= {"count 5/5", "state"}
        assert told(listener) == ["count 5/5", "state"]


@virtually
async def test_a_topic_that_shrinks_during_a_fetch_tells_no_diff_of_then():
    """A diff that is fetched for ``handle_metas`` alone is not told when the topic counts no more.

    Clients hold an empty list until then: what they need is the list that follows.
    """

    async def fetch(self: Presence, topic: str, presences: Any) -> Any:
        await asyncio.sleep(1)
        return presences

    async def handle_metas(
        self: Presence, topic: str, diff: Any, presences: Any, state: Any
    ) -> None:
        pass

    online = make_online(COUNTING, fetch=fetch, handle_metas=handle_metas, init=lambda self: None)
    async with ChannelCase(app(online)) as case:
        client = await join(case, enterer(online), key="alice")
        members = await crowd(online, 4)
        await asyncio.sleep(5)
        members.pop().end()
        await asyncio.sleep(5)
        assert told(client)[-1] == "count 4/4"

        members[0].update({"n": 1})  # it is fetched for a second
        await asyncio.sleep(0.5)
        members[1].end()
        await asyncio.sleep(0)
        await join(case, asker(online))  # the topic goes back to its list at once

        assert await told_after(client, 5) == ["state alice user-0 user-2"]


@virtually
async def test_handle_metas_hears_of_a_topic_that_counts():
    """The server's own view is kept through counting and back."""

    class Handling(Presence):
        policies = {"*": COUNTING}
        max_diff_count = 3

        def __init__(self) -> None:
            super().__init__()
            self.known: list[str] = []

        def init(self) -> int:
            return 0

        def handle_metas(
            self, topic: str, diff: Mapping[str, Any], presences: Mapping[str, Any], state: int
        ) -> None:
            self.known = sorted(presences)

    online = Handling()
    async with ChannelCase(app(online)) as case:
        await join(case)
        members: list[Lease] = []
        for count in (1, 2, 4, 1):  # some of them too many for a diff
            members += await crowd(online, count, first=len(members))
            await online.settled()
            assert online.known == [f"user-{number}" for number in range(len(members))]
        while members:
            members.pop().end()
            await online.settled()
            assert online.known == [f"user-{number}" for number in range(len(members))]


# keep_metas.


@pytest.mark.parametrize(
    "policy", [Policy(keep_metas=False, counts_above=0), Policy(keep_metas=False, announce=False)]
)
@virtually
async def test_a_topic_may_keep_no_metas(policy: Policy):
    """Nothing but keys and refs is kept; an update has nothing to do."""
    online = make_online(policy)
    async with online.running(PubSub()):
        bob = Lease(online, TOPIC, "bob")
        ref = online.track(bob, "bob", {"device": "phone"}, topic=TOPIC)

        assert await online.list(TOPIC) == {"bob": {"metas": [{"phx_ref": ref}]}}
        assert bob.update({"device": "laptop"}) == ref
        assert bob.update(lambda meta: 1 / 0) == ref  # type: ignore[arg-type, return-value]
        assert await online.list(TOPIC) == {"bob": {"metas": [{"phx_ref": ref}]}}
        with pytest.raises(NotTracked):
            online.update(bob, "carol", {}, topic=TOPIC)
        hidden_ref = online.hide(bob, "bob", topic=TOPIC)
        assert online.list_hidden(TOPIC) == {"bob": {"metas": [{"phx_ref": hidden_ref}]}}


# max_members.


SMALL = Policy(max_members=2)


@virtually
async def test_a_full_topic_admits_no_further_member():
    """Further connections of its members it does; when one is gone, there is room again."""
    online = make_online(SMALL)
    async with online.running(PubSub()):
        alice, again = lease(online, "alice"), lease(online, "alice")
        bob = lease(online, "bob")
        with pytest.raises(TopicFull) as caught:
            lease(online, "carol")
        error = caught.value
        assert (error.topic, error.key, error.max_members) == (TOPIC, "carol", 2)
        assert online.count_connections(TOPIC) == 3
        lease(online, "carol", "room:2")

        alice.end()
        with pytest.raises(TopicFull):
            lease(online, "carol")
        again.end()
        carol = lease(online, "carol")
        with pytest.raises(TopicFull):
            lease(online, "alice")
        bob.update({"n": 1})
        carol.end()
        lease(online, "alice")


@virtually
async def test_a_join_that_is_too_much_is_refused():
    """Tracked in ``join``, the client is told why, and nothing is left of it."""
    online = make_online(SMALL)

    class Room(Channel):
        async def join(self, topic: str, params: Any) -> None:
            online.track(self, params["key"], {})

    async with ChannelCase(app(online)) as case:
        alice = await join(case, Room, key="alice")
        await join(case, Room, key="bob")
        with pytest.raises(JoinRefused) as caught:
            await join(case, Room, key="carol")
        assert caught.value.payload == {"reason": "full", "max_members": 2}
        assert online.count_users(TOPIC) == 2
        await join(case, Room, key="bob")

        alice.leave()
        await alice.assert_closed()
        await join(case, Room, key="carol")
        assert sorted(await online.list(TOPIC)) == ["bob", "carol"]


@virtually
async def test_an_event_that_is_too_much_has_an_error_reply():
    """Tracked in a handler, the client is told why, and its channel goes on."""
    online = make_online(SMALL)

    class Room(Channel):
        @event("sit down")
        def sit_down(self, payload: Any) -> dict[str, Any]:
            online.track(self, payload["key"], {})
            return {}

    async with ChannelCase(app(online)) as case:
        room = await join(case, Room)
        for key in ("alice", "bob"):
            await room.assert_reply(room.push("sit down", {"key": key}), "ok")
        reply = await room.assert_reply(room.push("sit down", {"key": "carol"}), "error")
        assert reply == {"reason": "full", "max_members": 2}
        online.untrack(room.channel, "bob")
        await room.assert_reply(room.push("sit down", {"key": "carol"}), "ok")


@virtually
async def test_an_enter_that_is_too_much_ends_the_channel(caplog: pytest.LogCaptureFixture):
    """After the join it is too late to refuse: the client is told that its channel crashed."""
    online = make_online(SMALL)
    room = enterer(online)
    async with ChannelCase(app(online)) as case:
        for key in ("alice", "bob"):
            await join(case, room, key=key)
        carol = await join(case, room, key="carol")
        await carol.assert_errored()
        assert told(carol) == []
        assert sorted(await online.list(TOPIC)) == ["alice", "bob"]
    assert "raise Policy.max_members" in caplog.text


# fetch_ttl.


class Fetched(Presence):
    """Presences whose fetch counts its calls.

    Attributes:
        calls: Whom each call was about: key → how many metas.
        error: Raised by the next call.
    """

    fetch_ttl = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.error: Exception | None = None

    async def fetch(self, topic: str, presences: Any) -> Any:
        self.calls.append(" ".join(sorted(presences)))
        await asyncio.sleep(0.1)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        number = len(self.calls)
        return {key: {**entry, "call": number} for key, entry in presences.items()}


def calls_of(presences: Mapping[str, Any]) -> dict[str, int | None]:
    """Key → the number of the call that made it; None if it is bare."""
    return {key: entry.get("call") for key, entry in presences.items()}


@virtually
async def test_what_was_fetched_is_used_again_for_a_while():
    """By lists and by ``get_by_key``, until its time is over; then everybody is fetched anew."""
    online = Fetched()
    async with online.running(PubSub()):
        lease(online, "alice")
        lease(online, "bob")
        for _ in range(5):
            assert calls_of(await online.list(TOPIC)) == {"alice": 1, "bob": 1}
        entry = await online.get_by_key(TOPIC, "bob")
        assert entry is not None
        assert entry["call"] == 1

        await asyncio.sleep(9.8)
        assert calls_of(await online.list(TOPIC)) == {"alice": 1, "bob": 1}
        await asyncio.sleep(0.3)
        assert calls_of(await online.list(TOPIC)) == {"alice": 2, "bob": 2}
        assert online.calls == ["alice bob"] * 2


@virtually
async def test_only_those_who_are_new_are_fetched():
    """A newcomer, a new connection and a new meta are new; what is kept of the others is used."""
    online = Fetched()
    async with online.running(PubSub()):
        alice = lease(online, "alice", n=1)
        lease(online, "bob")
        await online.list(TOPIC)
        lease(online, "carol")
        assert calls_of(await online.list(TOPIC)) == {"alice": 1, "bob": 1, "carol": 2}

        alice.update({"n": 2})
        presences = await online.list(TOPIC)
        assert [meta["n"] for meta in presences["alice"]["metas"]] == [2]
        lease(online, "bob")
        presences = await online.list(TOPIC)
        assert len(presences["bob"]["metas"]) == 2
        assert online.calls == ["alice bob", "carol", "alice", "bob"]


@virtually
async def test_a_diff_uses_what_a_list_fetched():
    """And a list what a diff did: a client that enters costs one fetch, and its leave none."""
    online = Fetched()
    room = enterer(online)
    async with ChannelCase(app(online)) as case:
        alice = await join(case, room, key="alice")
        await alice.assert_push("presence_state")
        online.calls.clear()

        bob = await join(case, room, key="bob")
        assert calls_of(await bob.assert_push("presence_state")).keys() == {"alice", "bob"}
        await alice.assert_push("presence_diff", {"joins": {"bob": {}}})
        fetched = len(online.calls)
        bob.client.close()
        diff = await alice.assert_push("presence_diff", {"leaves": {"bob": {}}})

        assert diff["leaves"]["bob"]["call"] is not None
        assert len(online.calls) == fetched <= 2
        assert set(online.calls) == {"bob"}


@pytest.mark.parametrize("one", [False, True], ids=["list", "one key"])
@virtually
async def test_metas_keep_their_order_whatever_was_fetched_when(one: bool):
    """Keys and metas are listed in the order of their arrival, also if the first came last."""
    online = Fetched()
    async with online.running(PubSub()):
        lease(online, "carol")
        lease(online, "alice", device=1)
        await online.list(TOPIC)
        await asyncio.sleep(5)
        lease(online, "bob")
        lease(online, "alice", device=2)
        await online.list(TOPIC)
        await asyncio.sleep(6)  # the first ones are to be fetched again, the others are not

        if one:
            presences = {"alice": await online.get_by_key(TOPIC, "alice")}
        else:
            presences = dict(await online.list(TOPIC))
            assert list(presences) == ["carol", "alice", "bob"]

        entry = presences["alice"]
        assert entry is not None
        assert [meta["device"] for meta in entry["metas"]] == [1, 2]
        assert online.calls[-1] == ("alice" if one else "alice carol")


@virtually
async def test_a_failure_is_not_kept(caplog: pytest.LogCaptureFixture):
    """A presence that was sent without fetched data is fetched the next time."""
    online = Fetched()
    async with online.running(PubSub()):
        lease(online, "alice")
        online.error = LookupError("no database")
        assert calls_of(await online.list(TOPIC)) == {"alice": None}
        assert calls_of(await online.list(TOPIC)) == {"alice": 2}
        assert calls_of(await online.list(TOPIC)) == {"alice": 2}
    assert "Fetched.fetch failed for 'room:1'" in caplog.text


@virtually
async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Beyond the bound, those fetched longest ago are fetched anew."""
    monkeypatch.setattr(fetching, "MAX_CACHED", 3)
    online = Fetched()
    async with online.running(PubSub()):
        for key in "abcd":
            lease(online, key, f"room:{key}")
            await online.list(f"room:{key}")
        online.calls.clear()
        for key in "dcb":
            await online.list(f"room:{key}")
        assert online.calls == []
        await online.list("room:a")
        assert online.calls == ["a"]
        assert online._run is not None
        assert len(online._run.fetcher._cache._kept) == 3

        await online.list("room:d")
        await asyncio.sleep(11)
        await online.list("room:d")
        assert len(online._run.fetcher._cache._kept) == 1  # what is too old is let go


@virtually
async def test_what_is_fetched_again_is_young_again(monkeypatch: pytest.MonkeyPatch):
    """At the bound it is what is too old that goes, not what was fetched anew."""
    monkeypatch.setattr(fetching, "MAX_CACHED", 2)
    online = Fetched()
    async with online.running(PubSub()):
        for key in "abc":
            lease(online, key, f"room:{key}")
        await online.list("room:a")
        await online.list("room:b")
        await asyncio.sleep(11)
        await online.list("room:a")
        await online.list("room:c")
        online.calls.clear()

        await online.list("room:a")

        assert online.calls == []


@virtually
async def test_metas_keep_their_order_where_lists_share_their_fetches():
    """A list that waits for two calls lists the metas in the order of their arrival."""
    online = Fetched()
    async with online.running(PubSub()):
        for number in range(20):
            topic = f"room:{number}"
            lease(online, "alice", topic, device=1)
            listing = asyncio.ensure_future(online.list(topic))
            await asyncio.sleep(0.05)
            lease(online, "alice", topic, device=2)
            for presences in (await online.list(topic), await listing):
                assert [meta["device"] for meta in presences["alice"]["metas"]] == [1, 2]


@virtually
async def test_without_a_ttl_each_list_fetches():
    """By default only the lists of one tick share."""
    online = Fetched()
    type(online).fetch_ttl = 0.0
    try:
        async with online.running(PubSub()):
            lease(online, "alice")
            await asyncio.gather(*(online.list(TOPIC) for _ in range(3)))
            await online.list(TOPIC)
            assert online.calls == ["alice"] * 2
    finally:
        type(online).fetch_ttl = 10.0


@pytest.mark.parametrize("policy", [Policy(diff_period=1.0), Policy(counts_above=0)])
@virtually
async def test_periods_are_kept_while_a_topic_is_empty(policy: Policy):
    """One who comes and goes all the time is told of once a period, in an empty room, too."""

    class Online(Presence):
        policies = {"*": policy}

    online = Online()
    heard: list[Any] = []
    async with online.running(PubSub()):
        online._current().pubsub.subscribe(TOPIC, heard.append)
        for _ in range(100):
            alice = lease(online, "alice")
            await asyncio.sleep(0.05)
            alice.end()
            await asyncio.sleep(0.05)

    assert len(heard) <= 11  # in 10 s


@virtually
async def test_an_instance_may_have_policies_of_its_own():
    """What __init__ sets counts, as for every other option."""

    class Small(Presence):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.policies = {"*": Policy(max_members=size)}  # type: ignore[misc]

    async with Small(1).running(PubSub()) as online:
        lease(online, "alice")
        with pytest.raises(TopicFull):
            lease(online, "bob")


def test_what_is_no_policy_is_refused_at_once():
    """The class can't be made, and the error says what was found."""
    with pytest.raises(ConfigurationError, match=r"policy of 'room:\*' must be a Policy"):

        class Wrong(Presence):
            policies = {"room:*": {"max_members": 1}}  # type: ignore[dict-item]


@virtually
async def test_what_a_caller_changes_is_not_what_others_are_shown():
    """An entry that was fetched a moment ago is handed out anew."""

    class Named(Presence):
        fetch_ttl = 60.0

        def fetch(self, topic: str, presences: Any) -> Any:
            return {key: {**entry, "user": {"name": key}} for key, entry in presences.items()}

    async with Named().running(PubSub()) as online:
        lease(online, "alice")
        for _ in range(2):
            entry = await online.get_by_key(TOPIC, "alice")
            assert entry is not None
            assert entry["user"] == {"name": "alice"}
            entry["user"]["name"] = "mallory"


@virtually
async def test_the_latest_answer_of_fetch_counts():
    """Of two connections, fetched at different times, the later answer is shown until it is old."""
    names = iter(["old", "old", "new"])

    class Named(Presence):
        fetch_ttl = 30.0

        def fetch(self, topic: str, presences: Any) -> Any:
            name = next(names)
            return {key: {**entry, "name": name} for key, entry in presences.items()}

    async with Named().running(PubSub()) as online:
        lease(online, "alice", device=1)
        assert (await online.list(TOPIC))["alice"]["name"] == "old"
        await asyncio.sleep(20)
        lease(online, "alice", device=2)
        assert (await online.list(TOPIC))["alice"]["name"] == "old"
        await asyncio.sleep(11)  # the first is fetched again, the second is kept
        for _ in range(2):
            assert (await online.list(TOPIC))["alice"]["name"] == "new"
