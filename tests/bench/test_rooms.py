"""The benchmark of rooms sends what its policies say; the figures themselves are no test's."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace

import pytest

from bench import rooms
from bench.__main__ import main
from bench.rooms import CASES, Case, Phase, Scale, measure
from roost import Policy

TINY = Scale(member_count=20, flapping_count=5, flap_duration=20.0)
LEAVES = RETURNS = 10  # five members, twice
STAYING = 15
FIGURE = re.compile(r"\d[\d,.]*×?")


def flapping(policy: Policy, *, gets_list: bool = True) -> Phase:
    return measure(Case("", policy, gets_list), TINY).flapping


def test_the_benchmark_of_rooms_fills_every_row(capsys):
    """Both tables have all policies, each measured in a process of its own, and no empty cell."""
    main(["rooms", "--members", "20", "--flapping", "5", "--seconds", "10"])

    report = capsys.readouterr().out
    for heading, width in (("20 join within 10 s", 7), ("5 of 20 flap for 10 s", 8)):
        (section,) = (each for each in report.split("### ") if each.startswith(heading))
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if "| `" in line]
        assert [title for title, *_ in rows] == [case.title for case in CASES]
        for title, *cells in rows:
            assert len(cells) == width, title
            assert all(FIGURE.fullmatch(cell) for cell in cells), (title, cells)


def test_without_a_period_everybody_is_told_each_change_by_itself():
    """No two changes fall into one tick, so this is a message for each change and member."""
    figures = measure(Case("", Policy(diff_period=0)), TINY)

    assert figures.flapping.staying.message_count == STAYING * (LEAVES + RETURNS)
    # Whoever enters is told of those who come later; of its own join the list tells it.
    assert figures.joining.told.message_count == sum(range(20))


def test_a_longer_period_joins_changes():
    """Diffs are five seconds apart, and larger."""
    single, joined = flapping(Policy(diff_period=0)), flapping(Policy(diff_period=5.0))

    assert joined.staying.message_count == STAYING * 20 / 5
    assert joined.largest_size > single.largest_size


def test_who_returns_within_its_grace_is_sent_a_list_and_nobody_else_anything():
    """Everybody returns in time: two messages to each, the reply and the list."""
    phase = flapping(Policy(leave_grace=5.0))

    assert phase.staying.message_count == phase.told.message_count == phase.largest_size == 0
    assert phase.entered.message_count == 2 * RETURNS


def test_counts_take_the_place_of_lists():
    """Who returns gets a reply, the count and an empty list; all others the counts."""
    phase = flapping(Policy(counts_above=0))
    lists = flapping(Policy())

    assert phase.entered.message_count == 3 * RETURNS
    assert phase.entered.size < lists.entered.size
    assert 0 < phase.staying.message_count <= STAYING * 20


def test_a_silent_room_sends_replies_and_lists_only():
    """Without announcements there are lists left, and without lists replies."""
    silent = flapping(Policy(announce=False))
    bare = flapping(Policy(announce=False), gets_list=False)

    assert silent.total == silent.entered
    assert silent.total.message_count == 2 * RETURNS
    assert bare.total.message_count == RETURNS


def test_two_runs_send_the_same():
    """Nothing but the processor's time differs from run to run."""
    runs = [measure(CASES[1], TINY) for _ in range(2)]

    first, second = ((replace(run.joining, cpu_seconds=0), run.flapping.total) for run in runs)
    assert first == second


def test_who_flaps_is_spread_over_all_and_the_others_stay():
    """Each member is one or the other."""
    assert TINY.flapping == [0, 4, 8, 12, 16]
    assert sorted([*TINY.flapping, *TINY.staying]) == list(range(20))


@pytest.mark.parametrize(
    ("members", "flaps", "seconds"), [(10, 10, 60), (10, 0, 60), (10, 1, 15), (10, 1, 0)]
)
def test_what_could_not_be_measured_is_refused(members: int, flaps: int, seconds: float):
    """Somebody must flap, somebody stay, and the turns must come out even."""
    with pytest.raises(ValueError, match="must"):
        rooms.run(argparse.Namespace(members=members, flapping=flaps, seconds=seconds))
