"""How busy generator and server are while something is measured, and on which cores they are."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, process_time
from types import TracebackType
from typing import Final

import psutil

__all__ = ["BUSY", "Shares", "Watch", "resident_size", "use_core"]

BUSY: Final = 0.9  # of a core: whoever is busier has nothing left


def use_core(number: int) -> bool:
    """Keep this process on one core, if there are two at least and the system lets us."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2 and (os.cpu_count() or 1) < 2:
        return False
    with suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {number})
        return True
    return False


@dataclass(frozen=True)
class Shares:
    """Processor time by time, of a core.

    Args:
        generator, server: Each from 0 to 1, or more if the server has several processes.
        duration: Seconds that were measured.
    """

    generator: float
    server: float | None
    duration: float

    def cpu_for_each(self, count: float) -> float:
        """Microseconds of the server for each of ``count`` operations; nan if it does not tell.

        Unlike a rate it says something of the server when the generator is the bottleneck.
        """
        return math.nan if self.server is None else self.server * self.duration / count * 1e6

    @property
    def is_of_the_generator(self) -> bool:
        """The generator had nothing left while the server had: the figure says nothing of it."""
        return self.generator >= BUSY and (self.server is None or self.server < BUSY)


def _family(pids: Sequence[int]) -> list[psutil.Process]:
    processes = [psutil.Process(pid) for pid in pids]
    return processes + [child for each in processes for child in each.children(recursive=True)]


def resident_size(pids: Sequence[int]) -> int:
    """Resident memory of processes and their children, in bytes."""
    return sum(int(each.memory_info().rss) for each in _family(pids))


def _cpu_time(processes: Sequence[psutil.Process]) -> float:
    times = (each.cpu_times() for each in processes)
    return sum(float(each.user) + float(each.system) for each in times)


class Watch:
    """Measures shares from its beginning to its end; a context manager.

    Args:
        pids: Of the server; none if it is on another machine.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self.shares = Shares(0.0, None, 0.0)

    def __enter__(self) -> Watch:
        self._processes = _family(self._pids)
        self._server_started = _cpu_time(self._processes)
        self._generator_started = process_time()
        self._started_at = monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            return
        duration = monotonic() - self._started_at
        generator = (process_time() - self._generator_started) / duration
        server = (_cpu_time(self._processes) - self._server_started) / duration
        self.shares = Shares(generator, server if self._pids else None, duration)
