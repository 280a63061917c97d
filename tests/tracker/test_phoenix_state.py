"""What Phoenix's own tests of its replicated state state, of slices and ranges.

Phoenix's state is an observed-remove set that all nodes write, of dots, contexts and clouds. Here
each origin alone writes its slice, and numbers its changes: what a node holds of another is one
number and the entries at it, and what it lacks is a range.
"""

from __future__ import annotations

import pytest

from roost.crdt.held import HeldSlice, SliceDiff, join_ranges
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from roost.testing.simulation import Simulation
from roost.tracker.messages import Alive, ChunkTransfer, Request, Transfer
from roost.tracker.protocol import TrackerProtocol
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin, range_from, transfer

A, B, C = origin("a"), origin("b"), origin("c")


def keys(held: HeldSlice) -> list[str]:
    return [entry.key for entry in held]


# One node.


@pytest.mark.conforms("ST-1")
def test_a_fresh_slice_has_nothing():
    """Neither its snapshot nor its range has an entry or a removal."""
    mine = Slice(A)

    assert mine.snapshot() == Chunk(0, None, 0, ())
    assert range_from(mine, 0) == Range(0, 0, (), ())


@pytest.mark.conforms("ST-2")
def test_what_is_tracked_is_in_its_topic_until_it_is_untracked():
    """The list of the topic has it, and no other list does."""
    tracker = TrackerProtocol(Slice(A))

    tracker.track("room:1", "alice", {}, owner=1)
    assert [entry.key for entry in tracker.list("room:1")] == ["alice"]
    assert list(tracker.list("room:2")) == []

    tracker.untrack("room:1", "alice", owner=1)
    assert list(tracker.list("room:1")) == []


@pytest.mark.conforms("ST-7")
def test_what_an_owner_tracks_is_found_by_owner_topic_and_key():
    """All of an owner's entries, or the one of a topic and key; nothing where there is none."""
    tracker = TrackerProtocol(Slice(A))
    tracker.track("room:1", "alice", {}, owner=1)
    tracker.track("room:2", "alice", {}, owner=1)
    tracker.track("room:1", "alice", {}, owner=2)

    assert [(entry.owner, entry.topic) for entry in tracker.owned(1)] == [
        (1, "room:1"),
        (1, "room:2"),
    ]
    assert tracker.owned(3) == ()
    entry = tracker.tracked("room:2", "alice", owner=1)
    assert entry is not None
    assert entry in tracker.owned(1)
    assert tracker.tracked("room:2", "alice", owner=2) is None
    assert tracker.tracked("room:2", "bob", owner=1) is None


@pytest.mark.conforms("ST-8")
def test_a_key_has_the_entries_of_all_who_track_it():
    """Those of that key in that topic, each with its owner, and none of other keys."""
    tracker = TrackerProtocol(Slice(A))
    first = tracker.track("room:1", "alice", {}, owner=1)
    second = tracker.track("room:1", "alice", {}, owner=2)
    tracker.track("room:1", "bob", {}, owner=1)
    tracker.track("room:2", "alice", {}, owner=1)

    found = tracker.get_by_key("room:1", "alice")

    assert [(entry.owner, entry.ref) for entry in found] == [(1, first), (2, second)]
    assert tracker.get_by_key("room:1", "carol") == ()


# Two nodes.


@pytest.mark.conforms("ST-3")
def test_what_one_node_tracks_is_told_once_by_the_other():
    """Joins, leaves and updates are told once, however often they arrive, and both show the same.

    An update is a join and a leave of one owner, which keeps what it tracks.
    """
    node, theirs = OneNode(), Slice(B)
    mine = node.tracker.track("room:1", "carol", {}, owner=1)
    alice, bob = add(theirs, "alice"), add(theirs, "bob")
    node.hear(heartbeat(theirs), changes(theirs))
    assert node.told() == ([mine, alice, bob], [])
    node.hear(changes(theirs), transfer(C, theirs))
    assert node.told() == ([], [])

    old, other = theirs
    theirs.remove(other)
    node.hear(changes(theirs, 2))
    assert node.told() == ([], [bob])

    new = theirs.replace(old, b"{}")
    node.hear(changes(theirs, 3))
    assert node.told() == ([new.ref], [alice])
    assert new.owner == old.owner

    peer = node.peer(B)
    assert peer is not None
    assert list(peer.held) == list(theirs) == [new]
    assert {entry.ref for entry in node.tracker.list("room:1")} == {mine, new.ref}


@pytest.mark.conforms("ST-4")
def test_what_a_node_did_while_it_was_down_is_told_when_it_is_up():
    """Down, all its entries leave, and what others hand on is taken in silence; up, all join."""
    node, theirs, other = OneNode(), Slice(B), Slice(C)
    alice = add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs))
    assert node.told() == ([alice], [])

    node.advance(40, heartbeat(other))
    assert node.told() == ([], [alice])
    bob = add(theirs, "bob")
    node.hear(transfer(C, theirs))
    assert node.told() == ([], [])
    assert list(node.tracker.list("room:1")) == []

    node.hear(heartbeat(theirs))
    assert node.told() == ([alice, bob], [])


@pytest.mark.conforms("ST-11")
def test_a_range_is_told_as_joins_and_leaves():
    """Each change is one number, and after a range there is nothing but the number and entries."""
    theirs, held = Slice(B), HeldSlice()
    add(theirs, "alice")
    add(theirs, "bob")
    alice, bob = theirs
    assert held.apply(range_from(theirs, 0)) == SliceDiff((), (alice, bob))
    assert held.seq == 2

    theirs.remove(alice)
    assert held.apply(range_from(theirs, 2)) == SliceDiff((alice,), ())
    assert held.seq == 3

    new = theirs.replace(bob, b"{}")
    assert held.apply(range_from(theirs, 3)) == SliceDiff((bob,), (new,))
    assert held.seq == 4
    assert held.snapshot() == theirs.snapshot() == Chunk(0, None, 4, (new,))


# Several nodes.


@pytest.mark.conforms("ST-5")
def test_joins_travel_around_a_broken_link():
    """Two nodes that do not hear each other show each other's through a third, each join once."""
    sim = Simulation(nodes="abc")
    sim.a.track("room:1", "alice")
    sim.run_until_quiet()

    sim.partition("a", "c")
    sim.a.track("room:1", "bob")
    sim.advance(0.1)
    assert sim.b.keys("room:1") == ["alice", "bob"]
    assert sim.c.keys("room:1") == ["alice"]
    before = dict(sim.c.shown)
    sim.advance(10)

    assert sim.c.keys("room:1") == ["alice", "bob"]
    assert before.items() < sim.c.shown.items()


@pytest.mark.conforms("ST-6")
def test_leaves_travel_around_a_broken_link():
    """What one node untracks leaves at the node that does not hear it, through a third."""
    sim = Simulation(nodes="abc")
    owner = sim.a.track("room:1", "alice")
    sim.a.track("room:1", "bob")
    sim.run_until_quiet()

    sim.partition("a", "c")
    sim.a.end(owner)
    sim.advance(0.1)
    assert sim.b.keys("room:1") == ["bob"]
    assert sim.c.keys("room:1") == ["alice", "bob"]
    sim.advance(10)

    assert sim.c.keys("room:1") == ["bob"]


@pytest.mark.conforms("ST-9")
def test_the_list_has_nobody_of_a_node_that_is_down():
    """Each node that goes down takes its own out; what is new of a node begins at number 0."""
    sim = Simulation(nodes="abc")
    for node, key in ((sim.a, "alice"), (sim.b, "bob"), (sim.c, "carol")):
        node.track("room:1", key)
    sim.run_until_quiet()

    sim.crash("b")
    sim.advance(31)
    assert sim.a.keys("room:1") == ["alice", "carol"]
    sim.crash("c")
    sim.advance(31)
    assert sim.a.keys("room:1") == ["alice"]

    alone = OneNode()
    alone.hear(heartbeat(Slice(B)))
    peer = alone.peer(B)
    assert peer is not None
    assert (peer.held.seq, keys(peer.held)) == (0, [])


@pytest.mark.conforms("ST-10")
def test_of_a_node_that_was_forgotten_nothing_is_left():
    """Heard again under the same id it shows nothing, and is asked for all that it has."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs))
    node.advance(1_210)
    assert node.peer(B) is None
    node.told()
    node.said(Request)

    node.hear(heartbeat(theirs))
    (probe,) = node.probes(B)
    node.hear(Alive(B, "a", probe.nonce, theirs.seq))
    node.advance(0.5)

    peer = node.peer(B)
    assert peer is not None
    assert (peer.is_up, len(peer.held)) == (True, 0)
    assert node.told() == ([], [])
    ((to, request),) = node.said(Request)
    assert (to, request.origin, request.after) == ("b", B, 0)


@pytest.mark.conforms("ST-13")
def test_an_answer_has_only_the_origin_that_was_asked_for():
    """A node sends the one slice of all that it holds, and nothing of what it does not know."""
    node = OneNode()
    node.tracker.track("room:1", "alice", {}, owner=1)
    slices = [Slice(B), Slice(C)]
    for theirs in slices:
        add(theirs, f"of {theirs.origin.name}")
        node.hear(heartbeat(theirs), changes(theirs))
    asker = origin("d")
    node.hear(heartbeat(Slice(asker)))
    node.said(Transfer)

    node.hear(Request(asker, B, 0, 7))
    ((to, answer),) = node.said(ChunkTransfer)
    assert (to, answer.origin, answer.number) == ("d", B, 7)
    assert [row.key for row in answer.added] == ["of b"]

    node.hear(Request(asker, OriginId("b", 2, 2), 0, 8), Request(asker, origin("e"), 0, 9))
    assert node.said(ChunkTransfer) == []


# Ranges.


@pytest.mark.conforms("ST-12")
def test_ranges_with_a_gap_between_them_do_not_join():
    """Neither way round: a receiver in the gap would be led astray."""
    theirs = Slice(B)
    add(theirs, "alice")
    first = range_from(theirs, 0)
    add(theirs, "bob")
    add(theirs, "carol")
    last = range_from(theirs, 2)

    for one, two in ((first, last), (last, first)):
        with pytest.raises(ValueError, match="do not chain"):
            join_ranges(one, two)


@pytest.mark.conforms("ST-14")
def test_ranges_that_chain_join_with_all_that_either_has():
    """Additions and removals of both; those of two origins never meet in one range."""
    theirs = Slice(B)
    add(theirs, "alice")
    add(theirs, "bob")
    alice, bob = theirs
    first = range_from(theirs, 1)
    theirs.remove(alice)
    add(theirs, "carol")
    (_, carol) = theirs
    second = range_from(theirs, 2)

    assert join_ranges(first, second) == Range(1, 4, (bob, carol), (alice.seq,))


@pytest.mark.conforms("ST-15")
def test_a_removal_stays_in_the_range_that_removes():
    """A joined range drops the addition and names the removal, and joins with itself unchanged.

    What another origin adds under the same key meanwhile is another's, and stays.
    """
    theirs = Slice(B)
    alice = add(theirs, "alice")
    first = range_from(theirs, 0)
    (entry,) = theirs
    theirs.remove(entry)
    second = range_from(theirs, 1)

    joined = join_ranges(first, second)
    assert joined == Range(0, 2, (), (entry.seq,))
    assert join_ranges(joined, joined) == joined

    node, other = OneNode(), Slice(C)
    node.hear(heartbeat(Slice(B)), heartbeat(Slice(C)), transfer(C, theirs, first))
    concurrent = add(other, "alice")
    node.hear(changes(other), transfer(C, theirs, joined), transfer(C, theirs, joined))
    assert node.told() == ([alice, concurrent], [alice])
    assert [each.ref for each in node.tracker.list("room:1")] == [concurrent]
