"""One connection taken over: its buffer, its timeouts, its end. A virtual clock, no server.

The rules are those of plain ASGI (`test_websocket`); what differs is how bytes go.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from roost import WebSocket
from roost.asgi.transports.extension import Receiver
from roost.asgi.transports.raw import WRITE_SIZE, RawTransport
from roost.asgi.transports.write_queue import WriteQueue
from roost.channels.connection import Connection
from roost.wire.frame import Frame
from tests.asgi.echo import EchoChannel, connect
from tests.virtual_clock import virtually


class FakeServer:
    """The server's end: a client that may not read, and may not answer.

    Attributes:
        written: The writes, as they came.
        close_code: Of the close frame.
        reads: False holds up the next write.
        answers: False leaves a close without an answer.
        early: Messages that came before the takeover.
        goes: The client is gone before the takeover.
    """

    def __init__(self, *, early: tuple[str, ...] = (), goes: bool = False, **options: Any) -> None:
        self.written: list[bytes] = []
        self.close_code: int | None = None
        self.reads = True
        self.answers = True
        self.early = early
        self.goes = goes
        self.counters: Counter[str] = Counter()
        self.endings = 0
        self.receiver: Receiver
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport = RawTransport(
            self._take,
            WebSocket(**options),
            self.counters,
            self._note_end,
            write_queue=WriteQueue(asyncio.get_running_loop()),
            on_server_ending=self._note_ending,
        )

    async def serve(self) -> asyncio.Future[None]:
        """Serve an echo channel's connection; returns what is done when it is gone."""
        await self.transport.serve(await connect(self.transport))
        await tick()
        return self._gone

    def _note_end(self, transport: object) -> None:
        assert transport is self.transport
        self._gone.set_result(None)

    def _take(self, receiver: Receiver, max_size: int | None = None, /) -> "FakeServer":
        self.receiver = receiver
        for message in self.early:
            receiver.message_received(message)
        if self.goes:
            receiver.connection_lost(1005, "")
        return self

    def _note_ending(self) -> None:
        self.endings += 1

    def write(self, framed: bytes) -> None:
        assert self.close_code is None, "nothing follows a close"
        self.written.append(framed)
        if not self.reads:
            self.receiver.pause_writing()

    def close(self, code: int) -> None:
        if self.close_code is None:
            self.receiver.connection_closing()
            self.close_code = code
            if self.answers:
                self.receiver.connection_lost(code, "")

    def abort(self) -> None:
        self.receiver.connection_lost(1006, "")


def text(size: int = 1) -> Frame:
    return Frame(b"x" * size, is_text=True)


async def tick() -> None:
    """Let everything happen that can happen now."""
    await asyncio.sleep(0.001)


@virtually
async def test_pings_and_pongs_of_a_client_keep_its_connection():
    """They are signs of life like messages, as in Phoenix; plain ASGI does not tell of them."""
    server = FakeServer(timeout=60.0)
    serving = await server.serve()
    for _ in range(3):
        await asyncio.sleep(50)
        server.receiver.sign_of_life_received()
    assert not serving.done()

    await serving
    assert server.close_code == 1002
    assert asyncio.get_running_loop().time() == pytest.approx(210, abs=31)


@virtually
async def test_one_write_for_each_tick():
    """Whatever their kind, the frames of a tick are written together and in order."""
    server = FakeServer()
    serving = await server.serve()
    frames = [text(1), Frame(b"\x00", is_text=False), text(2)]
    for frame in frames:
        server.transport.write(frame)
    assert server.written == []
    await tick()
    server.transport.write(text(3))
    server.transport.close(1001)
    server.transport.write(text(4))
    await serving

    assert server.written == [b"".join(frame.framed for frame in frames), text(3).framed]
    assert server.close_code == 1001


@virtually
async def test_a_message_and_its_answer():
    """Messages are served until the client is gone, the early ones first; then channels end."""
    server = FakeServer(early=('["1","1","room:1","phx_join",{}]',))
    serving = await server.serve()
    server.receiver.message_received('["1","2","room:1","ping",{"n":1}]')
    await tick()
    answers = b"".join(server.written)
    reply = b'["1","%b","room:1","phx_reply",{"status":"ok","response":{%b}}]'
    assert answers == b"".join(
        Frame(reply % each, is_text=True).framed for each in ((b"1", b""), (b"2", b'"n":1'))
    )

    server.receiver.connection_lost(1000, "")
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_client_that_is_far_behind(caplog: pytest.LogCaptureFixture):
    """More than the greatest backlog, and it is disconnected: it gets the close, no old news."""
    server = FakeServer(max_outbound_size=124)
    serving = await server.serve()
    server.reads = False
    server.transport.write(text(60))
    await tick()
    server.transport.write(text(60))
    server.transport.write(text(60))
    assert server.counters == {}

    server.transport.write(text(1))
    assert EchoChannel.ended == []  # not here: a write may be in the middle of a broadcast
    server.transport.write(text(1))
    await serving

    assert server.counters == {"slow_consumer": 1}
    assert len(server.written) == 1
    assert server.close_code == 1013
    assert "slow consumer: 127 bytes wait for it" in caplog.text


@virtually
async def test_what_one_tick_writes_says_nothing_of_the_client():
    """A burst may be larger than a backlog, since the client had no chance to read; to a point."""
    server = FakeServer(max_outbound_size=102)
    serving = await server.serve()
    for _ in range(4):
        server.transport.write(text(100))
    await tick()
    assert len(b"".join(server.written)) == 408

    for _ in range(5):
        server.transport.write(text(100))
    await serving

    assert server.close_code == 1013


@virtually
async def test_a_message_of_any_size():
    """One message may be larger than the backlog may be, and than a write."""
    server = FakeServer(max_outbound_size=100)
    await server.serve()
    server.transport.write(text(WRITE_SIZE * 2))
    await tick()

    assert len(b"".join(server.written)) == WRITE_SIZE * 2 + 10
    server.transport.close(1001)


@virtually
async def test_a_client_that_reads_again():
    """What waited goes out in writes of bounded size, in order, and a close after it."""
    server = FakeServer()
    serving = await server.serve()
    server.reads = False
    frames = [text(size) for size in range(1_000, 2_000)]
    server.transport.write(text())
    await tick()
    for frame in frames:
        server.transport.write(frame)
    server.transport.close(1001)
    await tick()
    assert (len(server.written), server.close_code) == (1, None)

    server.reads = True
    server.receiver.resume_writing()
    await serving

    assert b"".join(server.written[1:]) == b"".join(frame.framed for frame in frames)
    assert max(map(len, server.written)) < WRITE_SIZE + 3_000
    assert server.close_code == 1001


@virtually
async def test_a_client_that_reads_again_gets_what_waited():
    """At once, and not with the next message."""
    server = FakeServer()
    await server.serve()
    server.reads = False
    server.transport.write(text(1))
    await tick()
    server.transport.write(text(2))
    await tick()
    assert server.written == [text(1).framed]

    server.reads = True
    server.receiver.resume_writing()

    assert server.written == [text(1).framed, text(2).framed]


@virtually
async def test_a_client_that_reads_again_may_be_sent_bursts_again():
    """That it was slow once is forgotten when it has caught up."""
    server = FakeServer(max_outbound_size=100)
    await server.serve()
    server.reads = False
    server.transport.write(text())
    await tick()
    server.reads = True
    server.receiver.resume_writing()

    for _ in range(4):  # in one tick
        server.transport.write(text(90))
    await tick()

    assert server.counters == {}
    assert b"".join(server.written[1:]) == text(90).framed * 4


@virtually
async def test_a_write_that_takes_too_long():
    """A client that does not read at all is disconnected, and given up at last."""
    server = FakeServer(send_timeout=5.0)
    serving = await server.serve()
    server.reads = server.answers = False
    server.transport.write(text())

    await serving

    assert server.counters == {"slow_consumer": 1}
    # At most twice the timeout, and ten seconds for the closing handshake.
    assert asyncio.get_running_loop().time() <= 20.1


@virtually
async def test_a_silent_client():
    """It is closed after the timeout; messages put that off."""
    server = FakeServer(timeout=60.0)
    serving = await server.serve()
    await asyncio.sleep(40)
    server.receiver.message_received('[null,"1","phoenix","heartbeat",{}]')
    await asyncio.sleep(59)
    assert server.close_code is None

    await serving
    assert server.close_code == 1002


@virtually
async def test_a_client_that_does_not_answer_a_close():
    """It is given up after ten seconds; what it still says is not listened to."""
    server = FakeServer()
    serving = await server.serve()
    server.answers = False
    server.transport.close(1001)
    server.receiver.message_received("no message")

    await serving

    assert server.close_code == 1001
    assert asyncio.get_running_loop().time() == pytest.approx(10, abs=0.01)


@virtually
async def test_the_last_chance_to_write():
    """What waits goes out before a close frame of whatever cause, and nothing after it."""
    server = FakeServer()
    serving = await server.serve()
    server.transport.write(text(1))
    server.receiver.connection_closing()
    assert server.written == [text(1).framed]

    server.transport.write(text(2))
    await tick()
    assert server.written == [text(1).framed]
    server.receiver.connection_lost(1000, "")
    await serving


@virtually
async def test_no_message_after_the_first_bad_one():
    """What comes after it was sent by somebody who can't be trusted."""
    server = FakeServer()
    serving = await server.serve()
    server.answers = False
    for message in ("{", '[null,"1","phoenix","heartbeat",{}]'):
        server.receiver.message_received(message)
    await tick()

    assert (server.written, server.close_code) == ([], 1011)
    server.abort()
    await serving


@virtually
async def test_a_server_that_ends():
    """The endpoint is told; when the server ends the connection, the channels end."""
    server = FakeServer()
    serving = await server.serve()
    server.receiver.message_received('["1","1","room:1","phx_join",{}]')
    server.receiver.server_ending()
    await tick()
    assert server.endings == 1

    server.receiver.connection_lost(1012, "")
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_client_that_goes_during_the_takeover():
    """The connection is over before it began, and nothing of it stays."""
    server = FakeServer(goes=True)
    await (await server.serve())

    assert (server.written, server.close_code) == ([], None)
    assert server.transport._taken is None
    assert asyncio.get_running_loop().time() < 1


@virtually
async def test_an_end_that_fails(monkeypatch: pytest.MonkeyPatch):
    """Whatever goes wrong, the endpoint hears of the end: it waits for that when it stops."""

    def fail(connection: Connection, reason: str) -> None:
        raise LookupError("as planned")

    server = FakeServer()
    serving = await server.serve()
    monkeypatch.setattr(Connection, "close", fail)
    with pytest.raises(LookupError):
        server.receiver.connection_lost(1000, "")

    assert serving.done()
    assert server.transport._timer is None
