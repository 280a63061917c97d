"""The endpoint's life, with real servers and clients around it."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount as StarletteMount

from roost import (
    Channel,
    ConnectInfo,
    Drainer,
    Endpoint,
    Mount,
    Presence,
    PubSub,
    Socket,
    WebSocket,
    event,
)
from roost.exceptions import ConfigurationError, NotStarted, PayloadError
from tests.clients import connect, refusal
from tests.servers import run_process, run_uvicorn

pytestmark = pytest.mark.usefixtures("each_path")


class RoomChannel(Channel):
    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


# Where it runs.


async def test_an_endpoint_alone_answers_404_to_what_is_for_none_of_its_sockets():
    """An endpoint is an ASGI application; what is for none of its sockets gets 404."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with run_uvicorn(endpoint) as url, httpx.AsyncClient() as http:
        async with connect(url) as alice, connect(url, "/socket/") as bob:
            assert await alice.join("room:1") == {}
            assert await bob.join("room:1") == {}
            assert endpoint.connection_count == 2

        assert (await http.get(f"{url}/other")).status_code == 404
        assert (await refusal(url, "/other")).status == 404


async def test_a_trailing_slash():
    """It makes no difference."""
    async with (
        run_uvicorn(Endpoint({"/socket/": UserSocket})) as url,
        connect(url, websocket_path="/socket/websocket/") as alice,
    ):
        assert await alice.join("room:1") == {}


@pytest.mark.parametrize(
    ("root_path", "path", "is_found"),
    [
        ("", "/socket/websocket", True),
        ("/api", "/api/socket/websocket", True),
        ("/api/", "/api/socket/websocket", True),
        ("/api", "/socket/websocket", True),  # a server that has taken the root off
        ("/socket", "/socket/socket/websocket", True),
        ("/", "/socket/websocket", True),
        ("/api", "/apis/socket/websocket", False),
        ("/api", "/api", False),
        ("", "/api/socket/websocket", False),
    ],
)
async def test_paths_below_a_root(root_path: str, path: str, is_found: bool):
    """The paths of sockets are relative to where the endpoint is mounted."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("there is no body to read")

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "GET", "path": path, "root_path": root_path, "headers": []}
    await Endpoint({"/socket": UserSocket})(scope, receive, send)

    assert sent[0]["status"] == (400 if is_found else 404)


async def test_a_lifespan_of_the_application():
    """An application runs the endpoint inside a lifespan of its own."""
    endpoint = Endpoint({"/": UserSocket})
    stopped = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with endpoint.running() as running:
            assert running is endpoint
            yield
        stopped.append(True)

    app = Starlette(lifespan=lifespan, routes=[StarletteMount("/socket", endpoint)])
    async with run_uvicorn(app) as url, connect(url) as alice:
        assert await alice.join("room:1") == {}

    assert stopped == [True]
    assert not endpoint.pubsub.is_running


async def test_the_first_connection_starts_an_endpoint_without_a_lifespan(
    caplog: pytest.LogCaptureFixture,
):
    """The first connection starts the endpoint, and the log says how to do better, once."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with run_uvicorn(endpoint, lifespan="off") as url:

        async def join() -> Any:
            async with connect(url) as client:
                return await client.join("room:1")

        assert await asyncio.gather(*(join() for _ in range(5))) == [{}] * 5
        assert await join() == {}

        await endpoint.stop()  # one start, one stop
        assert not endpoint.pubsub.is_running
    (warning,) = caplog.messages
    assert "FastAPI(lifespan=endpoint.lifespan)" in warning


async def test_an_adapter_that_takes_its_time():
    """Connections that come while the endpoint starts wait for it, and share one run."""

    class SlowPresence(Presence):
        starts = 0

        async def start(self, pubsub: PubSub) -> None:
            self.starts += 1
            await asyncio.sleep(0.05)
            await super().start(pubsub)

    presence = SlowPresence()
    endpoint = Endpoint({"/socket": UserSocket}, presences=[presence])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(endpoint.start())

    assert presence.starts == 1
    for _ in range(3):
        assert endpoint.pubsub.is_running
        await endpoint.stop()
    assert not endpoint.pubsub.is_running


def test_one_loop_after_the_other():
    """An endpoint starts and stops as often as one likes, on different loops."""
    endpoint = Endpoint({"/socket": UserSocket}, presences=[Presence()])

    async def join() -> Any:
        async with run_uvicorn(endpoint) as url, connect(url) as alice:
            return await alice.join("room:1")

    assert [asyncio.run(join()) for _ in range(3)] == [{}] * 3


def test_a_loop_that_was_closed_without_a_stop():
    """It took its run along: the next start is a fresh one."""
    endpoint = Endpoint({"/socket": UserSocket}, presences=[Presence()])
    asyncio.run(endpoint.start())

    async def run() -> int:
        async with endpoint.running():
            return endpoint.connection_count

    assert asyncio.run(run()) == 0
    assert not endpoint.pubsub.is_running


async def test_two_loops_at_once():
    """An endpoint belongs to one loop at a time, and says so."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with endpoint.running():
        with pytest.raises(ConfigurationError, match="running on another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(endpoint.start()))
        assert endpoint.pubsub.is_running


async def test_a_start_that_fails():
    """What was started already is stopped again, and the next start may succeed."""
    shared = Presence()
    first, second = Presence(name="first"), Endpoint({"/socket": UserSocket}, presences=[shared])
    endpoint = Endpoint({"/socket": UserSocket}, presences=[first, shared])
    async with second.running():
        with pytest.raises(ConfigurationError, match="running on another PubSub"):
            await endpoint.start()
        assert not endpoint.pubsub.is_running
        with pytest.raises(NotStarted):
            first.count_users("room:1")

    async with endpoint.running():
        assert shared.count_users("room:1") == 0


async def test_whoever_starts_it_stops_it_and_the_last_one_ends_the_run():
    """Whoever starts it stops it; the last one ends the run."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with endpoint.running():
        async with endpoint.running():
            pass
        assert endpoint.connection_count == 0
        endpoint.broadcast("room:1", "still here")
    with pytest.raises(NotStarted):
        endpoint.broadcast("room:1", "gone")
    with pytest.raises(NotStarted):
        await endpoint.stop()


async def test_endpoints_with_one_pubsub_are_one_system():
    """With one PubSub they are one system: broadcasts and presences reach both."""
    online, pubsub = Presence(), PubSub()

    class PresentChannel(RoomChannel):
        async def after_join(self) -> None:
            await online.enter(self, self.assigns["user"])

    class PresentSocket(Socket):
        channels = {"room:*": PresentChannel}

        def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
            self.assigns["user"] = params["user"]

    users = Endpoint({"/socket": PresentSocket}, pubsub=pubsub, presences=[online])
    admins = Endpoint({"/admin": PresentSocket}, pubsub=pubsub, presences=[online])
    async with (
        run_uvicorn(users) as url,
        connect(url, params={"user": "alice"}) as alice,
    ):
        await alice.join("room:1")
        await alice.receive("presence_state")
        async with (
            run_uvicorn(admins) as admin_url,
            connect(admin_url, "/admin", {"user": "bob"}) as bob,
        ):
            await bob.join("room:1")
            assert (await bob.receive("presence_state")).keys() == {"alice", "bob"}
            assert (await alice.receive("presence_diff"))["joins"].keys() == {"bob"}
            await alice.push("room:1", "shout", {"body": "hi"})
            assert await bob.receive("shout") == {"body": "hi"}
        assert (await alice.receive("presence_diff"))["leaves"].keys() == {"bob"}
        await alice.push("room:1", "shout", {"body": "still here"})
        assert await alice.receive("shout") == {"body": "hi"}
        assert await alice.receive("shout") == {"body": "still here"}
    assert not pubsub.is_running


# How it ends.


class EndingSocket(Socket):
    """Notes the ends of its channels in `reasons`."""

    reasons: list[Any] = []

    class EndingChannel(Channel):
        async def terminate(self, reason: str | BaseException) -> None:
            await asyncio.sleep(0)
            EndingSocket.reasons.append(reason)

    channels = {"room:*": EndingChannel}


@pytest.mark.parametrize(
    "drainer",
    [Drainer(), Drainer(batch_size=1, batch_interval=0.01), lambda: Drainer(), False],
    ids=["default", "batches", "function", "none"],
)
async def test_a_stop_closes_connections(drainer: Any):
    """Clients are told to come back (1012); the stop waits for channels and connections."""
    EndingSocket.reasons = []
    endpoint = Endpoint({"/socket": Mount(EndingSocket, drainer=drainer)})
    async with run_uvicorn(endpoint, lifespan="off") as url:
        await endpoint.start()
        async with connect(url) as alice, connect(url) as bob, connect(url) as idle:
            await alice.join("room:1")
            await bob.join("room:1")

            await endpoint.stop()

            assert EndingSocket.reasons == ["draining"] * 2
            assert [await each.closed() for each in (alice, bob, idle)] == [1012] * 3
    assert endpoint.connection_count == 0


async def test_a_drainer_that_fails():
    """Everything is closed all the same, and whoever stops the endpoint hears of it."""

    def drainer() -> Drainer:
        raise LookupError("no options")

    endpoint = Endpoint({"/socket": Mount(UserSocket, drainer=drainer)})
    async with run_uvicorn(endpoint, lifespan="off") as url:
        await endpoint.start()
        async with connect(url) as alice:
            with pytest.raises(LookupError, match="no options"):
                await endpoint.stop()
            assert await alice.closed() == 1012
    assert not endpoint.pubsub.is_running


async def test_a_handshake_that_a_stop_overtakes():
    """Who was about to be accepted is told to come back."""
    connecting, may_connect = asyncio.Event(), asyncio.Event()

    class SlowSocket(Socket):
        async def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
            connecting.set()
            await may_connect.wait()

    endpoint = Endpoint({"/socket": SlowSocket})
    async with run_uvicorn(endpoint, lifespan="off") as url:
        await endpoint.start()

        async def code() -> int:
            async with connect(url) as alice:
                return await alice.closed()

        closed = asyncio.create_task(code())
        await connecting.wait()
        await endpoint.stop()
        may_connect.set()

        assert await closed == 1012


async def test_a_start_during_a_stop():
    """The new run takes connections while the old one still says goodbye."""
    may_end = asyncio.Event()

    class SlowChannel(RoomChannel):
        async def terminate(self, reason: str | BaseException) -> None:
            await may_end.wait()

    class SlowSocket(Socket):
        channels = {"room:*": SlowChannel}

    endpoint = Endpoint({"/socket": SlowSocket})
    async with run_uvicorn(endpoint, lifespan="off") as url:
        await endpoint.start()
        async with connect(url) as alice:
            await alice.join("room:1")
            stopping = asyncio.create_task(endpoint.stop())
            assert await alice.closed() == 1012

            async with endpoint.running(), connect(url) as bob:
                assert await bob.join("room:1") == {}
                may_end.set()
                await stopping
                await bob.push("room:1", "shout", {"body": "hi"})
                assert await bob.receive("shout") == {"body": "hi"}


async def test_a_process_that_is_terminated():
    """Its clients are told to come back, whatever closes them first, and the process ends well."""
    async with (
        run_process("examples.interop.app:app") as (url, process),
        connect(url) as alice,
    ):
        await alice.join("room:1")

        process.terminate()

        assert await alice.closed() == 1012
        # uvicorn ends by the signal that it got, once it has shut down; None: asyncio was told.
        assert await asyncio.to_thread(process.wait, 10) in (0, -signal.SIGTERM, None)


# What it says.


async def test_broadcasts_from_another_thread():
    """A view or a worker in another thread may broadcast; what can't be sent raises there."""
    endpoint = Endpoint({"/socket": UserSocket})
    with pytest.raises(NotStarted):
        endpoint.broadcast("room:1", "news")
    async with run_uvicorn(endpoint) as url, connect(url) as alice:
        await alice.join("room:1")

        def work() -> None:
            assert threading.current_thread() is not threading.main_thread()
            for number in range(100):
                endpoint.broadcast("room:1", "news", {"n": number})
            with pytest.raises(PayloadError):
                endpoint.broadcast("room:1", "news", {"n": float("nan")})

        await asyncio.to_thread(work)

        assert [await alice.receive("news") for _ in range(100)] == [{"n": n} for n in range(100)]


async def test_subscriptions_of_the_application():
    """The application hears what is said in a topic, and may be left out of its own words."""
    endpoint = Endpoint({})
    heard: list[Any] = []
    async with endpoint.running():
        subscription = endpoint.subscribe("room:1", heard.append)
        endpoint.broadcast("room:1", "a", {"n": 1})
        endpoint.local_broadcast("room:1", "b")
        endpoint.broadcast_from(subscription.subscriber, "room:1", "c")
        endpoint.local_broadcast_from(subscription.subscriber, "room:1", "d")
        endpoint.unsubscribe(subscription)
        endpoint.broadcast("room:1", "e")

    assert [(each.event, each.payload) for each in heard] == [("a", {"n": 1}), ("b", {})]


# Who may connect.


@pytest.mark.parametrize(
    ("result", "status"),
    [(ValueError("oops"), 500), ({"user": 1}, 500), (None, 403)],
    ids=["raises", "returns something", "id is no string"],
)
async def test_a_connect_that_is_wrong(result: Any, status: int, caplog: pytest.LogCaptureFixture):
    """A mistake of the application refuses the client and is logged."""

    class WrongSocket(Socket):
        async def connect(self, params: dict[str, Any], info: ConnectInfo) -> Any:
            if isinstance(result, Exception):
                raise result
            return result

        def id(self) -> Any:
            return 7

    async with run_uvicorn(Endpoint({"/socket": WrongSocket})) as url:
        assert (await refusal(url)).status == status

    assert "WrongSocket" in caplog.text


async def test_a_query_that_is_none():
    """What is not UTF-8 gets 400."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url:
        assert (await refusal(url, websocket_path="/socket/websocket?a=%FF&b")).status == 400


async def test_a_server_without_denial_responses():
    """Where the server can't answer with a status of ours, closing makes it 403."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(event: Any) -> None:
        sent.append(event)

    endpoint = Endpoint({"/socket": UserSocket})
    scope = {"type": "websocket", "path": "/other", "headers": [], "query_string": b""}

    await endpoint(scope, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


async def test_sockets_of_one_endpoint():
    """Each has its own options; without a transport there is none."""
    endpoint = Endpoint(
        {
            "/one": Mount(UserSocket, websocket=WebSocket(check_origin=["one.com"])),
            "/two": Mount(UserSocket, websocket=WebSocket(check_origin=["two.com"])),
            "/none": Mount(UserSocket, websocket=False),
        }
    )
    async with run_uvicorn(endpoint) as url:
        async with connect(url, "/two", origin="http://two.com") as alice:
            await alice.join("room:1")
        assert (await refusal(url, "/one", origin="http://two.com")).status == 403
        assert (await refusal(url, "/none")).status == 404


async def test_handlers_see_the_context_variables_of_their_own_connection():
    """Handlers see what `connect` set, each connection its own."""
    user: ContextVar[str] = ContextVar("user")

    class WhoChannel(Channel):
        @event("who")
        async def who(self, payload: Any) -> dict[str, str]:
            return {"user": user.get()}

    class WhoSocket(Socket):
        channels = {"room:*": WhoChannel}

        async def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
            user.set(params["user"])

    async with (
        run_uvicorn(Endpoint({"/socket": WhoSocket})) as url,
        connect(url, params={"user": "alice"}) as alice,
        connect(url, params={"user": "bob"}) as bob,
    ):
        for client, name in ((alice, "alice"), (bob, "bob")):
            await client.join("room:1")
            assert await client.ask("room:1", "who") == {"user": name}
