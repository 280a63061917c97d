"""What random histories once broke, as scenarios of a few lines."""

from roost.testing.oracle import Oracle
from roost.testing.simulation import Simulation


def test_nodes_that_forgot_each_other_meet_again():
    """Nodes that were apart for longer than permdown_period find each other when they can."""
    sim = Simulation(nodes="ab")
    oracle = Oracle(sim)
    sim.a.track("room:1", "alice")
    sim.advance(1)
    sim.partition("a", "b")
    sim.advance(sim.options.permdown_period + 10)

    sim.heal()
    oracle.judge(delay=0.005)

    assert sim.b.keys("room:1") == ["alice"]
