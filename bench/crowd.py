"""The members of one big room: real channels and presences, and clients that only count."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self

from roost import Channel, Policy, Presence, PubSub, Socket
from roost.aliases import Meta
from roost.channels.connection import Connection
from roost.channels.hub import Hub
from roost.channels.router import Router
from roost.strict_json import JsonEncoder
from roost.wire.frame import Frame
from roost.wire.messages import JOIN, Broadcast, Message, Outgoing
from roost.wire.serializers import V2Serializer

__all__ = ["Crowd", "Traffic"]

TOPIC: Final = "room:1"
META: Final[Meta] = {"online_at": 1795323696}


@dataclass(frozen=True)
class Traffic:
    """Messages to clients: how many, and their bytes, without what WebSocket adds."""

    message_count: int = 0
    size: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.message_count + other.message_count, self.size + other.size)

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.message_count - other.message_count, self.size - other.size)


class Client:
    """The way to one client, over all its connections: it counts what is written."""

    __slots__ = ("message_count", "size")

    def __init__(self) -> None:
        self.message_count = 0
        self.size = 0

    def write(self, frame: Frame) -> None:
        self.message_count += 1
        self.size += len(frame.data)

    def close(self, code: int) -> None:
        raise AssertionError(f"the server closed a connection with {code}")


class NotingSerializer(V2Serializer):
    """Version 2; it notes what it encodes.

    Attributes:
        pushed: What went to one client each: replies and pushes.
        largest_size: Of a broadcast; to be set to 0 where a new measurement begins.
    """

    def __init__(self, encoder: JsonEncoder) -> None:
        super().__init__(encoder)
        self.pushed = Traffic()
        self.largest_size = 0

    def encode(self, message: Outgoing) -> Frame:
        frame = super().encode(message)
        self.pushed += Traffic(1, len(frame.data))
        return frame

    def fastlane(self, broadcast: Broadcast) -> Frame:
        frame = super().fastlane(broadcast)
        self.largest_size = max(self.largest_size, len(frame.data))
        return frame


class _Online(Presence):
    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    def policy(self, topic: str) -> Policy:
        return self._policy


class _RoomChannel(Channel):
    async def after_join(self) -> None:
        await self.assigns["online"].enter(self, self.assigns["key"], META)


class _SilentRoomChannel(Channel):
    """Its members are tracked, and are not pushed the list."""

    def after_join(self) -> None:
        self.assigns["online"].track(self, self.assigns["key"], META)


class Crowd:
    """Members of one room, by number, each with one client; made by ``running``.

    Attributes:
        online: Their presence.
        serializer: What they speak.
    """

    def __init__(self, online: Presence, pubsub: PubSub, count: int, *, gets_list: bool) -> None:
        self.online = online
        self.serializer = NotingSerializer(pubsub.encoder)
        self._hub = Hub(pubsub)
        self._router = Router({TOPIC: _RoomChannel if gets_list else _SilentRoomChannel})
        self._clients = [Client() for _ in range(count)]
        self._connections: dict[int, Connection] = {}

    @classmethod
    @asynccontextmanager
    async def running(
        cls, policy: Policy, count: int, *, gets_list: bool = True
    ) -> AsyncIterator[Self]:
        """A crowd of ``count`` members, none of whom has joined.

        Args:
            policy: What they are told.
            count: How many there are.
            gets_list: They enter; else they are tracked, and are not pushed the list.
        """
        pubsub, online = PubSub(), _Online(policy)
        async with online.running(pubsub):
            crowd = cls(online, pubsub, count, gets_list=gets_list)
            yield crowd
            for connection in crowd._connections.values():
                connection.close("closed")
            await crowd._hub.settled()

    def join(self, number: int) -> None:
        """A member connects and joins."""
        socket = Socket()
        socket.assigns = {"online": self.online, "key": f"user-{number}"}
        connection = self._connections[number] = Connection(
            self._hub,
            socket,
            self._clients[number],
            self.serializer,
            router=self._router,
            max_channels=socket.max_channels,
            context=contextvars.copy_context(),
        )
        connection.receive(Message("1", "1", TOPIC, JOIN, {}))

    def leave(self, number: int) -> None:
        """The connection of a member is gone."""
        self._connections.pop(number).close("closed")

    @property
    def present_count(self) -> int:
        """How many are tracked."""
        return self.online.count_connections(TOPIC)

    def received(self, numbers: Iterable[int]) -> Traffic:
        """What these members got so far."""
        clients = [self._clients[number] for number in numbers]
        return Traffic(
            sum(client.message_count for client in clients), sum(client.size for client in clients)
        )
