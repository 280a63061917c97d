"""What random histories once broke, as scenarios of a few lines."""

from roost.testing import Oracle, Simulation


def test_nodes_that_forgot_each_other_meet_again():
    """Nodes that were apart for longer than permdown_period find each other when they can."""
    sim = Simulation(nodes="ab")
    oracle = Oracle(sim)
    sim.a.track("room:1", "alice")
    sim.advance(1)
    sim.partition("a", "b")
    sim.advance(sim.options.permdown_period + 10)

    sim.heal()
    oracle.judge()

    assert sim.b.keys("room:1") == ["alice"]


def test_nobody_waits_for_answers_to_what_was_asked_while_the_origin_was_away():
    """A node that comes back is asked at once, however often it did not answer before."""
    sim = Simulation(nodes="abc")
    sim.advance(1)
    sim.cut("a", "c")
    sim.cut("c", "b")
    sim.a.track("room:1", "alice")
    sim.advance(35)

    assert sim.c.keys("room:1") == []

    sim.heal()
    sim.advance(sim.options.heartbeat_period + sim.options.repair_delay + 0.02)

    assert sim.c.keys("room:1") == ["alice"]


def test_a_clone_outlives_the_goodbye_of_its_double():
    """A node whose id was closed by its clone goes on under another id."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.advance(1)
    sim.clone("c", "d")
    sim.cut("c", "d")
    sim.stop("c")
    sim.advance(0.1)
    sim.d.track("room:1", "alice")

    oracle.judge()

    assert sim.a.keys("room:1") == ["alice"]


def test_the_dead_make_no_traffic():
    """A newcomer that never knew a dead node, and those that did, have nothing to tell."""
    sim = Simulation(nodes="abc")
    oracle = Oracle(sim)
    sim.advance(5)
    sim.crash("c")
    oracle.judge()
    sim.start("d")
    oracle.judge()

    oracle.expect_quiet(60)


def test_a_node_that_only_others_hear_is_shown():
    """A node that is down here and up elsewhere is asked through those that hear it."""
    sim = Simulation(nodes="abc")
    sim.a.track("room:1", "alice")
    sim.advance(5)
    sim.partition("a", "bc")
    sim.advance(60)
    sim.heal()
    sim.partition("a", "b")
    sim.advance(10)

    assert sim.b.keys("room:1") == ["alice"]
