"""The scope extension on a real server: what a receiver is told, and what it can say."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from roost import Channel, Endpoint, Mount, Socket, WebSocket, event
from roost.asgi import Drainer
from roost.asgi.transports.extension import TakenWebSocket, take_from
from roost.asgi.types import Receive, Scope, Send
from roost.asgi.uvicorn import Protocol
from roost.wire.frame import Frame
from tests.clients import Client, connect
from tests.rfc6455.wire import BINARY, CLOSE, PING, PONG, TEXT, Heard, Wire, close, frame, open_wire
from tests.servers import FAST, ROOT, run_uvicorn

CERTIFICATES = ROOT / "tests" / "pubsub" / "certificates"

HI = Frame(b"hi", is_text=True).framed


class Stage:
    """An application that takes its WebSocket over and notes what it is told.

    Attributes:
        told: What the receiver was told, in order.
        taken: The server's end, once it was taken over.
        signs_of_life: How many it was told of.
    """

    def __init__(self, *, waits_for: int = 0) -> None:
        self.told: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.taken: asyncio.Future[TakenWebSocket] = asyncio.get_running_loop().create_future()
        self.may_take = asyncio.Event()
        self.signs_of_life = 0

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        take = take_from(scope)
        assert take is not None
        await receive()
        with pytest.raises(RuntimeError):
            take(self)  # not yet
        await send({"type": "websocket.accept"})
        await self.may_take.wait()
        self.taken.set_result(take(self))
        with pytest.raises(RuntimeError):
            take(self)  # not twice
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.close"})  # the receiver's from now on

    def message_received(self, data: str | bytes) -> None:
        self.told.put_nowait(("message", data))

    def sign_of_life_received(self) -> None:
        self.signs_of_life += 1

    def pause_writing(self) -> None:
        self.told.put_nowait(("pause",))

    def resume_writing(self) -> None:
        self.told.put_nowait(("resume",))

    def connection_closing(self) -> None:
        self.told.put_nowait(("closing",))

    def connection_lost(self, code: int, reason: str) -> None:
        self.told.put_nowait(("lost", code, reason))

    def server_ending(self) -> None:
        self.told.put_nowait(("ending",))

    async def hear(self) -> tuple[Any, ...]:
        """What it is told next."""
        async with asyncio.timeout(5):
            return await self.told.get()


@asynccontextmanager
async def run(stage: Stage, *, take: bool = True) -> AsyncIterator[Wire]:
    """Serve the application; yields a connected client."""
    async with serve(stage) as url, connected(url, stage, take=take) as wire:
        yield wire


def serve(stage: Stage) -> AbstractAsyncContextManager[str]:
    """Serve the application; yields the URL."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await stage.app(scope, receive, send)

    options = {"ws": FAST, "ws_per_message_deflate": False, "timeout_graceful_shutdown": 1}
    return run_uvicorn(app, **options)


@asynccontextmanager
async def connected(url: str, stage: Stage, *, take: bool = True) -> AsyncIterator[Wire]:
    """A client, taken over if so."""
    if take:
        stage.may_take.set()
    async with open_wire(f"{url}/") as wire:
        if take:
            await stage.taken
        yield wire


@asynccontextmanager
async def run_to_the_end(stage: Stage) -> AsyncIterator[Wire]:
    """Serve the application; yields a client once the server is ending, and waits for the end."""
    server = AsyncExitStack()
    url = await server.enter_async_context(serve(stage))
    async with connected(url, stage) as wire:
        ending = asyncio.create_task(server.aclose())
        assert await stage.hear() == ("ending",)
        yield wire
        await ending


async def test_messages_and_writes():
    """Messages come by call, text as str; framed bytes go as they are; a close ends it."""
    stage = Stage()
    async with run(stage) as wire:
        taken = stage.taken.result()
        await wire.say(frame(TEXT, "é".encode()), frame(PING, b"x"), frame(BINARY, b"\x00"))
        assert [await stage.hear(), await stage.hear()] == [("message", "é"), ("message", b"\x00")]
        assert await wire.hear() == Heard(PONG, b"x")
        await wire.say(frame(PONG, b"unasked"), frame(TEXT, b"hi"))
        assert await stage.hear() == ("message", "hi")
        assert stage.signs_of_life == 2

        taken.write(HI + HI)
        assert [await wire.hear(), await wire.hear()] == [Heard(TEXT, b"hi")] * 2

        await wire.say(close(3000, b"bye"))
        assert [await stage.hear(), await stage.hear()] == [("closing",), ("lost", 3000, "bye")]
        assert await wire.hear_close() == 3000


async def test_messages_before_the_takeover():
    """They come first, in order, and none is lost."""
    stage = Stage()
    async with run(stage, take=False) as wire:
        frames = [frame(TEXT, str(number).encode()) for number in range(2_000)]
        await wire.say(*frames, frame(PING))
        stage.may_take.set()
        await wire.hear()

        heard = [await stage.hear() for _ in frames]
        assert heard == [("message", str(number)) for number in range(2_000)]


async def test_a_client_that_goes_before_the_takeover():
    """The receiver is told at once."""
    stage = Stage()
    async with run(stage, take=False) as wire:
        await wire.say(frame(TEXT, b"hi"), close(1000))
        assert await wire.hear_close() == 1000
        stage.may_take.set()

        assert await stage.hear() == ("message", "hi")
        assert (await stage.hear())[0] == "lost"


async def test_a_close_by_the_receiver():
    """It is told of the end when the client has answered, and of nothing after it."""
    stage = Stage()
    async with run(stage) as wire:
        taken = stage.taken.result()
        taken.close(3000)
        taken.close(3001)
        assert await stage.hear() == ("closing",)
        assert await wire.hear() == Heard(CLOSE, b"\x0b\xb8")

        await wire.say(close(3000), frame(TEXT, b"late"))
        await wire.hear_end()
        while (told := await stage.hear()) == ("closing",):
            pass
        assert told == ("lost", 3000, "")
        assert stage.told.empty()


async def test_a_client_that_does_not_read():
    """The receiver is asked to pause, and to resume once all is gone.

    Pings that come meanwhile cost no memory: the last one is answered.
    """
    stage = Stage()
    async with run(stage) as wire:
        taken = stage.taken.result()
        large = Frame(bytes(20_000_000), is_text=False)
        taken.write(large.framed)
        assert await stage.hear() == ("pause",)
        for number in range(10):
            await wire.say(frame(PING, bytes([number])), frame(TEXT, b"hi"))
            assert await stage.hear() == ("message", "hi")

        assert len((await wire.hear()).data) == 20_000_000
        assert await stage.hear() == ("resume",)
        assert await wire.hear() == Heard(PONG, b"\x09")


async def test_any_byte_that_waits_pauses():
    """Not only 64 kB of them: what waits is the receiver's to bound, and to count."""
    stage = Stage()
    async with run(stage):
        protocol = stage.taken.result()
        assert isinstance(protocol, Protocol)
        assert protocol._transport.get_write_buffer_limits() == (0, 1)


async def test_a_server_that_ends():
    """It asks, waits as long as it is told to, and closes what has not ended (1012)."""
    stage = Stage()
    async with run_to_the_end(stage) as wire:
        assert await wire.hear() == Heard(CLOSE, (1012).to_bytes(2, "big"))

    assert [await stage.hear(), await stage.hear()] == [("closing",), ("lost", 1012, "")]
    assert stage.told.empty()


async def test_a_server_that_ends_and_waits():
    """Until the receiver has closed; that is nothing to be cut off."""
    stage = Stage()
    async with run_to_the_end(stage) as wire:
        stage.taken.result().close(1001)
        assert await wire.hear() == Heard(CLOSE, (1001).to_bytes(2, "big"))
        await wire.say(close(1001))

    while (told := await stage.hear()) == ("closing",):
        pass
    assert told == ("lost", 1001, "")
    assert stage.told.empty()


async def test_one_write_for_many_answers():
    """A burst of messages is answered in order, whatever else is pushed meanwhile."""

    class BurstChannel(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            self.push("before", payload)
            self.broadcast("all", payload)
            return payload

    class BurstSocket(Socket):
        channels = {"*": BurstChannel}

    endpoint = Endpoint({"/socket": BurstSocket})
    async with run_uvicorn(endpoint, ws=FAST) as url, connect(url) as alice:
        await alice.join("room:1")
        refs = [await alice.push("room:1", "ping", {"n": number}) for number in range(200)]
        heard = await alice.receive_messages(600)

    for number, ref in enumerate(refs):
        before, all_, reply = heard[3 * number : 3 * number + 3]
        assert (before.event, all_.event, reply.ref) == ("before", "all", ref)
        assert before.payload == all_.payload == reply.payload["response"] == {"n": number}


async def test_a_slow_consumer():
    """A client that does not read is disconnected and counted; the others notice nothing."""

    class FloodChannel(Channel):
        @event("flood")
        def flood(self, payload: Any) -> dict[str, Any]:
            self.broadcast("water", {"data": "x" * 100_000})
            return {}

    class FloodSocket(Socket):
        channels = {"*": FloodChannel}

    options = WebSocket(max_outbound_size=1_000_000)
    endpoint = Endpoint({"/socket": Mount(FloodSocket, websocket=options)})
    async with (
        run_uvicorn(endpoint, ws=FAST) as url,
        connect(url) as alice,
        open_wire(f"{url}/socket/websocket?vsn=2.0.0") as wire,
    ):
        await alice.join("room:1")
        await wire.say(frame(TEXT, b'["1","1","room:1","phx_join",{}]'))
        await wire.hear()
        count = 0
        async with asyncio.timeout(20):
            while not endpoint.counters["slow_consumer"]:
                assert await alice.ask("room:1", "flood") == {}
                await alice.receive("water")
                count += 1
        assert count > 10

        while (heard := await wire.hear()).opcode != CLOSE:
            pass
        assert heard.data == (1013).to_bytes(2, "big")
        assert await alice.heartbeat() == []


async def test_nothing_differs_over_tls():
    """Nothing differs, flow control neither."""

    class EchoChannel(Channel):
        @event("ping")
        def ping(self, payload: Any) -> Any:
            return payload

    class EchoSocket(Socket):
        channels = {"*": EchoChannel}

    trust = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
    trust.check_hostname = False
    options = {
        "ssl_certfile": CERTIFICATES / "server.pem",
        "ssl_keyfile": CERTIFICATES / "server.key",
    }
    endpoint = Endpoint({"/socket": EchoSocket})
    async with (
        run_uvicorn(endpoint, ws=FAST, **options) as url,
        connect(url.replace("http", "wss", 1), ssl=trust) as alice,
    ):
        await alice.join("room:1")
        for size in (1, 1_000, 900_000):
            assert await alice.ask("room:1", "ping", {"x": "x" * size}) == {"x": "x" * size}
        endpoint.broadcast("room:1", "news", {"n": 1})
        assert await alice.receive("news") == {"n": 1}


async def test_a_server_that_ends_closes_in_batches():
    """The drainer of the mount has its say, although the server ends before the endpoint does."""

    class QuietSocket(Socket):
        channels = {"*": Channel}

    drainer = Drainer(batch_size=1, batch_interval=0.2)
    endpoint = Endpoint({"/socket": Mount(QuietSocket, drainer=drainer)})
    closed_at: list[float] = []
    loop = asyncio.get_running_loop()

    async def note(client: Client) -> None:
        assert await client.closed() == 1012
        closed_at.append(loop.time())

    async with AsyncExitStack() as stack:
        async with run_uvicorn(endpoint, ws=FAST) as url:
            clients = [await stack.enter_async_context(connect(url)) for _ in range(3)]
            notes = [asyncio.create_task(note(client)) for client in clients]
        await asyncio.gather(*notes)

    first, second, third = closed_at
    assert second - first > 0.1
    assert third - second > 0.1
