"""Play many histories: ``python -m tests.simulation COUNT [FIRST]``."""

from __future__ import annotations

import sys
import time

from tests.simulation.histories import draw, failure, scenario, shrink

MAX_FAILURES = 5


def main(count: int, first: int = 0) -> int:
    """Play ``count`` seeds from ``first`` on; return how many failed."""
    began_at, failed = time.monotonic(), 0
    for seed in range(first, first + count):
        history = draw(seed)
        if failure(history) is None:
            continue
        failed += 1
        shortest = shrink(history)
        print(f"seed {seed}: {failure(shortest)}\n{scenario(shortest)}\n", flush=True)
        if failed == MAX_FAILURES:
            break
    print(f"{count} seeds from {first}: {failed} failed, {time.monotonic() - began_at:.0f} s")
    return failed


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
