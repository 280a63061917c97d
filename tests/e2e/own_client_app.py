"""The demo, whose pages import roost's own client under the name of phoenix."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.demo.app import STATIC, endpoint
from examples.demo.app import app as demo

CLIENT = Path(__file__).parents[2] / "clients" / "js"
PHOENIX, OURS = '"phoenix": "/phoenix.mjs"', '"phoenix": "/client/index.js"'


def page(request: Request) -> HTMLResponse:
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    assert html.count(PHOENIX) == 1
    return HTMLResponse(html.replace(PHOENIX, OURS))


app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/", page),
        Route("/board", page),
        Mount("/client", StaticFiles(directory=CLIENT)),
        Mount("/", demo),
    ],
)
