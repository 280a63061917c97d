"""A plugin for pytest: a test that takes longer than its timeout fails, whatever caught the alarm.

The alarm of pytest-timeout raises where the test is, and a loop of asyncio logs what its callbacks
raise: a callback that ran for ever would end by it, and the test would go on, and pass.
"""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

__all__ = ["pytest_runtest_call", "pytest_runtest_protocol"]

_BEGAN_AT = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    item.stash[_BEGAN_AT] = time.monotonic()  # before pytest-timeout sets its alarm
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    yield
    limit = _limit(item)
    if limit and time.monotonic() - item.stash[_BEGAN_AT] > limit:
        pytest.fail(f"it took over {limit} s, and something caught the alarm", pytrace=False)


def _limit(item: pytest.Item) -> float:
    """Seconds that a test may take; 0 for any time."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0] if marker.args else marker.kwargs["timeout"])
    return float(item.config.getoption("timeout") or item.config.getini("timeout") or 0)
