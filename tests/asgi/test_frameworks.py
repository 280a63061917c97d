"""The endpoint in and around other people's frameworks, on three servers."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import httpx
import litestar
import pytest
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import clear_url_caches, path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount as StarletteMount
from starlette.routing import Route

from roost import Channel, ConnectInfo, Endpoint, Socket, event
from roost.asgi.types import ASGIApp
from tests.clients import connect, refusal
from tests.servers import StartFailed, run_daphne, run_hypercorn, run_uvicorn

pytestmark = pytest.mark.usefixtures("each_path")


class RoomChannel(Channel):
    @event("ping")
    def ping(self, payload: Any) -> Any:
        return payload


class UserSocket(Socket):
    channels = {"room:*": RoomChannel}

    def connect(self, params: dict[str, Any], info: ConnectInfo) -> None:
        self.assigns["params"] = params


def at_root() -> Endpoint:
    return Endpoint({"/": UserSocket})


async def check(url: str, path: str) -> None:
    """A client can connect there, join, and be answered."""
    async with connect(url, path) as alice:
        assert await alice.join("room:1") == {}
        assert await alice.ask("room:1", "ping", {"n": 1}) == {"n": 1}


# In Starlette, FastAPI and Litestar.


@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_it_may_be_mounted_at_any_depth_in_starlette(root_path: str):
    """Mounted, nested, and with variables in the mount, below whatever root."""
    mounted = at_root()
    with_paths = Endpoint({"/a/:b": UserSocket})
    app = Starlette(
        lifespan=mounted.lifespan,
        routes=[
            StarletteMount("/socket", mounted),
            StarletteMount("/x", routes=[StarletteMount("/y/", mounted)]),
            StarletteMount("/with", with_paths),
        ],
    )
    async with run_uvicorn(app, root_path=root_path) as url:
        await check(url, "/socket")
        await check(url, "/socket/")
        await check(url, "/x/y")
        assert (await refusal(url, "/x")).status in (403, 404)
    async with with_paths.running(), run_uvicorn(app) as url:
        await check(url, "/with/a/1")


async def test_it_may_be_mounted_in_fastapi_and_in_an_application_inside_it():
    """Mounted in the application, and in an application inside it."""
    mounted = at_root()
    app = FastAPI(lifespan=mounted.lifespan)
    inner = FastAPI()
    inner.mount("/socket", mounted)
    app.mount("/socket", mounted)
    app.mount("/v1", inner)
    async with run_uvicorn(app) as url:
        await check(url, "/socket")
        await check(url, "/v1/socket")
    async with run_uvicorn(app, root_path="/prefix") as url:
        await check(url, "/v1/socket")


async def test_it_may_be_mounted_by_the_asgi_decorator_of_litestar():
    """Mounted by its decorator for ASGI applications."""
    mounted = at_root()
    handler = litestar.asgi("/socket", is_mount=True, copy_scope=True)(mounted)
    app = litestar.Litestar(
        route_handlers=[handler], lifespan=[mounted.lifespan], logging_config=None
    )
    async with run_uvicorn(app) as url:
        await check(url, "/socket")


# Around an application.


async def test_around_starlette_both_lifespans_run():
    """Both lifespans run, and what is for none of the sockets is the application's."""
    notes = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        notes.append("started")
        around.broadcast("room:1", "hello")  # runs already
        yield {"name": "alice"}
        around.broadcast("room:1", "goodbye")  # runs still
        notes.append("stopped")

    async def home(request: Request) -> Response:
        return JSONResponse({"name": request.state.name})

    app = Starlette(lifespan=lifespan, routes=[Route("/", home)])
    around = Endpoint({"/socket": UserSocket}, app=app)
    async with run_uvicorn(around) as url, httpx.AsyncClient() as http:
        await check(url, "/socket")
        assert (await http.get(url)).json() == {"name": "alice"}
        assert (await http.get(f"{url}/other")).status_code == 404
        assert (await refusal(url, "/other")).status in (403, 404)

    assert notes == ["started", "stopped"]


@pytest.mark.parametrize("step", ["start", "stop"])
async def test_around_an_application_that_fails(step: str, caplog: pytest.LogCaptureFixture):
    """Its failure is the server's to know, and ours is stopped all the same."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if step == "start":
            raise LookupError("no database")
        yield
        raise LookupError("database gone")

    around = Endpoint({"/socket": UserSocket}, app=Starlette(lifespan=lifespan))
    if step == "start":
        with pytest.raises(StartFailed):
            async with run_uvicorn(around):
                pass
    else:
        async with run_uvicorn(around) as url:
            await check(url, "/socket")

    assert not around.pubsub.is_running
    assert "LookupError: no database" in caplog.text or "database gone" in caplog.text
    assert "Application" in caplog.messages[-1]  # uvicorn's "Application startup failed", say


@pytest.fixture
def around_django() -> Iterator[Endpoint]:
    """An endpoint around a Django project with one view, which broadcasts from its thread."""
    import django
    from django.conf import settings  # can't be looked at before it is configured: no doctests

    def say(request: HttpRequest) -> HttpResponse:
        around.broadcast("room:1", "said", {"body": request.GET["body"]})
        return HttpResponse("said")

    urls = ModuleType("roost_test_urls")
    urls.urlpatterns = [path("say", say)]  # type: ignore[attr-defined]
    sys.modules[urls.__name__] = urls
    if not settings.configured:  # once in a process
        settings.configure(
            ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="secret", DEBUG=False
        )
        django.setup()
    clear_url_caches()
    around = Endpoint({"/socket": UserSocket}, app=get_asgi_application())
    yield around
    del sys.modules[urls.__name__]


async def test_around_django_views_may_broadcast(around_django: Endpoint):
    """Django has no lifespan and no WebSockets; its views may broadcast."""
    async with (
        run_uvicorn(around_django) as url,
        httpx.AsyncClient() as http,
        connect(url) as alice,
    ):
        await alice.join("room:1")

        response = await http.get(f"{url}/say?body=hi")

        assert (response.status_code, response.text) == (200, "said")
        assert await alice.receive("said") == {"body": "hi"}
        assert (await http.get(f"{url}/other")).status_code == 404


async def test_a_path_twice(caplog: pytest.LogCaptureFixture):
    """A socket at the path of its mount is at twice that path: the log says so, once."""
    app = FastAPI()
    app.mount("/socket", Endpoint({"/socket": UserSocket, "/admin": UserSocket}))
    async with run_uvicorn(app) as url:
        for _ in range(3):
            assert (await refusal(url, "/socket")).status in (403, 404)

    (message,) = [each for each in caplog.messages if "no socket" in each]
    assert message == (
        "no socket is at /socket/websocket: the paths of this endpoint are "
        "/socket/socket/websocket, /socket/admin/websocket; they are relative to where it is "
        "mounted: /socket, so take that off its own (refused 1 times)"
    )


async def test_a_path_that_is_none(caplog: pytest.LogCaptureFixture):
    """Whoever asks for another path is told nothing, but the log names those that there are."""
    async with run_uvicorn(Endpoint({"/socket": UserSocket})) as url:
        assert (await refusal(url, "/other")).status == 404

    (message,) = [each for each in caplog.messages if "no socket" in each]
    assert "the paths of this endpoint are /socket/websocket (refused 1 times)" in message


# On other servers.


@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_hypercorn_serves_it_by_plain_asgi(root_path: str, caplog: pytest.LogCaptureFixture):
    """Everything that is needed is plain ASGI."""
    app = Endpoint({"/socket": UserSocket})
    async with run_hypercorn(app, root_path=root_path) as url:
        async with connect(url) as alice, connect(url) as bob:
            assert await alice.join("room:1") == {}
            assert await bob.join("room:1") == {}
            assert await alice.ask("room:1", "ping", b"\x00") == b"\x00"
            await alice.websocket.send("no message")
            assert await alice.closed() == 1011
            assert await bob.heartbeat() == []
        assert (await refusal(url, vsn="3.0.0")).status == 403
        assert (await refusal(url, "/other")).status == 404
    assert not app.pubsub.is_running


async def test_a_restart_on_hypercorn():
    """A server that ends tells its clients, and the endpoint can start again."""
    app: ASGIApp = Endpoint({"/socket": UserSocket})
    for _ in range(2):
        async with asyncio.timeout(20), run_hypercorn(app) as url:
            await check(url, "/socket")


async def test_on_daphne_clients_get_other_close_codes_and_come_back():
    """It refuses the close codes that only servers send; the clients get others, and come back."""
    async with (
        run_daphne("tests.asgi.daphne_app:app") as url,
        connect(url) as alice,
        connect(url) as bob,
    ):
        await alice.join("room:1")
        await alice.websocket.send("no message")
        assert await alice.closed() == 4011

        await bob.join("room:1")
        await bob.push("room:1", "logout")
        assert await bob.closed() == 4001
