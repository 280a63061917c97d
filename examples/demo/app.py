"""The demo: who is here, and a chat.

Run it with ``make demo`` and open http://localhost:4000/?name=Alice in two tabs and
http://localhost:4000/?name=Bob in a third: each shows "Alice (2)" and "Bob (1)", and follows as
tabs close. The other half is in ``static/app.js``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from roost import (
    Channel,
    Endpoint,
    InvalidKey,
    JoinRefused,
    Presence,
    ReplyError,
    Socket,
    event,
)

STATIC = Path(__file__).parent / "static"
PHOENIX = Path(__file__).parents[2] / "node_modules" / "phoenix" / "priv" / "static" / "phoenix.mjs"

MAX_NAME_LENGTH = 40  # characters; static/index.html has the same limits, to tell people early
MAX_MESSAGE_LENGTH = 500


class Online(Presence):
    """Who is in the room, in how many tabs."""


online = Online()


class RoomChannel(Channel):
    """One tab in the room."""

    def join(self, topic: str, params: dict[str, Any]) -> None:
        name = text(params, "name", MAX_NAME_LENGTH, JoinRefused)
        try:
            self.assigns["name"] = online.check_key(name)
        except InvalidKey as error:
            reason = f"{name} is a name that JavaScript keeps for itself."
            raise JoinRefused({"reason": reason}) from error

    async def after_join(self) -> None:
        await online.enter(self, self.assigns["name"], {"online_at": int(time.time())})

    @event("shout")
    def shout(self, payload: Any) -> dict[str, Any]:
        message = text(payload, "message", MAX_MESSAGE_LENGTH, ReplyError)
        self.broadcast("shout", {"name": self.assigns["name"], "message": message})
        return {}


class UserSocket(Socket):
    channels = {"room:lobby": RoomChannel}


def text(
    values: Any, field: str, max_length: int, refusal: type[JoinRefused] | type[ReplyError]
) -> str:
    """Take one text out of what a client sent, or refuse it in words that people can read."""
    value = values.get(field) if isinstance(values, dict) else None
    value = value.strip() if isinstance(value, str) else ""
    if not value:
        raise refusal({"reason": f"The {field} is empty."})
    if len(value) > max_length:
        raise refusal({"reason": f"The {field} is longer than {max_length} characters."})
    return value


def page(request: Request) -> FileResponse:
    if not PHOENIX.exists():
        return FileResponse(STATIC / "not_installed.html", status_code=503)
    return FileResponse(STATIC / "index.html")


endpoint = Endpoint({"/": UserSocket}, presences=[online])

app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/", page),
        Route("/phoenix.mjs", lambda request: FileResponse(PHOENIX)),
        Mount("/static", StaticFiles(directory=STATIC)),
        Mount("/socket", endpoint),
    ],
)
