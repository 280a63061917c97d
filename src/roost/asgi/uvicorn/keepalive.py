"""Pings to a client, and what happens if it does not answer: uvicorn's two options."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from websockets.protocol import Protocol, State

__all__ = ["Keepalive"]

INTERNAL_ERROR: Final = 1011


class Keepalive:
    """Send a ping each ``interval``, and give up on a client that does not answer one in time.

    Args:
        loop: Whose clock counts.
        websocket: Open.
        interval: Seconds from an answer, or from a ping if answers are not waited for, to the next.
        timeout: Seconds to wait for the answer; None to wait for none.
        write_out: Sends what ``websocket`` has to say.
    """

    __slots__ = (
        "_awaited",
        "_interval",
        "_loop",
        "_timeout",
        "_timer",
        "_websocket",
        "_write_out",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        websocket: Protocol,
        interval: float,
        timeout: float | None,
        write_out: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._websocket = websocket
        self._interval = interval
        self._timeout = timeout
        self._write_out = write_out
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
        if self._websocket.state is not State.OPEN:
            return
        data = random.randbytes(4)
        if self._timeout is None:
            self._timer = self._loop.call_later(self._interval, self._ping)
        else:
            self._awaited = data
            self._timer = self._loop.call_later(self._timeout, self._give_up)
        self._websocket.send_ping(data)
        self._write_out()

    def _give_up(self) -> None:
        self._websocket.fail(INTERNAL_ERROR, "keepalive ping timeout")
        self._write_out()
