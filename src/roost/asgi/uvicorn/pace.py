"""The transport below a connection: reading at a pace, and closing in time.

No client holds up the loop by what it sent at once: uvloop hands over a quarter of a megabyte
together, which may be forty thousand frames. What came is read in slices. Who says little is read
at once; who says much waits for its turn among those who do (``turns``), and is not read from the
socket while too much of it waits. It also waits when the application asks for it. And no client
holds up the end by not reading what it was sent last.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Final, cast

from roost.asgi.transports.limits import CLOSE_TIMEOUT
from roost.asgi.uvicorn.turns import HEAVY_LOAD, Turns

__all__ = ["LONG_SLICE_SIZE", "MAX_UNREAD_SIZE", "SLICE_SIZE", "TURN_LOAD", "PacedProtocol"]

# Bytes read in one go. A slice of tiny frames has 170 of them; slices grow while frames are long.
SLICE_SIZE: Final = 1_024
LONG_SLICE_SIZE: Final = 8_192
SMALL_LOAD: Final = 20  # of a slice whose frames are long
TURN_LOAD: Final = 100  # of what is read of one client at once
MAX_UNREAD_SIZE: Final = 65_536  # bytes that wait, besides what the loop hands over at once


class PacedProtocol(asyncio.Protocol):
    """A protocol that reads in slices, and closes in time.

    Args:
        loop: Of the transport.
        turns: Of the loop.
    """

    __slots__ = (
        "_abort_timer",
        "_era",
        "_is_lost",
        "_is_reading_paused",
        "_is_socket_paused",
        "_is_waiting",
        "_load",
        "_longest_slice_size",
        "_loop",
        "_slice_size",
        "_transport",
        "_turns",
        "_unread",
    )

    _transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, turns: Turns) -> None:
        self._loop = loop
        self._turns = turns
        self._unread: bytearray | None = None  # what came and waits; never empty
        self._is_reading_paused = False  # by the application
        self._is_socket_paused = False
        self._is_waiting = False  # for its turn
        self._is_lost = False
        self._load = 0
        self._era = 0
        self._slice_size = SLICE_SIZE
        self._longest_slice_size = LONG_SLICE_SIZE
        self._abort_timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def read(self, data: bytes | bytearray) -> int:
        """Read what came; returns how much work that was, in units of ``turns``."""

    @abstractmethod
    def ended(self) -> None:
        """The connection is lost, and all that came before was read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if (
            self._load < HEAVY_LOAD
            and self._unread is None
            and len(data) <= self._slice_size
            and not self._is_reading_paused
        ):
            self._load += self.read(data)
        else:
            self._data_received(data)

    def _data_received(self, data: bytes) -> None:
        if self._unread is None:
            self._unread = bytearray(data)
        else:
            self._unread += data
        if not self._is_waiting and not self._is_reading_paused:
            self._read_on()
        if self._unread is not None and len(self._unread) > MAX_UNREAD_SIZE:
            self._pause_socket()

    def _read_on(self) -> None:
        """Read a little at once, if the client says little; the rest when it is its turn."""
        load = 0 if not self._is_heavy() else TURN_LOAD
        while load < TURN_LOAD and self._unread is not None and not self._is_reading_paused:
            load += self._read_slice()
        if self._unread is None:
            self._resume_socket()
        elif not self._is_reading_paused:
            self._wait()

    def _wait(self) -> None:
        """Go on when it is its turn: never here, where this may be in the middle of a slice."""
        if not self._is_waiting:
            self._is_waiting = True
            self._turns.add(self)

    def _read_slice(self) -> int:
        assert self._unread is not None
        size = self._slice_size
        data = self._unread[:size]
        if len(data) == len(self._unread):
            self._unread = None
        else:
            del self._unread[:size]
        load = self.read(data)
        self._load += load
        if load > SMALL_LOAD:
            self._slice_size = SLICE_SIZE
        elif size < self._longest_slice_size:
            self._slice_size = size * 2
        return load

    def _is_heavy(self) -> bool:
        turns = self._turns
        if self._load >= HEAVY_LOAD:
            self._load >>= min(turns.era - self._era, 20)
            turns.note_heavy()
        self._era = turns.era
        return self._load >= HEAVY_LOAD

    def take_turn(self) -> bool:
        """Read a slice of what waits; whether there is more, and it may be read."""
        if self._unread is not None and (self._is_lost or not self._is_reading_paused):
            self._is_heavy()
            self._read_slice()
        if self._unread is not None and (self._is_lost or not self._is_reading_paused):
            return True
        self._is_waiting = False
        if self._is_lost:
            self.ended()
        elif not self._is_reading_paused:
            self._resume_socket()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
        if self._unread is None:
            self.ended()
        else:  # what came before counts
            self._wait()

    def hold(self) -> None:
        """Read nothing for now, but notice when the client goes."""
        self._is_reading_paused = True

    def pause_reading(self) -> None:
        """Let the client wait."""
        self._is_reading_paused = True
        self._pause_socket()

    def resume_reading(self) -> None:
        """Read on, beginning with what came meanwhile."""
        if self._is_reading_paused and not self._is_lost:
            self._is_reading_paused = False
            if self._unread is None:
                self._resume_socket()
            else:
                self._wait()

    def _pause_socket(self) -> None:
        if not self._is_socket_paused:
            self._is_socket_paused = True
            self._transport.pause_reading()

    def _resume_socket(self) -> None:
        if self._is_socket_paused and not self._transport.is_closing():
            self._is_socket_paused = False
            self._transport.resume_reading()

    def close_transport(self) -> None:
        """Close the connection when what was written is sent."""
        self._transport.close()
        self.abort_in_time()

    def close_after_reading(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close the connection when the client does, or after a while.

        It may be in the middle of a message. To close with that unread would reset the connection,
        and the close frame would not arrive.
        """
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self.abort_in_time(timeout)
            self.resume_reading()
        else:
            self.close_transport()

    def abort_in_time(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close the connection at once if it is still there after a while."""
        if self._abort_timer is None:
            self._abort_timer = self._loop.call_later(timeout, self.abort)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()
