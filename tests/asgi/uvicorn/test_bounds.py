"""What one connection may take, and what is left of it: on the endpoint behind the front door."""

import asyncio
import gc
import tracemalloc
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.protocol import Protocol as Library

from roost import Channel, Endpoint, Mount, Socket, WebSocket, event
from tests.rfc6455.wire import (
    CONT,
    PING,
    TEXT,
    Wire,
    close,
    frame,
    handshake,
    open_tcp,
    open_wire,
)
from tests.servers import DEFLATING, DOOR, FAST, run_uvicorn, settled
from tests.waiting import until

MAX_SIZE = 10_000
PATH = "/socket/websocket?vsn=2.0.0"


class RoomChannel(Channel):
    @event("ping")
    def ping(self, payload: Any) -> Any:
        return {"size": len(payload["body"])}


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


@asynccontextmanager
async def serve(max_size: int = MAX_SIZE, ws: str = FAST) -> AsyncIterator[tuple[str, Endpoint]]:
    options = WebSocket(max_frame_size=max_size)
    endpoint = Endpoint({"/socket": Mount(UserSocket, websocket=options)})
    async with run_uvicorn(endpoint, http=DOOR, ws=ws) as url:
        yield url, endpoint


def said(size: int) -> bytes:
    return b'["1","2","room:1","ping",{"body":"%b"}]' % (b"a" * size)


async def join(wire: Wire) -> None:
    await wire.say(frame(TEXT, b'["1","1","room:1","phx_join",{}]'))
    assert b'"status":"ok"' in (await wire.hear()).data


async def test_a_message_in_fragments():
    """It is bounded while it is gathered: its last fragment is not waited for."""
    async with serve() as (url, endpoint), open_wire(url + PATH) as wire:
        await join(wire)
        await wire.say(frame(TEXT, said(5_000)[:4_000], fin=False))
        await wire.say(frame(CONT, b"a" * 4_000, fin=False), frame(PING, b"1"))
        assert (await wire.hear()).data == b"1"
        await wire.say(frame(CONT, b"a" * 4_000, fin=False))

        assert await wire.hear_close() == 1009
        assert endpoint.health()["dropped"]["server"] == {"message_too_big": 1}


@pytest.mark.parametrize("joins", [True, False])
async def test_a_message_in_one_frame(joins: bool):
    """Its size is in its first bytes, and no more of it is read."""
    async with serve() as (url, _), open_wire(url + PATH) as wire:
        if joins:
            await join(wire)
        await wire.say(frame(TEXT, b"a" * 100_000)[:50])

        assert await wire.hear_close() == 1009


async def test_a_bomb():
    """What counts is its inflated size, of a frame and of fragments together."""
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    for size, count in ((1_000_000, 1), (4_000, 3)):
        deflate = zlib.compressobj(wbits=-15)
        async with serve(ws=DEFLATING) as (url, _), open_wire(url + PATH, offer) as wire:
            assert "permessage-deflate" in wire.head
            for number in range(count):
                data = deflate.compress(b"a" * size) + deflate.flush(zlib.Z_SYNC_FLUSH)
                opcode, rsv = (CONT, 0) if number else (TEXT, 4)
                await wire.say(frame(opcode, data, rsv=rsv, fin=False))

            assert await wire.hear_close() == 1009


async def test_an_idle_connection_does_not_hold_its_last_message():
    """Nor does the library, which made it."""
    async with serve(2_000_000) as (url, _):
        tracemalloc.start()
        try:
            wires = []
            stack = [open_wire(url + PATH) for _ in range(5)]
            for opening in stack:
                wires.append(await opening.__aenter__())
                await join(wires[-1])
            before, _ = tracemalloc.get_traced_memory()
            for wire in wires:
                await wire.say(frame(TEXT, said(1_000_000)))
                assert b'"size":1000000' in (await wire.hear()).data
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            for opening in stack:
                await opening.__aexit__(None, None, None)
        finally:
            tracemalloc.stop()

    assert after - before < 1_000_000


# What is left.


@pytest.fixture
def collector() -> Iterator[None]:
    """The collector off, so that what only it frees stays to be found."""
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def garbage() -> Counter[str]:
    """Objects of the server that nobody can reach, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    kinds = [type(each) for each in gc.garbage]
    gc.garbage.clear()
    return Counter(
        kind.__qualname__
        for kind in kinds
        if kind.__module__.startswith("roost") or kind in (Library, HttpToolsProtocol)
    )


ENDS = {
    "closed": [handshake(PATH), frame(PING), close(1000)],
    "gone": [handshake(PATH), frame(PING)],
    "gone at once": [handshake(PATH)],
    "broken": [handshake(PATH), frame(TEXT, mask=None)],
    "too big": [handshake(PATH), frame(TEXT, b"a" * 20_000)],
    "unfinished": [handshake(PATH), frame(TEXT, b"abc", fin=False)],
    "refused": [handshake("/socket/websocket?vsn=9.0.0")],
    "lost": [handshake("/elsewhere")],
    "no head": [b"hello\r\n\r\n"],
    "silent": [b""],
    "half a head": [b"GET / HT"],
    "request": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
    "request, then upgrade": [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", handshake(PATH), frame(PING)],
}


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("says", ENDS.values(), ids=ENDS.keys())
async def test_a_closed_connection_leaves_nothing(says: list[bytes]):
    """However far it got, and however it ended, all of it is freed at once."""
    async with serve() as (url, endpoint):
        gc.collect()  # what earlier servers left
        before = _connections()  # which a module keeps by their scope
        for is_rude in (False, True):
            async with open_tcp(url) as wire:
                for data in says:
                    wire.writer.write(data)
                    await wire.writer.drain()
                    with suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                        async with asyncio.timeout(0.05):
                            await wire._reader.read(1_000)
                if is_rude:
                    wire.writer.transport.abort()
            await until(lambda: _connections() == before)
            await settled(endpoint)
            for _ in range(3):
                await asyncio.sleep(0)

            assert garbage() == Counter()


def _connections() -> set[int]:
    """Of the server in this process, while somebody holds them."""
    return {id(each) for each in gc.get_objects() if type(each).__qualname__ == "HttpProtocol"}
