"""Wait for what no event tells: it is seen from outside only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait for a condition; fail if it does not come true in time.

    Raises:
        TimeoutError: It did not, within ``timeout`` seconds.
    """
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
