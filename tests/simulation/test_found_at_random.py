"""What random histories once broke, as scenarios of a few lines."""

from roost.testing import Oracle, Simulation
from roost.tracker.messages import Alive, Changes, Digest, Heartbeat, Hello, Probe
from roost.tracker.protocol import Joined


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


def test_two_that_are_superseded_both_learn_of_it():
    """Late messages tell two restarted nodes of each other's earlier, higher ids."""
    sim = Simulation(nodes="ab")
    oracle = Oracle(sim)
    sim.freeze("a", "b")
    sim.freeze("b", "a")
    sim.advance(3)
    sim.restart("b", clock_step=-3600)
    sim.restart("a", clock_step=-3600)
    sim.a.track("room:1", "alice")
    sim.heal()

    oracle.judge()

    assert sim.b.keys("room:1") == ["alice"]
    assert sim.sent["Superseded"] < 10


def test_namesakes_do_not_pass_an_answer_to_and_fro():
    """An answer for a name that a node had before reaches both that are reached by it, once."""
    sim = Simulation(nodes="ab")
    sim.start("z", called="a")
    sim.advance(5)
    sent = sim.sent["Alive"]
    sim.deliver("a", Alive(sim.b.tracker.origin, "a~before", 1, 0))

    sim.advance(1)

    assert sim.sent["Alive"] == sent


def test_what_others_know_of_a_node_does_not_show_it():
    """A node comes back without its number, and another one knows less of it than there is."""
    sim = Simulation(nodes="abcd")
    bob = sim.c.track("room:1", "bob")
    sim.run_until_quiet()
    sim.partition("c", "abd")
    sim.advance(40)
    sim.c.end(bob)
    sim.advance(1)
    told = len(sim.a.events)
    sim.heal()
    late = sim.hold(Heartbeat, Hello, Changes, Digest, Alive, source="c")
    sim.deliver("a", Probe(sim.c.tracker.origin, sim.a.tracker.origin, 1))
    sim.deliver("a", Digest(sim.d.tracker.origin, ((sim.c.tracker.origin, 0),)))
    sim.advance(sim.options.heartbeat_period / 2)
    late.release()
    sim.run_until_quiet()

    assert [event for event in sim.a.events[told:] if isinstance(event, Joined)] == []


def test_a_goodbye_that_others_told_is_remembered_for_as_long_as_a_silence():
    """What waits in a relay for longer than permdown_period brings nobody back who left."""
    sim = Simulation(nodes="abc")
    Oracle(sim)
    sim.advance(5)
    sim.freeze("b", "a")
    sim.b.track("room:1", "alice")
    sim.advance(1)
    sim.stop("b")
    sim.advance(sim.options.permdown_period + 60)
    told = len(sim.a.events)

    sim.thaw()
    sim.advance(5)

    assert sim.a.events[told:] == []
