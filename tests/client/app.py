"""An app for the client: rooms with presences, tokens that expire, and a short patience."""

from __future__ import annotations

import os
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount as Path
from starlette.routing import Route

from roost import (
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    JoinRefused,
    Mount,
    Presence,
    PubSub,
    ReplyError,
    Socket,
    WebSocket,
    event,
)

__all__ = ["app", "endpoint", "online", "token"]

TIMEOUT = 3.0  # seconds after which a silent client is disconnected


def token(name: str, lasts: float = 60.0) -> str:
    """A token of somebody; a real one would be signed."""
    return f"{name} {time.time() + lasts}"


online = Presence()


class RoomChannel(Channel):
    """Everybody is present; what is said goes to all."""

    def join(self, topic: str, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("refuse"):
            raise JoinRefused({"reason": "not you"})
        return {"params": params}

    async def after_join(self) -> None:
        await online.enter(self, self.assigns["name"], {"device": "a", "since": time.time()})

    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)

    @event("echo")
    def echo(self, payload: Any) -> None:
        self.reply(payload)

    @event("refuse")
    def refuse(self, payload: Any) -> None:
        raise ReplyError(payload)

    @event("silence")
    def silence(self, payload: Any) -> None:
        pass

    @event("become")
    def become(self, payload: Any) -> dict[str, Any]:
        online.update(self, self.assigns["name"], payload)
        return {}

    @event("stop")
    def stop_normally(self, payload: Any) -> None:
        self.stop()

    @event("crash")
    def crash(self, payload: Any) -> None:
        raise RuntimeError("crash")

    @event("disconnect")
    def disconnect(self, payload: Any) -> None:
        endpoint.broadcast(f"users:{self.assigns['name']}", "disconnect")


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        name, _, expires_at = (info.auth_token or params.get("name", "")).partition(" ")
        if not name or (expires_at and time.time() >= float(expires_at)):
            raise ConnectRefused("no valid token")
        self.assigns["name"] = name

    def id(self) -> str:
        return f"users:{self.assigns['name']}"


endpoint = Endpoint(
    {"/": Mount(UserSocket, websocket=WebSocket(timeout=TIMEOUT), auth_token=True)},
    presences=[online],
    pubsub=PubSub(os.environ.get("CLUSTER") or "local"),
)


async def presences(request: Request) -> Response:
    """The server's list of a topic."""
    listed = await online.list(request.query_params["topic"])
    return Response(listed.encoded, media_type="application/json")


def kick(request: Request) -> Response:
    """Disconnect somebody."""
    endpoint.broadcast(f"users:{request.query_params['name']}", "disconnect")
    return JSONResponse({})


app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/presences", presences),
        Route("/kick", kick),
        Path("/socket", endpoint),
    ],
)
