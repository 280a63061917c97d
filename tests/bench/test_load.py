"""Every scenario, in a tiny form, loses nothing; what is lost is noticed. Speed is no test's."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from bench.load import fanout
from bench.load.expected import Lost
from bench.load.scenarios import SCENARIOS, Scale, Scenario
from bench.load.shares import Shares
from bench.load.target import Measured, Target
from bench.servers.catalog import BARE, ROOST
from bench.servers.process import Server, free_port, start
from bench.side_by_side import Plan, measure
from bench.side_report import render

TINY = Scale(
    join_count=20,
    fan_count=20,
    ping_count=5,
    storm_count=10,
    room_count=3,
    crowd_size=20,
    topical_count=2,
    lost_count=3,
    idle_count=20,
    most_count=20,
    process_count=2,
    duration=0.1,
)
SILENT = Server("silent", "ends at once", lambda port: [sys.executable, "-c", "print('no')"])


def named(name: str) -> Scenario:
    (scenario,) = (each for each in SCENARIOS if each.name == name)
    return scenario


CASES = [
    pytest.param(server, scenario, id=f"{server.name}: {scenario.name}")
    for server in (ROOST, BARE)
    for scenario in SCENARIOS
    if server.has_presence or not scenario.needs_presence
]


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[str, Target]]:
    """Both servers, by name."""
    with start(ROOST) as roost, start(BARE) as bare:
        yield {ROOST.name: roost, BARE.name: bare}


@pytest.mark.parametrize(("server", "scenario"), CASES)
def test_every_scenario_loses_nothing(
    targets: dict[str, Target], server: Server, scenario: Scenario
):
    """Each client receives all that it should, in order: else the scenario would raise."""
    measured = scenario.run(targets[server.name], TINY)

    assert scenario.main in measured.figures
    assert measured.shares.duration > 0


def test_the_storm_reaches_everybody_with_all_that_there_is():
    """Ten who join get a reply and a list each; nobody is told more than each change by itself."""
    with start(ROOST) as target:
        figures = named("storm").run(target, TINY).figures

    assert 2 * 10 <= figures["messages"] <= 2 * 10 + 10 * 20
    assert 10 <= figures["messages (leave)"] <= 10 * 10


def test_a_server_that_loses_a_message_fails():
    """The next message is not the one that is due."""
    app = "tests.bench.losing_app:app"
    options = ["--log-level", "error", "--ws-per-message-deflate", "false"]
    losing = Server(
        "losing",
        "loses some",
        lambda port: [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options],
    )
    with start(losing) as target, pytest.raises(Lost):
        fanout.closed_loop(target, 20, 4, 1.0)


def test_what_fails_is_in_the_report():
    """A server that does not start has a row that says so, and the reason below."""
    plan = Plan([SILENT, BARE], [named("join")], TINY, round_count=1)

    report = render(plan.contestants, plan.scenarios, measure(plan), is_full_size=False)

    assert "| silent | failed |" in report
    assert "silent failed** in 1 of 1 rounds: `NotStarted: it ended with 0; no`" in report
    assert "| bare, uvicorn | " in report.partition("###")[2]
    assert "bare, uvicorn failed" not in report


@pytest.mark.parametrize(
    ("shares", "is_refused"),
    [
        (Shares(0.95, 0.5, 1.0), True),
        (Shares(0.95, 0.97, 1.0), False),
        (Shares(0.5, 0.5, 1.0), False),
        (Shares(0.95, None, 1.0), True),
    ],
)
def test_a_figure_of_the_generator_is_refused(shares: Shares, is_refused: bool):
    """It had no time left while the server had; or nobody knows whether the server had."""
    scenario = Scenario("x", "X", "x/s", lambda target, scale: Measured({"x/s": 1.0}, shares))
    plan = Plan([BARE], [scenario], TINY, round_count=1)

    outcome = measure(plan)["x"][BARE.name]

    assert bool(outcome.failures) == is_refused
    assert bool(outcome.measured) != is_refused


def test_a_server_that_runs_already_takes_part():
    """Under its URL, as one of the interop app's shape."""
    with start(ROOST) as target:
        plan = Plan([], [named("join-presence")], TINY, round_count=1, url=target.url)
        outcome = measure(plan)["join-presence"][target.url]

    assert outcome.failures == []
    assert outcome.measured[0].figures["joins/s"] > 0


def test_nobody_listens_at_a_free_port():
    """So a server can be started there."""
    assert 1024 < free_port() < 65536
