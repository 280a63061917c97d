"""Who is examined: an echo application, and an endpoint that takes WebSockets over."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from roost import Channel, Endpoint, Socket, WebSocket, event
from roost.asgi.mount import Mount
from roost.asgi.types import Receive, Scope, Send
from tests.rfc6455.wire import BINARY, TEXT, Heard, Wire, frame, open_wire
from tests.servers import DEFLATING, DOOR, FAST, run_uvicorn

MAX_SIZE = 1_000_000  # bytes of a message


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """A plain application: each message comes back."""
    assert scope["type"] == "websocket", "it has no lifespan"
    while True:
        match await receive():
            case {"type": "websocket.connect"}:
                await send({"type": "websocket.accept"})
            case {"type": "websocket.receive", **message}:
                await send({"type": "websocket.send", **message})
            case {"type": "websocket.disconnect"}:
                return


class Echo:
    """What is said comes back."""

    app = staticmethod(echo)
    path = "/"

    async def begin(self, wire: Wire) -> None:
        pass

    def said(self, data: str | bytes) -> bytes:
        return data.encode() if isinstance(data, str) else data

    def heard(self, heard: Heard) -> str | bytes:
        return heard.data.decode() if heard.opcode == TEXT else heard.data


class PingChannel(Channel):
    @event("ping")
    def ping(self, payload: Any) -> Any:
        return payload


class PingSocket(Socket):
    channels = {"*": PingChannel}


class Phoenix:
    """An endpoint: what is said is a push, what comes back is its reply."""

    def __init__(self) -> None:
        options = WebSocket(max_frame_size=MAX_SIZE)
        self.app = Endpoint({"/": Mount(PingSocket, websocket=options)})

    path = "/websocket?vsn=2.0.0"
    _head = bytes([0, 1, 1, 1, 4]) + b"12tping"  # join_ref 1, ref 2, topic t

    async def begin(self, wire: Wire) -> None:
        await wire.say(frame(TEXT, b'["1","1","t","phx_join",{}]'))
        assert b'"status":"ok"' in (await wire.hear()).data

    def said(self, data: str | bytes) -> bytes:
        if isinstance(data, bytes):
            return self._head + data
        return json.dumps(["1", "2", "t", "ping", {"d": data}], ensure_ascii=False).encode()

    def heard(self, heard: Heard) -> str | bytes:
        if heard.opcode == BINARY:
            head = bytes([1, 1, 1, 1, 2]) + b"12tok"
            assert heard.data.startswith(head)
            return heard.data.removeprefix(head)
        _, _, _, event, payload = json.loads(heard.data)
        assert event == "phx_reply"
        assert payload["status"] == "ok"
        text: str = payload["response"]["d"]
        return text


class Subject:
    """A running server, and how to talk with it.

    Attributes:
        url: Of its WebSocket.
    """

    def __init__(self, url: str, kind: Echo | Phoenix) -> None:
        self.url = url + kind.path
        self._kind = kind
        self.said = kind.said
        self.heard = kind.heard

    def open(self, *lines: str) -> AbstractAsyncContextManager[Wire]:
        """Open a WebSocket whose messages come back."""
        return self._open(*lines)

    @asynccontextmanager
    async def _open(self, *lines: str) -> AsyncIterator[Wire]:
        async with open_wire(self.url, *lines) as wire:
            await self._kind.begin(wire)
            yield wire

    def frame(self, data: str | bytes, **options: Any) -> bytes:
        """One frame that says `data`, whole."""
        return frame(TEXT if isinstance(data, str) else BINARY, self.said(data), **options)

    async def check(self, wire: Wire, data: str | bytes = "still there") -> None:
        """What is said comes back: the connection is well."""
        await wire.say(self.frame(data))
        assert self.heard(await wire.hear()) == data


@asynccontextmanager
async def serving(kind: Echo | Phoenix, *, deflates: bool, http: str) -> AsyncIterator[Subject]:
    """Serve one of the two."""
    ws = DEFLATING if deflates else FAST
    async with run_uvicorn(kind.app, http=http, ws=ws, ws_max_size=MAX_SIZE) as url:
        yield Subject(url, kind)


@pytest.fixture(
    params=[(Echo, "httptools"), (Phoenix, "httptools"), (Echo, DOOR), (Phoenix, DOOR)],
    ids=["echo", "endpoint", "echo-door", "endpoint-door"],
)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each of the two behind uvicorn's HTTP and behind the front door, without deflate."""
    kind, http = request.param
    async with serving(kind(), deflates=False, http=http) as subject:
        yield subject


@pytest.fixture(params=[Echo, Phoenix], ids=["echo", "endpoint"])
async def deflating(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """Each of the two behind the front door, with deflate offered."""
    async with serving(request.param(), deflates=True, http=DOOR) as subject:
        yield subject
