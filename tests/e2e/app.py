"""The demo, and beside it pages on the same room with other clients of Phoenix."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.demo.app import app as demo
from examples.demo.app import endpoint

HERE = Path(__file__).parent
PHOENIX_V1 = HERE.parents[1] / "node_modules" / "phoenix-v1" / "priv" / "static" / "phoenix.js"

app = Starlette(
    lifespan=endpoint.lifespan,
    routes=[
        Route("/phoenix-v1.js", lambda request: FileResponse(PHOENIX_V1)),
        Mount("/pages", StaticFiles(directory=HERE / "pages", html=True)),
        Mount("/", demo),
    ],
)
