"""Every promise of the replicated tracker, kept in thousands of random histories."""

import sys

import pytest

from tests.fresh_seeds import first_of_commit
from tests.simulation.__main__ import report_on

BATCH_COUNT = 10
BATCH_SIZE = 100


@pytest.fixture(scope="session")
def fresh_seed() -> int:
    """Where the fresh ones begin: elsewhere with each commit."""
    return first_of_commit()


def play(first: int) -> None:
    """Play a batch of seeds; the first that fails is reported, with how to play it again."""
    for seed in range(first, first + BATCH_SIZE):
        report = report_on(seed)
        if report is not None:
            pytest.fail(f"{report}\n(python -m tests.simulation 1 {seed})", pytrace=False)


@pytest.mark.parametrize("batch", range(BATCH_COUNT))
def test_promises_are_kept_whatever_happens(batch):
    """Under any faults nodes end up showing the union of what live nodes track, and go quiet."""
    play(batch * BATCH_SIZE)


@pytest.mark.parametrize("batch", range(BATCH_COUNT))
def test_promises_are_kept_in_histories_that_nobody_has_seen(batch, fresh_seed):
    """The same with seeds of this commit, which are printed."""
    first = fresh_seed + batch * BATCH_SIZE
    sys.stdout.write(f"{BATCH_SIZE} seeds from {first}\n")

    play(first)
