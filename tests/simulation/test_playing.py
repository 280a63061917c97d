"""Histories are runs that repeat, and what is printed of one that fails is that run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from roost.testing import BrokenPromise
from tests.simulation.__main__ import main
from tests.simulation.histories import draw
from tests.simulation.planted import data_creates_origins, who_comes_back_is_shown_at_once
from tests.simulation.playing import failure, play, scenario, shrink
from tests.simulation.scene import Faults

ROOT = Path(__file__).parents[2]

PRINT_A_RUN = """
from tests.simulation.histories import draw
from tests.simulation.playing import play

for seed in range(20):
    sim = play(draw(seed)).sim
    print(seed, sim.sent_size, sorted(sim.sent.items()), sim.rng.random())
"""


def run_python(*arguments: str, **environment: str) -> str:
    """What a new process of Python prints."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    return finished.stdout


def broken(bug: Any) -> int:
    """The first seed that a bug breaks."""
    with bug():
        return next(seed for seed in range(1_000) if failure(draw(seed)) is not None)


def test_a_seed_is_the_same_run_in_every_process():
    """Nothing depends on the order of a set, or on what was played before."""
    one, two = (run_python("-c", PRINT_A_RUN, PYTHONHASHSEED=each) for each in ("1", "2"))

    assert one == two
    assert len(one.splitlines()) == 20


@pytest.mark.parametrize("seed", range(20))
def test_a_printed_history_is_the_same_run(seed: int):
    """The lines of a history, run as they are printed, send the same messages."""
    history = draw(seed)
    played = play(history)
    names: dict[str, Any] = {}

    exec(scenario(history), names)

    assert played.failure is None
    assert played.sim is not None
    assert names["sim"].sent == played.sim.sent
    assert names["sim"].sent_size == played.sim.sent_size
    assert names["sim"].now == played.sim.now


@pytest.mark.parametrize("bug", [data_creates_origins, who_comes_back_is_shown_at_once])
def test_a_printed_failure_fails_in_the_same_way(bug: Any, capsys: pytest.CaptureFixture[str]):
    """``python -m tests.simulation 1 SEED`` prints a few lines that break the same promise."""
    seed = broken(bug)
    with bug():
        assert main(["1", str(seed)]) == 1
        report = capsys.readouterr().out
        complaint, printed = report.split("\n", 1)
        printed, summary = printed.rstrip().rsplit("\n\n", 1)

        with pytest.raises(BrokenPromise) as caught:
            exec(printed, {})

    assert complaint == f"seed {seed}: BrokenPromise: {caught.value}"
    assert summary.startswith(f"1 seeds from {seed}: 1 failed")
    assert len(printed.splitlines()) < len(draw(seed).actions)
    exec(printed, {})  # and all is well without the bug


def test_nothing_can_be_left_out_of_the_shortest_history():
    """Each line that is left has a part in the failure."""
    bug = who_comes_back_is_shown_at_once
    history = draw(broken(bug))

    with bug():
        shortest = shrink(history)

        assert failure(shortest) is not None
        assert len(play(shortest).calls) >= len(shortest.actions)
    assert len(shortest.actions) < len(history.actions) / 2


def test_shrinking_ends_in_time():
    """What cannot be shrunk in time is shown as it is, and fails all the same."""
    bug = who_comes_back_is_shown_at_once
    history = draw(broken(bug))

    with bug():
        assert shrink(history, max_seconds=0.0) == history


def test_a_scenario_does_not_change_its_history():
    """A history is drawn once and played often: what its scene does to the faults stays there."""
    history = draw(3)
    before = Faults(**{name: getattr(history.faults, name) for name in Faults.__struct_fields__})

    assert scenario(history) == scenario(history)
    assert history.faults == before


def test_seeds_run_on_several_cores():
    """However many processes play, there is one summary."""
    printed = run_python("-m", "tests.simulation", "45", "3", "--jobs", "2")

    assert printed.startswith("45 seeds from 3: 0 failed, ")
    assert len(printed.splitlines()) == 1
