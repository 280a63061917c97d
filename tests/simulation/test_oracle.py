"""The oracle sees what it is there to see: each promise, with a planted bug that breaks it."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from roost.crdt.entry import Entry
from roost.testing import BrokenPromise, Faults, Oracle, Simulation, oracle
from roost.testing.simulation import SimulatedNode
from roost.tracker.floors import Floors
from roost.tracker.messages import Changes, ChunkTransfer, Heartbeat, Transfer
from roost.tracker.options import ReplicationOptions
from roost.tracker.replication import ReplicationProtocol
from tests.simulation import scene
from tests.simulation.histories import draw
from tests.simulation.planted import (
    data_creates_origins,
    goodbyes_are_ignored,
    memories_are_signs_of_life,
    removals_are_lost,
    sleep_counts_as_silence,
    who_comes_back_is_shown_at_once,
)
from tests.simulation.playing import failure
from tests.simulation.scene import Limits, Scene

OPTIONS = ReplicationOptions()
FAST = ReplicationOptions(
    heartbeat_period=1.0,
    request_timeout=0.5,
    probe_grace=1.0,
    down_period=6.0,
    permdown_period=20,
)
SMALL = Limits(log_count=10, part_count=1, recent_count=1, feed_count=4)
ROOM = "room:1"


def watched(nodes: str = "abc", faults: Faults | None = None) -> tuple[Simulation, Oracle]:
    sim = Simulation(nodes=nodes, faults=faults)
    return sim, Oracle(sim)


def ghost() -> None:
    """What c told d of a is so late that a is forgotten."""
    sim, _ = watched()
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    sim.partition("a", "d")
    late = sim.hold(Transfer, ChunkTransfer, target="d", copies=True)
    sim.start("d")
    sim.advance(5)
    assert late.messages
    sim.crash("a")
    sim.advance(2 * OPTIONS.permdown_period + 60)
    late.deliver()
    sim.advance(5)


def dying() -> None:
    """A node is gone without a word, and nobody judges yet."""
    sim, _ = watched("ab")
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.crash("a")
    sim.advance(OPTIONS.down_period + 2 * OPTIONS.heartbeat_period)


def waking() -> None:
    """A node sleeps for an hour, and what was sent to it meanwhile is lost."""
    sim, _ = watched("ab")
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.pause("b")
    sim.advance(3600)
    sim.b.inbox.clear()
    sim.resume("b")
    sim.advance(5)


def coming_back() -> None:
    """A node comes back from behind a partition, without alice."""
    sim, _ = watched("ab")
    alice = sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.partition("a", "b")
    sim.advance(60)
    sim.a.end(alice)
    sim.advance(1)
    sim.heal()
    sim.advance(5)


def leaving() -> None:
    """Alice leaves."""
    sim, judge = watched("ab")
    alice = sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.a.end(alice)
    judge.judge()


@pytest.mark.parametrize(
    ("story", "bug", "complaint"),
    [
        (ghost, data_creates_origins, "d shows a ghost: a silent for"),
        (dying, memories_are_signs_of_life, "b shows a ghost: a silent for"),
        (waking, sleep_counts_as_silence, "b hides 'alice' for its own sleep"),
        (
            coming_back,
            who_comes_back_is_shown_at_once,
            "b shows 'alice' again after .* who has left",
        ),
        (leaving, removals_are_lost, "b holds what never was: .*a.* at 2"),
    ],
)
def test_a_planted_bug_is_seen(story, bug, complaint):
    """The story goes well with the protocol as it is, and breaks a promise with the bug."""
    story()

    with bug(), pytest.raises(BrokenPromise, match=complaint):
        story()


def late_words() -> tuple[Simulation, Entry]:
    """What a said was on its way for longer than a is remembered; and what a had."""
    sim, _ = watched()
    late = sim.hold(Changes, Heartbeat, source="a", target="b", copies=True)
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    (alice,) = sim.b.tracker.list_all()
    sim.crash("a")
    sim.advance(OPTIONS.permdown_period + 60)
    late.deliver()
    sim.advance(5)
    return sim, alice


def last_words() -> tuple[Simulation, Entry]:
    """A change of a that its goodbye has overtaken; and what was in it."""
    sim, _ = watched()
    late = sim.hold(Changes, source="a", target="b", copies=True)
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    (alice,) = sim.b.tracker.list_all()
    sim.stop("a")
    sim.advance(5)
    late.deliver()
    return sim, alice


@pytest.mark.parametrize(
    ("story", "complaint"),
    [
        (late_words, "b shows 'alice' .* s after the death of a, .*: a ghost born late"),
        (last_words, "b shows 'alice' after a goodbye: a ghost"),
    ],
)
def test_a_ghost_that_is_born_late_is_seen(story, complaint):
    """The story goes well; told that alice has joined, the oracle knows that she can't have."""
    sim, alice = story()
    assert sim.b.keys(ROOM) == []

    sim.b.tracker.change((), [alice])

    with pytest.raises(BrokenPromise, match=complaint):
        sim.settle(sim.b)


@pytest.mark.parametrize("story", [late_words, last_words])
def test_floors_that_are_forgotten_are_seen(story, monkeypatch: pytest.MonkeyPatch):
    """A protocol that forgets who is over shows a ghost as soon as a late message comes."""
    monkeypatch.setattr(Floors, "get", lambda floors, name: None)

    with pytest.raises(BrokenPromise, match=r"b shows 'alice' .*a ghost"):
        story()


def test_a_clone_has_a_history_of_its_own():
    """What is between two numbers of a node follows from its own changes, not its clone's."""
    faults = Faults(max_delay=2.0, loss=0.3, reordering=True)
    with Scene(1796105260288967, "abc", faults=faults, options=FAST, limits=SMALL) as sim:
        sim.c.track(ROOM, "alice", owner=1)
        sim.c.track(ROOM, "bob", owner=1)
        sim.advance(1.2773)
        sim.partition("z", "abcx")
        sim.clone("c", "z")
        sim.z.track(ROOM, "alice", owner=4)
        sim.advance(0.0978)
        sim.c.end(1)
        sim.advance(1.5535)

        assert sim.a.keys(ROOM) == ["bob"]


def test_who_comes_back_in_time_is_no_ghost():
    """A node that was silent until it was forgotten, and lives, is shown again."""
    sim, judge = watched("ab")
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.partition("a", "b")
    sim.advance(OPTIONS.permdown_period + 60)
    sim.heal()
    judge.judge()
    sim.crash("a")
    judge.judge()

    assert sim.b.keys(ROOM) == []


@pytest.mark.parametrize("sleep_count", [1, 3])
@pytest.mark.parametrize("was_suspected", [False, True])
def test_a_peer_that_is_hidden_on_waking_is_seen(sleep_count: int, was_suspected: bool):
    """The story goes well; told that alice has left, the oracle knows that nobody could tell."""
    sim, _ = watched("ab")
    sim.a.track(ROOM, "alice")
    sim.advance(5)
    (alice,) = sim.b.tracker.list_all()
    if was_suspected:
        sim.cut("a", "b")
        sim.advance(4.5 * OPTIONS.heartbeat_period)
    sim.hold(source="a")
    for _ in range(sleep_count):
        sim.pause("b")
        sim.advance(60)
        sim.drop_inbox("b")
        sim.resume("b")
        sim.advance(0.1)
    assert sim.b.keys(ROOM) == ["alice"]

    sim.b.tracker.change([alice], ())

    with pytest.raises(BrokenPromise, match="b hides 'alice' for its own sleep"):
        sim.settle(sim.b)


def test_a_goodbye_that_is_ignored_is_seen():
    """Who said goodbye is gone at once."""
    with (
        goodbyes_are_ignored(),
        pytest.raises(BrokenPromise, match=r"still shows .*frank"),
        Scene(1, "ab"),
    ):
        pass


def test_who_left_and_is_still_shown_is_seen():
    """A removal that never comes is a broken promise long before anybody is silent."""
    sim, judge = watched("ab")
    alice = sim.a.track(ROOM, "alice")
    sim.advance(5)
    sim.hold(Changes, Transfer, ChunkTransfer)
    sim.a.end(alice)
    began_at = sim.now

    with pytest.raises(BrokenPromise, match=r"b still shows .*alice.*, who left"):
        judge.judge()

    assert sim.now - began_at < OPTIONS.down_period / 2


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("version", 3, "a writes version 3, not 2"),
        ("incompatible", (), "a does not know who reads nothing of it"),
    ],
)
def test_a_wrong_idea_of_versions_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, complaint: str
):
    """Nodes know what all others can read, and who can read nothing."""
    sim, judge = watched("a")
    sim.start("b", versions=(2, 3))
    sim.start("c", versions=(3, 3))
    judge.judge()

    monkeypatch.setattr(ReplicationProtocol, name, value)

    with pytest.raises(BrokenPromise, match=complaint):
        judge.judge()


@pytest.mark.parametrize("seed", range(3))
def test_a_calm_scene_keeps_all_promises(seed):
    """Each of the three ends of a scene is a good one."""
    with Scene(seed, "abc") as sim:
        sim.a.track(ROOM, "alice")


def test_small_limits_are_reached(monkeypatch: pytest.MonkeyPatch):
    """Random histories fill all that is bounded, so that the bounds are tried."""
    unreached = {"log", "floors", "asked", "ahead", "gaps"}
    sizes = oracle._sizes

    def measured(node: SimulatedNode) -> dict[str, tuple[int, int]]:
        found = sizes(node)
        unreached.difference_update(
            what.split()[0] for what, (size, bound) in found.items() if size == bound
        )
        return found

    monkeypatch.setattr(oracle, "_sizes", measured)
    for seed in range(1_000):
        failure(draw(seed))
        if not unreached:
            break

    assert not unreached


def test_a_limit_that_is_nowhere_says_so(monkeypatch: pytest.MonkeyPatch):
    """A constant that was renamed is not patched in vain."""
    for module in scene.TRACKER_MODULES:
        monkeypatch.delattr(module, "MAX_FLOORS", raising=False)

    with (
        pytest.raises(LookupError, match=r"no module of roost\.tracker has MAX_FLOORS"),
        ExitStack() as stack,
    ):
        Limits().apply(stack)
