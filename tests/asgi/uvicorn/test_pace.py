"""Reading in turns, on a transport that only notes what it is told."""

import asyncio

from roost.asgi.uvicorn.pace import MAX_UNREAD_SIZE, SLICE_SIZE, TURN_LOAD, PacedProtocol
from roost.asgi.uvicorn.turns import HEAVY_LOAD, Turns
from tests.waiting import until

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
    def __init__(self, turns: Turns | None = None) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, turns or Turns(loop))
        self.data = b""
        self.has_ended = False
        self.connection = NotingTransport()
        self.connection_made(self.connection)

    def read(self, data: bytes | bytearray) -> int:
        self.data += data
        return len(data) // FRAME_SIZE

    def ended(self) -> None:
        self.has_ended = True


def numbered(count: int) -> bytes:
    return b"".join(number.to_bytes(FRAME_SIZE, "big") for number in range(count))


async def test_what_comes_at_once_is_read_in_turns():
    """Little of it at once, and the rest when others had their turn; the client waits meanwhile."""
    reader = Reader()
    data = numbered(8_000)
    reader.data_received(data)

    assert len(reader.data) <= TURN_LOAD * FRAME_SIZE + SLICE_SIZE
    assert not reader.connection.is_reading_  # more than may wait

    await until(lambda: len(reader.data) == len(data))
    assert reader.data == data
    assert reader.connection.is_reading_


async def test_who_says_much_waits_for_a_turn():
    """However small what it sends is each time; after quiet seconds it is read at once again."""
    turns = Turns(asyncio.get_running_loop())
    flooder, bystander = Reader(turns), Reader(turns)
    for _ in range(HEAVY_LOAD):
        flooder.data_received(bytes(FRAME_SIZE))
    assert len(flooder.data) == HEAVY_LOAD * FRAME_SIZE

    flooder.data_received(b"flood")
    bystander.data_received(b"alice")

    assert bystander.data == b"alice"
    assert not flooder.data.endswith(b"flood")
    await until(lambda: flooder.data.endswith(b"flood"))

    turns.era += 5
    flooder.data_received(b"again")
    assert flooder.data.endswith(b"again")


async def test_many_floods_share_the_time_of_one():
    """What fifty send in excess is read in slices, one of each at a time."""
    turns = Turns(asyncio.get_running_loop())
    flooders = [Reader(turns) for _ in range(50)]
    for flooder in flooders:
        flooder.data_received(bytes(FRAME_SIZE * HEAVY_LOAD))
    before = [len(flooder.data) for flooder in flooders]

    for flooder in flooders[:3]:
        assert flooder.take_turn()

    read = [len(flooder.data) - size for flooder, size in zip(flooders, before, strict=True)]
    assert read == [SLICE_SIZE] * 3 + [0] * 47
    await until(lambda: all(len(each.data) == FRAME_SIZE * HEAVY_LOAD for each in flooders))


async def test_long_frames_are_read_in_long_slices():
    """It is tiny frames that are much work, not bytes."""

    class LongReader(Reader):
        sizes: list[int] = []

        def read(self, data: bytes | bytearray) -> int:
            self.sizes.append(len(data))
            return 1

    reader = LongReader()
    reader.data_received(bytes(MAX_UNREAD_SIZE))

    assert sum(reader.sizes) == MAX_UNREAD_SIZE  # at once
    assert reader.sizes[:5] == [1_024, 2_048, 4_096, 8_192, 8_192]


async def test_what_comes_while_reading_is_paused():
    """It is read later, in order: some transports hand over what they had read already."""
    reader = Reader()
    reader.pause_reading()
    reader.data_received(b"1")
    reader.data_received(b"2")
    assert reader.data == b""

    reader.resume_reading()
    reader.data_received(b"3")

    await until(lambda: reader.data == b"123")


async def test_what_comes_before_the_end():
    """It is read although the connection is lost, and then the connection ends."""
    reader = Reader()
    reader.pause_reading()
    reader.data_received(bytes(30 * SLICE_SIZE))
    reader.connection.has_closed = True
    reader.connection_lost(None)
    assert not reader.has_ended

    await until(lambda: reader.has_ended)
    assert len(reader.data) == 30 * SLICE_SIZE
