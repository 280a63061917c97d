"""This node, as the parts of the replication see it: its id, its time, and what it sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from roost.crdt.origin import OriginId
from roost.crdt.slice import Slice
from roost.tracker.clock import Clock
from roost.tracker.messages import TrackerMessage
from roost.tracker.options import ReplicationOptions
from roost.tracker.path import Path

__all__ = ["RENAMED", "Envelope", "Node", "Rng"]

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


class Node:
    """This node.

    Args:
        own: The slice that it writes.
        options: The periods.
        rng: Chooses whom to ask.
        new_nonce: Makes 64 random bits.
        now: The present time of the caller.

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
        self._out: list[Envelope] = []

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

    def renamed(self) -> str:
        """Another name for this node, reached as it was before."""
        return f"{_address(self.id.name)}{RENAMED}{self.new_nonce():016x}"

    def take_out(self) -> Sequence[Envelope]:
        """What to send now; handed over once."""
        out, self._out = self._out, []
        return out

    def _put(self, to: str | None, message: TrackerMessage) -> None:
        if not self.is_closed:
            self._out.append(Envelope(to, message))


def _address(name: str) -> str:
    """The name that a node was given, by which it is reached."""
    return name.partition(RENAMED)[0]
