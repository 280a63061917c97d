"""Watches and ``online``: who is there and what changes, for server code."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from roost import Join, Leave, Policy, Presence, PubSub, Snapshot, Update
from roost.exceptions import InvalidKey, NotStarted, WrongThread
from roost.presence import Lease, Watch
from roost.presence.changes import Change
from roost.presence.following import watch as watch_module
from roost.presence.following.watch import Watches
from tests.presence.scenes import TOPIC, lease
from tests.virtual_clock import run_virtually, virtually

MAX_WAITING = watch_module.MAX_WAITING


@asynccontextmanager
async def running() -> AsyncIterator[Presence]:
    async with Presence().running(PubSub()) as online:
        yield online


async def read(watch: Watch) -> list[Snapshot | Change]:
    """What a watch yields until it has nothing more for a second, or ends."""
    changes = []
    try:
        async with asyncio.timeout(1):
            async for change in watch:
                changes.append(change)
    except TimeoutError:
        pass
    return changes


async def lines(watch: Watch) -> list[str]:
    """What a watch yields, a line each; see ``line``."""
    return [line(change) for change in await read(watch)]


def line(change: Snapshot | Change) -> str:
    """``alice bob`` for a snapshot, ``+alice``, ``~alice`` or ``-alice`` for the changes.

    An edge is marked: ``+alice first``, ``-alice last``.
    """
    match change:
        case Snapshot(presences):
            return " ".join(sorted(presences)) or "nobody"
        case Join(_, key, _, is_first):
            return f"+{key}" + " first" * is_first
        case Update(_, key):
            return f"~{key}"
        case Leave(_, key, _, is_last):
            return f"-{key}" + " last" * is_last


def watches_of(online: Presence) -> Watches:
    assert online._run is not None
    return online._run._watches


def is_unwatched(online: Presence) -> bool:
    """Nothing is left of any watch."""
    watches = watches_of(online)
    return not watches._by_topic and not watches._by_key and not watches._all


# A topic.


@virtually
async def test_a_watch_starts_with_everybody_and_goes_on_with_changes():
    """First a snapshot of the topic, then each change of it, with all that is known of it."""
    async with running() as online:
        bob = lease(online, "bob", n=1)
        lease(online, "zoe", "room:2")
        async with online.watch(TOPIC) as watch:
            snapshot = await anext(watch)
            alice = lease(online, "alice", n=1)
            alice.update({"n": 2})
            bob.end()
            joined, updated, left = [await anext(watch) for _ in range(3)]

    assert isinstance(snapshot, Snapshot)
    (bobs_meta,) = snapshot.presences["bob"]["metas"]
    assert snapshot.presences == {"bob": {"metas": [{"n": 1, "phx_ref": bobs_meta["phx_ref"]}]}}
    version = snapshot.version
    assert isinstance(joined, Join)
    ref = joined.meta["phx_ref"]
    first = {"n": 1, "phx_ref": ref}
    assert joined == Join(TOPIC, "alice", first, is_first=True, version=version + 1, is_local=True)
    assert isinstance(updated, Update)
    second = {"n": 2, "phx_ref": updated.meta["phx_ref"], "phx_ref_prev": ref}
    assert updated == Update(TOPIC, "alice", second, first, version + 2, is_local=True)
    assert left == Leave(TOPIC, "bob", bobs_meta, is_last=True, version=version + 3, is_local=True)


@virtually
async def test_the_snapshot_is_of_the_moment_when_it_is_read():
    """What changes between ``watch`` and the first read is in the snapshot, and not told again."""
    async with running() as online, online.watch(TOPIC) as watch:
        lease(online, "alice")
        assert await lines(watch) == ["alice"]


@virtually
async def test_a_snapshot_has_all_metas_of_a_key():
    """Two connections of one user are two metas, in the order of their arrival."""
    async with running() as online:
        lease(online, "alice", device=1)
        lease(online, "alice", device=2)

        snapshot = await anext(online.watch(TOPIC))

        assert isinstance(snapshot, Snapshot)
        assert [meta["device"] for meta in snapshot.presences["alice"]["metas"]] == [1, 2]


@virtually
async def test_a_snapshot_of_keys_says_where_each_is():
    """Who watches people learns the topic of each meta, in the same order."""
    async with running() as online:
        lease(online, "alice", topic="room:1", device=1)
        lease(online, "alice", topic="room:2", device=2)

        snapshot = await anext(online.watch(["alice", "bob"]))

        assert isinstance(snapshot, Snapshot)
        alice = snapshot.presences["alice"]
        where = [meta["device"] for meta in alice["metas"]], alice["topics"]
        assert where == ([1, 2], ["room:1", "room:2"])


@virtually
async def test_first_and_last_are_those_of_the_topic():
    """Who watches a topic hears which connection of a key is its first and its last there."""
    async with running() as online, online.watch(TOPIC) as watch:
        assert await lines(watch) == ["nobody"]
        elsewhere = lease(online, "alice", "room:2")
        one, two = lease(online, "alice"), lease(online, "alice")
        one.end()
        two.end()
        elsewhere.end()

        assert await lines(watch) == ["+alice first", "+alice", "-alice", "-alice last"]


@virtually
async def test_topics_do_not_hear_of_each_other():
    """A watch of one topic is told nothing of another."""
    async with running() as online, online.watch(TOPIC) as watch:
        assert await lines(watch) == ["nobody"]
        lease(online, "alice", "room:2").update({"n": 1})
        lease(online, "bob", "room:10")

        assert await lines(watch) == []


# Keys.


@virtually
async def test_keys_are_watched_wherever_they_are():
    """Who watches keys hears of them in all topics, and which connection is the first anywhere."""
    async with running() as online:
        lease(online, "alice", "room:2")
        async with online.watch(["alice", "bob"]) as watch:
            assert await lines(watch) == ["alice"]
            lease(online, "alice", "room:3")
            one = lease(online, "bob", "room:2")
            two = lease(online, "bob", "room:3")
            lease(online, "carol", "room:2")
            one.update({"n": 1})
            one.end()
            two.end()

            changes = await read(watch)

    assert [
        (line(change), change.topic) for change in changes if not isinstance(change, Snapshot)
    ] == [
        ("+alice", "room:3"),
        ("+bob first", "room:2"),
        ("+bob", "room:3"),
        ("~bob", "room:2"),
        ("-bob", "room:2"),
        ("-bob last", "room:3"),
    ]


@virtually
async def test_an_owner_with_many_presences_ends_with_one_last():
    """When a key's only owner ends, the last of its presences anywhere is told as such."""
    async with running() as online, online.watch(["alice"]) as watch:
        owner = lease(online, "alice", "room:1")
        for topic in ("room:2", "room:3"):
            online.track(owner, "alice", {}, topic=topic)
        assert await lines(watch) == ["alice"]

        owner.end()

        assert await lines(watch) == ["-alice", "-alice", "-alice last"]


@virtually
async def test_integers_are_keys_too():
    """Keys may be integers where presences are watched or asked for; answers are strings."""
    async with running() as online, online.watch([7, "8"]) as watch:
        online.track(Lease(online, TOPIC, "7"), 7, {}, topic=TOPIC)
        lease(online, "8")

        assert await lines(watch) == ["7 8"]
        assert online.online([7, 8, 9]) == {"7", "8"}


@pytest.mark.parametrize("key", ["__proto__", None, True, b"alice"])
@virtually
async def test_what_is_no_key_is_refused(key: Any):
    """A name of JavaScript's object prototype, or no string, is refused as ``track`` does."""
    async with running() as online:
        with pytest.raises(InvalidKey):
            online.watch(["alice", key])
        with pytest.raises(InvalidKey):
            online.online(["alice", key])
        assert is_unwatched(online)


@virtually
async def test_watching_nobody_is_a_stream_of_nothing():
    """A watch of no keys has an empty snapshot and no changes, and ends with the presence."""
    async with running() as online:
        watch = online.watch([])
        assert await lines(watch) == ["nobody"]
        lease(online, "alice")
        assert await lines(watch) == []
        reader = asyncio.ensure_future(lines(watch))
        await asyncio.sleep(0)
    assert await asyncio.wait_for(reader, 0.1) == []


@virtually
async def test_online_is_who_is_in_any_topic():
    """``online`` answers for the keys asked for, and follows joins and leaves."""
    async with running() as online:
        alice = lease(online, "alice", "room:1")
        assert online.online(["alice", "bob"]) == {"alice"}
        again, bob = lease(online, "alice", "room:2"), lease(online, "bob", "room:2")

        assert online.online(["alice", "bob", "carol"]) == {"alice", "bob"}
        assert online.online(["bob"]) == {"bob"}
        assert online.online([]) == set()

        bob.update({"n": 1})
        alice.end()
        assert online.online(["alice", "bob"]) == {"alice", "bob"}
        again.end()
        bob.end()
        assert online.online(["alice", "bob"]) == set()


# Hidden members.


@pytest.mark.parametrize("of", [TOPIC, ["alice", "bob"]], ids=["topic", "keys"])
@virtually
async def test_hidden_members_never_show(of: Any):
    """Who hides is in no snapshot, no change and no answer; showing is a join, hiding a leave."""
    async with running() as online:
        bob = lease(online, "bob", hidden=True)
        async with online.watch(of) as watch:
            assert await lines(watch) == ["nobody"]
            bob.update({"n": 1})
            lease(online, "alice", hidden=True).end()
            assert await lines(watch) == []
            assert online.online(["alice", "bob"]) == set()

            online.show(bob, "bob", topic=TOPIC)
            assert await lines(watch) == ["+bob first"]
            assert online.online(["bob"]) == {"bob"}

            online.hide(bob, "bob", topic=TOPIC)
            assert await lines(watch) == ["-bob last"]
            assert online.online(["bob"]) == set()
            bob.end()
            assert await lines(watch) == []


# Slow readers.


@virtually
async def test_who_reads_too_slowly_gets_a_snapshot_instead():
    """One change more than the bound, and all that waits is replaced by what is there now."""
    async with running() as online, online.watch(TOPIC) as watch:
        first = await anext(watch)
        for number in range(MAX_WAITING):
            lease(online, f"user-{number}")
        assert len(await read(watch)) == MAX_WAITING  # so much may wait

        for number in range(MAX_WAITING + 1):
            lease(online, f"more-{number}")
        snapshot, *rest = await read(watch)

        assert isinstance(first, Snapshot)
        assert isinstance(snapshot, Snapshot)
        assert len(snapshot.presences) == 2 * MAX_WAITING + 1
        assert snapshot.version == first.version + 2 * MAX_WAITING + 1
        assert rest == []
        lease(online, "alice")
        assert await lines(watch) == ["+alice first"]


@virtually
async def test_a_reader_that_is_too_slow_is_logged(caplog: pytest.LogCaptureFixture):
    """The log says which watch dropped how many changes, at once and then every minute."""
    async with running() as online, online.watch(TOPIC) as watch:
        for n in range(4):
            await anext(watch)
            for number in range(MAX_WAITING + 1):
                lease(online, f"user-{n}-{number}")
            await asyncio.sleep(31)

    assert caplog.messages == [
        f"a watch of 'room:1' is too slow: dropped {count} changes, its reader gets a snapshot"
        for count in (MAX_WAITING + 1, MAX_WAITING + 1, 2 * MAX_WAITING + 2)
    ]


@virtually
async def test_who_is_behind_costs_nothing():
    """A watch that nobody reads, from the start or any more, holds no changes."""
    async with running() as online:
        unread, behind = online.watch(TOPIC), online.watch(TOPIC)
        await anext(behind)
        for number in range(MAX_WAITING + 10):
            lease(online, f"user-{number}")

        assert len(unread._waiting) == len(behind._waiting) == 0


@virtually
async def test_a_slow_reader_does_not_hold_up_others():
    """Each watch has a bound of its own."""
    async with running() as online, online.watch(TOPIC) as slow, online.watch(TOPIC) as fast:
        await anext(slow)
        await anext(fast)
        for number in range(MAX_WAITING + 1):
            lease(online, f"user-{number}")
            assert line(await anext(fast)) == f"+user-{number} first"

        assert isinstance(await anext(slow), Snapshot)


# Readers.


@virtually
async def test_many_watch_one_key():
    """Every watch of a key gets every change of it, whatever else it is about."""
    async with running() as online:
        watches = [online.watch(["alice", f"user-{number}"]) for number in range(100)]
        for watch in watches:
            await anext(watch)

        lease(online, "alice").end()

        for watch in watches:
            assert await lines(watch) == ["+alice first", "-alice last"]


@virtually
async def test_two_tasks_do_not_share_a_watch():
    """The second reader of a watch is told so, and the first one goes on."""
    async with running() as online, online.watch(TOPIC) as watch:
        await anext(watch)
        reader = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)

        with pytest.raises(RuntimeError, match="a watch of its own"):
            await anext(watch)

        lease(online, "alice")
        assert line(await reader) == "+alice first"


@virtually
async def test_a_reader_that_is_cancelled_loses_nothing():
    """What comes while nobody waits is there for the next read."""
    async with running() as online, online.watch(TOPIC) as watch:
        await anext(watch)
        reader = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        lease(online, "alice")  # wakes the reader, who is cancelled before it runs
        reader.cancel()
        await asyncio.wait([reader])
        assert reader.cancelled()
        lease(online, "bob")

        assert await lines(watch) == ["+alice first", "+bob first"]


# The end.


@virtually
async def test_closing_ends_the_iteration_after_what_waits():
    """A reader gets what came before ``close``, and then the end, as often as it asks."""
    async with running() as online:
        watch = online.watch(TOPIC)
        await anext(watch)
        lease(online, "alice")
        watch.close()
        lease(online, "bob")
        watch.close()

        assert [line(change) async for change in watch] == ["+alice first"]
        assert [line(change) async for change in watch] == []
        assert is_unwatched(online)


@virtually
async def test_a_watch_that_is_closed_before_it_is_read_is_empty():
    """There is not even a snapshot."""
    async with running() as online:
        watch = online.watch(TOPIC)
        watch.close()

        assert [change async for change in watch] == []


@virtually
async def test_closing_wakes_who_waits():
    """A task that waits for the next change sees the end at once."""
    async with running() as online:
        watch = online.watch(TOPIC)
        reader = asyncio.ensure_future(lines(watch))
        await asyncio.sleep(0)
        watch.close()

        assert await asyncio.wait_for(reader, 0.1) == ["nobody"]


@virtually
async def test_the_end_of_the_block_closes_the_watch():
    """``async with`` closes, also when the block raises."""
    async with running() as online:
        with pytest.raises(LookupError):
            async with online.watch([1, 2]) as watch:
                raise LookupError

        assert [change async for change in watch] == []
        assert is_unwatched(online)


@pytest.mark.parametrize("of", [TOPIC, ["alice", "bob"], []], ids=["topic", "keys", "nobody"])
@virtually
async def test_a_watch_that_nobody_holds_is_freed(of: Any):
    """What is dropped without ``close`` is gone, and with it all that was kept for it."""
    async with running() as online:
        watch = online.watch(of)
        await anext(watch)
        reference = weakref.ref(watch)
        assert not is_unwatched(online)

        del watch
        gc.collect()

        assert reference() is None
        await asyncio.sleep(0)
        assert is_unwatched(online)
        lease(online, "alice")


@virtually
async def test_a_dropped_watch_takes_no_other_along():
    """Where one of two watches is dropped, the other one goes on."""
    async with running() as online, online.watch(TOPIC) as watch, online.watch(["alice"]) as keys:
        await read(watch)
        await read(keys)
        for of in (TOPIC, ["alice", "bob"]):
            await anext(online.watch(of))
        gc.collect()
        await asyncio.sleep(0)

        lease(online, "alice")

        assert await lines(watch) == ["+alice first"]
        assert await lines(keys) == ["+alice first"]
        assert watches_of(online)._by_key.keys() == {"alice"}


@virtually
async def test_a_watch_that_comes_as_another_goes_is_kept():
    """The garbage collector may free an old watch at any moment, also amid making a new one."""
    async with running() as online:
        watches = watches_of(online)
        old: list[Watch] = [online.watch(TOPIC)]

        class Collected(dict[str, Any]):
            """Frees the old watch when its group was looked up for the new one."""

            def setdefault(self, key: str, default: Any = None) -> Any:
                group = super().setdefault(key, default)
                old.clear()
                gc.collect()
                return group

        watches._by_topic = Collected(watches._by_topic)
        watch = online.watch(TOPIC)
        await anext(watch)
        await asyncio.sleep(0)

        lease(online, "alice")

        assert await lines(watch) == ["+alice first"]


def test_a_watch_may_outlive_its_loop():
    """Nothing happens when a watch is dropped after its presence and its event loop ended."""

    async def scene() -> list[Watch]:
        async with running() as online:
            return [online.watch(TOPIC), online.watch(["alice"])]

    watches = run_virtually(scene())
    watches.clear()
    gc.collect()


@virtually
async def test_the_stop_of_the_presence_ends_all_watches():
    """Who waits sees the end, who is behind too; after a restart there are new watches."""
    online = Presence()
    async with online.running(PubSub()):
        lease(online, "alice")
        unread = online.watch(TOPIC)
        readers = [asyncio.ensure_future(lines(online.watch(of))) for of in (TOPIC, ["alice"])]
        await asyncio.sleep(0)

    assert [await asyncio.wait_for(reader, 0.1) for reader in readers] == [["alice"], ["alice"]]
    assert [change async for change in unread] == []
    with pytest.raises(NotStarted):
        online.watch(TOPIC)
    with pytest.raises(NotStarted):
        online.online(["alice"])

    async with online.running(PubSub()), online.watch(["alice"]) as watch:
        assert online.online(["alice"]) == set()
        assert await lines(watch) == ["nobody"]
        lease(online, "alice")
        assert await lines(watch) == ["+alice first"]
        assert [change async for change in unread] == []


# What it costs.


@virtually
async def test_a_change_reaches_those_who_watch_it_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
):
    """However many others watch, a change is handed to the watches of its topic and key only."""
    noted: list[Watch] = []

    class Counting(Watch):
        __slots__ = ()

        def changed(self, change: Change) -> None:
            noted.append(self)
            super().changed(change)

    monkeypatch.setattr(watch_module, "Watch", Counting)
    async with running() as online:
        others = [online.watch(f"room:{number}") for number in range(2, 500)]
        others += [online.watch([f"user-{number}"]) for number in range(500)]
        by_topic, by_key = online.watch(TOPIC), online.watch(["alice", "bob"])
        assert len(others) == 998

        lease(online, "alice").end()

        assert noted == [by_topic, by_key] * 2


# At random.


class Model:
    """What is right, in plain dicts: who is visible where at each version.

    Attributes:
        states: By version: (topic, key) → the ``n`` of each of its metas.
    """

    def __init__(self) -> None:
        self.now: dict[tuple[str, str], list[int]] = {}
        self.states: list[dict[tuple[str, str], list[int]]] = [{}]

    def change(self, topic: str, key: str, old: int | None, new: int | None) -> None:
        """Something visible changed; each change is a version."""
        numbers = self.now.setdefault((topic, key), [])
        if old is not None:
            numbers.remove(old)
        if new is not None:
            numbers.append(new)
        if not numbers:
            del self.now[topic, key]
        self.states.append({where: list(those) for where, those in self.now.items()})

    def keys(self, version: int, of: str | Iterable[str]) -> dict[str, list[int]]:
        """Key → numbers, for a topic or for keys in all topics."""
        found: dict[str, list[int]] = {}
        for (topic, key), numbers in self.states[version].items():
            if topic == of if isinstance(of, str) else key in of:
                found[key] = sorted(found.get(key, []) + numbers)
        return found


class Person:
    """Somebody with one presence in each of some topics."""

    def __init__(self, online: Presence, model: Model, rng: Random) -> None:
        self.online, self.model, self.rng = online, model, rng
        self.lease = Lease(online, "", "")
        # (topic, key) → its number, and whether it is hidden; in the order in which they leave.
        self.presences: dict[tuple[str, str], tuple[int, bool]] = {}

    def act(self, number: int) -> None:
        topic, key = self.rng.choice(("room:1", "room:2", "room:3")), self.rng.choice("abcd")
        at = (topic, key)
        if at not in self.presences:
            hidden = self.rng.random() < 0.2
            self.online.track(self.lease, key, {"n": number}, topic=topic, hidden=hidden)
            self.presences[at] = number, hidden
            if not hidden:
                self.model.change(topic, key, None, number)
            return
        known, hidden = self.presences[at]
        match self.rng.randrange(3):
            case 0:
                self.online.untrack(self.lease, key, topic=topic)
                del self.presences[at]
                if not hidden:
                    self.model.change(topic, key, known, None)
            case 1:
                self.online.update(self.lease, key, {"n": number}, topic=topic)
                self.presences[at] = number, hidden
                if not hidden:
                    self.model.change(topic, key, known, number)
            case _:
                (self.online.show if hidden else self.online.hide)(self.lease, key, topic=topic)
                self.presences[at] = known, not hidden
                self.model.change(topic, key, *((None, known) if hidden else (known, None)))

    def end(self) -> None:
        self.lease.end()
        for (topic, key), (number, hidden) in self.presences.items():
            if not hidden:
                self.model.change(topic, key, number, None)


class Reader:
    """Follows a watch at its own pace, and checks each step against the model.

    Attributes:
        snapshots: How many it got.
        changes: How many it got.
    """

    def __init__(self, watch: Watch, model: Model, rng: Random) -> None:
        self.watch, self.model, self.rng = watch, model, rng
        self.version = -1
        self.snapshots = self.changes = 0
        self.known: dict[str, list[int]] = {}
        self.task = asyncio.ensure_future(self.follow())

    async def follow(self) -> None:
        pace = self.rng.choice((0.0, 0.1, 1.0))
        async for change in self.watch:
            self.apply(change)
            self.version = change.version
            assert self.known == self.model.keys(self.version, self.watch.of)
            await asyncio.sleep(self.rng.random() * pace)

    def apply(self, change: Snapshot | Change) -> None:
        if isinstance(change, Snapshot):
            self.snapshots += 1
            assert change.version >= self.version
            self.known = {
                key: sorted(meta["n"] for meta in entry["metas"])
                for key, entry in change.presences.items()
            }
            return
        self.changes += 1
        assert change.version > self.version
        numbers = self.known.setdefault(change.key, [])
        match change:
            case Join():
                assert change.is_first is (not numbers)
                numbers.append(change.meta["n"])
            case Update():
                numbers.remove(change.old_meta["n"])
                numbers.append(change.meta["n"])
            case Leave():
                numbers.remove(change.meta["n"])
                assert change.is_last is (not numbers)
        numbers.sort()
        if not numbers:
            del self.known[change.key]


async def play(seed: int) -> tuple[int, int]:
    """One scene; returns how many snapshots were read by those who fell behind, and changes."""
    rng = Random(seed)
    again = changes = 0
    async with running() as online:
        model = Model()
        people: list[Person] = []
        readers: list[Reader] = []
        for number in range(300):
            match rng.randrange(20):
                case 0:
                    of: Any = rng.choice(("room:1", "room:2", ["a"], ["a", "b", "x"], []))
                    readers.append(Reader(online.watch(of), model, rng))
                case 1 if readers:
                    reader = readers.pop(rng.randrange(len(readers)))
                    reader.watch.close()
                    await reader.task
                case 2:
                    people.append(Person(online, model, rng))
                case 3 if people:
                    people.pop(rng.randrange(len(people))).end()
                case _ if people:
                    rng.choice(people).act(number)
            assert online.online(list("abcdx")) == model.keys(-1, "room:1").keys() | {
                key for _, key in model.now
            }
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.0, 0.1)))
        await asyncio.sleep(60)
        for reader in readers:
            assert not reader.task.done(), reader.task.exception()
            assert reader.known == model.keys(-1, reader.watch.of)
            again += reader.snapshots - 1
            changes += reader.changes
    for reader in readers:
        await asyncio.wait_for(reader.task, 2)
    return again, changes


def test_every_reader_knows_what_is_right_at_each_version(monkeypatch: pytest.MonkeyPatch):
    """Nothing is lost and nothing told twice, however slowly somebody reads."""
    monkeypatch.setattr(watch_module, "MAX_WAITING", 5)
    again = changes = 0
    for seed in range(100):
        try:
            counts = run_virtually(play(seed))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        again, changes = again + counts[0], changes + counts[1]
    assert again > 100
    assert changes > 1000


def test_a_policy_without_metas_leaves_a_watch_the_refs():
    """Where no metas are kept, changes have nothing but the ref."""

    class AsTracked(Presence):
        policies = {"*": Policy(counts_above=0, keep_metas=False)}

    async def scene() -> None:
        async with AsTracked().running(PubSub()) as online, online.watch(TOPIC) as watch:
            await anext(watch)
            lease(online, "alice", n=1)
            joined = await anext(watch)
            assert isinstance(joined, Join)
            assert joined.meta.keys() == {"phx_ref"}

    run_virtually(scene())


@virtually
async def test_one_text_is_no_collection_of_keys():
    """Who asks for "alice" means no letters, and is told how to ask."""
    async with running() as online:
        with pytest.raises(TypeError, match=r"write \['alice'\]"):
            online.online("alice")
        with pytest.raises(TypeError, match=r"write \['alice'\]"):
            await online.last_seen("alice")


async def test_questions_belong_to_the_thread_of_the_loop():
    """From another thread a question could make an index of what is changing: it is refused."""
    async with running() as online:
        for ask in (lambda: online.online(["alice"]), lambda: online.watch("room:1")):
            with pytest.raises(WrongThread):
                await asyncio.to_thread(ask)
