"""One node by itself: a test is everybody that it talks to, and its clock."""

from __future__ import annotations

import random
from itertools import count
from typing import TypeVar

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from roost.tracker.messages import (
    VERSIONS,
    Changes,
    ChunkTransfer,
    Heartbeat,
    Part,
    Probe,
    TrackerMessage,
    Transfer,
)
from roost.tracker.node import Envelope
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import Peer
from roost.tracker.protocol import Joined, TrackerProtocol, Updated
from roost.tracker.replication import ReplicationProtocol

__all__ = ["OneNode", "add", "changes", "heartbeat", "origin", "range_from", "transfer"]

Kind = TypeVar("Kind", bound=TrackerMessage)


class OneNode:
    """Node ``a``, its tracker and what it has to say.

    Args:
        own: Its id.
        options: The periods.
        link: What other nodes' adapters call the way to it.
        versions: The lowest and the highest message version that it reads.

    Attributes:
        sent: What it sent since the test last looked.
    """

    def __init__(
        self,
        own: OriginId | None = None,
        *,
        options: ReplicationOptions | None = None,
        link: str = "",
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        nonces = count(1_000)
        self.now = 0.0
        self.tracker = TrackerProtocol(Slice(own or origin("a")))
        self.replication = ReplicationProtocol(
            self.tracker.own,
            rng=random.Random(1),
            new_nonce=lambda: next(nonces),
            now=self.now,
            options=options,
            link=link,
            versions=versions,
        )
        self.replication.add_tracker(self.tracker)
        self.sent: list[Envelope] = []

    def add_tracker(self, name: str) -> TrackerProtocol:
        """Another tracker of this node starts."""
        tracker = TrackerProtocol(self.tracker.own, name=name)
        self.replication.add_tracker(tracker)
        return tracker

    def hear(self, *messages: TrackerMessage) -> None:
        """Messages arrive."""
        for message in messages:
            self.replication.receive(message, self.now)
        self.sent += self.replication.messages_to_send()

    def advance(self, seconds: float, *heard: TrackerMessage) -> None:
        """Let time pass; what is ``heard`` arrives again and again, once a second."""
        end = self.now + seconds
        hears_at = self.now
        while (timer := self.replication.next_timer()) is not None and self.now < end:
            self.now = min(max(timer, self.now), hears_at, end)
            if self.now == hears_at:
                hears_at += 1.0
                self.hear(*heard)
            self.replication.handle_timer(self.now)
            self.sent += self.replication.messages_to_send()

    def said(self, kind: type[Kind]) -> list[tuple[str | None, Kind]]:
        """What it sent of one kind, and to whom; all else that it sent is forgotten as well."""
        sent, self.sent = self.sent, []
        return [(each.to, each.message) for each in sent if isinstance(each.message, kind)]

    def told(self) -> tuple[list[str], list[str]]:
        """The refs that joined and that left since the last call."""
        joins, leaves = [], []
        for event in self.tracker.events():
            if isinstance(event, Updated):
                joins.append(event.new.ref)
                leaves.append(event.old.ref)
            elif isinstance(event, Joined):
                joins.append(event.entry.ref)
            else:
                leaves.append(event.entry.ref)
        return joins, leaves

    def up(self) -> list[OriginId]:
        """The origins that it believes to live."""
        return [peer.origin for peer in self.replication.peers if peer.is_up]

    def peer(self, who: OriginId) -> Peer | None:
        """What it knows of another origin; None if nothing."""
        return next((peer for peer in self.replication.peers if peer.origin == who), None)

    def probes(self, who: OriginId) -> list[Probe]:
        """The direct questions whether ``who`` lives."""
        return [probe for to, probe in self.said(Probe) if to == probe.target.name == who.name]


def origin(name: str, incarnation: int = 1) -> OriginId:
    """An id of a node."""
    return OriginId(name, incarnation, 256 * ord(name) + incarnation)


def add(theirs: Slice, key: str, topic: str = "room:1", *, tracker: str = "") -> str:
    """Another node tracks something; return the ref."""
    meta = f'{{"phx_ref":"{theirs.next_ref}"}}'.encode()
    return theirs.add(topic, key, meta, owner=theirs.seq + 1, tracker=tracker).ref


def heartbeat(theirs: Slice, *, versions: tuple[int, int] = VERSIONS, link: str = "") -> Heartbeat:
    """What another node says of itself."""
    return Heartbeat(theirs.origin, theirs.seq, 0, versions, link)


def range_from(theirs: Slice, start: int, end: int | None = None) -> Range:
    """A range that the log of a slice has."""
    change = theirs.range_from(start, end)
    assert change is not None
    return change


def changes(theirs: Slice, start: int = 0) -> Changes:
    """What another node broadcasts that it changed."""
    change = range_from(theirs, start)
    return Changes(theirs.origin, Part.of(change, (0, 0)), theirs.seq)


def transfer(
    sender: OriginId, theirs: Slice, change: Range | Chunk | None = None, number: int = 1
) -> Transfer | ChunkTransfer:
    """What ``sender`` hands on of another node: all that it tracks, or a range of it."""
    change = change or theirs.snapshot()
    if isinstance(change, Range):
        parts = (Part.of(change, (0, 0)),)
        return Transfer(sender, theirs.origin, number, parts, True)
    return ChunkTransfer.of(
        change, sender=sender, origin=theirs.origin, number=number, mark=0, is_last=True
    )
