"""What others hold, what is missing here, and how it is fetched (docs/replication.md, rule 3).

A number that is announced and not held is a gap. One that lasts is asked for: of the origin if it
is heard directly, else of somebody who holds more; on a timeout of another one, with back-off. One
request is in flight for each origin. An answer is a number of messages, each of which is right by
itself: ranges, or chunks of a slice that no range leads to. What came of it stays, whatever becomes
of the rest, and the next request, to whomever, names what is still missing.
"""

from __future__ import annotations

from typing import Final

from roost.crdt.held import SliceDiff
from roost.tracker.members import Members
from roost.tracker.messages import (
    MAX_GAP_COUNT,
    Changes,
    ChunkTransfer,
    Forked,
    Part,
    Request,
    Transfer,
)
from roost.tracker.node import Node
from roost.tracker.path import NO_MARK
from roost.tracker.peer import Peer
from roost.tracker.view import View

__all__ = ["Repair"]

STALL_DELAYS: Final = 2  # repair delays without more of an answer, until the rest is asked for
JITTER: Final = 0.25  # of a timeout, so that nodes that miss the same do not all ask at once


class Repair:
    """Fetch what is missing of each peer.

    Args:
        node: This one.
        members: All others.
        view: Is told what changes.
    """

    def __init__(self, node: Node, members: Members, view: View) -> None:
        self._node = node
        self._members = members
        self._view = view
        self._last_number = 0

    def announced(self, peer: Peer, seq: int) -> None:
        """``peer`` itself says that there is its slice with number ``seq``."""
        peer.has_told = True
        self._there_is(peer, seq)

    def _there_is(self, peer: Peer, seq: int) -> None:
        peer.announced = max(peer.announced, seq)
        if not peer.is_behind:
            peer.behind_at = None
            self._show_if_current(peer)
            return
        if peer.behind_at is None:
            peer.behind_at = self._node.clock.now
        if peer.gap_at is None and peer.request is None:
            self._ask_soon(peer)

    def _ask_soon(self, peer: Peer) -> None:
        """Ask for what is missing, if it still is after the repair delay."""
        peer.gap_at = self._node.clock.now + self._node.options.repair_delay
        self._members.wait_for(peer)

    def _show_if_current(self, peer: Peer) -> None:
        # Others may know less of it than there is: it is current if it says so itself.
        if peer.show_at is not None and peer.has_told:
            self._view.show(peer)

    def held_by(self, name: str, peer: Peer, seq: int) -> None:
        """A node holds ``peer``'s slice with number ``seq``."""
        if seq > peer.held.seq:
            peer.holders.add(name)
        self._there_is(peer, seq)

    def start_over(self, peer: Peer) -> None:
        """A peer is back: what was asked for meanwhile, and how often, says nothing any more."""
        peer.request, peer.attempts = None, 0
        self._ask_soon(peer)

    def forget_holder(self, name: str) -> None:
        """A node is gone: it can be asked for nothing."""
        for peer in self._members:
            peer.holders.discard(name)

    def handle_deadline(self, peer: Peer) -> None:
        """A request is given up, or a gap has lasted."""
        is_due = self._node.clock.is_due
        if peer.request is not None and is_due(peer.request_ends_at):
            peer.request = None
            if peer.attempts:  # else some of the answer came, and the rest is lost or late
                peer.holders.discard(peer.request_to)
            self._ask(peer)
        if peer.gap_at is not None and is_due(peer.gap_at):
            peer.gap_at = None
            if peer.is_behind and peer.request is None:
                self._ask(peer)

    def _ask(self, peer: Peer) -> None:
        """Ask for what is missing."""
        if not peer.is_behind:
            return
        node = self._node
        others = sorted(name for name in peer.holders if self._members.hears(name))
        if self._members.is_heard(peer) and (peer.attempts % 2 == 0 or not others):
            to = peer.name
        elif others:
            to = node.rng.choice(others)
        elif peer.is_up:
            to = peer.name
        else:
            return  # until it lives, or somebody says that it holds more
        self._last_number += 1
        peer.request, peer.request_to = self._last_number, to
        timeout = node.options.request_timeout
        if peer.held.is_partial:  # answers are on their way: only this one may be lost
            timeout = min(timeout, STALL_DELAYS * node.options.repair_delay)
        backoff = min(timeout * 2**peer.attempts, node.options.max_request_timeout)
        peer.request_ends_at = node.clock.now + backoff * (1 + node.rng.random() * JITTER)
        self._members.wait_for(peer)
        peer.attempts += 1
        held = peer.held
        node.send(
            to,
            Request(
                node.id,
                peer.origin,
                held.at,
                self._last_number,
                peer.marks.get(held.at, NO_MARK),
                tuple(held.gaps[-MAX_GAP_COUNT:]),
                held.known,
                peer.ahead[0].start if peer.ahead else 0,
            ),
        )

    def receive_changes(self, peer: Peer, changes: Changes) -> None:
        """A range that a peer broadcast."""
        if self._receive_range(peer, changes.part):
            self.announced(peer, max(changes.seq, changes.part.end))
            self._settle(peer)

    def receive_transfer(self, transfer: Transfer) -> None:
        """Ranges in answer to a request."""
        peer = self._members.get(transfer.origin)
        if peer is None:
            return  # data creates no origin
        before = peer.held.at
        for part in transfer.parts:
            if not self._receive_range(peer, part):
                return
            self._there_is(peer, part.end)
        self._answered(peer, transfer, has_gained=peer.held.at > before)

    def receive_chunk(self, transfer: ChunkTransfer) -> None:
        """A chunk in answer to a request."""
        peer = self._members.get(transfer.origin)
        if peer is None:
            return
        held, end = peer.held, transfer.end
        chunk = transfer.chunk()
        if peer.contradicts(end, transfer.mark) or (end >= held.seq and held.contradicts(chunk)):
            self.forked(peer)
            return
        diff, was_partial, began_at = None, held.is_partial, held.began_at
        # One of an earlier number than what came since must be of the same history for certain.
        if end >= held.at or peer.marks.get(end) == transfer.mark != NO_MARK:
            diff = held.take(chunk, starts_over=transfer.number == peer.request)
        if diff is not None:
            peer.note(end, transfer.mark)
            self._view.changed(peer, diff)
        self._there_is(peer, end)
        # A slice that is begun once more is no gain: it may be begun again and again.
        starts_over = was_partial and held.is_partial and held.began_at != began_at
        has_gained = diff is not None and not starts_over
        self._answered(peer, transfer, has_gained=has_gained)

    def _answered(
        self, peer: Peer, transfer: Transfer | ChunkTransfer, *, has_gained: bool
    ) -> None:
        """A part of an answer came."""
        node = self._node
        if transfer.number == peer.request:
            if has_gained:
                peer.attempts = 0
            # As long as more of it comes, nobody else is asked.
            stall = STALL_DELAYS * node.options.repair_delay
            peer.request_ends_at = node.clock.now + stall * (1 + node.rng.random() * JITTER)
            self._members.wait_for(peer)
            if transfer.is_last:
                peer.request = None
        self._settle(peer)
        if peer.is_behind and peer.request is None and transfer.is_last:
            if has_gained:
                self._ask(peer)
            elif peer.gap_at is None:
                self._ask_soon(peer)

    def _receive_range(self, peer: Peer, part: Part) -> bool:
        """Take a range; return whether its history is the one that is known."""
        start_mark, end_mark = part.marks
        if (
            peer.overlaps(part.start, part.end)
            or peer.contradicts(part.start, start_mark)
            or peer.contradicts(part.end, end_mark)
        ):
            self.forked(peer)
            return False
        peer.note(part.start, start_mark)
        peer.note(part.end, end_mark)
        change = part.range(peer.origin.ref_prefix)
        if not peer.held.reaches(change):
            peer.keep_ahead(change)
            return True
        self._changed(peer, peer.held.apply(change))
        return True

    def _settle(self, peer: Peer) -> None:
        """Do what follows from more being held: what waited for it, and an end of asking."""
        while (change := peer.next_ahead()) is not None:
            self._changed(peer, peer.held.apply(change))
        peer.moved()
        if not peer.is_behind:
            peer.gap_at, peer.request, peer.attempts = None, None, 0
            peer.behind_at = None
            peer.holders.clear()
            self._show_if_current(peer)

    def _changed(self, peer: Peer, diff: SliceDiff | None) -> None:
        if diff is not None:
            self._view.changed(peer, diff)

    def forked(self, peer: Peer) -> None:
        """There is proof that two histories are told under one id: it is over for both.

        What is held is that of one of them, and stays as it is until the other id is there.
        """
        node = self._node
        node.counters["forked"] += 1
        if peer.is_up:
            node.send(peer.name, Forked(node.id, peer.origin))
