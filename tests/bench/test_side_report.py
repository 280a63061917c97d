"""The report gives medians, ratios and verdicts, and names what failed."""

from __future__ import annotations

from bench.load.scenarios import SCENARIOS, Scenario
from bench.load.shares import Shares
from bench.load.target import Measured
from bench.servers.catalog import SERVERS
from bench.side_by_side import Plan
from bench.side_report import Outcome, Outcomes, plots, render

FAN = {"p50, ms": 1.0, "p99, ms": 2.0, "p99.9, ms": 3.0}


def rates(*found: float, server: float = 0.5) -> Outcome:
    """Rounds with these deliveries/s."""
    shares = Shares(0.25, server, 1.0)
    return Outcome([Measured({"deliveries/s": rate, **FAN}, shares) for rate in found])


def scenarios(*names: str) -> list[Scenario]:
    return [each for each in SCENARIOS if each.name in names]


def report(outcomes: Outcomes) -> dict[str, list[list[str]]]:
    """The cells of all rows, by heading and without the first cell's row of names."""
    names = {name for by_server in outcomes.values() for name in by_server}
    servers = [each for each in SERVERS if each.name in names]
    text = render(servers, scenarios(*outcomes), outcomes, is_full_size=True)
    return {
        section.partition("\n")[0]: [
            line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")
        ]
        for section in text.split("### ")
    }


def test_figures_are_medians_with_ratios():
    """To the bare server and to ws; the share of the server makes it comparable."""
    outcomes = {
        "roost, uvicorn": rates(100, 300, 200),
        "bare, uvicorn": rates(400),
        "ws, Node": rates(100),
    }

    roost, bare, _ = report({"fan-1": outcomes})["Fan-out of 100 bytes, one outstanding"][-3:]
    assert roost[1] == "200"
    assert roost[5:] == ["100–300", "0.500×", "2.00×", "50%", "25%", "400"]
    assert bare[5:] == ["—", "1.00×", "4.00×", "50%", "25%", "800"]


def test_joins_with_presence_have_the_bare_server_beside_them():
    """It has no presence, so its joins without are what there is to compare with."""

    def joins(rate: float) -> Outcome:
        return Outcome([Measured({"joins/s": rate}, Shares(0.25, 0.5, 1.0))])

    tables = report(
        {
            "join-presence": {"roost, uvicorn": joins(50)},
            "join": {
                "roost, uvicorn": joins(80),
                "bare, uvicorn": joins(100),
                "ws, Node": joins(200),
            },
        }
    )

    roost = tables["Connect and join with presence, own topic each"][1]
    assert roost[3:5] == ["0.500×", "0.250×"]


def test_a_goal_is_met_or_missed():
    """As a ratio to another server, and not met by who failed."""
    failed = Outcome(failures=["Lost: a message"])
    tables = report(
        {
            "fan-1": {
                "roost serve": rates(130),
                "roost, uvicorn": rates(129),
                "ws, Node": rates(100),
            },
            "fan-16": {"roost serve": rates(449), "roost, uvicorn": failed, "ws, Node": rates(100)},
        }
    )

    assert tables["Goals"][-2:] == [
        ["fan-out, one outstanding: 1.3 × ws", "met: 1.30×", "missed: 1.29×"],
        ["fan-out, 16 outstanding: 4.5 × ws", "missed: 4.49×", "missed: failed"],
    ]


def test_a_goal_without_its_measure_is_neither():
    """If ws failed nobody knows."""
    tables = report({"fan-1": {"roost serve": rates(130), "ws, Node": Outcome()}})

    (goal,) = (row for row in tables["Goals"] if row[0].startswith("fan-out"))
    assert goal[1] == "not known: no figure of ws, Node"


def test_a_server_at_a_url_brings_goals_of_its_own():
    """Multiples of what a Phoenix server does in the same run."""
    url = "http://127.0.0.1:4000"
    servers = Plan([SERVERS[0]], url=url).contestants
    outcomes = {"fan-1": {"roost serve": rates(300), url: rates(100)}}

    text = render(servers, scenarios("fan-1"), outcomes, is_full_size=True)

    assert "| fan-out, one outstanding: 2 × Phoenix | met: 3.00× |" in text


def test_plots_show_what_there_is():
    """A line for each server that has two points at least."""
    outcomes = {
        "fan-1": {"roost serve": rates(100), "ws, Node": rates(100)},
        "fan-16": {"roost serve": rates(900), "ws, Node": Outcome()},
    }

    pictures = plots(outcomes)

    assert list(pictures) == ["side-fan-out"]
    assert pictures["side-fan-out"].count("<polyline") == 1
