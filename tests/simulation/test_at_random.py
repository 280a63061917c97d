"""Every promise of the replicated tracker, kept in a thousand random histories."""

import pytest

from tests.simulation.histories import draw, failure, scenario, shrink

BATCH_COUNT = 10
BATCH_SIZE = 100


@pytest.mark.parametrize("batch", range(BATCH_COUNT))
def test_promises_are_kept_whatever_happens(batch):
    """Under any faults nodes end up showing the union of what live nodes track, and go quiet."""
    for seed in range(batch * BATCH_SIZE, (batch + 1) * BATCH_SIZE):
        history = draw(seed)
        if failure(history) is not None:
            shortest = shrink(history)
            pytest.fail(f"seed {seed}: {failure(shortest)}\n{scenario(shortest)}", pytrace=False)
