"""What others hold, what is missing here, and how it is fetched (REPLICATION.md section 3).

A number that is announced and not held is a gap. One that lasts is asked for: of the origin if it
is heard directly, else of somebody who holds more; on a timeout of another one, with back-off. An
answer is a range, or a snapshot, in parts. One transfer is in flight for each origin.
"""

from __future__ import annotations

from typing import Final

from roost.crdt.slice import Range
from roost.tracker.members import Members
from roost.tracker.messages import Changes, Forked, Part, Request, Transfer, split
from roost.tracker.node import Node
from roost.tracker.peer import Peer
from roost.tracker.view import View

__all__ = ["Repair"]

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
            self._show_if_current(peer)
        elif peer.gap_at is None and peer.request is None:
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
        peer.gap_at = self._node.clock.now + self._node.options.repair_delay
        self._members.wait_for(peer)

    def forget_holder(self, name: str) -> None:
        """A node is gone: it can be asked for nothing."""
        for peer in self._members:
            peer.holders.discard(name)

    def handle_deadline(self, peer: Peer) -> None:
        """A request is given up, or a gap has lasted."""
        is_due = self._node.clock.is_due
        if peer.request is not None and is_due(peer.request_ends_at):
            peer.request = None
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
        backoff = min(
            node.options.request_timeout * 2**peer.attempts, node.options.max_request_timeout
        )
        peer.request_ends_at = node.clock.now + backoff * (1 + node.rng.random() * JITTER)
        self._members.wait_for(peer)
        peer.attempts += 1
        request = Request(node.id, peer.origin, peer.held.seq, self._last_number, peer.mark)
        node.send(to, request)

    def answer(self, request: Request) -> None:
        """Send what is asked for, if it is there."""
        node = self._node
        if request.origin == node.id:
            # A range is right only for a point of our own history.
            is_ours = node.path.judge(request.after, request.mark)
            own, mark = node.own, node.path.mark
            change = own.range_from(request.after) if is_ours else own.snapshot()
        else:
            peer = self._members.get(request.origin)
            if peer is None or peer.held.seq <= request.after:
                return
            change, mark = peer.held.snapshot(), peer.mark
        origin, number = request.origin, request.number
        for part in split(change):
            node.send(request.sender.name, Transfer(node.id, origin, number, part, mark))

    def receive_changes(self, peer: Peer, changes: Changes) -> None:
        """A range that a peer broadcast."""
        part, (start_mark, end_mark) = changes.part, changes.marks
        if (
            peer.overlaps(part.start, part.end)
            or peer.contradicts(part.start or 0, start_mark)
            or peer.contradicts(part.end, end_mark)
        ):
            self.forked(peer)
            return
        if part.start is not None:
            peer.note(part.start, start_mark)
        peer.note(part.end, end_mark)
        self.announced(peer, part.end)
        self._receive_part(peer, part, changes.marks)

    def forked(self, peer: Peer) -> None:
        """There is proof that two histories are told under one id: it is over for both.

        What is held is that of one of them, and stays as it is until the other id is there.
        """
        node = self._node
        node.counters["forked"] += 1
        if peer.is_up:
            node.send(peer.name, Forked(node.id, peer.origin))

    def receive_transfer(self, transfer: Transfer) -> None:
        """A part of an answer."""
        peer = self._members.get(transfer.origin)
        if peer is None:
            return  # data creates no origin
        if transfer.number == peer.request:
            timeout = self._node.options.max_request_timeout
            peer.request_ends_at = max(peer.request_ends_at, self._node.clock.now + timeout)
        seq, part = peer.held.seq, transfer.part
        if peer.contradicts(part.end, transfer.mark):
            self.forked(peer)
            return
        peer.note(part.end, transfer.mark)
        self._there_is(peer, part.end)
        if part.start is not None and part.start > seq:
            return  # it was asked for in another life, or by a clone: from which point is not known
        answer = transfer.sender, transfer.number, transfer.mark  # two clones answer both
        self._receive_part(peer, part, answer)
        if transfer.number == peer.request and peer.overlaps(part.start, part.end):
            peer.request = None
            self._ask(peer)
            return
        if transfer.number == peer.request and peer.held.seq > seq:
            # It is whole, and not all there is: ask for the rest.
            peer.request, peer.attempts = None, 0
            self._there_is(peer, peer.announced)

    def _receive_part(self, peer: Peer, part: Part, answers: object) -> None:
        change: Range | None = peer.assembly.add(part, answers, self._node.clock.now)
        if change is None:
            return
        if not peer.held.reaches(change):
            peer.keep_ahead(change)
            return
        if peer.overlaps(change.start, change.end):
            return  # what is held came after this was asked for, and may not be on its way
        if change.start is None and peer.held.contradicts(change):
            self.forked(peer)
            return
        while change is not None:
            diff = peer.held.apply(change)
            if diff is not None:
                self._view.changed(peer, diff)
            change = peer.next_ahead()
        peer.moved()
        if not peer.is_behind:
            peer.gap_at, peer.request, peer.attempts = None, None, 0
            peer.holders.clear()
            self._show_if_current(peer)

    def tick(self) -> None:
        """Drop what arrives in parts and made no progress for two heartbeats."""
        before = self._node.clock.now - 2 * self._node.options.heartbeat_period
        for peer in self._members:
            peer.assembly.drop_stale(before)
