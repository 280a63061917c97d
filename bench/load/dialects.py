"""What a join, a message and a ping look like: the Phoenix protocol, and Socket.IO.

Servers that are no more than a WebSocket library (``ws``, the bare server, a consumer of Django
Channels) are written for this benchmark anyway, and speak the Phoenix format.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import quote

from bench.load.crowd import Conversation
from bench.load.frames import ProtocolError

__all__ = ["Dialect", "Phoenix", "SocketIO"]


class Dialect(Protocol):
    """How a generator talks to one kind of server."""

    def target(self, user: str) -> str:
        """Path and query of the upgrade."""
        ...

    def greet(self) -> Conversation:
        """All that comes before the first join."""
        ...

    def join(self, topic: str) -> Conversation:
        """Join one topic of a client that has been greeted."""
        ...

    def push(self, topic: str, event: str, payload: bytes, number: int) -> bytes:
        """A message to a topic that was joined, with a number that an answer repeats."""
        ...


class Phoenix:
    """Version 2 of the Phoenix protocol, at ``/socket/websocket``."""

    def target(self, user: str) -> str:
        return f"/socket/websocket?vsn=2.0.0&user_id={quote(user)}"

    def greet(self) -> Conversation:
        yield from ()

    def join(self, topic: str) -> Conversation:
        name = topic.encode()
        begin = b'["1","1","%s","phx_reply",' % name
        message = yield b'["1","1","%s","phx_join",{}]' % name
        # Some encoders put spaces after commas. Diffs may come before the reply.
        while not (reply := message.replace(b", ", b",")).startswith(begin):
            message = yield b""
        if b'"ok"' not in reply:
            raise ProtocolError(f"the join was refused: {message!r}")

    def push(self, topic: str, event: str, payload: bytes, number: int) -> bytes:
        return b'["1","%d","%s","%s",%s]' % (number, topic.encode(), event.encode(), payload)


class SocketIO:
    """Socket.IO 5 over Engine.IO 4, WebSocket only; joins and pings are acknowledged events."""

    def target(self, user: str) -> str:
        return "/socket.io/?EIO=4&transport=websocket"

    def greet(self) -> Conversation:
        opened = yield b""
        if not opened.startswith(b"0"):
            raise ProtocolError(f"expected Engine.IO to open, got {opened!r}")
        connected = yield b"40"
        if not connected.startswith(b"40"):
            raise ProtocolError(f"expected Socket.IO to connect, got {connected!r}")

    def join(self, topic: str) -> Conversation:
        answer = yield b'420["join","%s"]' % topic.encode()
        while not answer.startswith(b"430"):
            answer = yield b""

    def push(self, topic: str, event: str, payload: bytes, number: int) -> bytes:
        ack = b"%d" % number if event == "ping" else b""
        return b'42%s["%s","%s",%s]' % (ack, event.encode(), topic.encode(), payload)
