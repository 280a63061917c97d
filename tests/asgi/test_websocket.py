"""One connection over plain ASGI: what only this way to a client promises.

What it promises as the other one does is in `test_transports`. A virtual clock, no server.
"""

import asyncio
from itertools import pairwise

import pytest

from roost.channels.connection import Connection
from tests.asgi.echo import EchoChannel
from tests.asgi.fake_servers import PlainServer, text, tick
from tests.virtual_clock import virtually


@virtually
async def test_nothing_waits_without_something_to_write():
    """The writer exists only while it has something to do."""
    server = PlainServer()
    before = asyncio.all_tasks()
    server.transport.write(text())
    assert len(asyncio.all_tasks() - before) == 1
    await tick()

    assert asyncio.all_tasks() == before


@virtually
async def test_a_burst_of_one_client_lets_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    """A hundred messages that are there already are one turn."""
    server = PlainServer()
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
async def test_a_connection_ends_if_its_client_can_not_be_written_to():
    """The connection ends, whether or not the server says so."""
    server = PlainServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    await tick()
    server.error = OSError("gone")

    server.transport.write(text())
    await tick()

    assert serving.done()
    assert EchoChannel.ended == ["closed"]


@virtually
async def test_what_middleware_raises_is_logged_once_and_closes_the_client(
    caplog: pytest.LogCaptureFixture,
):
    """Its exception is logged with its traceback, once, and the client is closed (1011)."""
    server = PlainServer()
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
async def test_a_connection_ends_even_if_its_close_can_not_be_sent(
    caplog: pytest.LogCaptureFixture,
):
    """If even the close can't be sent the connection ends all the same."""
    server = PlainServer()
    server.error = FileNotFoundError("templates/frame.html")  # an OSError, and no client's
    serving = await server.serve()
    server.transport.write(text())

    await serving

    assert len(caplog.records) == 1
    assert server.end_count == 1


@virtually
async def test_what_a_server_raises_before_it_says_disconnect_is_not_logged(
    caplog: pytest.LogCaptureFixture,
):
    """An exception before the disconnect event means that the client is gone, whatever it is."""
    server = PlainServer()
    serving = await server.serve()
    server.error = RuntimeError("the connection is closed")
    server.transport.write(text())
    await tick()
    server.disconnect()

    await serving

    assert caplog.records == []


@virtually
async def test_a_server_that_refuses_a_close_code_gets_one_for_private_use():
    """It gets one for private use that says the same, and after which clients come back."""
    for code in (1001, 1002, 1009, 1011, 1012, 1013):
        server = PlainServer()
        serving = await server.serve()
        server.refused_codes = range(1001, 3000)
        server.transport.close(code)
        await tick()

        assert server.sent == [code + 3000]
        server.disconnect()
        await serving


@virtually
async def test_channels_end_when_the_server_cancels_their_task():
    """A task that the server cancels is cancelled; the channels end."""
    server = PlainServer()
    serving = await server.serve()
    server.receive('["1","1","room:1","phx_join",{}]')
    await tick()

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    assert EchoChannel.ended == ["closed"]


@virtually
async def test_the_size_of_a_text_is_that_of_its_utf_8():
    """A text counts as its UTF-8."""
    for message, is_taken in (('"' + "é" * 49 + '"', True), ('"' + "é" * 50 + '"', False)):
        server = PlainServer(max_frame_size=100)
        serving = await server.serve()
        server.receive(message)
        await tick()

        assert server.sent == [1011 if is_taken else 1009]
        server.disconnect()
        await serving
