"""What Phoenix's own tests of its delta generations state, of the log of changes.

Phoenix keeps deltas of several sizes and sends the smallest that fits. Here the origin cuts from
one log whatever range is asked for, and sends chunks of its slice where the log no longer reaches.
"""

from __future__ import annotations

import pytest

from roost.crdt.held import HeldSlice, SliceDiff
from roost.crdt.slice import Chunk, Range, Slice
from roost.tracker.messages import Changes, ChunkTransfer, Request, Transfer
from roost.tracker.path import NO_MARK
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin, range_from, transfer

B, C = origin("b"), origin("c")


@pytest.mark.conforms("GEN-1")
def test_ranges_grow_with_the_log_and_end_with_it():
    """Each change extends them; a removal is named in all that hold it; beyond are chunks."""
    theirs = Slice(B, log_count=2)
    add(theirs, "alice")
    add(theirs, "bob")
    alice, bob = theirs
    assert range_from(theirs, 0) == Range(0, 2, (alice, bob), ())
    assert range_from(theirs, 0) == Range(0, 2, (alice, bob), ())

    theirs.remove(alice)
    assert range_from(theirs, 0) == Range(0, 3, (bob,), (1,))
    assert range_from(theirs, 2) == Range(2, 3, (), (1,))

    add(theirs, "carol")
    add(theirs, "dave")
    _, carol, dave = theirs
    assert theirs.range_from(0) is None
    assert theirs.snapshot() == Chunk(0, None, 5, (bob, carol, dave))
    assert range_from(theirs, 3) == Range(3, 5, (carol, dave), ())


@pytest.mark.conforms("GEN-2")
def test_a_range_beyond_a_gap_changes_nothing():
    """What is held stays as it is until the gap is closed."""
    theirs, held = Slice(B), HeldSlice()
    add(theirs, "alice")
    held.apply(range_from(theirs, 0))
    add(theirs, "bob")
    add(theirs, "carol")

    assert held.apply(range_from(theirs, 2)) is None
    assert (held.seq, [entry.key for entry in held]) == (1, ["alice"])

    held.apply(range_from(theirs, 1))
    assert list(held) == list(theirs)


@pytest.mark.conforms("GEN-3")
def test_what_is_handed_on_of_a_node_that_was_forgotten_is_dropped():
    """Neither a range nor a chunk of it brings anything back, and nobody is given any."""
    node, theirs, other = OneNode(), Slice(B), Slice(C)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs))
    node.advance(1_210, heartbeat(other))
    node.told()

    node.hear(transfer(C, theirs), transfer(C, theirs, range_from(theirs, 0)))
    node.sent.clear()
    node.hear(Request(C, B, 0, 7))

    assert node.peer(B) is None
    assert node.told() == ([], [])
    assert node.sent == []


@pytest.mark.conforms("GEN-4")
def test_without_a_log_there_are_chunks():
    """They have all entries and no removals, and take whoever is behind to the exact slice."""
    theirs, held = Slice(B, log_count=0), HeldSlice()
    add(theirs, "alice")
    held.take(theirs.snapshot())
    (alice,) = theirs
    add(theirs, "bob")
    theirs.remove(alice)
    (bob,) = theirs

    assert theirs.range_from(1) is None
    assert theirs.snapshot() == Chunk(0, None, 3, (bob,))
    assert held.take(theirs.snapshot()) == SliceDiff((alice,), (bob,))


@pytest.mark.conforms("GEN-5")
def test_an_answer_begins_where_the_asker_is():
    """It has the broadcasts after the number in the request, and no others."""
    node, asker = OneNode(), Slice(C)
    node.hear(heartbeat(asker))
    for key in ("alice", "bob", "carol"):
        node.tracker.track("room:1", key, {}, owner=1)
        node.advance(1)
    node.tracker.untrack("room:1", "alice", owner=1)
    node.advance(1)
    told = [message.part for _, message in node.said(Changes)]
    assert [part.end for part in told] == [1, 2, 3, 4]

    for after in (0, 2, 3):
        point = NO_MARK if not after else told[after - 1].marks[1]
        node.hear(Request(C, node.tracker.origin, after, 7, point))
        ((to, answer),) = node.said(Transfer)
        assert (to, answer.number, answer.is_last) == ("c", 7, True)
        assert [(part.start, part.end, part.marks) for part in answer.parts] == [
            (part.start, part.end, part.marks) for part in told[after:]
        ]
        assert answer.parts[-1].removed == (1,)


@pytest.mark.conforms("GEN-6")
def test_nothing_is_sent_where_there_is_nothing():
    """Without changes none are broadcast, and who holds no more than the asker does not answer."""
    node, theirs, asker = OneNode(), Slice(B), Slice(C)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs), heartbeat(asker))
    node.tracker.track("room:1", "bob", {}, owner=1)
    node.advance(1)
    assert len(node.said(Changes)) == 1

    node.advance(10)
    node.hear(Request(C, B, 1, 7), Request(C, B, 2, 8))
    sent = list(node.sent)

    kinds = Changes | Transfer | ChunkTransfer
    assert not [each for each in sent if isinstance(each.message, kinds)]


@pytest.mark.conforms("GEN-7")
def test_what_leads_no_further_is_ignored():
    """A range or a chunk that ends at or below what is held changes nothing, whatever it has."""
    theirs, held = Slice(B), HeldSlice()
    add(theirs, "alice")
    add(theirs, "bob")
    ranges, chunk = [range_from(theirs, 0), range_from(theirs, 1)], theirs.snapshot()
    alice, bob = theirs
    theirs.remove(alice)
    held.apply(range_from(theirs, 0))

    for change in (*ranges, range_from(theirs, 0)):
        assert held.apply(change) is None
    for each in (chunk, theirs.snapshot()):
        assert held.take(each) is None
    assert (held.seq, list(held)) == (3, [bob])
