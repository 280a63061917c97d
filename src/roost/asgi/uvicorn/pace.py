"""Reading at a pace: no client holds up the loop by what it sent at once.

uvloop hands over a quarter of a megabyte together, which may be forty thousand frames. What came is
read in slices, and after a hundred frames it is the turn of others; the client waits meanwhile. It
also waits when the application asks for it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final, cast

from roost.asgi.transport import TURN_COUNT

__all__ = ["PacedProtocol"]

SLICE_SIZE: Final = 8_192  # bytes read in one go: at most 1,365 frames, some four milliseconds


class PacedProtocol(asyncio.Protocol):
    """A protocol that reads in slices.

    Args:
        loop: Of the transport.
    """

    __slots__ = ("_is_reading_paused", "_loop", "_transport", "_unread")

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unread = bytearray()  # what came while reading was paused
        self._is_reading_paused = False

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
