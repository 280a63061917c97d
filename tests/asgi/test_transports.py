"""What a connection's two ways to its client both promise: its buffer, its timeouts, its end.

Over plain ASGI and past it, on a virtual clock, without a server. What only one of them promises is
in `test_websocket` and `test_raw`.
"""

from __future__ import annotations

import asyncio

import pytest

from roost.asgi.transports.raw import WRITE_SIZE
from roost.wire.frame import Frame
from tests.asgi.echo import EchoChannel
from tests.asgi.fake_servers import PlainServer, RawServer, text, tick
from tests.virtual_clock import virtually

Kind = type[PlainServer] | type[RawServer]

pytestmark = pytest.mark.parametrize("kind", [PlainServer, RawServer], ids=["plain", "raw"])


def counted(size: int, kind: Kind) -> Frame:
    """A text message that counts as that many bytes of what waits."""
    return text(size - kind.header_size)


@virtually
async def test_frames_keep_their_order(kind: Kind):
    """Whatever their kind, frames are written in the order of coming in, and none after a close."""
    server = kind()
    serving = await server.serve()
    for frame in (text(1), Frame(b"\x00", is_text=False), text(2)):
        server.transport.write(frame)
    server.transport.close(1001)
    server.transport.write(text(3))
    await serving

    assert server.messages == ["x", b"\x00", "xx"]
    assert server.close_code == 1001


@virtually
async def test_messages_are_answered_until_the_client_is_gone(kind: Kind):
    """Then the channels end."""
    server = kind()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    server.receive('["1","2","room:1","ping",{"n":1}]')
    await tick()
    assert server.messages == [
        '["1","1","room:1","phx_reply",{"status":"ok","response":{}}]',
        '["1","2","room:1","phx_reply",{"status":"ok","response":{"n":1}}]',
    ]

    server.disconnect()
    await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_a_client_that_is_far_behind_is_disconnected(
    kind: Kind, caplog: pytest.LogCaptureFixture
):
    """More than the greatest backlog, and it gets the close, no old news."""
    server = kind(max_outbound_size=100)
    serving = await server.serve()
    server.stop_reading()
    server.transport.write(counted(60, kind))
    await tick()
    before = list(server.messages)
    server.transport.write(counted(60, kind))
    server.transport.write(counted(40, kind))
    assert server.counters == {}

    least = kind.header_size + 1
    server.transport.write(text(1))
    assert EchoChannel.ended == []  # not here: a write may be in the middle of a broadcast
    server.transport.write(text(1))
    await tick()
    server.read_again()
    await serving

    assert server.counters == {"slow_consumer": 1}
    assert server.messages == before
    assert server.close_code == 1013
    assert f"slow consumer: {100 + least} bytes wait for it" in caplog.text


@virtually
async def test_what_one_tick_writes_says_nothing_of_the_client(kind: Kind):
    """A burst may be larger than a backlog, since the client had no chance to read; to a point."""
    server = kind(max_outbound_size=100)
    serving = await server.serve()
    for _ in range(4):
        server.transport.write(counted(100, kind))
    await tick()
    assert server.messages == ["x" * (100 - kind.header_size)] * 4

    for _ in range(5):
        server.transport.write(counted(100, kind))
    await serving

    assert server.close_code == 1013


@virtually
async def test_one_message_may_be_larger_than_the_backlog(kind: Kind):
    """And than a write."""
    server = kind(max_outbound_size=100)
    await server.serve()
    for _ in range(2):
        server.transport.write(text(WRITE_SIZE * 2))
        await tick()

    assert [len(message) for message in server.messages] == [WRITE_SIZE * 2] * 2
    assert server.close_code is None


@virtually
async def test_a_client_that_reads_nothing_is_given_up(kind: Kind):
    """After at most twice the timeout, and ten seconds for the closing handshake."""
    server = kind(send_timeout=5.0)
    serving = await server.serve()
    others = asyncio.all_tasks() - {serving}
    start = asyncio.get_running_loop().time()
    server.answers = False
    server.stop_reading()
    server.transport.write(text())

    await serving

    assert server.counters == {"slow_consumer": 1}
    assert asyncio.get_running_loop().time() - start <= 20
    assert asyncio.all_tasks() == others


@virtually
async def test_a_silent_client_is_closed_after_the_timeout(kind: Kind):
    """Messages put that off."""
    server = kind(timeout=60.0)
    serving = await server.serve()
    await asyncio.sleep(40)
    server.receive('[null,"1","phoenix","heartbeat",{}]')
    await asyncio.sleep(59)
    assert (len(server.messages), server.close_code) == (1, None)

    await asyncio.sleep(2)
    assert (len(server.messages), server.close_code) == (1, 1002)
    await serving


@virtually
async def test_a_client_that_does_not_answer_a_close_is_given_up_after_ten_seconds(kind: Kind):
    """What it still says is not listened to."""
    server = kind()
    serving = await server.serve()
    start = asyncio.get_running_loop().time()
    server.answers = False
    server.transport.close(1001)
    server.receive("no message")

    await serving

    assert server.messages == []
    assert server.close_code == 1001
    assert asyncio.get_running_loop().time() - start == pytest.approx(10)


@virtually
async def test_a_client_that_is_gone_is_watched_no_longer(
    kind: Kind, caplog: pytest.LogCaptureFixture
):
    """Its silence is nothing to complain of."""
    server = kind()
    serving = await server.serve()
    server.disconnect()
    await serving
    await asyncio.sleep(3_600)

    assert [each for each in caplog.records if each.name == "roost.asgi"] == []
    assert server.end_count == 1


@virtually
async def test_no_message_after_the_first_bad_one_is_answered(kind: Kind):
    """What comes after it was sent by somebody who can't be trusted."""
    server = kind()
    serving = await server.serve()
    server.answers = False
    for message in ("{", '[null,"1","phoenix","heartbeat",{}]'):
        server.receive(message)
    await tick()

    assert server.messages == []
    assert server.close_code == 1011
    server.disconnect()
    await serving
