"""The report of the side-by-side benchmark: tables, ratios, goals, plots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.load.scenarios import Scenario
from bench.load.target import Measured
from bench.plot import plot_lines
from bench.servers.catalog import BARE, ROOST
from bench.servers.process import Server
from bench.table import format_figure, markdown_table

__all__ = ["Outcome", "plots", "render"]

WS: Final = "ws, Node"
BASES: Final = (BARE.name, WS)  # whose figures the others' are divided by


@dataclass
class Outcome:
    """What came of one scenario on one server, over all rounds.

    Attributes:
        measured: Of the rounds in which it went well.
        failures: Of the others.
    """

    measured: list[Measured] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def figure(self, name: str) -> float | None:
        """The median, None if there is none."""
        found = [each.figures[name] for each in self.measured]
        return median(found) if found else None

    def by_a_whole_core(self, name: str) -> float | None:
        """The median of the figure for each second of the server's processor time."""
        found = [
            each.figures[name] / each.shares.server for each in self.measured if each.shares.server
        ]
        return median(found) if found else None


Outcomes = Mapping[str, Mapping[str, Outcome]]
"""Name of a scenario → name of a server → what came of it."""


def render(
    servers: Sequence[Server],
    scenarios: Sequence[Scenario],
    outcomes: Outcomes,
    *,
    is_full_size: bool,
) -> str:
    """All tables; goals are judged at full size only."""
    tries = (
        len(each.measured) + len(each.failures)
        for by_server in outcomes.values()
        for each in by_server.values()
    )
    once = ", ".join(each.name for each in scenarios if each.only_once)
    about = markdown_table(["server", "is"], [[each.name, each.about] for each in servers])
    parts = [f"- **Rounds:** {max(tries)}" + (f"; {once} only in the first." if once else ".")]
    parts.append(about.replace("|---|--:|", "|---|---|"))
    for each in scenarios:
        bases = {**outcomes.get(each.beside or "", {}), **outcomes[each.name]}
        parts.append(_section(each, servers, outcomes[each.name], bases))
    if is_full_size:
        parts.append(_goals(servers, outcomes))
    return "\n\n".join(parts)


def _section(
    scenario: Scenario,
    servers: Sequence[Server],
    outcomes: Mapping[str, Outcome],
    bases: Mapping[str, Outcome],
) -> str:
    columns: list[str] = []
    for found in outcomes.values():
        columns = columns or [name for each in found.measured[:1] for name in each.figures]
    is_rate = scenario.is_throughput and scenario.more_is_better
    header = ["", *columns, "range", *(f"÷ {name}" for name in BASES)]
    header += ["server CPU", "generator CPU", *(["by a whole core"] if is_rate else [])]
    rows, notes = [], []
    for server in servers:
        if (outcome := outcomes.get(server.name)) is None:
            rows.append([server.name, *["—"] * (len(header) - 1)])
            continue
        if not outcome.measured:
            rows.append([server.name, "failed", *["—"] * (len(header) - 2)])
        else:
            figures = [_cell(outcome.figure(name)) for name in columns]
            ratios = [_ratio(scenario.main, outcome, bases.get(name)) for name in BASES]
            spread = _spread(scenario.main, outcome)
            whole = [_cell(outcome.by_a_whole_core(scenario.main))] if is_rate else []
            rows.append([server.name, *figures, spread, *ratios, *_shares(outcome), *whole])
        if outcome.failures:
            count = len(outcome.failures)
            rounds = f"{count} of {count + len(outcome.measured)} rounds"
            reason = " ".join(outcome.failures[0].split()).replace("`", "'")[:300]
            notes.append(f"- **{server.name} failed** in {rounds}: `{reason}`")
    parts = [f"### {scenario.title}", markdown_table(header, rows)]
    return "\n\n".join(parts + (["\n".join(notes)] if notes else []))


def _cell(figure: float | None) -> str:
    return "—" if figure is None else format_figure(figure)


def _spread(name: str, outcome: Outcome) -> str:
    found = [each.figures[name] for each in outcome.measured]
    return f"{format_figure(min(found))}–{format_figure(max(found))}" if len(found) > 1 else "—"


def _ratio(name: str, outcome: Outcome, base: Outcome | None) -> str:
    ours, theirs = outcome.figure(name), base and base.figure(name)
    return f"{format_figure(ours / theirs)}×" if ours and theirs else "—"


def _shares(outcome: Outcome) -> list[str]:
    servers = [each.shares.server for each in outcome.measured if each.shares.server is not None]
    return [
        f"{median(servers):.0%}" if servers else "—",
        f"{median(each.shares.generator for each in outcome.measured):.0%}",
    ]


# Goals.


@dataclass(frozen=True)
class Goal:
    """What roost is to reach.

    Args:
        text: In the table.
        scenario, figure: Where it is seen.
        bound: At least this, or at most if ``is_most``.
        base: The server whose figure it is a multiple of; None for the figure as it is.
    """

    text: str
    scenario: str
    figure: str
    bound: float
    base: str | None = None
    is_most: bool = False


GOALS: Final = (
    Goal("fan-out, one outstanding: 1.3 × ws", "fan-1", "deliveries/s", 1.3, WS),
    Goal("fan-out, 16 outstanding: 4.5 × ws", "fan-16", "deliveries/s", 4.5, WS),
    Goal("storm: 1.5 s", "storm", "join: s", 1.5, is_most=True),
    Goal("storm: 60,000 messages", "storm", "messages", 60_000, is_most=True),
    Goal("mass leave: 0.7 s", "storm", "leave: s", 0.7, is_most=True),
    Goal("memory: 25 kB", "memory", "kB each", 25, is_most=True),
    Goal("memory, many: 25 kB", "memory-most", "kB each", 25, is_most=True),
    Goal("memory, growth: at most 1.1", "memory", "growth", 1.1, is_most=True),
    Goal("memory, many, growth: at most 1.1", "memory-most", "growth", 1.1, is_most=True),
)


def _phoenix_goals(url: str) -> list[Goal]:
    """Those that are multiples of a Phoenix server's figures."""
    return [
        Goal("join with presence: 3 × Phoenix", "join-presence", "joins/s", 3, url),
        Goal("fan-out, one outstanding: 2 × Phoenix", "fan-1", "deliveries/s", 2, url),
        Goal("fan-out, 16 outstanding: 8 × Phoenix", "fan-16", "deliveries/s", 8, url),
        Goal("ping: 2 × Phoenix", "ping", "round trips/s", 2, url),
    ]


def _goals(servers: Sequence[Server], outcomes: Outcomes) -> str:
    roosts = [each.name for each in servers if each.name.startswith("roost")]
    goals = [goal for goal in GOALS if goal.scenario in outcomes]
    for server in servers:
        if server.name.startswith("http"):
            goals += [g for g in _phoenix_goals(server.name) if g.scenario in outcomes]
    rows = [[goal.text, *(_verdict(goal, name, outcomes) for name in roosts)] for goal in goals]
    return "\n\n".join(["### Goals", markdown_table(["goal", *roosts], rows)])


def _verdict(goal: Goal, name: str, outcomes: Outcomes) -> str:
    by_server = outcomes[goal.scenario]
    found = by_server[name].figure(goal.figure) if name in by_server else None
    if found is None:
        return "missed: failed"
    unit = ""
    if goal.base is not None:
        base = by_server[goal.base].figure(goal.figure) if goal.base in by_server else None
        if base is None:
            return f"not known: no figure of {goal.base}"
        found, unit = found / base, "×"
    is_met = found <= goal.bound if goal.is_most else found >= goal.bound
    return f"{'met' if is_met else 'missed'}: {format_figure(found)}{unit}"


# Plots.

SHOWN: Final = ("roost serve", ROOST.name, BARE.name, WS, "python-socketio")


def plots(outcomes: Outcomes) -> dict[str, str]:
    """SVG pictures by name; each only if there is something to draw."""
    found = {
        "side-fan-out": _plot(
            "Deliveries/s to 1,000 sockets, by messages outstanding",
            lambda name: _points(
                (1, outcomes, "fan-1", name, "deliveries/s"),
                (16, outcomes, "fan-16", name, "deliveries/s"),
            ),
        ),
        "side-latency": _plot(
            "Latency in ms that one delivery in 2, 100, 1,000 exceeds, at half load",
            lambda name: _points(
                (2, outcomes, "fan-open", name, "p50, ms"),
                (100, outcomes, "fan-open", name, "p99, ms"),
                (1_000, outcomes, "fan-open", name, "p99.9, ms"),
            ),
        ),
    }
    return {name: picture for name, picture in found.items() if picture is not None}


def _points(
    *places: tuple[float, Outcomes, str, str, str],
) -> list[tuple[float, float]]:
    points = []
    for x, outcomes, scenario, server, name in places:
        outcome = outcomes.get(scenario, {}).get(server)
        if outcome is not None and (y := outcome.figure(name)):
            points.append((x, y))
    return points


def _plot(title: str, points_of: Callable[[str], list[tuple[float, float]]]) -> str | None:
    """At most four lines, which is how many colours there are."""
    lines = [(name, points_of(name)) for name in SHOWN]
    drawn = dict([(name, points) for name, points in lines if len(points) > 1][:4])
    return plot_lines(title, drawn) if drawn else None
