"""One connection taken over: what only this way to a client promises.

What it promises as plain ASGI does is in `test_transports`. A virtual clock, no server.
"""

import asyncio

import pytest

from roost.asgi.transports.raw import WRITE_SIZE
from roost.channels.connection import Connection
from roost.wire.frame import Frame
from tests.asgi.echo import EchoChannel
from tests.asgi.fake_servers import RawServer, text, tick
from tests.virtual_clock import virtually


@virtually
async def test_pings_and_pongs_of_a_client_keep_its_connection():
    """They are signs of life like messages, as in Phoenix; plain ASGI does not tell of them."""
    server = RawServer(timeout=60.0)
    serving = await server.serve()
    for _ in range(3):
        await asyncio.sleep(50)
        server.receiver.sign_of_life_received()
    assert not serving.done()

    await serving
    assert server.close_code == 1002
    assert asyncio.get_running_loop().time() == pytest.approx(210, abs=31)


@virtually
async def test_the_frames_of_a_tick_are_written_together():
    """Whatever their kind, the frames of a tick are written together and in order."""
    server = RawServer()
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
async def test_messages_from_before_the_takeover_are_served_first():
    """They come while the server hands the connection over, before anybody listens."""
    server = RawServer(early=('["1","1","room:1","phx_join",{}]',))
    serving = await server.serve()
    server.receive('["1","2","room:1","ping",{"n":1}]')
    await tick()
    answers = b"".join(server.written)
    reply = b'["1","%b","room:1","phx_reply",{"status":"ok","response":{%b}}]'
    assert answers == b"".join(
        Frame(reply % each, is_text=True).framed for each in ((b"1", b""), (b"2", b'"n":1'))
    )

    server.disconnect()
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_what_waited_is_written_in_pieces_before_a_close():
    """What waited goes out in writes of bounded size, in order, and a close after it."""
    server = RawServer()
    serving = await server.serve()
    server.stop_reading()
    frames = [text(size) for size in range(1_000, 2_000)]
    server.transport.write(text())
    await tick()
    for frame in frames:
        server.transport.write(frame)
    server.transport.close(1001)
    await tick()
    assert (len(server.written), server.close_code) == (1, None)

    server.read_again()
    await serving

    assert b"".join(server.written[1:]) == b"".join(frame.framed for frame in frames)
    assert max(map(len, server.written)) < WRITE_SIZE + 3_000
    assert server.close_code == 1001


@virtually
async def test_a_client_that_reads_again_gets_what_waited():
    """At once, and not with the next message."""
    server = RawServer()
    await server.serve()
    server.stop_reading()
    server.transport.write(text(1))
    await tick()
    server.transport.write(text(2))
    await tick()
    assert server.written == [text(1).framed]

    server.read_again()

    assert server.written == [text(1).framed, text(2).framed]


@virtually
async def test_a_client_that_reads_again_may_be_sent_bursts_again():
    """That it was slow once is forgotten when it has caught up."""
    server = RawServer(max_outbound_size=100)
    await server.serve()
    server.stop_reading()
    server.transport.write(text())
    await tick()
    server.read_again()

    for _ in range(4):  # in one tick
        server.transport.write(text(90))
    await tick()

    assert server.counters == {}
    assert b"".join(server.written[1:]) == text(90).framed * 4


@virtually
async def test_what_waits_is_written_before_a_close_of_whatever_cause():
    """What waits goes out before a close frame of whatever cause, and nothing after it."""
    server = RawServer()
    serving = await server.serve()
    server.transport.write(text(1))
    server.receiver.connection_closing()
    assert server.written == [text(1).framed]

    server.transport.write(text(2))
    await tick()
    assert server.written == [text(1).framed]
    server.disconnect()
    await serving


@virtually
async def test_the_endpoint_is_told_when_the_server_ends():
    """The endpoint is told; when the server ends the connection, the channels end."""
    server = RawServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    server.receiver.server_ending()
    await tick()
    assert server.ending_count == 1

    server.receiver.connection_lost(1012, "")
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_nothing_stays_of_a_client_that_goes_during_the_takeover():
    """The connection is over before it began, and nothing of it stays."""
    server = RawServer(goes=True)
    await (await server.serve())

    assert (server.written, server.close_code) == ([], None)
    assert server.transport._taken is None
    assert asyncio.get_running_loop().time() < 1


@virtually
async def test_the_endpoint_hears_of_an_end_that_fails(monkeypatch: pytest.MonkeyPatch):
    """Whatever goes wrong, the endpoint hears of the end: it waits for that when it stops."""

    def fail(connection: Connection, reason: str) -> None:
        raise LookupError("as planned")

    server = RawServer()
    serving = await server.serve()
    monkeypatch.setattr(Connection, "close", fail)
    with pytest.raises(LookupError):
        server.disconnect()

    assert serving.done()
    assert server.transport._timer is None
