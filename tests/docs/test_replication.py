"""docs/replication.md: its scenario runs, and the same seed is the same run."""

from __future__ import annotations

from roost.testing.simulation import Simulation
from tests.docs.guide import Guide


def test_the_scenario_runs():
    """A partition hides alice on the other side, and its end shows her again."""
    sim = Guide("replication.md").run().sim

    assert sim.b.keys("room:1") == sim.c.keys("room:1") == ["alice"]


def test_a_seed_is_a_run():
    """Two runs of one seed send the same messages; another seed does not."""

    def sent(seed: int) -> tuple[dict[str, int], int, float]:
        sim = Simulation(seed=seed, nodes="abc")
        sim.a.track("room:1", "alice")
        took = sim.run_until_quiet()
        sim.partition("a", "bc")
        sim.advance(40.123)
        return dict(sim.sent), sim.sent_size, took

    assert sent(7) == sent(7)
    assert len({str(sent(seed)) for seed in range(20)}) > 1
