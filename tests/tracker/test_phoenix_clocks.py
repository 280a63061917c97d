"""What Phoenix's own tests of its clocks state, of digests.

Phoenix's clock maps each replica to a number, as a digest does. Clocks of different nodes are
compared as wholes there, to choose whom to ask; here each origin is compared by itself.
"""

from __future__ import annotations

import pytest

from roost.crdt.held import join_ranges
from roost.crdt.slice import Slice
from roost.tracker.messages import Alive, Digest, Heartbeat, Hello, Request
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin, range_from

B, C, D = origin("b"), origin("c"), origin("d")


def held_at(count: int) -> tuple[OneNode, Slice]:
    """A node that holds so many changes of node b, and node b."""
    node, theirs = OneNode(), Slice(B)
    for n in range(count):
        add(theirs, f"user:{n}")
    node.hear(heartbeat(theirs), heartbeat(Slice(C)), heartbeat(Slice(D)))
    if count:
        node.hear(changes(theirs))
    node.said(Request)
    return node, theirs


@pytest.mark.conforms("CLK-1")
@pytest.mark.parametrize(
    ("seqs", "asked"),
    [
        pytest.param(((C, 0),), {}, id="has less"),
        pytest.param(((C, 0), (B, 1)), {}, id="is behind"),
        pytest.param(((C, 0), (B, 2)), {}, id="is equal"),
        pytest.param(((C, 0), (B, 3)), {B: 2}, id="is ahead"),
        pytest.param(((C, 0), (B, 1), (D, 1)), {D: 0}, id="is ahead of one and behind of another"),
        pytest.param(((C, 1), (B, 3), (D, 1)), {B: 2, C: 0, D: 0}, id="is ahead of all"),
    ],
)
def test_a_digest_that_is_ahead_makes_a_node_ask(seqs, asked):
    """It asks for each origin that is ahead there, from where it is, and for no other."""
    node, _ = held_at(2)

    node.hear(Digest(C, seqs))
    node.advance(0.3)

    assert {request.origin: request.after for _, request in node.said(Request)} == asked


@pytest.mark.conforms("CLK-2")
def test_only_who_holds_more_is_asked():
    """Of those that told their digests, one is asked, and it is one that is ahead of us.

    The origin itself is not heard directly: it only answers probes that others pass on.
    """
    node, theirs = held_at(1)
    others = (heartbeat(Slice(C)), heartbeat(Slice(D)))
    for _ in range(6):
        node.advance(1, *others)
        for probe in node.probes(B):
            node.hear(Alive(B, "a", probe.nonce, theirs.seq))
    node.said(Request)

    node.hear(Digest(C, ((C, 0), (B, 1))), Digest(D, ((D, 0), (B, 3))))
    node.advance(0.3)

    ((to, request),) = node.said(Request)
    assert (to, request.origin, request.after) == ("d", B, 1)


@pytest.mark.conforms("CLK-3")
def test_of_all_that_is_announced_the_highest_counts():
    """For each origin by itself, whatever comes later, and whoever says so."""
    node, _ = held_at(0)

    node.hear(Digest(C, ((C, 0), (B, 3))), Digest(D, ((D, 4), (B, 2), (C, 1))), Hello(B, 1))

    announced = {peer.origin: peer.announced for peer in node.replication.peers}
    assert announced == {B: 3, C: 1, D: 4}


@pytest.mark.conforms("CLK-4")
def test_a_joined_range_begins_where_the_first_one_does():
    """Its bounds are the lower start and the higher end of the two; of one origin, two numbers."""
    theirs = Slice(B)
    add(theirs, "alice")
    add(theirs, "bob")
    first = range_from(theirs, 0)
    add(theirs, "carol")

    for start in (0, 1, 2):
        joined = join_ranges(first, range_from(theirs, start))
        assert (joined.start, joined.end) == (0, 3)


@pytest.mark.conforms("CLK-5")
def test_of_a_digest_only_what_is_known_counts():
    """For origins that are no peers nothing is asked but whether they live."""
    node, _ = held_at(0)

    node.hear(Digest(C, ((C, 0), (B, 1), (origin("e"), 5), (origin("b", 2), 5))))
    node.advance(0.3)

    assert [request.origin for _, request in node.said(Request)] == [B]
    assert {peer.origin for peer in node.replication.peers} == {B, C, D}


@pytest.mark.conforms("CLK-6")
def test_a_digest_names_all_that_a_node_holds():
    """Each peer and the node itself, at its number; who says hello is told."""
    node, theirs = held_at(2)
    node.tracker.track("room:1", "alice", {}, owner=1)
    node.advance(1)
    node.said(Heartbeat)

    node.hear(Hello(C, 0))

    ((to, digest),) = node.said(Digest)
    assert to == "c"
    assert dict(digest.seqs) == {node.tracker.origin: 1, B: theirs.seq, C: 0, D: 0}
