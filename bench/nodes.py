"""What is between nodes: how soon they see each other's presences and broadcasts, at what cost.

Method. Each node is a process with a PubSub and a tracker, with the default periods. All clocks
are the machine's monotonic one, so that what one process notes can be compared with what another
does. A presence is visible when the tracker of the other node tells its ``handle_diff``. Engines
are those of the system, with default options, on the same machine.

All of it runs in a network namespace of its own where that can be had: what passes over its
loopback is counted there, with the headers of TCP and IP, and belongs to nobody else.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from bench.engines import (
    ENGINES,
    NodeProcess,
    engine_running,
    enter_namespace,
    is_in_namespace,
    say,
)
from bench.table import format_figure, markdown_table
from roost import PubSub
from roost.presence.tracker import Tracker, TrackerDiff

__all__ = ["Effort", "add_arguments", "run"]

ROOM: Final = "room:1"
MESSAGE_SIZE: Final = 200  # bytes
WINDOW: Final = 2_000  # broadcasts that are sent and not yet acknowledged
ACKNOWLEDGED: Final = 100  # broadcasts by one acknowledgement
LATENCY_INTERVAL: Final = 0.005  # seconds between broadcasts whose latency is measured
PATIENCE: Final = 60.0  # seconds for anything at all
_AT: Final = struct.Struct("d")


@dataclass(frozen=True)
class Effort:
    """How much is done with each engine.

    Args:
        track_count: Single tracks whose way is timed.
        burst_count: How often ``burst_size`` presences are tracked at once.
        burst_size: That many.
        kill_count: Nodes that are killed.
        stop_count: Nodes that are stopped.
        latency_count: Broadcasts whose way is timed.
        flood_count: Broadcasts sent as fast as they are received.
        idle_period: Seconds over which idle traffic is counted.
        node_counts: Sizes of clusters whose memory and idle traffic are measured.
    """

    track_count: int = 200
    burst_count: int = 7
    burst_size: int = 10_000
    kill_count: int = 5
    stop_count: int = 3
    latency_count: int = 1_000
    flood_count: int = 50_000
    idle_period: float = 10.0
    node_counts: tuple[int, ...] = (2, 4, 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME"
    )


def run(arguments: argparse.Namespace, effort: Effort | None = None) -> str:
    """Measure, and return the tables."""
    effort = effort or Effort()
    if effort == Effort():
        enter_namespace()
    found = {engine: _measure(engine, effort) for engine in arguments.engines}
    return _tables(found, effort)


# A node, in a process of its own: `python -m bench.nodes URL NAME`.


class _Seen(Tracker):
    """Says how many presences are visible, whenever that has changed; of others' only."""

    count = 0
    is_quiet = False

    def handle_diff(self, diff: TrackerDiff) -> None:
        at = time.monotonic()
        if self.is_quiet:  # nobody reads what it would say of its own, and the pipe would fill
            return
        for joins, leaves in diff.values():
            self.count += len(joins) - len(leaves)
        say(count=self.count, at=at)


class _Node:
    def __init__(self, url: str, name: str) -> None:
        self.pubsub = PubSub(url, node_name=name)
        self.seen = _Seen()
        self.owner: asyncio.Task[Any] | None = None
        self.received: list[float] = []
        self.received_count = 0
        self.acknowledged_count = 0
        self.acknowledged = asyncio.Event()

    async def main(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async with self.pubsub.running(), self.seen.running(self.pubsub):
            self.pubsub.subscribe("timed", self._receive_timed)
            self.pubsub.subscribe("flood", self._receive_flood)
            self.pubsub.subscribe("acknowledged", self._receive_acknowledgement)
            say(started=True)
            while line := await reader.readline():
                command, *words = line.decode().split()
                await getattr(self, f"do_{command}")(*map(int, words))

    async def do_nodes(self) -> None:
        say(nodes=len(self.pubsub.node_names))

    async def do_track(self, count: int) -> None:
        self.seen.is_quiet = True
        self.owner = asyncio.create_task(asyncio.sleep(3600))
        at = time.monotonic()
        for number in range(count):
            self.seen.track(self.owner, f"user-{number}", {"online_at": 1795323696}, topic=ROOM)
        say(tracked=count, at=at)

    async def do_untrack(self) -> None:
        assert self.owner is not None
        self.owner.cancel()

    async def do_time(self, count: int) -> None:
        for _ in range(count):
            data = _AT.pack(time.monotonic()).ljust(MESSAGE_SIZE, b"\0")
            self.pubsub.broadcast_from(self._receive_timed, "timed", data)
            await asyncio.sleep(LATENCY_INTERVAL)
        say(timed=count)

    async def do_flood(self, count: int) -> None:
        data = bytes(MESSAGE_SIZE)
        self.acknowledged_count = 0
        start = time.monotonic()
        for number in range(count):
            while number - self.acknowledged_count >= WINDOW:
                self.acknowledged.clear()
                await asyncio.wait_for(self.acknowledged.wait(), PATIENCE)
            self.pubsub.broadcast_from(self._receive_flood, "flood", data)
            if number % ACKNOWLEDGED == 0:
                await asyncio.sleep(0)
        while self.acknowledged_count < count:
            self.acknowledged.clear()
            await asyncio.wait_for(self.acknowledged.wait(), PATIENCE)
        say(flooded=count, seconds=time.monotonic() - start)

    async def do_report(self) -> None:
        say(latencies=self.received, dropped=sum(self.pubsub.adapter.counters.values()))
        self.received = []

    def _receive_timed(self, data: bytes) -> None:
        self.received.append(time.monotonic() - _AT.unpack_from(data)[0])

    def _receive_flood(self, data: bytes) -> None:
        self.received_count += 1
        if self.received_count % ACKNOWLEDGED == 0:
            self.pubsub.broadcast_from(self._receive_acknowledgement, "acknowledged", None)

    def _receive_acknowledgement(self, message: object) -> None:
        self.acknowledged_count += ACKNOWLEDGED
        self.acknowledged.set()


# What starts nodes.


@contextmanager
def _nodes(url: str, count: int) -> Iterator[list[NodeProcess]]:
    """Nodes that all see each other."""
    with ExitStack() as stack:
        nodes = []
        for number in range(count):
            node = NodeProcess("bench.nodes", url, f"node-{number}")
            stack.callback(node.end)
            node.wait_for(started=True)
            nodes.append(node)
        for node in nodes:
            _until_all_are_seen(node, count)
        yield nodes


def _until_all_are_seen(node: NodeProcess, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        node.do("nodes")
        if node.wait_for(nodes=None)["nodes"] == count:
            return
        if time.monotonic() > deadline:
            raise RuntimeError("the nodes do not find each other")
        time.sleep(0.05)


def _loopback_size() -> int | None:
    """Bytes that ever passed over the loopback, if it is ours alone."""
    if not is_in_namespace():
        return None
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[0])
    return None


# What is measured.

Found = dict[str, Any]


def _measure(engine: str, effort: Effort) -> Found:
    found: Found = {}
    with engine_running(engine) as url:
        with _nodes(url, 2) as (a, b):
            found["tracks"] = [_time_tracks(a, b, 1) for _ in range(effort.track_count)]
            found["bursts"] = [
                _time_tracks(a, b, effort.burst_size) for _ in range(effort.burst_count)
            ]
            a.do("time", effort.latency_count)
            a.wait_for(timed=None)
            time.sleep(0.2)
            b.do("report")
            found["latencies"] = b.wait_for(latencies=None)["latencies"]
            a.do("flood", effort.flood_count)
            found["flood"] = effort.flood_count / a.wait_for(flooded=None)["seconds"]
            b.do("report")
            found["dropped"] = b.wait_for(latencies=None)["dropped"]
        found["kills"] = [_time_ghosts(url, signal.SIGKILL) for _ in range(effort.kill_count)]
        found["stops"] = [_time_ghosts(url, signal.SIGSTOP) for _ in range(effort.stop_count)]
        found["idle"] = {count: _idle(url, count, effort) for count in effort.node_counts}
    return found


def _time_tracks(a: NodeProcess, b: NodeProcess, count: int) -> float:
    """Seconds from the first track on one node until all are visible on the other."""
    a.do("track", count)
    start = a.wait_for(tracked=count)["at"]
    seconds: float = b.wait_for(count=count)["at"] - start
    a.do("untrack")
    b.wait_for(count=0)
    time.sleep(0.1)  # a quiet moment: the first change after it goes out at once
    return seconds


def _time_ghosts(url: str, number: signal.Signals) -> float:
    """Seconds from a signal to one node until what it tracked is gone from the other."""
    with _nodes(url, 2) as (a, b):
        a.do("track", 100)
        b.wait_for(count=100)
        start = time.monotonic()
        a.process.send_signal(number)
        seconds: float = b.wait_for(count=0)["at"] - start
        return seconds


def _idle(url: str, count: int, effort: Effort) -> Mapping[str, float | None]:
    """Memory of a node, and what passes over the wires for each, while nothing happens."""
    with _nodes(url, count) as nodes:
        time.sleep(effort.idle_period / 3)  # so that the start is over
        before, start = _loopback_size(), time.monotonic()
        time.sleep(effort.idle_period)
        after, seconds = _loopback_size(), time.monotonic() - start
        memory = median(node.process.memory_info().rss for node in nodes)
        size = None if before is None or after is None else after - before
        return {
            "memory": memory / 2**20,
            "traffic": None if size is None else size / seconds / count,
        }


def _tables(found: Mapping[str, Found], effort: Effort) -> str:
    engines = list(found)
    rows = [
        ["one track visible, ms", *(_spread(found[each]["tracks"], 1e3) for each in engines)],
        [
            f"{effort.burst_size:,} tracks visible, ms",
            *(_range(found[each]["bursts"], 1e3) for each in engines),
        ],
        ["ghosts after kill -9, s", *(_range(found[each]["kills"]) for each in engines)],
        ["ghosts after SIGSTOP, s", *(_range(found[each]["stops"]) for each in engines)],
        ["broadcast, ms", *(_spread(found[each]["latencies"], 1e3) for each in engines)],
        ["broadcasts/s", *(format_figure(found[each]["flood"]) for each in engines)],
        ["of them dropped", *(format_figure(found[each]["dropped"]) for each in engines)],
    ]
    visible = markdown_table(["p50 (p99), or median (range)", *engines], rows)
    idle = [
        [
            f"{count} nodes: {what}",
            *(_cell(found[each]["idle"][count][name]) for each in engines),
        ]
        for count in effort.node_counts
        for what, name in (("memory of each, MiB", "memory"), ("bytes/s for each", "traffic"))
    ]
    return f"{visible}\n\n{markdown_table(['idle', *engines], idle)}"


def _spread(samples: Sequence[float], factor: float = 1.0) -> str:
    hundredths = quantiles(samples, n=100, method="inclusive")
    return f"{format_figure(hundredths[49] * factor)} ({format_figure(hundredths[98] * factor)})"


def _range(samples: Sequence[float], factor: float = 1.0) -> str:
    if not samples:
        return "—"
    low, high = min(samples) * factor, max(samples) * factor
    return f"{format_figure(median(samples) * factor)} ({format_figure(low)}–{format_figure(high)})"


def _cell(figure: float | None) -> str:
    return "—" if figure is None else format_figure(figure)


if __name__ == "__main__":
    asyncio.run(_Node(sys.argv[1], sys.argv[2]).main())
