"""What uvicorn and ASGI applications count on: the same on uvicorn's own class and on ours.

Every test here runs on both, so that a new release of uvicorn that changes its mind is noticed.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import litestar
import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from roost.asgi.transports.extension import EXTENSION
from roost.asgi.types import ASGIApp, Receive, Scope, Send
from tests import servers
from tests.rfc6455.wire import PING, PONG, TEXT, frame, handshake, open_tcp, open_wire
from tests.servers import FAST, run_uvicorn

pytestmark = pytest.mark.usefixtures("each_path")

TIMEOUT = 5.0  # seconds, for what must come
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def only_websockets(handler: Handler) -> ASGIApp:
    """An application without a lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await handler(scope, receive, send)

    return app


def connect(url: str, path: str = "/", **options: Any) -> connect_websocket:
    options = {"proxy": None, "compression": None, "ping_interval": None, **options}
    return connect_websocket(url.replace("http", "ws", 1) + path, **options)


async def status(url: str, **options: Any) -> InvalidStatus:
    """Connect, and be refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(url, **options):
            pass
    return refused.value


async def close_code(client: ClientConnection) -> int | None:
    """Wait for the end."""
    async with asyncio.timeout(TIMEOUT):
        await client.wait_closed()
    return client.close_code


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


# The handshake.


def test_the_import_string():
    """uvicorn's ``--ws`` takes the class by its name."""
    config = uvicorn.Config(only_websockets(echo), ws=FAST)
    config.load()

    assert config.ws_protocol_class is not None
    assert config.ws_protocol_class.__module__ == "roost.asgi.uvicorn.protocol"


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_applications_are_told_the_same_but_for_our_extension(http: str):
    """Applications are told the same, but for the extension of ours."""
    scopes: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        await echo(scope, receive, send)

    for websockets in (servers.PLAIN, servers.FAST):
        async with (
            run_uvicorn(only_websockets(note), ws=websockets, root_path="/api", http=http) as url,
            open_tcp(url) as wire,
        ):
            lines = ("X-Name: älice", "Sec-WebSocket-Protocol: one, two")
            await wire.shake_hands(handshake("/caf%C3%A9?a=%20b&a=1", *lines))
            assert wire.status == 101

    plain, fast = scopes
    assert set(fast["extensions"]) - set(plain["extensions"]) == {EXTENSION}
    for scope in scopes:
        assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
        scope["headers"] = [each for each in scope["headers"] if each[0] != b"sec-websocket-key"]
        for name in ("client", "server", "extensions"):
            del scope[name]
    assert fast == plain
    assert fast["path"] == "/api/café"


async def test_an_acceptance_sends_its_subprotocol_and_all_headers():
    """Its subprotocol and headers are sent, and the server's own with them."""

    async def accept(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"x-name", b"alice"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": headers})
        await receive()

    async with (
        run_uvicorn(only_websockets(accept), headers=[("X-Server", "roost")]) as url,
        connect(url, subprotocols=["one", "two"]) as client,
    ):
        assert client.response is not None
        assert client.subprotocol == "two"
        assert client.response.headers["x-name"] == "alice"
        assert client.response.headers.get_all("set-cookie") == ["a=1", "b=2"]


async def test_a_refusal_is_403_the_response_of_the_application_or_500(
    caplog: pytest.LogCaptureFixture,
):
    """A close is 403; a response is the application's own; an exception and nothing are 500."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        match scope["path"]:
            case "/close":
                await send({"type": "websocket.close"})
                assert (await receive())["type"] == "websocket.disconnect"
            case "/response":
                start = {"type": "websocket.http.response.start", "status": 429}
                await send({**start, "headers": [(b"retry-after", b"3")]})
                for more in (True, False):
                    await send(
                        {
                            "type": "websocket.http.response.body",
                            "body": b"slow",
                            "more_body": more,
                        }
                    )
            case "/raise":
                raise RuntimeError("boom")

    async with run_uvicorn(only_websockets(refuse)) as url:
        refused = [(await status(url, path=f"/{way}")).response for way in ("close", "response")]
        failed = [(await status(url, path=f"/{way}")).response for way in ("raise", "return")]

    assert [each.status_code for each in refused] == [403, 429]
    assert (refused[1].body, refused[1].headers["retry-after"]) == (b"slowslow", "3")
    assert [each.status_code for each in failed] == [500, 500]
    assert "boom" in caplog.text
    assert "without completing handshake" in caplog.text


async def test_the_line_in_the_log(caplog: pytest.LogCaptureFixture):
    """Each handshake is one line, with the client, the path and the answer."""
    caplog.set_level(logging.INFO, "uvicorn.error")
    async with (
        run_uvicorn(only_websockets(echo), log_level="info") as url,
        connect(url, "/a?b=1"),
    ):
        pass

    assert any(
        message.startswith("127.0.0.1:") and message.endswith('- "WebSocket /a?b=1" [accepted]')
        for message in caplog.messages
    )


# Messages.


@pytest.fixture(params=["starlette", "starlette class", "fastapi", "litestar", "asgi"])
def echoing(request: pytest.FixtureRequest) -> Any:
    """The same application in several frameworks."""

    async def handle(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    class Handler(WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, websocket: Any, data: Any) -> None:
            await websocket.send_text(data)

    @litestar.websocket("/")
    async def handle_litestar(socket: litestar.WebSocket[Any, Any, Any]) -> None:
        await socket.accept()
        async for text in socket.iter_data("text"):
            await socket.send_text(text)

    match request.param:
        case "starlette":
            return Starlette(routes=[WebSocketRoute("/", handle)])
        case "starlette class":
            return Starlette(routes=[WebSocketRoute("/", Handler)])
        case "fastapi":
            app = FastAPI()
            app.websocket("/")(handle)
            return app
        case "litestar":
            return litestar.Litestar(route_handlers=[handle_litestar], logging_config=None)
        case _:
            return only_websockets(echo)


async def test_websockets_of_other_frameworks_work_as_ever(echoing: Any):
    """Their WebSockets work as ever, a hundred messages at once, too."""
    async with run_uvicorn(echoing) as url, connect(url) as client:
        for number in range(100):
            await client.send(str(number))
        async with asyncio.timeout(TIMEOUT):
            assert [await client.recv() for _ in range(100)] == [str(n) for n in range(100)]


async def test_a_client_that_goes():
    """The application is told the code and reason, and that it can send no more."""
    events: asyncio.Queue[Any] = asyncio.Queue()

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        events.put_nowait(await receive())
        try:
            await send({"type": "websocket.send", "text": "hi"})
        except OSError as error:
            events.put_nowait(error)
            raise

    async with run_uvicorn(only_websockets(note)) as url:
        async with connect(url) as client:
            await client.close(3000, "bye")
        async with asyncio.timeout(TIMEOUT):
            event, error = await events.get(), await events.get()

    assert event == {"type": "websocket.disconnect", "code": 3000, "reason": "bye"}
    assert isinstance(error, OSError)


async def test_a_close_of_the_application():
    """The client gets its code and reason; whatever is sent after it raises."""
    raised: list[Exception] = []

    async def leave(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3000, "reason": "bye"})
        try:
            await send({"type": "websocket.send", "text": "hi"})
        except RuntimeError as error:
            raised.append(error)

    async with run_uvicorn(only_websockets(leave)) as url, connect(url) as client:
        assert await close_code(client) == 3000
        assert client.close_reason == "bye"

    assert len(raised) == 1


async def test_events_out_of_order():
    """They raise in the application."""

    async def confused(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for kind in ("websocket.send", "websocket.http.response.body"):
            with pytest.raises(RuntimeError):
                await send({"type": kind, "text": "hi", "body": b""})
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "well"})
        await receive()

    async with run_uvicorn(only_websockets(confused)) as url, connect(url) as client:
        async with asyncio.timeout(TIMEOUT):
            assert await client.recv() == "well"


# Flow control.


async def test_an_application_that_does_not_receive():
    """Its client has to wait, rather than the server's memory grow; pings are answered still."""
    may_receive = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await may_receive.wait()
        for _ in range(400):
            await receive()
        await send({"type": "websocket.send", "text": "all"})
        await receive()

    async with (
        run_uvicorn(only_websockets(slow), ws_per_message_deflate=False) as url,
        open_wire(f"{url}/") as wire,
    ):
        saying = asyncio.create_task(wire.say(*[frame(TEXT, b"x" * 100_000)] * 400))
        done, _ = await asyncio.wait([saying], timeout=0.5)
        assert not done  # forty megabytes are more than the system holds

        may_receive.set()
        assert (await wire.hear()).data == b"all"
        await saying


async def test_a_client_that_does_not_read():
    """Its application has to wait, and goes on once it reads."""
    sent: list[int] = []

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(400):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent.append(number)
        await receive()

    async with (
        run_uvicorn(only_websockets(flood), ws_per_message_deflate=False) as url,
        open_wire(f"{url}/") as wire,
    ):
        assert len((await wire.hear()).data) == 100_000
        await until_still(sent)
        assert len(sent) < 400

        for _ in range(399):
            assert len((await wire.hear()).data) == 100_000


async def until_still(sent: list[int]) -> None:
    """Wait until nothing more is sent."""
    async with asyncio.timeout(TIMEOUT):
        count = -1
        while count != len(sent):
            count = len(sent)
            await asyncio.sleep(0.1)


# Pings of the server.


async def test_a_client_that_answers_no_pings_is_closed():
    """A client that answers stays; one that does not is closed."""
    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.3}
    async with (
        run_uvicorn(only_websockets(echo), **options) as url,
        open_wire(f"{url}/") as wire,
    ):
        for _ in range(3):
            heard = await wire.hear()
            assert heard.opcode == PING
            await wire.say(frame(PONG, b"another"), frame(PONG, heard.data))

        assert await wire.hear_close() == 1011


# The end of the server.


async def test_a_server_that_ends():
    """Clients are told to come back, and the application that they are gone."""
    told: list[Any] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        told.append(await receive())

    async with asyncio.timeout(TIMEOUT):
        async with run_uvicorn(only_websockets(note)) as url:
            client = await connect(url)
        assert await close_code(client) == 1012

    assert [(each["type"], each["code"]) for each in told] == [("websocket.disconnect", 1012)]


async def test_a_server_that_ends_within_a_handshake():
    """The client gets an error, and nobody waits for the application's answer."""
    began = asyncio.Event()

    async def hesitate(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        began.set()
        assert (await receive())["type"] == "websocket.disconnect"

    async with asyncio.timeout(TIMEOUT), AsyncExitStack() as stack:
        async with run_uvicorn(only_websockets(hesitate)) as url:
            wire = await stack.enter_async_context(open_tcp(url))
            answering = asyncio.create_task(wire.shake_hands(handshake("/")))
            await began.wait()
        await answering

        assert wire.status in (500, 503)


async def test_an_application_that_takes_too_long():
    """It is cancelled when the server has waited as long as it may."""
    cancelled: list[bool] = []

    async def stay(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async with asyncio.timeout(TIMEOUT):
        async with run_uvicorn(only_websockets(stay), timeout_graceful_shutdown=0.1) as url:
            client = await connect(url)
        with pytest.raises(ConnectionClosed):
            await client.recv()

    assert cancelled == [True]
