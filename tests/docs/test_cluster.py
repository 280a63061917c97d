"""docs/cluster.md: its program runs as a cluster, and what it says of options and periods is so."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.channels.channel import Channel
from roost.pubsub import urls
from roost.pubsub.broker import adapter as broker
from roost.pubsub.nats import adapter as nats
from roost.pubsub.redis import RedisAdapter
from roost.pubsub.urls import adapter_for
from roost.pubsub.zenoh import adapter as zenoh
from roost.pubsub.zenoh import discovery, settings
from roost.testing import ChannelCase
from roost.tracker.members import SUSPECT_HEARTBEATS
from roost.tracker.options import ReplicationOptions
from tests.docs.guide import Guide
from tests.engines import NatsServer, RedisServer, free_port
from tests.servers import run_uvicorn
from tests.waiting import until

GUIDE = Guide("cluster.md")
URLS = sorted(
    set(re.findall(r"`((?:zenohs?|rediss?|valkeys?|unix|nats|tls)://[^`…]*)`", GUIDE.text))
)

# The program.


@pytest.fixture(params=["redis", "nats", "zenoh"])
async def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[], Any]]:
    """Makes nodes: the page's program, once more for each, with a real engine between them."""
    servers = {"redis": RedisServer, "nats": NatsServer}
    server = servers[request.param](tmp_path) if request.param in servers else None
    if server is not None:
        await server.start()
    port = free_port() if server is None else server.port
    monkeypatch.setenv("CLUSTER", f"{request.param}://127.0.0.1:{port}")
    yield GUIDE.run
    if server is not None:
        await server.stop()


async def test_alice_and_bob_on_two_nodes(cluster: Callable[[], Any]):
    """Each is in the list of the other, and bob is told when alice goes."""
    a, b = cluster(), cluster()
    async with ChannelCase(a.endpoint) as case_a, ChannelCase(b.endpoint) as case_b:
        await until(lambda: len(b.pubsub.node_names) == 2)
        client = await case_a.connect(a.UserSocket, {"user_id": "alice"})
        alice = await client.join("room:1")
        await alice.assert_push("presence_state")
        await until(lambda: bool(b.online.online(["alice"])))

        bob = await (await case_b.connect(b.UserSocket, {"user_id": "bob"})).join("room:1")
        assert (await bob.assert_push("presence_state")).keys() == {"alice", "bob"}
        await until(lambda: bool(a.online.online(["bob"])))
        a.endpoint.broadcast("room:1", "hello", {"from": "a"})
        await bob.assert_push("hello", {"from": "a"}, timeout=5)
        alice.client.close()
        await bob.assert_push(
            "presence_diff", where=lambda diff: list(diff["leaves"]) == ["alice"], timeout=10
        )


async def test_a_node_that_stops_is_gone_at_once(cluster: Callable[[], Any]):
    """Its goodbye arrives, before any silence could tell."""
    a, b = cluster(), cluster()
    async with b.endpoint.running():
        async with a.endpoint.running():
            await until(lambda: len(b.pubsub.node_names) == 2)
        async with asyncio.timeout(1):
            await until(lambda: len(b.pubsub.node_names) == 1)


async def test_a_management_command_takes_part(cluster: Callable[[], Any]):
    """It tells everybody in the room, sees who is there, and is gone again."""
    web, shell = cluster(), cluster()
    async with ChannelCase(web.endpoint) as case:
        alice = await (await case.connect(web.UserSocket, {"user_id": "alice"})).join("room:1")
        await alice.assert_push("presence_state")
        out = io.StringIO()
        command = shell.Command(stdout=out)
        await asyncio.to_thread(command.handle, room="1", text="tea")
        await alice.assert_push("announcement", {"text": "tea"}, timeout=5)
        assert out.getvalue() == "alice\n"
        await until(lambda: web.pubsub.node_names == [web.pubsub.node_name])


async def test_probes_and_dashboards(monkeypatch: pytest.MonkeyPatch):
    """The probe is below the mount; the dashboard gets all that the page names."""
    monkeypatch.setenv("CLUSTER", "local")
    guide = GUIDE.run()
    async with run_uvicorn(guide.app) as url, httpx.AsyncClient(base_url=url) as client:
        probe = await client.get("/socket/health")
        assert (probe.status_code, probe.text) == (200, "ok")
        health = (await client.get("/cluster")).json()
    table = GUIDE.text.split("## Health")[1].split("## ")[0]
    named = set(re.findall(r"`(\w+)`", table)) | {"nodes"}
    assert health.keys() <= named
    for key in health:
        assert f"`{key}`" in table


def test_the_worker_of_gunicorn_gives_clients_as_long_as_the_page_says():
    """The class of the page has the bound that the table asks of uvicorn."""
    asked = re.search(r"`--timeout-graceful-shutdown` \| [^|]* \| (\d+) \|", GUIDE.text)
    assert asked is not None
    assert GUIDE.run().Worker.CONFIG_KWARGS["timeout_graceful_shutdown"] == int(asked[1])


# What it says.


@pytest.mark.parametrize("url", URLS)
def test_each_url_makes_an_adapter(url: str):
    """Whatever the page shows as a URL can be given to a PubSub."""
    assert adapter_for(url) is not None


def test_every_scheme_and_every_option_of_a_url_is_shown():
    """Nothing that a URL can say is missing."""
    assert {url.partition(":")[0] for url in URLS} == set(urls._ADAPTERS)
    shown = "\n".join(URLS)
    for parameter in settings._PARAMETERS:
        assert re.search(rf"[?&]{parameter}=", shown), parameter


def test_namespaces_of_the_page():
    """The adapters that it makes itself are in the namespace that it says."""
    guide = GUIDE.run()
    assert guide.through_redis.adapter.namespace == "chat"
    assert guide.through_nats.adapter.namespace == "chat"


def row(start: str) -> list[str]:
    """The cells behind the first one of a row of a table."""
    for line in GUIDE.text.splitlines():
        if line.startswith(f"| {start} |"):
            return [cell.strip() for cell in line.split("|")[2:-1]]
    raise AssertionError(f"there is no row {start!r}")


def test_bounds_are_those_of_the_adapters():
    """How much may wait, how large a message may be, and where engines listen."""
    mib = 2**20
    of_zenoh = f"{zenoh._MAX_QUEUED_COUNT:,} messages, {zenoh._MAX_QUEUED_SIZE // mib} MiB"
    adapters: list[broker.BrokerAdapter] = [
        RedisAdapter("redis://localhost"),
        nats.NatsAdapter("nats://localhost"),
    ]
    of_brokers = [
        f"{each.max_outbox_count:,} messages, {each.max_outbox_size // mib} MiB"
        for each in adapters
    ]
    waiting = row("what waits to be sent; more is dropped and counted")
    assert waiting == [of_zenoh, of_zenoh, *of_brokers]
    assert row("the largest message")[:3] == ["64 MiB", "64 MiB", "32 MiB"]
    ports = row("ports")
    assert f"TCP {settings.DEFAULT_PORT}" in ports[1]
    assert f"TCP {nats.DEFAULT_PORT}" in ports[3]


def test_periods_are_those_of_the_code():
    """What the page gives in seconds is what is waited."""
    options = ReplicationOptions()
    silent = SUSPECT_HEARTBEATS * options.heartbeat_period
    hang = row("a process that hangs, or a cut, is seen by")
    assert hang[1].startswith(f"{settings.LEASE_PERIOD:g} s")
    assert hang[2] == hang[3] == f"three missed heartbeats: {silent:g} s"
    prose = " ".join(GUIDE.text.split())
    for said in (
        f"compare their numbers every {options.heartbeat_period:g} s",
        f"does not answer within {options.probe_grace:g} s",
        f"Silence of {options.down_period:g} s hides a node in any case",
        f"looked up again every {discovery.CHECK_INTERVAL:g} s",
        f"stays alone for {discovery.LONELY_PERIOD:g} s",
        f"notices within {broker.CHECK_INTERVAL + broker.SILENCE_TIMEOUT:g} s",
        f"about {nats.NatsAdapter.max_asked_count} nodes at a time",
        f"{Channel.shutdown_timeout:g} s in which handlers and `terminate` may finish",
    ):
        assert said in prose, said
    *delays, last = (f"{delay:g}" for delay in discovery._LOST_RETRY_DELAYS)
    assert f"{', '.join(delays)} and {last} s after the loss" in prose


def test_the_grace_periods_add_up():
    """What is given to each part is within what the table says to take."""
    total = re.search(r"The sum: (\d+) s for clients, (\d+) s .*?, (\d+) s for", GUIDE.text, re.S)
    assert total is not None
    assert sum(map(int, total.groups())) + 5 <= 30
