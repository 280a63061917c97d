"""Channels over WebSockets: a real server, a real client, both protocol versions."""

import asyncio
import logging
import re
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount as StarletteMount
from starlette.routing import Route

from roost import (
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    Mount,
    Socket,
    WebSocket,
    event,
)
from tests.clients import V1, connect, error, ok, refusal
from tests.servers import run_uvicorn

pytestmark = pytest.mark.usefixtures("each_path")

UNMATCHED = error({"reason": "unmatched topic"})


class RoomChannel(Channel):
    """Greets who joins, tells the room, and says goodbye."""

    def after_join(self) -> None:
        self.push("joined", {"assigns": self.assigns})
        self.broadcast("user_entered", {"user": self.assigns.get("user")})

    @event("new_msg")
    def new_msg(self, payload: Any) -> Any:
        self.broadcast_from("new_msg", payload)
        return payload

    @event("boom")
    def boom(self, payload: Any) -> None:
        raise RuntimeError("boom")

    @event("binary_event")
    def binary_event(self, payload: bytes) -> bytes:
        self.push("binary_event", b"\x00\x01")
        return payload + b"\x03\x04"

    def terminate(self, reason: str | BaseException) -> None:
        self.push("you_left", {"message": f"bye! ({reason})"})


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        if "user" in params:
            self.assigns["user"] = params["user"]

    def id(self) -> str | None:
        return f"users:{self.assigns['user']}" if "user" in self.assigns else None


# The life of a channel.


@pytest.mark.conforms("WSC-1")
async def test_a_path_of_several_segments(vsn: str):
    """A socket may be mounted as deep as one likes; its joins are answered as anywhere."""
    async with (
        run_uvicorn(Endpoint({"/ws/admin/v2": UserSocket})) as url,
        connect(url, "/ws/admin/v2", vsn=vsn) as alice,
    ):
        await alice.send("1", "1", "room:1", "phx_join")

        assert await alice.receive_message() == alice.seen("1", "1", "room:1", "phx_reply", ok({}))


@pytest.mark.conforms("WSC-2")
async def test_the_life_of_a_channel(vsn: str):
    """Join, push, broadcast, reply, leave: each message carries the refs that it should."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with (
        run_uvicorn(endpoint) as url,
        connect(url, params={"user": "alice"}, vsn=vsn) as alice,
    ):
        await alice.send("1", "1", "room:1", "phx_join")
        assert await alice.receive_messages(3) == [
            alice.seen("1", "1", "room:1", "phx_reply", ok({})),
            alice.seen("1", None, "room:1", "joined", {"assigns": {"user": "alice"}}),
            alice.seen(None, None, "room:1", "user_entered", {"user": "alice"}),
        ]

        endpoint.broadcast("room:1", "announcement", {"body": "lunch"})
        assert await alice.receive_message() == alice.seen(
            None, None, "room:1", "announcement", {"body": "lunch"}
        )

        await alice.send("1", "2", "room:1", "new_msg", {"body": "hi"})
        assert await alice.receive_message() == alice.seen(
            "1", "2", "room:1", "phx_reply", ok({"body": "hi"})
        )

        await alice.send("1", "3", "room:1", "phx_leave")
        assert await alice.receive_messages(3) == [
            alice.seen("1", "3", "room:1", "phx_reply", ok({})),
            alice.seen("1", "1", "room:1", "phx_close", {}),
            alice.seen("1", None, "room:1", "you_left", {"message": "bye! (left)"}),
        ]
        assert endpoint.pubsub.subscriptions("room:1") == ()

        await alice.send("1", "4", "room:1", "new_msg", {"body": "anyone?"})
        assert await alice.receive_message() == alice.seen(
            None, "4", "room:1", "phx_reply", UNMATCHED
        )


@pytest.mark.conforms("WSC-3")
async def test_a_hundred_and_one_joins(vsn: str):
    """A connection may have a hundred channels; the next join is refused, the others live."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url, vsn=vsn) as bob:
        for number in range(1, 101):
            await bob.send(str(number), str(number), f"room:{number}", "phx_join")
            await bob.receive("phx_reply")
        await bob.heartbeat()

        await bob.send("101", "101", "room:101", "phx_join")

        expected = error({"reason": "too many channels joined"})
        assert await bob.receive_message() == bob.seen(
            "101", "101", "room:101", "phx_reply", expected
        )
        await bob.send("1", "102", "room:1", "new_msg", {"body": "still here"})
        assert await bob.reply("102") == {"body": "still here"}


@pytest.mark.conforms("WSC-4")
async def test_a_limit_of_one_channel(vsn: str):
    """The mount's max_channels counts, and a channel that was left makes room."""
    endpoint = Endpoint({"/socket": Mount(UserSocket, max_channels=1)})
    async with run_uvicorn(endpoint) as url, connect(url, vsn=vsn) as bob:
        assert await bob.join("room:1") == {}

        second = await bob.start_join("room:2")
        assert await bob.reply(second, status="error") == {"reason": "too many channels joined"}

        await bob.push("room:1", "phx_leave")
        await bob.receive("you_left")
        assert await bob.join("room:2") == {}


@pytest.mark.conforms("WSC-16")
async def test_a_handler_that_raises(vsn: str, caplog: pytest.LogCaptureFixture):
    """Its channel ends with phx_error, after what `terminate` pushes; the reason stays here."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url, vsn=vsn) as bob:
        await bob.send("1", "1", "room:1", "phx_join")
        await bob.send("2", "2", "room:2", "phx_join")
        await bob.heartbeat()

        await bob.send("1", "7", "room:1", "boom")

        assert await bob.receive_messages(2) == [
            bob.seen("1", None, "room:1", "you_left", {"message": "bye! (boom)"}),
            bob.seen("1", "1", "room:1", "phx_error", {"reason": "channel_crash"}),
        ]
        await bob.send("2", "8", "room:2", "new_msg", {"body": "fine"})
        assert await bob.reply("8") == {"body": "fine"}
    assert "'room:1'> crashed in a handler" in caplog.text


@pytest.mark.conforms("WSC-17")
async def test_a_client_that_goes(vsn: str):
    """All its channels are terminated, with a reason that is no crash."""
    reasons: asyncio.Queue[tuple[str, str | BaseException]] = asyncio.Queue()

    class MortalChannel(Channel):
        def terminate(self, reason: str | BaseException) -> None:
            reasons.put_nowait((self.topic, reason))

    class MortalSocket(Socket):
        channels = {"*": MortalChannel}

    async with run_uvicorn(Endpoint({"/socket": MortalSocket})) as url:
        async with connect(url, vsn=vsn) as bob:
            await bob.join("room:1")
            await bob.join("room:2")

        async with asyncio.timeout(5):
            ended = {await reasons.get(), await reasons.get()}

    assert ended == {("room:1", "closed"), ("room:2", "closed")}


@pytest.mark.conforms("WSC-18")
async def test_events_of_a_topic_that_was_not_joined(vsn: str):
    """They are refused, and reach nobody."""
    async with (
        run_uvicorn(Endpoint({"/socket": UserSocket})) as url,
        connect(url, vsn=vsn) as alice,
        connect(url, vsn=vsn) as bob,
    ):
        await bob.join("room:1")
        await bob.heartbeat()

        await alice.send("1", "1", "room:1", "new_msg", {"body": "let me in"})

        assert await alice.receive_message() == alice.seen(
            None, "1", "room:1", "phx_reply", UNMATCHED
        )
        assert await bob.heartbeat() == []


@pytest.mark.conforms("WSC-23")
async def test_a_duplicate_join(vsn: str):
    """It is accepted, with a reply of its own; then the client hears that the old one closed."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with run_uvicorn(endpoint) as url, connect(url, vsn=vsn) as bob:
        await bob.send("1", "1", "room:1", "phx_join")
        await bob.receive("user_entered")

        await bob.send("2", "2", "room:1", "phx_join")

        assert await bob.reply("2") == {}
        await bob.receive("phx_close")
        await bob.receive("user_entered")
        assert len(endpoint.pubsub.subscriptions("room:1")) == 1


@pytest.mark.conforms("WSC-26")
async def test_a_topic_without_a_route(vsn: str, caplog: pytest.LogCaptureFixture):
    """The join is refused without a join_ref, and logged with the client's address."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url, vsn=vsn) as bob:
        await bob.send("1", "1", "unmatched:1", "phx_join")

        assert await bob.receive_message() == bob.seen(
            None, "1", "unmatched:1", "phx_reply", UNMATCHED
        )
    (record,) = _records(caplog, logging.WARNING)
    assert re.fullmatch(
        r"refused to join 'unmatched:1': unmatched topic \(127\.0\.0\.1:\d+\)", record
    )


@pytest.mark.conforms("WSC-28")
async def test_bytes_reach_the_handler_and_its_bytes_the_client():
    """Bytes reach the handler, and its bytes reach the client, as frames of bytes."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url) as bob:
        await bob.send("1", "1", "room:1", "phx_join")
        await bob.receive("user_entered")
        await bob.receive("joined")

        await bob.websocket.send(b"\x00\x01\x01\x06\x0c12room:1binary_event\x01\x02")

        assert await bob.websocket.recv() == b"\x00\x01\x06\x0c1room:1binary_event\x00\x01"
        assert await bob.websocket.recv() == b"\x01\x01\x01\x06\x0212room:1ok\x01\x02\x03\x04"


# What is known of a client.


class Desk:
    """Notes what `connect` was given."""

    def __init__(self, **options: Any) -> None:
        self.params: dict[str, Any] = {}
        self.info = ConnectInfo()
        desk = self

        class DeskSocket(Socket):
            channels = {"room:*": Channel}

            def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
                desk.params, desk.info = params, info

        self.mount = Mount(DeskSocket, **options)
        self.endpoint = Endpoint({"/socket": self.mount})

    async def connect(self, vsn: str, *args: Any, **options: Any) -> ConnectInfo:
        """Connect a client once, and return what is known of it."""
        async with run_uvicorn(self.endpoint) as url, connect(url, *args, vsn=vsn, **options):
            return self.info


@pytest.mark.conforms("WSC-5")
async def test_headers_that_begin_with_x_reach_connect(vsn: str):
    """Headers that begin with x- reach `connect`, in order, others don't."""
    headers = [("X-Foo", "one"), ("Foo", "no"), ("x-bar", "two"), ("X-Foo", "three")]

    info = await Desk().connect(vsn, additional_headers=headers)

    assert info.x_headers == [("x-foo", "one"), ("x-bar", "two"), ("x-foo", "three")]


@pytest.mark.conforms("WSC-6")
async def test_sec_websocket_headers(vsn: str):
    """Headers of the handshake reach `connect` as they were sent."""
    info = await Desk().connect(vsn, additional_headers={"Sec-WebSocket-Foo": "Bar, baz"})

    headers = dict(info.sec_websocket_headers)
    assert headers["sec-websocket-foo"] == "Bar, baz"
    assert headers["sec-websocket-version"] == "13"
    assert "sec-websocket-key" in headers
    assert all(name.startswith("sec-websocket-") for name in headers)


@pytest.mark.conforms("WSC-7")
async def test_the_headers_of_the_trace_context_reach_connect(vsn: str):
    """The two headers of the W3C's trace context reach `connect`."""
    headers = {"TraceParent": "00-0af7-b7ad-01", "tracestate": "a=1", "traceother": "no"}

    info = await Desk().connect(vsn, additional_headers=headers)

    assert info.trace_context_headers == [
        ("traceparent", "00-0af7-b7ad-01"),
        ("tracestate", "a=1"),
    ]


@pytest.mark.conforms("WSC-8")
async def test_the_address_and_port_of_the_client_reach_connect(vsn: str):
    """The address and port of the client reach `connect`."""
    desk = Desk()
    async with run_uvicorn(desk.endpoint) as url, connect(url, vsn=vsn) as bob:
        host, port = bob.websocket.local_address[:2]

        assert desk.info.peer_data == {"address": host, "port": port, "ssl_cert": None}


@pytest.mark.conforms("WSC-9")
async def test_all_parts_of_the_uri_reach_connect(vsn: str):
    """All parts of the URI reach `connect`."""
    desk = Desk()
    async with (
        run_uvicorn(desk.endpoint) as url,
        connect(url, params={"foo": "bär"}, vsn=vsn),
    ):
        assert desk.info.uri == {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": int(url.rpartition(":")[2]),
            "path": "/socket/websocket",
            "query": f"foo=b%C3%A4r&vsn={vsn}",
        }
    assert desk.params == {"foo": "bär", "vsn": vsn}


@pytest.mark.conforms("WSC-10")
async def test_the_user_agent(vsn: str):
    """The user agent reaches `connect`."""
    info = await Desk().connect(vsn, user_agent_header="roost-tests/1")

    assert info.user_agent == "roost-tests/1"


@pytest.mark.conforms("WSC-12")
async def test_values_of_the_application(vsn: str):
    """What the mount's connect_info has reaches `connect` by its name."""
    info = await Desk(connect_info={"region": "eu", "limits": [1, 2]}).connect(vsn)

    assert dict(info) == {"region": "eu", "limits": [1, 2]}


async def log_in(request: Request) -> Response:
    """A page that is given a session, and the token that its scripts must show."""
    request.session.update(user="alice", _csrf_token="t0ken")
    return PlainTextResponse("t0ken")


@pytest.mark.conforms("WSC-11")
@pytest.mark.parametrize(
    ("has_cookie", "params", "session"),
    [
        (True, {"_csrf_token": "t0ken"}, {"user": "alice", "_csrf_token": "t0ken"}),
        (True, {"_csrf_token": "guessed"}, None),
        (True, {"_csrf_token[]": "t0ken"}, None),
        (True, {}, None),
        (False, {"_csrf_token": "t0ken"}, None),
    ],
    ids=["cookie and token", "bad token", "list of tokens", "no token", "no cookie"],
)
async def test_only_cookie_and_token_together_give_the_session(
    vsn: str, has_cookie: bool, params: dict[str, str], session: Any
):
    """Only who has the cookie and the token of the page gets at the session; all may connect."""
    desk = Desk()
    app = Starlette(
        routes=[Route("/log-in", log_in), StarletteMount("/", desk.endpoint)],
        middleware=[Middleware(SessionMiddleware, secret_key="secret")],
        lifespan=desk.endpoint.lifespan,
    )
    async with run_uvicorn(app) as url:
        headers = {"Cookie": await _cookie(f"{url}/log-in")} if has_cookie else {}

        async with connect(url, params=params, vsn=vsn, additional_headers=headers):
            assert desk.info.session == session


async def _cookie(url: str) -> str:
    async with httpx.AsyncClient() as client:
        response = await client.get(url)
    return response.headers["set-cookie"].partition(";")[0]


# Who may connect.


@pytest.mark.conforms("WSC-19")
async def test_pages_of_the_listed_hosts_may_connect(vsn: str):
    """Pages of the listed hosts may connect, others get 403."""
    endpoint = Endpoint({"/socket": UserSocket}, hosts=["//example.com"])
    async with run_uvicorn(endpoint) as url:
        async with connect(url, vsn=vsn, origin="https://example.com") as bob:
            assert await bob.join("room:1") == {}

        refused = await refusal(url, vsn=vsn, origin="http://notallowed.com")

    assert (refused.status, refused.body) == (403, b"")


def refusing(error: Exception) -> type[Socket]:
    """A socket whose `connect` raises."""

    class RefusingSocket(Socket):
        def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
            raise error

    return RefusingSocket


@pytest.mark.conforms("WSC-20")
async def test_a_refused_connection(vsn: str, caplog: pytest.LogCaptureFixture):
    """The client gets 403 and not the reason; the log says who was refused."""
    caplog.set_level(logging.INFO)
    async with run_uvicorn(Endpoint({"/socket": refusing(ConnectRefused("banned"))})) as url:
        refused = await refusal(url, params={"password": "secret"}, vsn=vsn)

    assert (refused.status, refused.body) == (403, b"")
    (line,) = [each for each in _records(caplog, logging.INFO) if "REFUSED" in each]
    assert line.startswith("REFUSED CONNECTION TO refusing.<locals>.RefusingSocket in ")
    assert "'password': '[FILTERED]'" in line


@pytest.mark.conforms("WSC-21")
async def test_the_error_handler(vsn: str):
    """It makes the answer out of the reason."""

    def answer(refused: ConnectRefused) -> tuple[int, str]:
        return (429, "Too many requests") if refused.reason == "rate_limit" else (403, "")

    def endpoint(reason: object) -> Endpoint:
        websocket = WebSocket(error_handler=answer)
        return Endpoint({"/socket": Mount(refusing(ConnectRefused(reason)), websocket=websocket)})

    async with run_uvicorn(endpoint("rate_limit")) as url:
        refused = await refusal(url, vsn=vsn)
    assert (refused.status, refused.body) == (429, b"Too many requests")

    async with run_uvicorn(endpoint("banned")) as url:
        refused = await refusal(url, vsn=vsn)
    assert (refused.status, refused.body) == (403, b"")


@pytest.mark.conforms("WSC-24")
@pytest.mark.parametrize("version", ["123.1.1", "2.1.0", "2.0", "2.0.0-rc.1", ""])
async def test_versions_that_nobody_speaks(version: str, caplog: pytest.LogCaptureFixture):
    """The client gets 403, before the application is asked; the log names the version."""
    endpoint = Endpoint({"/socket": refusing(AssertionError("asked"))})
    async with run_uvicorn(endpoint) as url:
        refused = await refusal(url, vsn=version)

    assert (refused.status, refused.body) == (403, b"")
    expected = f"refused protocol version {version!r}: expected one like 1.0.0 or 2.0.0"
    (record,) = _records(caplog, logging.WARNING)
    assert record.startswith(f"{expected} (127.0.0.1:")


async def test_no_version_means_the_first():
    """A client that names none is an old one: it is spoken to in version 1."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url, vsn=None) as bob:
        await bob.send(None, "1", "room:1", "phx_join")

        assert await bob.receive_message() == (None, "1", "room:1", "phx_reply", ok({}))
        assert bob.vsn == V1


# The log.


@pytest.mark.conforms("WSC-13")
async def test_the_log_of_a_connection(vsn: str, caplog: pytest.LogCaptureFixture):
    """It says who connected, how, and with which parameters; secrets are masked."""
    caplog.set_level(logging.INFO)
    params = {"user": "alice", "token": "hush"}
    async with (
        run_uvicorn(Endpoint({"/socket": UserSocket})) as url,
        connect(url, params=params, vsn=vsn),
    ):
        (line,) = [each for each in _records(caplog, logging.INFO) if "CONNECTED" in each]

    first, *rest = line.split("\n")
    assert first.startswith("CONNECTED TO UserSocket in ")
    assert first.endswith("µs")
    assert rest == [
        "  Transport: websocket",
        f"  Serializer: {'V1Serializer' if vsn == V1 else 'V2Serializer'}",
        f"  Parameters: {{'user': 'alice', 'token': '[FILTERED]', 'vsn': '{vsn}'}}",
    ]


@pytest.mark.conforms("WSC-14")
async def test_a_log_that_is_off(vsn: str, caplog: pytest.LogCaptureFixture):
    """A higher level of the loggers, or None in the classes, and nothing is logged."""

    class SilentChannel(RoomChannel):
        log_join = None
        log_handle_in = None

    class SilentSocket(UserSocket):
        channels = {"room:*": SilentChannel}
        log_connect = None

    async def talk(endpoint: Endpoint) -> None:
        async with run_uvicorn(endpoint) as url, connect(url, vsn=vsn) as bob:
            await bob.join("room:1")
            await bob.ask("room:1", "new_msg", {"body": "hi"})

    caplog.set_level(logging.WARNING, "roost")
    await talk(Endpoint({"/socket": UserSocket}))
    caplog.set_level(logging.DEBUG, "roost")
    await talk(Endpoint({"/socket": SilentSocket}))

    assert [each.getMessage() for each in caplog.records if each.name == "roost.channels"] == []
    assert "CONNECTED" not in caplog.text


@pytest.mark.conforms("WSC-15")
async def test_the_log_of_a_channel(vsn: str, caplog: pytest.LogCaptureFixture):
    """Joins and events are logged with their parameters; secrets are masked."""
    caplog.set_level(logging.DEBUG, "roost.channels")
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url, connect(url, vsn=vsn) as bob:
        await bob.join("room:1", {"foo": "bar", "password": "shouldnotshow"})
        await bob.ask("room:1", "new_msg", {"in": [{"Password": "shouldnotshow"}]})

    assert "shouldnotshow" not in caplog.text
    assert _records(caplog, logging.INFO) == [
        "JOINED room:1\n  Parameters: {'foo': 'bar', 'password': '[FILTERED]'}"
    ]
    assert _records(caplog, logging.DEBUG) == [
        "HANDLED new_msg INCOMING ON room:1 (RoomChannel)\n"
        "  Parameters: {'in': [{'Password': '[FILTERED]'}]}"
    ]


def _records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What roost logged at that level."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno == level and each.name.startswith("roost")
    ]


# The end of a connection.


@pytest.mark.conforms("WSC-22")
async def test_a_broadcast_that_disconnects(vsn: str):
    """`disconnect` to a socket's id closes its connections (1001) and ends their channels."""
    endpoint = Endpoint({"/socket": UserSocket})
    async with (
        run_uvicorn(endpoint) as url,
        connect(url, params={"user": "alice"}, vsn=vsn) as alice,
        connect(url, params={"user": "alice"}, vsn=vsn) as her_phone,
        connect(url, params={"user": "bob"}, vsn=vsn) as bob,
    ):
        for client in (alice, her_phone, bob):
            await client.join("room:1")
        await alice.join("room:2")
        endpoint.broadcast("users:alice", "something_else")
        await bob.heartbeat()

        endpoint.broadcast("users:alice", "disconnect")

        assert await alice.closed() == 1001
        assert await her_phone.closed() == 1001
        assert await bob.heartbeat() == []
        assert len(endpoint.pubsub.subscriptions("room:1")) == 1
        assert endpoint.pubsub.subscriptions("room:2") == ()
        assert endpoint.pubsub.subscriptions("users:alice") == ()


@pytest.mark.conforms("WSC-25")
async def test_a_silent_client(vsn: str):
    """Whoever says nothing for the timeout is disconnected (1002); heartbeats are answered."""
    mount = Mount(UserSocket, websocket=WebSocket(timeout=0.2))
    async with run_uvicorn(Endpoint({"/socket": mount})) as url, connect(url, vsn=vsn) as bob:
        await bob.send(None, "1", "phoenix", "heartbeat")
        assert await bob.receive_message() == (None, "1", "phoenix", "phx_reply", ok({}))
        heard_at = asyncio.get_running_loop().time()

        assert await bob.closed() == 1002

        assert asyncio.get_running_loop().time() - heard_at >= 0.15


async def test_a_message_prolongs_the_life_of_a_connection():
    """The timeout counts from the last message, not from the first."""
    mount = Mount(UserSocket, websocket=WebSocket(timeout=0.2))
    async with run_uvicorn(Endpoint({"/socket": mount})) as url, connect(url) as bob:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.6

        while loop.time() < end:
            await bob.heartbeat()

        assert await bob.join("room:1") == {}
