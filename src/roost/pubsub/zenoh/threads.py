"""Blocking calls of an engine, awaited without the loop's executor.

The executor's threads are waited for when a loop or the interpreter ends; a call that hangs in an
engine would hold up both. These threads are daemons, and nobody waits for what was given up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_thread"]

T = TypeVar("T")


async def in_thread(call: Callable[[], T], *, dispose: Callable[[T], None] | None = None) -> T:
    """Run ``call`` on a thread of its own and wait for it.

    Args:
        call: Blocks.
        dispose: Gets the result, on that thread, if the caller was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def hand_over(result: T | None, error: BaseException | None) -> None:
        if future.done():  # cancelled
            if error is None and dispose is not None:
                threading.Thread(target=dispose, args=(result,), daemon=True).start()
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(hand_over, result, error)
        except RuntimeError:  # the loop was closed
            if error is None and dispose is not None:
                dispose(result)  # type: ignore[arg-type]

    threading.Thread(target=run, name="roost-call", daemon=True).start()
    return await future
