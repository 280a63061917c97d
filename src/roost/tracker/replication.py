"""The conversation between the trackers of nodes, sans I/O.

Theory of operation (docs/replication.md). Each node is an origin and the only writer of its slice;
this one holds a copy of every other. An origin broadcasts its changes as ranges when it has any,
and a heartbeat with its number in any case; whoever finds a gap asks for the rest. Digests, to one
peer at a time, find what neither has noticed.

``members`` judges who lives, ``repair`` fetches what is missing, ``view`` shows what is held of
those who live; here messages are handed to them, and this node's own changes go out. Liveness and
the slice belong to the node, and are shared by its trackers.

Time is the protocol's own (``clock``), so that nobody is judged for this process's own sleep.
Handle all input that waits before a timer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Final, TypeAlias

import msgspec

from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.exceptions import InvalidMessage
from roost.naming import DEFAULT_LIMITS, NameLimits
from roost.tracker import messages
from roost.tracker.answers import PACE, Answers
from roost.tracker.members import JITTER, Members
from roost.tracker.messages import (
    VERSIONS,
    Alive,
    Changes,
    ChunkTransfer,
    Digest,
    Forked,
    Goodbye,
    Heartbeat,
    Hello,
    Part,
    Probe,
    Request,
    Superseded,
    TrackerMessage,
    Transfer,
    decode_message,
)
from roost.tracker.node import RENAMED, Envelope, Node, Rng, Room
from roost.tracker.options import ReplicationOptions
from roost.tracker.path import NO_MARK, Path
from roost.tracker.peer import Peer
from roost.tracker.protocol import TrackerProtocol
from roost.tracker.repair import Repair
from roost.tracker.view import View

__all__ = [
    "ClusterEvent",
    "Namesake",
    "PeerDown",
    "PeerGone",
    "PeerUp",
    "Renamed",
    "ReplicationProtocol",
]

DIGEST_COUNT: Final = 3  # digests that one differing node, or one hello, gets from all together


class PeerUp(msgspec.Struct, frozen=True):
    """A node is heard, for the first time or again."""

    origin: OriginId


class PeerDown(msgspec.Struct, frozen=True):
    """A node is silent, and what it tracks is hidden."""

    origin: OriginId


class PeerGone(msgspec.Struct, frozen=True):
    """A node said goodbye, was silent for too long to be remembered, or has begun another life.

    Args:
        origin: The node.
        was_silent: It was silent for too long.
    """

    origin: OriginId
    was_silent: bool = False


class Renamed(msgspec.Struct, frozen=True):
    """Two nodes carry one name, and this one took another: give each a name of its own."""

    old: str
    new: str


class Namesake(msgspec.Struct, frozen=True):
    """A node was given the name of this one, and took another: give each a name of its own."""

    origin: OriginId


ClusterEvent: TypeAlias = PeerUp | PeerDown | PeerGone | Renamed | Namesake


class ReplicationProtocol:
    """Replicate what this node tracks, and hold what all others do.

    Args:
        own: The slice that this node's trackers write.
        rng: Chooses whom to ask.
        new_nonce: Makes 64 random bits for a new id.
        now: The present time, monotonic, in seconds.
        options: The periods.
        room: Tells what the adapter takes; asked before anything large is made for it.
        link: What other nodes' adapters call the way to this one.
        versions: The lowest and the highest message version that this node reads.
        name_limits: How long the names of what others track may be.

    Attributes:
        options: The periods.
    """

    def __init__(
        self,
        own: Slice,
        *,
        rng: Rng,
        new_nonce: Callable[[], int],
        now: float,
        options: ReplicationOptions | None = None,
        room: Callable[[], Room] = Room,
        link: str = "",
        versions: tuple[int, int] = VERSIONS,
        name_limits: NameLimits = DEFAULT_LIMITS,
    ) -> None:
        self.options = options or ReplicationOptions()
        self._node = node = Node(
            own, self.options, rng=rng, new_nonce=new_nonce, now=now, room=room
        )
        self._members = Members(node, self)
        self._view = View(self._members)
        self._repair = Repair(node, self._members, self._view)
        self._answers = Answers(node, self._members)
        self._link = link
        self._versions = versions
        self._name_limits = name_limits
        self._broadcast_at = -self.options.broadcast_period
        self._tick_at = rng.random() * JITTER * self.options.heartbeat_period
        self._is_flush_cut = False  # there was no room for all that changed
        self._refuted_at: float | None = None
        self._events: list[ClusterEvent] = []
        self._say_hello()

    # In: from the shell.

    def add_tracker(self, tracker: TrackerProtocol) -> None:
        """A tracker of this node starts, and shows what others hold of its name."""
        self._view.add(tracker)

    def remove_tracker(self, tracker: TrackerProtocol) -> None:
        """It ended; what it tracked itself it has untracked."""
        self._view.remove(tracker)

    def link_up(self, name: str, now: float) -> None:
        """The adapter can reach a node: tell it of us, without waiting for a heartbeat."""
        self._node.clock.advance(now)
        self._node.send(name, self._hello())

    def link_down(self, link: str, now: float) -> None:
        """The adapter saw a link die: a hint, which any sign of life cancels."""
        self._node.clock.advance(now)
        self._members.link_down(link)

    def detached(self, now: float) -> None:
        """Our own attachment is gone, which says nothing about others."""
        self._node.clock.advance(now)
        self._node.is_detached = True
        self._members.detached()

    def attached(self, now: float) -> None:
        """It is back."""
        self._node.clock.advance(now)
        self._node.is_detached = False
        self._say_hello()

    def close(self, now: float) -> None:
        """Say goodbye; nothing is sent after it."""
        self._node.clock.advance(now)
        self._node.broadcast(Goodbye(self._node.id))
        self._node.is_closed = True

    def receive_data(self, data: bytes, now: float) -> None:
        """A message of another node, as bytes; what cannot be read is counted and skipped."""
        try:
            message = decode_message(data, limits=self._name_limits, counters=self.counters)
        except InvalidMessage:
            self.counters["unsound"] += 1
            return
        if message is None:
            self.counters["unknown_kind"] += 1  # of a later version
        else:
            self.receive(message, now)

    def receive(self, message: TrackerMessage, now: float) -> None:
        """A message of another node."""
        node, members = self._node, self._members
        node.clock.advance(now)
        if node.is_closed:
            return
        match message:
            case Goodbye(sender):
                members.close(sender)
                return
            case Superseded(sender, highest):
                # Heeded whoever says so, and never answered: its sender may be superseded, too.
                members.hear_known(sender)
                if highest.name == node.id.name and highest > node.id:
                    self.refuted(highest)
                return
            case Forked(sender, origin):
                members.hear_known(sender)
                if origin == node.id:
                    self.refuted(origin)
                return
            case Alive(_, _, _, seq):
                peer = members.receive_alive(message)
                if peer is not None:
                    self._repair.announced(peer, seq)
                return
            case Probe():
                # Answered whoever asks, or two nodes that forgot each other would ask for ever.
                members.receive_probe(message)
                return
        peer = members.hear(message.sender)
        if peer is None:
            return
        match message:
            case Heartbeat(_, seq, digest, versions, link):
                peer.digest, peer.versions, peer.link = digest, versions, link
                self._repair.announced(peer, seq)
            case Hello(_, seq, versions, link):
                peer.versions, peer.link = versions, link
                self._repair.announced(peer, seq)
                self._send_digest(peer, of=1)
            case Changes():
                self._repair.receive_changes(peer, message)
            case Digest():
                self._receive_digest(message)
            case Request():
                self._receive_request(message)
            case Transfer():
                self._repair.receive_transfer(message)
            case ChunkTransfer():
                self._answers.reordered(message.origin)
                self._repair.receive_chunk(message)
            case _:
                raise AssertionError(f"unknown message: {message!r}")

    def handle_timer(self, now: float) -> None:
        """It is ``next_timer``, or later; all input that waited was handled."""
        node = self._node
        node.clock.advance(now)
        if node.is_closed:
            return
        if node.clock.is_due(self._tick_at):
            self._tick()
        self._flush()
        for peer in self._members.due():
            self._members.handle_deadline(peer)
            if peer.show_at is not None and node.clock.is_due(peer.show_at):
                self._view.show(peer)
            self._repair.handle_deadline(peer)
        self._send_answers()

    # Out.

    def messages_to_send(self) -> Sequence[Envelope]:
        """What to send now; handed over once."""
        return self._node.take_out()

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is due; None after ``close``."""
        node = self._node
        if node.is_closed:
            return None
        due = self._tick_at
        if node.own.seq > node.broadcast_seq:
            period = PACE if self._is_flush_cut else self.options.broadcast_period
            due = min(due, self._broadcast_at + period)
        if self._answers.deadline is not None:
            due = min(due, self._answers.deadline)
        for deadline in self._members.deadlines():
            due = min(due, deadline)
        return node.clock.on_callers(due)

    def events(self) -> Sequence[ClusterEvent]:
        """What happened to nodes since the last call, in order."""
        events, self._events = self._events, []
        return events

    # Reads.

    @property
    def origin(self) -> OriginId:
        """The present id of this node."""
        return self._node.id

    @property
    def is_detached(self) -> bool:
        """Whether this node lost its attachment to the others."""
        return self._node.is_detached

    @property
    def has_namesake(self) -> bool:
        """Whether a node that is up has the name that this one was given."""
        return any(self._node.shares_address(peer.name) for peer in self._members.up())

    @property
    def peers(self) -> Sequence[Peer]:
        """All other origins that are known, to be read."""
        return list(self._members)

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and why: reason → how often."""
        return self._node.counters

    def behind_for(self, peer: Peer) -> float:
        """For how many seconds less has been held of a peer than there is; 0 if that is not so."""
        return 0.0 if peer.behind_at is None else self._node.clock.now - peer.behind_at

    @property
    def version(self) -> int:
        """The highest message version that this node and all peers that are up read.

        Those that share none with it do not count: nothing that it writes would be read by them.
        """
        peers = [peer for peer in self._members.up() if self._shares_version(peer)]
        return min([self._versions[1], *(peer.versions[1] for peer in peers)])

    @property
    def incompatible(self) -> Sequence[Peer]:
        """Peers that are up and share no message version with this node: they know of each other,
        and nothing else.
        """
        return [peer for peer in self._members.up() if not self._shares_version(peer)]

    def _shares_version(self, peer: Peer) -> bool:
        lowest, highest = self._versions
        return peer.versions[0] <= highest and peer.versions[1] >= lowest

    # What happens to others.

    def met(self, peer: Peer) -> None:
        peer.show_at = self._node.clock.now
        self._members.wait_for(peer)
        self._node.send(peer.name, self._hello())
        self._events.append(PeerUp(peer.origin))
        if RENAMED in peer.name and self._node.shares_address(peer.name):
            self._events.append(Namesake(peer.origin))

    def came_up(self, peer: Peer) -> None:
        # Who left meanwhile must not be shown: what is missing comes first.
        peer.show_at = self._node.clock.now + self.options.heartbeat_period
        peer.has_told = False
        self._repair.start_over(peer)
        self._node.send(peer.name, self._hello())
        self._events.append(PeerUp(peer.origin))

    def went_down(self, peer: Peer) -> None:
        self._view.hide(peer)
        self._events.append(PeerDown(peer.origin))

    def gone(self, peer: Peer) -> None:
        self._view.hide(peer)
        self._answers.reordered(peer.origin)
        self._repair.forget_holder(peer.name)
        silence = self._node.clock.now - peer.heard_at
        was_silent = not peer.is_up and silence > self.options.permdown_period
        self._events.append(PeerGone(peer.origin, was_silent))

    def refuted(self, highest: OriginId) -> None:
        """Others know a higher id of our name: take one above it, and publish afresh."""
        node = self._node
        old = node.id
        name = old.name
        last, self._refuted_at = self._refuted_at, node.clock.now
        if last is not None and node.clock.now - last <= self.options.down_period:
            name = node.renamed()
            self.counters["renamed"] += 1
            self._refuted_at = None
            self._events.append(Renamed(old.name, name))
        incarnation = max(highest.incarnation, old.incarnation) + 1
        node.own.renew(OriginId(name, incarnation, node.new_nonce()))
        self._answers.reordered(old)
        for tracker in self._view.trackers:
            tracker.renew()
        self.counters["renewed"] += 1
        node.broadcast_seq, node.path = 0, Path()
        self._say_hello()
        self._flush_now()

    # Our own changes.

    def _flush(self) -> None:
        period = PACE if self._is_flush_cut else self.options.broadcast_period
        if self._node.clock.is_due(self._broadcast_at + period):
            self._flush_now()

    def _flush_now(self) -> None:
        """Broadcast what changed, as far as there is room, and in any case some of it."""
        node = self._node
        own, path = node.own, node.path
        self._is_flush_cut = False
        while own.seq > node.broadcast_seq:
            if self._is_flush_cut and not node.has_room:
                break
            mark = node.new_nonce()
            change = own.cut(
                node.broadcast_seq,
                max_size=node.max_part_size,
                max_count=messages.MAX_PART_COUNT,
            )
            if change is None:
                # More changed than the log has: others fetch it when they hear the number.
                end = own.seq
            else:
                end = change.end
                part = Part.of(change, (path.mark, mark))
                node.broadcast(Changes(node.id, part, own.seq))
                node.sent_large(change.size)
            node.broadcast_seq = end
            path.add(end, mark)
            self._broadcast_at = node.clock.now
            self._is_flush_cut = own.seq > end

    def _send_answers(self) -> None:
        if not len(self._answers):
            return
        self._flush_now()  # chunks are those of a number that others know
        if self._node.own.seq == self._node.broadcast_seq:
            self._answers.send()

    def _hello(self) -> Hello:
        return Hello(self._node.id, self._node.broadcast_seq, self._versions, self._link)

    def _say_hello(self) -> None:
        self._node.broadcast(self._hello())

    # What each holds.

    def _tick(self) -> None:
        node = self._node
        self._tick_at = node.clock.now + self.options.heartbeat_period
        self._flush_now()
        digest = self._digest_hash()
        node.broadcast(Heartbeat(node.id, node.broadcast_seq, digest, self._versions, self._link))
        differing = [
            peer for peer in self._members.up() if peer.digest is not None and peer.digest != digest
        ]
        if differing:
            self._send_digest(node.rng.choice(differing), of=len(differing))
        self._members.tick()
        self._answers.tick()

    def _send_digest(self, peer: Peer, *, of: int) -> None:
        """Tell one of ``of`` peers that differ what we hold, unless enough others will.

        If few differ from many, all of these see it at once.
        """
        up_count = len(self._members.up())
        if self._node.rng.random() * up_count < DIGEST_COUNT * of:
            self._node.send(peer.name, self._digest())

    def _digest(self) -> Digest:
        points = self._points()
        return Digest(
            self._node.id,
            tuple([(origin, seq) for origin, seq, _ in points]),
            self._members.closed(),
            tuple([mark for _, _, mark in points]),
        )

    def _digest_hash(self) -> int:
        text = repr(sorted(self._points())).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def _points(self) -> list[tuple[OriginId, int, int]]:
        # Those that are down are kept out: some nodes still know them and others never did, and
        # the two would differ until all have forgotten.
        node = self._node
        peers = self._members.up()
        return [
            (node.id, node.broadcast_seq, node.path.mark),
            *((peer.origin, peer.held.seq, peer.mark) for peer in peers),
        ]

    def _receive_request(self, request: Request) -> None:
        node = self._node
        if request.origin == node.id:
            self._flush_now()
            # It was told of more than it holds: if there is not more, it was not told by us.
            seq = node.own.seq
            is_beyond = request.after > seq or (request.after == seq and not request.gaps)
            if is_beyond or node.path.judge(request.after, request.mark) is False:
                self.refuted(node.id)
                return
        self._answers.begin(request)
        self._send_answers()

    def _receive_digest(self, digest: Digest) -> None:
        node, members = self._node, self._members
        for origin in digest.closed:
            # None is remembered on hearsay, or nodes would remind each other for ever.
            if members.knows_name(origin.name) or origin == node.id:
                members.close(origin)
        marks = chain(digest.marks, repeat(NO_MARK))  # of nodes that know none
        for (origin, seq), mark in zip(digest.seqs, marks, strict=False):
            if origin == node.id:
                # Somebody else makes changes under our id?
                if seq > node.broadcast_seq or node.path.judge(seq, mark) is False:
                    self.refuted(origin)
                continue
            peer = members.get(origin)
            if peer is not None:
                if peer.contradicts(seq, mark):
                    self._repair.forked(peer)
                    continue
                self._repair.held_by(digest.sender.name, peer, seq)
                if not peer.is_up:  # the sender hears it: ask through others
                    members.ask_life(origin)
            elif members.may_be_met(origin):
                members.ask_life(origin)
