"""A cluster of trackers in one thread: the real protocol, a network that fails, and no clock.

The simulation runs the protocol objects that a node runs. Every message is encoded and decoded; it
may be late, lost, doubled or overtaken, as the options and the scenario say. All chance comes from
the seed, so that a run is repeated exactly by its seed.

A scenario is one line for each event:

>>> sim = Simulation(seed=7, nodes="abc")
>>> owner = sim.a.track("room:1", "alice")
>>> took = sim.run_until_quiet()
>>> sim.partition("a", "bc")
>>> sim.advance(40)
>>> sim.b.keys("room:1")
[]
>>> sim.heal()
>>> took = sim.run_until_quiet()
>>> sim.b.keys("room:1")
['alice']

What can happen, by who suffers it:

- all messages: ``delay``, ``lose``, ``duplicate``, ``reorder``;
- links: ``partition``, ``cut`` (one way), ``slow``, ``freeze`` (old messages arrive when it thaws);
- nodes: ``crash``, ``restart`` (its wall clock set back), ``stop``, ``pause``, ``sleep``,
  ``drop_inbox``, ``twin`` (two of one name), ``clone`` (two of one id);
- their adapters: ``hint`` (a link seems to be gone), ``link_up``, ``detach``, ``restart_engine``;
- clusters: ``grow``, ``shrink``, ``roll``.

``roll(versions=(1, 2))`` mixes message versions. ``heal`` mends the links, ``calm`` ends
every fault. ``roost.testing.Oracle`` says whether the cluster did what it promises.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Final

import msgspec

from roost.crdt.incarnation import OriginId
from roost.testing.network import Faults, HeldMessages, Link, Network
from roost.testing.simulated_node import SimulatedNode
from roost.tracker.messages import VERSIONS, TrackerMessage, decode_message, encode_message
from roost.tracker.node import Envelope
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated

__all__ = ["Faults", "HeldMessages", "SimulatedNode", "Simulation"]

WALL_CLOCK: Final = 1_700_000_000.0  # unix seconds when a simulation begins
RESOLUTION: Final = 1e-6  # seconds: sums of floats miss an instant by less


class Simulation:
    """A cluster, its network and its time.

    Args:
        seed: Of all chance.
        nodes: Names of the nodes that start at once, a letter each.
        faults: What the network does to messages; it may be changed at any time.
        options: The periods of all nodes.

    Attributes:
        nodes: Name → node; ``sim.a`` is ``sim.nodes["a"]``.
        now: Seconds on the clock of all nodes.
        sent: Messages sent, by kind; one to a node that is gone is one.
        sent_size: Their bytes.
        watchers: Called after each input of a node, with its events.
        listeners: Called before each message that a node handles.
        checks: Called whenever time has passed.

    Example:
        >>> sim = Simulation(seed=7, nodes="ab", faults=Faults(loss=0.3))
        >>> owner = sim.a.track("room:1", "alice")
        >>> sim.pause("b")
        >>> sim.advance(60)
        >>> sim.calm()
        >>> sim.run_until_quiet() < 4
        True
        >>> sim.b.keys("room:1")
        ['alice']
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
        self.network = Network(self.rng, faults or Faults())
        self.options = options or ReplicationOptions()
        self.nodes: dict[str, SimulatedNode] = {}
        self.sent: Counter[str] = Counter()
        self.sent_size = 0
        self.watchers: list[Callable[[SimulatedNode, Sequence[TrackerEvent]], None]] = []
        self.listeners: list[Callable[[SimulatedNode, TrackerMessage], None]] = []
        self.checks: list[Callable[[], None]] = []
        self._addressed: dict[str, list[SimulatedNode]] = {}  # twins and clones share an address
        self._links: dict[OriginId, str] = {}
        self._link_numbers = count()
        self._actions: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._action_numbers = count()
        for name in nodes:
            self.start(name)

    def __getattr__(self, name: str) -> SimulatedNode:
        try:
            return self.__dict__["nodes"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    # Nodes come and go.

    def start(
        self,
        name: str,
        *,
        called: str | None = None,
        clock_step: float = 0.0,
        versions: tuple[int, int] = VERSIONS,
    ) -> SimulatedNode:
        """Start a node, or start it again.

        Args:
            name: Its name.
            called: The name that it was configured with, if that is another one's.
            clock_step: Seconds by which its wall clock is off.
            versions: The lowest and the highest message version that it reads. One that reads
                later versions than there are writes messages with a field more.
        """
        incarnation = int((WALL_CLOCK + self.now + clock_step) * 1_000_000)
        origin = OriginId(called or name, incarnation, self.rng.getrandbits(64))
        link = f"{name}{next(self._link_numbers)}"
        return self._add(self._make_node(name, origin, link, versions))

    def restart(
        self, name: str, *, clock_step: float = 0.0, versions: tuple[int, int] = VERSIONS
    ) -> SimulatedNode:
        """A node is gone without goodbye, and starts again under its name."""
        if name in self.nodes:
            self.crash(name)
        return self.start(name, clock_step=clock_step, versions=versions)

    def stop(self, name: str) -> None:
        """A node says goodbye and goes."""
        node = self.nodes[name]
        node.replication.close(self.now)
        self.settle(node)
        self._remove(node)

    def crash(self, name: str) -> None:
        """A node is gone, without goodbye."""
        node = self.nodes[name]
        self._remove(node)
        if self.faults.hints is not None:
            for other in self.nodes.values():
                self._at(self.now + self.faults.hints, self._hint, other, node.link)

    def twin(self, name: str, place: str) -> SimulatedNode:
        """Start a second node of one name; the scenario calls it by its place."""
        return self.start(place, called=name)

    def clone(self, name: str, place: str) -> SimulatedNode:
        """Copy a node with all that it knows, its id included, as one copies a virtual machine."""
        model = self.nodes[name]
        clone = self._make_node(place, model.tracker.origin, model.link, model.versions)
        clone.copy_from(model)
        return self._add(clone)

    def grow(
        self,
        names: Iterable[str],
        *,
        period: float = 0.5,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        """Start nodes one after another, ``period`` seconds after each."""
        for name in names:
            self.start(name, versions=versions)
            self.advance(period)

    def shrink(self, names: Iterable[str], *, period: float = 0.5, crash: bool = False) -> None:
        """Stop nodes one after another, ``period`` seconds after each."""
        for name in names:
            (self.crash if crash else self.stop)(name)
            self.advance(period)

    def roll(
        self,
        names: Iterable[str] | None = None,
        *,
        down_for: float = 1.0,
        period: float = 1.0,
        crash: bool = False,
        versions: tuple[int, int] = VERSIONS,
    ) -> None:
        """Restart nodes one after another, as a deploy does.

        Args:
            names: Which; None: all.
            down_for: Seconds from the end of each to its start.
            period: Seconds from the start of each to the end of the next.
            crash: They go without goodbye.
            versions: The message versions that they read afterwards.
        """
        for name in list(self.nodes) if names is None else names:
            self.shrink((name,), period=down_for, crash=crash)
            self.grow((name,), period=period, versions=versions)

    def pause(self, *names: str) -> None:
        """Nodes do nothing, and their messages wait for them."""
        for name in names:
            self.nodes[name].paused_at = self.now

    def resume(self, *names: str) -> None:
        """They go on, and handle first what waits."""
        for name in names:
            node = self.nodes[name]
            if node.paused_at is None:
                continue
            node.sleeps.append((node.paused_at, self.now))
            node.paused_at = None
            inbox, node.inbox = node.inbox, []
            for message in inbox:
                self._receive(node, message)
            self._handle_timer(node)

    def sleep(self, seconds: float, *names: str) -> None:
        """Pause nodes for so long."""
        self.pause(*names)
        self.advance(seconds)
        self.resume(*(name for name in names if name in self.nodes))

    def drop_inbox(self, name: str) -> None:
        """What waits for a paused node is lost: brokers drop what slow consumers do not take."""
        self.nodes[name].inbox.clear()

    # Messages and links suffer.

    @property
    def faults(self) -> Faults:
        """What the network does to all messages; change it, or replace it."""
        return self.network.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.network.faults = faults

    def delay(self, longest: float, *, shortest: float = 0.0) -> None:
        """Let each message take between ``shortest`` and ``longest`` seconds."""
        self._change_faults(min_delay=shortest, max_delay=longest)

    def lose(self, probability: float) -> None:
        """Lose messages."""
        self._change_faults(loss=probability)

    def duplicate(self, probability: float) -> None:
        """Let messages arrive twice."""
        self._change_faults(duplication=probability)

    def reorder(self, is_on: bool = True) -> None:
        """Let messages of a link overtake each other."""
        self._change_faults(reordering=is_on)

    def _change_faults(self, **changes: Any) -> None:
        self.faults = msgspec.structs.replace(self.faults, **changes)

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut the links between groups of nodes, a letter each, both ways.

        Nodes that are in no group keep all of their links: ``partition("a", "b")`` cuts a link of
        two, who may both hear a third.
        """
        self.network.cut(_links_between([tuple(group) for group in groups]))

    def cut(self, source: str, target: str) -> None:
        """Cut a link in one direction."""
        self.network.cut([(source, target)])

    def slow(self, source: str, target: str, delay: float) -> None:
        """Let messages of a link take ``delay`` seconds more."""
        self.network.slow((source, target), delay)

    def freeze(self, source: str, target: str) -> None:
        """Stop a link in one direction: its messages wait, and arrive when it thaws.

        So does a relay that is paused, be it a router or the kernel at either end.
        """
        self.network.freeze((source, target))

    def thaw(self) -> None:
        """Let all frozen links go on; what waited arrives, in order, however old it is."""
        for source, target, message in self.network.thaw():
            self._arrive(source, target, message)

    def heal(self) -> None:
        """Mend all links."""
        self.network.mend()
        self.thaw()

    def hold(
        self,
        *kinds: type[TrackerMessage],
        source: str | None = None,
        target: str | None = None,
        copies: bool = False,
    ) -> HeldMessages:
        """Hold messages that are sent from now on; the arguments are those of ``HeldMessages``."""
        held = HeldMessages(self.deliver, kinds, source, target, copies=copies)
        self.network.hold(held)
        return held

    def deliver(self, target: str, message: TrackerMessage) -> None:
        """A message arrives at a node now, wherever it comes from."""
        node = self.nodes.get(target)
        if node is not None:
            self._receive(node, _decoded(encode_message(message)))

    # What adapters report.

    def hint(self, name: str, gone: str | OriginId) -> None:
        """Hint to a node that its link is gone: to another node, or to an earlier incarnation."""
        link = self.nodes[gone].link if isinstance(gone, str) else self._links[gone]
        self._hint(self.nodes[name], link)

    def link_up(self, name: str, other: str) -> None:
        """Report to a node that it can reach another one."""
        node = self.nodes[name]
        node.replication.link_up(self.nodes[other].address, self.now)
        self.settle(node)

    def drop_links(self) -> None:
        """Cut every link at once; each node sees all of its own die."""
        self.partition(*([name] for name in self.nodes))
        for node in list(self.nodes.values()):
            for other in list(self.nodes.values()):
                if other is not node:
                    self._hint(node, other.link)

    def detach(self, name: str) -> None:
        """A node loses its attachment to the network, and knows it."""
        node = self.nodes[name]
        self.partition([name], [other for other in self.nodes if other != name])
        node.replication.detached(self.now)
        self.settle(node)

    def attach(self, name: str) -> None:
        """It has it again."""
        node = self.nodes[name]
        self.network.mend_at(name)
        node.replication.attached(self.now)
        self.settle(node)

    def restart_engine(self, seconds: float) -> None:
        """What all nodes are attached to restarts: each sees all links die, and then why."""
        self.drop_links()
        for name in self.nodes:
            self.detach(name)
        self.advance(seconds)
        for name in self.nodes:
            self.attach(name)

    def calm(self) -> None:
        """End all faults: messages are quick, links mended, nodes awake and attached."""
        self.faults = Faults(hints=self.faults.hints)
        self.heal()
        self.resume(*self.nodes)
        for node in list(self.nodes.values()):
            if node.is_detached:
                self.attach(node.name)

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end, actions = self.now + seconds, self._actions
        while actions and actions[0][0] <= end:
            self.now, _, action, arguments = heapq.heappop(actions)
            action(*arguments)
        self.now = end
        for check in self.checks:
            check()

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
        node.cluster_events += node.replication.events()
        self._links[node.replication.origin] = node.link
        for envelope in node.replication.messages_to_send():
            self._send(node, envelope)
        self._set_timer(node)
        for watcher in self.watchers:
            watcher(node, events)

    def _make_node(
        self, name: str, origin: OriginId, link: str, versions: tuple[int, int]
    ) -> SimulatedNode:
        return SimulatedNode(
            name,
            origin,
            options=self.options,
            link=link,
            versions=versions,
            rng=random.Random(self.rng.random()),
            # No method of ours: whoever copies the protocol would copy the simulation with it.
            new_nonce=lambda: self.rng.getrandbits(64),
            now=self.now,
            settle=self.settle,
        )

    def _add(self, node: SimulatedNode) -> SimulatedNode:
        self.nodes[node.name] = node
        self._addressed.setdefault(node.address, []).append(node)
        self.settle(node)
        return node

    def _remove(self, node: SimulatedNode) -> None:
        del self.nodes[node.name]
        self._addressed[node.address].remove(node)
        node.is_live = False
        node.ended_at = self.now

    def _set_timer(self, node: SimulatedNode) -> None:
        # One action of each node is enough: when it comes too early, it puts itself off.
        timer = node.replication.next_timer()
        if timer is not None and timer < node.timer_at:
            node.timer_at = max(timer, self.now)
            self._at(node.timer_at, self._timer, node, node.timer_at)

    def _timer(self, node: SimulatedNode, at: float) -> None:
        if at != node.timer_at or not node.is_live:
            return
        node.timer_at = math.inf
        if node.is_paused:
            return
        timer = node.replication.next_timer()
        if timer is not None and timer <= self.now + RESOLUTION:
            self._handle_timer(node)
        else:
            self._set_timer(node)

    def _handle_timer(self, node: SimulatedNode) -> None:
        node.replication.handle_timer(self.now)
        self.settle(node)

    def _send(self, node: SimulatedNode, envelope: Envelope) -> None:
        kind, data = type(envelope.message).__name__, encode_message(envelope.message)
        if node.versions[1] > VERSIONS[1]:
            data = _as_later(data)
        if envelope.to is None:
            targets = [name for name in self.nodes if name != node.name]
        else:
            addressed = self._addressed.get(envelope.to, ())
            targets = [each.name for each in addressed if each is not node]
        size = len(targets) if envelope.to is None else max(len(targets), 1)
        self.sent[kind] += size
        self.sent_size += len(targets) * len(data)
        # Decoded once for all: messages are frozen, down to ints, strings, bytes and tuples of
        # them, so that no receiver can tell that others got the very same.
        message = _decoded(data)
        source, network, is_holding = node.name, self.network, self.network.is_holding
        for target in targets:
            if is_holding and network.holds(source, target, message):
                continue
            for at in network.arrivals(source, target, self.now):
                self._at(at, self._arrive, source, target, message)

    def _arrive(self, source: str, target: str, message: TrackerMessage) -> None:
        node = self.nodes.get(target)
        if node is None or not self.network.lets_through(source, target, message):
            return
        if node.is_paused:
            node.inbox.append(message)
        else:
            self._receive(node, message)

    def _receive(self, node: SimulatedNode, message: TrackerMessage) -> None:
        for listener in self.listeners:
            listener(node, message)
        node.replication.receive(message, self.now)
        self.settle(node)

    def _hint(self, node: SimulatedNode, link: str) -> None:
        if node.is_live and not node.is_paused:
            node.hinted_at[link] = self.now
            node.replication.link_down(link, self.now)
            self.settle(node)

    def _at(self, at: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._actions, (at, next(self._action_numbers), action, arguments))


def _decoded(data: bytes) -> TrackerMessage:
    message = decode_message(data)
    assert message is not None, "the simulation sends what it can read"
    return message


def _as_later(data: bytes) -> bytes:
    """A message as a later version may write it: with another field, which this one overlooks."""
    fields = msgspec.msgpack.decode(data)
    return msgspec.msgpack.encode([*fields, {"later": True}])


def _links_between(groups: Sequence[tuple[str, ...]]) -> Iterator[Link]:
    for group in groups:
        for other in groups:
            if other is not group:
                yield from ((source, target) for source in group for target in other)
