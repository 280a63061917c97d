"""Whose turn it is to be read, among the connections of one loop.

Theory of operation. Reading a message takes the loop's time, whoever sent it. Most connections say
little, and are read as soon as something comes. One that says much is *heavy*, and what it says
beyond that waits in its own buffer; the heavy ones are read one after the other, a slice of each,
for ``TURN_DURATION`` in each tick of the loop, however many they are. So fifty floods take the
others no more time than one does.

How much a connection says is its ``load``: a unit for each frame and for each kilobyte in it, after
decompression. It is halved each second in which somebody was heavy, and from ``HEAVY_LOAD`` on a
connection is heavy. The clock is looked at for the heavy ones only.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final, Protocol

__all__ = ["HEAVY_LOAD", "Turns"]

logger = logging.getLogger("roost.asgi.uvicorn")

HEAVY_LOAD: Final = 1_000  # units: as much as one connection may take of a second's work at once
TURN_DURATION: Final = 0.003  # seconds of each tick for all who are heavy
ERA: Final = 1.0  # seconds


class Heavy(Protocol):
    """A connection that waits for its turn."""

    def take_turn(self) -> bool:
        """Read a slice; whether there is more."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Turns:
    """The turns of one loop.

    Args:
        loop: Whose ticks count.

    Attributes:
        era: Goes up each second in which somebody was heavy.
    """

    __slots__ = ("_is_asked", "_loop", "_timer", "_waiting", "era")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.era = 0
        self._loop = loop
        self._waiting: deque[Heavy] = deque()
        self._is_asked = False  # the loop, for a turn
        self._timer: asyncio.TimerHandle | None = None

    def note_heavy(self) -> None:
        """Somebody is: the era ends in a second."""
        if self._timer is None:
            self._timer = self._loop.call_later(ERA, self._end_era)

    def add(self, connection: Heavy) -> None:
        """Let a connection read when it is its turn; it may wait here once."""
        self._waiting.append(connection)
        if not self._is_asked:
            self._is_asked = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        ends_at = time.perf_counter() + TURN_DURATION
        waiting = self._waiting
        try:
            while waiting:
                connection = waiting.popleft()
                try:
                    has_more = connection.take_turn()
                except Exception:  # must not cost the others their turns
                    logger.exception("reading from a connection failed")
                    connection.abort()
                else:
                    if has_more:
                        waiting.append(connection)
                if time.perf_counter() > ends_at:
                    break
        finally:
            self._is_asked = bool(waiting)
            if self._is_asked:
                self._loop.call_soon(self._run)

    def _end_era(self) -> None:
        self.era += 1
        self._timer = None
