"""An echo channel on a transport whose server's end is a fake."""

import contextvars
from typing import Any

from roost import Channel, PubSub, Socket, event
from roost.asgi.transports.limits import BoundedTransport
from roost.channels.connection import Connection
from roost.channels.hub import Hub
from roost.channels.router import Router
from roost.wire.serializers import V2Serializer

__all__ = ["EchoChannel", "connect"]


class EchoChannel(Channel):
    """What is pinged comes back.

    Attributes:
        ended: Why channels ended, since `connect`.
    """

    ended: list[Any] = []

    @event("ping")
    def ping(self, payload: Any) -> Any:
        return payload

    def terminate(self, reason: str | BaseException) -> None:
        self.ended.append(reason)


async def connect(transport: BoundedTransport) -> Connection:
    """A connection for the transport to serve; any topic is an echo channel."""
    EchoChannel.ended = []
    pubsub = PubSub()
    await pubsub.start()
    return Connection(
        Hub(pubsub),
        Socket(),
        transport,
        V2Serializer(pubsub.encoder),
        router=Router({"*": EchoChannel}),
        max_channels=100,
        context=contextvars.copy_context(),
    )
