"""A few nodes with a link between them that delays and loses, on a clock of their own."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from itertools import count

from roost.crdt.slice import Slice
from roost.tracker.messages import (
    ChunkTransfer,
    TrackerMessage,
    Transfer,
    decode_message,
    encode_message,
)
from roost.tracker.node import Room
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import Peer
from roost.tracker.protocol import Joined, Left, TrackerProtocol
from roost.tracker.replication import ReplicationProtocol
from tests.tracker.one_node import origin

__all__ = ["DELAY", "ROOM", "Linked", "Member"]

DELAY = 0.002  # seconds that a message takes
ROOM = "room:1"


class Member:
    """One node.

    Attributes:
        room: What its way to others takes.
        shown: Refs that its tracker has told of as joined, and not as left.
    """

    def __init__(
        self, name: str, now: float, log_count: int, options: ReplicationOptions | None
    ) -> None:
        rng = random.Random(f"member {name}")
        self.name = name
        self.room = Room()
        self.tracker = TrackerProtocol(Slice(origin(name), log_count=log_count))
        self.replication = ReplicationProtocol(
            self.tracker.own,
            rng=rng,
            new_nonce=lambda: rng.getrandbits(64),
            now=now,
            options=options,
            room=lambda: self.room,
        )
        self.replication.add_tracker(self.tracker)
        self.shown: set[str] = set()

    def fill(self, count: int, text: str = "") -> None:
        """So many users come."""
        for n in range(count):
            self.tracker.track(ROOM, f"user:{n}", {"text": text} if text else {}, owner=n)

    def held_of(self, other: Member) -> Peer:
        """What it knows of another one."""
        return next(p for p in self.replication.peers if p.origin == other.replication.origin)

    def follows(self, other: Member) -> bool:
        """Whether it holds and shows exactly what another one tracks."""
        peers = [p for p in self.replication.peers if p.origin == other.replication.origin]
        own = other.tracker.own
        return bool(peers) and (
            peers[0].held.seq == own.seq
            and not peers[0].held.is_partial
            and peers[0].held.entries == own.entries
            and {entry.ref for entry in own if not entry.hidden} <= self.shown
        )

    def tell(self) -> None:
        """Take the tracker's events: nobody joins twice, and nobody leaves who was not there."""
        for event in self.tracker.events():
            if isinstance(event, Joined):
                assert event.entry.ref not in self.shown, "a join of what is shown"
                self.shown.add(event.entry.ref)
            elif isinstance(event, Left):
                self.shown.remove(event.entry.ref)
            else:
                self.shown.remove(event.old.ref)
                self.shown.add(event.new.ref)


class Linked:
    """Some nodes and their link.

    Args:
        loss: Share of messages that is lost, of whatever kind.
        seed: Of what is lost.

    Attributes:
        now: The time.
        sent: All large messages that were sent: by whom, to whom, and what.
        drops: Says of a message whether it is lost, besides ``loss``.
    """

    def __init__(
        self,
        names: str,
        *,
        loss: float = 0.0,
        seed: int = 1,
        log_count: int = 10_000,
        options: ReplicationOptions | None = None,
    ) -> None:
        self.now = 0.0
        self.sent: list[tuple[str, str | None, Transfer | ChunkTransfer]] = []
        self.all_sent: list[tuple[float, str, str | None, TrackerMessage]] = []
        self.drops: Callable[[str, str, TrackerMessage], bool] = lambda by, to, message: False
        self._loss = loss
        self._rng = random.Random(seed)
        self._on_the_way: list[tuple[float, int, str, bytes]] = []
        self._numbers = count()
        self._log_count, self._options = log_count, options
        self.nodes: dict[str, Member] = {}
        for name in names:
            self.start(name)

    def __getitem__(self, name: str) -> Member:
        return self.nodes[name]

    def start(self, name: str) -> Member:
        """A node starts."""
        member = Member(name, self.now, self._log_count, self._options)
        self.nodes[name] = member
        self._collect(member)
        return member

    def crash(self, name: str) -> None:
        """A node is gone without a word."""
        del self.nodes[name]

    def deliver(self, to: str, message: TrackerMessage) -> None:
        """A message arrives at once, whoever made it up."""
        member = self.nodes[to]
        member.replication.receive_data(encode_message(message), self.now)
        self._collect(member)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.run(lambda: False, seconds)

    def run(self, is_done: Callable[[], bool], seconds: float) -> float:
        """Let time pass until something is so, or at most so long; return how long it took."""
        began_at, end = self.now, self.now + seconds
        while not is_done():
            timers = [(m.replication.next_timer(), m.name) for m in self.nodes.values()]
            timer, name = min((due, name) for due, name in timers if due is not None)
            arrives_at = self._on_the_way[0][0] if self._on_the_way else end
            if min(timer, arrives_at) >= end:
                self.now = end
                break
            self.now = max(self.now, min(timer, arrives_at))
            if arrives_at <= timer:
                _, _, to, data = heapq.heappop(self._on_the_way)
                if to in self.nodes:
                    self.nodes[to].replication.receive_data(data, self.now)
                    self._collect(self.nodes[to])
            else:
                self.nodes[name].replication.handle_timer(self.now)
                self._collect(self.nodes[name])
        return self.now - began_at

    def count(self, kinds: type | tuple[type, ...], names: Iterable[str] | None = None) -> int:
        """How many messages of a kind were sent, by all or some."""
        return sum(
            isinstance(message, kinds) and (names is None or by in names)
            for _, by, _, message in self.all_sent
        )

    def _collect(self, member: Member) -> None:
        for envelope in member.replication.messages_to_send():
            message = envelope.message
            self.all_sent.append((self.now, member.name, envelope.to, message))
            if isinstance(message, Transfer | ChunkTransfer):
                self.sent.append((member.name, envelope.to, message))
            data = encode_message(message)
            assert decode_message(data) == message
            targets = [envelope.to] if envelope.to is not None else list(self.nodes)
            for to in targets:
                if to == member.name or self.drops(member.name, to, message):
                    continue
                if self._rng.random() >= self._loss:
                    on_the_way = (self.now + DELAY, next(self._numbers), to, data)
                    heapq.heappush(self._on_the_way, on_the_way)
        member.tell()
