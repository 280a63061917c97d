"""WebSocket connections on a server that offers the scope extension (``extension``).

Messages come by call. What is written is one list of bytes that are framed already, joined and
handed over once per tick of the loop (``write_queue``), so that replies, pushes and broadcasts keep
their order and cost one system call together. While the client holds a write up nothing more is
handed over: all that waits is here, and is bounded as on plain ASGI.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from roost.asgi.mount import WebSocket
from roost.asgi.transports.extension import Take, TakenWebSocket
from roost.asgi.transports.limits import BURST_FACTOR, BoundedTransport
from roost.asgi.transports.write_queue import WriteQueue
from roost.channels.connection import Connection
from roost.wire.frame import Frame

__all__ = ["RawTransport"]

WRITE_SIZE: Final = 262_144  # bytes handed over at once, at least one frame


class RawTransport(BoundedTransport):
    """One WebSocket, accepted, to be taken over.

    Args:
        take: Of the scope extension.
        options: Limits and timeouts.
        counters: Where disconnected slow consumers are counted.
        on_end: Called once the connection is gone.
        write_queue: Of the loop.
        on_server_ending: Called when the server ends, and waits for its connections.
    """

    __slots__ = ("_frames", "_limit", "_on_server_ending", "_take", "_taken", "_write_queue")

    def __init__(
        self,
        take: Take,
        options: WebSocket,
        counters: Counter[str],
        on_end: Callable[[BoundedTransport], object],
        *,
        write_queue: WriteQueue,
        on_server_ending: Callable[[], object],
    ) -> None:
        super().__init__(options, counters, on_end)
        self._take: Take | None = take
        self._write_queue = write_queue
        self._on_server_ending = on_server_ending
        self._taken: TakenWebSocket | None = None
        self._frames: list[bytes] = []
        # What one tick writes says nothing of the client, unless an earlier write still waits for
        # it. A single frame may have any size.
        self._limit = options.max_outbound_size * BURST_FACTOR

    def write(self, frame: Frame) -> None:
        if not self._is_open or self._is_overrun:
            return
        framed = frame.framed
        if not self._frames:
            self._write_queue.add(self)
        self._frames.append(framed)
        self._buffer_size += len(framed)
        if self._buffer_size > self._limit and len(self._frames) > 1:
            self._overrun()

    async def serve(self, connection: Connection) -> None:
        take, self._take = self._take, None
        assert take is not None, "served twice"
        self._connection = connection
        try:
            taken = take(self, self._options.max_frame_size)
        except BaseException:
            self._end(connection)
            raise
        if self._is_gone:  # since before the takeover
            return
        self._taken = taken
        self.flush()
        if self._is_open:
            self._check()
        elif self._close_code is not None:
            self._start_to_close()

    def flush(self) -> None:
        """Hand over what waits, for the queue; does nothing while the client holds a write up."""
        if self._taken is None:
            return
        while self._frames and self._writing_since is None:
            self._taken.write(self._next_write())

    def _next_write(self) -> bytes:
        frames = self._frames
        if len(frames) == 1:
            self._buffer_size = 0
            return frames.pop()
        if self._buffer_size <= WRITE_SIZE:
            size, count = self._buffer_size, len(frames)
        else:
            size = count = 0
            while size < WRITE_SIZE:
                size += len(frames[count])
                count += 1
        self._buffer_size -= size
        data = b"".join(frames[:count])
        del frames[:count]
        return data

    # For the server (``Receiver``).

    def message_received(self, data: str | bytes) -> None:
        self._receive(data)

    def sign_of_life_received(self) -> None:
        self._received_at = self._loop.time()

    def pause_writing(self) -> None:
        self._writing_since = self._loop.time()
        self._limit = self._options.max_outbound_size

    def resume_writing(self) -> None:
        self._writing_since = None
        self._limit = self._options.max_outbound_size * BURST_FACTOR
        self.flush()
        if self._close_code is not None:
            self._start_to_close()

    def connection_closing(self) -> None:
        self.flush()
        self._is_open = False
        self._frames.clear()

    @property
    def _is_gone(self) -> bool:
        return self._connection is None

    def connection_lost(self, code: int, reason: str) -> None:
        self._frames.clear()
        self._taken = None
        if self._connection is not None:
            self._end(self._connection)

    def server_ending(self) -> None:
        self._on_server_ending()

    # Ending.

    def _start_to_close(self) -> None:
        self.flush()
        if self._taken is not None and not self._frames:
            assert self._close_code is not None
            self._taken.close(self._close_code)

    def _close_without_buffer(self) -> None:
        self._frames.clear()
        self._buffer_size = 0

    def _abandon(self) -> None:
        if self._taken is not None:
            self._taken.abort()
