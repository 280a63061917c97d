"""What a node could know of others: the messages that came to it, whatever it made of them."""

from __future__ import annotations

import msgspec

from roost.crdt.origin import OriginId
from roost.testing.simulated_node import SimulatedNode
from roost.tracker.messages import (
    Alive,
    Changes,
    Digest,
    Goodbye,
    Heartbeat,
    Hello,
    Probe,
    TrackerMessage,
)

__all__ = ["Witness"]


class Witness(msgspec.Struct):
    """What came to one node, as it would have to remember it.

    Args:
        signs: Origin → when a message by it last came, in whatever way and however old.
        heard: Origin → when one last came that is a sign of life for certain.
        up_at: Origin → when the first sign came since an entry of it last left.
        announced: Origin → the highest number that the node was told of.
        left_at: Ref → when the node last told that it left.
    """

    signs: dict[OriginId, float] = {}
    heard: dict[OriginId, float] = {}
    up_at: dict[OriginId, float] = {}
    announced: dict[OriginId, int] = {}
    left_at: dict[str, float] = {}

    def note(self, node: SimulatedNode, message: TrackerMessage, now: float) -> None:
        sender = message.sender
        self.signs[sender] = now
        self.up_at.setdefault(sender, now)
        match message:
            case Goodbye() | Alive():
                pass  # the end of it; perhaps the answer to another question
            case Probe(via=via) if via not in (None, node.tracker.origin.name):
                pass
            case _:
                self.heard[sender] = now
        match message:
            case Heartbeat(seq=seq) | Hello(seq=seq) | Alive(seq=seq):
                self._announce(sender, seq)
            case Changes(part=part):
                self._announce(sender, part.end)
            case Digest(seqs=seqs):
                for origin, seq in seqs:
                    self._announce(origin, seq)
            case _:
                pass

    def _announce(self, origin: OriginId, seq: int) -> None:
        self.announced[origin] = max(seq, self.announced.get(origin, 0))
