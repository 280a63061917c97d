"""Histories of a cluster, drawn from a seed.

A history is a setup and a list of actions. Each action can be played whatever came before: what
cannot be done then (crash a node that is not there) does nothing. So any sublist of a history is a
history, and one that fails is shrunk by leaving actions out for as long as it fails
(``tests.simulation.playing``).
"""

from __future__ import annotations

import random
import string
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from roost.testing import Faults
from roost.tracker.messages import VERSIONS
from roost.tracker.options import ReplicationOptions
from tests.simulation.scene import Limits

__all__ = ["Action", "History", "draw"]

TOPICS: Final = ("room:1", "room:2")
KEYS: Final = ("alice", "bob", "carol", "dave")
PAUSES: Final = (0.001, 0.01, 0.1, 0.5, 2.0, 8.0)  # seconds between two actions, at most
QUICK: Final = ReplicationOptions(
    heartbeat_period=1.0, request_timeout=0.5, probe_grace=1.0, down_period=6.0, permdown_period=20
)
SPARE: Final = "z"  # where twins and clones live
COPIES: Final = "zx"  # where clones live in histories of clones
CLONES_SHARE: Final = 0.15  # of all histories, those of clones
TRANSFERS_SHARE: Final = 0.2  # of the others, those of large slices on lossy links
CROWD: Final = [each for each in string.ascii_letters if each not in (SPARE, "y")]
DELAYS: Final = (0.005, 0.005, 0.1, 0.5, 2.0)  # seconds, at most
LATER: Final = (VERSIONS[0], VERSIONS[1] + 1)
LOSSES: Final = (0.0, 0.0, 0.05, 0.3)
DUPLICATIONS: Final = (0.0, 0.0, 0.2)


class Action(msgspec.Struct, frozen=True):
    """One thing that happens."""

    verb: str
    args: tuple[Any, ...] = ()


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one cluster."""

    seed: int
    nodes: str
    faults: Faults
    options: ReplicationOptions
    limits: Limits
    actions: tuple[Action, ...]


def draw(seed: int) -> History:
    """The history of a seed; the same one each time."""
    rng = random.Random(f"history {seed}")
    options = rng.choice((QUICK, QUICK, QUICK, ReplicationOptions()))
    # Most transfers of a few presences are one message; here some are many, and lose some.
    transfers = random.Random(f"transfers {seed}")
    has_transfers = transfers.random() < TRANSFERS_SHARE
    limits = Limits(
        log_count=rng.choice((10_000, 10_000, 3, 10)),
        part_count=rng.choice((1_000, 1_000, 1, 3)),
        ahead_count=rng.choice((100, 100, 2)),
        answer_count=rng.choice((64, 64, 2)),
        floor_count=rng.choice((4_096, 4_096, 2)),
        asked_count=rng.choice((1_000, 1_000, 2)),
        feed_count=rng.choice((10_000, 10_000, 4)),
        gap_count=transfers.choice((1_000, 1_000, 2)),
        recent_count=transfers.choice((1_000, 1_000, 1, 2)),
    )
    if has_transfers:
        limits = replace(
            limits,
            log_count=transfers.choice((3, 10, 10_000)),
            part_count=transfers.choice((1, 1, 2)),
            answer_count=transfers.choice((2, 4, 64)),
            range_count=transfers.choice((0, 2)),
        )
    faults = Faults(
        max_delay=rng.choice(DELAYS),
        loss=rng.choice(LOSSES),
        duplication=rng.choice(DUPLICATIONS),
        reordering=rng.random() < 0.5,
        hints=rng.choice((None, 0.01, 0.3)),
    )
    if has_transfers:
        faults = replace(
            faults,
            max_delay=transfers.choice((0.005, 0.1, 0.5)),
            loss=transfers.choice((0.0, 0.1, 0.3)),
            reordering=transfers.random() < 0.5,
        )
    size = rng.choice((2, 2, 3, 3, 3, 4, 5))
    has_clones = random.Random(f"copies {seed}").random() < CLONES_SHARE
    crowd_size = rng.choices((0, 20, 50), (990, 8, 2))[0]
    names = "".join(CROWD[: crowd_size or size])
    drawing = _Drawing(rng, names, options)
    if crowd_size:
        drawing.crowd()
    elif has_clones:
        drawing.clones()
    elif has_transfers:
        drawing.transfers()
    else:
        for _ in range(rng.randrange(5, 45)):
            drawing.draw()
    return History(
        seed=seed,
        nodes=names[0] if crowd_size else names,
        faults=faults,
        options=options,
        limits=limits,
        actions=tuple(drawing.actions),
    )


class _Drawing:
    def __init__(self, rng: random.Random, names: str, options: ReplicationOptions) -> None:
        self.rng = rng
        self.names = names
        self.options = options
        self.owners = 0
        self.actions: list[Action] = []

    def add(self, verb: str, *args: Any) -> None:
        self.actions.append(Action(verb, args))

    def wait(self, at_most: float | None = None) -> None:
        longest = at_most or self.rng.choice(PAUSES)
        self.add("advance", round(longest * self.rng.random(), 4))

    def name(self) -> str:
        return self.rng.choice(self.names)

    def pair(self) -> list[str]:
        return self.rng.sample(self.names, 2)

    def draw(self) -> None:
        verbs = {
            self.track: 30,
            self.change: 30,
            self.crash: 4,
            self.stop: 3,
            self.start: 8,
            self.restart: 2,
            self.partition: 4,
            self.cut: 5,
            self.heal: 4,
            self.slow: 2,
            self.freeze: 2,
            self.thaw: 1,
            self.pause: 4,
            self.resume: 4,
            self.sleep: 0.5,
            self.faults: 3,
            self.false_hint: 2,
            self.link_up: 1,
            self.links_die: 1,
            self.restart_engine: 1,
            self.deploy: 0.7,
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
        name = self.rng.choice(self.names + SPARE)
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
        self.add("crash", self.rng.choice(self.names + SPARE))

    def stop(self) -> None:
        self.add("stop", self.rng.choice(self.names + SPARE))

    def start(self) -> None:
        clock_step = self.rng.choice((0.0, 0.0, 0.0, -3600.0, 3600.0))
        self.add("start", self.name(), clock_step, self.versions())

    def restart(self) -> None:
        self.add("restart", self.name(), self.rng.choice((0.0, -3600.0)), self.versions())

    def versions(self) -> tuple[int, int]:
        return self.rng.choice((VERSIONS, VERSIONS, LATER))

    def partition(self) -> None:
        names = self.rng.sample(self.names, len(self.names))
        at = self.rng.randrange(1, len(names))
        self.add("partition", "".join(names[:at]), "".join(names[at:]))

    def cut(self) -> None:
        self.add("cut", *self.pair())

    def heal(self) -> None:
        self.add("heal")

    def slow(self) -> None:
        self.add("slow", *self.pair(), self.rng.choice((0.3, 1.0, 3.0)))

    def freeze(self) -> None:
        """A router between two nodes is paused, in one direction or in both."""
        source, target = self.pair()
        self.add("freeze", source, target)
        if self.rng.random() < 0.5:
            self.add("freeze", target, source)

    def thaw(self) -> None:
        self.add("thaw")

    def pause(self) -> None:
        name = self.name()
        self.add("pause", name)
        if self.rng.random() < 0.3:  # so long that all others give it up
            self.wait(30.0)
            self.wake(name)

    def resume(self) -> None:
        self.add("resume", self.name())

    def sleep(self) -> None:
        """Some sleep for so long that they are forgotten, or forget others when they wake."""
        names = self.rng.sample(self.names, self.rng.randint(1, len(self.names) - 1))
        for name in names:
            self.add("pause", name)
        is_forgotten = self.options is QUICK or self.rng.random() < 0.1
        period = self.options.permdown_period if is_forgotten else self.options.down_period
        self.add("advance", round(period * (1 + self.rng.random()), 4))
        for name in names:
            self.wake(name)
            if self.rng.random() < 0.5:
                self.wait()

    def wake(self, name: str) -> None:
        if self.rng.random() < 0.3:
            self.add("drop_inbox", name)
        self.add("resume", name)

    def faults(self) -> None:
        match self.rng.randrange(4):
            case 0:
                self.add("delay", self.rng.choice(DELAYS))
            case 1:
                self.add("lose", self.rng.choice(LOSSES))
            case 2:
                self.add("duplicate", self.rng.choice(DUPLICATIONS))
            case _:
                self.add("reorder", self.rng.random() < 0.5)

    def false_hint(self) -> None:
        self.add("hint", *self.pair())

    def link_up(self) -> None:
        self.add("link_up", *self.pair())

    def links_die(self) -> None:
        """All links die at once, and nobody is told why."""
        self.add("drop_links")
        self.wait(10.0)
        self.add("heal")

    def restart_engine(self) -> None:
        """All links die at once, and each node learns that it was its own, sooner or later."""
        is_told_first = self.rng.random() < 0.3
        if not is_told_first:
            self.add("drop_links")
        names = self.rng.sample(self.names, len(self.names))
        for name in names:
            self.add("detach", name)
            if self.rng.random() < 0.2:
                self.wait(0.1)
        if is_told_first:
            self.add("drop_links")
        self.wait(10.0)
        for name in names:
            self.add("attach", name)

    def deploy(self) -> None:
        """A rolling restart while members come and go, perhaps with another version."""
        versions = self.versions()
        for name in self.names:
            self.track()
            self.add(self.rng.choice(("stop", "stop", "crash")), name)
            self.change()
            self.wait(2.0)
            self.add("start", name, 0.0, versions)
            self.track()
            self.change()
            self.wait(2.0)

    def twin(self) -> None:
        self.add("twin", self.name(), SPARE)

    def clone(self) -> None:
        self.add("clone", self.name(), SPARE)

    def clones(self) -> None:
        """Nodes are copied and go on apart from their copies, which may be cut off or asleep.

        A copy that sleeps until its model is gone is a machine that goes on from an old image.
        """
        verbs = {
            self.track: 40,
            self.change: 40,
            self.copy: 10,
            self.partition: 6,
            self.cut: 8,
            self.heal: 5,
            self.freeze: 2,
            self.thaw: 1,
            self.pause: 4,
            self.resume: 5,
            self.crash: 5,
            self.stop: 1,
            self.start: 5,
            self.faults: 2,
        }
        self.names += COPIES
        for _ in range(self.rng.randrange(10, 60)):
            (verb,) = self.rng.choices(list(verbs), list(verbs.values()))
            verb()
            self.wait()

    def copy(self) -> None:
        place = self.rng.choice(COPIES)
        if self.rng.random() < 0.5:  # or it is heard at once
            self.add("partition", place, self.names.replace(place, ""))
        self.add("clone", self.name(), place)
        if self.rng.random() < 0.3:
            self.add("pause", place)

    def transfers(self) -> None:
        """One node has many presences, and changes them while others fetch them.

        They start, or were not heard for longer than its log reaches; links between some of them
        are cut in the middle, so that others have to go on.
        """
        home, others = self.names[0], self.names[1:]
        self.many(home)
        verbs = {
            self.change: 50,
            self.track: 4,
            self.cut: 6,
            self.partition: 3,
            self.heal: 8,
            self.slow: 2,
            self.pause: 2,
            self.resume: 3,
            self.faults: 1,
            self.clone: 0.3,
        }
        for _ in range(self.rng.randrange(3, 8)):
            match self.rng.randrange(5):
                case 0 | 1:
                    self.add("restart", self.rng.choice(others), 0.0, VERSIONS)
                case 2:
                    self.many(home)
                case 3:
                    self.add("partition", home, others)
                    self.many(home)
                    for _ in range(10):
                        self.change()
                    self.wait(2.0)
                    self.add("heal")
                case _:
                    pass
            for _ in range(self.rng.randrange(20)):
                (verb,) = self.rng.choices(list(verbs), list(verbs.values()))
                verb()
                self.add("advance", round(self.rng.choice((0.02, 0.1, 0.3)) * self.rng.random(), 4))

    def many(self, name: str) -> None:
        """So many users come to a node that its slice takes several messages."""
        for _ in range(self.rng.randrange(4, 12)):
            self.owners += 1
            self.add("track", name, self.rng.choice(TOPICS), self.rng.choice(KEYS), self.owners)

    def crowd(self) -> None:
        """Grow from one node to all, roll some, and shrink to a few."""
        versions = VERSIONS
        for name in self.names[1:]:
            self.track()
            self.add("start", name, 0.0, versions)
            self.wait(0.5)
        for _ in range(20):
            self.track()
            self.change()
        self.wait(2.0)
        versions = LATER
        for name in self.rng.sample(self.names, 3):
            self.add("restart", name, 0.0, versions)
            self.track()
            self.wait(0.5)
        for name in self.rng.sample(self.names, len(self.names) - 3):
            self.add(self.rng.choice(("stop", "crash")), name)
            self.change()
            self.wait(0.5)
