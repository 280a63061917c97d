"""Real nodes over each engine come right after faults: the short form, with short periods.

``make chaos`` plays more of them, in networks that can be cut, with the default periods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from roost.tracker.options import ReplicationOptions
from tests.chaos.cluster import ENGINES, Cluster
from tests.chaos.network import Loopback
from tests.chaos.scenarios import (
    blink,
    kill,
    pause,
    play,
    restart_engine,
    rolling_restart,
    shut_down,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = ReplicationOptions(
    heartbeat_period=0.5,
    request_timeout=0.5,
    probe_grace=1.0,
    down_period=6.0,
    permdown_period=60.0,
)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=ENGINES)
async def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """Three nodes over an engine, with tabs on each, some of which come and go."""
    folder = tmp_path_factory.mktemp(request.param)
    async with Cluster.running(
        ENGINES[request.param], Loopback(), folder, node_count=3, seed=1, options=SHORT
    ) as cluster:
        yield cluster


async def test_a_killed_node_leaves_no_ghosts(cluster: Cluster):
    """Who was on a node that is killed leaves; its successor is as good as any."""
    await play(cluster, kill)


async def test_a_moment_of_silence_goes_unnoticed(cluster: Cluster):
    """A node that is stopped for less than three heartbeats loses nobody."""
    await play(cluster, blink)


async def test_a_stopped_node_leaves_and_comes_back(cluster: Cluster):
    """Who is on a node that is stopped leaves, and is back when it goes on."""
    await play(cluster, pause(4))


async def test_an_engine_that_restarts_loses_nobody(cluster: Cluster):
    """When the engine, or with zenoh the seed, is killed and starts again, all lists come right."""
    await play(cluster, restart_engine)


async def test_a_rolling_restart_leaves_no_ghosts(cluster: Cluster):
    """Each node ends in order, and says goodbye; everybody is known to its successor."""
    await play(cluster, rolling_restart)


async def test_all_nodes_end_on_sigterm(cluster: Cluster):
    """None is left behind, and none has logged an error."""
    await shut_down(cluster)
