"""What Phoenix's own tests of its table of replicas state, of origins and peers."""

from __future__ import annotations

import pytest

from roost import PubSub
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.presence.owners.owned_tracker import OwnedTracker
from roost.pubsub import LocalAdapter
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin
from tests.virtual_clock import virtually

B, C = origin("b"), origin("c")


@pytest.mark.conforms("RPL-1")
@virtually
async def test_each_run_of_a_node_has_an_id_of_its_own():
    """Of one name too, at one time too, and the refs of what its trackers track differ."""
    origins, refs = set(), set()
    for _ in range(100):
        async with PubSub(LocalAdapter("a")).running() as pubsub:
            trackers = [OwnedTracker(pubsub, name, lambda events: None) for name in ("t", "u")]
            origins |= {each.protocol.origin for each in trackers}
            refs |= {each.protocol.track("room:1", "alice", {}, owner=1) for each in trackers}

    assert {origin.name for origin in origins} == {"a"}
    assert len(origins) == 100
    assert len(refs) == 200


@pytest.mark.conforms("RPL-2")
def test_an_id_is_a_name_and_a_life():
    """The name alone identifies nothing; of one name the later life is the higher one."""
    first = OriginId("a", 1, 9)

    assert first == OriginId("a", 1, 9)
    assert first < OriginId("a", 1, 10) < OriginId("a", 2, 0)
    assert len({first, OriginId("a", 1, 10), OriginId("a", 2, 9), OriginId("b", 1, 9)}) == 4


@pytest.mark.conforms("RPL-3")
def test_a_node_that_is_heard_for_the_first_time_is_up():
    """It is known from then on, and heard at that time."""
    node = OneNode()
    node.advance(3)
    assert node.peer(B) is None

    node.hear(heartbeat(Slice(B)))

    peer = node.peer(B)
    assert peer is not None
    assert (peer.origin, peer.is_up) == (B, True)
    assert peer.heard_at == pytest.approx(3)


@pytest.mark.conforms("RPL-4")
@pytest.mark.parametrize(("silence", "was_up"), [(3, True), (40, False)])
def test_a_node_that_is_heard_again_is_up(silence: float, was_up: bool):
    """Whether it was up or down, it is the same peer, heard now."""
    node = OneNode()
    node.hear(heartbeat(Slice(B)))
    peer = node.peer(B)
    assert peer is not None
    node.advance(silence)
    assert (peer.is_up, peer.heard_at) == (was_up, 0)

    node.hear(heartbeat(Slice(B)))

    assert node.peer(B) is peer
    assert peer.is_up
    assert peer.heard_at == pytest.approx(silence)


@pytest.mark.conforms("RPL-5")
def test_a_node_that_is_silent_is_down():
    """It is down once it does not answer, and its slice stays; others are not concerned."""
    node, theirs, other = OneNode(), Slice(B), Slice(C)
    alice, carol = add(theirs, "alice"), add(other, "carol")
    node.hear(heartbeat(theirs), changes(theirs), heartbeat(other), changes(other))
    node.told()

    node.advance(32, heartbeat(other))

    peer, talker = node.peer(B), node.peer(C)
    assert peer is not None
    assert talker is not None
    assert (peer.is_up, talker.is_up) == (False, True)
    assert [entry.ref for entry in peer.held] == [alice]
    assert node.told() == ([], [alice])
    assert [entry.ref for entry in node.tracker.list("room:1")] == [carol]


@pytest.mark.conforms("RPL-6")
def test_a_node_that_is_silent_for_long_is_forgotten():
    """It is no peer any more after the permdown period, and not before it."""
    node, theirs, other = OneNode(), Slice(B), Slice(C)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs), heartbeat(other))

    node.advance(1_199, heartbeat(other))
    assert node.peer(B) is not None
    node.told()

    node.advance(3, heartbeat(other))
    assert node.peer(B) is None
    assert node.peer(C) is not None
    assert node.told() == ([], [])


@pytest.mark.conforms("RPL-7")
def test_a_node_that_beats_stays_as_it_is():
    """For as long as it is heard it is up, and nothing is told of it."""
    node, theirs = OneNode(), Slice(B)
    add(theirs, "alice")
    node.hear(heartbeat(theirs), changes(theirs))
    peer = node.peer(B)
    assert peer is not None
    node.told()

    node.advance(100, heartbeat(theirs))

    assert node.peer(B) is peer
    assert peer.is_up
    assert node.told() == ([], [])
    assert node.probes(B) == []
