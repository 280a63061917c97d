"""How many digests it takes: enough for everybody to learn what is missing, however many there are.

The numbers are drawn by chance; the seeds are fixed.
"""

from __future__ import annotations

import pytest

from roost.testing.simulation import HeldMessages, Simulation
from roost.tracker.messages import Changes, ChunkTransfer, Digest, Heartbeat, Hello, Transfer
from tests.tracker.one_node import OneNode, origin

MANY = 40
ABOUT = 3  # digests that one hello, or one node that differs, gets from all together
HEARTBEAT = 1.5  # seconds


def cluster(seed: int, count: int = MANY) -> Simulation:
    """Nodes that hold the same."""
    sim = Simulation(seed, [f"n{number}" for number in range(count)])
    sim.n0.track("room:1", "alice")
    sim.run_until_quiet()
    sim.advance(10 * HEARTBEAT)
    return sim


def digests(held: HeldMessages, *, source: str | None = None, target: str | None = None) -> int:
    """How many digests were sent."""
    return sum(
        isinstance(message, Digest) and source in (None, by) and target in (None, to)
        for by, to, message in held.messages
    )


def test_a_hello_leads_to_about_three_digests():
    """Of forty nodes that a newcomer greets twice, to all and in answer to each, about three tell
    it each time what there is.
    """
    counts = []
    for seed in range(5):
        sim = cluster(seed)
        hellos = sim.hold(Hello, source="x", copies=True)
        answers = sim.hold(Digest, target="x", copies=True)
        sim.start("x")
        sim.advance(0.05)
        assert len(hellos.messages) == 2 * MANY
        counts.append(len(answers.messages))
        sim.run_until_quiet()

    assert ABOUT <= sum(counts) / len(counts) <= 3 * ABOUT
    assert max(counts) < MANY / 2


@pytest.mark.parametrize("count", range(1, ABOUT + 1))
def test_a_hello_is_answered_for_certain_where_few_could(count):
    """In a small cluster everybody who hears a hello answers it."""
    node = OneNode()
    node.hear(*(Hello(origin("bcd"[number]), 0) for number in range(count)))
    node.said(Digest)

    for _ in range(20):
        node.hear(Hello(origin("b"), 0))

    assert [to for to, _ in node.said(Digest)] == ["b"] * 20


def test_one_that_differs_gets_about_three_digests_in_a_heartbeat():
    """All the others differ from it and agree with each other: three of them tell it, by chance,
    it tells one, and nobody tells anybody else.
    """
    sim = cluster(7)
    sim.hold(Changes, target="n1")
    sim.hold(Transfer, ChunkTransfer, target="n1")
    sim.n0.track("room:1", "bob")
    sim.advance(3 * HEARTBEAT)
    sent = sim.hold(Digest, copies=True)

    sim.advance(20 * HEARTBEAT)

    to_it, by_it = digests(sent, target="n1"), digests(sent, source="n1")
    assert by_it == 20
    assert 0.7 * ABOUT <= to_it / 20 <= 1.3 * ABOUT
    assert digests(sent) == to_it + by_it


def test_of_two_halves_everybody_sends_a_digest():
    """Where many differ from many, each node tells one in a heartbeat, and not more."""
    node = OneNode()
    peers = [origin(name) for name in "bcdefghijklmnopqrstu"]
    node.hear(*(Hello(peer, 0) for peer in peers))
    node.advance(2 * HEARTBEAT)
    own = node.said(Heartbeat)[-1][1].digest
    node.sent.clear()
    node.hear(*(Heartbeat(peer, 0, own + (peer in peers[:10])) for peer in peers))

    node.advance(HEARTBEAT)

    assert len(node.said(Digest)) == 1


def test_who_agrees_says_nothing():
    """Nodes that hold the same tell each other so by the hash in their heartbeats only."""
    sim = cluster(3)
    sent = sim.hold(Digest, copies=True)

    sim.advance(20 * HEARTBEAT)

    assert digests(sent) == 0


def test_many_newcomers_are_not_answered_by_all():
    """A cluster that grows from one to many sends digests in proportion to the nodes."""
    sim = Simulation(5, ["n0"])
    sent = sim.hold(Digest, copies=True)
    for number in range(1, MANY):
        sim.start(f"n{number}")
    sim.n0.track("room:1", "alice")
    sim.advance(0.1)

    # Each new node is answered by about three, and it answers the hellos that come back.
    assert digests(sent) < MANY * MANY / 2
    sim.run_until_quiet()
