"""Every promise of the replicated tracker, kept in a thousand random histories."""

import pytest

from tests.simulation.__main__ import report_on

BATCH_COUNT = 10
BATCH_SIZE = 100


@pytest.mark.parametrize("batch", range(BATCH_COUNT))
def test_promises_are_kept_whatever_happens(batch):
    """Under any faults nodes end up showing the union of what live nodes track, and go quiet."""
    for seed in range(batch * BATCH_SIZE, (batch + 1) * BATCH_SIZE):
        report = report_on(seed)
        if report is not None:
            pytest.fail(report, pytrace=False)
