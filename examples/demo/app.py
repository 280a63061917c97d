"""The demo: rooms with a chat, friends, and a board; who is here, and who is away.

Run it with ``make demo`` and open http://localhost:4000/?name=Alice in two tabs and
http://localhost:4000/?name=Bob in a third: each shows "Alice (2)" and "Bob (1)", and follows as
tabs close. Each part is a file of its own, and so is its other half in ``static``.
"""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.demo.board import BoardChannel
from examples.demo.friends import FriendsChannel
from examples.demo.online import online, people
from examples.demo.rooms import RoomChannel
from examples.demo.visitors import VisitorsChannel, visitors
from roost import Endpoint, Socket

STATIC = Path(__file__).parent / "static"
PHOENIX = Path(__file__).parents[2] / "node_modules" / "phoenix" / "priv" / "static" / "phoenix.mjs"


class UserSocket(Socket):
    channels = {
        "room:*": RoomChannel,
        "board:main": BoardChannel,
        "friends:me": FriendsChannel,
        "visitors": VisitorsChannel,
    }


def page(request: Request) -> FileResponse:
    if not PHOENIX.exists():
        return FileResponse(STATIC / "not_installed.html", status_code=503)
    return FileResponse(STATIC / "index.html")


async def avatar(request: Request) -> Response:
    portrait = await people.portrait(request.path_params["name"])
    if portrait is None:
        return Response(status_code=404)
    headers = {"cache-control": "max-age=3600"}
    return Response(portrait, media_type="image/svg+xml", headers=headers)


endpoint = Endpoint({"/": UserSocket}, presences=[online, visitors])

app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/", page),
        Route("/board", page),
        Route("/avatars/{name}.svg", avatar),
        Route("/phoenix.mjs", lambda request: FileResponse(PHOENIX)),
        Mount("/static", StaticFiles(directory=STATIC)),
        Mount("/socket", endpoint),
    ],
)
