"""Reading in turns, on a transport that only notes what it is told."""

import asyncio

from roost.asgi.transports.bounded import TURN_COUNT
from roost.asgi.uvicorn.pace import SLICE_SIZE, PacedProtocol

FRAME_SIZE = 16  # bytes: what the reader below takes for a frame


class NotingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_reading_ = True
        self.has_closed = False

    def pause_reading(self) -> None:
        self.is_reading_ = False  # more than once, as asyncio's transports allow

    def resume_reading(self) -> None:
        self.is_reading_ = True

    def is_closing(self) -> bool:
        return self.has_closed


class Reader(PacedProtocol):
    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self.data = b""
        self.connection = NotingTransport()
        self.connection_made(self.connection)

    def read(self, data: bytes | bytearray) -> int:
        self.data += data
        return len(data) // FRAME_SIZE


async def test_what_comes_at_once_is_read_in_turns():
    """Others have theirs after a hundred frames; nothing is lost, and the client waits."""
    reader = Reader()
    data = b"".join(number.to_bytes(FRAME_SIZE, "big") for number in range(4_000))
    reader.data_received(data)
    turn_count = 0
    while len(reader.data) < len(data) and turn_count < 100:
        assert not reader.connection.is_reading_
        assert len(reader.data) <= (turn_count + 1) * max(SLICE_SIZE, TURN_COUNT * FRAME_SIZE)
        await asyncio.sleep(0)
        turn_count += 1

    assert reader.data == data
    assert turn_count > 1
    assert reader.connection.is_reading_


async def test_what_comes_while_reading_is_paused():
    """It is read later, in order: some transports hand over what they had read already."""
    reader = Reader()
    reader.pause_reading()
    reader.data_received(b"1")
    reader.data_received(b"2")
    assert reader.data == b""

    reader.resume_reading()
    reader.data_received(b"3")

    assert reader.data == b"123"


async def test_what_comes_before_the_end():
    """It is read although the connection is lost."""
    reader = Reader()
    reader.pause_reading()
    reader.data_received(bytes(3 * SLICE_SIZE))
    reader.connection.has_closed = True
    reader.connection_lost(None)

    assert len(reader.data) == 3 * SLICE_SIZE
