"""What a cluster of trackers promises, checked from outside.

Theory of operation. The oracle never asks the protocol who lives or what is missing: it sees what
each node tracked, which nodes are there, what their subscribers were sent, and what went over the
network. From the options alone it works out how long each promise may take.

At every step of every node:

- what a subscriber was sent replays to what is visible, each change under the next version, and
  says who is the first and the last of a key;
- what the node tracks itself and does not hide is visible;
- whoever is shown was heard within the down period: no ghost is born from what others remember;
- whoever died, and was forgotten or said goodbye, is born again by no message that comes late;
- whoever is hidden was silent for long enough, and a node that wakes has listened for long enough,
  whatever it made of the silence before its sleep;
- who comes back is not shown with those who left meanwhile, unless a heartbeat has passed in vain;
- each slice that it holds is one that the origin had at that number, and numbers never go back;
- whatever could grow is within its bound.

Once faults have stopped and changes pause (`judge`): no presence of a live node stays missing or
outlives its end, those of dead nodes go, each in its time; afterwards nothing is sent but
heartbeats, and nobody is notified.

Silence is counted in a node's own waking time, as the rules have it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Final

from roost.crdt import held
from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.testing.periods import Periods
from roost.testing.simulation import RESOLUTION, SimulatedNode, Simulation
from roost.testing.witness import Witness
from roost.tracker import answers, floors, members, peer
from roost.tracker.messages import TrackerMessage
from roost.tracker.peer import Peer
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated

__all__ = ["BrokenPromise", "Oracle"]

MAX_INPUT_RATE: Final = 100_000  # of all nodes, within one second
SUSPECT_HEARTBEATS: Final = 3  # missed, before a peer is asked whether it lives
MAX_CLOCK_STEP: Final = 2  # heartbeats: so far does a node's clock go while it sleeps


class BrokenPromise(AssertionError):
    """The cluster did what it must not do, or not in time."""


def _sizes(node: SimulatedNode) -> dict[str, tuple[int, int]]:
    """Of all that could grow in a node: how large it is, and how large it may be.

    All that the oracle knows of the inside of the protocol is here.
    """
    protocol, own = node.replication, node.tracker.own
    names = Counter(each.name for each in protocol.peers)
    sizes = {
        "lives of one name": (max(names.values(), default=0), 1),
        "log": (len(own._log), 2 * own._log_count),
        "floors": (len(protocol._members._floors), floors.MAX_FLOORS),
        "answers": (len(protocol._answers), answers.MAX_ANSWERS),
        "asked": (len(protocol._members._asked), members.MAX_ASKED),
    }
    for each in protocol.peers:
        sizes[f"ahead of {each.name}"] = (len(each.ahead), peer.MAX_AHEAD_COUNT)
        sizes[f"gaps of {each.name}"] = (len(each.held.gaps), held.MAX_GAPS)
        sizes[f"marks of {each.name}"] = (len(each.marks), peer.MAX_MARKS)
    return sizes


def _has_too_many_floors(witness: Witness) -> bool:
    """Whether a node knows of more names than it keeps floors of, so that some may be dropped."""
    return len({each.name for each in witness.signs}) > floors.MAX_FLOORS


class Oracle:
    """Watch a simulation, and raise BrokenPromise as soon as it breaks one.

    Args:
        simulation: To be watched from its beginning.

    Example:
        >>> sim = Simulation(nodes="abc")
        >>> oracle = Oracle(sim)
        >>> owner = sim.a.track("room:1", "alice")
        >>> sim.lose(0.5)
        >>> sim.roll("bc")
        >>> sim.calm()
        >>> oracle.judge()
        >>> sim.b.keys("room:1")
        ['alice']
    """

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._options = simulation.options
        # What each origin's slice was at each number; clones may have had several.
        self._history: dict[tuple[OriginId, int], set[frozenset[Entry]]] = {}
        self._unseen: set[tuple[OriginId, int]] = set()  # numbers of which that is not known
        self._latest: dict[OriginId, frozenset[Entry]] = {}
        self._own: dict[SimulatedNode, frozenset[Entry]] = {}
        self._noted: dict[SimulatedNode, tuple[OriginId, int]] = {}
        self._removed: dict[str, int] = {}  # ref → a number of its origin's slice without it
        self._origins: dict[str, OriginId] = {}  # by the prefix of their refs
        self._highest: dict[str, OriginId] = {}  # of each name
        self._writers: dict[OriginId, SimulatedNode] = {}
        self._forked: set[OriginId] = set()  # by clones: there is no one history
        self._had_namesakes = False
        self._bearers: dict[OriginId, dict[SimulatedNode, float | None]] = {}  # until when
        self._witnesses: dict[SimulatedNode, Witness] = {}
        self._held: dict[SimulatedNode, dict[OriginId, tuple[Peer, int]]] = {}
        self._event_count = 0
        self._input_second = self._input_count = 0
        self._safe: set[str] = set()  # refs that must stay visible
        simulation.watchers.append(self._watch)
        simulation.listeners.append(self._listen)
        simulation.checks.append(self.check)
        for node in simulation.nodes.values():
            self._watch(node, ())

    # At every step.

    def _listen(self, node: SimulatedNode, message: TrackerMessage) -> None:
        self._witness(node).note(node, message, self._simulation.now)

    def _watch(self, node: SimulatedNode, events: Sequence[TrackerEvent]) -> None:
        self._event_count += len(events)
        self._check_rate()
        self._witness(node)
        self._note_own(node)
        for event in events:
            if isinstance(event, Joined):
                self._check_join(node, event.entry)
            elif isinstance(event, Left):
                self._check_leave(node, event.entry)
        if events:
            self._check_events(node, events)
            self._check_replay(node)

    def _check_rate(self) -> None:
        second = int(self._simulation.now)
        if second != self._input_second:
            self._input_second, self._input_count = second, 0
        self._input_count += 1
        if self._input_count > MAX_INPUT_RATE:
            raise BrokenPromise(f"more than {MAX_INPUT_RATE} inputs in one second: a storm")

    def _witness(self, node: SimulatedNode) -> Witness:
        witness = self._witnesses.get(node)
        if witness is None:
            known = None if node.model is None else self._witnesses.get(node.model)
            witness = Witness() if known is None else copy.deepcopy(known)
            self._witnesses[node] = witness
        return witness

    def _note_own(self, node: SimulatedNode) -> None:
        own = node.tracker.own
        origin, seq = own.origin, own.seq
        noted = self._noted.get(node)
        if noted == (origin, seq):
            return
        self._noted[node] = origin, seq
        if noted is None or noted[0] != origin:
            if noted is not None:
                self._bearers[noted[0]][node] = self._simulation.now
            self._bearers.setdefault(origin, {})[node] = None
        if origin not in self._latest:
            self._note_origin(node, origin)
        elif self._writers[origin] is not node:
            self._forked.add(origin)
            self._had_namesakes = True
        entries = frozenset(own)
        if noted is not None and noted[0] == origin:
            self._note_between(own, noted[1], self._own[node])
        else:
            self._note_between(own, 0, frozenset())
        self._own[node] = entries
        slices = self._history.setdefault((origin, seq), set())
        slices.add(entries)
        if len(slices) > 1:
            self._forked.add(origin)
        for entry in self._latest.get(origin, frozenset()) - entries:
            self._removed[entry.ref] = seq
        self._latest[origin] = entries

    def _note_between(self, own: Slice, start: int, entries: frozenset[Entry]) -> None:
        """Several changes of one input are broadcast together, or one after the other.

        Args:
            own: The slice after them.
            start: Its number before them.
            entries: What it had then; a clone may have had others under that number.
        """
        slice_ = {entry.seq: entry for entry in entries}
        for seq in range(start + 1, own.seq):
            change = own.range_from(seq - 1, seq)
            if change is None:  # the log is too short to tell
                self._unseen.update((own.origin, each) for each in range(seq, own.seq))
                return
            for removed in change.removed:
                slice_.pop(removed, None)
            slice_.update((entry.seq, entry) for entry in change.added)
            self._history.setdefault((own.origin, seq), set()).add(frozenset(slice_.values()))

    def _note_origin(self, node: SimulatedNode, origin: OriginId) -> None:
        self._writers[origin] = node
        self._origins[origin.ref_prefix] = origin
        self._highest[origin.name] = max(origin, self._highest.get(origin.name, origin))
        for other in self._simulation.nodes.values():
            if other is not node and other.tracker.origin.name == origin.name:
                self._had_namesakes = True

    def _check_events(self, node: SimulatedNode, events: Sequence[TrackerEvent]) -> None:
        """Each change is under the next version, and says whether it is the first or the last."""
        version = node.tracker.version
        counts: dict[tuple[str, str], int] = {}  # entries of a key, after the change that is next
        for event in reversed(events):
            if event.version != version:
                raise BrokenPromise(f"{node.name} told version {event.version}, not {version}")
            version -= 1
            if isinstance(event, Updated):
                continue
            topic, key = place = event.entry.topic, event.entry.key
            if place not in counts:
                counts[place] = len(node.tracker.get_by_key(topic, key))
            if isinstance(event, Left):
                is_right = event.is_last is (counts[place] == 0)
                counts[place] += 1
            else:
                counts[place] -= 1
                is_right = event.is_first is (counts[place] == 0)
            if not is_right:
                raise BrokenPromise(f"{node.name} told wrongly who is first or last of {key!r}")

    def _check_replay(self, node: SimulatedNode) -> None:
        visible = {entry.ref: entry for entry in node.tracker.list_all()}
        if visible != node.shown:
            raise BrokenPromise(f"{node.name} told {_keys(node.shown)}, shows {_keys(visible)}")
        for entry in node.tracker.own:
            if (entry.ref in visible) is entry.hidden:
                raise BrokenPromise(f"{node.name} does not show its own {entry.key!r} as it is")

    def _check_join(self, node: SimulatedNode, entry: Entry) -> None:
        origin = self._origins[entry.ref_prefix]
        if origin != node.tracker.origin:
            self._check_alive(node, origin)
            self._check_buried(node, origin, entry)
            self._check_fresh(node, origin, entry)

    def _check_alive(self, node: SimulatedNode, origin: OriginId) -> None:
        """Who is shown has given a sign of life not too long ago."""
        sign = self._witness(node).signs.get(origin)
        silence = float("inf") if sign is None else node.awake(sign, self._simulation.now)
        if silence > self._options.down_period + self._options.heartbeat_period + RESOLUTION:
            raise BrokenPromise(f"{node.name} shows a ghost: {origin.name} silent for {silence} s")

    def _check_buried(self, node: SimulatedNode, origin: OriginId, entry: Entry) -> None:
        """Whoever died is not born again late."""
        witness, now = self._witness(node), self._simulation.now
        if _has_too_many_floors(witness):
            return  # more than a node has to remember
        closed_at = witness.closed_at.get(origin)
        if closed_at is not None and now - closed_at < 2 * self._options.permdown_period:
            raise BrokenPromise(f"{node.name} shows {entry.key!r} after a goodbye: a ghost")
        died_at, revived_at = self._died_at(origin), witness.revived_at.get(origin)
        if died_at is not None and revived_at is not None and died_at < revived_at:
            raise BrokenPromise(
                f"{node.name} shows {entry.key!r} {now - died_at} s after the death of "
                f"{origin.name}, which was forgotten: a ghost born late"
            )

    def _died_at(self, origin: OriginId) -> float | None:
        """When the last node of an id died, or took another one; None while there is one."""
        ends = []
        for node, until in self._bearers[origin].items():
            end = node.ended_at if until is None else until
            if end is None:
                return None
            ends.append(end)
        return max(ends)

    def _check_fresh(self, node: SimulatedNode, origin: OriginId, entry: Entry) -> None:
        """Who is shown again has not left meanwhile, as far as the node could know."""
        now, witness = self._simulation.now, self._witness(node)
        left_at, removed = witness.left_at.get(entry.ref), self._removed.get(entry.ref)
        if left_at is None or removed is None or not self._is_sound(origin):
            return
        if _has_too_many_floors(witness):
            return  # it may know nothing of a goodbye any more
        is_forgotten = now - left_at > self._options.permdown_period - self._options.down_period
        up_at = witness.up_at.get(origin, 0.0)
        waited = now - up_at
        if (
            not is_forgotten
            and not node.slept(up_at)
            and waited < self._options.heartbeat_period - RESOLUTION
            and witness.announced.get(origin, 0) >= removed
        ):
            raise BrokenPromise(
                f"{node.name} shows {entry.key!r} again after {waited} s, who has left"
            )

    def _check_leave(self, node: SimulatedNode, entry: Entry) -> None:
        now, witness = self._simulation.now, self._witness(node)
        if entry.ref in self._safe:
            raise BrokenPromise(f"{node.name} lost {entry.key!r}, which lives")
        witness.left_at[entry.ref] = now
        origin = self._origins[entry.ref_prefix]
        witness.up_at.pop(origin, None)
        heard = witness.heard.get(origin)
        writer = self._writers[origin]
        if heard is None or not self._is_sound(origin):
            return
        if not (writer.is_live and writer.tracker.origin == origin):
            return
        if entry not in self._latest[origin] or node.hinted_at.get(writer.link, 0.0) >= heard:
            return
        silence = SUSPECT_HEARTBEATS * self._options.heartbeat_period
        grace = self._options.probe_grace
        slept = node.slept(heard)
        clock_step = MAX_CLOCK_STEP * self._options.heartbeat_period
        for paused_at, woke_at in slept:
            if woke_at - paused_at > clock_step and now - woke_at < grace - RESOLUTION:
                raise BrokenPromise(f"{node.name} hides {entry.key!r} for its own sleep")
        if not slept:
            shortest = min(silence + grace, self._options.down_period)
            if now - heard < shortest - RESOLUTION:
                raise BrokenPromise(f"{node.name} hides {entry.key!r} after {now - heard} s")
        elif len(slept) == 1:
            # It was not suspected before the sleep, and was to be asked after it.
            ((paused_at, woke_at),) = slept
            longest = min(silence, self._options.down_period - clock_step)
            if paused_at - heard < longest and now - woke_at < grace - RESOLUTION:
                raise BrokenPromise(f"{node.name} hides {entry.key!r} for its own sleep")

    def _is_sound(self, origin: OriginId) -> bool:
        """Whether one node had this id, and no later one its name."""
        return origin not in self._forked and self._highest[origin.name] == origin

    def check(self) -> None:
        """Check all that holds at any time; it is called whenever time has passed."""
        for node in self._simulation.nodes.values():
            self._check_replay(node)
            self._check_own(node)
            self._check_held(node)
            for what, (size, bound) in _sizes(node).items():
                if size > bound:
                    raise BrokenPromise(f"{node.name} keeps too much: {what} {size}, not {bound}")
            for prefix in {entry.ref_prefix for entry in node.shown.values()}:
                if self._origins[prefix] != node.tracker.origin:
                    self._check_alive(node, self._origins[prefix])

    def _check_own(self, node: SimulatedNode) -> None:
        own = node.tracker.own
        if frozenset(own) not in self._history[own.origin, own.seq]:
            raise BrokenPromise(f"{node.name} has changed what it tracks under one number")

    def _check_held(self, node: SimulatedNode) -> None:
        before = self._held.get(node, {})
        after = self._held[node] = {}
        for each in node.replication.peers:
            origin, seq = each.origin, each.held.seq
            after[origin] = each, seq
            known, known_seq = before.get(origin, (None, 0))
            if known is each and seq < known_seq:
                raise BrokenPromise(f"{node.name} went back from {known_seq} to {seq} of {origin}")
            if seq == 0:
                continue
            if each.held.is_partial or (origin, seq) in self._unseen:
                continue  # it has some of a later slice, or nobody knows better
            if frozenset(each.held) not in self._history.get((origin, seq), ()):
                raise BrokenPromise(f"{node.name} holds what never was: {origin} at {seq}")

    # Once faults have stopped.

    def judge(self, *, delay: float | None = None, are_names_unique: bool | None = None) -> None:
        """Let time pass as each promise allows, and check that it is kept.

        Args:
            delay: The longest time that a message takes, those sent before included; None: as the
                simulation has seen it.
            are_names_unique: No two nodes were of one name; otherwise both find new ones first.
                None: as the simulation has seen it.
        """
        simulation = self._simulation
        if delay is None:
            delay = max(simulation.network.longest_delay, simulation.faults.max_delay)
        if are_names_unique is None:
            are_names_unique = not self._had_namesakes
        periods = Periods(self._options, delay)
        if not are_names_unique:
            simulation.advance(periods.rename)
        simulation.advance(periods.repair)
        self.expect_nothing_missing()
        self.expect_nothing_stale()
        self._safe = {entry.ref for entry in self.expected()}
        simulation.advance(max(periods.silence - periods.repair, 0.0))
        self.expect_agreement()
        self.expect_one_version()
        self._safe = set()

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

    def expect_nothing_stale(self) -> None:
        """No presence that a live node has ended is shown anywhere."""
        expected = self.expected()
        alive = {node.tracker.origin.ref_prefix for node in self._simulation.nodes.values()}
        for node in self._simulation.nodes.values():
            extra = Counter(node.tracker.list_all()) - expected
            stale = Counter(entry for entry in extra if entry.ref_prefix in alive)
            if stale:
                raise BrokenPromise(f"{node.name} still shows {_names(stale)}, who left")

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

    def expect_one_version(self) -> None:
        """All live nodes write the highest version that all read who share one with them."""
        nodes = self._simulation.nodes.values()
        for node in nodes:
            lowest, highest = node.versions
            friends = {
                other.replication.origin: other.versions[1]
                for other in nodes
                if other.versions[0] <= highest and other.versions[1] >= lowest
            }
            if node.replication.version != min(friends.values()):
                raise BrokenPromise(
                    f"{node.name} writes version {node.replication.version}, "
                    f"not {min(friends.values())}"
                )
            strangers = {other.replication.origin for other in nodes} - friends.keys()
            if {each.origin for each in node.replication.incompatible} != strangers:
                raise BrokenPromise(f"{node.name} does not know who reads nothing of it")

    def expect_quiet(self, seconds: float) -> None:
        """For so long, only heartbeats are sent, and nobody is notified."""
        simulation = self._simulation
        sent, event_count = simulation.sent.copy(), self._event_count
        simulation.advance(seconds)
        noise = simulation.sent - sent
        heartbeats = noise.pop("Heartbeat", 0)
        others = len(simulation.nodes) - 1
        ticks = seconds / self._options.heartbeat_period + 1
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
