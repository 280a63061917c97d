"""The way of a broadcast past the channels: encoded once, the same frame for everybody."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

from roost import Broadcast, Channel, intercept
from roost.exceptions import PayloadError
from roost.testing import ChannelCase
from roost.wire.frame import Frame
from roost.wire.serializers import V1Serializer, V2Serializer
from tests.channels.scenes import FrameClient, Join, said, ticks

ROOM = {"room:*": Channel}


async def test_a_broadcast_is_encoded_once_for_all(case: ChannelCase):
    """A thousand subscribers get one and the same frame."""

    class CountingSerializer(V2Serializer):
        count = 0

        def fastlane(self, broadcast: Broadcast) -> Frame:
            type(self).count += 1
            return super().fastlane(broadcast)

    clients = [FrameClient(case, ROOM, CountingSerializer) for _ in range(1000)]
    for client in clients:
        client.join()

    case.broadcast("room:1", "shout", {"body": "hi"})

    assert CountingSerializer.count == 1
    (frame,) = clients[0].frames
    assert frame.text == '[null,null,"room:1","shout",{"body":"hi"}]'
    assert all(client.frames[0] is frame and len(client.frames) == 1 for client in clients)


async def test_a_broadcast_is_encoded_once_for_each_serializer(case: ChannelCase):
    """Clients of both versions get their own form of it."""
    alice, bob = FrameClient(case, ROOM, V2Serializer), FrameClient(case, ROOM, V1Serializer)
    for client in (alice, bob):
        client.join()

    case.broadcast("room:1", "shout", {"body": "hi"})

    assert alice.frames[0].text == '[null,null,"room:1","shout",{"body":"hi"}]'
    assert bob.frames[0].text == (
        '{"topic":"room:1","event":"shout","payload":{"body":"hi"},"ref":null}'
    )


async def test_who_cant_be_told_is_skipped(case: ChannelCase, caplog: pytest.LogCaptureFixture):
    """Version 1 can't carry bytes: those clients are counted, one line is logged, others get it."""
    old = [FrameClient(case, ROOM, V1Serializer) for _ in range(3)]
    alice, bob = FrameClient(case, ROOM, V2Serializer), FrameClient(case, ROOM, V2Serializer)
    for client in (alice, *old, bob):
        client.join()

    with caplog.at_level(logging.WARNING, "roost.channels"):
        case.broadcast("room:1", "blob", b"\x00\xff")

    assert alice.frames[0] is bob.frames[0]
    assert alice.frames[0].data == b"\x02\x06\x04room:1blob\x00\xff"
    assert [client.frames for client in old] == [[], [], []]
    assert case.endpoint.counters["unencodable"] == 3
    (record,) = caplog.records
    assert "V1Serializer can't carry the broadcast of 'blob' to 'room:1'" in record.getMessage()


async def test_a_name_that_is_too_long_for_a_binary_frame(case: ChannelCase):
    """Only those whose frames can't carry it are skipped; plain subscribers get it."""
    alice = FrameClient(case, ROOM, V2Serializer)
    alice.join()
    received: list[Any] = []
    case.endpoint.subscribe("room:1", received.append)
    event = "e" * 256

    case.broadcast("room:1", event, b"\x00")

    assert alice.frames == []
    assert case.endpoint.counters["unencodable"] == 1
    assert received == [Broadcast("room:1", event, b"\x00")]


@pytest.mark.parametrize(
    "payload", [{"load": float("nan")}, [1], "text", 7, {"blob": b"\x00"}, {"x": object()}]
)
async def test_a_payload_that_is_no_json_object_reaches_nobody(
    case: ChannelCase, join: Join, payload: Any
):
    """It raises where it is given, whoever broadcasts it."""
    room = await join(Channel)
    received: list[Any] = []
    case.endpoint.subscribe("room:1", received.append)

    for broadcast in (room.channel.broadcast, room.channel.broadcast_from):
        with pytest.raises(PayloadError):
            broadcast("shout", payload)
    with pytest.raises(PayloadError):
        case.broadcast("room:1", "shout", payload)

    assert said(room.client) == received == []


async def test_a_plain_subscriber_has_a_payload_of_its_own(case: ChannelCase):
    """Each gets the Broadcast with values that it may change."""
    received: list[Broadcast] = []
    for _ in range(2):
        case.endpoint.subscribe("room:1", received.append)

    case.broadcast("room:1", "shout", {"names": ["alice"]})

    first, second = received
    first.payload["names"].append("bob")
    assert second == Broadcast("room:1", "shout", {"names": ["alice"]})


async def test_a_subscriber_that_raises_keeps_no_client_from_the_broadcast(
    case: ChannelCase, join: Join, caplog: pytest.LogCaptureFixture
):
    """The fastlane goes on past a broken subscriber."""

    def broken(message: Any) -> None:
        raise RuntimeError("broken subscriber")

    case.endpoint.subscribe("room:1", broken)
    room = await join(Channel)

    case.broadcast("room:1", "shout")

    assert said(room.client) == ["shout"]
    assert "broken subscriber" in caplog.text


async def test_interceptors_and_clients_in_one_dispatch(case: ChannelCase, join: Join):
    """Only the channels that intercept the event see it; the others' clients get the frame."""

    class Nosy(Channel):
        @intercept("shout")
        def see(self, payload: Any) -> None:
            self.push("seen", payload)

    nosy, alice = await join(Nosy), await join(Channel)
    case.broadcast("room:1", "shout")
    await ticks()

    assert said(nosy.client) == ["seen 1/"]
    assert said(alice.client) == ["shout"]


async def test_a_client_that_left_gets_nothing_more(case: ChannelCase, join: Join):
    """The end of a channel ends its way past the channel, too."""
    room = await join(Channel)
    await room.close()
    await room.assert_closed()

    case.broadcast("room:1", "shout")

    assert said(room.client) == []


async def test_ended_channels_are_forgotten(case: ChannelCase):
    """Nothing keeps an ended channel once its connection has heard of the end."""
    channels: weakref.WeakSet[Channel] = weakref.WeakSet()

    class RoomChannel(Channel):
        def join(self, topic: str, params: Any) -> None:
            channels.add(self)

    client = FrameClient(case, {"room:*": RoomChannel}, V2Serializer)
    for n in range(10):
        client.send(str(n), str(n), "room:1", "phx_join", {})
        client.send(str(n), str(n), "room:1", "phx_leave", {})
        await ticks()

    gc.collect()
    assert list(channels) == []
    assert client.connection.runners == []
