"""A big room whose members come and go: what clients are sent and the server computes, by policy.

Method. Members join one room through real connections and channels, on one node and a virtual
clock, so that a minute takes no longer than what there is to do in it. Their transports count the
frames of version 2 that are written, without what WebSocket adds to each. All join within 10 s.
Then some of them *flap* for a minute: every 10 s each loses its connection and is back with a new
one after 2 s. When in the 10 s is drawn at random for each, the same in every run; so no two
changes are in one tick. The minute begins when as many are away as will be at its end.

Traffic is exact: two runs count the same. CPU time is that of the process, in which nothing else
happens but the counting, less than 0.1 µs for each message. It does not contain what a
server does after ``Transport.write``, which makes a WebSocket frame and gives it to the system.

Each policy has a process of its own; only one works at any time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Final

from bench.crowd import Crowd, Traffic
from bench.table import format_figure, format_size, markdown_table, parse_size
from bench.virtual_clock import VirtualClockLoop
from roost import Policy

__all__ = ["CASES", "Case", "Figures", "Phase", "Scale", "add_arguments", "measure", "run"]

JOIN_PERIOD: Final = 10.0  # seconds within which all join
FLAP_PERIOD: Final = 10.0  # seconds from one leave of a member to its next
AWAY_PERIOD: Final = 2.0  # seconds that it is away
QUIET_PERIOD: Final = 10.0  # seconds in which everybody is told everything; more than any period


@dataclass(frozen=True)
class Case:
    """A row of the tables.

    Args:
        title: As an application would write it.
        policy: What the room is told.
        gets_list: Members enter; else they are tracked, and are not pushed the list.
    """

    title: str
    policy: Policy
    gets_list: bool = True


CASES: Final = (
    Case("`diff_period=0`: each change by itself, as Phoenix", Policy(diff_period=0)),
    Case("`Policy()`: `diff_period=0.05`", Policy()),
    Case("`diff_period=1`", Policy(diff_period=1.0)),
    Case("`diff_period=5`", Policy(diff_period=5.0)),
    Case("`leave_grace=5`", Policy(leave_grace=5.0)),
    Case("`leave_grace=5, diff_period=1`", Policy(leave_grace=5.0, diff_period=1.0)),
    Case("`counts_above=1000`", Policy(counts_above=1_000)),
    Case("`counts_above=0, keep_metas=False`", Policy(counts_above=0, keep_metas=False)),
    Case("`announce=False`", Policy(announce=False)),
    Case("`announce=False`, `track` for `enter`", Policy(announce=False), gets_list=False),
)


@dataclass(frozen=True)
class Scale:
    """How many do what, and for how long.

    Args:
        member_count: Who joins.
        flapping_count: Who flaps: at most as many.
        flap_duration: Seconds, a multiple of FLAP_PERIOD.
    """

    member_count: int = 10_000
    flapping_count: int = 1_000
    flap_duration: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.flapping_count < self.member_count:
            raise ValueError("some must flap, and some must stay")
        if self.flap_duration % FLAP_PERIOD or not self.flap_duration:
            raise ValueError(f"the duration must be a multiple of {FLAP_PERIOD} seconds")

    @property
    def flapping(self) -> Sequence[int]:
        """The numbers of those who flap: spread over all."""
        return [
            number * self.member_count // self.flapping_count
            for number in range(self.flapping_count)
        ]

    @property
    def staying(self) -> Sequence[int]:
        """The numbers of those who stay."""
        flapping = set(self.flapping)
        return [number for number in range(self.member_count) if number not in flapping]

    @property
    def return_count(self) -> int:
        """How often somebody leaves and returns."""
        return round(self.flap_duration / FLAP_PERIOD) * self.flapping_count


@dataclass(frozen=True)
class Phase:
    """What happened in one phase.

    Args:
        staying: What those got who stay, all together.
        flapping: What the others got.
        entered: The part of both that answered a join: replies, lists, and what takes their place.
        largest_size: Of a broadcast, in bytes; 0 if there was none.
        cpu_seconds: Of the process.
    """

    staying: Traffic
    flapping: Traffic
    entered: Traffic
    largest_size: int
    cpu_seconds: float

    @property
    def total(self) -> Traffic:
        return self.staying + self.flapping

    @property
    def told(self) -> Traffic:
        """What was broadcast: diffs, or counts."""
        return self.total - self.entered


@dataclass(frozen=True)
class Figures:
    """The two phases of one case."""

    joining: Phase
    flapping: Phase


# What runs in the processes of their own.


def measure(case: Case, scale: Scale) -> Figures:
    """Let a crowd join and flap."""
    with asyncio.Runner(loop_factory=partial(VirtualClockLoop, hears_threads=False)) as runner:
        return runner.run(_measure(case, scale))


async def _measure(case: Case, scale: Scale) -> Figures:
    async with Crowd.running(case.policy, scale.member_count, gets_list=case.gets_list) as crowd:
        _schedule_joins(crowd, scale)
        joining = await _phase(crowd, scale, JOIN_PERIOD + QUIET_PERIOD)
        warm_up = _schedule_flapping(crowd, scale)
        await asyncio.sleep(warm_up)
        present_count = crowd.present_count
        flapping = await _phase(crowd, scale, scale.flap_duration)
        if crowd.present_count != present_count:
            raise AssertionError(f"{present_count} were there, and now {crowd.present_count}")
        return Figures(joining, flapping)


async def _phase(crowd: Crowd, scale: Scale, duration: float) -> Phase:
    """What happens within so many seconds."""
    gc.collect()
    crowd.serializer.largest_size = 0
    staying, flapping = crowd.received(scale.staying), crowd.received(scale.flapping)
    entered = crowd.serializer.pushed
    started_at = process_time()
    await asyncio.sleep(duration)
    cpu_seconds = process_time() - started_at
    return Phase(
        crowd.received(scale.staying) - staying,
        crowd.received(scale.flapping) - flapping,
        crowd.serializer.pushed - entered,
        crowd.serializer.largest_size,
        cpu_seconds,
    )


def _schedule_joins(crowd: Crowd, scale: Scale) -> None:
    loop = asyncio.get_running_loop()
    for number in range(scale.member_count):
        delay = JOIN_PERIOD * number / scale.member_count
        loop.call_at(loop.time() + delay, crowd.join, number)


def _schedule_flapping(crowd: Crowd, scale: Scale) -> float:
    """Schedule all leaves and returns; return the seconds until as many return as leave."""
    loop, rng = asyncio.get_running_loop(), random.Random(scale.flapping_count)
    start = loop.time() + AWAY_PERIOD
    for number in scale.flapping:
        leave_at = (rng.random() - 1) * FLAP_PERIOD
        while leave_at < scale.flap_duration:
            if leave_at > -AWAY_PERIOD:
                loop.call_at(start + leave_at, crowd.leave, number)
                if leave_at + AWAY_PERIOD < scale.flap_duration:
                    loop.call_at(start + leave_at + AWAY_PERIOD, crowd.join, number)
            leave_at += FLAP_PERIOD
    return AWAY_PERIOD


# What leads them.


def _measure_apart(case: Case, scale: Scale) -> Figures:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(measure, case, scale).result()


def render(figures: Sequence[tuple[Case, Figures]], scale: Scale) -> str:
    """The tables: joining, and flapping."""
    members, flapping = format_size(scale.member_count), format_size(scale.flapping_count)
    return "\n\n".join(
        [
            f"### {members} join within {JOIN_PERIOD:g} s",
            _joining_table(figures),
            f"### {flapping} of {members} flap for {scale.flap_duration:g} s",
            _flapping_table(figures, scale),
        ]
    )


def _joining_table(figures: Sequence[tuple[Case, Figures]]) -> str:
    phases = [(case.title, each.joining) for case, each in figures]
    first = phases[0][1]
    return markdown_table(
        [
            "",
            "messages",
            "MB",
            "of them diffs or counts: messages",
            "MB",
            "largest, kB",
            "CPU, s",
            "÷ first",
        ],
        [
            [
                title,
                f"{phase.total.message_count:,}",
                format_figure(phase.total.size / 1e6),
                f"{phase.told.message_count:,}",
                format_figure(phase.told.size / 1e6),
                format_figure(phase.largest_size / 1e3),
                *_cpu_cells(phase, first),
            ]
            for title, phase in phases
        ],
    )


def _flapping_table(figures: Sequence[tuple[Case, Figures]], scale: Scale) -> str:
    phases = [(case.title, each.flapping) for case, each in figures]
    first = phases[0][1]
    staying_seconds = len(scale.staying) * scale.flap_duration
    return markdown_table(
        [
            "",
            "messages",
            "MB",
            "to one who stays: messages/s",
            "kB/s",
            "largest, kB",
            "to one who returns: kB at once",
            "CPU, s",
            "÷ first",
        ],
        [
            [
                title,
                f"{phase.total.message_count:,}",
                format_figure(phase.total.size / 1e6),
                format_figure(phase.staying.message_count / staying_seconds),
                format_figure(phase.staying.size / staying_seconds / 1e3),
                format_figure(phase.largest_size / 1e3),
                format_figure(phase.entered.size / scale.return_count / 1e3),
                *_cpu_cells(phase, first),
            ]
            for title, phase in phases
        ],
    )


def _cpu_cells(phase: Phase, first: Phase) -> list[str]:
    ratio = phase.cpu_seconds / first.cpu_seconds
    return [format_figure(phase.cpu_seconds), f"{format_figure(ratio)}×"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    scale = Scale()
    parser.add_argument(
        "--members",
        type=parse_size,
        default=scale.member_count,
        help="how many join (default: 10k)",
    )
    parser.add_argument(
        "--flapping",
        type=parse_size,
        default=scale.flapping_count,
        help="how many of them flap (default: 1k)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=scale.flap_duration,
        help="for how long, a multiple of 10 (default: 60)",
    )


def run(
    arguments: argparse.Namespace,
    measure_case: Callable[[Case, Scale], Figures] = _measure_apart,
) -> str:
    """Measure all cases and return the tables."""
    scale = Scale(arguments.members, arguments.flapping, arguments.seconds)
    figures = []
    for case in CASES:
        print(f"… {case.title}", file=sys.stderr)
        figures.append((case, measure_case(case, scale)))
    return render(figures, scale) + "\n"
