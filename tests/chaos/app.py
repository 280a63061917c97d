"""A node of a cluster in the chaos tests: rooms with presence, and a storm of changes.

From the environment it takes CLUSTER, the URL of an adapter, NODE, the name of this node, and
PERIODS, the periods of replication as JSON; those that are left out have their defaults.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from roost import Channel, Endpoint, Presence, PubSub, Socket
from roost.tracker.options import ReplicationOptions

__all__ = ["app"]

BATCH = 500  # changes of a storm until the loop has its turn


class Users(Presence):
    """Who is in which room."""


users = Users()


class RoomChannel(Channel):
    """``room:*``: each connection is present under the name and the meta that it gives."""

    def join(self, topic: str, params: dict[str, Any]) -> None:
        self.assigns["name"], self.assigns["meta"] = params["name"], params["meta"]

    async def after_join(self) -> None:
        await users.enter(self, self.assigns["name"], self.assigns["meta"])


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}


pubsub = PubSub(
    os.environ.get("CLUSTER"),
    node_name=os.environ.get("NODE"),
    replication=msgspec.json.decode(os.environ.get("PERIODS", "{}"), type=ReplicationOptions),
)
endpoint = Endpoint({"/": UserSocket}, presences=[users], pubsub=pubsub, check_origin=False)
storms: list[asyncio.Task[None]] = []


async def storm(request: Request) -> JSONResponse:
    """Track and untrack ``changes`` times, and return; the last ``kept`` stay until ``calm``."""
    changes, kept = (int(request.query_params[name]) for name in ("changes", "kept"))
    done = asyncio.Event()

    async def blow() -> None:
        owner = asyncio.current_task()
        assert owner is not None
        track_count = (changes + kept) // 2
        for number in range(track_count):
            users.track(owner, f"user-{number}", {"number": number}, topic="room:storm")
            if number >= kept:
                users.untrack(owner, f"user-{number - kept}", topic="room:storm")
            if number % BATCH == 0:
                await asyncio.sleep(0)
        done.set()
        await asyncio.Event().wait()

    storms.append(asyncio.create_task(blow()))
    await done.wait()
    return JSONResponse({})


async def calm(request: Request) -> JSONResponse:
    """End the storm; nobody of it is present any more."""
    while storms:
        storms.pop().cancel()
    return JSONResponse({})


def count(request: Request) -> JSONResponse:
    return JSONResponse(users.count_connections(request.query_params["topic"]))


def health(request: Request) -> JSONResponse:
    return JSONResponse(endpoint.health())


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Log what happens between nodes, with the time, and run the endpoint."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # the adapter says it all
    async with endpoint.running():
        yield


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/storm", storm, methods=["POST"]),
        Route("/calm", calm, methods=["POST"]),
        Route("/count", count),
        Route("/health", health),
        Mount("/socket", endpoint),
    ],
)
