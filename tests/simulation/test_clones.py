"""Two that go on under one id: what each told is never mixed, and both find ids of their own.

A clone is a copy of a node with all that it knows, its id included: a virtual machine that was
copied, or that goes on from an old image. It makes changes under the numbers that its model makes
others under. Each story runs under the oracle, which knows what either of the two had at each
number, and lets nobody hold anything else.
"""

from __future__ import annotations

import pytest

from roost.crdt.entry import Entry
from roost.crdt.held import HeldSlice
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range
from roost.testing import Oracle, Simulation
from roost.tracker import path
from roost.tracker.messages import (
    Changes,
    ChunkTransfer,
    Digest,
    Forked,
    Hello,
    Part,
    Probe,
    Request,
    Row,
    Transfer,
)
from roost.tracker.path import Path
from roost.tracker.peer import MAX_MARKS
from tests.simulation.test_rules import (
    HEARTBEAT,
    OPTIONS,
    OTHER,
    OWN,
    ROOM,
    answers,
    kinds,
    pass_time,
    protocol,
)

C = OriginId("c", 1, 3)


def row(seq: int, key: str) -> Row:
    """An entry of ``OTHER``."""
    return Row(ROOM, key, b'{"phx_ref":"%s"}' % OTHER.ref(seq).encode(), seq, seq)


def changes(start: int, end: int, marks: tuple[int, int], *added: Row) -> Changes:
    return Changes(OTHER, Part(start, end, added, (), marks), end)


def snapshot(number: int, end: int, mark: int, *added: Row, sender: OriginId = C) -> ChunkTransfer:
    return ChunkTransfer(sender, OTHER, number, True, 0, None, end, mark, added)


def cloned() -> tuple[Simulation, Oracle]:
    """Node z is a clone of a that neither a nor c hears; b hears all."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.run_until_quiet()
    sim.partition("z", "ac")
    sim.clone("a", "z")
    return sim, oracle


# Stories.


def test_changes_of_a_clone_are_not_added_to_those_of_its_model():
    """Alice is on one and bob on the other, both under number 1; carol follows bob."""
    sim, oracle = cloned()
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    sim.z.track(ROOM, "bob")
    sim.advance(0.1)
    sim.z.track(ROOM, "carol")
    sim.advance(0.1)

    sim.heal()
    oracle.judge()

    assert sim.b.keys(ROOM) == ["alice", "bob", "carol"]


def test_a_broadcast_that_leads_past_what_is_held_is_of_another_history():
    """The clone says two changes at once, of which the model has told the first otherwise."""
    sim, oracle = cloned()
    late = sim.hold(Changes, source="z")
    sim.a.track(ROOM, "alice")
    sim.advance(0.1)
    late.stop()
    sim.z.tracker.track(ROOM, "bob", {}, owner=1)
    sim.z.track(ROOM, "carol")
    sim.advance(0.1)

    sim.heal()
    oracle.judge()

    assert sim.b.keys(ROOM) == ["alice", "bob", "carol"]


def test_a_machine_that_goes_on_from_an_old_image_is_seen():
    """Its number is that of what it told before the image was made, and its presences differ."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.run_until_quiet()
    sim.clone("a", "z")
    sim.pause("z")
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    sim.crash("a")
    sim.drop_inbox("z")
    sim.resume("z")
    sim.z.track(ROOM, "bob")

    oracle.judge()

    assert sim.b.keys(ROOM) == sim.c.keys(ROOM) == ["bob"]


def test_what_is_missing_of_a_clone_is_not_put_beside_what_its_model_told():
    """What the clone told was lost, and is asked for after what the model told."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.run_until_quiet()
    sim.clone("a", "z")
    sim.pause("z")
    sim.a.track(ROOM, "alice")
    sim.advance(1)
    sim.crash("a")
    sim.drop_inbox("z")
    lost = sim.hold(Changes, source="z")
    sim.resume("z")
    for key in ("bob", "carol"):
        sim.z.track(ROOM, key)
        sim.advance(0.1)
    lost.stop()

    oracle.judge()

    assert sim.b.keys(ROOM) == sim.c.keys(ROOM) == ["bob", "carol"]


def test_who_is_behind_a_clone_that_died_asks_its_model_in_vain_only_once():
    """There is no more than what the model has: whoever was told of more proves a clone."""
    sim = Simulation(nodes="ab")
    oracle = Oracle(sim)
    sim.run_until_quiet()
    origin = sim.a.tracker.origin
    sim.partition("az", "b")
    sim.clone("a", "z")
    sim.partition("a", "z")
    sim.z.track(ROOM, "alice")
    sim.advance(0.1)
    sim.deliver("b", Hello(origin, 1))
    sim.crash("z")
    sim.heal()

    oracle.judge()

    assert sim.a.tracker.origin > origin
    oracle.expect_quiet(60)


# The rules, one by one.


def test_two_marks_of_one_number_are_proof():
    """Another mark than that of what is held changes nothing here, and its sender is told."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), changes(0, 1, (0, 11), row(1, "alice")))

    for message in (
        changes(0, 1, (0, 22), row(1, "bob")),
        changes(1, 2, (22, 33), row(2, "bob")),
        snapshot(1, 1, 22, row(1, "bob")),
        Digest(OTHER, ((OTHER, 1),), (), (22,)),
        Digest(C, ((OTHER, 1),), (), (22,)),
    ):
        sent = answers(replication, Hello(C, 0), message)
        assert [(each.to, each.message) for each in sent if isinstance(each.message, Forked)] == [
            ("a", Forked(OWN, OTHER))
        ]
    assert tracker.keys(ROOM) == ["alice"]
    assert replication.counters["forked"] == 5


def test_marks_that_agree_are_no_proof():
    """Repeated and late messages of one history tell nobody of a fork."""
    tracker, replication = protocol()
    first, second = (
        changes(0, 1, (0, 11), row(1, "alice")),
        changes(1, 2, (11, 22), row(2, "bob")),
    )
    answers(replication, Hello(OTHER, 0), second, first, second, first)
    answers(
        replication, Digest(OTHER, ((OTHER, 2),), (), (22,)), Digest(C, ((OTHER, 1),), (), (11,))
    )

    assert tracker.keys(ROOM) == ["alice", "bob"]
    assert replication.counters["forked"] == 0


def test_marks_beyond_a_gap_are_compared_too():
    """What is held back until a gap is closed begins where the gap ends, in its own history."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), changes(1, 2, (11, 22), row(2, "bob")))

    sent = answers(replication, changes(0, 1, (0, 99), row(1, "alice")))

    assert Forked in kinds(sent)
    assert tracker.keys(ROOM) == []


def test_nothing_beyond_a_gap_is_applied_past_its_beginning():
    """A snapshot led past the beginning of what was held back, by a point it does not know."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), changes(1, 3, (11, 33), row(2, "bob"), row(3, "carol")))

    answers(replication, snapshot(1, 2, 22, row(1, "alice"), row(2, "dave")))

    assert tracker.keys(ROOM) == ["alice", "dave"]


@pytest.mark.parametrize("mark", [11, 0])
def test_a_broadcast_passes_no_point_of_its_history(mark: int):
    """Whoever holds a point knows all broadcasts that pass over it for another's, if it has a mark.

    Args:
        mark: Of what is held; nodes that know no marks say 0, and are taken on trust.
    """
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), changes(0, 1, (0, mark), row(1, "alice")))

    sent = answers(replication, changes(0, 2, (0, 22), row(1, "bob"), row(2, "carol")))

    assert (Forked in kinds(sent)) is bool(mark)
    assert tracker.keys(ROOM) == (["alice"] if mark else ["alice", "carol"])


def test_an_answer_that_passes_what_came_meanwhile_is_of_another_history():
    """Answers have the broadcasts of their origin, none of which passes over another one."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 3))
    (asked,) = (
        each.message
        for each in pass_time(replication, 0.0, OPTIONS.repair_delay + 0.01)
        if isinstance(each.message, Request)
    )
    now = OPTIONS.repair_delay + 0.02
    answers(replication, changes(0, 1, (0, 11), row(1, "alice")), now=now)
    part = Part(0, 3, (row(2, "bob"), row(3, "carol")), (), (0, 33))

    sent = answers(replication, Transfer(OTHER, OTHER, asked.number, (part,), True), now=now)

    assert kinds(sent) == [Forked]
    assert tracker.keys(ROOM) == ["alice"]


def test_an_answer_that_begins_beyond_what_is_held_waits_for_its_own_history():
    """A clone of this node asked from a point that this one does not have, and may never have."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    part = Part(1, 2, (row(2, "bob"),), (), (11, 22))

    answers(replication, Transfer(OTHER, OTHER, 7, (part,), True))
    answers(replication, changes(0, 1, (0, 99), row(1, "alice")))

    assert tracker.keys(ROOM) == []


def chunk(
    above: int, upto: int | None, end: int, mark: int, *added: Row, number: int = 1
) -> ChunkTransfer:
    """A chunk of ``OTHER``, handed on by it."""
    return ChunkTransfer(OTHER, OTHER, number, False, above, upto, end, mark, added)


def test_chunks_of_two_histories_are_not_mixed():
    """Model and clone get one request, and each sends chunks of what it has under one number."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0))

    answers(replication, chunk(1, None, 2, 22, row(2, "bob")))
    sent = answers(replication, chunk(0, 1, 2, 33, row(1, "alice")))

    assert kinds(sent) == [Forked]
    assert tracker.keys(ROOM) == ["bob"]


def test_a_chunk_of_an_earlier_number_is_of_a_point_that_was_passed():
    """Without its mark on the way that was gone it may be the clone's, and is asked for again."""
    for mark, keys in ((22, ["bob", "alice", "carol"]), (99, ["bob", "carol"])):
        tracker, replication = protocol()
        answers(replication, Hello(OTHER, 0))
        answers(replication, chunk(1, None, 2, 22, row(2, "bob")))
        answers(replication, changes(2, 3, (22, 33), row(3, "carol")))

        answers(replication, chunk(0, 1, 2, mark, row(1, "alice")))

        assert sorted(tracker.keys(ROOM)) == sorted(keys)


def test_a_probe_of_a_namesake_is_not_passed_on():
    """Two clones that renamed themselves share an address: they would pass it on for ever."""
    _, replication = protocol(OriginId("b~1", 10, 1))
    answers(replication, Hello(C, 0))

    sent = answers(replication, Probe(C, OriginId("b", 10, 1), 9, "b~1"))

    assert Probe not in kinds(sent)


def test_a_chunk_of_a_number_between_two_broadcasts_is_of_no_point():
    """No broadcast of this history ends there, so that it is another one's."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0))
    answers(replication, chunk(1, None, 2, 22, row(2, "bob")))
    answers(replication, changes(2, 6, (22, 66), row(6, "carol")))

    answers(replication, chunk(0, 1, 5, 55, row(1, "alice")))

    assert sorted(tracker.keys(ROOM)) == ["bob", "carol"]


def test_a_snapshot_with_another_content_under_one_number_is_proof():
    """Another node holds what the clone told; what is held here is of the model."""
    tracker, replication = protocol()
    answers(replication, Hello(OTHER, 0), Hello(C, 0), changes(0, 1, (0, 11), row(1, "alice")))

    sent = answers(replication, snapshot(1, 2, 22, row(1, "bob"), row(2, "carol")))

    assert kinds(sent) == [Forked]
    assert tracker.keys(ROOM) == ["alice"]


def test_a_slice_contradicts_a_snapshot_by_content_only():
    """What is no longer there, and what is new, is no contradiction."""
    held = HeldSlice()
    alice, bob = (Entry(ROOM, key, b"{}", 1, "r", 1) for key in ("alice", "bob"))
    held.apply(Range(0, 1, (alice,), ()))

    assert not held.contradicts(Chunk(0, None, 5, (alice, Entry(ROOM, "carol", b"{}", 1, "r", 5))))
    assert not held.contradicts(Chunk(0, None, 5, ()))
    assert held.contradicts(Chunk(0, None, 5, (bob,)))


def test_whoever_is_told_of_a_fork_takes_another_id_once():
    """The word is heeded for the present id only, so that late ones and copies change nothing."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)
    answers(replication, Hello(C, 0), Forked(C, OTHER))
    assert tracker.origin == OWN

    answers(replication, Forked(C, OWN), Forked(C, OWN))

    assert tracker.origin > OWN
    assert replication.counters["renewed"] == 1
    assert tracker.keys(ROOM) == ["alice"]


@pytest.mark.parametrize("offset", [0, 1])
def test_our_own_number_with_another_mark_is_of_a_clone(offset: int):
    """A digest that names a point of ours says nothing; with another mark it proves a clone."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)
    replication.handle_timer(0.0)
    (told,) = (
        each.message for each in replication.messages_to_send() if isinstance(each.message, Changes)
    )

    answers(replication, Digest(C, ((OWN, 1),), (), (told.part.marks[1] + offset,)))

    assert (tracker.origin > OWN) is bool(offset)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_request_from_a_point_that_is_not_ours_proves_a_clone(offset: int):
    """It is answered from a point of ours; from another one there is no way to ours."""
    tracker, replication = protocol()
    for n in range(2):
        tracker.track(ROOM, f"alice{n}", {}, owner=n)
        replication.handle_timer(float(n))
    first, _ = (
        each.message for each in replication.messages_to_send() if isinstance(each.message, Changes)
    )
    answers(replication, Hello(C, 0), now=1.0)

    sent = answers(replication, Request(C, OWN, 1, 1, first.part.marks[1] + offset), now=1.0)

    assert (Transfer in kinds(sent)) is (offset == 0)
    assert (tracker.origin > OWN) is bool(offset)


def test_a_request_for_more_than_there_is_proves_a_clone():
    """It was told of more, and not by us."""
    tracker, replication = protocol()
    answers(replication, Hello(C, 0))

    answers(replication, Request(C, OWN, 0, 1))

    assert tracker.origin > OWN


def test_a_point_that_is_too_old_to_tell_is_answered_with_all(monkeypatch: pytest.MonkeyPatch):
    """Neither is it proof, nor is a range right for it."""
    monkeypatch.setattr(path, "MAX_POINTS", 2)
    tracker, replication = protocol()
    for n in range(6):
        tracker.track(ROOM, f"alice{n}", {}, owner=n)
        replication.handle_timer(float(n))
    answers(replication, Hello(C, 0), now=5.0)

    (sent,) = answers(replication, Request(C, OWN, 1, 1, 12345), now=5.0)

    assert isinstance(sent.message, ChunkTransfer)
    assert (sent.message.above, sent.message.upto) == (0, None)
    assert tracker.origin == OWN


def test_a_path_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """However often a node broadcasts, twice the bound is the most that is kept."""
    monkeypatch.setattr(path, "MAX_POINTS", 10)
    own = Path()
    sizes = set()
    for seq in range(1, 100):
        own.add(seq, 1_000 + seq)
        sizes.add(len(own))

    assert max(sizes) == 20
    assert own.mark == 1_099
    assert own.judge(1, 1_001) is None


def test_a_new_id_begins_a_new_history():
    """What was told under the id before is no point of it."""
    tracker, replication = protocol()
    tracker.track(ROOM, "alice", {}, owner=1)
    replication.handle_timer(0.0)
    replication.messages_to_send()

    sent = answers(replication, Forked(C, OWN))

    told = [each.message for each in sent if isinstance(each.message, Changes)]
    assert [(each.part.start, each.part.marks[0]) for each in told] == [(0, 0)]
    assert tracker.origin > OWN


def test_nodes_that_hold_two_histories_have_two_digests():
    """At the same numbers with other marks, their heartbeats differ, so that they find out."""
    digests = []
    for mark in (11, 22):
        _, replication = protocol()
        answers(replication, Hello(OTHER, 0), changes(0, 1, (0, mark), row(1, "alice")))
        sent = pass_time(replication, 0.0, HEARTBEAT)
        digests += [each.message.digest for each in sent if hasattr(each.message, "digest")][-1:]

    assert digests[0] != digests[1]


def test_marks_are_bounded():
    """However much comes beyond a gap, few marks are kept, and that of what is held among them."""
    _, replication = protocol()
    answers(replication, Hello(OTHER, 0), changes(0, 1, (0, 11), row(1, "alice")))
    for n in range(2, 2_000):
        answers(replication, changes(n, n + 1, (n + 10, n + 11)))

    (peer,) = replication.peers
    assert len(peer.marks) <= MAX_MARKS < 1_500
    assert peer.mark == 11
