"""The bare server: WebSockets of uvicorn and a dict, and nothing of what roost does.

What roost costs is the difference to it. A shout goes to each socket through ``send``, as a plain
ASGI application has to, by one task for each socket, so that a slow one doesn't hold up the others;
a queue for each keeps them in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from bench.servers.rooms import Rooms

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]


class Member:
    """One socket: what waits to be sent to it, and the task that sends while something does."""

    __slots__ = ("_send", "_waiting", "_writer", "topics")

    def __init__(self, send: Send) -> None:
        self.topics: set[str] = set()
        self._send = send
        self._waiting: deque[str] = deque()
        self._writer: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        self._waiting.append(text)
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._send({"type": "websocket.send", "text": self._waiting.popleft()})
        except Exception:  # the client is gone; the receiving side is told
            self._waiting.clear()
        finally:
            self._writer = None


rooms: Rooms[str] = Rooms(lambda message: msgspec.json.encode(message).decode())


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    member = Member(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            rooms.handle(member, event["text"])
    finally:
        rooms.leave(member)
