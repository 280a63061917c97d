"""A slice on its way to those who lack it: at its cost, within bounds, whatever is lost."""

from __future__ import annotations

import gc
import random
import weakref
from collections import Counter
from collections.abc import Callable, Mapping

import pytest

from roost.crdt.cutter import Cutter
from roost.crdt.entry import Entry
from roost.crdt.slice import Slice
from roost.testing import Faults, Simulation
from roost.tracker.answers import MAX_ANSWER_COUNT
from roost.tracker.messages import (
    Changes,
    ChunkTransfer,
    Digest,
    Hello,
    Part,
    Request,
    Row,
    Transfer,
)
from roost.tracker.node import Room
from roost.tracker.options import ReplicationOptions
from roost.tracker.protocol import TrackerProtocol
from roost.tracker.replication import ReplicationProtocol
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin

OPTIONS = ReplicationOptions()
META = {"name": "x" * 335}
B, C = origin("b"), origin("c")


def cluster(count: int, nodes: str = "a", *, loss: float = 0.0) -> Simulation:
    """Node a tracks so many presences; the others start with it."""
    sim = Simulation(3, nodes=nodes)
    for number in range(count):
        sim.a.tracker.track(f"room:{number % 7}", f"user:{number}", META, owner=number)
    sim.settle(sim.a)
    sim.run_until_quiet()
    sim.sent.clear()
    sim.faults = Faults(min_delay=0.001, max_delay=0.003, loss=loss)
    return sim


def until_whole(sim: Simulation, names: str, limit: float) -> float:
    """Let time pass until nodes show what a tracks; return how long that took."""
    began_at, count = sim.now, len(sim.a.tracker.own)
    while sim.now < began_at + limit:
        sim.advance(0.05)
        if all(len(sim.nodes[name].shown) >= count for name in names):
            return sim.now - began_at
    raise AssertionError(f"not whole after {limit} s")


def chunk_count(sim: Simulation) -> int:
    """How many messages a slice takes."""
    return -(-sum(entry.size for entry in sim.a.tracker.own) // 65_536)


@pytest.mark.parametrize(("loss", "limit"), [(0.0, 1.0), (0.05, 6.0), (0.2, 12.0), (0.5, 60.0)])
def test_a_newcomer_is_whole_soon_whatever_share_is_lost(loss: float, limit: float):
    """What came is kept: the messages are those of the slice and those that were lost."""
    sim = cluster(5_000, loss=loss)

    sim.start("b")
    until_whole(sim, "b", limit)

    assert sim.sent["ChunkTransfer"] <= 1.6 * chunk_count(sim) / (1 - loss) + 3


def test_four_newcomers_at_once_cost_four_slices():
    """Each gets its own, and none holds up another."""
    sim = cluster(3_000, loss=0.05)

    for name in "bcde":
        sim.start(name)
    until_whole(sim, "bcde", 12.0)

    assert sim.sent["ChunkTransfer"] <= 4 * (1.6 * chunk_count(sim) + 3)


def test_an_origin_that_changes_faster_than_its_log_is_followed():
    """The log has no way from where a newcomer is: it begins once more, and keeps what it has."""
    sim = cluster(0)
    own = sim.a.tracker.own
    own._log_count = 20
    for number in range(2_000):
        sim.a.tracker.track("room:1", f"user:{number}", META, owner=number)
    sim.settle(sim.a)
    sim.start("b")
    for number in range(2_000, 2_400):
        sim.a.tracker.track("room:1", f"user:{number}", META, owner=number)
        sim.a.end(number - 1_000)
        sim.advance(0.002)

    assert sim.run_until_quiet() < 3.0


def test_another_holder_goes_on_where_the_origin_is_cut_off():
    """What came from the origin is not sent once more by somebody else."""
    sim = cluster(6_000, "ab")
    sim.hold(Changes, Digest)  # nobody else is to be asked at first
    sim.start("c")
    while not sim.c.shown:
        sim.advance(0.001)
    sim.partition("a", "c")
    sim.advance(0.01)
    came = len(sim.c.shown)
    assert 0 < came < 6_000
    sim.deliver("c", Digest(sim.b.tracker.origin, ((sim.a.tracker.origin, 6_000),)))
    before = sim.sent["ChunkTransfer"]

    until_whole(sim, "c", 15.0)

    missing = chunk_count(sim) * (6_000 - came) / 6_000
    assert sim.sent["ChunkTransfer"] - before <= 2 * missing + MAX_ANSWER_COUNT


def test_a_slice_that_is_held_in_part_is_not_handed_on():
    """Nobody is told that somebody is not there who only has not come yet."""
    node, theirs = OneNode(), Slice(B)
    for key in ("alice", "bob"):
        add(theirs, key)
    node.hear(Hello(B, 2), Hello(C, 0))
    alice, bob = (Row(e.topic, e.key, e.meta, e.owner, e.seq) for e in theirs)
    node.hear(ChunkTransfer(B, B, 1, False, 1, None, 2, 22, (bob,)))
    node.sent.clear()

    node.hear(Request(C, B, 0, 7, 0, ((0, None),)))
    assert node.said(ChunkTransfer) == []

    node.hear(
        ChunkTransfer(B, B, 1, True, 0, 1, 2, 22, (alice,)), Request(C, B, 0, 8, 0, ((0, None),))
    )
    ((to, answer),) = node.said(ChunkTransfer)
    assert (to, [row.key for row in answer.added]) == ("c", ["bob", "alice"])


def test_what_came_late_of_a_slice_is_handed_on():
    """A slice that was handed on, and then came once more in chunks, has more in its midst."""
    node, theirs = OneNode(), Slice(B)
    for key in ("alice", "bob", "carol"):
        add(theirs, key)
    node.hear(Hello(B, 3), Hello(C, 0))
    alice, bob, carol = (Row(e.topic, e.key, e.meta, e.owner, e.seq) for e in theirs)
    node.hear(ChunkTransfer(B, B, 1, True, 0, None, 3, 0, (carol, alice)))
    node.hear(Request(C, B, 0, 7, 0, ((0, None),)))

    node.hear(ChunkTransfer(B, B, 2, True, 0, None, 4, 0, (carol, bob, alice)))
    node.sent.clear()
    node.hear(Request(C, B, 0, 8, 0, ((0, None),)))

    ((_, answer),) = node.said(ChunkTransfer)
    assert [row.key for row in answer.added] == ["carol", "bob", "alice"]


# Costs.


@pytest.fixture
def cutters(monkeypatch: pytest.MonkeyPatch) -> list[Cutter]:
    """All that are made; each puts a slice in order."""
    made: list[Cutter] = []

    class Noted(Cutter):
        def __init__(self, entries: Mapping[int, Entry]) -> None:
            super().__init__(entries)
            made.append(self)

    monkeypatch.setattr("roost.tracker.answers.Cutter", Noted)
    return made


def test_a_slice_is_put_in_order_once_for_many_answers(cutters: list[Cutter]):
    """A newcomer asks again and again; between its requests the order is kept."""
    tracker, replication = with_room(Room)
    track(tracker, 12_000)
    sent(replication, 1.0)
    replication.receive(Hello(C, 0), 1.0)
    for number in range(4):
        now = 1.1 + 0.5 * number
        replication.receive(Request(C, tracker.origin, 0, number), now)
        sent(replication, now + 0.4)

    assert len(cutters) == 1


def test_the_order_of_a_slice_is_dropped_when_nobody_asks(cutters: list[Cutter]):
    """After two heartbeats without a request it costs no memory."""
    tracker, replication = with_room(Room)
    track(tracker, 3_000)
    sent(replication, 1.0)
    replication.receive(Hello(C, 0), 1.0)
    replication.receive(Request(C, tracker.origin, 0, 1), 1.1)
    sent(replication, 1.2)
    made = [weakref.ref(cutters.pop())]

    sent(replication, 1.2 + 2 * OPTIONS.heartbeat_period)
    gc.collect()

    assert [each() for each in made] == [None]


# Bounds.


def with_room(room: Callable[[], Room]) -> tuple[TrackerProtocol, ReplicationProtocol]:
    """A node whose way to others takes what ``room`` says."""
    rng = random.Random(1)
    tracker = TrackerProtocol(Slice(origin("a")))
    replication = ReplicationProtocol(
        tracker.own, rng=rng, new_nonce=lambda: rng.getrandbits(64), now=0.0, room=room
    )
    replication.add_tracker(tracker)
    return tracker, replication


def sent(replication: ReplicationProtocol, now: float) -> Counter[str]:
    """What it sends until ``now``, by kind, with its timers as they are due."""
    kinds: Counter[str] = Counter()
    kinds.update(type(each.message).__name__ for each in replication.messages_to_send())
    while (timer := replication.next_timer()) is not None and timer <= now:
        replication.handle_timer(timer)
        kinds.update(type(each.message).__name__ for each in replication.messages_to_send())
    return kinds


def track(tracker: TrackerProtocol, count: int) -> None:
    for _ in range(count):
        tracker.track("room:1", f"user:{len(tracker.own)}", META, owner=len(tracker.own))


def test_an_answer_is_bounded():
    """Whoever asks for a large slice gets 64 messages, and asks for the rest."""
    tracker, replication = with_room(Room)
    track(tracker, 12_000)
    sent(replication, 1.0)
    replication.receive(Hello(C, 0), 1.0)
    replication.receive(Request(C, tracker.origin, 0, 1), 1.0)

    assert sent(replication, 1.3)["ChunkTransfer"] == MAX_ANSWER_COUNT


def test_nothing_large_is_made_without_room():
    """What many ask for waits as numbers, not as bytes; live changes go all the same."""
    rooms = [Room()]
    tracker, replication = with_room(lambda: rooms[-1])
    track(tracker, 3_000)
    sent(replication, 1.0)
    rooms.append(Room(size=0))
    replication.receive(Hello(C, 0), 1.0)
    replication.receive(Request(C, tracker.origin, 0, 1), 1.0)
    tracker.track("room:2", "live", {}, owner=99_999)

    kinds = sent(replication, 2.0)
    assert (kinds["ChunkTransfer"], kinds["Changes"]) == (0, 1)

    rooms.append(Room())
    assert sent(replication, 2.3)["ChunkTransfer"] >= 20


def test_a_burst_of_changes_waits_for_room():
    """A burst is cut, and goes out as there is room; none of it is dropped."""
    rooms = [Room(size=0)]
    tracker, replication = with_room(lambda: rooms[-1])
    sent(replication, 1.0)
    track(tracker, 3_000)

    replication.handle_timer(1.0)
    first = [each.message for each in replication.messages_to_send()]
    assert [type(each) for each in first if isinstance(each, Changes)] == [Changes]

    rooms.append(Room())
    rest = sent(replication, 1.5)["Changes"]
    assert rest + 1 == sum(1 for _ in range(0, 3_000 * 437, 65_536))


def test_parts_are_cut_to_what_the_engine_takes():
    """With a limit of 8 kB no message of an answer is larger, but for a single presence."""
    tracker, replication = with_room(lambda: Room(max_size=8_192))
    track(tracker, 300)
    sent(replication, 1.0)
    replication.receive(Hello(C, 0), 1.0)
    replication.receive(Request(C, tracker.origin, 0, 1), 1.0)

    answer = [
        each.message
        for each in replication.messages_to_send()
        if isinstance(each.message, Transfer | ChunkTransfer)
    ]
    assert len(answer) > 10


@pytest.mark.parametrize(
    "request_",
    [
        Request(C, origin("a"), 5, 1, 0, ((3, 1), (-5, -1), (2**62, None), (0, 0))),
        Request(C, origin("a"), 5, 1, 0, tuple((n, n + 1) for n in range(100_000))),
        Request(C, origin("a"), 5, 1, 0, ((0, None),), (-5, 2**62)),
        Request(C, origin("a"), -1, 1),
        Request(C, origin("a"), 0, 1, 0, (), (5, 1), 2**62),
    ],
)
def test_a_strange_request_costs_its_sender(request_: Request):
    """It is answered somehow, or not at all, and others are answered as ever."""
    tracker, replication = with_room(Room)
    track(tracker, 20)
    sent(replication, 1.0)
    replication.receive(Hello(C, 0), 1.0)

    replication.receive(request_, 1.0)
    sent(replication, 1.5)
    replication.receive(Request(B, tracker.origin, 0, 1), 1.5)

    assert sent(replication, 2.0)["Transfer"] == 1


@pytest.mark.parametrize(
    "chunk",
    [
        ChunkTransfer(C, B, 1, True, 5, 3, 9, 1, ()),
        ChunkTransfer(C, B, 1, True, -5, -3, 9, 1, ()),
        ChunkTransfer(C, B, 1, True, 0, 2**62, 2**62, 1, ()),
        ChunkTransfer(C, B, 1, False, 0, None, 5, 1, (), (1, 2, 3), 4),
    ],
)
def test_a_strange_chunk_breaks_nothing(chunk: ChunkTransfer):
    """Whatever it says, what its origin says itself is shown in the end."""
    node, theirs = OneNode(), Slice(B)
    node.hear(Hello(B, 0), Hello(C, 0))

    node.hear(chunk, chunk)
    add(theirs, "alice")
    node.hear(changes(theirs), heartbeat(theirs))
    node.hear(
        ChunkTransfer.of(theirs.snapshot(), sender=B, origin=B, number=9, mark=0, is_last=True)
    )

    assert node.tracker.keys("room:1") in (["alice"], [])
    assert node.replication.next_timer() is not None


# Who comes back, and who stays away.


def test_who_comes_back_is_current_with_the_last_part_of_its_changes():
    """A burst is cut: after its first part there are people shown who left in the second."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs), Hello(C, 0))
    node.advance(OPTIONS.down_period + 5, Hello(C, 0))
    assert node.up() == [C]
    (alice,) = theirs
    add(theirs, "bob")
    theirs.remove(alice)
    first, second = (theirs.range_from(1, 2), theirs.range_from(2, 3))
    assert first is not None
    assert second is not None

    node.hear(Changes(B, Part.of(first, (0, 0)), 3))
    assert node.tracker.keys("room:1") == []
    node.hear(Changes(B, Part.of(second, (0, 0)), 3))

    assert node.tracker.keys("room:1") == ["bob"]


def test_a_forgotten_id_stays_while_late_messages_of_it_come():
    """Each of them may be followed by another one that is as late."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs))
    node.advance(OPTIONS.permdown_period + 10, Hello(C, 0))
    assert node.peer(B) is None

    for _ in range(3):
        node.advance(OPTIONS.permdown_period - 30, Hello(C, 0))
        node.hear(heartbeat(theirs))

    node.hear(changes(theirs))
    assert node.peer(B) is None
    assert node.tracker.keys("room:1") == []
