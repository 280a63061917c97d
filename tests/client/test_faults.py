"""What the network, the server and the machine do to clients: no duplicate, no ghost, no hang."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from roost.client import Channel, Client, Options
from tests.client.app import TIMEOUT
from tests.client.servers import Node, Proxy, running
from tests.engines import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds for what takes one or two on a quiet machine

FAST = Options(
    reconnect_delays=(0.02, 0.05, 0.1),
    rejoin_delays=(0.1,),
    heartbeat_interval=0.5,
    heartbeat_timeout=1.0,
)


@asynccontextmanager
async def people(*urls: str) -> AsyncIterator[list[Channel[dict[str, Any]]]]:
    """Alice, bob, carol and so on, each with a client of a URL, in ``room:1``."""
    clients = [
        Client(url, params={"name": name}, options=FAST)
        for url, name in zip(urls, ("alice", "bob", "carol"), strict=False)
    ]
    try:
        for client in clients:
            await client.connect()
        channels = [await client.join("room:1") for client in clients]
        await agree(channels)
        yield channels
    finally:
        for client in clients:
            await client.close()


async def agree(channels: list[Channel[dict[str, Any]]]) -> None:
    """Wait until each sees each exactly once."""
    names = ["alice", "bob", "carol"][: len(channels)]
    async with asyncio.timeout(PATIENCE):
        while not all(sees(channel, names) for channel in channels):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def sees(channel: Channel[dict[str, Any]], names: list[str]) -> bool:
    presence = channel.presence
    return (
        presence.is_synced and sorted(presence) == names and presence.connection_count == len(names)
    )


async def listed(node: Node) -> dict[str, int]:
    """The server's own list: metas of each key."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{node.http_url}/presences", params={"topic": "room:1"})
    return {key: len(entry["metas"]) for key, entry in answer.json().items()}


async def is_heard(channels: list[Channel[dict[str, Any]]]) -> None:
    """What one says now, each hears once."""
    streams = [channel.messages("shout") for channel in channels]
    await channels[0].push("echo", {})
    channels[0].push_nowait("shout", {"n": 1})
    channels[0].push_nowait("shout", {"n": 2})
    for stream in streams:
        heard = [(await stream.receive(PATIENCE)).payload["n"] for _ in range(2)]
        assert heard == [1, 2]
        stream.close()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGKILL], ids=["restarts", "is killed"])
async def test_the_server(by: signal.Signals):
    """Everybody comes back by themselves, once, and what waited meanwhile is sent."""
    node = Node()
    async with running(node), people(node.url, node.url) as channels:
        joins: list[Any] = []
        channels[0].on_join(joins.append)
        await node.end(by)
        waiting = asyncio.create_task(channels[0].push("echo", {"n": 7}, timeout=PATIENCE))
        await node.start()

        assert await waiting == {"n": 7}
        await agree(channels)
        await is_heard(channels)
        assert await listed(node) == {"alice": 1, "bob": 1}
        assert len(joins) == 1


async def test_it_restarts_again_and_again():
    """Nothing adds up."""
    node = Node()
    async with running(node), people(node.url, node.url) as channels:
        for by in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            await node.restart(by)
            await agree(channels)
        await is_heard(channels)


async def test_a_node_fails_over_to_another():
    """Of two nodes behind one address one is killed: its clients go to the other."""
    cluster = f"zenoh://127.0.0.1:{free_port()}"
    nodes = [Node(CLUSTER=cluster) for _ in "ab"]
    async with (
        running(*nodes),
        Proxy(nodes[0].port) as proxy,
        people(proxy.url, nodes[1].url) as channels,
    ):
        proxy.target = nodes[1].port
        await nodes[0].end(signal.SIGKILL)

        await agree(channels)
        await is_heard(channels)
        assert await listed(nodes[1]) == {"alice": 1, "bob": 1}


async def test_a_server_that_is_stopped_for_a_while():
    """Heartbeats are not answered; when it goes on, everybody is there once."""
    node = Node()
    async with running(node), people(node.url, node.url) as channels:
        node.send(signal.SIGSTOP)
        await asyncio.sleep(4 * FAST.heartbeat_interval)
        assert not any(channel.presence.is_synced for channel in channels)
        node.send(signal.SIGCONT)

        await agree(channels)
        await is_heard(channels)
        assert await listed(node) == {"alice": 1, "bob": 1}


async def test_a_connection_that_is_cut():
    """It is made again at once."""
    node = Node()
    async with (
        running(node),
        Proxy(node.port) as proxy,
        people(proxy.url, node.url) as channels,
    ):
        for count in range(1, 6):
            proxy.cut()
            await until(lambda count=count: proxy.connection_count > count)  # type: ignore[misc]
            await agree(channels)
        await is_heard(channels)


async def test_a_proxy_that_drops_silently():
    """No reply to a heartbeat says so; the server keeps a ghost until it notices, too."""
    node = Node()
    async with (
        running(node),
        Proxy(node.port) as proxy,
        people(proxy.url, node.url) as channels,
    ):
        proxy.is_silent = True
        async with asyncio.timeout(PATIENCE):
            while channels[0].presence.is_synced:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        proxy.is_silent = False

        await agree(channels)
        await is_heard(channels)
        assert await listed(node) == {"alice": 1, "bob": 1}


async def test_a_laptop_that_is_suspended():
    """A process that was stopped until the server gave it up comes back within seconds."""
    node = Node()
    async with running(node), people(node.url) as channels:
        laptop = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.client.laptop", node.url, "bob"),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert laptop.stdout is not None
            await told(laptop.stdout, "alice bob")

            laptop.send_signal(signal.SIGSTOP)
            changes = channels[0].presence.changes()
            async with asyncio.timeout(PATIENCE + TIMEOUT):
                while "bob" in channels[0].presence:
                    await changes.receive()
            laptop.send_signal(signal.SIGCONT)

            await told(laptop.stdout, "alice bob")
            async with asyncio.timeout(PATIENCE):
                while "bob" not in channels[0].presence:
                    await changes.receive()
            assert await listed(node) == {"alice": 1, "bob": 1}
        finally:
            laptop.kill()
            await laptop.wait()


async def told(lines: asyncio.StreamReader, expected: str) -> None:
    """Wait for a line."""
    async with asyncio.timeout(PATIENCE):
        async for line in lines:
            if line.decode().strip() == expected:
                return
    raise AssertionError("it ended")
