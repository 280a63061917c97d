"""This node, as the parts of the replication see it: its id, its time, and what it sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.clock import Clock
from roost.tracker.messages import MAX_PART_SIZE, TrackerMessage
from roost.tracker.options import ReplicationOptions
from roost.tracker.path import Path

__all__ = ["RENAMED", "Envelope", "Node", "Rng", "Room"]

TURN_SIZE: Final = 1 << 18  # bytes of large messages made in one go: a few milliseconds
FRAME_SIZE: Final = 2_048  # bytes that ids, names and the adapter put around a part at most
MIN_PART_SIZE: Final = 1_024  # bytes: to parts that are still too large the adapter sees itself
RENAMED: Final = "~"  # ends the name that a node was given, in one that it took itself

T = TypeVar("T")


class Rng(Protocol):
    """A source of chance, such as ``random.Random``."""

    def random(self) -> float:
        """A number from 0 to 1."""
        ...

    def choice(self, options: Sequence[T], /) -> T:
        """One of the options."""
        ...

    def sample(self, population: Sequence[T], k: int, /) -> list[T]:
        """``k`` different ones."""
        ...


class Envelope(msgspec.Struct, frozen=True):
    """A message, and the node that it is for, by the name it was given; None: all others."""

    to: str | None
    message: TrackerMessage


class Room(msgspec.Struct, frozen=True):
    """What the way to other nodes takes now.

    Args:
        size: Bytes that may be sent without much waiting before them. The first message of each
            input goes in any case.
        max_size: Bytes that it carries in one piece; None for any number.
    """

    size: int = 1 << 20
    max_size: int | None = None


class Node:
    """This node.

    Args:
        own: The slice that it writes.
        options: The periods.
        rng: Chooses whom to ask.
        new_nonce: Makes 64 random bits.
        now: The present time of the caller.
        room: Tells what the way to other nodes takes.

    Attributes:
        clock: Its time, which a sleep of this process does not advance.
        broadcast_seq: The last number of its own slice that was broadcast.
        path: That number and those before it, with their marks.
        is_closed: It said goodbye, and sends nothing more.
        is_detached: It lost its attachment to the others, and knows it.
        counters: What was dropped and why: reason → how often.
    """

    def __init__(
        self,
        own: Slice,
        options: ReplicationOptions,
        *,
        rng: Rng,
        new_nonce: Callable[[], int],
        now: float,
        room: Callable[[], Room] = Room,
    ) -> None:
        self.own = own
        self.options = options
        self.rng = rng
        self.new_nonce = new_nonce
        self.clock = Clock(now, max_step=2 * options.heartbeat_period)
        self.broadcast_seq = 0
        self.path = Path()
        self.is_closed = False
        self.is_detached = False
        self.counters: Counter[str] = Counter()
        self._room = room
        self._out: list[Envelope] = []
        self._out_size = 0  # bytes of what was sent as large

    @property
    def id(self) -> OriginId:
        return self.own.origin

    def send(self, to: str, message: TrackerMessage) -> None:
        """Send to the node of a name, which may be one that it took itself."""
        self._put(_address(to), message)

    def shares_address(self, name: str) -> bool:
        """Whether what is sent to a node of that name reaches this one as well."""
        return _address(name) == _address(self.id.name)

    def broadcast(self, message: TrackerMessage) -> None:
        """Send to all others."""
        self._put(None, message)

    @property
    def has_room(self) -> bool:
        """Whether the way to other nodes takes another large message now."""
        return self._out_size < min(self._room().size, TURN_SIZE)

    @property
    def is_turn_over(self) -> bool:
        """Whether it is only for now that no large message is made."""
        return self._out_size < self._room().size

    @property
    def max_part_size(self) -> int:
        """How many bytes a large message should have at most."""
        max_size = self._room().max_size
        if max_size is None:
            return MAX_PART_SIZE
        return max(min(MAX_PART_SIZE, max_size - FRAME_SIZE), MIN_PART_SIZE)

    def sent_large(self, size: int) -> None:
        """A large message was sent; it has about so many bytes."""
        self._out_size += size

    def renamed(self) -> str:
        """Another name for this node, reached as it was before."""
        return f"{_address(self.id.name)}{RENAMED}{self.new_nonce():016x}"

    def take_out(self) -> Sequence[Envelope]:
        """What to send now; handed over once."""
        out, self._out = self._out, []
        self._out_size = 0
        return out

    def _put(self, to: str | None, message: TrackerMessage) -> None:
        if not self.is_closed:
            self._out.append(Envelope(to, message))


def _address(name: str) -> str:
    """The name that a node was given, by which it is reached."""
    return name.partition(RENAMED)[0]
