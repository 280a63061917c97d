"""The benchmark of replication yields all its figures, and its picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import replication
from bench.replication import KINDS, Copy, Effort, count_traffic

TINY = Effort(round_count=1, snapshot_count=2_500, seconds=1.5)


def test_the_replication_benchmark_fills_every_row(tmp_path: Path) -> None:
    """Each part has its table, and the picture is one."""
    picture = tmp_path / "traffic.svg"
    arguments = argparse.Namespace(sizes=[1_000, 2_000], nodes=[2, 3], only=None, svg=picture)

    report = replication.run(arguments, TINY)

    rows = [
        line.strip("| ").split(" | ")
        for line in report.splitlines()
        if line.startswith("| ") and "÷" not in line
    ]
    assert all(all(cells) for cells in rows)
    names = [name for name, *_ in rows]
    assert [name for name in names if name.startswith("decode and receive: ")] == [
        f"decode and receive: {kind}" for kind in KINDS
    ]
    assert names[-3:] == ["nodes", "2", "3"]
    assert "The slice has 5 messages" in report
    lines = ElementTree.parse(picture).findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == len(replication.RATES)


def test_timing_leaves_a_copy_as_it_was() -> None:
    """The changes of a round undo each other, so that the figures stay those of one size."""
    copy = Copy(1_500)

    copy.time_changes()
    copy.time_bare()
    copy.time_changes()

    assert copy.tracker.count_entries("room:1") == 1_500


@pytest.mark.parametrize("node_count", [2, 4])
def test_idle_nodes_send_their_heartbeats_and_nothing_else(node_count: int) -> None:
    """One to each other node, every 1.5 s."""
    _, figures = count_traffic(node_count, [0], 15.0)

    assert figures[0].messages == pytest.approx((node_count - 1) / 1.5)
