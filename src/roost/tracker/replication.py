"""The conversation between trackers, sans I/O: who lives, what each holds, and what is missing.

Theory of operation (REPLICATION.md). Each origin writes its own slice; this node holds a copy of
every other one. An origin broadcasts its changes as ranges when it has any, and a heartbeat with
its number in any case; whoever finds a gap asks for the rest. Digests, to one peer at a time, find
what neither has noticed.

Who lives is no part of the replicated set; it is what this node believes:

    unknown --a message of its own--> up --silent, or its link is gone--> suspect (still up)
    suspect --any sign of life--> up      suspect --its probe is not answered--> down
    up --silent for down_period--> down   down --a sign of life--> up
    down --silent for permdown_period--> forgotten, its id kept as a floor
    any --goodbye--> closed, its id kept as a floor

Entries of a peer are visible while it is up. Signs of life are messages by the origin itself, and
answers to a probe that carry its nonce; data and digests are none. A later life of a name replaces
an earlier one, and an earlier one is told to take a higher id.

Time is the protocol's own: it advances with the caller's, but by two heartbeats at most at once, so
that nobody is judged for this process's own sleep. Handle all input that waits before a timer.
"""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import msgspec

from roost.crdt.origin import OriginId
from roost.crdt.slice import Range
from roost.exceptions import ConfigurationError
from roost.tracker.messages import (
    Alive,
    Changes,
    Digest,
    Goodbye,
    Heartbeat,
    Hello,
    Part,
    Probe,
    Request,
    Superseded,
    TrackerMessage,
    Transfer,
    split,
)
from roost.tracker.peer import Peer
from roost.tracker.protocol import TrackerProtocol

T = TypeVar("T")

__all__ = ["Envelope", "ReplicationOptions", "ReplicationProtocol"]

MAX_FLOORS: Final = 4_096  # names; beyond, the oldest is forgotten
MAX_ASKED: Final = 1_000  # probes of origins that are no peers; more wait for the next digest
PROBE_RELAYS: Final = 3  # peers that pass a probe on
MAX_BACKOFF: Final = 8  # times request_timeout
SUSPECT_HEARTBEATS: Final = 3  # missed
RESOLUTION: Final = 1e-6  # seconds: sums of floats miss a deadline by less
JITTER: Final = 0.25  # of a heartbeat, so that nodes that start together do not beat together


class ReplicationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The periods of replication, in seconds.

    Args:
        broadcast_period: Between two broadcasts of changes; the first goes out when the caller is
            idle.
        heartbeat_period: Between two heartbeats.
        repair_delay: How long a gap must last to be asked for.
        request_timeout: How long an answer may take before another node is asked.
        probe_grace: How long a suspect has to answer.
        down_period: Silence after which a peer is down in any case.
        permdown_period: Silence after which it is forgotten.

    Raises:
        ConfigurationError: Periods that contradict each other, with the reason.
    """

    broadcast_period: float = 0.05
    heartbeat_period: float = 1.5
    repair_delay: float = 0.2
    request_timeout: float = 1.0
    probe_grace: float = 2.0
    down_period: float = 30.0
    permdown_period: float = 1_200.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} must be above 0, got {getattr(self, name)!r}")
        if self.down_period < 2 * self.heartbeat_period:
            raise ConfigurationError(
                "down_period must be at least twice as large as heartbeat_period: "
                f"{self.down_period} and {self.heartbeat_period}"
            )
        if self.permdown_period <= self.down_period:
            raise ConfigurationError(
                "permdown_period must be larger than down_period: "
                f"{self.permdown_period} and {self.down_period}"
            )
        if self.broadcast_period > self.heartbeat_period:
            raise ConfigurationError(
                "broadcast_period must not be larger than heartbeat_period: "
                f"{self.broadcast_period} and {self.heartbeat_period}"
            )


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
    """A message, and the name of the node that it is for; None: all others."""

    to: str | None
    message: TrackerMessage


class _Floor(msgspec.Struct):
    origin: OriginId
    is_closed: bool
    until: float


class ReplicationProtocol:
    """Replicate one node's tracker, and hold those of all others.

    Args:
        tracker: This node's; its visible entries will be those of all nodes.
        rng: Chooses whom to ask.
        new_nonce: Makes 64 random bits for a new id.
        options: The periods.
        now: The present time, monotonic, in seconds.

    Attributes:
        counters: What was dropped and why: reason → how often.
    """

    def __init__(
        self,
        tracker: TrackerProtocol,
        *,
        rng: Rng,
        new_nonce: Callable[[], int],
        now: float,
        options: ReplicationOptions | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.options = options or ReplicationOptions()
        self._tracker = tracker
        self._rng = rng
        self._new_nonce = new_nonce
        self._clock = 0.0
        self._advanced_at = now
        self._peers: dict[OriginId, Peer] = {}
        # All peers that have deadlines, and some that had: most have none, and cost nothing.
        self._waiting: dict[OriginId, Peer] = {}
        self._names: dict[str, OriginId] = {}  # name → the highest id known, of a peer
        self._floors: OrderedDict[str, _Floor] = OrderedDict()
        self._out: list[Envelope] = []
        self._broadcast_seq = 0  # of our own slice
        self._broadcast_at = -self.options.broadcast_period
        self._tick_at = self._rng.random() * JITTER * self.options.heartbeat_period
        self._last_number = 0
        # Origins that are no peers, and were asked whether they live: nonce and deadline.
        self._asked: dict[OriginId, tuple[int, float]] = {}
        self._refuted_at: float | None = None
        self._is_closed = False
        self._is_detached = False
        self._link_losses: dict[OriginId, float] = {}
        self._say_hello()

    # In: from the shell.

    def link_down(self, origin: OriginId, now: float) -> None:
        """The adapter saw the link to an origin die: a hint, which any sign of life cancels."""
        self._advance(now)
        peer = self._peers.get(origin)
        if peer is None or not peer.is_up or self._is_detached:
            return
        grace = self.options.probe_grace
        self._link_losses = {
            each: at for each, at in self._link_losses.items() if at > self._clock - grace
        }
        self._link_losses[origin] = self._clock
        up_count = sum(each.is_up for each in self._peers.values())
        if up_count >= 3 and len(self._link_losses) > up_count / 2:
            # Rather than most of them, it is us, or what is between: let the silence decide.
            for each in self._peers.values():
                if each.probe is not None and not self._is_silent(each):
                    each.probe = None
            return
        if peer.probe is None:
            self._suspect(peer)

    def detached(self, now: float) -> None:
        """Our own attachment is gone, which says nothing about others."""
        self._advance(now)
        self._is_detached = True
        for peer in self._peers.values():
            peer.probe = None  # its answer would not reach us

    def attached(self, now: float) -> None:
        """It is back."""
        self._advance(now)
        self._is_detached = False
        self._say_hello()

    def close(self, now: float) -> None:
        """Say goodbye; nothing is sent after it."""
        self._advance(now)
        if not self._is_closed:
            self._broadcast(Goodbye(self._own_id))
            self._is_closed = True

    def receive(self, message: TrackerMessage, now: float) -> None:
        """A message of another node."""
        self._advance(now)
        if self._is_closed:
            return
        if isinstance(message, Goodbye):
            self._close(message.sender)
            return
        if isinstance(message, Superseded) and message.sender == self._own_id:
            return  # we said it, to a namesake, and listen to that name ourselves
        if isinstance(message, Alive) and message.asker != self._own_id.name:
            self._send(message.asker, message)  # we are the relay
            return
        if isinstance(message, Alive):
            self._receive_alive(message)
            return
        if isinstance(message, Probe):
            # Answered whoever asks, or two nodes that forgot each other would both ask for ever.
            self._receive_probe(message)
            if message.via in (None, self._own_id.name):  # relayed, it is no sign of life
                self._hear(message.sender)
            return
        peer = self._hear(message.sender)
        if peer is None:
            return
        match message:
            case Heartbeat(_, seq, digest, versions):
                peer.digest, peer.versions = digest, versions
                self._announced(peer, seq)
            case Hello(sender, seq, versions):
                peer.versions = versions
                self._announced(peer, seq)
                self._send(sender.name, self._digest())
            case Changes(_, part):
                self._announced(peer, part.end)
                self._receive_part(peer, part, None)
            case Digest():
                self._receive_digest(message)
            case Request():
                self._receive_request(message)
            case Transfer():
                self._receive_transfer(message)
            case Superseded(_, highest):
                if highest.name == self._own_id.name and highest > self._own_id:
                    self._refuted(highest)
            case _:
                raise AssertionError(f"unknown message: {message!r}")

    def handle_timer(self, now: float) -> None:
        """It is ``next_timer``, or later; all input that waited was handled."""
        self._advance(now)
        if self._is_closed:
            return
        if self._is_due(self._tick_at):
            self._tick()
        self._flush()
        for peer in list(self._waiting.values()):
            deadlines = peer.deadlines()
            if not deadlines:
                self._waiting.pop(peer.origin, None)
            elif any(self._is_due(at) for at in deadlines):
                self._handle_deadlines(peer)

    # Out.

    def messages_to_send(self) -> Sequence[Envelope]:
        """What to send now; handed over once."""
        out, self._out = self._out, []
        return out

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is due; None after ``close``."""
        if self._is_closed:
            return None
        due = self._tick_at
        if self._tracker.own.seq > self._broadcast_seq:
            due = min(due, self._broadcast_at + self.options.broadcast_period)
        for peer in self._waiting.values():
            for deadline in peer.deadlines():
                due = min(due, deadline)
        return self._advanced_at + max(due - self._clock, 0.0)

    @property
    def peers(self) -> Sequence[Peer]:
        """All other origins that are known, to be read."""
        return list(self._peers.values())

    # Time.

    def _advance(self, now: float) -> None:
        step = min(max(now - self._advanced_at, 0.0), 2 * self.options.heartbeat_period)
        self._advanced_at = max(now, self._advanced_at)
        self._clock += step

    def _is_due(self, at: float) -> bool:
        return at <= self._clock + RESOLUTION

    def _tick(self) -> None:
        period = self.options.heartbeat_period
        self._tick_at = self._clock + period
        self._flush_now()
        digest = self._digest_hash()
        self._broadcast(Heartbeat(self._own_id, self._broadcast_seq, digest))
        differing = [
            peer
            for peer in self._peers.values()
            if peer.is_up and peer.digest is not None and peer.digest != digest
        ]
        if differing:
            self._send(self._rng.choice(differing).name, self._digest())
        for peer in list(self._peers.values()):
            peer.assembly.drop_stale(self._clock - 2 * period)
            silence = self._clock - peer.heard_at
            if silence > self.options.permdown_period:
                self._forget(peer)
            elif peer.is_up and silence > self.options.down_period:
                self._down(peer)
            elif (
                peer.is_up
                and peer.probe is None
                and self._is_silent(peer)
                and not self._is_detached
            ):
                self._suspect(peer)
        self._asked = {
            origin: (nonce, ends_at)
            for origin, (nonce, ends_at) in self._asked.items()
            if ends_at > self._clock
        }
        while self._floors:
            name, floor = next(iter(self._floors.items()))
            if floor.until > self._clock:
                break
            del self._floors[name]

    def _is_silent(self, peer: Peer) -> bool:
        missed = SUSPECT_HEARTBEATS + JITTER
        return self._clock - peer.heard_at > missed * self.options.heartbeat_period

    def _handle_deadlines(self, peer: Peer) -> None:
        if peer.probe is not None and self._is_due(peer.probe_ends_at):
            peer.probe = None
            if peer.is_up:
                self._down(peer)
        if peer.show_at is not None and self._is_due(peer.show_at):
            self._show(peer)
        if peer.request is not None and self._is_due(peer.request_ends_at):
            peer.request = None
            peer.holders.discard(peer.request_to)
            self._ask(peer)
        if peer.gap_at is not None and self._is_due(peer.gap_at):
            peer.gap_at = None
            if peer.is_behind and peer.request is None:
                self._ask(peer)

    # Our own changes.

    @property
    def _own_id(self) -> OriginId:
        return self._tracker.origin

    def _flush(self) -> None:
        if self._is_due(self._broadcast_at + self.options.broadcast_period):
            self._flush_now()

    def _flush_now(self) -> None:
        own = self._tracker.own
        if own.seq == self._broadcast_seq:
            return
        for part in split(own.range_from(self._broadcast_seq)):
            self._broadcast(Changes(self._own_id, part))
        self._broadcast_seq = own.seq
        self._broadcast_at = self._clock

    def _say_hello(self) -> None:
        self._broadcast(Hello(self._own_id, self._broadcast_seq))

    def _refuted(self, highest: OriginId) -> None:
        """Others know a higher id of our name: take one above it, and publish afresh."""
        name = self._own_id.name
        last, self._refuted_at = self._refuted_at, self._clock
        if last is not None and self._clock - last <= self.options.down_period:
            name = f"{name}~{self._new_nonce():016x}"
            self.counters["renamed"] += 1
            self._refuted_at = None
        nonce = self._new_nonce()
        self._tracker.renew(
            OriginId(name, max(highest.incarnation, self._own_id.incarnation) + 1, nonce)
        )
        self.counters["renewed"] += 1
        self._broadcast_seq = 0
        self._say_hello()
        self._flush_now()

    # Who lives.

    def _hear(self, origin: OriginId) -> Peer | None:
        """A message by ``origin`` itself came: None if it is to be dropped."""
        own = self._own_id
        if origin.name == own.name:
            if origin < own:
                self._send(origin.name, Superseded(own, own))
            else:  # another life of ours, or a clone
                self._refuted(origin)
            return None
        highest = self._names.get(origin.name)
        floor = self._floors.get(origin.name)
        if highest is not None and origin < highest:
            self._send(origin.name, Superseded(own, highest))
            return None
        if floor is not None and origin <= floor.origin:
            if origin < floor.origin:
                # Late, or a life whose clock was set back: that one must learn of it.
                self._send(origin.name, Superseded(own, floor.origin))
            elif floor.is_closed:
                # Late, or a clone that goes on under an id that its double has closed.
                self.counters["closed"] += 1
                self._send(origin.name, Digest(own, (), (origin,)))
            else:  # it may be late, and dead: does it answer?
                self._ask_life(origin)
            return None
        peer = self._peers.get(origin)
        if peer is None:
            peer = self._meet(origin)
        peer.heard_directly_at = self._clock
        self._lives(peer)
        return peer

    def _meet(self, origin: OriginId) -> Peer:
        """An origin is heard for the first time; earlier lives of its name are over."""
        old = self._names.get(origin.name)
        if old is not None:
            self._drop(self._peers[old])
        self._floors.pop(origin.name, None)
        peer = self._peers[origin] = Peer(origin, self._clock)
        self._names[origin.name] = origin
        peer.show_at = self._clock
        self._waiting[origin] = peer
        self._send(origin.name, Hello(self._own_id, self._broadcast_seq))
        return peer

    def _lives(self, peer: Peer) -> None:
        peer.heard_at = self._clock
        peer.probe = None
        if not peer.is_up:
            peer.is_up = True
            peer.show_at = self._clock + self.options.heartbeat_period
            # What was asked for while it was away, and how often, says nothing any more.
            peer.request, peer.attempts = None, 0
            peer.gap_at = self._clock + self.options.repair_delay
            self._waiting[peer.origin] = peer
            self._send(peer.name, Hello(self._own_id, self._broadcast_seq))

    def _suspect(self, peer: Peer) -> None:
        peer.probe = self._probe(peer.origin)
        peer.probe_ends_at = self._clock + self.options.probe_grace
        self._waiting[peer.origin] = peer

    def _probe(self, origin: OriginId) -> int:
        """Ask directly, and through up to three others."""
        nonce = self._new_nonce()
        self._send(origin.name, Probe(self._own_id, origin, nonce))
        others = [peer for peer in self._peers.values() if peer.is_up and peer.name != origin.name]
        for relay in self._rng.sample(others, min(PROBE_RELAYS, len(others))):
            self._send(relay.name, Probe(self._own_id, origin, nonce, relay.name))
        return nonce

    def _receive_probe(self, probe: Probe) -> None:
        own = self._own_id
        if probe.target == own:
            alive = Alive(own, probe.sender.name, probe.nonce, self._broadcast_seq)
            self._send(probe.via or probe.sender.name, alive)
        elif probe.via == own.name != probe.target.name:
            self._send(probe.target.name, probe)

    def _ask_life(self, origin: OriginId) -> None:
        """Probe an origin that is no peer: it becomes one if it answers."""
        if len(self._asked) < MAX_ASKED and origin not in self._asked:
            ends_at = self._clock + self.options.probe_grace
            self._asked[origin] = (self._probe(origin), ends_at)

    def _receive_alive(self, alive: Alive) -> None:
        origin = alive.sender
        asked, _ = self._asked.get(origin, (None, 0.0))
        if asked == alive.nonce:
            del self._asked[origin]
        peer = self._peers.get(origin)
        if peer is not None and alive.nonce in (peer.probe, asked):
            self._lives(peer)
        elif peer is None and alive.nonce == asked and self._may_be_met(origin):
            peer = self._meet(origin)
        if peer is not None:
            self._announced(peer, alive.seq)

    def _may_be_met(self, origin: OriginId) -> bool:
        """Whether an id that is no peer can be one: it is neither ours, nor closed, nor old."""
        highest = self._names.get(origin.name)
        floor = self._floors.get(origin.name)
        return (
            origin.name != self._own_id.name
            and (highest is None or origin > highest)
            and (
                floor is None
                or origin > floor.origin
                or (origin == floor.origin and not floor.is_closed)
            )
        )

    def _down(self, peer: Peer) -> None:
        peer.is_up = False
        peer.probe = None
        self._hide(peer)

    def _forget(self, peer: Peer) -> None:
        """Permdown: its slice goes, its id stays as a floor."""
        self._drop(peer)
        self._floor(peer.origin, is_closed=False)

    def _close(self, origin: OriginId) -> None:
        """Goodbye of an origin, heard from it or from others."""
        if origin.name == self._own_id.name:
            if origin >= self._own_id:  # a clone of ours left, and closed our id
                self._refuted(origin)
            return
        highest = self._names.get(origin.name)
        floor = self._floors.get(origin.name)
        if highest is not None and origin < highest:
            return
        if floor is not None and (origin < floor.origin or floor.is_closed):
            return
        if highest is not None:
            self._drop(self._peers[highest])
        self._floor(origin, is_closed=True)

    def _floor(self, origin: OriginId, *, is_closed: bool) -> None:
        self._floors.pop(origin.name, None)
        until = self._clock + self.options.permdown_period
        self._floors[origin.name] = _Floor(origin, is_closed, until)
        if len(self._floors) > MAX_FLOORS:
            self._floors.popitem(last=False)

    def _drop(self, peer: Peer) -> None:
        self._hide(peer)
        del self._peers[peer.origin]
        self._waiting.pop(peer.origin, None)
        del self._names[peer.name]
        for other in self._peers.values():
            other.holders.discard(peer.name)

    # What is visible.

    def _show(self, peer: Peer) -> None:
        peer.show_at = None
        if peer.is_up and not peer.is_shown:
            peer.is_shown = True
            self._tracker.change((), peer.held)

    def _hide(self, peer: Peer) -> None:
        peer.show_at = None
        if peer.is_shown:
            peer.is_shown = False
            self._tracker.change(peer.held, ())

    # What they hold, and what is missing.

    def _digest(self) -> Digest:
        # Those that are down are kept out: some nodes still know them and others never did, and
        # the two would differ until all have forgotten.
        seqs = [(self._own_id, self._broadcast_seq)]
        seqs += [(peer.origin, peer.held.seq) for peer in self._peers.values() if peer.is_up]
        closed = [floor.origin for floor in self._floors.values() if floor.is_closed]
        return Digest(self._own_id, tuple(seqs), tuple(closed))

    def _digest_hash(self) -> int:
        # Of those that live: who did not know the dead need not talk about them.
        seqs = [(self._own_id, self._broadcast_seq)]
        seqs += [(peer.origin, peer.held.seq) for peer in self._peers.values() if peer.is_up]
        text = repr(sorted(seqs)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def _receive_digest(self, digest: Digest) -> None:
        for origin in digest.closed:
            # None is remembered on hearsay, or nodes would remind each other for ever.
            if origin.name in self._names or origin == self._own_id:
                self._close(origin)
        for origin, seq in digest.seqs:
            if origin == self._own_id:
                if seq > self._broadcast_seq:  # somebody else makes changes under our id
                    self._refuted(origin)
                continue
            peer = self._peers.get(origin)
            if peer is not None:
                if seq > peer.held.seq:
                    peer.holders.add(digest.sender.name)
                self._announced(peer, seq)
                if not peer.is_up:  # the sender hears it: ask through others
                    self._ask_life(origin)
            elif self._may_be_met(origin):
                self._ask_life(origin)

    def _announced(self, peer: Peer, seq: int) -> None:
        """There is a slice of ``peer`` with number ``seq``."""
        peer.announced = max(peer.announced, seq)
        if peer.is_behind:
            if peer.gap_at is None and peer.request is None:
                peer.gap_at = self._clock + self.options.repair_delay
                self._waiting[peer.origin] = peer
        elif peer.show_at is not None:
            self._show(peer)

    def _ask(self, peer: Peer) -> None:
        """Ask for what is missing: the origin if it is heard directly, else somebody who has it."""
        if not peer.is_behind:
            return
        fresh = SUSPECT_HEARTBEATS * self.options.heartbeat_period
        is_heard = self._clock - peer.heard_directly_at <= fresh
        others = sorted(name for name in peer.holders if name in self._names)
        if is_heard and (peer.attempts % 2 == 0 or not others):
            to = peer.name
        elif others:
            to = self._rng.choice(others)
        elif peer.is_up:
            to = peer.name
        else:
            return  # until it lives, or somebody says that it holds more
        self._last_number += 1
        peer.request, peer.request_to = self._last_number, to
        backoff = min(2**peer.attempts, MAX_BACKOFF) * (1 + self._rng.random() * JITTER)
        peer.request_ends_at = self._clock + self.options.request_timeout * backoff
        self._waiting[peer.origin] = peer
        peer.attempts += 1
        self._send(to, Request(self._own_id, peer.origin, peer.held.seq, self._last_number))

    def _receive_request(self, request: Request) -> None:
        if request.origin == self._own_id:
            self._flush_now()
            change = self._tracker.own.range_from(request.after)
        else:
            peer = self._peers.get(request.origin)
            if peer is None or peer.held.seq <= request.after:
                return
            change = peer.held.snapshot()
        for part in split(change):
            self._send(
                request.sender.name, Transfer(self._own_id, request.origin, request.number, part)
            )

    def _receive_transfer(self, transfer: Transfer) -> None:
        peer = self._peers.get(transfer.origin)
        if peer is None:
            return  # data creates no origin
        if transfer.number == peer.request:
            timeout = max(self.options.request_timeout, 2 * self.options.heartbeat_period)
            peer.request_ends_at = max(peer.request_ends_at, self._clock + timeout)
        seq = peer.held.seq
        self._announced(peer, transfer.part.end)
        self._receive_part(peer, transfer.part, (transfer.sender, transfer.number))
        if transfer.number == peer.request and peer.held.seq > seq:
            # It is whole, and not all there is: ask for the rest.
            peer.request, peer.attempts = None, 0
            self._announced(peer, peer.announced)

    def _receive_part(self, peer: Peer, part: Part, answers: object) -> None:
        change: Range | None = peer.assembly.add(part, answers, self._clock)
        if change is None:
            return
        if not peer.held.reaches(change):
            peer.keep_ahead(change)
            return
        while change is not None:
            diff = peer.held.apply(change)
            if diff is not None and peer.is_shown:
                self._tracker.change(diff.removed, diff.added)
            change = peer.next_ahead()
        if not peer.is_behind:
            peer.gap_at, peer.request, peer.attempts = None, None, 0
            peer.holders.clear()
            if peer.show_at is not None:
                self._show(peer)

    # Sending.

    def _broadcast(self, message: TrackerMessage) -> None:
        if not self._is_closed:
            self._out.append(Envelope(None, message))

    def _send(self, to: str, message: TrackerMessage) -> None:
        if not self._is_closed:
            self._out.append(Envelope(to, message))
