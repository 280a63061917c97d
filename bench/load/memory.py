"""Resident memory per idle joined connection, and whether it grows with their number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from math import nan
from time import sleep
from typing import Final

from bench.load.crowd import Impatient
from bench.load.frames import ProtocolError
from bench.load.shares import Watch, resident_size
from bench.load.target import Measured, Target

__all__ = ["memory"]

GENERATOR_CORE: Final = 1
PATIENCE: Final = 5.0  # seconds for memory to settle


def memory(target: Target, count: int, process_count: int) -> Measured:
    """Let processes join one after the other, each with its share of the connections.

    Each client is in a topic of its own, with presence where there is some. The growth is that of
    the last process, by that of the second: the first finds memory that was free already.
    """
    if not target.pids:
        raise ValueError("memory of a server on another machine can't be seen")
    share = count // process_count
    sizes = [_settled_size(target)]
    with ExitStack() as stack, Watch(target.pids) as watch:
        clients = []
        for number in range(process_count):
            clients.append(stack.enter_context(_idle(target, number, share)))
            sizes.append(_settled_size(target))
        if any(each.poll() is not None for each in clients):
            raise ProtocolError("the server dropped a connection that was idle")
    steps = [(b - a) / share / 1e3 for a, b in pairwise(sizes)]
    usual = steps[min(1, process_count - 1)]
    figures = {
        "kB each": (sizes[-1] - sizes[0]) / (share * process_count) / 1e3,
        "first, kB": steps[0],
        "last, kB": steps[-1],
        "growth": steps[-1] / usual if usual > 0 else nan,
    }
    return Measured(figures, watch.shares)


def _settled_size(target: Target) -> int:
    """The resident size once it has stayed the same for half a second, in bytes."""
    size = -1
    for _ in range(int(PATIENCE / 0.5)):
        before, size = size, resident_size(target.pids)
        if abs(size - before) < 100_000:
            break
        sleep(0.5)
    return size


@contextmanager
def _idle(target: Target, number: int, count: int) -> Iterator[subprocess.Popen[bytes]]:
    kind = "room" if target.has_presence else "plain"
    dialect = type(target.dialect).__name__
    options = [str(number * count), str(count), str(number + 2), str(GENERATOR_CORE)]
    command = [sys.executable, "-m", "bench.load.idle", dialect, target.url, kind, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise Impatient(f"{count} clients more could not join")
            yield process
        finally:
            process.kill()
