"""What holds for a WebSocket connection on every path: its limits, its timeouts, its end.

What is to be written is buffered, and bounded. Whoever does not read fast enough is disconnected:
a client that is behind by megabytes is better off with a fresh state. How messages come and bytes
go is the matter of two subclasses: ``websocket`` on plain ASGI, ``raw`` on a server that offers the
scope extension.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Final

from roost.asgi.mount import WebSocket
from roost.asgi.transports.close_codes import RESTART
from roost.channels.connection import Connection
from roost.exceptions import InvalidMessage
from roost.wire.frame import Frame

__all__ = ["BURST_FACTOR", "CLOSE_TIMEOUT", "INTERNAL_ERROR", "TURN_COUNT", "BoundedTransport"]

logger = logging.getLogger("roost.asgi")

PROTOCOL_ERROR: Final = 1002
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013

BURST_FACTOR: Final = 4  # how much more may wait before the first write had its chance
TURN_COUNT: Final = 100  # frames of one client before others get their turn
CLOSE_TIMEOUT: Final = 10.0  # seconds for the closing handshake before the connection is dropped


class BoundedTransport(ABC):
    """One WebSocket, accepted.

    Args:
        options: Limits and timeouts.
        counters: Where disconnected slow consumers are counted.
        on_end: Called once the connection is gone.
    """

    __slots__ = (
        "_buffer_size",
        "_close_code",
        "_connection",
        "_counters",
        "_is_open",
        "_is_overrun",
        "_loop",
        "_on_end",
        "_options",
        "_received_at",
        "_timer",
        "_writing_since",
    )

    def __init__(
        self,
        options: WebSocket,
        counters: Counter[str],
        on_end: Callable[[BoundedTransport], object],
    ) -> None:
        self._options = options
        self._counters = counters
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._buffer_size = 0
        self._writing_since: float | None = None  # a write under way, that the client holds up
        self._close_code: int | None = None
        self._is_open = True  # frames are taken
        self._is_overrun = False  # too much waits, and the connection is about to be closed
        self._received_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # For the connection (``Transport``), and for the endpoint.

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Send a frame after all earlier ones; returns at once, and does nothing once closed."""

    def close(self, code: int) -> None:
        """Close the connection once what was written is sent."""
        if not self._is_open:
            return
        self._is_open = False
        self._close_code = code
        self._start_to_close()
        self._set_timer(CLOSE_TIMEOUT, self._abandon)

    def drain(self) -> None:
        """The endpoint stops: close, so that the client comes back (1012)."""
        self.close(RESTART)
        if self._connection is not None:
            self._connection.close("draining")

    @abstractmethod
    async def serve(self, connection: Connection) -> None:
        """Serve the connection; returns when it has ended, or goes on by callbacks alone."""

    # How.

    @abstractmethod
    def _start_to_close(self) -> None:
        """Send ``_close_code`` once what was written is sent."""

    @abstractmethod
    def _close_without_buffer(self) -> None:
        """Forget what waits; what is being written may never end, so the close follows it."""

    @abstractmethod
    def _abandon(self) -> None:
        """The client did not answer our close, or can't be written to: end the connection."""

    # Receiving.

    def _receive(self, data: str | bytes) -> None:
        """A message of the client."""
        if not self._is_open:
            return
        assert self._connection is not None
        self._received_at = self._loop.time()
        if self._is_too_big(data):
            self._fail(TOO_BIG, f"a message is over {self._options.max_frame_size} bytes")
            return
        try:
            self._connection.receive_frame(data)
        except InvalidMessage as error:
            self._fail(INTERNAL_ERROR, str(error))
        except Exception:
            logger.exception("handling a message failed (%s)", self._connection.client)
            self._fail(INTERNAL_ERROR, "handling a message failed")

    def _is_too_big(self, data: str | bytes) -> bool:
        limit = self._options.max_frame_size
        if len(data) > limit:
            return True
        # A character has at most four bytes: only long texts need to be measured.
        return isinstance(data, str) and len(data) * 4 > limit and len(data.encode()) > limit

    def _fail(self, code: int, reason: str) -> None:
        client = "somebody" if self._connection is None else self._connection.client
        logger.warning("closing a connection with %d: %s (%s)", code, reason, client)
        self.close(code)
        if self._connection is not None:
            self._connection.close("closed")

    # Writing.

    def _overrun(self) -> None:
        """More waits than may."""
        self._is_overrun = True
        reason = f"{self._buffer_size} bytes wait for it"
        # In a callback of its own: this is in the middle of somebody's handler or broadcast.
        self._loop.call_soon(self._drop_slow_consumer, reason)

    def _drop_slow_consumer(self, reason: str) -> None:
        if not self._is_open:
            return
        self._counters["slow_consumer"] += 1
        self._close_without_buffer()
        self._fail(TRY_AGAIN_LATER, f"slow consumer: {reason}")

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

    def _set_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, callback)

    def _end(self, connection: Connection) -> None:
        """The connection is gone."""
        self._is_open = False
        try:
            connection.close("closed")
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._connection = self._timer = None
            self._on_end(self)
