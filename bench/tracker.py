"""Cost of the tracker's operations, its memory and its garbage collections, by size.

Method. For each layout (how presences spread over topics and owners) one process per size fills a
tracker and stays; then all take turns, round by round, so that whatever else the machine does meets
all sizes alike. Only one process works at any time. A round times every operation in batches that
leave the size as it was. Keys are fresh strings, as decoded from a message; the presences that an
operation meets are drawn at random, so that large trackers pay for their cache misses. Garbage
collection is left on. The time of an operation includes the loop around it and
``tracker.events()``, called once per batch and dropped, but not what subscribers are told.

Memory is the growth of the resident set in a process of its own, keys and topics included.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Final

import psutil

from bench.population import LAYOUTS, OPERATIONS, Layout, Population
from bench.table import format_figure, format_ratio, format_size, markdown_table, parse_size

__all__ = ["Effort", "add_arguments", "measure", "measure_state", "new_process", "run"]

GC_EMPTY: Final = "full garbage collection before filling"
GC_FULL: Final = "full garbage collection"
MEMORY: Final = "memory per presence"
LIST: Final = "list: walk over the entries"
STATE_FIRST: Final = "presence_state: first time"
STATE_UNCHANGED: Final = "presence_state: nothing changed"
STATE_CHANGED: Final = "presence_state: one key changed"

STATE_COUNT: Final = 1_000  # members of the topic whose presence_state is encoded


@dataclass(frozen=True)
class Effort:
    """How much is done at each size.

    Args:
        round_count: Rounds over all sizes.
        operation_count: Operations of each kind in a round: 10,000 meet a trim of the log.
        memory_count: Presences over which memory is measured at least, in several trackers if one
            is smaller, as the resident set grows by whole pages and arenas.
    """

    round_count: int = 15
    operation_count: int = 10_000
    memory_count: int = 100_000


Samples = Mapping[int, Mapping[str, Sequence[float]]]
"""Size → what was measured → samples: seconds, or bytes for memory."""


# What runs in the processes of their own.

_populations: list[Population] = []


def _fill(layout: Layout, size: int) -> dict[str, float]:
    empty = min(_time(gc.collect) for _ in range(3))
    _populations.append(Population(layout, size))
    return {GC_EMPTY: empty}


def _round(operation_count: int) -> dict[str, float]:
    (population,) = _populations
    return {**population.time_operations(operation_count), GC_FULL: _time(gc.collect)}


def _memory(layout: Layout, size: int, memory_count: int) -> float:
    tracker_count = -(-memory_count // size)
    process = psutil.Process()
    gc.collect()
    before: int = process.memory_info().rss
    for _ in range(tracker_count):
        _populations.append(Population(layout, size))
    gc.collect()
    after: int = process.memory_info().rss
    return (after - before) / (tracker_count * size)


def _presence_state(round_count: int) -> dict[str, list[float]]:
    from roost.presence.notifying.state_cache import StateCache

    population = Population(LAYOUTS[0], STATE_COUNT)
    tracker = population.tracker
    topic, key, _ = population.place(7)
    samples: dict[str, list[float]] = {
        name: [] for name in (LIST, STATE_FIRST, STATE_UNCHANGED, STATE_CHANGED)
    }
    for _ in range(20 * round_count):
        samples[LIST].append(_time(lambda: list(tracker.list(topic))))
        state = StateCache(topic, tracker)
        samples[STATE_FIRST].append(_time(state.encode))
        samples[STATE_UNCHANGED].append(_time(state.encode))
        state.changed(key)
        samples[STATE_CHANGED].append(_time(state.encode))
    return samples


def _time(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


# What leads them.


def new_process() -> ProcessPoolExecutor:
    """A process of its own for what is measured."""
    return ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn"))


def measure(layout: Layout, sizes: Sequence[int], effort: Effort) -> Samples:
    """Measure one layout at all sizes."""
    samples: dict[int, dict[str, list[float]]] = {size: {} for size in sizes}

    def note(size: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            samples[size].setdefault(name, []).append(figure)

    for size in sizes:
        with new_process() as process:
            memory = process.submit(_memory, layout, size, effort.memory_count).result()
            note(size, {MEMORY: memory})
    with ExitStack() as stack:
        processes = {size: stack.enter_context(new_process()) for size in sizes}
        for size, process in processes.items():
            note(size, process.submit(_fill, layout, size).result())
        for _ in range(effort.round_count):
            for size, process in processes.items():
                note(size, process.submit(_round, effort.operation_count).result())
    return samples


def measure_state(effort: Effort) -> dict[str, list[float]]:
    """Measure the lists of one topic of STATE_COUNT members, in seconds."""
    with new_process() as process:
        return process.submit(_presence_state, effort.round_count).result()


def render(layout: Layout, samples: Samples) -> str:
    """The tables of one layout."""
    sizes = list(samples)
    header = [*map(format_size, sizes), f"{format_size(sizes[-1])} ÷ {format_size(sizes[0])}"]

    def row(name: str, unit: float) -> list[str]:
        best = [min(samples[size][name]) / unit for size in sizes]
        usual = [median(samples[size][name]) / unit for size in sizes]
        cells = [
            f"{format_figure(low)} ({format_figure(middle)})"
            for low, middle in zip(best, usual, strict=True)
        ]
        return [name, *cells, format_ratio(best)]

    memory = [samples[size][MEMORY][0] for size in sizes]
    return "\n\n".join(
        [
            f"### {layout.title}",
            markdown_table(
                ["µs per operation, best (median)", *header],
                [row(name, 1e-6) for name in OPERATIONS],
            ),
            markdown_table(
                ["", *header],
                [
                    [f"{MEMORY}, bytes", *map(format_figure, memory), format_ratio(memory)],
                    *(
                        [f"{cells[0]}, ms", *cells[1:]]
                        for cells in (row(GC_EMPTY, 1e-3), row(GC_FULL, 1e-3))
                    ),
                ],
            ),
        ]
    )


def render_state(samples: Mapping[str, Sequence[float]]) -> str:
    """The table of ``measure_state``."""
    rows = [
        [name, format_figure(min(each) * 1e6), format_figure(median(each) * 1e6)]
        for name, each in samples.items()
    ]
    title = f"### Lists of one topic of {STATE_COUNT:,} presences"
    return f"{title}\n\n{markdown_table(['µs per list', 'best', 'median'], rows)}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sizes",
        type=lambda text: [parse_size(size) for size in text.split(",")],
        default=[1_000, 10_000, 100_000, 1_000_000],
        metavar="1k,10k,…",
        help="how many presences the tracker holds, smallest first (default: 1k,10k,100k,1M)",
    )
    parser.add_argument(
        "--rounds", type=int, default=Effort().round_count, help="rounds over all sizes"
    )


def run(arguments: argparse.Namespace, effort: Effort | None = None) -> str:
    """Measure all layouts at ``arguments.sizes`` and return the tables."""
    effort = effort or Effort(round_count=arguments.rounds)
    parts = []
    for layout in LAYOUTS:
        print(f"… {layout.title}", file=sys.stderr)
        parts.append(render(layout, measure(layout, arguments.sizes, effort)))
    parts.append(render_state(measure_state(effort)))
    return "\n\n".join(parts) + "\n"
