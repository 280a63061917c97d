"""TrackJoins: presence by itself, as Drab has it; who is tracked where, under which key."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from roost import (
    Channel,
    ConnectInfo,
    Endpoint,
    JoinRefused,
    Policy,
    Presence,
    PubSub,
    Socket,
    TopicFull,
    TrackJoins,
    event,
)
from roost.exceptions import ConfigurationError, InvalidKey
from roost.testing import ChannelCase, ClientCase
from tests.clients import connect
from tests.servers import run_uvicorn
from tests.virtual_clock import VirtualClockLoop, virtually

TOPIC = "room:1"


class Room(Channel):
    """A channel that knows nothing of presences."""

    @event("subscribe")
    def on_subscribe(self, payload: Any) -> dict[str, Any]:
        self.subscribe(payload["topic"])
        return {}

    @event("unsubscribe")
    def on_unsubscribe(self, payload: Any) -> dict[str, Any]:
        self.unsubscribe(payload["topic"])
        return {}

    @event("crash")
    def on_crash(self, payload: Any) -> None:
        raise LookupError("crash")


def socket_of(track: TrackJoins | None, room: type[Channel[Any]] = Room) -> type[Socket]:
    """A socket whose channels are tracked."""

    class UserSocket(Socket):
        channels = {"room:*": room}
        presence = track

    return UserSocket


def app(online: Presence, *, pubsub: PubSub | None = None) -> Endpoint:
    return Endpoint({}, presences=[online], pubsub=pubsub)


async def keys(online: Presence, topic: str = TOPIC) -> list[str]:
    return sorted(await online.list(topic))


async def say(room: Any, event: str, **payload: Any) -> None:
    await room.assert_reply(room.push(event, payload), "ok")


# The scenes of Drab's tests and documentation.


@virtually
async def test_nothing_is_tracked_unless_asked_for():
    """A socket and a channel that say nothing of presence are not tracked."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        room = await (await case.connect(socket_of(None))).join(TOPIC)
        await say(room, "subscribe", topic="news")

        assert online.count_connections(TOPIC) == online.count_connections("news") == 0


@virtually
async def test_browsers_and_topics_are_counted():
    """Each joined topic counts by itself, each subscribed one too, and that until unsubscribed."""
    online = Presence()
    user_socket = socket_of(TrackJoins(online))
    async with ChannelCase(app(online)) as case:
        browser = await case.connect(user_socket, {"browser_id": "b1"})
        alice = await browser.join(TOPIC)
        assert online.count_connections(alice.channel) == 1

        tab = await (await case.connect(user_socket, {"browser_id": "b1"})).join(TOPIC)
        assert online.count_connections(alice.channel) == 2
        assert online.count_users(alice.channel) == 1

        await browser.join("room:2")
        assert (online.count_connections(TOPIC), online.count_connections("room:2")) == (2, 1)

        for room in (alice, tab):
            await say(room, "subscribe", topic="news")
        assert online.count_connections("news") == 2
        assert online.count_users("news") == 1
        await say(alice, "unsubscribe", topic="news")
        assert online.count_connections("news") == 1
        assert online.count_connections(TOPIC) == 2


@virtually
async def test_a_topic_is_tracked_once():
    """Subscribing again, or to the own topic, tracks nothing more; nor does unsubscribing undo it.

    The own topic is tracked by its join, until the channel ends.
    """
    online = Presence()
    async with ChannelCase(app(online)) as case:
        room = await (await case.connect(socket_of(TrackJoins(online)))).join(TOPIC)

        for topic in ("news", "news", TOPIC):
            await say(room, "subscribe", topic=topic)
        assert (online.count_connections("news"), online.count_connections(TOPIC)) == (1, 1)

        for _ in range(2):
            await say(room, "unsubscribe", topic=TOPIC)
        assert online.count_connections(TOPIC) == 1


@virtually
async def test_counts_are_told_on_connect_and_disconnect():
    """After the end the count by the topic's name is right already, and can be broadcast."""
    online = Presence()

    class Counting(Channel):
        def after_join(self) -> None:
            self.broadcast("users", {"count": online.count_users(self)})

        def terminate(self, reason: object) -> None:
            self.broadcast("users", {"count": online.count_users(self.topic)})

    user_socket = socket_of(TrackJoins(online), Counting)
    async with ChannelCase(app(online)) as case:
        alice = await (await case.connect(user_socket)).join(TOPIC)
        await alice.assert_push("users", {"count": 1})
        bob = await (await case.connect(user_socket)).join(TOPIC)
        await alice.assert_push("users", {"count": 2})

        bob.client.close()

        await alice.assert_push("users", {"count": 1})


@virtually
async def test_a_module_of_ones_own():
    """Drab's own module: start and stop track as they like, here without a TrackJoins."""
    online = Presence()

    class TrackBrowsers:
        def start(self, channel: Channel[Any], topic: str) -> str:
            meta = {"topic": topic}
            return online.track(channel, channel.socket.browser_id, meta, topic=topic)

        def stop(self, channel: Channel[Any], topic: str) -> None:
            online.untrack(channel, channel.socket.browser_id, topic=topic)

    class Tracked(Room):
        presence = TrackBrowsers()

    async with ChannelCase(app(online)) as case:
        alice = await case.connect(socket_of(None, Tracked), {"browser_id": "b1"})
        room = await alice.join(TOPIC)
        await say(room, "subscribe", topic="news")
        (meta,) = (await online.list("news"))["b1"]["metas"]
        assert meta["topic"] == "news"

        await say(room, "unsubscribe", topic="news")
        assert (await keys(online), await keys(online, "news")) == (["b1"], [])


# The key.


SESSION, STORE = {"user_id": 42}, {"user_id": "store"}


@virtually
@pytest.mark.parametrize(
    ("id", "session", "store", "key"),
    [
        ((), SESSION, STORE, "browser"),
        ("user_id", SESSION, STORE, "42"),
        (["user_id"], SESSION, STORE, "42"),
        ([("session", "user_id")], SESSION, STORE, "42"),
        ([("session", "user_id")], {}, STORE, "browser"),
        ([("session", "user_id")], None, STORE, "browser"),
        ([("store", "user_id")], SESSION, STORE, "store"),
        ([("store", "user_id")], SESSION, {}, "browser"),
        ([("store", "user_id"), ("session", "user_id")], SESSION, STORE, "store"),
        ([("store", "user_id"), ("session", "user_id")], SESSION, {}, "42"),
        ([("store", "user_id"), ("session", "user_id")], SESSION, {"user_id": None}, "42"),
        ([("store", "user_id"), ("session", "user_id")], SESSION, {"user_id": False}, "42"),
        ([("session", "user_id"), ("store", "user_id")], SESSION, STORE, "42"),
        ([("session", "user_id"), ("store", "user_id")], None, STORE, "store"),
        ([("session", "user_id"), ("store", "user_id")], None, {}, "browser"),
        ([("store", "user_id")], None, {"user_id": 0}, "0"),
        ([("store", "user_id")], None, {"user_id": uuid.UUID(int=7)}, str(uuid.UUID(int=7))),
        ([("assigns", "user_id"), "user_id"], SESSION, STORE, "assigned"),
        ([("assigns", "missing"), "user_id"], SESSION, STORE, "42"),
        ([("params", "user_id")], SESSION, STORE, "connect"),
        ([("params", "room_id")], SESSION, STORE, "7"),
        ([("params", "zero"), "user_id"], SESSION, STORE, "0"),
        ([("params", "nothing"), "user_id"], SESSION, STORE, "42"),
        ([("params", "missing"), "user_id"], SESSION, STORE, "42"),
        (lambda channel: channel.topic, SESSION, STORE, TOPIC),
        (lambda channel: 7, SESSION, STORE, "7"),
        (lambda channel: None, SESSION, STORE, "browser"),
    ],
)
async def test_where_the_key_comes_from(id: Any, session: Any, store: dict[str, Any], key: str):
    """The first source that has a value, or else the browser; whatever it is becomes a string."""
    online = Presence()

    class UserSocket(socket_of(TrackJoins(online, id=id))):  # type: ignore[misc]
        def connect(self, params: Any, info: ConnectInfo) -> None:
            self.store.update(store)
            self.assigns["user_id"] = "assigned"

    async with ChannelCase(app(online)) as case:
        params = {"browser_id": "browser", "user_id": "connect", "room_id": "of the connect"}
        alice = await case.connect(UserSocket, params, ConnectInfo(session=session))
        await alice.join(TOPIC, {"room_id": 7, "zero": 0, "nothing": None})

        assert await keys(online) == [key]


@virtually
async def test_assigns_may_be_an_object():
    """Assigns that join replaced by an object of its own are looked into by attribute."""
    online = Presence()

    class User:
        id = "alice"

    class Typed(Channel[User]):
        presence = TrackJoins(online, id=[("assigns", "name"), ("assigns", "id")])

        def join(self, topic: str, params: Any) -> None:
            self.assigns = User()

    async with ChannelCase(app(online)) as case:
        await (await case.connect(socket_of(None, Typed))).join(TOPIC)

        assert await keys(online) == ["alice"]


@virtually
async def test_join_may_put_the_key_into_the_store():
    """The key is looked up after join, which may have found out who it is."""
    online = Presence()

    class LogIn(Channel):
        def join(self, topic: str, params: Any) -> None:
            self.socket.store["user_id"] = params["user_id"]

    user_socket = socket_of(TrackJoins(online, id=[("store", "user_id")]), LogIn)
    async with ChannelCase(app(online)) as case:
        await (await case.connect(user_socket)).join(TOPIC, {"user_id": "alice"})

        assert await keys(online) == ["alice"]


@virtually
async def test_a_browser_without_an_id():
    """A client that names no browser gets one name for all channels of its connection."""
    online = Presence()
    user_socket = socket_of(TrackJoins(online))
    async with ChannelCase(app(online)) as case:
        alice, bob = await case.connect(user_socket), await case.connect(user_socket)
        for client, topic in ((alice, TOPIC), (alice, "room:2"), (bob, TOPIC)):
            await client.join(topic)

        assert len(await keys(online)) == 2
        (key,) = await keys(online, "room:2")
        assert uuid.UUID(key).version == 4
        assert key in await keys(online)


@virtually
async def test_what_start_tracked_is_stopped():
    """The key may be another one by the time of the unsubscribe: what was tracked leaves."""
    online = Presence()
    user_socket = socket_of(TrackJoins(online, id=[("store", "user_id")]))
    async with ChannelCase(app(online)) as case:
        alice = await case.connect(user_socket, {"browser_id": "b1"})
        room = await alice.join(TOPIC)
        await say(room, "subscribe", topic="news")
        alice.socket.store["user_id"] = "alice"
        await say(room, "subscribe", topic="sports")

        await say(room, "unsubscribe", topic="news")
        assert (await keys(online, "news"), await keys(online, "sports")) == ([], ["alice"])

        alice.socket.store.clear()
        await say(room, "unsubscribe", topic="sports")
        assert (await keys(online, "sports"), await keys(online)) == ([], ["b1"])

        await say(room, "subscribe", topic="news")
        assert await keys(online, "news") == ["b1"]


@virtually
async def test_stop_by_hand():
    """An application may stop the channel's own topic, which no unsubscribe does."""
    online = Presence()
    track = TrackJoins(online)
    async with ChannelCase(app(online)) as case:
        room = await (await case.connect(socket_of(track))).join(TOPIC)

        track.stop(room.channel, TOPIC)

        assert await keys(online) == []


@pytest.mark.parametrize(
    "id",
    [
        ["session"],
        ("session", "user_id"),
        [("session",)],
        [("session", "")],
        [("cookies", "user_id")],
        [("session", 7)],
        [""],
        [()],
        "",
        "store",
        [None],
        {"store": "user_id"},
    ],
    ids=repr,
)
def test_an_id_that_says_nothing(id: Any):
    """A source that is none is refused where it is given, with an example of a right one."""
    with pytest.raises(ConfigurationError, match=r"\('session', 'user_id'\)"):
        TrackJoins(Presence(), id=id)


# Joining.


@virtually
async def test_the_meta_says_since_when_or_what_a_function_says():
    """By default it says since when, or what a function of the channel says."""
    online = Presence()

    def meta(channel: Channel[Any]) -> dict[str, Any]:
        return {"topic": channel.topic}

    class Described(Room):
        presence = TrackJoins(online, meta=meta)

    user_socket = socket_of(TrackJoins(online))
    async with ChannelCase(app(online)) as case:
        alice = await case.connect(user_socket, {"browser_id": "b1"})
        began_at = int(time.time())
        await alice.join(TOPIC)
        await alice.join("room:2", channel=Described)

        (meta_of_1,) = (await online.list(TOPIC))["b1"]["metas"]
        (meta_of_2,) = (await online.list("room:2"))["b1"]["metas"]
        assert began_at <= meta_of_1["online_at"] <= time.time()
        assert meta_of_1.keys() == {"online_at", "phx_ref"}
        assert meta_of_2["topic"] == "room:2"


@virtually
async def test_a_join_that_tracks_by_itself():
    """A key that join tracked already is left as it is, and the join goes on."""
    online = Presence()

    class TrackerBase(Room):
        def join(self, topic: str, params: Any) -> None:
            online.track(self, "b1", {"own": True})

    async with ChannelCase(app(online)) as case:
        alice = await case.connect(socket_of(TrackJoins(online), TrackerBase), {"browser_id": "b1"})
        await alice.join(TOPIC)

        (meta,) = (await online.list(TOPIC))["b1"]["metas"]
        assert meta["own"]


class Small(Presence):
    """Takes one presence for each topic."""

    policies = {"*": Policy(max_members=1)}


@virtually
@pytest.mark.parametrize("push_state", [False, True])
async def test_a_topic_that_is_full(push_state: bool):
    """A refusal of track is one of the join, with its payload; nobody hears of the client."""
    online = Small()
    user_socket = socket_of(TrackJoins(online, push_state=push_state))
    async with ChannelCase(app(online)) as case:
        alice = await (await case.connect(user_socket)).join(TOPIC)
        bob = await case.connect(user_socket)
        await alice.assert_push("presence_diff" if not push_state else "presence_state")

        with pytest.raises(JoinRefused) as refused:
            await bob.join(TOPIC)

        assert refused.value.payload == {"reason": "full", "max_members": 1}
        await alice.refute_push("presence_diff")
        assert bob.transport.received == []


@virtually
async def test_a_full_topic_can_not_be_subscribed_to():
    """A refusal of track is raised by subscribe, and nothing is subscribed to."""
    online = Small()
    user_socket = socket_of(TrackJoins(online))
    async with ChannelCase(app(online)) as case:
        alice, bob = [await (await case.connect(user_socket)).join(f"room:{n}") for n in (1, 2)]
        alice.channel.subscribe("news")

        with pytest.raises(TopicFull):
            bob.channel.subscribe("news")

        assert len(case.endpoint.pubsub.subscriptions("news")) == 1
        alice.channel.unsubscribe("news")
        bob.channel.subscribe("news")
        assert online.count_connections("news") == 1


@virtually
async def test_a_key_that_crashes(caplog: pytest.LogCaptureFixture):
    """What the application says wrong is a crash of the join; the log says what it was."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        for id in (lambda channel: "__proto__", lambda channel: channel.missing):
            alice = await case.connect(socket_of(TrackJoins(online, id=id)))
            with pytest.raises(JoinRefused, match="join crashed"):
                await alice.join(TOPIC)

        assert "'__proto__' can't be a presence key" in caplog.text
        assert "AttributeError" in caplog.text
        assert online.count_connections(TOPIC) == 0
        assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
            InvalidKey,
            AttributeError,
        ]


@virtually
@pytest.mark.parametrize("key", ["__proto__", {"a": 1}, [1], 1.5, True], ids=repr)
async def test_a_client_that_gives_a_bad_key(key: Any, caplog: pytest.LogCaptureFixture):
    """A parameter that can't be a key refuses the join; that is no crash of ours."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        alice = await case.connect(socket_of(TrackJoins(online, id=[("params", "name")])))

        with pytest.raises(JoinRefused, match="invalid key"):
            await alice.join(TOPIC, {"name": key})

        assert "crashed" not in caplog.text


@virtually
async def test_a_join_with_other_params_than_an_object():
    """A join whose parameters are no object has none of them; those of the connect are there."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        user_socket = socket_of(TrackJoins(online, id=[("params", "name")]))
        alice = await case.connect(user_socket, {"name": "alice"})
        alice.send("1", "1", TOPIC, "phx_join", ["name"])
        alice.send("2", "2", "room:2", "phx_join", b"\x00")

        assert await keys(online) == await keys(online, "room:2") == ["alice"]


@virtually
async def test_a_presence_that_nobody_runs(caplog: pytest.LogCaptureFixture):
    """A presence that the endpoint does not have crashes the join; the log says what to do."""
    async with ChannelCase() as case:
        alice = await case.connect(socket_of(TrackJoins(Presence())))
        with pytest.raises(JoinRefused, match="join crashed"):
            await alice.join(TOPIC)

    assert "name it in Endpoint(presences=[…])" in caplog.text


# The client's list.


class Named(Presence):
    """Presences whose fetch takes a while."""

    async def fetch(self, topic: str, presences: Any) -> Any:
        await asyncio.sleep(0.01)
        return presences


HAS_EAGER_TASKS = sys.version_info >= (3, 12)


@pytest.mark.parametrize("is_eager", [False, True] if HAS_EAGER_TASKS else [False])
@pytest.mark.parametrize("online_class", [Presence, Named], ids=["bare", "fetched"])
def test_the_state_comes_by_itself(online_class: type[Presence], is_eager: bool):
    """With push_state the client gets the list behind its join reply, and no diff that is in it."""

    async def scene() -> None:
        if sys.version_info >= (3, 12) and is_eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        online = online_class()
        user_socket = socket_of(TrackJoins(online, push_state=True))
        async with ChannelCase(app(online)) as case:
            alice = await (await case.connect(user_socket, {"browser_id": "alice"})).join(TOPIC)
            assert (await alice.assert_push("presence_state")).keys() == {"alice"}
            await alice.refute_push("presence_diff")

            bob = await (await case.connect(user_socket, {"browser_id": "bob"})).join(TOPIC)
            assert (await bob.assert_push("presence_state")).keys() == {"alice", "bob"}
            assert (await alice.assert_push("presence_diff"))["joins"].keys() == {"bob"}
            await say(bob, "subscribe", topic="news")
            await bob.refute_push("presence_diff")
            await bob.refute_push("presence_state")

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(scene())


@virtually
async def test_no_state_unless_asked_for():
    """By default a client hears of itself in a diff, and of the others when it asks."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        alice = await (await case.connect(socket_of(TrackJoins(online)))).join(TOPIC)

        assert len((await alice.assert_push("presence_diff"))["joins"]) == 1
        await alice.refute_push("presence_state")


@virtually
async def test_diffs_of_subscribed_topics_are_not_logged(caplog: pytest.LogCaptureFixture):
    """A channel without handle_info is not told off for the presences of what it subscribed to."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        alice = await (await case.connect(socket_of(TrackJoins(online)))).join(TOPIC)
        await say(alice, "subscribe", topic="news")
        await online.settled()
        await asyncio.sleep(1)

    assert "unexpected message" not in caplog.text


# The end.


@virtually
@pytest.mark.parametrize("end", ["leave", "crash", "disconnect"])
async def test_all_leave_with_their_channel(end: str):
    """However a channel ends, it leaves its own topic and those that it subscribed to."""
    online = Presence()
    user_socket = socket_of(TrackJoins(online))
    async with ChannelCase(app(online)) as case:
        alice = await (await case.connect(user_socket)).join(TOPIC)
        bob = await (await case.connect(user_socket)).join(TOPIC)
        for room in (alice, bob):
            await say(room, "subscribe", topic="news")
        assert (online.count_connections(TOPIC), online.count_connections("news")) == (2, 2)

        match end:
            case "leave":
                bob.leave()
            case "crash":
                bob.push("crash")
            case _:
                bob.client.close()
        await case.settled()

        assert (online.count_connections(TOPIC), online.count_connections("news")) == (1, 1)


@virtually
async def test_a_new_join_takes_the_place():
    """A client that joins its topic anew is there once."""
    online = Presence()
    async with ChannelCase(app(online)) as case:
        alice = await case.connect(socket_of(TrackJoins(online)))
        for _ in range(3):
            await alice.join(TOPIC)
        await case.settled()

        assert online.count_connections(TOPIC) == 1


# Several endpoints.


async def _join_one(case: ChannelCase, socket: type[Socket], browser: str) -> ClientCase:
    client = await case.connect(socket, {"browser_id": browser})
    await client.join(TOPIC)
    return client


@virtually
async def test_two_endpoints_with_their_own_presences():
    """The same channel counts for each endpoint by itself, by the presence of its socket."""
    front, back = Presence(), Presence()
    async with ChannelCase(app(front)) as fronts, ChannelCase(app(back)) as backs:
        for browser in ("alice", "bob"):
            await _join_one(fronts, socket_of(TrackJoins(front)), browser)
        await _join_one(backs, socket_of(TrackJoins(back)), "carol")

        assert await keys(front) == ["alice", "bob"]
        assert await keys(back) == ["carol"]


@virtually
async def test_two_endpoints_with_one_presence():
    """Endpoints that share a PubSub and a presence count together."""
    online, pubsub = Presence(), PubSub()
    user_socket = socket_of(TrackJoins(online))
    async with (
        ChannelCase(app(online, pubsub=pubsub)) as fronts,
        ChannelCase(app(online, pubsub=pubsub)) as backs,
    ):
        await _join_one(fronts, user_socket, "alice")
        bob = await _join_one(backs, user_socket, "bob")
        assert await keys(online) == ["alice", "bob"]

        bob.close()
        await backs.settled()

        assert await keys(online) == ["alice"]


# On a server.


async def _log_in(request: Request) -> Response:
    request.session.update(user_id=42, _csrf_token="t0ken")
    return PlainTextResponse("t0ken")


async def test_a_session_of_a_server():
    """Over a real connection the session's user is the key, and the browser's id without one."""
    online = Presence()
    user_socket = socket_of(TrackJoins(online, id="user_id"))
    endpoint = Endpoint({"/socket": user_socket}, presences=[online])
    app = Starlette(
        routes=[Route("/log-in", _log_in), Mount("/", endpoint)],
        middleware=[Middleware(SessionMiddleware, secret_key="secret")],
        lifespan=endpoint.lifespan,
    )
    async with run_uvicorn(app) as url:
        async with httpx.AsyncClient() as browser:
            response = await browser.get(f"{url}/log-in")
        cookie = response.headers["set-cookie"].partition(";")[0]
        params = {"_csrf_token": response.text, "browser_id": "b1"}

        async with connect(url, params=params, additional_headers={"Cookie": cookie}) as alice:
            await alice.join(TOPIC)
            async with connect(url, params=params) as bob:
                await bob.join(TOPIC)

                assert await keys(online) == ["42", "b1"]
