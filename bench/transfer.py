"""A large slice on its way to newcomers: how long it takes, and what it costs everybody else.

Method. One node tracks presences of 400 bytes; then others start at once, each of which fetches all
of them. Meanwhile the first one broadcasts a message every 10 ms, and every node looks every 5 ms
how late its loop is. Each node drops the given share of what it sends, of heartbeats and broadcasts
as well. How much of a delay is work of the loop's thread, and how much is waiting for a core, says
the processor time that the thread used meanwhile. A newcomer is whole when it is behind nobody and
shows all. Nodes are processes; engines are those of the system, with default options, on the same
machine, whose cores all of them share.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any, Final

from bench.engines import ENGINES, NodeProcess, engine_running, say
from bench.table import format_figure, markdown_table
from roost import PubSub
from roost.presence.tracker import Tracker, TrackerDiff
from roost.pubsub.adapter import Adapter, LinkEvents
from roost.pubsub.urls import adapter_for

__all__ = ["add_arguments", "run"]

ROOM_SIZE: Final = 1_000  # presences in each topic
META: Final = {"online_at": 1795323696, "name": "x" * 335}  # 400 bytes with its ref
BROADCAST_INTERVAL: Final = 0.01  # seconds
LAG_INTERVAL: Final = 0.005  # seconds
PATIENCE: Final = 600.0  # seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME"
    )
    parser.add_argument("--count", type=int, default=1_000_000, help="presences (1,000,000)")
    parser.add_argument("--newcomers", type=int, default=4, help="nodes that start at once (4)")
    parser.add_argument("--loss", type=float, default=0.05, help="share that is dropped (0.05)")


def run(arguments: argparse.Namespace) -> str:
    """Measure, and return the table."""
    rows = []
    for engine in arguments.engines:
        found = _measure(engine, arguments.count, arguments.newcomers, arguments.loss)
        rows.append([engine, *found])
    titles = [
        "engine",
        "until all are whole, s",
        "until the first is, s",
        "loop held, ms: first node",
        "newcomers",
        "at work, ms: first node",
        "newcomers",
        "broadcast late, ms: median",
        "worst",
        "parts sent / needed",
    ]
    about = (
        f"{arguments.count:,} presences of 400 bytes, {arguments.newcomers} newcomers at once, "
        f"{arguments.loss:.0%} of all messages lost"
    )
    return f"### A large slice and newcomers\n\n{about}.\n\n{markdown_table(titles, rows)}\n"


def _measure(engine: str, count: int, newcomer_count: int, loss: float) -> list[str]:
    with engine_running(engine) as url, ExitStack() as stack:
        first = NodeProcess("bench.transfer", url, "first", str(loss))
        stack.callback(first.end)
        first.wait_for(started=True)
        first.do("fill", count)
        first.wait_for(filled=count)
        first.do("watch")
        newcomers = []
        for number in range(newcomer_count):
            node = NodeProcess("bench.transfer", url, f"newcomer-{number}", str(loss))
            stack.callback(node.end)
            newcomers.append(node)
        for node in newcomers:
            node.wait_for(started=True)
            node.do("fetch", count)
        whole = [node.wait_for(whole=None) for node in newcomers]
        first.do("report")
        report = first.wait_for(held=None)
    seconds = [each["whole"] for each in whole]
    late = [each["late"] for each in whole]
    return [
        format_figure(max(seconds)),
        format_figure(min(seconds)),
        format_figure(1_000 * report["held"]),
        format_figure(1_000 * max(each["held"] for each in whole)),
        format_figure(1_000 * report["worked"]),
        format_figure(1_000 * max(each["worked"] for each in whole)),
        format_figure(1_000 * median(each["median"] for each in late)),
        format_figure(1_000 * max(each["worst"] for each in late)),
        format_figure(report["sent"] / (newcomer_count * count * 400 / 65_536)),
    ]


# A node, in a process of its own: `python -m bench.transfer URL NAME LOSS`.


class _Lossy:
    """An adapter that drops some of what it is given."""

    def __init__(self, adapter: Adapter, loss: float) -> None:
        self._adapter = adapter
        self._loss = loss
        self.large_count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    async def start(self, deliver: Callable[[bytes], None], links: LinkEvents) -> None:
        await self._adapter.start(deliver, links)

    def publish(self, data: bytes) -> None:
        if random.random() >= self._loss:
            self._adapter.publish(data)

    def publish_to(self, node_name: str, data: bytes) -> None:
        self.large_count += len(data) > 10_000
        if random.random() >= self._loss:
            self._adapter.publish_to(node_name, data)


class _Seen(Tracker):
    count = 0

    def handle_diff(self, diff: TrackerDiff) -> None:
        for joins, leaves in diff.values():
            self.count += len(joins) - len(leaves)


class _Node:
    def __init__(self, url: str, name: str, loss: float) -> None:
        adapter = adapter_for(url, name)
        self.adapter = _Lossy(adapter, loss)
        self.pubsub = PubSub(self.adapter)
        self.seen = _Seen()
        self.owner: asyncio.Task[Any] | None = None
        self.held = 0.0
        self.worked = 0.0
        self.late: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def main(self) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async with self.pubsub.running(), self.seen.running(self.pubsub):
            self.pubsub.subscribe("time", lambda at: self.late.append(time.monotonic() - at))
            say(started=True)
            while line := await reader.readline():
                command, *words = line.decode().split()
                await getattr(self, f"do_{command}")(*map(int, words))

    async def do_fill(self, count: int) -> None:
        self.owner = asyncio.create_task(asyncio.sleep(3600))
        for number in range(count):
            topic = f"room:{number // ROOM_SIZE}"
            self.seen.track(self.owner, f"user-{number}", META, topic=topic)
            if number % 500 == 0:
                await asyncio.sleep(0)
        say(filled=count)

    async def do_watch(self) -> None:
        self.tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._broadcast())]

    async def do_report(self) -> None:
        say(held=self.held, worked=self.worked, sent=self.adapter.large_count)

    async def do_fetch(self, count: int) -> None:
        self.tasks = [asyncio.create_task(self._watch())]
        began_at = time.monotonic()
        replicator = self.pubsub.replicator
        while time.monotonic() < began_at + PATIENCE:
            peers = [peer for peer in replicator.peers if peer["name"] == "first"]
            if peers and not peers[0]["is_behind"] and self.seen.count == count:
                break
            await asyncio.sleep(0.02)
        late = sorted(self.late) or [0.0]
        say(
            whole=time.monotonic() - began_at,
            held=self.held,
            worked=self.worked,
            late={"median": median(late), "worst": late[-1]},
            shown=self.seen.count,
        )

    async def _watch(self) -> None:
        while True:
            at, work = time.monotonic(), time.thread_time()
            await asyncio.sleep(LAG_INTERVAL)
            self.held = max(self.held, time.monotonic() - at - LAG_INTERVAL)
            self.worked = max(self.worked, time.thread_time() - work)

    async def _broadcast(self) -> None:
        while True:
            self.pubsub.broadcast("time", time.monotonic())
            await asyncio.sleep(BROADCAST_INTERVAL)


if __name__ == "__main__":
    _, url_, name_, loss_ = sys.argv
    asyncio.run(_Node(url_, name_, float(loss_)).main())
