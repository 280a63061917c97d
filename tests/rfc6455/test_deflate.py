"""Messages that are compressed (RFC 7692): the basics of Autobahn's groups 12 and 13."""

import zlib

import pytest

from tests.rfc6455.conftest import MAX_SIZE, Subject
from tests.rfc6455.wire import BINARY, CONT, PING, PONG, TEXT, Heard, Wire, frame

OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
COMPRESSED = 4  # RSV1
TAIL = b"\0\0\xff\xff"


class Deflate:
    """The client's end: both directions, each with its own window."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=-12)
        self._decompressor = zlib.decompressobj(wbits=-12)

    def compress(self, data: bytes) -> bytes:
        packed = self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(TAIL)

    def decompress(self, heard: Heard) -> Heard:
        if not heard.rsv:
            return heard
        assert heard.rsv == COMPRESSED
        return Heard(heard.opcode, self._decompressor.decompress(heard.data + TAIL))


async def check(subject: Subject, wire: Wire, deflate: Deflate, text: str) -> None:
    """A compressed message comes back, compressed or not."""
    await wire.say(frame(TEXT, deflate.compress(subject.said(text)), rsv=COMPRESSED))
    assert subject.heard(deflate.decompress(await wire.hear())) == text


async def test_a_client_that_does_not_ask(deflating: Subject):
    """Nothing is compressed for it, and what it compresses is wrong."""
    async with deflating.open() as wire:
        assert "permessage-deflate" not in wire.head
        await deflating.check(wire)
        await wire.say(frame(TEXT, Deflate().compress(b"hi"), rsv=COMPRESSED))

        assert await wire.hear_close() == 1002


async def test_a_server_that_does_not_offer(subject: Subject):
    """A client that asks goes without."""
    async with subject.open(OFFER) as wire:
        assert "permessage-deflate" not in wire.head
        await subject.check(wire)


async def test_one_window_serves_all_compressed_messages(deflating: Subject):
    """One window serves all messages; those without compression may come in between."""
    async with deflating.open(OFFER) as wire:
        assert "permessage-deflate" in wire.head
        deflate = Deflate()
        for size in (0, 10, 1_000, 100_000):
            await check(deflating, wire, deflate, "Hello " * size)
            await wire.say(deflating.frame("plain"))
            assert deflating.heard(deflate.decompress(await wire.hear())) == "plain"


async def test_the_first_fragment_says_that_all_are_compressed(deflating: Subject):
    """The first frame says that all are; pings in between are never."""
    async with deflating.open(OFFER) as wire:
        deflate = Deflate()
        data = deflate.compress(deflating.said("Hello " * 100))
        await wire.say(
            frame(TEXT, data[:5], fin=False, rsv=COMPRESSED),
            frame(PING, b"x"),
            frame(CONT, data[5:10], fin=False),
            frame(CONT, data[10:]),
        )

        assert await wire.hear() == Heard(PONG, b"x")
        assert deflating.heard(deflate.decompress(await wire.hear())) == "Hello " * 100


async def test_no_window_between_messages(deflating: Subject):
    """What a client asks for is agreed on, and kept."""
    options = "client_no_context_takeover; server_no_context_takeover"
    async with deflating.open(f"{OFFER}; {options}") as wire:
        assert "client_no_context_takeover" in wire.head
        assert "server_no_context_takeover" in wire.head
        for _ in range(3):
            await check(deflating, wire, Deflate(), "Hello " * 10)


async def test_what_is_no_deflate(deflating: Subject):
    """1002."""
    async with deflating.open(OFFER) as wire:
        await wire.say(frame(TEXT, b"\xff\xff\xff\xff", rsv=COMPRESSED))

        assert await wire.hear_close() == 1002


@pytest.mark.parametrize("opcode", [PING, CONT])
async def test_the_bit_where_it_must_not_be(deflating: Subject, opcode: int):
    """On control frames and later fragments it is wrong: 1002."""
    async with deflating.open(OFFER) as wire:
        first = frame(TEXT, Deflate().compress(b"hi"), fin=False, rsv=COMPRESSED)
        await wire.say(first, frame(opcode, b"", rsv=COMPRESSED))

        assert await wire.hear_close() == 1002


async def test_a_bomb_is_refused_before_it_is_unpacked(deflating: Subject):
    """What is too large when it is unpacked is refused before it is: 1009."""
    async with deflating.open(OFFER) as wire:
        bomb = Deflate().compress(bytes(MAX_SIZE * 50))
        assert len(bomb) < MAX_SIZE // 10
        await wire.say(frame(BINARY, bomb, rsv=COMPRESSED))

        assert await wire.hear_close() == 1009


async def test_text_is_checked_when_it_is_unpacked(deflating: Subject):
    """1007."""
    async with deflating.open(OFFER) as wire:
        await wire.say(frame(TEXT, Deflate().compress(b"\xff\xfe"), rsv=COMPRESSED))

        assert await wire.hear_close() == 1007
