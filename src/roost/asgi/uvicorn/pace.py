"""The transport below a connection: reading at a pace, and closing in time.

No client holds up the loop by what it sent at once: uvloop hands over a quarter of a megabyte
together, which may be forty thousand frames. What came is read in slices, and after a hundred
frames it is the turn of others; the client waits meanwhile. It also waits when the application asks
for it. And no client holds up the end by not reading what it was sent last.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final, cast

from roost.asgi.transports.bounded import CLOSE_TIMEOUT, TURN_COUNT

__all__ = ["PacedProtocol"]

SLICE_SIZE: Final = 8_192  # bytes read in one go: at most 1,365 frames, some four milliseconds


class PacedProtocol(asyncio.Protocol):
    """A protocol that reads in slices, and closes in time.

    Args:
        loop: Of the transport.
    """

    __slots__ = ("_abort_timer", "_is_reading_paused", "_loop", "_transport", "_unread")

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unread = bytearray()  # what came while reading was paused
        self._is_reading_paused = False
        self._abort_timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def read(self, data: bytes | bytearray) -> int:
        """Read what came; returns how many frames that were."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if len(data) <= SLICE_SIZE and not self._is_reading_paused:
            self.read(data)
        else:
            self._unread += data
            self._read_unread()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_reading_paused = True
        while self._unread:  # what came before counts
            self.read(self._next_slice())
        if self._abort_timer is not None:
            self._abort_timer.cancel()

    def pause_reading(self) -> None:
        """Let the client wait."""
        if not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, beginning with what came meanwhile."""
        if self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = False
            self._read_unread()
            if not self._is_reading_paused:
                self._transport.resume_reading()

    def close_transport(self) -> None:
        """Close the connection when what was written is sent."""
        self._transport.close()
        self.abort_in_time()

    def close_after_reading(self) -> None:
        """Close the connection when the client does.

        It may be in the middle of a message. To close with that unread would reset the connection,
        and the close frame would not arrive.
        """
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self.abort_in_time()
            self.resume_reading()
        else:
            self.close_transport()

    def abort_in_time(self) -> None:
        """Close the connection at once if it is still there after a while."""
        if self._abort_timer is None:
            self._abort_timer = self._loop.call_later(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def _read_unread(self) -> None:
        count = 0
        while self._unread and not self._is_reading_paused:
            if count >= TURN_COUNT:
                self.pause_reading()
                self._loop.call_soon(self.resume_reading)
            else:
                count += self.read(self._next_slice())

    def _next_slice(self) -> bytearray:
        data = self._unread[:SLICE_SIZE]
        del self._unread[:SLICE_SIZE]
        return data
