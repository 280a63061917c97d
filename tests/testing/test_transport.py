"""The client's end of a connection: it reads what the server writes."""

from __future__ import annotations

import asyncio

import pytest

from roost import Broadcast
from roost.strict_json import JsonEncoder
from roost.testing.transport import RecordingTransport, parse_frame
from roost.wire.frame import Frame
from roost.wire.messages import Message, Reply
from roost.wire.payload import JsonPayload
from roost.wire.serializers import V2Serializer

v2 = V2Serializer(JsonEncoder())


@pytest.mark.parametrize(
    "message",
    [
        Message("1", None, "room:1", "pushed", {"n": 1}),
        Message("1", "1", "room:1", "phx_close", {}),
        Message("1", None, "room:1", "blob", b"\x00\xff"),
        Reply("1", "2", "room:1", "ok", {"n": 1}),
        Reply(None, "2", "phoenix", "ok", {}),
        Reply("1", "2", "room:ü", "ok", b"\x00\xff"),
    ],
)
def test_a_client_reads_what_the_server_encodes(message: Message | Reply):
    """Pushes and replies come out as they went in, text and binary."""
    assert parse_frame(v2.encode(message)) == message


@pytest.mark.parametrize("payload", [{"n": 1}, b"\x00\xff"])
def test_a_client_reads_broadcasts(payload: object):
    """Broadcasts come out as they went in, text and binary."""
    encoded = payload if isinstance(payload, bytes) else JsonPayload(b'{"n":1}')
    frame = v2.fastlane(Broadcast("room:1", "shout", encoded))
    assert parse_frame(frame) == Broadcast("room:1", "shout", payload)


def test_a_frame_of_no_kind():
    """A binary frame of an unknown kind is a bug of the server, which the test should show."""
    with pytest.raises((AssertionError, KeyError)):
        parse_frame(Frame(b"\x09\x00\x00", is_text=False))


async def test_take_waits_for_what_is_wanted():
    """What is not wanted stays, in order; several may wait at once."""
    transport = RecordingTransport()

    async def take(event: str) -> object:
        return await transport.take(
            lambda received: isinstance(received, Broadcast) and received.event == event, 5
        )

    a, b, c = (Broadcast("room:1", event, {}) for event in "abc")
    takes = [asyncio.ensure_future(take(event)) for event in "cb"]
    await asyncio.sleep(0)
    for broadcast in (a, b, c):
        transport.add(broadcast)

    assert await asyncio.gather(*takes) == [c, b]
    assert transport.received == [a]


async def test_nothing_is_written_after_the_close():
    """The first close code counts, and what is written later reaches nobody."""
    transport = RecordingTransport()
    transport.close(1001)
    transport.close(1012)
    transport.write(v2.encode(Reply("1", "2", "room:1", "ok", {})))

    assert await transport.closed(0) == 1001
    assert transport.received == []
