"""All policies, graces and hidden members at random, against a plain model of what is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import pytest

from roost import (
    AlreadyTracked,
    Channel,
    Endpoint,
    Join,
    Leave,
    Policy,
    Presence,
    Snapshot,
    Socket,
    TopicFull,
    Update,
    event,
    intercept,
)
from roost.presence.following.watch import Watch
from roost.presence.owners.owner import Lease
from roost.tracker.meta import decode_meta
from tests.fresh_seeds import seeds_of_commit
from tests.models.phoenix_presence import Rules
from tests.presence.phoenix_client import PhoenixClient
from tests.presence.plain_model import Held, Model, Told, told_of
from tests.presence.renewal import renew
from tests.virtual_clock import run_virtually

KEYS = "abcdef"
ACT_COUNT = 80
ROUND_SIZES = (1, 2, 5, 20)  # acts between two checks: what went wrong may be set right later
RULES: tuple[Rules, ...] = ("1.2", "1.4", "1.8")
ORDERS = (
    "enter",
    "hidden",
    "track first",
    "track first, push late",
    "list first",
    "track in join",
    "push state",
    "late",
)


def any_policy(rng: Random) -> Policy:
    counts_above = rng.choice((None, None, 0, 2, 3))
    announce = rng.random() < 0.85
    return Policy(
        diff_period=rng.choice((0.0, 0.05, 1.0)),
        announce=announce,
        counts_above=counts_above,
        count_period=rng.choice((0.0, 1.0)),
        keep_metas=rng.random() < 0.7 or (announce and counts_above != 0),
        leave_grace=rng.choice((0.0, 0.0, 0.4937, 3.0071)),  # no sum of other delays
        max_members=rng.choice((None, None, None, 2, 4)),
    )


class World:
    """One endpoint with two topics, everybody who uses it, and the model that watches.

    Attributes:
        calls: (topic, key) → what the callbacks were told.
        refs: topic → all refs that were ever visible.
        metas: topic → key → refs, as ``handle_metas`` was told.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.topics = ("room:1", "room:2")
        self.model = Model({topic: any_policy(rng) for topic in self.topics})
        self.calls: dict[tuple[str, str], list[Told]] = {}
        self.metas: dict[str, dict[str, set[str]]] = {topic: {} for topic in self.topics}
        self.metas_calls = 0
        self.failures: list[AssertionError] = []
        self.refs: dict[str, set[str]] = {topic: set() for topic in self.topics}
        self.fetches = rng.random() < 0.5
        self.online = self.make_presence(fetches=self.fetches, is_slow=rng.random() < 0.5)
        self.socket = self.make_socket()
        self.endpoint = Endpoint({"/": self.socket}, presences=[self.online])
        self.clients: list[PhoenixClient] = []
        self.leases: list[Lease] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.last_n = 0

    def make_presence(self, *, fetches: bool, is_slow: bool) -> Presence:
        world, rng = self, self.rng

        class Online(Presence):
            policies = world.model.policies
            max_diff_count = rng.choice((3, 10_000))
            fetch_ttl = rng.choice((0.0, 1.0))

            def on_join(self, join: Join) -> Any:
                return world.called(join, is_slow)

            def on_update(self, update: Update) -> Any:
                return world.called(update, is_slow)

            def on_leave(self, leave: Leave) -> Any:
                return world.called(leave, is_slow)

            def init(self) -> int:
                return 0

            async def handle_metas(
                self, topic: str, diff: Any, presences: Mapping[str, Any], state: int
            ) -> int:
                try:
                    world.handle_metas(topic, diff, presences, state)
                except AssertionError as error:  # the presence would log it, and go on
                    world.failures.append(error)
                await asyncio.sleep(rng.choice((0.0, 0.1)))
                return state + 1

        class Fetched(Online):
            async def fetch(self, topic: str, presences: Any) -> Any:
                await asyncio.sleep(rng.choice((0.0, 0.1, 0.3)))
                return {key: {**entry, "name": key.title()} for key, entry in presences.items()}

        return Fetched() if fetches else Online()

    def make_socket(self) -> type[Socket]:
        world, rng, online = self, self.rng, self.online

        class RoomChannel(Channel):
            async def join(self, topic: str, params: Any) -> None:
                self.assigns.update(params)
                await asyncio.sleep(rng.choice((0.0, 0.05)))
                if params["order"] == "track in join":
                    world.track(self, topic, params["key"])

            async def after_join(self) -> None:
                key = self.assigns["key"]
                order = self.assigns["order"]
                if order == "list first":
                    self.push("presence_state", await online.list(self))
                if order == "late":
                    await asyncio.sleep(rng.random() / 2)
                if order in ("enter", "hidden", "list first") or order.startswith("track first"):
                    world.track(self, self.topic, key, hidden=order == "hidden")
                if order.startswith("track first"):
                    presences = await online.list(rng.choice((self, self.topic)))
                    if order != "track first":
                        await asyncio.sleep(rng.random() / 2)
                    self.push("presence_state", presences)
                elif order != "list first":
                    await online.push_state(self)

            @event("ask")
            async def ask(self, payload: Any) -> None:
                presences = await online.list(self.topic)
                await asyncio.sleep(rng.choice((0.0, 0.1)))
                self.push("presence_state", presences)

            @event("crash")
            def crash(self, payload: Any) -> None:
                raise RuntimeError("crash")

        class Intercepting(RoomChannel):
            @intercept("presence_diff")
            async def handle_diff(self, diff: Any) -> None:
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.2)))
                self.push("presence_diff", diff)

        class UserSocket(Socket):
            channels = {
                "room:1": RoomChannel,
                "room:2": Intercepting if rng.random() < 0.5 else RoomChannel,
            }

        return UserSocket

    # What the presence says.

    def called(self, change: Join | Update | Leave, is_slow: bool) -> Any:
        self.calls.setdefault((change.topic, change.key), []).append(told_of(change))
        return asyncio.sleep(0.01) if is_slow else None

    def handle_metas(self, topic: str, diff: Any, presences: Mapping[str, Any], state: int) -> None:
        """A diff joins what was not there, leaves what was, and leads to what is shown."""
        assert state == self.metas_calls
        self.metas_calls += 1
        known = self.metas[topic]
        for key, entry in diff["joins"].items():
            joined = {meta["phx_ref"] for meta in entry["metas"]}
            assert not joined & known.get(key, set())
            known[key] = known.get(key, set()) | joined
        for key, entry in diff["leaves"].items():
            left = {meta["phx_ref"] for meta in entry["metas"]}
            assert left <= known[key]
            known[key] -= left
            if not known[key]:
                del known[key]
        assert known == {
            key: {meta["phx_ref"] for meta in metas} for key, metas in presences.items()
        }

    # What happens, here and in the model at once.

    def track(self, owner: Any, topic: str, key: str, *, hidden: bool = False) -> None:
        model = self.model
        model.pass_time(asyncio.get_running_loop().time())
        self.last_n = self.last_n + 1 if self.rng.random() < 0.5 else self.last_n
        meta = {"n": self.last_n % 3, "online_at": self.rng.random()}
        arguments: Any = {"topic": topic, "hidden": hidden}
        if model.find(owner, topic, key) is not None and not (
            not hidden and model.is_full_for(topic, key)
        ):
            with pytest.raises(AlreadyTracked):
                self.online.track(owner, key, meta, **arguments)
        elif not hidden and model.is_full_for(topic, key):
            with pytest.raises(TopicFull):
                self.online.track(owner, key, meta, **arguments)
        else:
            if not any(each.owner is owner for each in model.held):
                owner.add_done_callback(self.ended)
            held = model.track(owner, topic, key, self.last_n % 3, hidden=hidden)
            ref = self.online.track(owner, key, meta, **arguments)
            assert held.ref in ("", ref), "who returns within the grace keeps the ref"
            self.name(held, ref)

    def name(self, held: Held, ref: str) -> None:
        held.ref = ref
        if not held.hidden:
            self.refs[held.topic].add(ref)

    def ended(self, owner: object) -> None:
        now = asyncio.get_running_loop().time()
        self.model.pass_time(now)
        self.model.end(owner, now)

    def change(self) -> None:
        """Update, hide, show or untrack something."""
        self.model.pass_time(asyncio.get_running_loop().time())
        owned = [each for each in self.model.held if each.owner is not None]
        if not owned:
            return
        held, online = self.rng.choice(owned), self.online
        match self.rng.choice(("update", "update", "hide", "show", "untrack")):
            case "update":
                self.last_n += 1
                before = held.ref
                self.model.update(held, self.last_n % 3)
                update = lambda meta: {**meta, "n": self.last_n % 3}  # noqa: E731
                ref = online.update(held.owner, held.key, update, topic=held.topic)
                assert (ref == before) is (not self.model.policies[held.topic].keep_metas)
                self.name(held, ref)
            case "hide":
                self.model.set_hidden(held, hidden=True)
                self.name(held, online.hide(held.owner, held.key, topic=held.topic))
            case "show":
                if held.hidden and self.model.is_full_for(held.topic, held.key):
                    with pytest.raises(TopicFull):
                        online.show(held.owner, held.key, topic=held.topic)
                else:
                    self.model.set_hidden(held, hidden=False)
                    self.name(held, online.show(held.owner, held.key, topic=held.topic))
            case "untrack":
                self.model.remove(held)
                online.untrack(held.owner, held.key, topic=held.topic)

    def renew(self) -> None:
        """The node takes a new id: whatever is tracked has another ref, and stays what it was."""
        self.model.pass_time(asyncio.get_running_loop().time())
        renew(self.online)
        tracker = self.online._current().tracker
        refs = {}
        for entry in [
            *tracker.list_all(),
            *(each for topic in self.topics for each in tracker.list_hidden(topic)),
        ]:
            meta = decode_meta(entry.meta)
            refs[meta["phx_ref_prev"]] = entry.ref
        order = {ref: number for number, ref in enumerate(sorted(refs.values(), key=seq_of))}
        for held in self.model.held:
            self.name(held, refs[held.ref])
        self.model.held.sort(key=lambda held: order[held.ref])
        self.model.renewed()

    def act(self) -> None:
        rng = self.rng
        topic = rng.choice(self.topics)
        match rng.randrange(15):
            case 14 if rng.random() < 0.2:
                self.renew()
            case 0 | 1 | 2:
                lease = Lease(self.online, topic, rng.choice(KEYS))
                self.leases.append(lease)
                self.track(lease, topic, lease.key, hidden=rng.random() < 0.2)
            case 3:
                task = asyncio.create_task(self.crash_some_time())
                self.tasks.append(task)
                for each in rng.sample(self.topics, rng.choice((1, 2))):
                    self.track(task, each, rng.choice(KEYS))
            case 4 | 5 | 6 if self.leases:
                self.leases.pop(rng.randrange(len(self.leases))).end()
            case 7 | 8:
                self.change()
            case 9 | 10 if len(self.clients) < 6:
                params = {"key": rng.choice("xyz"), "order": rng.choice(ORDERS)}
                rules = rng.choice(RULES)
                client = PhoenixClient(self.endpoint, self.socket, topic, rng, params, rules)
                client.join()
                self.clients.append(client)
            case _ if self.clients:
                self.act_as(rng.choice(self.clients))

    def act_as(self, client: PhoenixClient) -> None:
        match self.rng.randrange(8):
            case _ if client.state == "errored":
                client.join()
            case 0:
                client.join()
            case 1:
                client.leave_and_come_back()
            case 2 | 5:
                client.lose_connection()
            case 3:
                client.leave_for_good()
                self.clients.remove(client)
            case 4:
                client.push("crash", {})
            case 6:
                client.push("ask", {})

    async def crash_some_time(self) -> None:
        await asyncio.sleep(self.rng.random() * 2)
        raise RuntimeError("crash")

    # What must hold.

    def check_reads(self) -> None:
        self.model.pass_time(asyncio.get_running_loop().time())
        for topic in self.topics:
            assert self.online.count_users(topic) == len(self.model.keys(topic))
            assert self.online.count_connections(topic) == len(self.model.visible(topic))
            hidden = refs(self.online.list_hidden(topic)).values()
            expected = {each.ref for each in self.model.hidden(topic)}
            assert set().union(*hidden) == expected
        everywhere = {key for topic in self.topics for key in self.model.keys(topic)}
        assert self.online.online([*KEYS, *"xyz"]) == everywhere

    async def come_to_rest(self) -> None:
        """Let time pass until everybody is in who can be; a full topic refuses joins."""
        for _ in range(5):
            await asyncio.sleep(10)
            errored = [client for client in self.clients if client.state == "errored"]
            if not errored:
                break
            for client in errored:
                client.join()

    async def check_everything_was_told(self) -> None:
        """After a while without changes, everybody knows exactly what is so."""
        self.check_reads()
        assert not self.failures
        calls = {place: told for place, told in self.calls.items() if told}
        assert calls == self.model.told
        for topic in self.topics:
            expected = self.model.refs(topic)
            assert refs(await self.online.list(topic)) == expected
            assert self.metas[topic] == expected
        for number, client in enumerate(self.clients):
            assert client.state == "joined", f"client {number} is {client.state}"
            self.check_client(client, f"client {number}")

    def check_client(self, client: PhoenixClient, name: str) -> None:
        policy = self.model.policies[client.topic]
        visible = self.model.visible(client.topic)
        keys = self.model.keys(client.topic)
        assert not client.is_pending, name
        assert client.named <= self.refs[client.topic], f"{name} was told of what never was"
        if client.params["order"] == "enter" and client.join_count == 1:
            assert not client.unheard, f"{name} heard of the leave of whose join it had not"
        if not policy.announce:
            assert client.diff_count == 0, name
            return
        bound = policy.counts_above
        must_count = bound is not None and (bound == 0 or len(keys) > bound)
        may_count = must_count or (bound is not None and len(keys) > bound * 3 // 4)
        shown = refs(client.presence.state)
        is_counting = may_count and client.count is not None and not shown
        assert is_counting or not must_count, f"{name} is shown a list: {shown}"
        if is_counting:
            assert client.count == {"users": len(keys), "connections": len(visible)}, name
        else:
            assert shown == self.model.refs(client.topic), name
            metas = [
                meta["phx_ref"]
                for entry in client.presence.state.values()
                for meta in entry["metas"]
            ]
            assert len(metas) == len(set(metas)), f"{name} shows somebody twice"
            if self.fetches:
                assert all("name" in entry for entry in client.presence.state.values()), name


class Follower:
    """A task that reads a watch, now and then slowly, and folds what it is told."""

    def __init__(self, watch: Watch, rng: Random) -> None:
        self.shown: dict[str, set[str]] = {}
        self.version = -1
        self.task = asyncio.create_task(self.follow(watch, rng))

    async def follow(self, watch: Watch, rng: Random) -> None:
        async with watch:
            async for change in watch:
                assert change.version > self.version or isinstance(change, Snapshot)
                self.version = change.version
                match change:
                    case Snapshot(presences):
                        self.shown = refs(presences)
                    case Join(key=key, meta=meta, is_first=is_first):
                        assert is_first is (key not in self.shown)
                        self.shown.setdefault(key, set()).add(meta["phx_ref"])
                    case Update(key=key, meta=meta, old_meta=old):
                        self.shown[key].remove(old["phx_ref"])
                        self.shown[key].add(meta["phx_ref"])
                    case Leave(key=key, meta=meta, is_last=is_last):
                        self.shown[key].remove(meta["phx_ref"])
                        if not self.shown[key]:
                            del self.shown[key]
                        assert is_last is (key not in self.shown)
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.5)))


def seq_of(ref: str) -> int:
    return int(ref[11:], 16)


def refs(presences: Any) -> dict[str, set[str]]:
    """Key → refs: what two lists must have in common."""
    return {key: {meta["phx_ref"] for meta in presences[key]["metas"]} for key in presences}


def any_rounds(rng: Random) -> Iterator[int]:
    rest = ACT_COUNT
    while rest > 0:
        size = min(rng.choice(ROUND_SIZES), rest)
        yield size
        rest -= size


async def play(seed: int) -> None:
    rng = Random(seed)
    world = World(rng)
    model = world.model
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    async with world.endpoint.running():
        by_topic = {topic: Follower(world.online.watch(topic), rng) for topic in world.topics}
        by_key = Follower(world.online.watch(list(KEYS[:3])), rng)
        for size in any_rounds(rng):
            for _ in range(size):
                world.act()
                world.check_reads()
                # Never 0: timers of one instant run in any order, and so do what they take away.
                await asyncio.sleep(rng.choice((1e-6, 1e-6, 0.01, 0.06, 0.3, 1.1)) * rng.random())
            await world.come_to_rest()
            await world.check_everything_was_told()
        for topic, follower in by_topic.items():
            assert follower.shown == model.refs(topic)
        followed = [each for topic in world.topics for each in model.visible(topic)]
        assert by_key.shown == {
            key: {each.ref for each in followed if each.key == key}
            for key in KEYS[:3]
            if any(each.key == key for each in followed)
        }

        for client in world.clients:
            client.leave_for_good()
            await asyncio.sleep(rng.random())
        for lease in world.leases:
            lease.end()
            await asyncio.sleep(rng.random())
        await asyncio.sleep(10)
        await world.online.settled()
        world.clients.clear()
        await world.check_everything_was_told()
        assert not model.held
    await asyncio.gather(*world.tasks, return_exceptions=True)
    await asyncio.gather(by_key.task, *(each.task for each in by_topic.values()))


@pytest.mark.parametrize("seeds", ["fixed", "fresh"])
def test_everybody_is_told_what_is_so(seeds: str) -> None:
    """Whatever happens under whichever policy, lists, counts, callbacks and watches are right."""
    for seed in range(200) if seeds == "fixed" else seeds_of_commit(100):
        try:
            run_virtually(play(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
