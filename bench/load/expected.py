"""What clients must receive, byte by byte.

Messages of one scenario differ in their number only, and a number always has eight digits. So one
message of the server, in which the number is known, says what all others must look like: a chunk is
compared with the bytes that are due, and nothing is decoded. That costs the generator about as much
as counting would, and no lost, doubled, changed or reordered message passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["FIRST_NUMBER", "Lost", "Stream", "Template", "payload"]

FIRST_NUMBER: Final = 10_000_000  # so that all have as many digits; Socket.IO drops leading zeros


class Lost(Exception):
    """A client did not receive what it should have, or not in order."""


def payload(number: int, size: int) -> bytes:
    """A JSON object of ``size`` bytes, numbered.

    Example:
        >>> payload(10_000_001, 32)
        b'{"n":"10000001","body":"xxxxxx"}'
    """
    head = b'{"n":"%d","body":"' % number
    return head + b"x" * (size - len(head) - 2) + b'"}'


class Template:
    """The frame of any number, learned from one of them.

    Example:
        >>> Template(b"<10000000>", 10_000_000).make(10_000_017)
        b'<10000017>'
    """

    __slots__ = ("_parts", "size")

    def __init__(self, sample: bytes, number: int) -> None:
        self._parts = sample.split(b"%d" % number)
        if len(self._parts) == 1:
            raise Lost(f"the number {number} is not in {sample!r}")
        self.size = len(sample)

    def make(self, number: int) -> bytes:
        return (b"%d" % number).join(self._parts)


class Stream:
    """All that each of some clients is to receive, and how much of it each has.

    Args:
        size: Of every message, in bytes.
        count: Clients.

    Attributes:
        complete_count: Messages that all clients have.
    """

    __slots__ = ("_count", "_due", "_missing", "_positions", "_size", "_told", "complete_count")

    def __init__(self, size: int, count: int) -> None:
        self._size = size
        self._due = bytearray()
        self._count = count
        self._positions = [0] * count
        self._missing: list[int] = []  # clients that do not have it yet, by message
        self._told: dict[int, int] = {}  # what ``arrived`` has said of messages under way
        self.complete_count = 0

    def expect(self, message: bytes) -> None:
        """One more message is due to every client."""
        assert len(message) == self._size
        self._due += message
        self._told[len(self._missing)] = self._count
        self._missing.append(self._count)

    def receiver(self, client: int) -> Callable[[bytes], None]:
        """What is called with the bytes that a client receives; raises Lost if they are not due.

        This is the innermost loop of the generator: up to a million messages a second.
        """
        due, missing, size = self._due, self._missing, self._size
        positions, startswith = self._positions, self._due.startswith

        def receive(chunk: bytes) -> None:
            start = positions[client]
            end = start + len(chunk)
            if not startswith(chunk, start):
                found = f"should have received {bytes(due[start:end])[:300]!r}, got {chunk[:300]!r}"
                raise Lost(f"client {client} {found}")
            positions[client] = end
            for message in range(start // size, end // size):
                missing[message] -= 1
                if not missing[message]:
                    self.complete_count += 1

        return receive

    def arrived(self) -> Iterator[tuple[int, int]]:
        """Yield each message and how many clients received it since this was last asked."""
        for message, told in list(self._told.items()):
            missing = self._missing[message]
            if missing != told:
                yield message, told - missing
                if missing:
                    self._told[message] = missing
                else:
                    del self._told[message]

    @property
    def is_complete(self) -> bool:
        """All clients have everything."""
        return self.complete_count == len(self._missing)
