"""How Hypothesis runs here: as long as a law needs, however slow the machine is."""

from hypothesis import HealthCheck, settings

__all__ = ["LAW", "MACHINE"]

LAW = settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
"""For a test that draws values."""

MACHINE = settings(LAW, max_examples=60, stateful_step_count=50)
"""For a test that draws sequences of calls."""
