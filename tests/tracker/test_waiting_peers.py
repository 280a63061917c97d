"""Peers that wait for nothing cost nothing, and none that waits is overlooked."""

from __future__ import annotations

import random

import pytest

from roost.testing.simulation import Faults, Simulation


@pytest.mark.parametrize("seed", range(10))
def test_the_timer_is_due_when_the_first_deadline_of_any_peer_is(seed: int) -> None:
    """However nodes come and go, ``next_timer`` is no later than any deadline."""
    rng = random.Random(seed)
    faults = Faults(loss=rng.choice((0, 0.2)), max_delay=0.2, hints=0.1)
    sim = Simulation(seed, "abcd", faults=faults)
    for _ in range(150):
        match rng.randrange(8):
            case 0 if len(sim.nodes) > 1:
                sim.crash(rng.choice(list(sim.nodes)))
            case 1:
                sim.start(rng.choice([each for each in "abcd" if each not in sim.nodes] or ["a"]))
            case 2:
                sim.partition("ab", "cd")
            case 3:
                sim.heal()
            case _ if sim.nodes:
                sim.nodes[rng.choice(list(sim.nodes))].track("room:1", "alice")
        sim.advance(rng.choice((0.01, 0.3, 3, 40)) * rng.random())

        for node in sim.nodes.values():
            replication = node.replication
            timer = replication.next_timer()
            assert timer is not None
            deadlines = [at for peer in replication.peers for at in peer.deadlines()]
            clock = replication._node.clock
            assert timer <= clock.on_callers(min(deadlines, default=float("inf"))) + 1e-6
