"""What Phoenix's own tests of its tracker state about several nodes."""

from __future__ import annotations

import pytest

from roost.exceptions import ConfigurationError
from roost.testing.simulation import SimulatedNode, Simulation
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import Peer

# Options.


@pytest.mark.conforms("TRK-2")
def test_a_node_is_not_down_before_two_heartbeats():
    """A down period below twice the heartbeat's is refused with both; twice is enough."""
    with pytest.raises(ConfigurationError, match=r"twice as large as heartbeat_period: 2\.9 and 1"):
        ReplicationOptions(heartbeat_period=1.5, down_period=2.9)

    ReplicationOptions(heartbeat_period=1.5, down_period=3.0)


@pytest.mark.conforms("TRK-3")
@pytest.mark.parametrize("permdown_period", [29.0, 30.0])
def test_a_node_is_forgotten_after_it_is_down(permdown_period: float):
    """A permdown period at or below the down period is refused with both."""
    with pytest.raises(ConfigurationError, match=r"larger than down_period: .* and 30"):
        ReplicationOptions(down_period=30.0, permdown_period=permdown_period)

    ReplicationOptions(down_period=30.0, permdown_period=30.1)


# Replication.


def peer_of(node: SimulatedNode, name: str) -> Peer | None:
    """What a node knows of another one; None if nothing."""
    return next((peer for peer in node.replication.peers if peer.name == name), None)


def told(node: SimulatedNode) -> list[str]:
    """The keys that somebody knows who was told the joins and leaves of a node, and no more."""
    return sorted(entry.key for entry in node.shown.values())


@pytest.mark.conforms("REP-1")
def test_heartbeats_are_broadcast_repeatedly():
    """Each node tells each other one that it is there, once a heartbeat period."""
    sim = Simulation(nodes="abc")
    sim.advance(2)
    sim.sent.clear()

    sim.advance(15)

    assert sim.sent["Heartbeat"] == 3 * 2 * 10


@pytest.mark.conforms("REP-2")
def test_a_heartbeat_of_an_unknown_node_is_enough():
    """It brings the node up, and being ahead it is asked once for what it has."""
    sim = Simulation(nodes="a")
    sim.a.track("room:1", "alice")
    sim.partition("a", "b")
    sim.start("b")
    sim.advance(10)
    assert peer_of(sim.b, "a") is None
    sim.sent.clear()

    sim.heal()
    sim.advance(2)

    peer = peer_of(sim.b, "a")
    assert peer is not None
    assert peer.is_up
    assert (sim.sent["Request"], sim.sent["Transfer"]) == (1, 1)
    assert told(sim.b) == sim.b.keys("room:1") == ["alice"]


@pytest.mark.conforms("REP-3")
def test_what_several_have_is_asked_for_once():
    """A newcomer asks once for the slice of each origin, and gets all presences as joins."""
    sim = Simulation(nodes="ab")
    sim.a.track("room:1", "alice")
    sim.b.track("room:1", "bob")
    sim.run_until_quiet()
    sim.sent.clear()

    sim.start("c")
    sim.advance(10)

    assert sim.sent["Request"] == sim.sent["Transfer"] == 2
    assert told(sim.c) == ["alice", "bob"]


@pytest.mark.conforms("REP-4")
def test_a_node_that_starts_again_leaves_nothing_of_its_earlier_life():
    """Its old entries are on no node, hidden or held, once its new life is heard."""
    sim = Simulation(nodes="abc")
    sim.b.track("room:1", "old")
    sim.run_until_quiet()

    sim.crash("b")
    sim.start("b").track("room:1", "new")
    sim.run_until_quiet()

    for node in sim.nodes.values():
        assert told(node) == node.keys("room:1") == ["new"]
    for node in (sim.a, sim.c):
        peer = peer_of(node, "b")
        assert peer is not None
        assert peer.origin == sim.b.tracker.origin
        assert [entry.key for entry in peer.held] == ["new"]


@pytest.mark.conforms("REP-5")
def test_a_node_is_suspended_and_resumed_and_crashes_and_starts_again():
    """One that sleeps leaves and joins under its id; one that crashed comes back with another."""
    sim = Simulation(nodes="ab")
    sim.b.track("room:1", "old")
    sim.run_until_quiet()
    first = sim.b.tracker.origin

    sim.pause("b")
    sim.advance(31)
    peer = peer_of(sim.a, "b")
    assert peer is not None
    assert (peer.origin, peer.is_up, told(sim.a)) == (first, False, [])
    sim.resume("b")
    sim.advance(2)
    assert peer_of(sim.a, "b") is peer
    assert (peer.origin, peer.is_up, told(sim.a)) == (first, True, ["old"])

    sim.crash("b")
    sim.advance(31)
    assert told(sim.a) == []
    sim.start("b").track("room:1", "new")
    sim.advance(2)
    peer = peer_of(sim.a, "b")
    assert peer is not None
    assert (peer.origin > first, peer.is_up, told(sim.a)) == (True, True, ["new"])

    sim.crash("b")
    sim.advance(1_202)
    assert peer_of(sim.a, "b") is None
    assert told(sim.a) == sim.a.keys("room:1") == []


@pytest.mark.conforms("REP-6")
def test_joins_and_leaves_are_reported_and_listed_everywhere():
    """Here at once and elsewhere within the broadcast, also when an owner ends."""
    sim = Simulation(nodes="ab")
    sim.advance(1)

    alice = sim.a.track("room:1", "alice")
    assert told(sim.a) == sim.a.keys("room:1") == ["alice"]
    sim.b.track("room:1", "bob")
    sim.advance(0.1)
    for node in (sim.a, sim.b):
        assert told(node) == node.keys("room:1") == ["alice", "bob"]

    sim.a.track("room:2", "alice", owner=alice)
    sim.advance(0.1)
    assert told(sim.b) == ["alice", "alice", "bob"]
    sim.a.end(alice)
    assert told(sim.a) == sim.a.keys("room:1") == ["bob"]
    sim.advance(0.1)
    assert told(sim.b) == sim.b.keys("room:1") == ["bob"]


@pytest.mark.conforms("REP-7")
def test_the_presences_of_a_node_that_crashes_are_hidden_first_and_dropped_later():
    """Its leaves are reported and no list has them; they are held until it is forgotten."""
    sim = Simulation(nodes="ab")
    sim.b.track("room:1", "bob")
    sim.run_until_quiet()

    sim.crash("b")
    sim.advance(31)
    peer = peer_of(sim.a, "b")
    assert peer is not None
    assert told(sim.a) == sim.a.keys("room:1") == []
    assert [entry.key for entry in peer.held] == ["bob"]

    sim.advance(1_200)
    assert peer_of(sim.a, "b") is None
    assert told(sim.a) == []


@pytest.mark.conforms("REP-15")
def test_a_goodbye_is_a_leave_at_once():
    """A node that stops is forgotten with all that it tracked as soon as it says so."""
    sim = Simulation(nodes="ab")
    sim.b.track("room:1", "bob")
    sim.run_until_quiet()

    sim.stop("b")
    sim.advance(0.01)

    assert told(sim.a) == sim.a.keys("room:1") == []
    assert peer_of(sim.a, "b") is None


@pytest.mark.conforms("REP-16")
def test_a_newcomer_does_not_ask_for_ever_for_what_the_dead_had():
    """Started while a node is down, it asks once for what the living have, and then no more."""
    sim = Simulation(nodes="ab")
    sim.a.track("room:1", "alice")
    sim.b.track("room:1", "bob")
    sim.run_until_quiet()
    sim.crash("b")
    sim.advance(31)
    sim.sent.clear()

    sim.start("c")
    sim.advance(100)

    assert sim.sent["Request"] == 1
    assert told(sim.c) == ["alice"]
    assert peer_of(sim.c, "b") is None
