"""One write per connection and loop tick: who has something to write, in one list for each loop.

A system call costs several microseconds whatever its size, so that what a tick writes to one
client (replies, pushes, broadcasts) is joined. One callback of the loop writes for all.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

__all__ = ["WriteQueue"]

logger = logging.getLogger("roost.asgi")

TURN_COUNT: Final = 500  # writes before the loop gets its turn: some four milliseconds


class _Writer(Protocol):
    def flush(self) -> None: ...


class WriteQueue:
    """The connections of one loop that have something to write.

    Args:
        loop: Whose ticks count.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[_Writer] = []

    def add(self, writer: _Writer) -> None:
        """Call ``writer.flush()`` when this tick is over; add it again once that was called."""
        self._waiting.append(writer)
        if len(self._waiting) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        turn, self._waiting = self._waiting[:TURN_COUNT], self._waiting[TURN_COUNT:]
        if self._waiting:
            self._loop.call_soon(self._flush)
        for writer in turn:
            try:
                writer.flush()
            except Exception:  # must not cost the others their messages
                logger.exception("writing to a connection failed")
