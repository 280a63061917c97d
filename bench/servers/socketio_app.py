"""python-socketio on ASGI: rooms, acknowledged events, WebSocket only."""

from __future__ import annotations

from typing import Any

import socketio

# Its pings are so far apart that none comes while something is measured.
server = socketio.AsyncServer(
    async_mode="asgi",
    transports=["websocket"],
    cors_allowed_origins="*",
    ping_interval=600,
    http_compression=False,
)
app = socketio.ASGIApp(server)


async def join(sid: str, topic: str) -> dict[str, Any]:
    await server.enter_room(sid, topic)
    return {}


async def shout(sid: str, topic: str, payload: Any) -> None:
    await server.emit("shout", payload, room=topic)


async def ping(sid: str, topic: str, payload: Any) -> Any:
    return payload


for handler in (join, shout, ping):
    server.on(handler.__name__, handler)
