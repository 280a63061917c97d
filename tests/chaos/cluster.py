"""A cluster of real processes over a real engine, with clients on every node.

What is right is known from outside: a tab that its server has let in, on a node that runs and is
not cut off, is present; nothing else is. The cluster is right when every such tab shows exactly
that, connection by connection.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import psutil

from roost.tracker.options import ReplicationOptions
from tests.chaos.clients import Life, Tab
from tests.chaos.network import Network
from tests.engines import EngineProcess, NatsServer, RedisServer

__all__ = ["ENGINES", "Cluster", "Engine", "Fault", "Node"]

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT: Final = 30.0  # seconds, on a machine that does other things, too
STOP_TIMEOUT: Final = 5.0  # seconds that a node may take to end
POLL_PERIOD: Final = 0.05  # seconds
PEOPLE: Final = ("alice", "bob", "carol")  # at each node; alice is at all
MAX_CHURNING: Final = 8  # tabs that come and go
CHURN_PERIODS: Final = (0.05, 0.3)  # seconds between a coming or going and the next


class Fault(AssertionError):
    """A promise was broken; says which, and how things are."""


@dataclass(frozen=True)
class Engine:
    """What is between the nodes, and how long it takes to notice things (docs/chaos.md).

    Args:
        name: Scheme of its URL.
        notice_period: Seconds until the death of a link is noticed.
        reattach_period: Seconds until a node is back after a cut, or after the engine was away.
    """

    name: str
    notice_period: float
    reattach_period: float

    def server(self, folder: Path) -> EngineProcess | None:
        """The engine's server; none if the nodes do without."""
        match self.name:
            case "redis":
                return _Redis(folder, "--protected-mode", "no")
            case "nats":
                return _Nats(folder)
            case _:
                return None


ENGINES: Final = {
    # Links are asked about once a second; 5 s for an attempt to connect, 2 s of back-off.
    "redis": Engine("redis", 1.0, 7.0),
    # Only links that were silent for 2 s are asked about.
    "nats": Engine("nats", 3.0, 7.0),
    # The kernel says so; lost links are tried again after 2 s and after 4 s, looked at every 2 s.
    "zenoh": Engine("zenoh", 0.1, 7.0),
}


class _Redis(RedisServer):
    def command(self) -> list[str]:
        return [
            *("--port", str(self.port), "--bind", "0.0.0.0"),
            *("--save", "", "--appendonly", "no"),
        ]


class _Nats(NatsServer):
    def command(self) -> list[str]:
        return ["--addr", "0.0.0.0", "--port", str(self.port)]


class Node:
    """One node: a process of uvicorn, started as often as one likes.

    Attributes:
        name: Of the node.
        number: Of its place.
        is_reachable: It runs, is not stopped, and is not cut off.
        is_serving: Clients may come.
    """

    def __init__(
        self, name: str, number: int, network: Network, environ: dict[str, str], folder: Path
    ) -> None:
        self.name = name
        self.number = number
        self.is_reachable = False
        self.is_serving = False
        self._environ = {**os.environ, **environ, "NODE": name, "PYTHONUNBUFFERED": "1"}
        self._command = network.command(number)
        self._host, self._port = network.front(number)
        self.log = folder / f"node-{number}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def process(self) -> psutil.Process:
        """The process, while it runs."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    async def start(self) -> None:
        """Start it, and return when it serves."""
        self._process = self._spawn()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with suppress(httpx.TransportError):
                await self.ask("/health")
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Fault(f"{self.name} does not start:\n{self.log.read_text()}")
            await asyncio.sleep(0.02)
        self.is_reachable = self.is_serving = True

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [
                    *self._command,
                    *(sys.executable, "-m", "uvicorn", "tests.chaos.app:app"),
                    *("--host", self._host, "--port", str(self._port)),
                    *("--log-level", "info", "--no-access-log", "--ws-ping-interval", "0"),
                ],
                cwd=ROOT,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    async def ask(self, path: str, method: str = "GET", timeout: float = 5.0) -> Any:
        """The JSON that it answers to a request."""
        async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
            response = await client.request(method, self.url + path)
            return response.raise_for_status().json()

    async def health(self) -> dict[str, Any]:
        health: dict[str, Any] = await self.ask("/health")
        return health

    def stop(self) -> None:
        """SIGSTOP."""
        self.is_reachable = self.is_serving = False
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
        self.is_reachable = self.is_serving = True

    async def kill(self) -> None:
        """SIGKILL."""
        self.is_reachable = self.is_serving = False
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            self._process = None

    async def terminate(self) -> float:
        """SIGTERM; returns the seconds until it has ended.

        Raises:
            Fault: It does not end, or not well.
        """
        self.is_reachable = self.is_serving = False
        process, self._process = self._process, None
        if process is None:
            return 0.0
        start = time.monotonic()
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Fault(f"{self.name} did not end within {STOP_TIMEOUT} s of SIGTERM") from None
        if process.returncode not in (0, -signal.SIGTERM):  # uvicorn raises its signal again
            raise Fault(f"{self.name} ended with {process.returncode}")
        return time.monotonic() - start


@dataclass
class Cluster:
    """Nodes, an engine, tabs, and the coming and going of some of them; made by ``running``.

    Attributes:
        most_ghosts: How many that one tab showed were not there, at worst while the last
            ``until_right`` waited.
    """

    engine: Engine
    network: Network
    options: ReplicationOptions
    folder: Path
    rng: random.Random
    server: EngineProcess | None = None
    nodes: list[Node] = field(default_factory=list)
    tabs: list[Tab] = field(default_factory=list)
    churning: list[Tab] = field(default_factory=list)
    places: dict[Tab, Node] = field(default_factory=dict)
    homes: dict[tuple[Node, str], Tab] = field(default_factory=dict)
    tab_count: int = 0
    quiet_count: int = 0
    most_ghosts: int = 0

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        engine: Engine,
        network: Network,
        folder: Path,
        *,
        node_count: int,
        seed: int,
        options: ReplicationOptions | None = None,
    ) -> AsyncIterator[Cluster]:
        """A cluster with tabs on every node, right and with some coming and going."""
        self = cls(engine, network, options or ReplicationOptions(), folder, random.Random(seed))
        churn: asyncio.Task[None] | None = None
        try:
            self.server = engine.server(folder)
            if self.server is not None:
                await self.server.start()
            for number in range(1, node_count + 1):
                network.add(number)
            self.nodes = [self.new_node(f"node-{each}", each) for each in range(1, node_count + 1)]
            await asyncio.gather(*(node.start() for node in self.nodes))
            for node in self.nodes:
                for person in PEOPLE:
                    self._open_home(node, person)
            await self.until_right(START_TIMEOUT)
            churn = asyncio.create_task(self._churn(), name="churn")
            yield self
        finally:
            if churn is not None:
                churn.cancel()
                await asyncio.wait([churn])
            for tab in [*self.tabs, *self.churning]:
                tab.stay_away()
            for node in self.nodes:
                await node.kill()
            if self.server is not None:
                await self.server.stop()

    def new_node(self, name: str, number: int) -> Node:
        """A node that is not started; its number is that of its place."""
        environ = {
            "CLUSTER": self._url(number),
            "PERIODS": msgspec.json.encode(self.options).decode(),
        }
        return Node(name, number, self.network, environ, self.folder)

    def _url(self, number: int) -> str:
        if self.server is not None:
            return f"{self.engine.name}://{self.network.engine_host}:{self.server.port}"
        seeds = [_address(self.network.back(each)) for each in (1, 2)]
        return f"zenoh://{','.join(seeds)}?listen={_address(self.network.back(number))}"

    # Tabs.

    def open(self, person: str | None, node: Node) -> Tab:
        """Open a tab at a node; it stays there while that serves, else goes to another."""
        self.tab_count += 1
        name = f"tab-{self.tab_count}"
        tab = Tab(person or name, name, lambda: self._url_for(tab))
        self.places[tab] = node
        return tab

    async def go_home(self, node: Node) -> None:
        """Those who had a tab there, and were driven away, open one again."""
        for person in PEOPLE:
            tab = self.homes[node, person]
            if self.places[tab] is not node:
                await self.close(tab)
                self._open_home(node, person)

    def _open_home(self, node: Node, person: str) -> None:
        tab = self.open(person if person == "alice" else None, node)
        self.homes[node, person] = tab
        self.tabs.append(tab)

    async def close(self, tab: Tab) -> None:
        """Close one of those that stay."""
        await tab.leave()
        self.tabs.remove(tab)
        del self.places[tab]

    def _url_for(self, tab: Tab) -> str:
        node = self.places[tab]
        if not node.is_serving and not self._is_stuck(node):
            serving = [each for each in self.nodes if each.is_serving]
            if serving:
                node = self.places[tab] = self.rng.choice(serving)
        return node.url

    @staticmethod
    def _is_stuck(node: Node) -> bool:
        """Whether it is stopped: to a client that looks like a slow network."""
        try:
            return node.process.status() == psutil.STATUS_STOPPED
        except (psutil.NoSuchProcess, AssertionError):  # it is being killed, or does not run
            return False

    async def _churn(self) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(*CHURN_PERIODS))
            if self.quiet_count:
                continue
            if len(self.churning) < self.rng.randint(1, MAX_CHURNING):
                serving = [node for node in self.nodes if node.is_serving]
                if serving:
                    person = self.rng.choice(["alice", None])
                    self.churning.append(self.open(person, self.rng.choice(serving)))
            else:
                tab = self.churning.pop(self.rng.randrange(len(self.churning)))
                await tab.leave()
                del self.places[tab]

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nobody comes or goes by design."""
        self.quiet_count += 1
        try:
            yield
        finally:
            self.quiet_count -= 1

    # What is right.

    def wrong(self) -> dict[str, list[Life]]:
        """What is wrong with the list of whom: ghosts, and who is missing."""
        everybody = [*self.tabs, *self.churning]
        for tab in everybody:
            tab.check()
        present = [tab for tab in everybody if self.places[tab].is_reachable]
        if unsettled := [tab.name for tab in present if not tab.is_settled]:
            return {name: [("not", "joined", 0)] for name in unsettled}
        live = sorted(tab.life for tab in present)
        found: dict[str, list[Life]] = {}
        for tab in present:
            shown = tab.shown
            if shown != live:
                found[f"{tab.name} at {self.places[tab].name}"] = _difference(shown, live)
        return found

    def lost_sight(self) -> dict[str, list[Life]]:
        """Which of those that stay and can be reached are missing from whose list."""
        present = [tab for tab in self.tabs if self.places[tab].is_reachable and tab.is_settled]
        live = {tab.life for tab in present}
        lists = {f"{tab.name} at {self.places[tab].name}": live - {*tab.shown} for tab in present}
        return {who: sorted(missing) for who, missing in lists.items() if missing}

    def _ghost_count(self) -> int:
        present = [tab for tab in (*self.tabs, *self.churning) if self.places[tab].is_reachable]
        live = {tab.life for tab in present}
        return max((len(set(tab.shown) - live) for tab in present), default=0)

    async def until_right(self, timeout: float) -> float:
        """Wait until all lists are right, and return how many seconds that took.

        Raises:
            Fault: They are not, in time.
        """
        start = time.monotonic()
        self.most_ghosts = 0
        async with self.quiet():
            while wrong := self.wrong():
                self.most_ghosts = max(self.most_ghosts, self._ghost_count())
                if time.monotonic() - start > timeout:
                    shown = "\n".join(f"  {who}: {what}" for who, what in wrong.items())
                    raise Fault(
                        f"lists are wrong after {timeout:.1f} s (+ ghost, - missing):\n{shown}"
                    )
                await asyncio.sleep(POLL_PERIOD)
            return time.monotonic() - start

    async def until(
        self, condition: Callable[[list[dict[str, Any]]], str | None], timeout: float
    ) -> float:
        """Wait for something that the health of all nodes shows; returns the seconds.

        Args:
            condition: Says what is missing.
            timeout: In seconds.
        """
        start = time.monotonic()
        while True:
            running = [node for node in self.nodes if node.is_reachable]
            reports = list(await asyncio.gather(*(node.health() for node in running)))
            missing = condition(reports)
            if missing is None:
                return time.monotonic() - start
            if time.monotonic() - start > timeout:
                raise Fault(f"after {timeout:.1f} s: {missing}")
            await asyncio.sleep(POLL_PERIOD)

    async def until_healthy(self, timeout: float) -> float:
        """Wait until each node knows exactly the others, is behind nobody, and says ok."""
        return await self.until(_unhealthy, timeout)

    async def dropped(self) -> list[Any]:
        """All counters of what was dropped, of all nodes."""
        running = [node for node in self.nodes if node.is_reachable]
        return [(await node.health())["dropped"] for node in running]

    def tracebacks(self) -> list[str]:
        """Errors that nodes have logged."""
        logs = {node.log: node.log.read_text() for node in self.nodes if node.log.exists()}
        return [f"{path.name}:\n{text}" for path, text in logs.items() if "Traceback" in text]

    # What is promised.

    @property
    def slack(self) -> float:
        """Seconds for a machine that does other things, and for our looking at it."""
        return 1.0

    @property
    def goodbye_bound(self) -> float:
        """Until a goodbye is heard and believed; without one, a probe would take longer."""
        return 0.75 * self.options.probe_grace

    @property
    def gone_bound(self) -> float:
        """Until a dead node's presences are gone: its link is seen to die, and it is asked."""
        return self.engine.notice_period + self.options.probe_grace + self.slack

    @property
    def silent_bound(self) -> float:
        """Until those of a silent one are: three heartbeats are missed, and it is asked."""
        silent = 4 * 1.25 * self.options.heartbeat_period + self.options.probe_grace
        return min(self.options.down_period, silent) + self.slack

    @property
    def repair_bound(self) -> float:
        """Until everything is known everywhere, once all are connected.

        A heartbeat shows the gap, which has to last, and one request may get lost.
        """
        options = self.options
        once = 1.25 * options.heartbeat_period + options.repair_delay
        return once + options.request_timeout + self.slack

    @property
    def heal_bound(self) -> float:
        """The same, once faults have stopped, if nodes have to find each other again."""
        return self.engine.reattach_period + self.repair_bound


def _unhealthy(reports: list[dict[str, Any]]) -> str | None:
    names = sorted(report["node"] for report in reports)
    for report in reports:
        peers = report["peers"]
        if (
            report["status"] != "ok"
            or report["nodes"] != names
            or sorted(peer["name"] for peer in peers) != [n for n in names if n != report["node"]]
            or any(peer["is_behind"] or not peer["is_up"] for peer in peers)
        ):
            return f"expected the nodes {names}, all up and nobody behind, got {report}"
    return None


def _difference(shown: list[Life], live: list[Life]) -> list[Life]:
    ghosts = [(f"+{who}", tab, life) for who, tab, life in set(shown) - set(live)]
    missing = [(f"-{who}", tab, life) for who, tab, life in set(live) - set(shown)]
    return sorted(ghosts + missing) or [("twice", "", len(shown) - len(live))]


def _address(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"
