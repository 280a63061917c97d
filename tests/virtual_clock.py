"""Tests on an event loop whose clock jumps: what waits for a minute runs at once, in order."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from bench.virtual_clock import VirtualClockLoop

__all__ = ["VirtualClockLoop", "run_virtually", "virtually"]

T = TypeVar("T")


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a virtual clock."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs))

    return run
