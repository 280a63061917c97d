"""The client's end of a connection that has no network: it reads what the server writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from roost.strict_json import decode_json
from roost.wire.frame import Frame
from roost.wire.messages import REPLY, Broadcast, Message, Reply

__all__ = ["Received", "RecordingTransport", "parse_frame"]

Received = Message | Reply | Broadcast


def parse_frame(frame: Frame) -> Received:
    """What a client of version 2 makes of a frame of the server.

    Example:
        >>> parse_frame(Frame(b'[null,null,"room:1","shout",{}]', is_text=True))
        Broadcast(topic='room:1', event='shout', payload={})
    """
    if not frame.is_text:
        return _parse_binary(frame.data)
    join_ref, ref, topic, event, payload = decode_json(frame.data)
    if event == REPLY:
        return Reply(join_ref, ref, topic, payload["status"], payload["response"])
    if join_ref is None and ref is None:
        return Broadcast(topic, event, payload)
    return Message(join_ref, ref, topic, event, payload)


def _parse_binary(data: bytes) -> Received:
    kind = data[0]
    field_count = {0: 3, 1: 4, 2: 2}[kind]
    end = 1 + field_count
    fields = []
    for size in data[1 : 1 + field_count]:
        fields.append(data[end : end + size].decode())
        end += size
    match kind, fields:
        case 0, [join_ref, topic, event]:
            return Message(join_ref, None, topic, event, data[end:])
        case 1, [join_ref, ref, topic, status]:
            return Reply(join_ref, ref, topic, status, data[end:])
        case _, [topic, event]:
            return Broadcast(topic, event, data[end:])
        case _:
            raise AssertionError(f"a frame of kind {kind}")


class RecordingTransport:
    """Keep what is written until somebody waits for it.

    Attributes:
        received: What was written and not taken yet, in order.
        close_code: The code the server closed with; None while it is open.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.close_code: int | None = None
        self._changed = asyncio.Event()

    def write(self, frame: Frame) -> None:
        if self.close_code is None:
            self.add(parse_frame(frame))

    def add(self, received: Received) -> None:
        """Keep one more."""
        self.received.append(received)
        self._changed.set()

    def close(self, code: int) -> None:
        if self.close_code is None:
            self.close_code = code
            self._changed.set()

    async def take(self, wanted: Callable[[Received], bool], timeout: float) -> Received | None:
        """Remove and return the first that is wanted; None if none comes within ``timeout``."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            for position, received in enumerate(self.received):
                if wanted(received):
                    return self.received.pop(position)
            if not await self._change(deadline):
                return None

    async def closed(self, timeout: float) -> int | None:
        """The close code; None if the server does not close within ``timeout``."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self.close_code is None:
            if not await self._change(deadline):
                return None
        return self.close_code

    async def _change(self, deadline: float) -> bool:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(deadline):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


def describe(received: list[Any]) -> str:
    """For the message of a failed assertion."""
    return "\n".join(f"  {each!r}" for each in received) or "  nothing"
