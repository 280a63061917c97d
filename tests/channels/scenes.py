"""What the scenes with channels have in common."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any, Protocol

from roost import Channel, Route, Socket
from roost.channels.connection import Connection
from roost.channels.router import Router
from roost.testing import ChannelCase, ClientCase, JoinedCase
from roost.testing.transport import Received
from roost.wire.frame import Frame
from roost.wire.messages import Message, Reply
from roost.wire.serializers import Serializer

__all__ = ["FrameClient", "Join", "Notes", "said", "ticks"]


class Join(Protocol):
    """The fixture ``join``: connect a client of its own and join."""

    async def __call__(
        self,
        channel: type[Channel[Any]] | Route,
        topic: str = "room:1",
        params: dict[str, Any] | None = None,
    ) -> JoinedCase: ...


class Notes(asyncio.Queue[Any]):
    """What a channel notes down for its test."""

    def add(self, note: Any) -> None:
        self.put_nowait(note)

    async def take(self) -> Any:
        """The next note; waits for it, but not for ever."""
        async with asyncio.timeout(5):
            return await self.get()

    def all(self) -> list[Any]:
        """The notes that there are and that nobody took."""
        return [self.get_nowait() for _ in range(self.qsize())]


def said(client: ClientCase) -> list[str]:
    """What the client was told and no assertion took, in the order of the wire.

    A line is the event, or ``reply`` and its status, and join_ref/ref as far as there are any:
    ``reply ok 1/1``, ``phx_close 1/1``, ``goodbye 1/``.
    """
    return [_line(each) for each in client.transport.received]


def _line(received: Received) -> str:
    match received:
        case Reply(join_ref, ref, _, status):
            return f"reply {status} {join_ref or ''}/{ref or ''}"
        case Message(join_ref, ref, _, event):
            return f"{event} {join_ref or ''}/{ref or ''}"
    return received.event


async def ticks(count: int = 10) -> None:
    """Let everything run that can run without time going by."""
    for _ in range(count):
        await asyncio.sleep(0)


class FrameClient:
    """A client of any serializer, that keeps the frames themselves.

    Attributes:
        connection: The server's side.
        frames: What was written.
    """

    def __init__(
        self,
        case: ChannelCase,
        channels: Mapping[str, type[Channel[Any]] | Route],
        serializer: type[Serializer],
    ) -> None:
        self.frames: list[Frame] = []
        hub = case.endpoint.hub
        self.connection = Connection(
            hub,
            Socket(),
            self,
            hub.serializer(serializer),
            router=Router(channels),
            max_channels=100,
            context=contextvars.copy_context(),
        )

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def close(self, code: int) -> None:
        pass

    def send(self, join_ref: Any, ref: Any, topic: str, event: str, payload: Any) -> None:
        """Send any message."""
        self.connection.receive(Message(join_ref, ref, topic, event, payload))

    def join(self, topic: str = "room:1") -> None:
        """Join; the channel's ``join`` must be sync."""
        self.send("1", "1", topic, "phx_join", {})
        self.frames.clear()
