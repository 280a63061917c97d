"""Histories of a cluster: drawn from a seed, played under the oracle, and shrunk when they fail.

A history is a setup and a list of actions. Each action can be played whatever came before: what
cannot be done then (crash a node that is not there) does nothing. So any sublist of a history is a
history, and one that fails is shrunk by leaving actions out for as long as it fails. Every action
is shown as the line of a scenario that does it.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import msgspec

from roost.crdt.slice import Slice
from roost.testing.oracle import Oracle, Periods
from roost.testing.simulation import Faults, SimulatedNode, Simulation
from roost.tracker import assembly, messages, peer
from roost.tracker.options import ReplicationOptions
from tests.simulation.clients import Clients

__all__ = ["Action", "History", "draw", "failure", "scenario", "shrink"]

TOPICS: Final = ("room:1", "room:2")
KEYS: Final = ("alice", "bob", "carol", "dave")
PAUSES: Final = (0.001, 0.01, 0.1, 0.5, 2.0, 8.0)  # seconds between two actions, at most
CALM: Final = Faults(hints=0.01)
QUICK: Final = ReplicationOptions(
    heartbeat_period=1.0, request_timeout=0.5, probe_grace=1.0, down_period=6.0, permdown_period=20
)
HINTED_DEATH: Final = 3.0  # seconds


class Action(msgspec.Struct, frozen=True):
    """One thing that happens."""

    verb: str
    args: tuple[Any, ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the implementation, small so that few presences reach them."""

    log_count: int = 10_000
    part_count: int = 1_000
    ahead_count: int = 100
    assembly_count: int = 8
    feed_count: int = 10_000


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one cluster."""

    seed: int
    nodes: str
    faults: Faults
    options: ReplicationOptions
    limits: Limits
    actions: tuple[Action, ...]


# Drawing.


def draw(seed: int) -> History:
    """The history of a seed; the same one each time."""
    rng = random.Random(f"history {seed}")
    size = rng.choice((2, 2, 3, 3, 3, 4, 5))
    is_crowd = rng.random() < 0.01
    names = string.ascii_lowercase[: 20 if is_crowd else size]
    limits = Limits(
        log_count=rng.choice((10_000, 10_000, 3, 10)),
        part_count=rng.choice((1_000, 1_000, 1, 3)),
        ahead_count=rng.choice((100, 100, 2)),
        assembly_count=rng.choice((8, 8, 2)),
        feed_count=rng.choice((10_000, 10_000, 4)),
    )
    drawing = _Drawing(rng, names)
    if is_crowd:
        drawing.crowd()
    else:
        for _ in range(rng.randrange(5, 45)):
            drawing.draw()
    return History(
        seed=seed,
        nodes=names[0] if is_crowd else names,
        faults=_draw_faults(rng),
        options=rng.choice((QUICK, QUICK, QUICK, ReplicationOptions())),
        limits=limits,
        actions=tuple(drawing.actions),
    )


def _draw_faults(rng: random.Random) -> Faults:
    return Faults(
        max_delay=rng.choice((0.005, 0.005, 0.1, 0.5, 2.0)),
        loss=rng.choice((0.0, 0.0, 0.05, 0.3)),
        duplication=rng.choice((0.0, 0.0, 0.2)),
        reordering=rng.random() < 0.5,
        hints=rng.choice((None, 0.01, 0.3)),
    )


class _Drawing:
    def __init__(self, rng: random.Random, names: str) -> None:
        self.rng = rng
        self.names = names
        self.spare = "z"  # where twins and clones live
        self.owners = 0
        self.actions: list[Action] = []

    def add(self, verb: str, *args: Any) -> None:
        self.actions.append(Action(verb, args))

    def wait(self, at_most: float | None = None) -> None:
        longest = at_most or self.rng.choice(PAUSES)
        self.add("advance", round(longest * self.rng.random(), 4))

    def name(self) -> str:
        return self.rng.choice(self.names)

    def draw(self) -> None:
        verbs = {
            self.track: 30,
            self.change: 30,
            self.crash: 4,
            self.stop: 3,
            self.start: 10,
            self.partition: 4,
            self.cut: 5,
            self.heal: 4,
            self.slow: 2,
            self.pause: 4,
            self.resume: 4,
            self.faults: 3,
            self.false_hint: 2,
            self.restart_engine: 1,
            self.restart_all: 0.5,
            self.twin: 0.7,
            self.clone: 0.7,
        }
        (verb,) = self.rng.choices(list(verbs), list(verbs.values()))
        verb()
        self.wait()

    def track(self) -> None:
        if self.owners == 0 or self.rng.random() < 0.7:
            self.owners += 1
            owner = self.owners
        else:
            owner = self.rng.randint(1, self.owners)
        name = self.rng.choice(self.names + self.spare)
        topic, key = self.rng.choice(TOPICS), self.rng.choice(KEYS)
        self.add("track", name, topic, key, owner)

    def change(self) -> None:
        verb = self.rng.choice(("end", "end", "update", "update", "hide", "show"))
        owner = self.rng.randint(1, max(self.owners, 1))
        if verb == "update":
            self.add(verb, owner, self.rng.randrange(100))
        else:
            self.add(verb, owner)

    def crash(self) -> None:
        self.add("crash", self.rng.choice(self.names + self.spare))

    def stop(self) -> None:
        self.add("stop", self.rng.choice(self.names + self.spare))

    def start(self) -> None:
        self.add("start", self.name(), self.rng.choice((0.0, 0.0, 0.0, -3600.0, 3600.0)))

    def partition(self) -> None:
        names = self.rng.sample(self.names, len(self.names))
        at = self.rng.randrange(1, len(names))
        self.add("partition", "".join(names[:at]), "".join(names[at:]))

    def cut(self) -> None:
        self.add("cut", *self.rng.sample(self.names, 2))

    def heal(self) -> None:
        self.add("heal")

    def slow(self) -> None:
        self.add("slow", *self.rng.sample(self.names, 2), self.rng.choice((0.3, 1.0, 3.0)))

    def pause(self) -> None:
        name = self.name()
        self.add("pause", name)
        if self.rng.random() < 0.3:  # so long that all others give it up
            self.wait(30.0)
            self.add("resume", name)

    def resume(self) -> None:
        self.add("resume", self.name())

    def faults(self) -> None:
        self.add("faults", _draw_faults(self.rng))

    def false_hint(self) -> None:
        self.add("hint", *self.rng.sample(self.names, 2))

    def restart_engine(self) -> None:
        """Every link is cut, and every node learns of it, before or after its links died."""
        is_told = self.rng.random() < 0.7
        for name in self.names:
            for other in self.names:
                if name != other:
                    self.add("cut", name, other)
                    if self.rng.random() < 0.5:
                        self.add("hint", name, other)
            if is_told:
                self.add("detach", name)
        self.wait(10.0)
        self.add("heal")
        if is_told:
            for name in self.names:
                self.add("attach", name)

    def restart_all(self) -> None:
        """A rolling restart."""
        for name in self.names:
            self.add(self.rng.choice(("stop", "stop", "crash")), name)
            self.wait(2.0)
            self.add("start", name, 0.0)
            self.track()
            self.wait(2.0)

    def twin(self) -> None:
        self.add("twin", self.name(), self.spare)

    def clone(self) -> None:
        self.add("clone", self.name(), self.spare)

    def crowd(self) -> None:
        """Grow from one node to all, and shrink to a few."""
        for name in self.names[1:]:
            self.track()
            self.add("start", name, 0.0)
            self.wait(0.5)
        for _ in range(20):
            self.track()
            self.change()
        self.wait(2.0)
        for name in self.rng.sample(self.names, len(self.names) - 3):
            self.add(self.rng.choice(("stop", "crash")), name)
            self.change()
            self.wait(0.5)


# Playing.


def failure(history: History) -> str | None:
    """Play a history; what it broke, or None if every promise was kept."""
    with _limits(history.limits):
        try:
            _Play(history).run()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return None


@contextmanager
def _limits(limits: Limits) -> Iterator[None]:
    with ExitStack() as stack:
        defaults: Any = Slice.__init__.__kwdefaults__
        stack.enter_context(patch.dict(defaults, log_count=limits.log_count))
        stack.enter_context(patch.object(messages, "MAX_PART_COUNT", limits.part_count))
        stack.enter_context(patch.object(peer, "MAX_AHEAD_COUNT", limits.ahead_count))
        stack.enter_context(patch.object(assembly, "MAX_COUNT", limits.assembly_count))
        yield


class _Play:
    def __init__(self, history: History) -> None:
        self.history = history
        self.simulation = Simulation(
            history.seed, history.nodes, faults=history.faults, options=history.options
        )
        self.oracle = Oracle(self.simulation)
        self.rng = random.Random(f"play {history.seed}")
        self.clients = Clients(self.simulation, self.rng, history.limits.feed_count)
        self.owned: dict[int, list[tuple[SimulatedNode, str, str]]] = {}
        self.delay = history.faults.max_delay
        self.slowest = 0.0
        self.are_names_unique = True

    def run(self) -> None:
        for action in self.history.actions:
            getattr(self, f"_{action.verb}")(*action.args)
        self.calm()
        self.oracle.judge(delay=self.delay + self.slowest, are_names_unique=self.are_names_unique)
        self.flush_all()
        self.epilogue()
        self.flush_all()

    def calm(self) -> None:
        """Faults stop."""
        self.simulation.faults = CALM
        self.simulation.heal()
        for name in list(self.simulation.nodes):
            self._resume(name)
            if self.simulation.nodes[name].replication.is_detached:
                self.simulation.attach(name)

    def flush_all(self) -> None:
        for _ in range(3):
            self.clients.flush()

    def epilogue(self) -> None:
        """Without faults, each change has its own short time."""
        simulation, oracle = self.simulation, self.oracle
        periods = Periods(simulation.options, CALM.max_delay)
        nodes = list(simulation.nodes.values())
        if not nodes:
            return
        nodes[0].track("room:1", "erin")
        oracle.advance(periods.change)
        oracle.expect_agreement()
        if self.history.seed % 4 == 0:
            oracle.advance(periods.quiet)
            oracle.expect_quiet(60.0 if self.history.seed % 20 == 0 else 5.0)
        # Whatever a goodbye overtakes brings nobody back.
        simulation.faults = Faults(max_delay=0.2, reordering=True)
        simulation.start("y").track("room:1", "frank")
        oracle.advance(self.rng.choice((0.0, 0.01, simulation.options.broadcast_period)))
        simulation.stop("y")
        oracle.advance(2 * 0.2)
        oracle.expect_agreement()
        simulation.faults = CALM
        oracle.advance(0.2)  # a message that is late cancels the hint that its sender died
        if len(nodes) > 1:
            match self.history.seed % 3:
                case 0:
                    simulation.stop(nodes[-1].name)
                    oracle.advance(periods.goodbye)
                case 1:
                    simulation.crash(nodes[-1].name)
                    oracle.advance(HINTED_DEATH)
                case _:
                    simulation.faults = Faults()
                    simulation.crash(nodes[-1].name)
                    oracle.advance(periods.silence)
            oracle.expect_agreement()

    # The actions; each does nothing if it cannot be done.

    def _running(self, name: str) -> SimulatedNode | None:
        node = self.simulation.nodes.get(name)
        return None if node is None or node.is_paused else node

    def _advance(self, seconds: float) -> None:
        self.oracle.advance(seconds)
        self.clients.flush()

    def _track(self, name: str, topic: str, key: str, owner: int) -> None:
        node = self._running(name)
        if node is None or node.tracker.tracked(topic, key, owner=owner) is not None:
            return
        node.track(topic, key, owner=owner)
        self.owned.setdefault(owner, []).append((node, topic, key))

    def _of(self, owner: int) -> list[tuple[SimulatedNode, str, str]]:
        return [
            (node, topic, key)
            for node, topic, key in self.owned.get(owner, [])
            if node.is_live and not node.is_paused
            if node.tracker.tracked(topic, key, owner=owner) is not None
        ]

    def _end(self, owner: int) -> None:
        for node in {node: None for node, _, _ in self._of(owner)}:
            node.end(owner)

    def _update(self, owner: int, number: int) -> None:
        for node, topic, key in self._of(owner):
            node.update(topic, key, {"number": number}, owner=owner)

    def _hide(self, owner: int) -> None:
        for node, topic, key in self._of(owner):
            node.tracker.hide(topic, key, owner=owner)
            self.simulation.settle(node)

    def _show(self, owner: int) -> None:
        for node, topic, key in self._of(owner):
            node.tracker.show(topic, key, owner=owner)
            self.simulation.settle(node)

    def _crash(self, name: str) -> None:
        if name in self.simulation.nodes:
            self.simulation.crash(name)

    def _stop(self, name: str) -> None:
        if self._running(name) is not None:
            self.simulation.stop(name)

    def _start(self, name: str, clock_step: float) -> None:
        if name not in self.simulation.nodes:
            self.simulation.start(name, clock_step=clock_step)

    def _twin(self, name: str, place: str) -> None:
        if place not in self.simulation.nodes:
            self.are_names_unique = False
            self.simulation.start(place, called=name)

    def _clone(self, name: str, place: str) -> None:
        if place not in self.simulation.nodes and self._running(name) is not None:
            self.are_names_unique = False
            self.oracle.forked(name)
            self.simulation.clone(name, place)

    def _partition(self, *groups: str) -> None:
        self.simulation.partition(*groups)

    def _cut(self, source: str, target: str) -> None:
        self.simulation.cut(source, target)

    def _heal(self) -> None:
        self.simulation.heal()

    def _slow(self, source: str, target: str, delay: float) -> None:
        self.simulation.slow(source, target, delay)
        self.slowest = max(self.slowest, delay)

    def _pause(self, name: str) -> None:
        if self._running(name) is not None:
            self.simulation.pause(name)

    def _resume(self, name: str) -> None:
        if name in self.simulation.nodes and self._running(name) is None:
            self.simulation.resume(name)

    def _faults(self, faults: Faults) -> None:
        self.simulation.faults = faults
        self.delay = max(self.delay, faults.max_delay)

    def _hint(self, name: str, other: str) -> None:
        if self._running(name) is not None and other in self.simulation.nodes:
            self.simulation.hint(name, self.simulation.nodes[other].tracker.origin)

    def _detach(self, name: str) -> None:
        if self._running(name) is not None:
            self.simulation.detach(name)

    def _attach(self, name: str) -> None:
        if self._running(name) is not None:
            self.simulation.attach(name)


# Shrinking.


def shrink(history: History) -> History:
    """A shorter history that fails as well: no action of it can be left out."""
    actions = list(history.actions)
    size = max(len(actions) // 2, 1)
    while True:
        at, has_shrunk = 0, False
        while at < len(actions):
            shorter = actions[:at] + actions[at + size :]
            if failure(msgspec.structs.replace(history, actions=tuple(shorter))) is None:
                at += size
            else:
                actions, has_shrunk = shorter, True
        if size > 1:
            size //= 2
        elif not has_shrunk:
            return msgspec.structs.replace(history, actions=tuple(actions))


def scenario(history: History) -> str:
    """A history as the lines of a scenario."""
    defaults: Sequence[Any] = (Faults(), ReplicationOptions(), Limits())
    arguments = [f"seed={history.seed}", f"nodes={history.nodes!r}"]
    for name, value, default in zip(
        ("faults", "options", "limits"),
        (history.faults, history.options, history.limits),
        defaults,
        strict=True,
    ):
        changed = {
            field: getattr(value, field)
            for field in value.__struct_fields__
            if getattr(value, field) != getattr(default, field)
        }
        if changed:
            inner = ", ".join(f"{field}={each!r}" for field, each in changed.items())
            arguments.append(f"{name}={type(value).__name__}({inner})")
    lines = [f"Simulation({', '.join(arguments)})"]
    lines += [_line(action) for action in history.actions]
    return "\n".join(lines)


def _line(action: Action) -> str:
    match action.verb, action.args:
        case "track", (name, topic, key, owner):
            return f"sim.{name}.track({topic!r}, {key!r}, owner={owner})"
        case "faults", (faults,):
            return f"sim.faults = {faults!r}"
        case "start", (name, clock_step):
            return f"sim.start({name!r}, clock_step={clock_step})"
        case "twin", (name, place):
            return f"sim.start({place!r}, called={name!r})"
        case "end" | "update" | "hide" | "show", (owner, *rest):
            return f"# owner {owner}: {action.verb} {' '.join(map(str, rest))}".rstrip()
        case verb, args:
            return f"sim.{verb}({', '.join(map(repr, args))})"
    raise AssertionError(action)
