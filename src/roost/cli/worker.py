"""What each process of ``roost serve`` runs on: its event loop, and the pace of its collector.

uvicorn asks for the loop in every process that it starts, before anything else of it is running.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from typing import Final

from uvicorn.loops.auto import auto_loop_factory

__all__ = ["GC_THRESHOLDS", "new_event_loop"]

GC_THRESHOLDS: Final = (10_000, 10, 10)
"""Python's collector looks through young objects whenever there are 700 more of them, and through
all objects as their number grows. A server's objects live as long as its connections, and what
ends is freed without the collector, so that it finds next to nothing, and took a quarter of the
time of joins. This often it takes a twentieth."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop, where there is one; sets the collector's pace for this process.

    A pace that is less frequent already is left as it is.
    """
    if 0 < gc.get_threshold()[0] < GC_THRESHOLDS[0]:
        gc.set_threshold(*GC_THRESHOLDS)
    is_worker = multiprocessing.parent_process() is not None
    return auto_loop_factory(use_subprocess=is_worker)()
