"""One node beside others: roost on several servers, a bare server, and peers, in one run.

Method. Server and generator have a core each. Every scenario is run against all servers in turn,
each started anew for it and killed after it; then the next round begins with another server. So
whatever else the machine does meets all alike, and figures are medians over rounds. A scenario
fails for a server if anything is lost, doubled, reordered or too late; what failed is in the
report. A throughput is refused when the generator had no time left and the server had.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from bench.load.dialects import Phoenix
from bench.load.memory import GENERATOR_CORE
from bench.load.scenarios import SCENARIOS, Scale, Scenario
from bench.load.shares import use_core
from bench.load.target import Target
from bench.servers.catalog import SERVERS, from_command
from bench.servers.process import Server, start
from bench.side_machine import describe_machine
from bench.side_report import Outcome, plots, render
from roost.cli.limits import raise_file_limit

__all__ = ["Outcome", "Plan", "add_arguments", "measure", "run"]

Named = TypeVar("Named", Server, Scenario)

SMALL: Final = Scale(
    join_count=200,
    fan_count=100,
    ping_count=20,
    storm_count=50,
    room_count=20,
    crowd_size=100,
    topical_count=5,
    lost_count=10,
    idle_count=500,
    most_count=1_000,
    duration=0.5,
)


@dataclass(frozen=True)
class Plan:
    """What is done.

    Args:
        servers: Those that are started.
        scenarios: What is measured on each that can do it.
        scale: How large.
        round_count: How often.
        duration: Seconds after which no round begins that would not fit; None for no limit.
        url: Of a server that runs already, of the interop app's shape.
        pids: Its processes, if they are on this machine.
    """

    servers: Sequence[Server] = SERVERS
    scenarios: Sequence[Scenario] = SCENARIOS
    scale: Scale = Scale()  # noqa: RUF009 # is frozen
    round_count: int = 3
    duration: float | None = None
    url: str | None = None
    pids: Sequence[int] = ()

    @property
    def contestants(self) -> list[Server]:
        """All servers, with the one at ``url``."""
        if self.url is None:
            return list(self.servers)
        return [*self.servers, Server(self.url, "runs already", lambda _: [], has_presence=True)]


def measure(plan: Plan) -> dict[str, dict[str, Outcome]]:
    """Run everything; returns outcomes by name of scenario and of server."""
    raise_file_limit()
    contestants = plan.contestants
    outcomes = {
        scenario.name: {
            server.name: Outcome()
            for server in contestants
            if server.has_presence or not scenario.needs_presence
        }
        for scenario in plan.scenarios
    }
    started_at = monotonic()
    for number in range(plan.round_count):
        passed = monotonic() - started_at
        if plan.duration is not None and number and passed / number * (number + 1) > plan.duration:
            break
        turn = number % len(contestants)
        for scenario in plan.scenarios:
            if scenario.only_once and number:
                continue
            print(f"… round {number + 1}: {scenario.title}", file=sys.stderr)
            for server in contestants[turn:] + contestants[:turn]:
                if server.name in outcomes[scenario.name]:
                    _attempt(plan, scenario, server, outcomes[scenario.name][server.name])
    return outcomes


def _attempt(plan: Plan, scenario: Scenario, server: Server, outcome: Outcome) -> None:
    failure_count = len(outcome.failures)
    try:
        with _target(plan, server) as target:
            gc.collect()
            gc.disable()
            measured = scenario.run(target, plan.scale)
    except Exception as error:  # whatever it is, it belongs into the report
        printed = [note for note in getattr(error, "__notes__", []) if note]
        outcome.failures.append("; ".join([f"{type(error).__name__}: {error}", *printed]))
    else:
        if scenario.is_throughput and measured.shares.is_of_the_generator:
            share = measured.shares.generator
            outcome.failures.append(f"refused: the generator used {share:.0%} of its core")
        else:
            outcome.measured.append(measured)
    finally:
        gc.enable()
    if len(outcome.failures) > failure_count:
        print(f"  {server.name}: {outcome.failures[-1][:1000]}", file=sys.stderr)


@contextmanager
def _target(plan: Plan, server: Server) -> Iterator[Target]:
    if plan.url is not None and server.name == plan.url:
        yield Target(plan.url, Phoenix(), True, plan.pids)
        return
    with start(server) as target:
        yield target


def _choose(everything: Sequence[Named], names: str | None) -> list[Named]:
    if names is None:
        return list(everything)
    wanted = names.split(";")
    known = {each.name: each for each in everything}
    if unknown := [name for name in wanted if name not in known]:
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all (default: 3)")
    parser.add_argument("--minutes", type=float, help="begin no round that would take longer")
    parser.add_argument("--servers", metavar="NAME;NAME", help="only these, in quotes")
    parser.add_argument("--scenarios", metavar="NAME;NAME", help="only these, in quotes")
    parser.add_argument("--small", action="store_true", help="a tenth of everything, to try it")
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        type=from_command,
        metavar="NAME=COMMAND",
        help="one more server of the interop app's shape; {port} in COMMAND is its port",
    )
    parser.add_argument(
        "--url",
        default=os.environ.get("URL") or None,
        help="of a Phoenix server of the interop app's shape that runs already (URL)",
    )
    parser.add_argument(
        "--pid", type=int, action="append", default=[], help="of its processes, if on this machine"
    )
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="where plots are written to")


def run(arguments: argparse.Namespace) -> str:
    """Measure everything and return the report."""
    plan = Plan(
        servers=[*_choose(SERVERS, arguments.servers), *arguments.also],
        scenarios=_choose(SCENARIOS, arguments.scenarios),
        scale=SMALL if arguments.small else Scale(),
        round_count=arguments.rounds,
        duration=None if arguments.minutes is None else arguments.minutes * 60,
        url=arguments.url,
        pids=arguments.pid,
    )
    # By an exception, so that the server that runs just then is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    load_before = os.getloadavg()
    is_pinned = use_core(GENERATOR_CORE)
    outcomes = measure(plan)
    if arguments.svg is not None:
        for name, picture in plots(outcomes).items():
            (arguments.svg / f"{name}.svg").write_text(picture, encoding="utf-8")
    about = describe_machine(is_pinned=is_pinned, load_before=load_before)
    tables = render(plan.contestants, plan.scenarios, outcomes, is_full_size=not arguments.small)
    return f"{about}\n{tables}\n"
