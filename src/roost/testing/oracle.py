"""What a cluster of trackers promises, checked from outside.

Theory of operation. The oracle never asks the protocol who lives or what is missing: it sees what
each node tracked, which nodes are there, what their subscribers were told, and what went over the
network. From the options alone it works out how long each promise may take.

At every step of every node:

- what a subscriber was told replays to what is visible;
- what the node tracks itself and does not hide is visible;
- each slice that it holds is one that the origin had at that number, and numbers never go back;
- whatever could grow is within its bound.

Once faults have stopped and changes pause (`judge`): no presence of a live node stays missing, dead
ones go, each in its time; afterwards nothing is sent but heartbeats, and nobody is told anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from roost.crdt.entry import Entry
from roost.crdt.origin import OriginId
from roost.testing.simulation import SimulatedNode, Simulation
from roost.tracker import assembly, members, peer, repair
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import Peer
from roost.tracker.protocol import Left, TrackerEvent

__all__ = ["BrokenPromise", "Oracle", "Periods"]

MAX_INPUT_COUNT: Final = 100_000  # of all nodes, while time passes once


class BrokenPromise(AssertionError):
    """The cluster did what it must not do, or not in time."""


class Periods:
    """How long each promise may take, in seconds.

    Args:
        options: Of all nodes.
        delay: The longest time that a message takes, those sent before included.

    Attributes:
        change: Until all nodes show a change, without faults.
        goodbye: Until the presences of a node that said goodbye are gone.
        hint: Until those of a node whose links were seen to die are gone.
        repair: Until no presence of a live node is missing after faults.
        silence: Until those of a node that is gone without a word are gone.
        rename: Until nodes of one name have found new ones.
        quiet: After that, until all know that they agree, and send heartbeats only.
    """

    def __init__(self, options: ReplicationOptions, delay: float) -> None:
        heartbeat = options.heartbeat_period
        self.change = options.broadcast_period + delay
        self.goodbye = delay
        self.hint = options.probe_grace + delay
        # A heartbeat tells what is missing, or brings the node up, and one more shows it in any
        # case. Whoever was asked while messages were lost is given up only after its back-off.
        backoff = options.max_request_timeout * (1 + repair.JITTER)
        transfer = options.repair_delay + backoff + 4 * delay
        self.repair = delay + 2 * heartbeat + transfer
        self.silence = delay + options.down_period + heartbeat
        # Each of a pair hears of the other by its heartbeat, and takes a new id at most twice
        # before it takes a new name.
        self.rename = 3 * (heartbeat + 2 * delay)
        self.quiet = 2 * heartbeat + delay


class Oracle:
    """Watch a simulation, and raise BrokenPromise as soon as it breaks one.

    Args:
        simulation: To be watched from its beginning.

    Example:
        >>> simulation = Simulation(nodes="ab")
        >>> oracle = Oracle(simulation)
        >>> owner = simulation.a.track("room:1", "alice")
        >>> oracle.judge(delay=0.005)
        >>> simulation.b.keys("room:1")
        ['alice']
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        # What each origin's slice was at each number.
        self._history: dict[tuple[OriginId, int], frozenset[Entry]] = {}
        self._forked: set[OriginId] = set()  # by clones: there is no one history
        self._held: dict[SimulatedNode, dict[OriginId, tuple[Peer, int]]] = {}
        self._event_count = 0
        self._input_count = 0
        self._safe: set[str] = set()  # refs that must stay visible
        simulation.watchers.append(self._watch)
        for node in simulation.nodes.values():
            self._watch(node, ())

    # At every step.

    def _watch(self, node: SimulatedNode, events: Sequence[TrackerEvent]) -> None:
        self._event_count += len(events)
        self._input_count += 1
        if self._input_count > MAX_INPUT_COUNT:
            raise BrokenPromise(f"more than {MAX_INPUT_COUNT} inputs in one step: a storm")
        for event in events:
            if isinstance(event, Left) and event.entry.ref in self._safe:
                raise BrokenPromise(f"{node.name} lost {event.entry.key!r}, which lives")
        self._note_own(node)
        if events:
            self._check_replay(node)

    def _note_own(self, node: SimulatedNode) -> None:
        own = node.tracker.own
        entries = frozenset(own)
        if self._history.setdefault((own.origin, own.seq), entries) != entries:
            self._forked.add(own.origin)

    def _check_replay(self, node: SimulatedNode) -> None:
        visible = {entry.ref: entry for entry in node.tracker.list_all()}
        if visible != node.shown:
            raise BrokenPromise(f"{node.name} told {_keys(node.shown)}, shows {_keys(visible)}")
        for entry in node.tracker.own:
            if (entry.ref in visible) is entry.hidden:
                raise BrokenPromise(f"{node.name} does not show its own {entry.key!r} as it is")

    def forked(self, name: str) -> None:
        """A node is about to be cloned: two will make different changes under one number."""
        self._forked.add(self._simulation.nodes[name].tracker.origin)

    def check(self) -> None:
        """Check all that holds at any time."""
        for node in self._simulation.nodes.values():
            self._check_replay(node)
            self._check_held(node)
            self._check_bounds(node)

    def _check_held(self, node: SimulatedNode) -> None:
        before = self._held.get(node, {})
        after = self._held[node] = {}
        for each in node.replication.peers:
            origin, seq = each.origin, each.held.seq
            after[origin] = each, seq
            known, known_seq = before.get(origin, (None, 0))
            if known is each and seq < known_seq:
                raise BrokenPromise(f"{node.name} went back from {known_seq} to {seq} of {origin}")
            if seq == 0 or origin in self._forked:
                continue
            if self._history.get((origin, seq)) != frozenset(each.held):
                raise BrokenPromise(f"{node.name} holds what never was: {origin} at {seq}")

    def _check_bounds(self, node: SimulatedNode) -> None:
        protocol = node.replication
        names = Counter(each.name for each in protocol.peers)
        log_count = node.tracker.own._log_count
        sizes = {
            "lives of one name": (max(names.values(), default=0), 1),
            "log": (len(node.tracker.own._log), 2 * log_count),
            "floors": (len(protocol._members._floors), members.MAX_FLOORS),
            "asked": (len(protocol._members._asked), members.MAX_ASKED),
        }
        for each in protocol.peers:
            sizes[f"ahead of {each.name}"] = (len(each.ahead), peer.MAX_AHEAD_COUNT)
            sizes[f"assemblies of {each.name}"] = (len(each.assembly), assembly.MAX_COUNT)
        for what, (size, bound) in sizes.items():
            if size > bound:
                raise BrokenPromise(f"{node.name} keeps too much: {what} {size}, not {bound}")

    # Once faults have stopped.

    def judge(self, *, delay: float, are_names_unique: bool = True) -> None:
        """Let time pass as each promise allows, and check that it is kept.

        Args:
            delay: The longest time that a message takes, those sent before included.
            are_names_unique: No two nodes were of one name; otherwise both find new ones first.
        """
        periods = Periods(self._simulation.options, delay)
        if not are_names_unique:
            self.advance(periods.rename)
        self.advance(periods.repair)
        self.expect_nothing_missing()
        self._safe = {entry.ref for entry in self.expected()}
        self.advance(max(periods.silence - periods.repair, 0.0))
        self.expect_agreement()
        self._safe = set()

    def advance(self, seconds: float) -> None:
        """Let time pass, and check what holds at any time."""
        self._input_count = 0
        self._simulation.advance(seconds)
        self.check()

    def expected(self) -> Counter[Entry]:
        """What is tracked by nodes that live."""
        nodes = self._simulation.nodes.values()
        return Counter(entry for node in nodes for entry in node.tracker.own if not entry.hidden)

    def expect_nothing_missing(self) -> None:
        """No presence of a live node is missing anywhere."""
        expected = self.expected()
        for node in self._simulation.nodes.values():
            missing = expected - Counter(node.tracker.list_all())
            if missing:
                raise BrokenPromise(f"{node.name} misses {_names(missing)}")

    def expect_agreement(self) -> None:
        """All live nodes show exactly what live nodes track, and hold what is hidden."""
        self.expect_nothing_missing()
        expected = self.expected()
        for node in self._simulation.nodes.values():
            extra = Counter(node.tracker.list_all()) - expected
            if extra:
                raise BrokenPromise(f"{node.name} still shows {_names(extra)}")
            held = {each.origin: frozenset(each.held) for each in node.replication.peers}
            for other in self._simulation.nodes.values():
                own = other.tracker.own
                if other is not node and held.get(own.origin, frozenset()) != frozenset(own):
                    raise BrokenPromise(f"{node.name} does not hold what {other.name} hides")

    def expect_quiet(self, seconds: float) -> None:
        """For so long, only heartbeats are sent, and nobody is told anything."""
        simulation = self._simulation
        sent, event_count = simulation.sent.copy(), self._event_count
        self.advance(seconds)
        noise = simulation.sent - sent
        heartbeats = noise.pop("Heartbeat", 0)
        others = len(simulation.nodes) - 1
        ticks = seconds / simulation.options.heartbeat_period + 1
        if noise:
            raise BrokenPromise(f"not quiet: {dict(noise)} within {seconds} s")
        if heartbeats > ticks * others * len(simulation.nodes):
            raise BrokenPromise(f"not quiet: {heartbeats} heartbeats within {seconds} s")
        if self._event_count != event_count:
            raise BrokenPromise("subscribers are told of changes that nobody made")


def _keys(shown: dict[str, Entry]) -> list[str]:
    return sorted(f"{entry.topic} {entry.key} {ref}" for ref, entry in shown.items())


def _names(entries: Counter[Entry]) -> list[str]:
    return sorted(f"{entry.topic} {entry.key} {entry.ref}" for entry in entries)
