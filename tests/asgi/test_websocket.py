"""One connection over plain ASGI: its buffer, its timeouts, its end. A virtual clock, no server."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from roost import WebSocket
from roost.asgi.transports.websocket import WebSocketTransport
from roost.asgi.types import Event
from roost.channels.connection import Connection
from roost.wire.frame import Frame
from tests.asgi.echo import EchoChannel, connect
from tests.virtual_clock import virtually


class FakeServer:
    """The server's end of one connection: a client that may not read, and may break.

    Attributes:
        sent: What was sent to the client.
        may_write: Cleared while the client does not read.
        error: What a write raises.
        refused_codes: Close codes that the server does not take.
    """

    def __init__(self, **options: Any) -> None:
        self.sent: list[Any] = []
        self.may_write = asyncio.Event()
        self.may_write.set()
        self.error: Exception | None = None
        self.refused_codes = range(0)
        self.counters: Counter[str] = Counter()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.transport = WebSocketTransport(
            self._events.get, self._send, WebSocket(**options), self.counters, self._note_end
        )
        self.endings = 0

    async def serve(self) -> asyncio.Task[None]:
        """Serve an echo channel's connection in a task."""
        self.connection = await connect(self.transport)
        return asyncio.create_task(self.transport.serve(self.connection))

    def _note_end(self, transport: object) -> None:
        assert transport is self.transport
        self.endings += 1

    def receive(self, text: str) -> None:
        self._events.put_nowait({"type": "websocket.receive", "text": text})

    def disconnect(self) -> None:
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1000})

    async def _send(self, event: Event) -> None:
        await self.may_write.wait()
        if self.error is not None:
            raise self.error
        if event.get("code") in self.refused_codes:
            raise ValueError(f"invalid close code {event['code']}")
        self.sent.append(event.get("text") or event.get("bytes") or event["code"])


def text(size: int = 1) -> Frame:
    return Frame(b"x" * size, is_text=True)


async def tick() -> None:
    """Let everything happen that can happen now."""
    await asyncio.sleep(0.001)


@virtually
async def test_frames_keep_their_order():
    """Whatever their kind, frames are written in the order that they came in."""
    server = FakeServer()
    for frame in (text(1), Frame(b"\x00", is_text=False), text(2)):
        server.transport.write(frame)
    server.transport.close(1001)
    server.transport.write(text(3))
    await tick()

    assert server.sent == ["x", b"\x00", "xx", 1001]


@virtually
async def test_nothing_waits_without_something_to_write():
    """The writer exists only while it has something to do."""
    server = FakeServer()
    before = asyncio.all_tasks()
    server.transport.write(text())
    assert len(asyncio.all_tasks() - before) == 1
    await tick()

    assert asyncio.all_tasks() == before


@virtually
async def test_a_message_and_its_answer():
    """Messages are served until the client is gone; then the channels end."""
    server = FakeServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    server.receive('["1","2","room:1","ping",{"n":1}]')
    await tick()
    assert server.sent[1] == '["1","2","room:1","phx_reply",{"status":"ok","response":{"n":1}}]'

    server.disconnect()
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_burst_of_one_client_lets_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    """A hundred messages that are there already are one turn."""
    server = FakeServer()
    handled: list[int] = []  # by each turn of the others
    count = 0

    def count_frame(connection: Connection, data: str | bytes) -> None:
        nonlocal count
        count += 1

    def another() -> None:
        handled.append(count)
        if count < 1_000:
            asyncio.get_running_loop().call_soon(another)

    for _ in range(1_000):
        server.receive("x")
    monkeypatch.setattr(Connection, "receive_frame", count_frame)
    serving = await server.serve()
    another()
    await tick()

    assert count == 1_000
    assert max(later - earlier for earlier, later in pairwise(handled)) <= 100
    server.disconnect()
    await serving


@virtually
async def test_a_client_that_is_far_behind(caplog: pytest.LogCaptureFixture):
    """More than the greatest backlog, and it is disconnected: it gets the close, no old news."""
    server = FakeServer(max_outbound_size=100)
    serving = await server.serve()
    server.may_write.clear()
    server.transport.write(text(60))
    await tick()
    server.transport.write(text(60))
    server.transport.write(text(40))
    assert server.counters == {}

    server.transport.write(text(1))
    assert EchoChannel.ended == []  # not here: a write may be in the middle of a broadcast
    server.transport.write(text(1))
    await tick()
    server.may_write.set()
    await tick()

    assert server.counters == {"slow_consumer": 1}
    assert server.sent == [1013]
    assert "slow consumer: 101 bytes wait for it" in caplog.text
    server.disconnect()
    await serving


@virtually
async def test_what_one_tick_writes_says_nothing_of_the_client():
    """A burst may be larger than a backlog, since the client had no chance to read; to a point."""
    server = FakeServer(max_outbound_size=100)
    serving = await server.serve()
    for _ in range(4):
        server.transport.write(text(100))
    await tick()
    assert [len(each) for each in server.sent] == [100] * 4

    for _ in range(5):
        server.transport.write(text(100))
    await tick()

    assert server.sent[-1] == 1013
    server.disconnect()
    await serving


@virtually
async def test_a_message_of_any_size():
    """One message may be larger than the backlog may be."""
    server = FakeServer(max_outbound_size=100)
    server.transport.write(text(1000))
    await tick()
    server.transport.write(text(1000))
    await tick()

    assert [len(each) for each in server.sent] == [1000, 1000]


@virtually
async def test_a_write_that_takes_too_long():
    """A client that does not read at all is disconnected, and given up at last."""
    server = FakeServer(send_timeout=5.0)
    serving = await server.serve()
    server.may_write.clear()
    server.transport.write(text())

    await serving

    assert server.counters == {"slow_consumer": 1}
    # At most twice the timeout, and ten seconds for the closing handshake.
    assert asyncio.get_running_loop().time() <= 20
    assert len(asyncio.all_tasks()) == 1


@virtually
async def test_a_client_that_can_not_be_written_to():
    """The connection ends, whether or not the server says so."""
    server = FakeServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    await tick()
    server.error = OSError("gone")

    server.transport.write(text())
    await tick()

    assert serving.done()
    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_middleware_that_breaks(caplog: pytest.LogCaptureFixture):
    """Its exception is logged with its traceback, once, and the client is closed (1011)."""
    server = FakeServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    await tick()
    server.sent.clear()
    server.error = KeyError("type")
    server.transport.write(text())
    server.transport.write(text())
    await tick()
    server.error = None
    await asyncio.sleep(1)

    assert server.sent == [1011]
    assert EchoChannel.ended == ["closed"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "sending to a client failed" in record.getMessage()
    server.disconnect()
    await serving


@virtually
async def test_a_middleware_that_breaks_everything(caplog: pytest.LogCaptureFixture):
    """If even the close can't be sent the connection ends all the same."""
    server = FakeServer()
    server.error = FileNotFoundError("templates/frame.html")  # an OSError, and no client's
    serving = await server.serve()
    server.transport.write(text())

    await serving

    assert len(caplog.records) == 1
    assert server.endings == 1


@virtually
async def test_a_server_that_tells_in_its_own_way(caplog: pytest.LogCaptureFixture):
    """An exception before the disconnect event means that the client is gone, whatever it is."""
    server = FakeServer()
    serving = await server.serve()
    server.error = RuntimeError("the connection is closed")
    server.transport.write(text())
    await tick()
    server.disconnect()

    await serving

    assert caplog.records == []


@virtually
async def test_a_server_that_refuses_close_codes():
    """It gets one for private use that says the same, and after which clients come back."""
    for code in (1001, 1002, 1009, 1011, 1012, 1013):
        server = FakeServer()
        serving = await server.serve()
        server.refused_codes = range(1001, 3000)
        server.transport.close(code)
        await tick()

        assert server.sent == [code + 3000]
        server.disconnect()
        await serving


@virtually
async def test_a_silent_client():
    """It is closed after the timeout; messages put that off."""
    server = FakeServer(timeout=60.0)
    serving = await server.serve()
    await asyncio.sleep(40)
    server.receive('[null,"1","phoenix","heartbeat",{}]')
    await asyncio.sleep(59)
    assert len(server.sent) == 1

    await asyncio.sleep(2)
    assert server.sent[1:] == [1002]
    server.disconnect()
    await serving


@virtually
async def test_a_client_that_does_not_answer_a_close():
    """It is given up after ten seconds; what it still says is not listened to."""
    server = FakeServer()
    serving = await server.serve()
    server.transport.close(1001)
    server.receive("no message")

    await serving

    assert server.sent == [1001]
    assert asyncio.get_running_loop().time() == 10


@virtually
async def test_a_server_that_ends():
    """A task that the server cancels is cancelled; the channels end."""
    server = FakeServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    await tick()

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_client_that_is_gone_is_watched_no_longer(caplog: pytest.LogCaptureFixture):
    """Its silence is nothing to complain of."""
    server = FakeServer()
    serving = await server.serve()
    server.disconnect()
    await serving
    await asyncio.sleep(3_600)

    assert [each for each in caplog.records if each.name == "roost.asgi"] == []
    assert server.endings == 1


@virtually
async def test_no_message_after_the_first_bad_one():
    """What comes after it was sent by somebody who can't be trusted."""
    server = FakeServer()
    serving = await server.serve()
    for message in ("{", '[null,"1","phoenix","heartbeat",{}]'):
        server.receive(message)
    await tick()

    assert server.sent == [1011]
    server.disconnect()
    await serving


@virtually
async def test_sizes_are_in_bytes():
    """A text counts as its UTF-8."""
    for message, is_taken in (('"' + "é" * 49 + '"', True), ('"' + "é" * 50 + '"', False)):
        server = FakeServer(max_frame_size=100)
        serving = await server.serve()
        server.receive(message)
        await tick()

        assert server.sent == [1011 if is_taken else 1009]
        server.disconnect()
        await serving
