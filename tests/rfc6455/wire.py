"""A client that says any bytes at all, right or wrong, and reads frames as they are."""

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple
from urllib.parse import urlsplit

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
TIMEOUT = 5.0  # seconds, for what must come


class Heard(NamedTuple):
    """A frame of the server."""

    opcode: int
    data: bytes
    fin: bool = True
    rsv: int = 0


def frame(
    opcode: int,
    data: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\1\2\3\4",
) -> bytes:
    """One frame of a client; `mask=None` leaves it unmasked, which is wrong."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if len(data) < 126:
        head += bytes([bit | len(data)])
    elif len(data) < 65_536:
        head += struct.pack("!BH", bit | 126, len(data))
    else:
        head += struct.pack("!BQ", bit | 127, len(data))
    if mask is None:
        return head + data
    key = (mask * (len(data) // 4 + 1))[: len(data)]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(key, "big")
    return head + mask + masked.to_bytes(len(data), "big")


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame of a client."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Wire:
    """One TCP connection; made by `open_wire`.

    Attributes:
        head: The server's answer to the handshake, without what follows it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.head = ""

    async def shake_hands(self, request: bytes) -> None:
        """Send a request and read the head of its answer."""
        self.writer.write(request)
        async with asyncio.timeout(TIMEOUT):
            self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode()

    @property
    def status(self) -> int:
        """Of the answer."""
        return int(self.head.split()[1])

    async def say(self, *frames: bytes, chop: int | None = None) -> None:
        """Send frames together, or as writes of `chop` bytes each."""
        data = b"".join(frames)
        step = chop or len(data) or 1
        for start in range(0, len(data), step):
            self.writer.write(data[start : start + step])
            await self.writer.drain()
            if chop:
                await asyncio.sleep(0)

    async def hear(self) -> Heard:
        """The next frame.

        Raises:
            EOFError: The server closed the TCP connection.
        """
        async with asyncio.timeout(TIMEOUT):
            head, size = await self._reader.readexactly(2)
            assert size < 128, "servers do not mask"
            if size >= 126:
                size = int.from_bytes(
                    await self._reader.readexactly(2 if size == 126 else 8), "big"
                )
            data = await self._reader.readexactly(size)
        return Heard(head & 0xF, data, bool(head & 0x80), head >> 4 & 0x7)

    async def hear_close(self) -> int | None:
        """Read until the server has closed the connection; its close code, if it said one.

        Between the close frame and the end nothing may come.
        """
        while (heard := await self.hear()).opcode != CLOSE:
            pass
        await self.hear_end()
        return int.from_bytes(heard.data[:2], "big") if heard.data else None

    async def hear_end(self) -> None:
        """The server closes the TCP connection, and says nothing more."""
        async with asyncio.timeout(TIMEOUT):
            with suppress(ConnectionResetError):
                assert await self._reader.read(1) == b""


def handshake(path: str, *lines: str, host: str = "localhost") -> bytes:
    """A proper request, with further header lines."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join([*head, *lines, "", ""]).encode()


@asynccontextmanager
async def open_tcp(url: str) -> AsyncIterator[Wire]:
    """Connect, and say nothing yet."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def open_wire(url: str, *lines: str) -> AsyncIterator[Wire]:
    """Open a WebSocket for the duration of the block.

    Args:
        url: With the path.
        lines: Further lines of the handshake.
    """
    address = urlsplit(url)
    path = address.path + (f"?{address.query}" if address.query else "")
    async with open_tcp(url) as wire:
        await wire.shake_hands(handshake(path, *lines, host=address.netloc))
        assert wire.status == 101, wire.head
        yield wire
