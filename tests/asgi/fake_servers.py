"""The server's end of one connection, faked: a client that may not read, answer, or be there.

One fake for each way to a client; what both promise is tested with both (`test_transports`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from bench.load.frames import TEXT, FrameReader
from roost import WebSocket
from roost.asgi.transports.extension import Receiver
from roost.asgi.transports.raw import RawTransport
from roost.asgi.transports.websocket import WebSocketTransport
from roost.asgi.transports.write_queue import WriteQueue
from roost.asgi.types import Event
from roost.wire.frame import Frame
from tests.asgi.echo import connect

__all__ = ["PlainServer", "RawServer", "text", "tick"]


class PlainServer:
    """A server of plain ASGI.

    Attributes:
        header_size: How many bytes of a short frame count beside its payload.
        sent: What the client got, messages and the codes of closes.
        answers: False leaves a close without an answer.
        error: What a write raises.
        refused_codes: Close codes that the server does not take.
        end_count: How often the transport said that its connection is gone.
    """

    header_size = 0

    def __init__(self, **options: Any) -> None:
        self.sent: list[str | bytes | int] = []
        self.answers = True
        self.error: Exception | None = None
        self.refused_codes = range(0)
        self.counters: Counter[str] = Counter()
        self.end_count = 0
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.transport = WebSocketTransport(
            self._events.get, self._send, WebSocket(**options), self.counters, self._note_end
        )

    @property
    def messages(self) -> list[str | bytes]:
        """What the client got."""
        return [each for each in self.sent if not isinstance(each, int)]

    @property
    def close_code(self) -> int | None:
        """Of the close that the client got; nothing may follow that."""
        codes = [each for each in self.sent if isinstance(each, int)]
        assert codes in ([], self.sent[-1:]), f"a close is the last thing: {self.sent}"
        return codes[0] if codes else None

    async def serve(self) -> asyncio.Task[None]:
        """Serve an echo channel's connection; returns what is done when it is gone."""
        connection = await connect(self.transport)
        return asyncio.create_task(self.transport.serve(connection))

    def receive(self, message: str) -> None:
        """The client sends a message."""
        self._events.put_nowait({"type": "websocket.receive", "text": message})

    def disconnect(self) -> None:
        """The client is gone."""
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1000})

    def stop_reading(self) -> None:
        """The client reads nothing from now on: the next write is held up."""
        self._may_write.clear()

    def read_again(self) -> None:
        self._may_write.set()

    def _note_end(self, transport: object) -> None:
        assert transport is self.transport
        self.end_count += 1

    async def _send(self, event: Event) -> None:
        await self._may_write.wait()
        if self.error is not None:
            raise self.error
        if event.get("code") in self.refused_codes:
            raise ValueError(f"invalid close code {event['code']}")
        self.sent.append(event.get("text") or event.get("bytes") or event["code"])
        if event["type"] == "websocket.close" and self.answers:
            self.disconnect()


class RawServer:
    """A server that a connection is taken over from.

    Args:
        early: Messages that come before the takeover.
        goes: The client is gone before the takeover.
        options: Of `WebSocket`.

    Attributes:
        header_size: How many bytes of a short frame count beside its payload.
        written: The writes, as they came.
        close_code: Of the close frame.
        answers: False leaves a close without an answer.
        end_count: How often the transport said that its connection is gone.
        ending_count: How often it was told that the server ends.
    """

    header_size = 2

    def __init__(self, *, early: tuple[str, ...] = (), goes: bool = False, **options: Any) -> None:
        self.written: list[bytes] = []
        self.close_code: int | None = None
        self.answers = True
        self.counters: Counter[str] = Counter()
        self.end_count = 0
        self.ending_count = 0
        self.receiver: Receiver
        self._early = early
        self._goes = goes
        self._reads = True
        loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = loop.create_future()
        self.transport = RawTransport(
            self._take,
            WebSocket(**options),
            self.counters,
            self._note_end,
            write_queue=WriteQueue(loop),
            on_server_ending=self._note_ending,
        )

    @property
    def messages(self) -> list[str | bytes]:
        """What the client got."""
        return [
            payload.decode() if opcode == TEXT else payload
            for opcode, payload in FrameReader().feed(b"".join(self.written))
        ]

    async def serve(self) -> asyncio.Future[None]:
        """Serve an echo channel's connection; returns what is done when it is gone."""
        await self.transport.serve(await connect(self.transport))
        await tick()
        return self._gone

    def receive(self, message: str) -> None:
        """The client sends a message."""
        self.receiver.message_received(message)

    def disconnect(self) -> None:
        """The client is gone."""
        self.receiver.connection_lost(1000, "")

    def stop_reading(self) -> None:
        """The client reads nothing from now on: the next write is the last for a while."""
        self._reads = False

    def read_again(self) -> None:
        self._reads = True
        if self.close_code is None:
            self.receiver.resume_writing()

    def _note_end(self, transport: object) -> None:
        assert transport is self.transport
        self.end_count += 1
        self._gone.set_result(None)

    def _note_ending(self) -> None:
        self.ending_count += 1

    # For the transport.

    def _take(self, receiver: Receiver, max_size: int | None = None, /) -> RawServer:
        self.receiver = receiver
        for message in self._early:
            receiver.message_received(message)
        if self._goes:
            receiver.connection_lost(1005, "")
        return self

    def write(self, framed: bytes) -> None:
        assert self.close_code is None, "nothing follows a close"
        self.written.append(framed)
        if not self._reads:
            self.receiver.pause_writing()

    def close(self, code: int) -> None:
        if self.close_code is None:
            self.receiver.connection_closing()
            self.close_code = code
            if self.answers:
                self.receiver.connection_lost(code, "")

    def abort(self) -> None:
        self.receiver.connection_lost(1006, "")


def text(size: int = 1) -> Frame:
    """A text message of that many bytes."""
    return Frame(b"x" * size, is_text=True)


async def tick() -> None:
    """Let everything happen that can happen now."""
    await asyncio.sleep(0.001)
