"""The bare server: WebSockets of uvicorn and a dict, and nothing of what roost does.

It answers joins and pings, fans out shouts, and frames them as Phoenix does; there are no channels,
no presence, no limits and no isolation. What roost costs is the difference to it. A shout goes to
each socket through ``send``, as a plain ASGI application has to, by one task for each socket, so
that a slow one doesn't hold up the others; a queue for each keeps them in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

Event = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]
Receive = Callable[[], Awaitable[Event]]


class Member:
    """One socket: what waits to be sent to it, and the task that sends while something does."""

    __slots__ = ("_send", "_waiting", "_writer")

    def __init__(self, send: Send) -> None:
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


members: dict[str, set[Member]] = {}


def handle(member: Member, text: str) -> str | None:
    """Do what a message asks for; returns the topic of a join."""
    join_ref, ref, topic, event, payload = msgspec.json.decode(text)
    if event == "shout":
        shout = msgspec.json.encode([None, None, topic, event, payload]).decode()
        for each in members.get(topic, ()):
            each.write(shout)
        return None
    response = payload if event == "ping" else {}
    answer = [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": response}]
    member.write(msgspec.json.encode(answer).decode())
    return topic if event == "phx_join" else None


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        return
    await receive()
    await send({"type": "websocket.accept"})
    member = Member(send)
    topics: set[str] = set()
    try:
        while (event := await receive())["type"] == "websocket.receive":
            if topic := handle(member, event["text"]):
                topics.add(topic)
                members.setdefault(topic, set()).add(member)
    finally:
        for topic in topics:
            members[topic].discard(member)
            if not members[topic]:
                del members[topic]
