"""WebSocket connections over plain ASGI, on any server.

The receive loop never waits for a handler or a write: a task writes what waits, which exists only
while there is something to write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable

from roost.asgi.mount import WebSocket
from roost.asgi.transport import BURST_FACTOR, TURN_COUNT, ServerTransport
from roost.asgi.types import Receive, Send
from roost.channels.connection import Connection
from roost.wire.frame import Frame

__all__ = ["WebSocketTransport"]

logger = logging.getLogger("roost.asgi")


class WebSocketTransport(ServerTransport):
    """One WebSocket, accepted.

    Args:
        receive, send: Of the ASGI server.
        options: Limits and timeouts.
        counters: Where disconnected slow consumers are counted.
        on_end: Called once the connection is gone.
    """

    __slots__ = ("_buffer", "_is_abandoned", "_receive_event", "_send", "_serving", "_writer")

    def __init__(
        self,
        receive: Receive,
        send: Send,
        options: WebSocket,
        counters: Counter[str],
        on_end: Callable[[ServerTransport], object],
    ) -> None:
        super().__init__(options, counters, on_end)
        self._receive_event = receive
        self._send = send
        self._serving: asyncio.Task[object] | None = None
        self._buffer: deque[Frame] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._is_abandoned = False  # we stopped receiving

    def write(self, frame: Frame) -> None:
        if not self._is_open or self._is_overrun:
            return
        self._buffer.append(frame)
        self._buffer_size += len(frame)
        # What one tick writes says nothing of the client, unless an earlier write still waits for
        # it. A single frame may have any size.
        limit = self._options.max_outbound_size
        if self._writing_since is None:
            limit *= BURST_FACTOR
        if self._buffer_size > limit and len(self._buffer) > 1:
            self._overrun()
        elif self._writer is None:
            self._start_writer()

    # Serving.

    async def serve(self, connection: Connection) -> None:
        self._connection = connection
        self._serving = asyncio.current_task()
        if self._is_open:
            self._check()
        try:
            await self._receive_all()
        except asyncio.CancelledError:
            if not self._is_abandoned:  # not by us: the server is ending
                raise
            if self._serving is not None:
                self._serving.uncancel()
        finally:
            self._buffer.clear()
            self._end(connection)
            if self._writer is not None:
                self._writer.cancel()
            self._serving = None

    async def _receive_all(self) -> None:
        frame_count = 0
        while True:
            event = await self._receive_event()
            if event["type"] == "websocket.disconnect":
                break
            text = event.get("text")
            self._receive(event["bytes"] if text is None else text)
            frame_count += 1
            if frame_count % TURN_COUNT == 0:  # a burst may be there already, without any waiting
                await asyncio.sleep(0)

    # Writing.

    def _start_writer(self) -> None:
        writer = self._loop.create_task(self._write())
        self._writer = None if writer.done() else writer  # done: tasks are eager here

    async def _write(self) -> None:
        send, buffer = self._send, self._buffer
        try:
            while buffer:
                frame = buffer.popleft()
                self._buffer_size -= len(frame)
                self._writing_since = self._loop.time()
                if frame.is_text:
                    await send({"type": "websocket.send", "text": frame.text})
                else:
                    await send({"type": "websocket.send", "bytes": frame.data})
            if self._close_code is not None:
                await send({"type": "websocket.close", "code": self._close_code, "reason": ""})
        except Exception as error:  # servers raise all sorts of things when the client is gone
            logger.debug("the client is gone: %r", error)
            self._is_open = False
            self._abandon()
        finally:
            if self._writer is None or self._writer is asyncio.current_task():
                self._writing_since = None
                self._writer = None

    # Ending.

    def _start_to_close(self) -> None:
        if self._writer is None:
            self._start_writer()

    def _close_without_buffer(self) -> None:
        self._buffer.clear()
        self._buffer_size = 0
        if self._writing_since is not None and self._writer is not None:
            self._writer.cancel()
            self._writer = None  # the close starts another

    def _abandon(self) -> None:
        if self._serving is not None:
            self._is_abandoned = True
            self._serving.cancel()
