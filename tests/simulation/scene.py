"""A scene: a cluster, its oracle and its clients, judged when its story has been told.

What is printed of a history that fails is such a scene, to be run as it is::

    from tests.simulation.scene import Faults, Limits, ReplicationOptions, Scene

    with Scene(7, "abc", limits=Limits(log_count=3)) as sim:
        sim.a.track("room:1", "alice", owner=1)
        sim.crash("a")
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from contextlib import ExitStack
from types import ModuleType, TracebackType
from typing import Any, Final
from unittest.mock import patch

import msgspec

import roost.tracker
from roost.crdt import held
from roost.crdt.slice import Slice
from roost.testing import Faults, Oracle, Simulation
from roost.testing.periods import Periods
from roost.tracker import answers
from roost.tracker.options import ReplicationOptions
from tests.simulation.clients import Clients

__all__ = ["Faults", "Limits", "ReplicationOptions", "Scene"]

CALM: Final = Faults(hints=0.01)
HINTED_DEATH: Final = 3.0  # seconds


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of the implementation, small so that few presences reach them."""

    log_count: int = 10_000
    part_count: int = 1_000
    ahead_count: int = 100
    answer_count: int = 64
    range_count: int = 1_000
    gap_count: int = 1_000
    recent_count: int = 1_000
    floor_count: int = 4_096
    asked_count: int = 1_000
    feed_count: int = 10_000

    def apply(self, stack: ExitStack) -> None:
        """Give the constants these values until the stack ends.

        Raises:
            LookupError: One of them is no longer where it was.
        """
        defaults: Any = Slice.__init__.__kwdefaults__
        if "log_count" not in defaults:
            raise LookupError("a slice has no log_count by default")
        stack.enter_context(patch.dict(defaults, log_count=self.log_count))
        for module, name, value in (
            (answers, "MAX_ANSWER_COUNT", self.answer_count),
            (answers, "RANGE_COUNT", self.range_count),
            (held, "MAX_GAPS", self.gap_count),
            (held, "MAX_RECENT_COUNT", self.recent_count),
        ):
            stack.enter_context(patch.object(module, name, value))
        for name, value in (
            ("MAX_PART_COUNT", self.part_count),
            ("MAX_AHEAD_COUNT", self.ahead_count),
            ("MAX_FLOORS", self.floor_count),
            ("MAX_ASKED", self.asked_count),
        ):
            # Who imported a constant has one of its own.
            modules = [module for module in TRACKER_MODULES if hasattr(module, name)]
            if not modules:
                raise LookupError(f"no module of roost.tracker has {name}")
            for module in modules:
                stack.enter_context(patch.object(module, name, value))


def _modules_of(package: ModuleType) -> list[ModuleType]:
    return [
        importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
    ]


TRACKER_MODULES: Final = _modules_of(roost.tracker)


class Scene:
    """Watch a simulation from its beginning; at its end, stop all faults and judge it.

    Args:
        seed: Of all chance.
        nodes: Names of the nodes that start at once, a letter each.
        faults: What the network does to messages at first.
        options: The periods of all nodes.
        limits: Constants while it lasts.
    """

    def __init__(
        self,
        seed: int,
        nodes: str,
        *,
        faults: Faults | None = None,
        options: ReplicationOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._seed = seed
        self._nodes = nodes
        self._faults = faults or Faults()
        self._options = options or ReplicationOptions()
        self._limits = limits or Limits()
        self._stack = ExitStack()

    def __enter__(self) -> Simulation:
        with ExitStack() as stack:
            self._limits.apply(stack)
            faults = msgspec.structs.replace(self._faults)
            self._sim = Simulation(self._seed, self._nodes, faults=faults, options=self._options)
            self._oracle = Oracle(self._sim)
            self._rng = random.Random(f"play {self._seed}")
            self._clients = Clients(self._sim, self._rng, self._limits.feed_count)
            self._sim.checks.append(self._clients.flush)
            self._stack = stack.pop_all()
        return self._sim

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is None:
                self._sim.calm()
                self._sim.faults = CALM
                self._oracle.judge()
                self._flush_all()
                if self._sim.nodes:
                    self._epilogue()
                    self._flush_all()

    def _flush_all(self) -> None:
        for _ in range(3):
            self._clients.flush()

    def _epilogue(self) -> None:
        """Without faults, each change has its own short time."""
        sim, oracle = self._sim, self._oracle
        periods = Periods(sim.options, CALM.max_delay)
        nodes = list(sim.nodes.values())
        nodes[0].track("room:1", "erin")
        sim.advance(periods.change)
        oracle.expect_agreement()
        if self._seed % 4 == 0:
            sim.advance(periods.quiet)
            oracle.expect_quiet(60.0 if self._seed % 20 == 0 else 5.0)
        # Whatever a goodbye overtakes brings nobody back.
        sim.faults = Faults(max_delay=0.2, reordering=True)
        sim.start("y").track("room:1", "frank")
        sim.advance(self._rng.choice((0.0, 0.01, sim.options.broadcast_period)))
        sim.stop("y")
        sim.advance(2 * 0.2)
        oracle.expect_agreement()
        sim.faults = CALM
        sim.advance(0.2)  # a message that is late cancels the hint that its sender died
        if len(nodes) > 1:
            match self._seed % 3:
                case 0:
                    sim.stop(nodes[-1].name)
                    sim.advance(periods.goodbye)
                case 1:
                    sim.crash(nodes[-1].name)
                    sim.advance(HINTED_DEATH)
                case _:
                    sim.faults = Faults()
                    sim.crash(nodes[-1].name)
                    sim.advance(periods.silence)
            oracle.expect_agreement()
