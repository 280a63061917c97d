"""Who lives: what this node believes of all others, and what it keeps of those that are gone.

It is no part of the replicated set (docs/replication.md, rules 2 and 4)::

    unknown --a message of its own--> up --silent, or its link is gone--> suspect (still up)
    suspect --any sign of life--> up      suspect --its probe is not answered--> down
    up --silent for down_period--> down   down --a sign of life--> up
    down --silent for permdown_period--> forgotten, its id kept as a floor
    any --goodbye--> closed, its id kept as a floor

Signs of life are messages by the origin itself, and answers to a probe that carry its nonce; data
and digests are none. A later life of a name replaces an earlier one, and an earlier one is told to
take a higher id. What follows from all this for the data is the listener's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from roost.crdt.incarnation import OriginId
from roost.tracker.floors import Floor, Floors
from roost.tracker.messages import Alive, Digest, Probe, Superseded
from roost.tracker.node import Node
from roost.tracker.peer import Peer

__all__ = ["Members", "MembersListener"]

MAX_ASKED: Final = 1_000  # probes of origins that are no peers; more wait for the next digest
PROBE_RELAYS: Final = 3  # peers that pass a probe on
SUSPECT_HEARTBEATS: Final = 3  # missed
JITTER: Final = 0.25  # of a heartbeat: how much later than another one it may come


class MembersListener(Protocol):
    """What happens to others, as it happens."""

    def met(self, peer: Peer) -> None:
        """It is heard for the first time, in this life."""
        ...

    def came_up(self, peer: Peer) -> None:
        """It was down, and lives."""
        ...

    def went_down(self, peer: Peer) -> None:
        """It is silent for too long, or did not answer."""
        ...

    def gone(self, peer: Peer) -> None:
        """It is no peer any more: it said goodbye, was forgotten, or has a later life."""
        ...

    def refuted(self, highest: OriginId) -> None:
        """Another life of this node's name is known, which is not below its own id."""
        ...


class Members:
    """All other origins that are known.

    Args:
        node: This one.
        listener: Is told what happens.
    """

    def __init__(self, node: Node, listener: MembersListener) -> None:
        self._node = node
        self._listener = listener
        self._peers: dict[OriginId, Peer] = {}
        self._names: dict[str, OriginId] = {}  # name → the highest id known, of a peer
        # All peers that have deadlines, and some that had: most have none, and cost nothing.
        self._waiting: dict[OriginId, Peer] = {}
        self._floors = Floors()
        # Origins that are no peers, and were asked whether they live: nonce and deadline.
        self._asked: dict[OriginId, tuple[int, float]] = {}
        self._lost_links: dict[str, float] = {}  # link → when that was said

    # Reads.

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def get(self, origin: OriginId) -> Peer | None:
        return self._peers.get(origin)

    def knows_name(self, name: str) -> bool:
        """Whether some life of a name is a peer."""
        return name in self._names

    def up(self) -> list[Peer]:
        """Those that are believed to live."""
        return [peer for peer in self._peers.values() if peer.is_up]

    def closed(self) -> tuple[OriginId, ...]:
        """Those that said goodbye, while anybody may know them who has not heard it."""
        beyond = self._node.clock.now + self._node.options.permdown_period
        return tuple(self._floors.closed(beyond=beyond))

    def is_heard(self, peer: Peer) -> bool:
        """Whether its own messages reach us."""
        fresh = SUSPECT_HEARTBEATS * self._node.options.heartbeat_period
        return self._node.clock.now - peer.heard_directly_at <= fresh

    def hears(self, name: str) -> bool:
        """Whether messages of a node reach us, by its name: else it can be asked for nothing."""
        origin = self._names.get(name)
        return origin is not None and self.is_heard(self._peers[origin])

    # Deadlines of peers.

    def wait_for(self, peer: Peer) -> None:
        """It has a deadline."""
        self._waiting[peer.origin] = peer

    def deadlines(self) -> Iterator[float]:
        """All deadlines of peers."""
        for peer in self._waiting.values():
            yield from peer.deadlines()

    def due(self) -> list[Peer]:
        """Those with a deadline that has come."""
        is_due = self._node.clock.is_due
        due = []
        for peer in list(self._waiting.values()):
            deadlines = peer.deadlines()
            if not deadlines:
                del self._waiting[peer.origin]
            elif any(map(is_due, deadlines)):
                due.append(peer)
        return due

    # Signs of life.

    def hear(self, origin: OriginId) -> Peer | None:
        """A message by ``origin`` itself came: None if it is to be dropped."""
        node = self._node
        own = node.id
        if origin.name == own.name:
            if origin < own:
                node.send(origin.name, Superseded(own, own))
            else:  # another life of ours, or a clone
                self._listener.refuted(origin)
            return None
        highest = self._names.get(origin.name)
        floor = self._floors.get(origin.name)
        if highest is not None and origin < highest:
            node.send(origin.name, Superseded(own, highest))
            return None
        if floor is not None and origin <= floor.origin:
            if origin < floor.origin:
                # Late, or a life whose clock was set back: that one must learn of it.
                node.send(origin.name, Superseded(own, floor.origin))
            elif floor.is_closed:
                # Late, or a clone that goes on under an id that its double has closed.
                node.counters["closed"] += 1
                node.send(origin.name, Digest(own, (), (origin,)))
            else:  # it may be late, and dead: does it answer?
                self._floor(origin, is_closed=False)  # there may be more that is late
                self.ask_life(origin)
            return None
        peer = self._peers.get(origin)
        if peer is None:
            peer = self._meet(origin)
        self._hear(peer)
        return peer

    def hear_known(self, origin: OriginId) -> None:
        """A message by ``origin`` itself came that needs no answer, whoever that is."""
        peer = self._peers.get(origin)
        if peer is not None:
            self._hear(peer)

    def _hear(self, peer: Peer) -> None:
        peer.heard_directly_at = self._node.clock.now
        self._lives(peer)

    def _meet(self, origin: OriginId) -> Peer:
        """An origin is heard for the first time; earlier lives of its name are over."""
        old = self._names.get(origin.name)
        if old is not None:
            self._drop(self._peers[old])
        self._floors.pop(origin.name)
        peer = self._peers[origin] = Peer(origin, self._node.clock.now)
        self._names[origin.name] = origin
        self._listener.met(peer)
        return peer

    def _lives(self, peer: Peer) -> None:
        peer.heard_at = self._node.clock.now
        peer.probe = None
        if not peer.is_up:
            peer.is_up = True
            self._listener.came_up(peer)

    # Probes.

    def _suspect(self, peer: Peer) -> None:
        peer.probe = self._probe(peer.origin)
        peer.probe_ends_at = self._node.clock.now + self._node.options.probe_grace
        self.wait_for(peer)

    def _probe(self, origin: OriginId) -> int:
        """Ask directly, and through up to three others."""
        node = self._node
        nonce = node.new_nonce()
        node.send(origin.name, Probe(node.id, origin, nonce))
        others = [peer for peer in self._peers.values() if peer.is_up and peer.name != origin.name]
        for relay in node.rng.sample(others, min(PROBE_RELAYS, len(others))):
            node.send(relay.name, Probe(node.id, origin, nonce, relay.name))
        return nonce

    def receive_probe(self, probe: Probe) -> None:
        node = self._node
        own = node.id
        if probe.target == own:
            alive = Alive(own, probe.sender.name, probe.nonce, node.broadcast_seq)
            node.send(probe.via or probe.sender.name, alive)
        elif probe.via == own.name and not node.shares_address(probe.target.name):
            # A namesake hears what is sent to us, and would pass it on to us again.
            node.send(probe.target.name, probe)
        if probe.via in (None, own.name):  # relayed, it is no sign of life
            self.hear(probe.sender)

    def ask_life(self, origin: OriginId) -> None:
        """Probe an origin that is no peer, or down: it is one, or is up, if it answers."""
        if len(self._asked) < MAX_ASKED and origin not in self._asked:
            ends_at = self._node.clock.now + self._node.options.probe_grace
            self._asked[origin] = (self._probe(origin), ends_at)

    def receive_alive(self, alive: Alive) -> Peer | None:
        """The peer that answers, whether or not the answer is a sign of life."""
        if alive.asker != self._node.id.name:
            # We are the relay; or the asker's namesake, to whom it came as well.
            if not self._node.shares_address(alive.asker):
                self._node.send(alive.asker, alive)
            return None
        origin = alive.sender
        asked, _ = self._asked.get(origin, (None, 0.0))
        if asked == alive.nonce:
            del self._asked[origin]
        peer = self._peers.get(origin)
        if peer is not None and alive.nonce in (peer.probe, asked):
            self._lives(peer)
        elif peer is None and alive.nonce == asked and self.may_be_met(origin):
            peer = self._meet(origin)
        return peer

    def may_be_met(self, origin: OriginId) -> bool:
        """Whether an id that is no peer can be one: it is neither ours, nor closed, nor old."""
        highest = self._names.get(origin.name)
        floor = self._floors.get(origin.name)
        return (
            origin.name != self._node.id.name
            and (highest is None or origin > highest)
            and (
                floor is None
                or origin > floor.origin
                or (origin == floor.origin and not floor.is_closed)
            )
        )

    def handle_deadline(self, peer: Peer) -> None:
        """A suspect did not answer."""
        if peer.probe is not None and self._node.clock.is_due(peer.probe_ends_at):
            peer.probe = None
            if peer.is_up and self._has_just_woken:
                self._suspect(peer)  # it may have answered while we slept
            elif peer.is_up:
                self._down(peer)

    @property
    def _has_just_woken(self) -> bool:
        """Whether this process slept within the last grace, and what was said meanwhile is lost.

        It asks all the same, but judges nobody before it has listened for as long as an answer
        may take.
        """
        clock = self._node.clock
        return not clock.is_due(clock.woke_at + self._node.options.probe_grace)

    # Silence.

    def tick(self) -> None:
        """Judge who has been silent, once for each heartbeat."""
        options, now = self._node.options, self._node.clock.now
        may_judge = not self._has_just_woken
        for peer in self:
            silence = now - peer.heard_at
            if may_judge and silence > options.permdown_period:
                self._forget(peer)
            elif may_judge and peer.is_up and silence > options.down_period:
                self._down(peer)
            elif (
                peer.is_up
                and peer.probe is None
                and self._is_silent(peer)
                and not self._node.is_detached
            ):
                self._suspect(peer)
        self._asked = {
            origin: (nonce, ends_at)
            for origin, (nonce, ends_at) in self._asked.items()
            if ends_at > now
        }
        self._floors.expire(now)

    def _is_silent(self, peer: Peer) -> bool:
        missed = SUSPECT_HEARTBEATS + JITTER
        silence = self._node.clock.now - peer.heard_at
        return silence > missed * self._node.options.heartbeat_period

    # Links.

    def link_down(self, link: str) -> None:
        """A link is said to be gone: whose it was heard to be is asked whether it lives."""
        if self._node.is_detached:
            return
        up = self.up()
        suspects = [peer for peer in up if peer.link == link]  # several, if one was cloned
        if not link or not suspects:
            return
        now, grace = self._node.clock.now, self._node.options.probe_grace
        self._lost_links = {each: at for each, at in self._lost_links.items() if at > now - grace}
        self._lost_links[link] = now
        if len(up) >= 3 and len(self._lost_links) > len(up) / 2:
            # Rather than most of them, it is us, or what is between: let the silence decide.
            for peer in self._peers.values():
                if peer.probe is not None and not self._is_silent(peer):
                    peer.probe = None
            return
        for peer in suspects:
            if peer.probe is None:
                self._suspect(peer)

    def detached(self) -> None:
        """Our own attachment is gone, which says nothing about others."""
        for peer in self._peers.values():
            peer.probe = None  # its answer would not reach us

    # Ends.

    def _down(self, peer: Peer) -> None:
        peer.is_up = False
        peer.probe = None
        self._listener.went_down(peer)

    def _forget(self, peer: Peer) -> None:
        """Permdown: its slice goes, its id stays as a floor."""
        self._drop(peer)
        self._floor(peer.origin, is_closed=False)

    def close(self, origin: OriginId) -> None:
        """Goodbye of an origin, heard from it or from others."""
        own = self._node.id
        if origin.name == own.name:
            if origin >= own:  # a clone of ours left, and closed our id
                self._listener.refuted(origin)
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
        period = self._node.options.permdown_period
        # Who was forgotten was silent for the first of two periods.
        until = self._node.clock.now + (2 * period if is_closed else period)
        self._floors.put(Floor(origin, is_closed, until))

    def _drop(self, peer: Peer) -> None:
        del self._peers[peer.origin]
        self._waiting.pop(peer.origin, None)
        del self._names[peer.name]
        self._listener.gone(peer)
