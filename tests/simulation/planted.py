"""Bugs to plant into the protocol from outside, by what it is told: they break without its inside.

Each is a context manager that changes the methods through which a shell drives the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from msgspec.structs import replace

from roost.tracker.messages import (
    Changes,
    ChunkTransfer,
    Goodbye,
    Heartbeat,
    Hello,
    TrackerMessage,
    Transfer,
)
from roost.tracker.replication import ReplicationProtocol

__all__ = [
    "data_creates_origins",
    "goodbyes_are_ignored",
    "memories_are_signs_of_life",
    "removals_are_lost",
    "sleep_counts_as_silence",
    "who_comes_back_is_shown_at_once",
]

Receive = Callable[[ReplicationProtocol, TrackerMessage, float], None]


@contextmanager
def _receiving(make: Callable[[Receive], Receive]) -> Iterator[None]:
    with patch.object(ReplicationProtocol, "receive", make(ReplicationProtocol.receive)):
        yield


def data_creates_origins():
    """Whoever is told of the slice of an origin takes the origin for alive."""

    def make(receive: Receive) -> Receive:
        def buggy(self: ReplicationProtocol, message: TrackerMessage, now: float) -> None:
            if isinstance(message, Transfer | ChunkTransfer):
                receive(self, Hello(message.origin, 0), now)
            receive(self, message, now)

        return buggy

    return _receiving(make)


def goodbyes_are_ignored():
    """Who says goodbye stays until its silence tells."""

    def make(receive: Receive) -> Receive:
        def buggy(self: ReplicationProtocol, message: TrackerMessage, now: float) -> None:
            if not isinstance(message, Goodbye):
                receive(self, message, now)

        return buggy

    return _receiving(make)


def removals_are_lost():
    """A range removes nothing."""

    def make(receive: Receive) -> Receive:
        def buggy(self: ReplicationProtocol, message: TrackerMessage, now: float) -> None:
            if isinstance(message, Changes):
                message = replace(message, part=replace(message.part, removed=()))
            receive(self, message, now)

        return buggy

    return _receiving(make)


def who_comes_back_is_shown_at_once():
    """A node that is up again is shown as it is held, without asking for what is missing."""

    def make(receive: Receive) -> Receive:
        def buggy(self: ReplicationProtocol, message: TrackerMessage, now: float) -> None:
            if isinstance(message, Heartbeat | Hello):
                for peer in self.peers:
                    if peer.origin == message.sender and not peer.is_up:
                        receive(self, Hello(peer.origin, peer.held.seq), now)
            receive(self, message, now)

        return buggy

    return _receiving(make)


@contextmanager
def memories_are_signs_of_life() -> Iterator[None]:
    """Whoever is known to a node is heard by it, over and over."""
    handle_timer, receive = ReplicationProtocol.handle_timer, ReplicationProtocol.receive

    def buggy(self: ReplicationProtocol, now: float) -> None:
        for peer in self.peers:
            receive(self, Heartbeat(peer.origin, peer.held.seq, 0), now)
        handle_timer(self, now)

    with patch.object(ReplicationProtocol, "handle_timer", buggy):
        yield


@contextmanager
def sleep_counts_as_silence() -> Iterator[None]:
    """The clock of the protocol goes on while its process sleeps."""
    handle_timer = ReplicationProtocol.handle_timer

    def buggy(self: ReplicationProtocol, now: float) -> None:
        last = getattr(self, "woke_at", now)
        while last + 1 < now:
            last += 1
            handle_timer(self, last)
        handle_timer(self, now)
        self.__dict__["woke_at"] = now

    with patch.object(ReplicationProtocol, "handle_timer", buggy):
        yield
