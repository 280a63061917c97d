"""Random histories of clients and a server: at every quiet point all lists are the server's."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from random import Random
from typing import Any

import pytest

from roost import Channel, Endpoint, Policy, Presence, PubSub, Socket, event
from roost import Mount as SocketMount
from roost.asgi import WebSocket
from roost.client import Channel as ClientChannel
from roost.client import Client, ClientError, Options
from tests.client.servers import Proxy
from tests.fresh_seeds import first_of_commit
from tests.servers import run_uvicorn

PATIENCE = 30.0  # seconds until a quiet point; it takes one or two
STEPS = 30
NAMES = ("alice", "bob", "carol", "dave", "erin")
TOPICS = ("room:1", "room:2")

OPTIONS = Options(
    reconnect_delays=(0.01, 0.03),
    rejoin_delays=(0.02,),
    join_timeout=0.5,
    heartbeat_interval=0.3,
    heartbeat_timeout=0.6,
)


class Online(Presence):
    policies = {"room:2": Policy(diff_period=0.02)}


class Scene:
    """A server, clients that each have a way of their own to it, and a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.clients: list[Client] = []
        self.proxies: list[Proxy] = []
        self.rooms: dict[tuple[int, str], ClientChannel[dict[str, Any]]] = {}
        self.online = online = Online()

        class RoomChannel(Channel):
            async def after_join(self) -> None:
                await online.enter(self, self.assigns["name"], {"n": 0})

            @event("become")
            def become(self, payload: Any) -> None:
                online.update(self, self.assigns["name"], payload)

            @event("crash")
            def crash(self, payload: Any) -> None:
                raise RuntimeError("crash")

        class UserSocket(Socket):
            channels = {"room:*": RoomChannel}

            def connect(self, params: Any, info: Any) -> None:
                self.assigns["name"] = params["name"]

            def id(self) -> str:
                return f"users:{self.assigns['name']}"

        self.endpoint = Endpoint(
            {"/socket": SocketMount(UserSocket, websocket=WebSocket(timeout=1.0))},
            presences=[online],
            pubsub=PubSub("local"),
        )

    async def step(self) -> None:
        """Something happens."""
        number = self.rng.randrange(len(self.clients))
        topic = self.rng.choice(TOPICS)
        room = self.rooms.get((number, topic))
        match self.rng.randrange(9):
            case 0 | 1 | 2:
                if room is None:
                    await self._join(number, topic)
                elif self.rng.random() < 0.5:
                    del self.rooms[number, topic]
                    leaving = room.leave()
                    await (leaving if self.rng.random() < 0.5 else _start(leaving))
            case 3 | 4:
                if room is not None:
                    room.push_nowait("become", {"n": self.rng.randrange(100)})
            case 5:
                if room is not None:
                    room.push_nowait("crash")
            case 6:
                self.proxies[number].cut()
            case 7:
                self.endpoint.broadcast(f"users:{self.rng.choice(NAMES)}", "disconnect")
            case 8:
                proxy = self.proxies[number]
                proxy.is_silent = not proxy.is_silent
        await asyncio.sleep(self.rng.choice((0, 0.001, 0.01, 0.05)))

    async def quiet(self) -> None:
        """Let all come to rest, and compare every list with the server's."""
        for proxy in self.proxies:
            proxy.is_silent = False
        try:
            async with asyncio.timeout(PATIENCE):
                while await self._differences():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(await self._differences()) from None

    async def _join(self, number: int, topic: str) -> None:
        try:
            self.rooms[number, topic] = await self.clients[number].join(topic)
        except ClientError:
            pass  # it was cut off, and no better time comes within the timeout

    async def _differences(self) -> list[Any]:
        wrong: list[Any] = []
        for topic in TOPICS:
            listed = await self.online.list(topic)
            server = {key: refs(entry) for key, entry in listed.items()}
            present = [number for number, joined in self.rooms if joined == topic]
            if sum(map(len, server.values())) != len(present):
                wrong.append((topic, "the server has", server, "of", present))
            for number in present:
                presence = self.rooms[number, topic].presence
                mirror = {key: refs(presence.entry(key)) for key in presence}
                if not presence.is_synced or mirror != server:
                    wrong.append((topic, NAMES[number], mirror, server))
        return wrong


def refs(entry: Any) -> set[tuple[str, int]]:
    """What an entry has, whatever the order."""
    return {(meta["phx_ref"], meta["n"]) for meta in entry["metas"]}


_started: set[asyncio.Task[None]] = set()


async def _start(coroutine: Any) -> None:
    """Go on without waiting."""
    task = asyncio.create_task(coroutine)
    _started.add(task)
    task.add_done_callback(_started.discard)


async def play(seed: int) -> None:
    """One history."""
    scene = Scene(seed)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(run_uvicorn(scene.endpoint))
        for number, name in enumerate(NAMES):
            proxy = await stack.enter_async_context(Proxy(int(url.rpartition(":")[2])))
            client = Client(
                proxy.url, params={"name": name}, options=OPTIONS, rng=Random(seed + number)
            )
            await stack.enter_async_context(client)
            scene.proxies.append(proxy)
            scene.clients.append(client)
        for _ in range(2):
            for _ in range(STEPS):
                await scene.step()
            await scene.quiet()


FIXED = range(1)
FRESH = range(first_of_commit(), first_of_commit() + 1)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seeds", [FIXED, FRESH], ids=["fixed", "fresh"])
async def test_all_lists_are_the_servers_at_every_quiet_point(seeds: range):
    """Whatever was cut, crashed, left and joined: nobody is missing, and nobody is there twice."""
    for seed in seeds:
        sys.stdout.write(f"seed {seed}\n")
        await play(seed)
