"""What an endpoint tells of itself and its cluster, and processes that take part unserved."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from roost import Endpoint, Presence, PubSub
from roost.exceptions import ConfigurationError
from roost.presence.owners.owner import Lease
from roost.pubsub import LocalAdapter
from roost.tracker.options import ReplicationOptions
from tests.pubsub.nodes import Network
from tests.servers import run_uvicorn
from tests.virtual_clock import virtually

TOPIC = "room:1"


class Online(Presence):
    pass


async def test_a_node_by_itself_is_well():
    """It has no peers, and misses none."""
    endpoint = Endpoint({}, pubsub=PubSub(LocalAdapter("a")))
    assert endpoint.health() == {"status": "stopped"}

    async with endpoint.running():
        assert endpoint.health() == {
            "status": "ok",
            "reasons": [],
            "node": "a",
            "is_attached": True,
            "is_isolated": False,
            "has_namesake": False,
            "is_failing": False,
            "alone_for": None,
            "nodes": ["a"],
            "peers": [],
            "incompatible": [],
            "connections": 0,
            "dropped": {"pubsub": {}, "adapter": {}, "trackers": {}, "server": {}},
        }
    assert endpoint.health() == {"status": "stopped"}


@virtually
async def test_a_node_knows_the_others():
    """Their names, whether they are up, and how many of their presences it holds."""
    network = Network()
    online = Online()
    a = Endpoint({}, presences=[online], pubsub=PubSub(network.adapter("a")))
    b = Endpoint({}, pubsub=PubSub(network.adapter("b")))
    async with a.running(), b.running():
        online.track(Lease(online, TOPIC, "alice"), "alice", {}, topic=TOPIC)
        await asyncio.sleep(1)
        health = b.health()
        assert health["nodes"] == ["a", "b"]
        assert health["peers"] == [
            {
                "name": "a",
                "is_up": True,
                "is_behind": False,
                "behind_for": 0.0,
                "missing": 0,
                "presences": 1,
            }
        ]
        network.nodes["a"].crash()
        await asyncio.sleep(32)
        assert b.health()["nodes"] == ["b"]
        assert [peer["is_up"] for peer in b.health()["peers"]] == [False]


@virtually
async def test_a_node_that_lost_its_engine_is_degraded():
    """It is not stopped: its own clients are served, and others will be repaired."""
    network = Network()
    adapter = network.adapter("a")
    endpoint = Endpoint({}, pubsub=PubSub(adapter))
    async with endpoint.running():
        adapter.is_attached = False
        assert endpoint.health()["status"] == "degraded"
        adapter.is_attached, adapter.is_isolated = True, True
        assert endpoint.health()["status"] == "degraded"
        adapter.is_isolated = False
        assert endpoint.health()["status"] == "ok"


@virtually
async def test_a_node_whose_peers_all_fell_silent_is_degraded(caplog: pytest.LogCaptureFixture):
    """Attached or not, it is rather this node that reaches nobody; it says whom, until it does."""
    network = Network()
    endpoint = Endpoint({}, pubsub=PubSub(network.adapter("a")))
    b, c = (Endpoint({}, pubsub=PubSub(network.adapter(name))) for name in "bc")
    async with endpoint.running(), b.running(), c.running():
        await asyncio.sleep(2)
        network.nodes["b"].crash()
        await asyncio.sleep(32)
        assert (endpoint.health()["status"], endpoint.health()["alone_for"]) == ("ok", None)

        network.nodes["c"].crash()
        await asyncio.sleep(32)
        health = endpoint.health()
        assert health["status"] == "degraded"
        [reason] = health["reasons"]
        assert "fell silent, without a goodbye: b, c;" in reason
        alone_for = health["alone_for"]
        assert alone_for is not None
        assert 20 < alone_for < 32
        assert "no other node is up any more" in caplog.text

        await asyncio.sleep(ReplicationOptions().permdown_period)
        assert endpoint.health()["peers"] == []
        assert endpoint.health()["reasons"] == [reason]

        async with Endpoint({}, pubsub=PubSub(network.adapter("d"))).running():
            await asyncio.sleep(2)
            assert (endpoint.health()["status"], endpoint.health()["alone_for"]) == ("ok", None)
        assert endpoint.health()["status"] == "ok"


@virtually
async def test_a_node_that_is_left_in_order_is_well(caplog: pytest.LogCaptureFixture):
    """Who said goodbye is not missed, even if it had been silent before."""
    network = Network()
    endpoint = Endpoint({}, pubsub=PubSub(network.adapter("a")))
    async with endpoint.running():
        async with Endpoint({}, pubsub=PubSub(network.adapter("b"))).running():
            await asyncio.sleep(2)
            hung = network.nodes["b"]
            hung.crash()
            await asyncio.sleep(32)
            assert endpoint.health()["status"] == "degraded"
            hung.is_crashed = False  # it goes on just in time
        await asyncio.sleep(3)
        health = endpoint.health()
        assert (health["status"], health["reasons"], health["nodes"]) == ("ok", [], ["a"])
        assert health["alone_for"]


@virtually
async def test_a_node_that_never_heard_another_says_so_once(caplog: pytest.LogCaptureFixture):
    """That is legal, and it is visible: the others may have another URL, or another engine."""
    endpoint = Endpoint({}, pubsub=PubSub(Network().adapter("a")))
    async with endpoint.running():
        await asyncio.sleep(100)
        assert endpoint.health()["status"] == "ok"
        assert endpoint.health()["alone_for"] == pytest.approx(100, abs=1)
    [said] = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert said.startswith("no other node was heard in the 30 s since the start")


@virtually
async def test_reasons_are_told_in_words():
    """Each names what there is to look at."""
    network = Network()
    adapter = network.adapter("a")
    endpoint = Endpoint({}, pubsub=PubSub(adapter))
    async with endpoint.running():
        adapter.is_isolated = True
        [lonely] = endpoint.health()["reasons"]
        assert "no other node is heard although some should be there" in lonely
        adapter.is_attached = False
        [detached] = endpoint.health()["reasons"]
        assert "the engine between nodes cannot be reached" in detached


@virtually
async def test_two_nodes_of_one_name_are_told(caplog: pytest.LogCaptureFixture):
    """One takes another name; the logs and the health of both say so."""
    network = Network()
    first, second = (Endpoint({}, pubsub=PubSub(network.adapter("a", key=key))) for key in "xy")
    async with first.running(), second.running():
        await asyncio.sleep(10)
        for each in (first, second):
            assert each.health()["has_namesake"]
            assert each.health()["status"] == "degraded"
        assert len({first.health()["node"], second.health()["node"]}) == 2
    assert "two nodes are called 'a'" in caplog.text


async def test_a_name_that_nodes_take_themselves_is_refused():
    """What is sent to ``web~1`` would go to ``web``."""
    adapter = Network().adapter("web~1")
    with pytest.raises(ConfigurationError, match="'web~1'"):
        await PubSub(adapter).start()
    assert not adapter.is_started  # nothing is left open


async def test_probes_are_answered():
    """With 200 while it runs, also when it is degraded, for a restart would mend nothing."""
    endpoint = Endpoint({}, health_path="/health")
    async with run_uvicorn(endpoint) as url, httpx.AsyncClient() as client:
        answer = await client.get(f"{url}/health")
        assert (answer.status_code, answer.text) == (200, "ok")
        assert (await client.get(f"{url}/healthy")).status_code == 404


async def test_without_a_path_no_probe_is_answered():
    """Nobody is told anything that the application did not mean to tell."""
    async with run_uvicorn(Endpoint({})) as url, httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/health")).status_code == 404


@virtually
async def test_a_process_without_a_server_takes_part():
    """It sees who is there when its block begins, is seen, and its broadcasts arrive."""
    network = Network()
    web_online, job_online = Online(), Online()
    web = Endpoint({}, presences=[web_online], pubsub=PubSub(network.adapter("web")))
    job = Endpoint({}, presences=[job_online], pubsub=PubSub(network.adapter("job")))
    received: list[Any] = []
    async with web.running():
        web.subscribe("news", received.append)
        web_online.track(Lease(web_online, TOPIC, "alice"), "alice", {}, topic=TOPIC)
        async with job.connect():
            assert list(await job_online.list(TOPIC)) == ["alice"]
            async with job_online.lease(TOPIC, "job"):
                await asyncio.sleep(0.2)
                assert web_online.count_users(TOPIC) == 2
            job.broadcast("news", "published", {"id": 7})
        await asyncio.sleep(0.1)
        assert [message.event for message in received] == ["published"]
        assert web.pubsub.node_names == ["web"]


@virtually
async def test_a_process_alone_begins_after_a_while():
    """If no other node answers, there may be none."""
    endpoint = Endpoint({}, pubsub=PubSub(Network().adapter("a")))
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    async with endpoint.connect(timeout=2.0):
        assert loop.time() - began_at == pytest.approx(2.0)


@virtually
async def test_connecting_to_nobody_is_logged(caplog: pytest.LogCaptureFixture):
    """An endpoint without an engine reaches no other process."""
    with caplog.at_level(logging.WARNING, "roost.asgi"):
        async with Endpoint({}, pubsub=PubSub(LocalAdapter())).connect():
            pass
    assert "connected to nobody" in caplog.text
