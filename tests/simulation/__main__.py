"""Play many histories, on all cores: ``python -m tests.simulation COUNT [FIRST]``.

Without FIRST it begins where nobody was before, and says where. A history that fails is printed
with its seed, and ``python -m tests.simulation 1 SEED`` plays it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from typing import Final

from tests.fresh_seeds import first_of_now
from tests.simulation.histories import draw
from tests.simulation.playing import failure, scenario, shrink

MAX_FAILURES: Final = 5
CHUNK_SIZE: Final = 20  # seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Play the seeds; return 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("count", type=int, help="how many seeds")
    parser.add_argument("first", type=int, nargs="?", help="the first of them (a fresh one)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    arguments = parser.parse_args(argv)
    first = first_of_now() if arguments.first is None else arguments.first
    seeds = range(first, first + arguments.count)
    # At once, for whoever does not wait for the end, and beside what is printed of the failures.
    print(f"playing {len(seeds)} seeds from {first}", file=sys.stderr, flush=True)
    began_at, failed = time.monotonic(), 0
    for report in _reports(seeds, arguments.jobs):
        if report is not None:
            failed += 1
            print(f"{report}\n", flush=True)
        if failed == MAX_FAILURES:
            print(f"stopped after {failed} failures")
            break
    seconds = time.monotonic() - began_at
    print(f"{len(seeds)} seeds from {seeds.start}: {failed} failed, {seconds:.0f} s")
    return 1 if failed else 0


def _reports(seeds: range, job_count: int) -> Iterator[str | None]:
    """What is to say of each seed, in order; None of one that passed."""
    if job_count == 1 or len(seeds) <= CHUNK_SIZE:
        yield from map(report_on, seeds)
        return
    with Pool(job_count) as pool:
        yield from pool.imap(report_on, seeds, CHUNK_SIZE)


def report_on(seed: int) -> str | None:
    """How a seed fails, and the shortest scenario that does; None if it passes."""
    history = draw(seed)
    if failure(history) is None:
        return None
    shortest = shrink(history)
    return f"seed {seed}: {failure(shortest)}\n{scenario(shortest)}"


if __name__ == "__main__":
    sys.exit(main())
