"""What goes wrong, and what is to be right afterwards, within what time (docs/chaos.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.chaos.cluster import Cluster, Fault, Node
from tests.chaos.network import DIRECTIONS, Namespaces

__all__ = [
    "FULL",
    "Scenario",
    "Step",
    "blink",
    "kill",
    "pause",
    "play",
    "restart_engine",
    "rolling_restart",
    "shut_down",
]

QUIET_HEARTBEATS: Final = 5 / 3  # in which no counter may grow
COUNTERS_BOUND: Final = 15.0  # seconds until they rest
TERMINATION_BOUND: Final = 3.0  # seconds
ONE_WAY_CUT: Final = 8.0  # seconds: longer than any engine needs to give up a link
MOMENT: Final = (0.5, 3.5)  # seconds until it is cut again: before zenoh's next attempt, or after
SECOND_CUT: Final = 14.0  # seconds: longer than a socket that lingers holds up its closing


@dataclass(frozen=True)
class Step:
    """Something that took its time.

    Args:
        what: In a few words.
        seconds: How long it took.
        bound: How long it may take.
        ghosts: How many that somebody showed meanwhile were not there.
    """

    what: str
    seconds: float
    bound: float
    ghosts: int = 0


Scenario = Callable[[Cluster], Awaitable[Sequence[Step]]]


async def play(cluster: Cluster, scenario: Scenario) -> list[Step]:
    """Play one, and see that it leaves nothing behind.

    Raises:
        Fault: A promise is broken.
    """
    steps = list(await scenario(cluster))
    await cluster.until_right(cluster.repair_bound)
    async with cluster.quiet():
        await cluster.until_right(cluster.repair_bound)
        healthy = await cluster.until_healthy(cluster.heal_bound)
        steps.append(Step("health is whole", healthy, cluster.heal_bound))
        await _until_counters_rest(cluster)
        await cluster.until_right(0)
    if errors := cluster.tracebacks():
        raise Fault("a node logged an error:\n" + "\n".join(errors))
    return steps


async def _until_counters_rest(cluster: Cluster) -> None:
    """Wait until nothing more is dropped, or found to have been: the next message shows a gap."""
    before, start = await cluster.dropped(), time.monotonic()
    while True:
        await asyncio.sleep(QUIET_HEARTBEATS * cluster.options.heartbeat_period)
        after = await cluster.dropped()
        if after == before:
            return
        if time.monotonic() - start > COUNTERS_BOUND:
            raise Fault(f"counters grow though all is quiet: {before}, then {after}")
        before = after


async def shut_down(cluster: Cluster) -> list[Step]:
    """End all nodes by SIGTERM at once."""
    processes = [node.process for node in cluster.nodes]
    seconds = await asyncio.gather(*(node.terminate() for node in cluster.nodes))
    left = [process for process in processes if process.is_running()]
    if left:
        raise Fault(f"processes are left behind: {left}")
    if errors := cluster.tracebacks():
        raise Fault("a node logged an error:\n" + "\n".join(errors))
    return [Step("all have ended", max(seconds), TERMINATION_BOUND)]


async def _right(cluster: Cluster, what: str, bound: float) -> Step:
    seconds = await cluster.until_right(bound)
    return Step(what, seconds, bound, cluster.most_ghosts)


def _victim(cluster: Cluster) -> Node:
    return cluster.rng.choice(cluster.nodes)


async def _churn_for(seconds: float) -> None:
    """Let tabs come and go for a while: this is the fault's duration, not a wait for anything."""
    await asyncio.sleep(seconds)


async def _others_stay(cluster: Cluster, until: float) -> None:
    """A fault goes on, and people come and go; the nodes that it spares keep seeing each other."""
    while time.monotonic() < until:
        if lost := cluster.lost_sight():
            raise Fault(f"nodes that can reach each other lost sight of each other: {lost}")
        await asyncio.sleep(0.05)


async def _nobody_notices(cluster: Cluster, seconds: float) -> None:
    """While nobody comes or goes, all lists stay as they are."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if wrong := cluster.wrong():
            raise Fault(f"a fault was taken for somebody's leave: {wrong}")
        await asyncio.sleep(0.02)


async def kill(cluster: Cluster) -> Sequence[Step]:
    """A node is killed; its tabs go elsewhere; it starts again."""
    node = _victim(cluster)
    await _churn_for(1)
    await node.kill()
    gone = await _right(cluster, "its presences are gone", cluster.gone_bound)
    await node.start()
    await cluster.go_home(node)
    back = await _right(cluster, "its successor is right", cluster.heal_bound)
    return [gone, back]


async def blink(cluster: Cluster) -> Sequence[Step]:
    """A node is stopped for less time than makes it suspect: nobody may leave."""
    node = _victim(cluster)
    async with cluster.quiet():
        await cluster.until_right(cluster.repair_bound)
        node.stop()
        node.is_reachable = True  # it is believed to live, and so are those on it
        await _nobody_notices(cluster, 1.3 * cluster.options.heartbeat_period)
        node.resume()
    return [await _right(cluster, "right again", cluster.repair_bound)]


@asynccontextmanager
async def _stopped(node: Node) -> AsyncIterator[None]:
    node.stop()
    yield
    node.resume()


@asynccontextmanager
async def _cut(cluster: Cluster, node: Node) -> AsyncIterator[None]:
    network = cluster.network
    assert isinstance(network, Namespaces), "only these can be cut"
    network.cut(node.number)
    node.is_reachable = False
    yield
    network.heal(node.number)
    node.is_reachable = True


async def cut_again(cluster: Cluster) -> Sequence[Step]:
    """A node is cut off in one direction, is back for a moment, and is cut off for good.

    What connected in that moment is young when the second cut comes, and has much to send.
    """
    node = _victim(cluster)
    network = cluster.network
    assert isinstance(network, Namespaces), "only these can be cut"
    network.cut_one_way(node.number, cluster.rng.choice(DIRECTIONS))
    node.is_reachable = False
    await _others_stay(cluster, time.monotonic() + ONE_WAY_CUT)
    network.heal(node.number)
    await _others_stay(cluster, time.monotonic() + cluster.rng.uniform(*MOMENT))
    start = time.monotonic()
    async with _cut(cluster, node):
        gone = await _right(cluster, "its presences are gone", cluster.silent_bound)
        await _others_stay(cluster, start + SECOND_CUT)
    return [gone, await _right(cluster, "they are back", cluster.heal_bound)]


def pause(seconds: float) -> Scenario:
    """A node is stopped for a while; its presences leave, and come back with it."""

    async def scenario(cluster: Cluster) -> Sequence[Step]:
        start = time.monotonic()
        async with _stopped(_victim(cluster)):
            gone = await _right(cluster, "its presences are gone", cluster.silent_bound)
            await _others_stay(cluster, start + seconds)
        return [gone, await _right(cluster, "they are back", cluster.heal_bound)]

    return scenario


async def restart_engine(cluster: Cluster) -> Sequence[Step]:
    """The engine is killed and starts again; without one, a seed is and does.

    While an engine is away nobody may leave: that we are cut off says nothing about others.
    """
    server = cluster.server
    if server is None:
        seed = cluster.nodes[0]
        await seed.kill()
        await _churn_for(1)
        await seed.start()
        await cluster.go_home(seed)
        return [await _right(cluster, "right with the new seed", cluster.heal_bound)]
    async with cluster.quiet():
        await cluster.until_right(cluster.repair_bound)
        await server.stop()
        await _nobody_notices(cluster, 1.0)
    await _churn_for(1)
    await server.start()
    return [await _right(cluster, "right with the engine", cluster.heal_bound)]


def cut(seconds: float) -> Scenario:
    """A node is cut off from the others, and from the engine; its clients stay."""

    async def scenario(cluster: Cluster) -> Sequence[Step]:
        start = time.monotonic()
        async with _cut(cluster, _victim(cluster)):
            gone = await _right(cluster, "its presences are gone", cluster.silent_bound)
            await _others_stay(cluster, start + seconds)
        return [gone, await _right(cluster, "they are back", cluster.heal_bound)]

    return scenario


async def rolling_restart(cluster: Cluster) -> Sequence[Step]:
    """Every node is stopped in order and started again, one after the other."""
    ends, gone, forgotten, back = [], [], [], []
    for node in cluster.nodes:
        ends.append(Step("a node has ended", await node.terminate(), TERMINATION_BOUND))
        bound = cluster.goodbye_bound
        gone.append(await _right(cluster, "its presences are gone", bound))
        seconds = await cluster.until_healthy(bound)
        forgotten.append(Step("others have forgotten it", seconds, bound))
        await node.start()
        await cluster.go_home(node)
        back.append(await _right(cluster, "its successor is right", cluster.heal_bound))
    return [max(steps, key=lambda step: step.seconds) for steps in (ends, gone, forgotten, back)]


def fall_behind(change_count: int, *, cut_seconds: float = 0.0) -> Scenario:
    """A node misses more changes of another than the log of changes holds.

    It is stopped meanwhile, so that much of them waits in sockets; or it is cut off for so long
    that all is lost.
    """
    kept = min(1_000, change_count // 10)

    async def scenario(cluster: Cluster) -> Sequence[Step]:
        node = _victim(cluster)
        source = cluster.rng.choice([each for each in cluster.nodes if each is not node])
        start = time.monotonic()
        fault = _cut(cluster, node) if cut_seconds else _stopped(node)
        async with fault:
            await source.ask(f"/storm?changes={change_count}&kept={kept}", "POST", timeout=60)
            await _others_stay(cluster, start + cut_seconds)
        bound = cluster.heal_bound + 5  # the snapshot, and what waits in sockets
        caught_up = await _until_counted(cluster, kept, bound)
        right = await _right(cluster, "right again", bound)
        await source.ask("/calm", "POST")
        return [caught_up, right, await _until_counted(cluster, 0, bound)]

    return scenario


async def _until_counted(cluster: Cluster, count: int, bound: float) -> Step:
    start = time.monotonic()
    while True:
        paths = (each.ask("/count?topic=room:storm", timeout=30) for each in cluster.nodes)
        counts = await asyncio.gather(*paths)
        if set(counts) == {count}:
            return Step(f"all have {count} of the storm", time.monotonic() - start, bound)
        if time.monotonic() - start > bound:
            raise Fault(f"expected {count} of the storm everywhere, got {counts}")
        await asyncio.sleep(0.05)


async def twins(cluster: Cluster) -> Sequence[Step]:
    """A second node has the name of a first: one of the two says so, and takes another."""
    node = _victim(cluster)
    place = len(cluster.nodes) + 1
    cluster.network.add(place)
    twin = cluster.new_node(node.name, place)
    await twin.start()
    cluster.nodes.append(twin)
    try:
        renamed = Step(
            "all names are unlike",
            await cluster.until(_names_are_unlike, cluster.heal_bound),
            cluster.heal_bound,
        )
        tabs = [cluster.open("alice", twin), cluster.open(None, twin)]
        cluster.tabs += tabs
        right = await _right(cluster, "all lists are right", cluster.heal_bound)
        for tab in tabs:
            await cluster.close(tab)
    finally:
        await twin.terminate()
        cluster.nodes.remove(twin)
    await node.terminate()  # it is to have its own name again
    await node.start()
    await cluster.go_home(node)
    alone = await _right(cluster, "right without the twin", cluster.heal_bound)
    return [renamed, right, alone]


def _names_are_unlike(reports: list[dict[str, object]]) -> str | None:
    names = [report["node"] for report in reports]
    told = [report["node"] for report in reports if report["has_namesake"]]
    if len(set(names)) < len(names) or len(told) != 2:
        return f"expected different names, and two that know of it, got {names}; know: {told}"
    return None


FULL: Final[dict[str, Scenario]] = {
    "kill -9 of a node": kill,
    "SIGSTOP for 2 s": blink,
    "SIGSTOP for 10 s": pause(10),
    "SIGSTOP for 40 s": pause(40),
    "engine, or a seed, killed and restarted": restart_engine,
    "link cut for 10 s": cut(10),
    "link cut for 40 s": cut(40),
    "cut one way, back for a moment, cut": cut_again,
    "rolling restart of all nodes": rolling_restart,
    "behind by 100,000 changes": fall_behind(100_000),
    "100,000 changes lost in a cut": fall_behind(100_000, cut_seconds=10),
    "two nodes of one name": twins,
}
