"""An event loop whose clock jumps: what waits for a minute runs at once, in the right order."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualClockLoop", "run_virtually", "virtually"]

T = TypeVar("T")


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for its next timer, the loop sets its clock to it.

    Only for code without real I/O: a socket would never be waited for.
    """

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        """Set the clock forward."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if timeout is None and not ready:
            raise RuntimeError("nothing will ever happen: everybody waits, and there is no timer")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready


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
