"""The ways in which a callback of an application fails."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

__all__ = ["FAILURES"]


def _raise() -> Any:
    raise LookupError("no")


async def _raise_later() -> Any:
    await asyncio.sleep(1)
    _raise()


def _cancelled() -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.cancel()
    return future


FAILURES: Final = [
    pytest.param(_raise, id="raises"),
    pytest.param(_raise_later, id="raises later"),
    pytest.param(lambda: _cancelled().result(), id="uses what is cancelled"),
    pytest.param(_cancelled, id="awaits what is cancelled"),
]
"""For ``parametrize``: calls that fail, or return an awaitable that does."""
