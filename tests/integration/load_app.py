"""The app of the load test: rooms with presence, and a page that says what is open."""

import asyncio
import gc
from typing import Any

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from roost import Channel, ConnectInfo, Endpoint, Presence, Socket

online = Presence()
process = psutil.Process()


class RoomChannel(Channel):
    async def after_join(self) -> None:
        await online.enter(self, self.assigns["user_id"])


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        self.assigns["user_id"] = params["user_id"]

    def id(self) -> str:
        return f"users:{self.assigns['user_id']}"


endpoint = Endpoint({"/": UserSocket}, presences=[online])


async def stats(request: Request) -> Response:
    """What is open and in use now, once everything that ended has cleaned up."""
    await endpoint.hub.settled()
    await online.settled()
    rooms = [f"room:{number}" for number in range(int(request.query_params["rooms"]))]
    gc.collect()
    return JSONResponse(
        {
            "connections": endpoint.connection_count,
            "subscriptions": sum(len(endpoint.pubsub.subscriptions(each)) for each in rooms),
            "presences": sum(online.count_connections(each) for each in rooms),
            "dropped": dict(endpoint.counters),
            "tasks": len(asyncio.all_tasks()),
            "files": process.num_fds(),
            "objects": len(gc.get_objects()),
            "memory": process.memory_info().rss,
        }
    )


app = Starlette(
    lifespan=endpoint.lifespan, routes=[Route("/stats", stats), Mount("/socket", endpoint)]
)
