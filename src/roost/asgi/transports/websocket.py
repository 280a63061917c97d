"""WebSocket connections over plain ASGI, on any server.

The receive loop never waits for a handler or a write: a task writes what waits, which exists only
while there is something to write.

When ``send`` raises (``sending``) and the client is gone, the connection ends. If nobody says that
it is, neither the exception nor, within a second, the server by its disconnect event, then
something between us and the client is broken: that is logged, and costs the connection (1011).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from roost.asgi.mount import WebSocket
from roost.asgi.transports.close_codes import close_websocket, means_gone
from roost.asgi.transports.limits import (
    BURST_FACTOR,
    CLOSE_TIMEOUT,
    INTERNAL_ERROR,
    TURN_COUNT,
    BoundedTransport,
)
from roost.asgi.types import Receive, Send
from roost.channels.connection import Connection
from roost.wire.frame import Frame

__all__ = ["WebSocketTransport"]

logger = logging.getLogger("roost.asgi")

DISCONNECT_TIMEOUT: Final = 1.0  # seconds for a server to say that a client is gone


class WebSocketTransport(BoundedTransport):
    """One WebSocket, accepted.

    Args:
        receive, send: Of the ASGI server.
        options: Limits and timeouts.
        counters: Where disconnected slow consumers are counted.
        on_end: Called once the connection is gone.
    """

    __slots__ = (
        "_buffer",
        "_is_abandoned",
        "_is_broken",
        "_receive_event",
        "_send",
        "_serving",
        "_writer",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        options: WebSocket,
        counters: Counter[str],
        on_end: Callable[[BoundedTransport], object],
    ) -> None:
        super().__init__(options, counters, on_end)
        self._receive_event = receive
        self._send = send
        self._serving: asyncio.Task[object] | None = None
        self._buffer: deque[Frame] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._is_abandoned = False  # we stopped receiving
        self._is_broken = False  # a send failed though the client may be there

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
                await close_websocket(send, self._close_code)
        except Exception as error:
            self._sending_failed(error)
        finally:
            if self._writer is None or self._writer is asyncio.current_task():
                self._writing_since = None
                self._writer = None

    def _sending_failed(self, error: Exception) -> None:
        self._is_open = False
        self._buffer.clear()
        if means_gone(error):
            logger.debug("the client is gone: %r", error)
            self._abandon()
        elif self._is_broken:
            self._abandon()  # not even closing works
        else:
            self._is_broken = True
            self._set_timer(DISCONNECT_TIMEOUT, partial(self._break, error))

    def _break(self, error: Exception) -> None:
        """The client is still there, but can't be sent anything."""
        assert self._connection is not None
        what = "sending to a client failed, in the server or a middleware: closing with %d (%s)"
        logger.error(what, INTERNAL_ERROR, self._connection.client, exc_info=error)
        self._close_code = INTERNAL_ERROR
        self._start_to_close()
        self._set_timer(CLOSE_TIMEOUT, self._abandon)
        self._connection.close("closed")

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
