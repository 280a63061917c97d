"""What a node could know of others: the messages that came to it, whatever it made of them."""

from __future__ import annotations

import msgspec

from roost.crdt.incarnation import OriginId
from roost.testing.simulated_node import SimulatedNode
from roost.tracker.messages import (
    Alive,
    Changes,
    Digest,
    Forked,
    Goodbye,
    Heartbeat,
    Hello,
    Probe,
    Superseded,
    TrackerMessage,
)

__all__ = ["Witness"]


class Witness(msgspec.Struct):
    """What came to one node, as it would have to remember it.

    Args:
        signs: Origin → when a message by it last came, in whatever way and however old.
        heard: Origin → when one last came that is a sign of life for certain.
        known: Origin → when one last came that makes it a peer if it is none.
        up_at: Origin → when the first sign came since an entry of it last left.
        announced: Origin → the highest number that the node heard of.
        left_at: Ref → when the node last announced that it left.
        closed_at: Origin → when its goodbye came.
        revived_at: Origin → when a message by it came after a silence so long that it had to be
            forgotten by then, and before the memory of that could end.
    """

    signs: dict[OriginId, float] = {}
    heard: dict[OriginId, float] = {}
    known: dict[OriginId, float] = {}
    up_at: dict[OriginId, float] = {}
    announced: dict[OriginId, int] = {}
    left_at: dict[str, float] = {}
    closed_at: dict[OriginId, float] = {}
    revived_at: dict[OriginId, float] = {}

    def note(self, node: SimulatedNode, message: TrackerMessage, now: float) -> None:
        sender = message.sender
        last = self.signs.get(sender)
        if last is not None and now - last > node.replication.options.permdown_period:
            self._note_silence(node, sender, now)
        self.signs[sender] = now
        self.up_at.setdefault(sender, now)
        match message:
            case Goodbye():
                self.closed_at.setdefault(sender, now)
            case Alive():
                pass  # perhaps the answer to another question
            case Probe(via=via) if via not in (None, node.tracker.origin.name):
                pass
            case Superseded() | Forked():
                self.heard[sender] = now
            case _:
                self.heard[sender] = now
                if last is None or _is_peer(node, sender):  # else it is asked whether it lives
                    self.known[sender] = now
        match message:
            case Heartbeat(seq=seq) | Hello(seq=seq):
                self._announce(sender, seq)
            case Alive(asker=asker, seq=seq):
                if asker == node.tracker.origin.name:  # else it is passed on, or for a namesake
                    self._announce(sender, seq)
            case Changes(seq=seq):
                self._announce(sender, seq)
            case Digest(seqs=seqs) if _is_peer(node, sender):
                for origin, seq in seqs:
                    self._announce(origin, seq)
            case _:
                pass

    def _note_silence(self, node: SimulatedNode, sender: OriginId, now: float) -> None:
        known = self.known.get(sender)
        if known is None:
            return  # nothing had to be forgotten
        options = node.replication.options
        permdown, heartbeat = options.permdown_period, options.heartbeat_period
        shortest = node.awake(self.signs[sender], now)
        # The protocol's clock goes on by two heartbeats in each sleep.
        longest = node.awake(known, now) + 2 * heartbeat * len(node.slept(known))
        if shortest > permdown + 2 * heartbeat and longest < 2 * permdown:
            self.revived_at[sender] = now

    def _announce(self, origin: OriginId, seq: int) -> None:
        self.announced[origin] = max(seq, self.announced.get(origin, 0))


def _is_peer(node: SimulatedNode, origin: OriginId) -> bool:
    """Whether a node takes a digest of an origin; one that it has forgotten it asks first."""
    return any(each.origin == origin for each in node.replication.peers)
