"""The full form: ``python -m tests.chaos redis|nats|zenoh --runs 10``, or ``make chaos``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos import network
from tests.chaos.cluster import ENGINES, Cluster
from tests.chaos.scenarios import FULL, Step, play, shut_down


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, metavar="N", help="number of the first run")
    parser.add_argument("--only", metavar="WORDS", help="scenarios whose name contains this")
    arguments = parser.parse_args()
    network.enter()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    results: dict[tuple[str, str], list[Step]] = {}
    faults: list[str] = []
    places = network.Namespaces()
    for number in range(arguments.first, arguments.first + arguments.runs):
        start = time.monotonic()
        fault = asyncio.run(_run(arguments.engine, number, places, arguments.only, results))
        outcome = "right" if fault is None else f"FAULT in {fault}"
        print(f"run {number}: {outcome}, {time.monotonic() - start:.0f} s", flush=True)
        if fault is not None:
            faults.append(f"run {number}: {fault}")
    _print_table(arguments.engine, results)
    print(f"{arguments.runs - len(faults)} of {arguments.runs} runs right")
    return 1 if faults else 0


async def _run(
    engine: str,
    number: int,
    places: network.Namespaces,
    only: str | None,
    results: dict[tuple[str, str], list[Step]],
) -> str | None:
    """One run of all scenarios in one cluster, of 3, 4 or 5 nodes; returns where it failed."""
    node_count = 3 + number % 3
    name = "start"
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{engine}-{number}-"))
    try:
        async with Cluster.running(
            ENGINES[engine], places, folder, node_count=node_count, seed=number
        ) as cluster:
            for name, scenario in FULL.items():
                if only is not None and only not in name:
                    continue
                start = time.monotonic()
                steps = await play(cluster, scenario)
                _note(results, name, steps)
                took = ", ".join(f"{each.what} {each.seconds:.2f} s" for each in steps)
                print(f"  {name}: {took} ({time.monotonic() - start:.0f} s in all)", flush=True)
            name = "SIGTERM to all"
            _note(results, name, await shut_down(cluster))
    except Exception:
        traceback.print_exc()
        print(f"the nodes' logs are in {folder}", file=sys.stderr)
        return name
    return None


def _note(results: dict[tuple[str, str], list[Step]], name: str, steps: list[Step]) -> None:
    for step in steps:
        results.setdefault((name, step.what), []).append(step)


def _print_table(engine: str, results: dict[tuple[str, str], list[Step]]) -> None:
    print(f"\n| {engine} | until | runs | median, s | worst, s | allowed, s | ghosts till then |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for (name, what), steps in results.items():
        seconds = [step.seconds for step in steps]
        print(
            f"| {name} | {what} | {len(steps)} | {statistics.median(seconds):.2f} "
            f"| {max(seconds):.2f} | {steps[0].bound:.1f} | {max(each.ghosts for each in steps)} |"
        )
    print()


if __name__ == "__main__":
    sys.exit(main())
