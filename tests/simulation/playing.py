"""Play histories under the oracle, and shrink those that fail.

Each action of a history becomes calls of ``Simulation``, or none if it cannot be done. A call is
what is played and what is printed, so that a scenario that was printed is the very same run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from roost.testing import Faults, Simulation
from roost.testing.simulation import SimulatedNode
from roost.tracker.messages import VERSIONS
from roost.tracker.options import ReplicationOptions
from tests.simulation.histories import Action, History
from tests.simulation.scene import Limits, Scene

__all__ = ["Call", "Played", "failure", "play", "scenario", "shrink"]

IMPORTS: Final = "from tests.simulation.scene import Faults, Limits, ReplicationOptions, Scene"
PLAIN: Final = ("advance", "heal", "thaw", "drop_links", "delay", "lose", "duplicate", "reorder")
BETWEEN_LINKS: Final = ("cut", "slow", "freeze", "partition")


class Call(msgspec.Struct, frozen=True):
    """A call of the simulation, or of one of its nodes: one line of a scenario."""

    method: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}
    node: str | None = None

    def __str__(self) -> str:
        arguments = [
            *map(repr, self.args),
            *(f"{key}={self.options[key]!r}" for key in self.options),
        ]
        place = "sim" if self.node is None else f"sim.{self.node}"
        return f"{place}.{self.method}({', '.join(arguments)})"

    def play(self, sim: Simulation) -> None:
        place = sim if self.node is None else sim.nodes[self.node]
        getattr(place, self.method)(*self.args, **self.options)


class Played(msgspec.Struct, frozen=True):
    """A history that was played.

    Args:
        failure: What it broke; None if every promise was kept.
        calls: What was called.
        sim: The simulation as it ended; None if it could not begin.
    """

    failure: str | None
    calls: Sequence[Call]
    sim: Simulation | None


def failure(history: History) -> str | None:
    """Play a history; what it broke, or None if every promise was kept."""
    return play(history).failure


def scenario(history: History) -> str:
    """A history as a scene that can be run."""
    lines = [f"    {call}" for call in play(history).calls] or ["    pass"]
    return "\n".join([IMPORTS, "", f"with {_setup(history)} as sim:", *lines])


def play(history: History) -> Played:
    """Play a history under the oracle."""
    calls: list[Call] = []
    sim: Simulation | None = None
    scene = Scene(
        history.seed,
        history.nodes,
        faults=history.faults,
        options=history.options,
        limits=history.limits,
    )
    try:
        with scene as sim:
            reader = _Reader(sim)
            for action in history.actions:
                for call in reader.calls(action):
                    calls.append(call)
                    call.play(sim)
    except Exception as error:
        return Played(f"{type(error).__name__}: {error}", calls, sim)
    return Played(None, calls, sim)


def _setup(history: History) -> str:
    arguments = [str(history.seed), repr(history.nodes)]
    defaults: Sequence[Any] = (Faults(), ReplicationOptions(), Limits())
    for name, default in zip(("faults", "options", "limits"), defaults, strict=True):
        value = getattr(history, name)
        changed = [
            f"{field}={getattr(value, field)!r}"
            for field in value.__struct_fields__
            if getattr(value, field) != getattr(default, field)
        ]
        if changed:
            arguments.append(f"{name}={type(value).__name__}({', '.join(changed)})")
    return f"Scene({', '.join(arguments)})"


class _Reader:
    """Say what an action calls, as things are."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.owned: dict[int, list[tuple[SimulatedNode, str, str]]] = {}

    def calls(self, action: Action) -> Iterator[Call]:
        nodes, args = self.sim.nodes, action.args
        match action.verb, args:
            case ("track", (name, topic, key, owner)):
                yield from self._track(name, topic, key, owner)
            case ("end", (owner,)):
                for node in {node: None for node, _, _ in self._of(owner)}:
                    yield Call("end", (owner,), node=node.name)
            case ("update", (owner, number)):
                for node, topic, key in self._of(owner):
                    meta = {"number": number}
                    yield Call("update", (topic, key, meta), {"owner": owner}, node.name)
            case ("hide" | "show", (owner,)):
                for node, topic, key in self._of(owner):
                    yield Call(action.verb, (topic, key), {"owner": owner}, node.name)
            case ("start", (name, *how)) if name not in nodes:
                yield Call("start", (name,), _start_options(*how))
            case ("restart", (name, *how)) if name in nodes:
                yield Call("restart", (name,), _start_options(*how))
            case ("twin", (_, place)) if place not in nodes:
                yield Call("twin", args)
            case ("clone", (name, place)) if place not in nodes and self._is_awake(name):
                yield Call("clone", args)
            case ("crash", (name,)) if name in nodes:
                yield Call("crash", args)
            case ("resume" | "drop_inbox", (name,)) if name in nodes and nodes[name].is_paused:
                yield Call(action.verb, args)
            case ("stop" | "pause", (name,)) if self._is_awake(name):
                yield Call(action.verb, args)
            case ("detach", (name,)) if self._is_awake(name) and not nodes[name].is_detached:
                yield Call("detach", args)
            case ("attach", (name,)) if self._is_awake(name) and nodes[name].is_detached:
                yield Call("attach", args)
            case ("hint" | "link_up", (name, other)) if self._is_awake(name) and other in nodes:
                yield Call(action.verb, args)
            case (verb, _) if verb in PLAIN or verb in BETWEEN_LINKS:
                yield Call(verb, args)
            case _:
                assert action.verb in VERBS, action

    def _is_awake(self, name: str) -> bool:
        node = self.sim.nodes.get(name)
        return node is not None and not node.is_paused

    def _track(self, name: str, topic: str, key: str, owner: int) -> Iterator[Call]:
        if not self._is_awake(name):
            return
        node = self.sim.nodes[name]
        if node.tracker.tracked(topic, key, owner=owner) is None:
            self.owned.setdefault(owner, []).append((node, topic, key))
            yield Call("track", (topic, key), {"owner": owner}, name)

    def _of(self, owner: int) -> list[tuple[SimulatedNode, str, str]]:
        return [
            (node, topic, key)
            for node, topic, key in self.owned.get(owner, [])
            if node.is_live and not node.is_paused
            if node.tracker.tracked(topic, key, owner=owner) is not None
        ]


def _start_options(clock_step: float, versions: tuple[int, int]) -> dict[str, Any]:
    options: dict[str, Any] = {"clock_step": clock_step} if clock_step else {}
    return options if versions == VERSIONS else options | {"versions": versions}


VERBS: Final = {
    *("start", "restart", "twin", "clone", "crash", "resume", "drop_inbox", "stop", "pause"),
    *("detach", "attach", "hint", "link_up"),
}


def shrink(history: History, *, max_seconds: float = 60.0) -> History:
    """A shorter history that fails as well: no action of it can be left out.

    Args:
        history: One that fails.
        max_seconds: After so long, what was found so far has to do: to play a crowd takes seconds.
    """
    actions = list(history.actions)
    size = max(len(actions) // 2, 1)
    ends_at = time.monotonic() + max_seconds
    while True:
        at, has_shrunk = 0, False
        while at < len(actions):
            if time.monotonic() > ends_at:
                return msgspec.structs.replace(history, actions=tuple(actions))
            shorter = actions[:at] + actions[at + size :]
            if failure(msgspec.structs.replace(history, actions=tuple(shorter))) is None:
                at += size
            else:
                actions, has_shrunk = shorter, True
        if size > 1:
            size //= 2
        elif not has_shrunk:
            return msgspec.structs.replace(history, actions=tuple(actions))
