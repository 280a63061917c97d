"""The benchmarks run and yield all their figures; how fast is not a test's business."""

from __future__ import annotations

import argparse
import re

from bench import tracker
from bench.__main__ import BENCHMARKS, main
from bench.population import LAYOUTS, OPERATIONS, Population
from bench.tracker import Effort

TINY = Effort(round_count=1, operation_count=80, memory_count=100)
FIGURE = re.compile(r"\d[\d,.]*( \(\d[\d,.]*\))?|\d+\.\d×")


def test_the_tracker_benchmark_fills_every_row():
    """Each layout has all operations once, as costs, and no cell is empty."""
    report = tracker.run(argparse.Namespace(sizes=[30, 60]), TINY)

    for layout in LAYOUTS:
        (section,) = (each for each in report.split("### ") if each.startswith(layout.title))
        lines = [line for line in section.splitlines() if line.startswith("| ") and "÷" not in line]
        rows = [line.strip("| ").split(" | ") for line in lines]
        names = [name for name, *_ in rows]
        assert [name for name in names if name in OPERATIONS] == [*OPERATIONS]
        assert [name for name in names if "memory" in name or "garbage" in name] == [
            "memory per presence, bytes",
            "full garbage collection before filling, ms",
            "full garbage collection, ms",
        ]
        for name, *cells in rows:
            assert len(cells) == 3, name
            assert all(FIGURE.fullmatch(cell) for cell in cells), (name, cells)
    assert report.count("presence_state: ") == 3


def test_timing_leaves_a_tracker_as_it_was():
    """A round tracks as much as it untracks, so that the figures stay those of one size."""
    for layout in LAYOUTS:
        population = Population(layout, 300)
        topics = {population.place(number)[0] for number in range(300)}

        population.time_operations(160)

        assert sum(map(population.tracker.count_entries, topics)) == 300


def test_a_tenth_of_the_keys_have_two_presences():
    """Of eleven presences in a row, two share a key and a topic, but never an owner."""
    for layout in LAYOUTS:
        population = Population(layout, 1_100)
        topics = {population.place(number)[0] for number in range(1_100)}

        assert sum(map(population.tracker.count_keys, topics)) == 1_000
        assert sum(map(population.tracker.count_entries, topics)) == 1_100


def test_without_a_name_the_benchmarks_are_listed(capsys):
    """``make bench`` without ARGS says what there is."""
    main([])

    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)
