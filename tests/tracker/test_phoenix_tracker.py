"""What Phoenix's own tests of its tracker state about several nodes."""

from __future__ import annotations

import pytest

from roost.exceptions import ConfigurationError
from roost.tracker.replication import ReplicationOptions

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
