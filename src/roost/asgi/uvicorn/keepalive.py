"""Pings to a client, and what happens if it does not answer: uvicorn's two options."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

__all__ = ["Keepalive"]


class Keepalive:
    """Send a ping each ``interval``, and give up on a client that does not answer one in time.

    Args:
        loop: Whose clock counts.
        interval: Seconds from an answer, or from a ping if answers are not waited for, to the next.
        timeout: Seconds to wait for the answer; None to wait for none.
        ping: Sends one; False once the connection is not open.
        give_up: Ends the connection.
    """

    __slots__ = (
        "_awaited",
        "_give_up",
        "_interval",
        "_loop",
        "_send_ping",
        "_timeout",
        "_timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        interval: float,
        timeout: float | None,
        ping: Callable[[bytes], bool],
        give_up: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._interval = interval
        self._timeout = timeout
        self._send_ping = ping
        self._give_up = give_up
        self._awaited: bytes | None = None
        self._timer = loop.call_later(interval, self._ping)

    def pong_received(self, data: bytes) -> None:
        """The client sent a pong; one that answers another ping does not count."""
        if data == self._awaited:
            self._awaited = None
            self._timer.cancel()
            self._timer = self._loop.call_later(self._interval, self._ping)

    def stop(self) -> None:
        """Send no more pings."""
        self._timer.cancel()

    def _ping(self) -> None:
        data = random.randbytes(4)
        if not self._send_ping(data):
            return
        if self._timeout is None:
            self._timer = self._loop.call_later(self._interval, self._ping)
        else:
            self._awaited = data
            self._timer = self._loop.call_later(self._timeout, self._give_up)
