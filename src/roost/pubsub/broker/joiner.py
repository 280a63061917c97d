"""Messages that come in pieces, since the engine carries no more at once."""

from __future__ import annotations

from collections import Counter
from typing import Final

from roost.pubsub.broker.frames import Piece

__all__ = ["MAX_MESSAGE_SIZE", "Joiner"]

MAX_MESSAGE_SIZE: Final = 4 << 20  # bytes of a message that goes in pieces
MAX_JOINED_SIZE: Final = 64 << 20  # bytes of all that come at one time
MAX_LINKS: Final = 1_000  # that send in pieces at one time; the one that waits longest is dropped


class _Begun:
    """A message some of which has come."""

    __slots__ = ("data", "number", "size")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.data = bytearray()

    def goes_on_with(self, piece: Piece) -> bool:
        return (self.number, self.size, len(self.data)) == (piece.number, piece.size, piece.at)


class Joiner:
    """Put pieces together; those of one sender come in order, or the message is lost.

    Args:
        counters: Messages that stay incomplete are counted here, as ``incomplete``.

    Example:
        >>> joiner = Joiner(Counter())
        >>> joiner.add(Piece("6f1c", "alice", 1, 0, 5, b"hel"))
        >>> joiner.add(Piece("6f1c", "alice", 1, 3, 5, b"lo"))
        b'hello'
    """

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._begun: dict[str, _Begun] = {}  # by link
        self._size = 0

    def add(self, piece: Piece) -> bytes | None:
        """Take a piece; return the message once it is whole."""
        begun = self._begun.pop(piece.link, None)
        if begun is not None:
            self._size -= len(begun.data)
            if not begun.goes_on_with(piece):
                self._counters["incomplete"] += 1
                begun = None
        if begun is None:
            if piece.at != 0 or not 0 < piece.size <= MAX_MESSAGE_SIZE:
                return None
            begun = _Begun(piece.number, piece.size)
        begun.data += piece.data
        if len(begun.data) > piece.size or not piece.data:
            self._counters["incomplete"] += 1
            return None
        if len(begun.data) == piece.size:
            return bytes(begun.data)
        self._begun[piece.link] = begun
        self._size += len(begun.data)
        while self._size > MAX_JOINED_SIZE or len(self._begun) > MAX_LINKS:
            self._size -= len(self._begun.pop(next(iter(self._begun))).data)
            self._counters["incomplete"] += 1
        return None
