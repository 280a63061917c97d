"""An app for comparing roost with Phoenix and its clients: every kind of event, reply and ending.

Run it with ``make interop``. A Phoenix app of the same shape answers the same. From the environment
it takes CLUSTER, the URL of an adapter (auto), and NODE, the name of this node; WORKERS says how
many processes the server has, of which each is a node.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from roost import (
    Channel,
    ConnectInfo,
    ConnectRefused,
    Endpoint,
    InvalidKey,
    JoinRefused,
    Presence,
    PubSub,
    ReplyError,
    RoostError,
    Socket,
    event,
)


class Users(Presence):
    """Who is in which room."""


users = Users()


class RoomChannel(Channel):
    """``room:*``: presence, and every way to answer, push, broadcast and end."""

    @property
    def user_id(self) -> str:
        user_id: str = self.assigns["user_id"]
        return user_id

    def join(self, topic: str, params: dict[str, Any]) -> dict[str, Any] | None:
        match topic:
            case "room:forbidden":
                raise JoinRefused({"reason": "unauthorized"})
            case "room:boom":
                raise RuntimeError("boom")
            case "room:withreply":
                return {"echo": params}
        return None

    async def after_join(self) -> None:
        if self.topic != "room:withreply":
            await users.enter(self, self.user_id, {"online_at": int(time.time())})

    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)

    @event("shout_from")
    def shout_from(self, payload: Any) -> dict[str, Any]:
        self.broadcast_from("shout", payload)
        return {}

    @event("ping")
    def ping(self, payload: Any) -> None:
        self.reply(payload)

    @event("ping_err")
    def ping_err(self, payload: Any) -> None:
        raise ReplyError(payload)

    @event("ping_bare")
    def ping_bare(self, payload: Any) -> dict[str, Any]:
        return {}

    @event("push_me")
    def push_me(self, payload: Any) -> None:
        self.push("pushed", payload)

    @event("track")
    def track(self, payload: dict[str, Any]) -> dict[str, str]:
        key, meta = self._key_and_meta(payload)
        try:
            users.track(self, key, meta)
        except RoostError:
            return {"result": "error"}
        return {"result": "ok"}

    @event("untrack")
    def untrack(self, payload: dict[str, Any]) -> dict[str, Any]:
        key, _ = self._key_and_meta(payload)
        with suppress(RoostError):
            users.untrack(self, key)
        return {}

    @event("update_meta")
    def update_meta(self, payload: dict[str, Any]) -> dict[str, Any]:
        key, meta = self._key_and_meta(payload)
        with suppress(RoostError):
            users.update(self, key, meta)
        return {}

    @event("stop")
    def stop_normally(self, payload: Any) -> None:
        self.stop()

    @event("stop_shutdown")
    def stop_for_shutdown(self, payload: Any) -> dict[str, int]:
        self.stop("shutdown")
        return {"bye": 1}

    @event("crash")
    def crash(self, payload: Any) -> None:
        raise RuntimeError("crash")

    def _key_and_meta(self, payload: Any) -> tuple[str, dict[str, Any]]:
        if not isinstance(payload, dict):
            raise ReplyError({"reason": "expected an object"})
        key = payload.get("key")
        meta = {name: value for name, value in payload.items() if name != "key"}
        return self.user_id if key is None else key, meta


class PlainChannel(Channel):
    """``plain:*``: no presence."""

    @event("shout")
    def shout(self, payload: Any) -> None:
        self.broadcast("shout", payload)

    @event("ping")
    def ping(self, payload: Any) -> None:
        self.reply(payload)


class UserSocket(Socket):
    channels = {"room:*": RoomChannel, "plain:*": PlainChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        match params.get("reject"):
            case "error":
                raise ConnectRefused
            case "reason":
                raise ConnectRefused("rejected")
        try:
            self.assigns["user_id"] = users.check_key(params.get("user_id") or secrets.token_hex(6))
        except InvalidKey as error:
            raise ConnectRefused(error) from error

    def id(self) -> str:
        return f"users_socket:{self.assigns['user_id']}"


def node_name() -> str | None:
    """NODE; the workers of one server have a name each."""
    name = os.environ.get("NODE")
    if name and int(os.environ.get("WORKERS", "1")) > 1:
        return f"{name}-{os.getpid()}"
    return name or None


pubsub = PubSub(os.environ.get("CLUSTER") or "auto", node_name=node_name())
endpoint = Endpoint({"/": UserSocket}, presences=[users], pubsub=pubsub, check_origin=False)


def param(request: Request, name: str) -> str:
    """One query parameter; without it the answer is 400."""
    value = request.query_params.get(name)
    if value is None:
        raise HTTPException(400, f"{name} is missing")
    return value


def disconnect(request: Request) -> Response:
    endpoint.broadcast(f"users_socket:{param(request, 'user_id')}", "disconnect")
    return JSONResponse({"ok": True})


def broadcast(request: Request) -> Response:
    endpoint.broadcast(param(request, "topic"), param(request, "event"), {"from": "server"})
    return JSONResponse({"ok": True})


def broadcast_bin(request: Request) -> Response:
    data = b"\x01\x02\x03\xff"
    endpoint.broadcast(param(request, "topic"), param(request, "event"), data)
    return JSONResponse({"ok": True})


async def presence(request: Request) -> Response:
    presences = await users.list(param(request, "topic"))
    if request.query_params.get("full") == "1":
        return Response(presences.encoded, media_type="application/json")
    return JSONResponse({key: len(entry["metas"]) for key, entry in presences.items()})


async def count(request: Request) -> Response:
    topic = param(request, "topic")
    return JSONResponse(
        {"users": users.count_users(topic), "connections": users.count_connections(topic)}
    )


def nodes(request: Request) -> Response:
    return JSONResponse({"name": pubsub.replicator.node_name, "nodes": pubsub.node_names})


def health(request: Request) -> Response:
    return JSONResponse(endpoint.health())


app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/disconnect", disconnect),
        Route("/broadcast", broadcast),
        Route("/broadcast_bin", broadcast_bin),
        Route("/presence", presence),
        Route("/count", count),
        Route("/nodes", nodes),
        Route("/health", health),
        Mount("/socket", endpoint),
    ],
)
