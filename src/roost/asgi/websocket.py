"""WebSocket connections over plain ASGI.

The receive loop never waits for a handler or a write: what is to be written is buffered, bounded,
and a task writes it, which exists only while there is something to write. Whoever does not read
fast enough is disconnected: a client that is behind by megabytes is better off with a fresh state.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from roost.asgi.drain import RESTART
from roost.asgi.mount import WebSocket
from roost.asgi.types import Event, Receive, Send
from roost.channels.connection import Connection
from roost.exceptions import InvalidMessage
from roost.wire.frame import Frame

__all__ = ["WebSocketTransport"]

logger = logging.getLogger("roost.asgi")

PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013

BURST_FACTOR: Final = 4  # how much more may wait before the first write had its chance
TURN_COUNT: Final = 100  # frames of one client before others get their turn
CLOSE_TIMEOUT: Final = 10.0  # seconds for the closing handshake before the connection is dropped


class WebSocketTransport:
    """One WebSocket, accepted.

    Args:
        receive, send: Of the ASGI server.
        options: Limits and timeouts.
        counters: Where disconnected slow consumers are counted.
    """

    __slots__ = (
        "_buffer",
        "_buffer_size",
        "_close_code",
        "_connection",
        "_counters",
        "_is_abandoned",
        "_is_open",
        "_is_overrun",
        "_loop",
        "_options",
        "_receive",
        "_received_at",
        "_send",
        "_serving",
        "_timer",
        "_writer",
        "_writing_since",
    )

    def __init__(
        self, receive: Receive, send: Send, options: WebSocket, counters: Counter[str]
    ) -> None:
        self._receive = receive
        self._send = send
        self._options = options
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._serving: asyncio.Task[object] | None = None
        self._buffer: deque[Frame] = deque()
        self._buffer_size = 0
        self._writer: asyncio.Task[None] | None = None
        self._writing_since: float | None = None
        self._close_code: int | None = None
        self._is_open = True  # frames are taken
        self._is_overrun = False  # too much waits, and the connection is about to be closed
        self._is_abandoned = False  # we stopped receiving
        self._received_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # For the connection (``Transport``).

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
            self._is_overrun = True
            reason = f"{self._buffer_size} bytes wait for it"
            # In a callback of its own: this is in the middle of somebody's handler or broadcast.
            self._loop.call_soon(self._drop_slow_consumer, reason)
        elif self._writer is None:
            self._start_writer()

    def close(self, code: int) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._close_code = code
        if self._writer is None:
            self._start_writer()
        self._set_timer(CLOSE_TIMEOUT, self._abandon)

    def drain(self) -> None:
        """The endpoint stops: close, so that the client comes back (1012)."""
        self.close(RESTART)
        if self._connection is not None:
            self._connection.close("draining")

    # Serving.

    async def serve(self, connection: Connection) -> None:
        """Receive until the connection ends, by whichever side."""
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
            self._is_open = False
            self._buffer.clear()
            connection.close("closed")
            if self._timer is not None:
                self._timer.cancel()
            if self._writer is not None:
                self._writer.cancel()
            self._serving = self._connection = None

    async def _receive_all(self) -> None:
        frame_count = 0
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                break
            if self._is_open:
                self._received_at = self._loop.time()
                self._receive_frame(event)
            frame_count += 1
            if frame_count % TURN_COUNT == 0:  # a burst may be there already, without any waiting
                await asyncio.sleep(0)

    def _receive_frame(self, event: Event) -> None:
        assert self._connection is not None
        text = event.get("text")
        data: str | bytes = event["bytes"] if text is None else text
        if self._is_too_big(data):
            self._fail(TOO_BIG, f"a message is over {self._options.max_frame_size} bytes")
            return
        try:
            self._connection.receive_frame(data)
        except InvalidMessage as error:
            self._fail(INTERNAL_ERROR, str(error))
        except Exception:
            logger.exception("handling a message failed")
            self._fail(INTERNAL_ERROR, "handling a message failed")

    def _is_too_big(self, data: str | bytes) -> bool:
        limit = self._options.max_frame_size
        if len(data) > limit:
            return True
        # A character has at most four bytes: only long texts need to be measured.
        return isinstance(data, str) and len(data) * 4 > limit and len(data.encode()) > limit

    def _fail(self, code: int, reason: str) -> None:
        logger.warning("closing a connection with %d: %s", code, reason)
        self.close(code)
        if self._connection is not None:
            self._connection.close("closed")

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

    # Time.

    def _check(self) -> None:
        """Close if the client is silent or does not read; else look again when it might be."""
        now = self._loop.time()
        since = self._writing_since
        if since is not None and now - since >= self._options.send_timeout:
            self._drop_slow_consumer(f"a write takes over {self._options.send_timeout} s")
            return
        rest = self._received_at + self._options.timeout - now
        if rest <= 0:
            self._fail(PROTOCOL_ERROR, f"no data for {self._options.timeout} s")
            return
        self._set_timer(min(rest, self._options.send_timeout), self._check)

    def _drop_slow_consumer(self, reason: str) -> None:
        if not self._is_open:
            return
        self._counters["slow_consumer"] += 1
        self._buffer.clear()
        self._buffer_size = 0
        self._fail(TRY_AGAIN_LATER, f"slow consumer: {reason}")
        if self._writing_since is not None and self._writer is not None:
            # The write under way may never end; the close is tried without it.
            self._writer.cancel()
            self._start_writer()

    def _abandon(self) -> None:
        """The client did not answer our close, or can't be written to: stop receiving."""
        if self._serving is not None:
            self._is_abandoned = True
            self._serving.cancel()

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, callback)
