"""The front door on real servers: what it lets in, what it refuses, and what applications see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from roost.asgi.transports.extension import EXTENSION, server_counters
from roost.asgi.types import ASGIApp, Receive, Scope, Send
from roost.asgi.uvicorn.admission import PATIENCE
from roost.asgi.uvicorn.head import MAX_HEAD_SIZE
from tests.rfc6455.wire import TEXT, TIMEOUT, Wire, frame, handshake, open_tcp
from tests.servers import DOOR, FAST, PLAIN, run_uvicorn

PLAIN_HTTP = "httptools"


class Noting:
    """An application that notes its scopes; HTTP gets the body back, a WebSocket its messages."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["name"] = "alice"
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.scopes.append(scope)
        if scope["type"] == "http":
            body = b""
            while (event := await receive()).get("more_body") or event["type"] == "http.request":
                body += event.get("body", b"")
                if not event.get("more_body"):
                    break
            headers = [(b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Noting]]:
    """The URL of a server with the front door, and its application."""
    noting = Noting()
    async with run_uvicorn(noting, http=DOOR, ws=FAST) as url:
        yield url, noting


async def answer(wire: Wire, *pieces: bytes) -> int:
    """Send a request, in pieces; the status of the answer."""
    for piece in pieces[:-1]:
        wire.writer.write(piece)
        await wire.writer.drain()
        await asyncio.sleep(0)
    await wire.shake_hands(pieces[-1])
    return wire.status


async def hear_body(wire: Wire, size: int) -> bytes:
    async with asyncio.timeout(TIMEOUT):
        return await wire._reader.readexactly(size)


async def hear_refusal(wire: Wire) -> None:
    """Read the sentence that is in a refusal; then the connection ends."""
    async with asyncio.timeout(TIMEOUT):
        assert (await wire._reader.read()).endswith(b"\n")


GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\n\r\n"


# What applications see.

HEADERS: list[list[str]] = [
    [],
    ["X-Name: älice"],
    ["x-a: 1", "X-A: 2", "X-B:", "X-C:   spaces   "],
    ["Cookie: a=1; b=2", "Cookie: c=3"],
    ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"],
    ["User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Accept-Language: de,en;q=0.5"],
]
TARGETS = [
    "/",
    "/room?a=1&b=%20c",
    "/caf%C3%A9/%2F?x=%",
    "/a//b/../c?",
    "/%FF%zz?q=%FF",
    "/a;b=c,d:e@f!$'()*+?~[]",
]
WEBSOCKET_LINES = [[], ["Sec-WebSocket-Protocol: one, two", "Sec-WebSocket-Protocol: three"]]
ROOTS = ["", "/api"]


def comparable(scope: Scope) -> dict[str, Any]:
    """A scope without what differs from one connection to the next."""
    scope = dict(scope)
    assert set(scope.pop("extensions", {})) - {EXTENSION} <= {"websocket.http.response"}
    for name in ("client", "server"):
        host, port = scope[name]
        assert type(host) is str
        assert type(port) is int
        scope[name] = host
    scope["headers"] = [each for each in scope["headers"] if each[0] != b"sec-websocket-key"]
    return scope


async def test_scopes_are_those_of_uvicorn():
    """Field by field, in 72 WebSockets and as many requests, with their types and order."""
    noted = []
    for http, ws in ((PLAIN_HTTP, PLAIN), (DOOR, FAST)):
        noting = Noting()
        for root in ROOTS:
            async with run_uvicorn(noting, http=http, ws=ws, root_path=root) as url:
                for target in TARGETS:
                    for lines in HEADERS:
                        async with open_tcp(url) as wire:
                            for_websocket = WEBSOCKET_LINES[len(noting.scopes) % 2]
                            await wire.shake_hands(handshake(target, *lines, *for_websocket))
                            assert wire.status == 101
                        async with open_tcp(url) as wire:
                            head = [f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]
                            assert await answer(wire, "\r\n".join(head).encode()) == 200
        noted.append(noting.scopes)

    plain, door = noted
    assert len(plain) == len(door) == 144
    for expected, got in zip(plain, door, strict=True):
        assert comparable(got) == comparable(expected)
        assert list(got) == list(expected)


# WebSockets.


async def test_a_handshake_in_pieces(served: tuple[str, Noting]):
    """It may be split at every byte."""
    url, noting = served
    data = handshake("/room?a=1")
    for at in range(1, len(data), 3):
        async with open_tcp(url) as wire:
            assert await answer(wire, data[:at], data[at:]) == 101

    assert {scope["path"] for scope in noting.scopes} == {"/room"}


async def test_frames_that_come_with_the_handshake(served: tuple[str, Noting]):
    """They are read when it is accepted, wherever the pieces end, and pongs follow the answer."""
    url, _ = served
    data = handshake("/") + frame(9, b"ping") + frame(TEXT, b"hi")
    for at in (len(data) - 14, len(data) - 4, len(data)):
        async with open_tcp(url) as wire:
            assert await answer(wire, *filter(None, (data[:at], data[at:]))) == 101
            assert (await wire.hear()).data == b"ping"
            assert (await wire.hear()).data == b"hi"


async def test_a_whole_url(served: tuple[str, Noting]):
    """The application gets its path, of WebSockets as of requests."""
    url, noting = served
    async with open_tcp(url) as wire:
        assert await answer(wire, handshake("http://localhost/room?a=1")) == 101
    async with open_tcp(url) as wire:
        assert await answer(wire, GET.replace(b"/a%20b?c=d", b"http://localhost/room?a=1")) == 200

    for scope in noting.scopes:
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/room",
            b"/room",
            b"a=1",
        )


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"HTTP/1.1", b"HTTP/1.0", 400),
        (b"HTTP/1.1", b"HTTP/1.2", 400),
        (b"GET", b"POST", 405),
        (b"Host: localhost\r\n", b"", 400),
        (b"Host:", b"Host: a\r\nHost:", 400),
        (b"Sec-WebSocket-Version:", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version:", 400),
        (b"Host:", b"Origin: http://a\r\nOrigin: http://b\r\nHost:", 400),
        (b"Host:", b"Content-Length: 5\r\nHost:", 400),
        (b"Host:", b"Transfer-Encoding: chunked\r\nHost:", 400),
        (b"Host:", b"Name : a\r\nHost:", 400),
        (b" / ", b" /" + b"a" * 20_000 + b" ", 414),
        (b"Host:", b"Name: " + b"a" * 20_000 + b"\r\nHost:", 431),
        (b"Host:", b"Name: a\r\n" * 128 + b"Host:", 431),
    ],
)
async def test_wrong_handshakes(
    served: tuple[str, Noting],
    old: bytes,
    new: bytes,
    status: int,
):
    """They get their answer and the end, and no application sees them."""
    url, noting = served
    async with open_tcp(url) as wire:
        assert await answer(wire, handshake("/").replace(old, new)) == status
        assert "connection: close" in wire.head.lower()

    assert noting.scopes == []


async def test_an_answer_that_would_be_two():
    """A header with a line end in it is an error of the application, and no second header."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        headers = [(b"x-name", b"a\r\nset-cookie: b")]
        await send({"type": "websocket.accept", "headers": headers})

    async with run_uvicorn(app, http=DOOR, ws=FAST) as url, open_tcp(url) as wire:
        assert await answer(wire, handshake("/")) == 500
        assert "set-cookie" not in wire.head


# Requests.


async def test_requests_on_one_connection(served: tuple[str, Noting]):
    """One after the other, with bodies, in pieces, and then a WebSocket."""
    url, noting = served
    post = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    async with open_tcp(url) as wire:
        for pieces in ([GET], [GET[:9], GET[9:]], [post[:30], post[30:-3], post[-3:]], [post]):
            assert await answer(wire, *pieces) == 200
            if pieces[0].startswith(b"POST"):
                assert await hear_body(wire, 5) == b"hello"
    async with open_tcp(url) as wire:
        assert await answer(wire, GET) == 200
        assert await answer(wire, handshake("/room")) == 101
        await wire.say(frame(TEXT, b"hi"))
        assert (await wire.hear()).data == b"hi"

    assert [scope["path"] for scope in noting.scopes] == ["/a b"] * 2 + ["/b"] * 2 + [
        "/a b",
        "/room",
    ]


async def test_requests_in_one_piece(served: tuple[str, Noting]):
    """Each gets its answer; an upgrade behind one that is not answered is refused."""
    url, noting = served
    async with open_tcp(url) as wire:
        assert await answer(wire, GET + GET + GET[:10]) == 200
        assert await answer(wire, b"") == 200
        assert await answer(wire, GET[10:]) == 200
    async with open_tcp(url) as wire:
        wire.writer.write(GET + handshake("/room"))
        with suppress(asyncio.IncompleteReadError):
            assert await answer(wire, b"") == 200
        await wire.hear_end()

    assert "/room" not in [scope["path"] for scope in noting.scopes]


async def test_http_1_0(served: tuple[str, Noting]):
    """Probes of balancers speak it, and name no host."""
    url, noting = served
    async with open_tcp(url) as wire:
        assert await answer(wire, b"GET /health HTTP/1.0\r\n\r\n") == 200

    assert noting.scopes[0]["http_version"] == "1.0"


@pytest.mark.parametrize(
    "before",
    [
        b"",
        GET,
        GET + GET[:10],
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
    ids=["first", "next", "pipelined", "trailers", "chunk"],
)
async def test_a_header_without_an_end(served: tuple[str, Noting], before: bytes):
    """It is cut off, wherever it stands: in heads, in trailers, in the extensions of chunks."""
    url, _ = served
    async with open_tcp(url) as wire:
        if before:
            wire.writer.write(before)
            await wire.writer.drain()
        if before.startswith(GET):
            await answer(wire, b"")
        piece = b"x" * 4_096
        count = 0
        head = b"GET /" if not before or before == GET else b""
        wire.writer.write(head)
        with suppress(ConnectionError):
            async with asyncio.timeout(TIMEOUT):
                while not wire._reader.at_eof():
                    wire.writer.write(piece)
                    await wire.writer.drain()
                    await asyncio.sleep(0)
                    count += 1
                    if wire._reader._buffer:  # type: ignore[attr-defined]
                        break
        # What is on its way when it is cut off counts, too.
        assert count * len(piece) < 40 * MAX_HEAD_SIZE


@asynccontextmanager
async def bounded(
    monkeypatch: pytest.MonkeyPatch,
    app: ASGIApp,
    options: dict[str, Any] | None = None,
    **bounds: Any,
) -> AsyncIterator[str]:
    """A server with bounds."""
    for name, value in bounds.items():
        monkeypatch.setenv(f"ROOST_{name.upper()}", str(value))
    async with run_uvicorn(app, http=DOOR, ws=FAST, **(options or {})) as url:
        yield url


async def test_slow_heads(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """Who sends none, or not all of it, gets 408: on a new connection, and on a kept one."""
    async with bounded(monkeypatch, Noting(), head_timeout=0.2) as url:
        for before in (b"", GET[:20], GET):
            async with open_tcp(url) as wire:
                if before == GET:
                    assert await answer(wire, GET) == 200
                assert await answer(wire, before[:20]) == 408
                await hear_refusal(wire)

    assert "--head-timeout" in caplog.text


async def test_silent_connections_make_room(monkeypatch: pytest.MonkeyPatch):
    """At the bound who has waited longest goes, once it has waited a while; before, who comes."""
    async with (
        bounded(monkeypatch, Noting(), max_waiting=3) as url,
        AsyncExitStack() as stack,
    ):
        silent = [await stack.enter_async_context(open_tcp(url)) for _ in range(3)]
        async with open_tcp(url) as wire:
            with suppress(ConnectionError):
                assert await answer(wire, b"") == 503
        await asyncio.sleep(PATIENCE * 1.5)
        async with open_tcp(url) as wire:
            assert await answer(wire, handshake("/")) == 101
        await silent[0].hear_end()


@pytest.mark.parametrize(
    ("bounds", "counter", "option"),
    [
        ({"max_connections": 2}, "connections_full", "--max-connections"),
        ({"max_connection_rate": 1}, "connection_rate", "--max-connection-rate"),
        ({"max_connections_per_address": 2}, "address_full", "--max-connections-per-address"),
    ],
)
async def test_too_many_connections(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bounds: dict[str, Any],
    counter: str,
    option: str,
):
    """What is over a bound gets 503 at once, is counted, and logged."""
    noting = Noting()
    options = {"forwarded_allow_ips": ""}  # else this machine is a proxy, and has no bound
    async with (
        bounded(monkeypatch, noting, options, **bounds) as url,
        AsyncExitStack() as stack,
    ):
        for _ in range(2):
            wire = await stack.enter_async_context(open_tcp(url))
            assert await answer(wire, handshake("/")) == 101
        async with open_tcp(url) as wire:
            assert await answer(wire, b"") == 503  # before it says anything
            assert "retry-after: 5" in wire.head
            await hear_refusal(wire)
        counters = server_counters(noting.scopes[0])
        assert counters is not None
        assert counters[counter] == 1

    assert option in caplog.text


async def test_clients_of_a_proxy(monkeypatch: pytest.MonkeyPatch):
    """A trusted proxy has as many connections as it likes, each of its clients has its bound."""
    async with (
        bounded(monkeypatch, Noting(), max_connections_per_address=1) as url,
        AsyncExitStack() as stack,
    ):
        for client, status in (("1.2.3.4", 101), ("5.6.7.8", 101), ("1.2.3.4", 503)):
            wire = await stack.enter_async_context(open_tcp(url))
            request = handshake("/", f"X-Forwarded-For: 9.9.9.9, {client}")
            assert await answer(wire, request) == status


async def test_who_goes_makes_room(monkeypatch: pytest.MonkeyPatch):
    """Bounds count those who are there."""
    async with bounded(
        monkeypatch, Noting(), {"forwarded_allow_ips": ""}, max_connections_per_address=1
    ) as url:
        for request in (handshake("/"), GET, b"bad\r\n\r\n", handshake("/")):
            async with asyncio.timeout(TIMEOUT):
                while True:
                    async with open_tcp(url) as wire:
                        if await answer(wire, request) != 503:
                            break


async def test_the_concurrency_limit_counts_websockets():
    """uvicorn's option holds for them as for requests."""
    async with (
        run_uvicorn(Noting(), http=DOOR, ws=FAST, limit_concurrency=3) as url,
        AsyncExitStack() as stack,
    ):
        statuses = []
        for _ in range(4):
            wire = await stack.enter_async_context(open_tcp(url))
            statuses.append(await answer(wire, handshake("/")))

    assert statuses[0] == 101
    assert statuses[-1] == 503


async def test_a_server_that_ends_with_silent_connections(monkeypatch: pytest.MonkeyPatch):
    """They hold nothing up."""
    async with AsyncExitStack() as stack:
        async with run_uvicorn(Noting(), http=DOOR, ws=FAST) as url:
            for _ in range(3):
                wire = await stack.enter_async_context(open_tcp(url))
                wire.writer.write(GET[:10])
                await wire.writer.drain()
        await wire.hear_end()


# Messages.


async def test_no_compression_unless_it_is_meant():
    """uvicorn's option is on by default: the class's name says whether it is meant."""
    for http in (PLAIN_HTTP, DOOR):
        async with run_uvicorn(Noting(), http=http, ws=FAST) as url, open_tcp(url) as wire:
            offer = "Sec-WebSocket-Extensions: permessage-deflate"
            assert await answer(wire, handshake("/", offer)) == 101
            assert "permessage-deflate" not in wire.head
