"""What each process of ``roost serve`` runs on: its event loop, and the pace of its collector.

uvicorn asks for the loop in every process that it starts, before anything else of it is running.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from typing import Final

from uvicorn.loops.auto import auto_loop_factory

__all__ = ["GC_THRESHOLDS", "new_event_loop", "new_fast_event_loop"]

GC_THRESHOLDS: Final = (10_000, 10, 10)
"""Python's collector looks through young objects whenever there are 700 more of them (2,000 since
3.13), and through all objects as their number grows. A server's objects live as long as its
connections, and what ends is freed without the collector, so that it finds next to nothing, and
took a quarter of the time of joins. This often it takes a tenth."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop, where there is one; sets the collector's pace for this process.

    A pace that is less frequent already is left as it is.
    """
    if 0 < gc.get_threshold()[0] < GC_THRESHOLDS[0]:
        gc.set_threshold(*GC_THRESHOLDS)
    is_worker = multiprocessing.parent_process() is not None
    return auto_loop_factory(use_subprocess=is_worker)()


def new_fast_event_loop() -> asyncio.AbstractEventLoop:
    """``new_event_loop`` with the transports of aiofastnet.

    Measured in ``docs/benchmarks.md``: a quarter more joins, and 5 kB more for each connection.
    It is asked for by name, not taken where it is installed: it replaces what carries every byte.

    Raises:
        ImportError: aiofastnet is not installed.
    """
    from aiofastnet import patch_loop

    return patch_loop(new_event_loop())
