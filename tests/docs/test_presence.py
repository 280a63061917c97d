"""docs/presence.md: its programs run, and do what it says they do."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import httpx
import pytest
from starlette.applications import Starlette

from roost import Channel, Endpoint, Socket
from roost.exceptions import JoinRefused, PayloadError, WrongThread
from roost.testing import ChannelCase, JoinedCase
from tests.clients import connect
from tests.docs.guide import Guide
from tests.servers import run_uvicorn
from tests.virtual_clock import virtually

GUIDE = Guide("presence.md")


async def join(case: ChannelCase, guide: Any, name: str, **options: Any) -> JoinedCase:
    """A client of the guide's first socket joins the lobby."""
    client = await case.connect(guide.UserSocket)
    return await client.join("room:lobby", {"name": name}, **options)


async def enter(case: ChannelCase, guide: Any, name: str, **options: Any) -> JoinedCase:
    """``join``, and wait for the list."""
    room = await join(case, guide, name, **options)
    await room.assert_push("presence_state")
    return room


async def join_chat(
    case: ChannelCase, guide: Any, id: str, name: str, **options: Any
) -> JoinedCase:
    """A client of the chat joins its lobby."""
    client = await case.connect(guide.ChatSocket, {"user_id": id, "username": name})
    return await client.join("chat:lobby", **options)


async def chat(case: ChannelCase, guide: Any, id: str, name: str, **options: Any) -> JoinedCase:
    """``join_chat``, and wait for the list."""
    room = await join_chat(case, guide, id, name, **options)
    await room.assert_push("presence_state")
    return room


def joined(key: str) -> Any:
    """Whether a diff tells that a key joined."""
    return lambda diff: key in diff["joins"]


def joins(key: str, **meta: Any) -> dict[str, Any]:
    """A diff that tells that a key joined with a meta."""
    return {"joins": {key: {"metas": [meta]}}}


def left(key: str) -> Any:
    """Whether a diff tells that a key left."""
    return lambda diff: key in diff["leaves"]


# Set up.


async def test_the_application_serves():
    """The first program shows bob who is there, and alice that bob came and went."""
    guide = GUIDE.run(until="Set up")
    async with (
        run_uvicorn(guide.app) as url,
        connect(url) as alice,
    ):
        await alice.join("room:lobby", {"name": "alice"})
        assert list(await alice.receive("presence_state")) == ["alice"]

        async with connect(url) as bob:
            await bob.join("room:lobby", {"name": "bob"})
            assert list(await bob.receive("presence_state")) == ["alice", "bob"]
            assert list((await alice.receive("presence_diff"))["joins"]) == ["bob"]

        assert list((await alice.receive("presence_diff"))["leaves"]) == ["bob"]


@pytest.mark.parametrize("name", ["starlette_app", "plain_app"])
async def test_the_other_ways_to_mount_it_serve(name: str):
    """The application for Starlette, and the one without a framework, do the same."""
    app = getattr(GUIDE.run(until="Set up"), name)
    async with run_uvicorn(app) as url, connect(url) as alice:
        await alice.join("room:lobby", {"name": "alice"})
        assert list(await alice.receive("presence_state")) == ["alice"]


async def test_a_lifespan_of_ones_own():
    """``async with endpoint.running()`` in a lifespan does what the endpoint's own would."""
    endpoint = GUIDE.run(until="Set up").endpoint

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with endpoint.running():
            yield

    app = Starlette(lifespan=lifespan)
    app.mount("/socket", endpoint)
    async with run_uvicorn(app) as url, connect(url) as alice:
        await alice.join("room:lobby", {"name": "alice"})
        assert list(await alice.receive("presence_state")) == ["alice"]


@virtually
async def test_a_presence_ends_with_its_channel():
    """The presence of a closed tab, and of a crashed channel, leaves by itself."""
    guide = GUIDE.run(until="Set up")

    class Crashing(guide.RoomChannel):  # type: ignore[misc, name-defined]
        def handle_in(self, event: str, payload: object) -> None:
            raise RuntimeError(event)

    async with ChannelCase(guide.endpoint) as case:
        alice = await enter(case, guide, "alice")
        bob = await enter(case, guide, "bob")
        carol = await enter(case, guide, "carol", channel=Crashing)
        await alice.assert_push("presence_diff", where=joined("carol"))

        bob.client.close()
        await alice.assert_push("presence_diff", where=left("bob"))
        carol.push("boom")
        await alice.assert_push("presence_diff", where=left("carol"))
        assert list(await guide.online.list("room:lobby")) == ["alice"]


# What a client is told.


@virtually
async def test_the_events_look_as_shown():
    """A state and a diff have the very shape of the page's JSON."""
    state, diff = (json.loads(block.code) for block in GUIDE.blocks if block.language == "json")
    guide = GUIDE.run(until="What a client is told")
    async with ChannelCase(guide.endpoint) as case:
        for name in ("alice", "alice"):
            await enter(case, guide, name)
        bob = await join(case, guide, "bob")
        told = await bob.assert_push("presence_state")
        carol = await enter(case, guide, "carol")
        await guide.online.settled()
        bob.leave()
        left = await carol.assert_push("presence_diff")

    assert shape(told) == shape(state)
    assert shape(left) == shape(diff)
    assert len(told["bob"]["metas"][0]["phx_ref"]) == len(state["bob"]["metas"][0]["phx_ref"])


@virtually
async def test_the_events_may_have_other_names():
    """A client of that presence is sent the same, under the names that the class gives."""
    guide = GUIDE.run(until="What a client is told")
    crowd = guide.Crowd()

    class CrowdChannel(Channel):
        async def after_join(self) -> None:
            await crowd.enter(self, self.join_params["name"])

    async with ChannelCase(Endpoint({}, presences=[crowd])) as case:
        alice = await (await case.connect(Socket)).join(
            "room:1", {"name": "alice"}, channel=CrowdChannel
        )
        assert (await alice.assert_push("crowd_state")).keys() == {"alice"}
        await (await case.connect(Socket)).join("room:1", {"name": "bob"}, channel=CrowdChannel)
        assert (await alice.assert_push("crowd_diff"))["joins"].keys() == {"bob"}
        await alice.refute_push("presence_diff")
    assert 'events: { state: "crowd_state", diff: "crowd_diff" }' in GUIDE.text


def shape(value: Any) -> Any:
    """A JSON value without its numbers and texts."""
    match value:
        case dict():
            return {key: shape(part) for key, part in value.items()}
        case list():
            return [shape(part) for part in value]
        case _:
            return type(value)


async def test_a_view_lists_and_counts():
    """The view answers with the people, how many they are, and with how many connections."""
    guide = GUIDE.run(until="What a client is told")
    transport = httpx.ASGITransport(app=guide.app)
    async with (
        ChannelCase(guide.endpoint) as case,
        httpx.AsyncClient(transport=transport, base_url="http://test") as browser,
    ):
        for name in ("alice", "alice", "bob"):
            await enter(case, guide, name)
        answer = (await browser.get("/rooms/lobby")).json()

        assert {key: len(entry["metas"]) for key, entry in answer["people"].items()} == {
            "alice": 2,
            "bob": 1,
        }
        assert (answer["users"], answer["connections"]) == (2, 3)
        entry = await guide.online.get_by_key("room:lobby", "bob")
        assert entry == answer["people"]["bob"]
        assert await guide.online.get_by_key("room:lobby", "carol") is None


async def test_a_view_that_is_not_async_lists_and_counts():
    """A def route, which runs in a thread, gets the same through the endpoint."""
    guide = GUIDE.run(until="From code that is not async")
    transport = httpx.ASGITransport(app=guide.app)
    async with (
        ChannelCase(guide.endpoint) as case,
        httpx.AsyncClient(transport=transport, base_url="http://test") as browser,
    ):
        for name in ("alice", "bob"):
            await enter(case, guide, name)
        answer = (await browser.get("/rooms/lobby/names")).json()

        assert answer == {"names": ["alice", "bob"], "users": 2}
        with pytest.raises(WrongThread):
            await asyncio.to_thread(asyncio.run, guide.online.list("room:lobby"))


@virtually
async def test_phoenixs_own_order():
    """Track, then push: the client has the list, with itself in it."""
    guide = GUIDE.run(until="In Phoenix's own order")
    async with ChannelCase(guide.endpoint) as case:
        alice = await join(case, guide, "alice", channel=guide.PhoenixRoomChannel)
        await alice.assert_push("presence_state", {"alice": {"metas": [{"online_at": ANY}]}})


@virtually
async def test_the_list_first_and_track_afterwards():
    """In that order the list is empty, and the client sees itself join; with enter it does not."""
    guide = GUIDE.run(until="In Phoenix's own order")

    class StateFirst(guide.RoomChannel):  # type: ignore[misc, name-defined]
        async def after_join(self) -> None:
            self.push("presence_state", await guide.online.list(self))
            guide.online.track(self, self.assigns["name"], {})

    async with ChannelCase(guide.endpoint) as case:
        alice = await join(case, guide, "alice", channel=StateFirst)
        assert await alice.assert_push("presence_state") == {}
        await alice.assert_push("presence_diff", where=joined("alice"))

        bob = await join(case, guide, "bob")
        await bob.assert_push("presence_state", {"alice": {}, "bob": {}})
        await bob.refute_push("presence_diff")


# A chat.


@virtually
async def test_the_chat_lists_names_roles_and_statuses():
    """The list has names, roles and statuses; what is said reaches all; silence is refused."""
    guide = GUIDE.run(until="A chat")
    async with ChannelCase(guide.endpoint) as case:
        alice = await chat(case, guide, "1", "alice")
        bob = await join_chat(case, guide, "2", "bob")
        meta = {"role": "guest", "status": "online"}
        await bob.assert_push(
            "presence_state",
            {"1": {"metas": [{"username": "alice", **meta}]}, "2": {"metas": [meta]}},
        )

        bob.push("shout", {"body": "hello"})
        await alice.assert_push("shout", {"from": "bob", "body": "hello"})
        await bob.assert_push("shout", {"from": "bob", "body": "hello"})

        refused = bob.push("shout", {"body": " "})
        await bob.assert_reply(refused, "error", {"reason": "say something"})

        bob.push("shout", {})  # a KeyError
        await bob.assert_errored()
        assert alice.channel.is_joined


@virtually
async def test_a_meta_is_json():
    """What is no JSON can't be in a meta; anything else can."""
    guide = GUIDE.run(until="A chat")
    async with ChannelCase(guide.endpoint) as case:
        alice = await chat(case, guide, "1", "alice")
        with pytest.raises(PayloadError):
            guide.online.update(alice.channel, "1", {"seen": float("nan")})
        guide.online.update(alice.channel, "1", {"avatar": "/a.svg", "tags": ["a", None, 1.5]})
        await alice.assert_push("presence_diff", joins("1", avatar="/a.svg"))


# Away and back.


@virtually
async def test_away_and_back():
    """One diff has the new meta in joins and the old one in leaves, with matching refs."""
    guide = GUIDE.run(until="Away and back")
    async with ChannelCase(guide.endpoint) as case:
        alice = await chat(case, guide, "1", "alice", channel=guide.StatusChannel)
        bob = await chat(case, guide, "2", "bob")

        alice.push("status", {"status": "away"})
        diff = await bob.assert_push("presence_diff", where=left("1"))

        (new,), (old,) = diff["joins"]["1"]["metas"], diff["leaves"]["1"]["metas"]
        assert (new["status"], old["status"]) == ("away", "online")
        assert new["phx_ref_prev"] == old["phx_ref"] != new["phx_ref"]
        assert new["username"] == "alice"

        refused = alice.push("status", {"status": "asleep"})
        await alice.assert_reply(refused, "error", {"reason": "online or away"})


@virtually
async def test_each_tab_has_a_status_of_its_own():
    """Somebody away in one tab and online in another has both metas."""
    guide = GUIDE.run(until="Away and back")
    async with ChannelCase(guide.endpoint) as case:
        tab = await chat(case, guide, "1", "alice", channel=guide.StatusChannel)
        await chat(case, guide, "1", "alice", channel=guide.StatusChannel)

        answered = tab.push("status", {"status": "away"})
        await tab.assert_reply(answered, "ok")
        metas = (await guide.online.list("chat:lobby"))["1"]["metas"]

        assert sorted(meta["status"] for meta in metas) == ["away", "online"]


@virtually
async def test_untrack_lets_a_presence_leave():
    """It leaves, its channel stays."""
    guide = GUIDE.run(until="Away and back")
    async with ChannelCase(guide.endpoint) as case:
        alice = await chat(case, guide, "1", "alice")
        bob = await chat(case, guide, "2", "bob")

        guide.online.untrack(alice.channel, "1")

        await bob.assert_push("presence_diff", where=left("1"))
        assert alice.channel.is_joined


# On the server.


@virtually
async def test_callbacks_know_the_first_and_the_last():
    """Two tabs of alice come once and leave once; her status is told when it changes."""
    guide = GUIDE.run(until="On the server")
    online = guide.Registered()
    guide.online = online  # what the channels of the guide use
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        tabs = [
            await chat(case, guide, "1", "alice", channel=guide.StatusChannel) for _ in range(2)
        ]
        for status in ("away", "away"):
            await tabs[0].assert_reply(tabs[0].push("status", {"status": status}), "ok")
        for tab in tabs:
            tab.leave()
        await case.settled()
        await online.settled()

    assert guide.history == ["1 came to chat:lobby", "1 is away", "1 left chat:lobby"]


@virtually
async def test_a_callback_that_raises_is_followed_by_the_next(caplog: pytest.LogCaptureFixture):
    """It is logged, and clients are told all the same."""
    guide = GUIDE.run(until="On the server")

    class Failing(guide.Registered):  # type: ignore[misc, name-defined]
        def on_join(self, join: Any) -> None:
            raise RuntimeError("no database")

    guide.online = Failing()
    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        alice = await chat(case, guide, "1", "alice")
        bob = await chat(case, guide, "2", "bob")
        await alice.assert_push("presence_diff", where=joined("2"))
        bob.leave()
        await alice.assert_push("presence_diff", where=left("2"))
        await guide.online.settled()
        assert guide.history == ["2 left chat:lobby"]

    assert "no database" in caplog.text


@virtually
async def test_a_slow_callback_does_not_hold_up_what_clients_are_told():
    """Alice is told of bob while the callback for him still runs."""
    guide = GUIDE.run(until="On the server")
    finish = asyncio.Event()

    class Slow(guide.Registered):  # type: ignore[misc, name-defined]
        async def on_join(self, join: Any) -> None:
            await finish.wait()

    guide.online = Slow()
    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        alice = await chat(case, guide, "1", "alice")
        await chat(case, guide, "2", "bob")
        await alice.assert_push("presence_diff", where=joined("2"))
        finish.set()


@virtually
async def test_handle_metas_keeps_the_record():
    """A record is broadcast when it is broken, and not when people come back."""
    guide = GUIDE.run(until="On the server")
    guide.online = guide.Records()
    guide.endpoint = Endpoint({}, presences=[guide.online])
    async with ChannelCase(guide.endpoint) as case:
        alice = await chat(case, guide, "1", "alice")
        await alice.assert_push("record", {"users": 1})
        bob = await chat(case, guide, "2", "bob")
        await alice.assert_push("record", {"users": 2})

        bob.leave()
        await alice.assert_push("presence_diff", where=left("2"))
        await chat(case, guide, "2", "bob")
        await alice.assert_push("presence_diff", where=joined("2"))
        await alice.refute_push("record")
        await chat(case, guide, "3", "carol")
        await alice.assert_push("record", {"users": 3})


@virtually
async def test_a_channel_sees_diffs_first():
    """The intercepting channel's client gets what the channel pushes: the diff, and the news."""
    guide = GUIDE.run(until="See each diff first")
    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        alice = await enter(case, guide, "alice", channel=guide.NewsChannel)
        bob = await enter(case, guide, "bob")
        await alice.assert_push("news", {"came": 1, "went": 0})
        await alice.assert_push("presence_diff", where=joined("bob"))

        bob.leave()
        await alice.assert_push("news", {"came": 0, "went": 1})
        await bob.refute_push("news")


# Not only channels.


class Steps:
    """Steps of a job, each of which waits to be done."""

    def __init__(self) -> None:
        self.futures = [asyncio.get_running_loop().create_future() for _ in range(2)]

    def __iter__(self) -> Any:
        return (lambda each=each: each for each in self.futures)


@virtually
async def test_a_task_is_in_a_room():
    """The job is listed with how far it is, and leaves when it is done or fails."""
    guide = GUIDE.run(until="Not only channels")
    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        alice = await enter(case, guide, "alice")
        for outcome in ("done", "failed"):
            pages = Steps()
            job = asyncio.create_task(guide.rebuild_index("room:lobby", pages))
            await alice.assert_push("presence_diff", joins("indexer", done=0))
            pages.futures[0].set_result(None)
            await alice.assert_push("presence_diff", joins("indexer", done=1))

            if outcome == "done":
                pages.futures[1].set_result(None)
            else:
                pages.futures[1].set_exception(RuntimeError("the disk is full"))
            await asyncio.wait([job])
            await alice.assert_push("presence_diff", {"joins": {}}, where=left("indexer"))
            assert (job.exception() is None) == (outcome == "done")


@virtually
async def test_a_lease_is_in_a_room():
    """It is there for the duration of its block, and its meta can be changed."""
    guide = GUIDE.run(until="Not only channels")
    jobs: asyncio.Queue[str | None] = asyncio.Queue()

    async def papers() -> Any:
        while (job := await jobs.get()) is not None:
            yield job

    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        alice = await enter(case, guide, "alice")
        printing = asyncio.create_task(guide.be_the_printer("room:lobby", papers()))
        await alice.assert_push("presence_diff", joins("printer", paper="A4"))
        jobs.put_nowait("A3")
        await alice.assert_push("presence_diff", joins("printer", paper="A3"))
        jobs.put_nowait(None)
        await printing
        await alice.assert_push("presence_diff", {"joins": {}}, where=left("printer"))


@virtually
async def test_a_tracker_knows_who_holds_a_job():
    """Jobs are listed while they are worked on, and queued again when their worker is gone."""
    guide = GUIDE.run(until="Trackers")
    jobs = guide.jobs
    async with ChannelCase(guide.workshop):
        steps = Steps()
        worker = asyncio.create_task(guide.work("j1", steps))
        await asyncio.sleep(0)
        assert jobs.list("jobs") == [("j1", {"worker": "w1", "phx_ref": ANY})]

        jobs.update(worker, "j1", {"worker": "w1", "step": 2}, topic="jobs")
        await jobs.settled()
        assert jobs.queue.empty()

        steps.futures[0].set_exception(RuntimeError("out of paper"))
        await asyncio.wait([worker])
        await jobs.settled()
        assert jobs.queue.get_nowait() == "j1"
        assert jobs.list("jobs") == []
        assert worker.exception() is not None


# Hidden members.


@virtually
async def test_support_looks_in_unseen():
    """Hidden support sees alice, who sees it from when it steps in until it steps back."""
    guide = GUIDE.run(until="Hidden members")
    online = guide.online
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        alice = await enter(case, guide, "alice")
        support = await join(case, guide, "", channel=guide.SupportChannel)
        assert (await support.assert_push("presence_state")).keys() == {"alice"}
        await alice.refute_push("presence_diff")
        assert list(await online.list("room:lobby")) == ["alice"]
        assert online.count_users("room:lobby") == 1
        assert online.online(["support"]) == set()
        assert guide.who_listens("room:lobby") == ["support"]

        support.push("step_in")
        await alice.assert_push("presence_diff", where=joined("support"))
        assert guide.who_listens("room:lobby") == []
        support.push("step_back")
        await alice.assert_push("presence_diff", where=left("support"))
        assert guide.who_listens("room:lobby") == ["support"]


@virtually
async def test_a_channel_may_only_look():
    """``push_state`` gives the list to a channel that is in it in no way."""
    guide = GUIDE.run(until="Hidden members")

    class Looking(Channel):
        async def after_join(self) -> None:
            await guide.online.push_state(self)

    async with ChannelCase(Endpoint({}, presences=[guide.online])) as case:
        await enter(case, guide, "alice")
        bob = await join(case, guide, "bob", channel=Looking)
        assert (await bob.assert_push("presence_state")).keys() == {"alice"}
        assert guide.online.list_hidden("room:lobby") == {}
        await enter(case, guide, "carol")
        await bob.assert_push("presence_diff", where=joined("carol"))


# Follow people.


@virtually
async def test_friends_are_followed_wherever_they_are():
    """Who is online comes first; then who came to their first place, and left their last one."""
    guide = GUIDE.run(until="Follow people")
    online = guide.online
    async with ChannelCase(Endpoint({}, presences=[online])) as case:
        bob = await enter(case, guide, "bob")
        client = await case.connect(guide.UserSocket)
        friends = {"friends": ["bob", "carol"]}
        alice = await client.join("friends:me", friends, channel=guide.FriendsChannel)
        await alice.assert_push("friends", {"online": {"bob": ["room:lobby"]}})
        assert online.online(["bob", "carol", "dave"]) == {"bob"}

        carol = await enter(case, guide, "carol")
        await alice.assert_push("came_online", {"friend": "carol"})
        again = await carol.client.join("room:garden", {"name": "carol"})
        await enter(case, guide, "dave")
        carol.leave()
        again.leave()
        await alice.assert_push("went_offline", {"friend": "carol"})
        bob.leave()
        await alice.assert_push("went_offline", {"friend": "bob"})

        for event in ("came_online", "went_offline", "friends"):
            await alice.refute_push(event)


@virtually
async def test_a_slow_reader_gets_another_snapshot():
    """Whoever is a thousand changes of a topic behind gets the new truth instead of them."""
    guide = GUIDE.run(until="Follow people")
    online = guide.online
    async with (
        ChannelCase(Endpoint({}, presences=[online])),
        online.lease("room:lobby", "bob"),
        online.watch("room:lobby") as watch,
    ):
        assert await anext(watch) == guide.Snapshot({"bob": ANY}, ANY)
        async with online.lease("room:lobby", "alice") as alice:
            assert (await anext(watch)).key == "alice"
            for number in range(1001):
                alice.update({"n": number})

            (meta,) = (await anext(watch)).presences["alice"]["metas"]
            assert meta["n"] == 1000


async def test_when_people_were_last_seen(folder: Path):
    """Known ids have a time, those who are online now; others are missing."""
    guide = GUIDE.run(until="Follow people")
    online = guide.Remembering()
    started_at = time.time()
    async with ChannelCase(Endpoint({}, presences=[online])):
        async with online.lease("room:lobby", "bob"):
            pass
        async with online.lease("room:lobby", "alice"):
            left_at = time.time()
            seen = await online.last_seen(["alice", "bob", "carol"])

    assert seen.keys() == {"alice", "bob"}
    assert started_at <= seen["bob"] <= left_at <= seen["alice"] <= time.time()
    assert "last_seen.db" in os.listdir(folder)

    async with ChannelCase(Endpoint({}, presences=[online])):  # after a restart
        assert (await online.last_seen(["bob"])) == {"bob": seen["bob"]}


# Tests.


async def test_the_test_passes():
    """The guide's own test passes for the guide's chat."""
    await GUIDE.run().test_alice_sees_bob_come_and_go()


async def test_the_test_fails_when_it_should():
    """It fails for a chat that tracks nobody."""
    guide = GUIDE.run()
    guide.ChatSocket.channels["chat:*"].after_join = Channel.after_join
    with pytest.raises((AssertionError, JoinRefused)):
        await guide.test_alice_sees_bob_come_and_go()
