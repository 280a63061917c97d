"""A cluster of trackers in one thread: the real protocol, a network that fails, and no clock.

The simulation runs the protocol objects that a node runs. Every message is encoded and decoded; it
may be late, lost, doubled or overtaken, as the options and the scenario say. All chance comes from
the seed, so that a run is repeated exactly by its seed.

A scenario is one line for each event::

    sim = Simulation(seed=7, nodes="abc")
    sim.a.track("room:1", "alice")
    sim.run_until_quiet()
    sim.partition("a", "bc")
    sim.advance(40)
    assert sim.b.keys("room:1") == []
"""

from __future__ import annotations

import copy
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from roost.crdt.entry import Entry
from roost.crdt.origin import OriginId
from roost.crdt.slice import Slice
from roost.tracker.messages import TrackerMessage, decode_message, encode_message
from roost.tracker.meta import decode_meta
from roost.tracker.node import Envelope
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left, TrackerEvent, TrackerProtocol, Updated
from roost.tracker.replication import ReplicationProtocol

__all__ = ["Faults", "HeldMessages", "SimulatedNode", "Simulation"]

WALL_CLOCK: Final = 1_700_000_000.0  # unix seconds when a simulation begins


class Faults(msgspec.Struct, kw_only=True):
    """What the network does to messages.

    Args:
        min_delay: Seconds that a message takes at least.
        max_delay: Seconds that it takes at most.
        loss: Probability that it is lost.
        duplication: Probability that it arrives twice.
        reordering: Whether messages of one link overtake each other.
        hints: Whether nodes are told of links that die, and after how many seconds.
    """

    min_delay: float = 0.0005
    max_delay: float = 0.005
    loss: float = 0.0
    duplication: float = 0.0
    reordering: bool = False
    hints: float | None = None


class SimulatedNode:
    """One node, in one life.

    Attributes:
        name: Its name in the simulation.
        address: The name that it was configured with; its tracker may have taken another one since.
        link: What its adapter calls the way to it.
        tracker: Its tracker.
        replication: Its conversation with the others.
        shown: What somebody knows who was told its events and nothing else: ref → entry.
        events: All that it told, in order.
    """

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        origin: OriginId,
        options: ReplicationOptions,
        link: str,
    ) -> None:
        self.name = name
        self.address = origin.name
        self.link = link
        own = Slice(origin)
        self.tracker = TrackerProtocol(own)
        self.replication = ReplicationProtocol(
            own,
            rng=random.Random(simulation.rng.random()),
            new_nonce=lambda: simulation.rng.getrandbits(64),
            now=simulation.now,
            options=options,
            link=link,
        )
        self.replication.add_tracker(self.tracker)
        self.shown: dict[str, Entry] = {}
        self.events: list[TrackerEvent] = []
        self.is_paused = False
        self.is_live = True
        self.inbox: list[bytes] = []
        self._simulation = simulation
        self._last_owner = 0

    # What an application does.

    def track(self, topic: str, key: str, meta: Any = None, *, owner: int | None = None) -> int:
        """Track ``key`` for a new owner, or for ``owner``, and return the owner."""
        if owner is None:
            self._last_owner += 1
            owner = self._last_owner
        self.tracker.track(topic, key, meta or {}, owner=owner)
        self._simulation.settle(self)
        return owner

    def untrack(self, topic: str, key: str, *, owner: int) -> None:
        self.tracker.untrack(topic, key, owner=owner)
        self._simulation.settle(self)

    def update(self, topic: str, key: str, meta: Any, *, owner: int) -> None:
        self.tracker.update(topic, key, meta, owner=owner)
        self._simulation.settle(self)

    def end(self, owner: int) -> None:
        """An owner ends, with all that it tracks."""
        self.tracker.untrack_owner(owner)
        self._simulation.settle(self)

    # What it shows.

    def keys(self, topic: str) -> list[str]:
        """The keys that are visible in a topic, sorted."""
        return sorted(self.tracker.keys(topic))

    def visible(self) -> Counter[tuple[str, str, str]]:
        """All that is visible: (topic, key, meta without refs)."""
        return Counter(map(_content, self.tracker.list_all()))

    def own(self) -> Counter[tuple[str, str, str]]:
        """All that it tracks itself and does not hide."""
        return Counter(_content(entry) for entry in self.tracker.own if not entry.hidden)


class HeldMessages:
    """Messages that the network holds for as long as the scenario says.

    Args:
        simulation: Where.
        kinds: Types of the messages; none: all.
        source: Node that sends them; None: any.
        target: Node that they are for; None: any.
        copies: They arrive all the same, and only copies are held.
    """

    def __init__(
        self,
        simulation: Simulation,
        kinds: tuple[type[TrackerMessage], ...],
        source: str | None,
        target: str | None,
        *,
        copies: bool,
    ) -> None:
        self.messages: list[tuple[str, str, TrackerMessage]] = []
        """(source, target, message), in the order in which they were sent."""
        self.copies = copies
        self._simulation = simulation
        self._kinds = kinds
        self._source = source
        self._target = target
        self._is_open = True

    def matches(self, source: str, target: str, message: TrackerMessage) -> bool:
        return (
            self._is_open
            and (not self._kinds or isinstance(message, self._kinds))
            and self._source in (None, source)
            and self._target in (None, target)
        )

    def stop(self) -> None:
        """Hold no more; what is held stays."""
        self._is_open = False

    def deliver(self) -> None:
        """All that is held arrives, in order; a second call delivers it again."""
        for _, target, message in list(self.messages):
            self._simulation.deliver(target, message)

    def release(self) -> None:
        """Hold no more, and deliver what is held."""
        self.stop()
        self.deliver()


class Simulation:
    """A cluster, its network and its time.

    Args:
        seed: Of all chance.
        nodes: Names of the nodes that start at once, a letter each.
        faults: What the network does to messages; it may be changed at any time.
        options: The periods of all nodes.
    """

    def __init__(
        self,
        seed: int = 0,
        nodes: Iterable[str] = "abc",
        *,
        faults: Faults | None = None,
        options: ReplicationOptions | None = None,
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now = 1_000.0
        self.faults = faults or Faults()
        self.options = options or ReplicationOptions()
        self.nodes: dict[str, SimulatedNode] = {}
        self.sent: Counter[str] = Counter()
        """Messages sent, by kind; one to a node that is gone is one."""
        self.sent_size = 0
        self.watchers: list[Callable[[SimulatedNode, Sequence[TrackerEvent]], None]] = []
        """Called after each input of a node, with its events."""
        self._cut: set[tuple[str, str]] = set()
        self._holds: list[HeldMessages] = []
        self._slow: dict[tuple[str, str], float] = {}
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._action_count = 0
        self._arrives_at: dict[tuple[str, str], float] = {}
        self._links: dict[OriginId, str] = {}
        for name in nodes:
            self.start(name)

    def __getattr__(self, name: str) -> SimulatedNode:
        try:
            return self.__dict__["nodes"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    # The scenario.

    def start(
        self, name: str, *, called: str | None = None, clock_step: float = 0.0
    ) -> SimulatedNode:
        """Start a node, or start it again.

        Args:
            name: Its name.
            called: The name that it was configured with, if that is another one's.
            clock_step: Seconds by which its wall clock is off.
        """
        incarnation = int((WALL_CLOCK + self.now + clock_step) * 1_000_000)
        origin = OriginId(called or name, incarnation, self.rng.getrandbits(64))
        link = f"{name}{len(self._links)}"
        node = self.nodes[name] = SimulatedNode(self, name, origin, self.options, link)
        self.settle(node)
        return node

    def crash(self, name: str) -> None:
        """A node is gone, without goodbye."""
        node = self.nodes.pop(name)
        node.is_live = False
        if self.faults.hints is not None:
            for other in self.nodes.values():
                self._at(self.faults.hints, partial(self._hint, other, node.link))

    def clone(self, name: str, copied_to: str) -> SimulatedNode:
        """Copy a node with all that it knows, its id included, as one copies a virtual machine."""
        node = self.nodes[name]
        clone = SimulatedNode(self, copied_to, node.tracker.origin, self.options, node.link)
        clone.tracker, clone.replication, clone.shown = copy.deepcopy(
            (node.tracker, node.replication, node.shown)
        )
        clone.address = node.address
        clone._last_owner = node._last_owner
        self.nodes[copied_to] = clone
        self.settle(clone)
        return clone

    def stop(self, name: str) -> None:
        """A node says goodbye and goes."""
        node = self.nodes[name]
        node.replication.close(self.now)
        self.settle(node)
        del self.nodes[name]
        node.is_live = False

    def pause(self, name: str) -> None:
        """A node does nothing, and its messages wait for it."""
        self.nodes[name].is_paused = True

    def resume(self, name: str) -> None:
        """It goes on, and handles first what waits."""
        node = self.nodes[name]
        node.is_paused = False
        inbox, node.inbox = node.inbox, []
        for data in inbox:
            self._receive(node, data)
        self._handle_timer(node)

    def partition(self, *groups: str) -> None:
        """Cut the links between groups of nodes, a letter each, both ways."""
        for group in groups:
            for other in groups:
                if other is not group:
                    for source in group:
                        for target in other:
                            self.cut(source, target)

    def cut(self, source: str, target: str) -> None:
        """Cut a link in one direction."""
        self._cut.add((source, target))

    def slow(self, source: str, target: str, delay: float) -> None:
        """Let messages of a link take ``delay`` seconds more."""
        self._slow[source, target] = delay

    def heal(self) -> None:
        """Mend all links."""
        self._cut.clear()
        self._slow.clear()

    def detach(self, name: str) -> None:
        """A node loses its attachment to the network, and knows it."""
        self.partition(name, "".join(other for other in self.nodes if other != name))
        self.nodes[name].replication.detached(self.now)
        self.settle(self.nodes[name])

    def attach(self, name: str) -> None:
        """It has it again."""
        self._cut = {link for link in self._cut if name not in link}
        self.nodes[name].replication.attached(self.now)
        self.settle(self.nodes[name])

    def restart_engine(self, seconds: float) -> None:
        """What all nodes are attached to restarts: each sees all links die, and then why."""
        for node in self.nodes.values():
            for other in self.nodes.values():
                if other is not node:
                    self.hint(node.name, other.tracker.origin)
        for name in self.nodes:
            self.detach(name)
        self.advance(seconds)
        for name in self.nodes:
            self.attach(name)

    def hint(self, name: str, origin: OriginId) -> None:
        """A node is told that its link to an origin is gone."""
        self._hint(self.nodes[name], self._links[origin])

    def hold(
        self,
        *kinds: type[TrackerMessage],
        source: str | None = None,
        target: str | None = None,
        copies: bool = False,
    ) -> HeldMessages:
        """Hold messages that are sent from now on; the arguments are those of ``HeldMessages``."""
        held = HeldMessages(self, kinds, source, target, copies=copies)
        self._holds.append(held)
        return held

    def deliver(self, target: str, message: TrackerMessage) -> None:
        """A message arrives at a node now, wherever it comes from."""
        node = self.nodes.get(target)
        if node is not None:
            self._receive(node, encode_message(message))

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._actions and self._actions[0][0] <= end:
            at, _, action = heapq.heappop(self._actions)
            self.now = at
            action()
        self.now = end

    def run_until_quiet(self, limit: float = 120.0) -> float:
        """Let time pass until all nodes that live show the same and hold it; return how long.

        Raises:
            AssertionError: They do not, within ``limit`` seconds.
        """
        began_at = self.now
        while self.now < began_at + limit:
            self.advance(0.25)
            if self.disagreement() is None:
                return self.now - began_at
        raise AssertionError(f"seed {self.seed}: {self.disagreement()}")

    # The oracle.

    def disagreement(self) -> str | None:
        """In what nodes that live differ from what they should show; None if in nothing."""
        expected: Counter[tuple[str, str, str]] = Counter()
        for node in self.nodes.values():
            expected += node.own()
        for node in self.nodes.values():
            visible = node.visible()
            if visible != expected:
                extra, missing = visible - expected, expected - visible
                return f"{node.name} shows {dict(extra)} too much, and {dict(missing)} too little"
        return None

    # The machinery.

    def settle(self, node: SimulatedNode) -> None:
        """Do what a shell does after any input: dispatch events, send messages, set the timer."""
        events = node.tracker.events()
        for event in events:
            node.events.append(event)
            match event:
                case Joined(entry):
                    assert entry.ref not in node.shown, "a join of what is shown"
                    node.shown[entry.ref] = entry
                case Left(entry):
                    assert node.shown.pop(entry.ref) is not None
                case Updated(old, new):
                    assert node.shown.pop(old.ref) is not None
                    node.shown[new.ref] = new
        for envelope in node.replication.messages_to_send():
            self._send(node, envelope)
        timer = node.replication.next_timer()
        if timer is not None:
            self._at(max(timer - self.now, 0.0), lambda: self._timer(node, timer))
        self._links[node.tracker.origin] = node.link
        for watcher in self.watchers:
            watcher(node, events)

    def _timer(self, node: SimulatedNode, timer: float) -> None:
        if node.is_live and not node.is_paused and node.replication.next_timer() == timer:
            self._handle_timer(node)

    def _handle_timer(self, node: SimulatedNode) -> None:
        node.replication.handle_timer(self.now)
        self.settle(node)

    def _send(self, node: SimulatedNode, envelope: Envelope) -> None:
        data = encode_message(envelope.message)
        if envelope.to is None:
            targets = [name for name in self.nodes if name != node.name]
        else:
            targets = [
                name
                for name, other in self.nodes.items()
                if other.address == envelope.to and other is not node
            ]
            if not targets:
                self.sent[type(envelope.message).__name__] += 1
        for target in targets:
            self.sent[type(envelope.message).__name__] += 1
            self.sent_size += len(data)
            is_held = False
            for held in self._holds:
                if held.matches(node.name, target, envelope.message):
                    held.messages.append((node.name, target, envelope.message))
                    is_held = is_held or not held.copies
            if is_held:
                continue
            copies = 2 if self.rng.random() < self.faults.duplication else 1
            for _ in range(copies):
                if self.rng.random() >= self.faults.loss:
                    self._transmit(node.name, target, data)

    def _transmit(self, source: str, target: str, data: bytes) -> None:
        if (source, target) in self._cut:
            return
        faults = self.faults
        at = self.now + faults.min_delay + self.rng.random() * (faults.max_delay - faults.min_delay)
        at += self._slow.get((source, target), 0.0)
        if not faults.reordering:
            at = max(at, self._arrives_at.get((source, target), 0.0))
            self._arrives_at[source, target] = at
        self._at(at - self.now, lambda: self._arrive(source, target, data))

    def _arrive(self, source: str, target: str, data: bytes) -> None:
        node = self.nodes.get(target)
        if node is None or (source, target) in self._cut:
            return
        if node.is_paused:
            node.inbox.append(data)
        else:
            self._receive(node, data)

    def _receive(self, node: SimulatedNode, data: bytes) -> None:
        message = decode_message(data)
        assert message is not None, "the simulation sends what it can read"
        node.replication.receive(message, self.now)
        self.settle(node)

    def _hint(self, node: SimulatedNode, link: str) -> None:
        if node.is_live and not node.is_paused:
            node.replication.link_down(link, self.now)
            self.settle(node)

    def _at(self, delay: float, action: Callable[[], None]) -> None:
        self._action_count += 1
        heapq.heappush(self._actions, (self.now + delay, self._action_count, action))


def _content(entry: Entry) -> tuple[str, str, str]:
    meta = decode_meta(entry.meta)
    meta.pop("phx_ref", None)
    meta.pop("phx_ref_prev", None)
    return entry.topic, entry.key, repr(sorted(meta.items()))
