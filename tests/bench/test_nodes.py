"""The benchmark of nodes fills its tables; how fast is not a test's business."""

from __future__ import annotations

import argparse
import re

import pytest

from bench import nodes
from bench.engines import ENGINES
from bench.nodes import Effort

TINY = Effort(
    track_count=3,
    burst_count=2,
    burst_size=200,
    kill_count=1,
    stop_count=0,  # each takes up to 9 s
    latency_count=10,
    flood_count=1_000,
    idle_period=0.2,
    node_counts=(2,),
)
FIGURE = re.compile(r"[\d,.]+( \([\d,.]+(–[\d,.]+)?\))?|—")


@pytest.mark.parametrize("engine", ENGINES)
def test_the_benchmark_of_nodes_fills_every_row(engine: str):
    """Presences, broadcasts, the dead and the idle are measured through each engine."""
    report = nodes.run(argparse.Namespace(engines=[engine]), TINY)

    rows = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    figures = {name: cells for name, *cells in rows if cells != [engine]}
    assert len(figures) == 9
    assert all(FIGURE.fullmatch(cell) for cells in figures.values() for cell in cells), figures
    assert figures["of them dropped"] == ["0"]
