"""A client with thousands of connections: it makes WebSocket frames by hand, with a zero mask.

It understands just what it needs: the refs of replies, pings, closes. As a
process it takes one command a line and answers each with a line: `python -m tests.crowd URL 5000`.
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

from roost.cli.limits import raise_file_limit

CONCURRENCY = 100  # connections being opened at once
ROOM_SIZE = 100  # connections in one room
TIMEOUT = 60.0  # seconds, for all connections to do one thing


class Member(asyncio.Protocol):
    """One connection.

    Attributes:
        close_code: Of the server; None while it is open.
        events: How often each event came.
    """

    def __init__(self, host: str, path: str) -> None:
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._data = bytearray()
        self._is_open = False
        self._transport: asyncio.Transport | None = None
        self._replies: dict[str, asyncio.Future[Any]] = {}
        self.close_code: int | None = None
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    # Say.

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        assert self._transport is not None
        self._transport.write(data)

    def ask(self, ref: str, *frames: bytes, message: list[Any]) -> asyncio.Future[Any]:
        """Send frames, then a message with that ref; the future gets the reply's payload."""
        self._replies[ref] = asyncio.get_running_loop().create_future()
        self.send_raw(b"".join(frames) + text_frame(json.dumps(message)))
        return self._replies[ref]

    def close(self) -> None:
        """Close the connection; `lost` is done when it is gone."""
        self.send_raw(frame(0x8, b"\x03\xe8"))

    # Hear.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        self._transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_open:
            head, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._is_open = True
            self._data = rest
            self.opened.set_result(None)
        for opcode, payload in self._frames():
            if opcode == 0x8:
                self.close_code = int.from_bytes(payload[:2])
                if self._transport is not None and not self._transport.is_closing():
                    self.send_raw(frame(0x8, payload))
            elif opcode == 0x9:
                self.send_raw(frame(0xA, payload))
            elif b'"phx_reply"' in payload[:200]:
                self._reply(payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("closed before it was open"))
        self.lost.set_result(None)
        for reply in self._replies.values():
            reply.set_exception(ConnectionError(f"closed with {self.close_code}"))

    def _frames(self) -> Iterable[tuple[int, bytes]]:
        data, start = self._data, 0
        while len(data) >= start + 2:
            size, head = data[start + 1], start + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                head += width
                size = int.from_bytes(data[head - width : head])
            if len(data) < head + size:
                break
            yield data[start] & 0xF, bytes(data[head : head + size])
            start = head + size
        del data[:start]

    def _reply(self, payload: bytes) -> None:
        _, ref, _, _, reply = json.loads(payload)
        if isinstance(ref, str) and (future := self._replies.pop(ref, None)) is not None:
            future.set_result(reply)


def frame(opcode: int, payload: bytes) -> bytes:
    """One frame of a client, whole."""
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0x80 | 126]) + size.to_bytes(2)
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + size.to_bytes(8)
    return head + bytes(4) + payload  # a mask of zeros changes nothing


def text_frame(text: str) -> bytes:
    """One text message, whole."""
    return frame(0x1, text.encode())


async def open_member(url: str, path: str = "/socket/websocket?vsn=2.0.0") -> Member:
    """Open one connection."""
    address = urlsplit(url).netloc
    host, _, port = address.partition(":")
    _, member = await asyncio.get_running_loop().create_connection(
        lambda: Member(address, path), host, int(port)
    )
    await member.opened
    return member


class Crowd:
    """Thousands of connections that do the same at once; a hundred in each room."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self._members: list[Member] = []
        self._last_ref = 0
        self._last_user = 0

    async def connect(self) -> None:
        gate = asyncio.Semaphore(CONCURRENCY)

        async def open_one(number: int) -> Member:
            async with gate:
                path = f"/socket/websocket?vsn=2.0.0&user_id={number}"
                return await open_member(self._url, path)

        first, self._last_user = self._last_user + 1, self._last_user + self._count
        self._members = await asyncio.gather(
            *(open_one(each) for each in range(first, self._last_user + 1))
        )

    async def join(self) -> None:
        self._last_ref += 1
        await self._ask("phx_join", str(self._last_ref))

    async def leave(self) -> None:
        await self._ask("phx_leave", f"{self._last_ref}-leave")

    async def close(self) -> None:
        for member in self._members:
            member.close()
        await asyncio.gather(*(member.lost for member in self._members))
        self._members.clear()

    async def _ask(self, event: str, ref: str) -> None:
        replies = [
            member.ask(
                ref, message=[str(self._last_ref), ref, f"room:{number // ROOM_SIZE}", event, {}]
            )
            for number, member in enumerate(self._members)
        ]
        for reply in await asyncio.gather(*replies):
            assert reply["status"] == "ok", reply


async def obey(url: str, count: int) -> None:
    """Carry out the commands on stdin: connect, join, leave, close."""
    raise_file_limit()
    crowd = Crowd(url, count)
    commands = {
        "connect": crowd.connect,
        "join": crowd.join,
        "leave": crowd.leave,
        "close": crowd.close,
    }
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        async with asyncio.timeout(TIMEOUT):
            await commands[line.strip()]()
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(obey(sys.argv[1], int(sys.argv[2])))
