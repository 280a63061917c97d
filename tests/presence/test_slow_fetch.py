"""Lists under a slow fetch: whoever comes and goes meanwhile, everybody agrees in the end."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from roost import Channel, Endpoint, Presence, Socket, event
from roost.presence.owners.owner import Lease
from tests.fresh_seeds import seeds_of_commit
from tests.models.phoenix_presence import Rules
from tests.presence.phoenix_client import PhoenixClient
from tests.virtual_clock import run_virtually

TOPIC = "room:1"
RULES: tuple[Rules, ...] = ("1.2", "1.4", "1.8")


def make_app(rng: Random, *, fetches: bool) -> tuple[Endpoint, Presence, type[Socket]]:
    class AsTracked(Presence):
        pass

    class Fetched(Presence):
        async def fetch(self, topic: str, presences: Any) -> Any:
            await asyncio.sleep(rng.choice((0.0, 0.1, 0.3)))
            return {key: {**entry, "name": key.title()} for key, entry in presences.items()}

    online: Presence = Fetched() if fetches else AsTracked()

    class RoomChannel(Channel):
        async def join(self, topic: str, params: Any) -> None:
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.05, 0.5)))
            self.assigns.update(params)

        async def after_join(self) -> None:
            match self.assigns["order"]:
                case "enter":
                    await online.enter(self, self.assigns["name"], {"n": 1})
                case "track first":
                    online.track(self, self.assigns["name"], {"n": 1})
                    self.push("presence_state", await online.list(self.topic))
                case "list first":
                    self.push("presence_state", await online.list(self.topic))
                    online.track(self, self.assigns["name"], {"n": 1})
                case "late":
                    await asyncio.sleep(rng.random() / 2)
                    self.push("presence_state", await online.list(self))

        @event("crash")
        def crash(self, payload: Any) -> None:
            raise RuntimeError("crash")

    class UserSocket(Socket):
        channels = {"room:*": RoomChannel}

    return Endpoint({"/": UserSocket}, presences=[online]), online, UserSocket


async def play(seed: int, *, fetches: bool) -> None:
    rng = Random(seed)
    endpoint, online, socket = make_app(rng, fetches=fetches)
    others: list[Lease] = []
    clients: list[PhoenixClient] = []

    def act() -> None:
        match rng.randrange(12):
            case 0 | 1 | 2:
                lease = Lease(online, TOPIC, rng.choice("abcdef"))
                online.track(lease, lease.key, {"n": 0}, topic=TOPIC)
                others.append(lease)
            case 3 | 4 if others:
                others.pop(rng.randrange(len(others))).end()
            case 5 if others:
                rng.choice(others).update({"n": rng.randrange(100)})
            case 6 | 7 if len(clients) < 6:
                order = rng.choice(("enter", "track first", "list first", "late"))
                params = {"name": rng.choice("xyz"), "order": order}
                rules = rng.choice(RULES)
                clients.append(PhoenixClient(endpoint, socket, TOPIC, rng, params, rules))
                clients[-1].join()
            case _ if clients:
                client = rng.choice(clients)
                if client.state == "joining" and rng.random() < 0.5:
                    client.give_up_join()
                elif client.state == "errored":
                    client.join()
                else:
                    match rng.randrange(6):
                        case 0:
                            client.join()
                        case 1:
                            client.leave_and_come_back()
                        case 2:
                            client.lose_connection()
                        case 3:
                            client.leave_for_good()
                            clients.remove(client)

    async with endpoint.running():
        for _ in range(80):
            act()
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.01, 0.06, 0.3)))
        for client in clients:
            if client.state == "errored":
                client.join()
        await asyncio.sleep(10)

        expected = refs(await online.list(TOPIC))
        for number, client in enumerate(clients):
            assert client.state == "joined", f"client {number} is {client.state}"
            assert not client.is_pending
            assert refs(client.presence.state) == expected, f"client {number}"
            if fetches:
                for key in expected:
                    assert client.presence.state[key]["name"] == key.title()
        for client in clients:
            client.leave_for_good()
        for lease in others:
            lease.end()
        await online.settled()
        assert online.count_connections(TOPIC) == 0


def refs(presences: Any) -> dict[str, set[str]]:
    """Key → refs: what two lists must have in common."""
    return {key: {meta["phx_ref"] for meta in presences[key]["metas"]} for key in presences}


@pytest.mark.parametrize("fetches", [True, False], ids=["slow fetch", "no fetch"])
def test_every_clients_list_ends_as_the_servers(fetches: bool) -> None:
    """Whatever clients and others do meanwhile, each client ends with the server's list."""
    for seed in (*range(200), *seeds_of_commit(100)):
        try:
            run_virtually(play(seed, fetches=fetches))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
