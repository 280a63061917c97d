"""Real servers on a free port of 127.0.0.1: in the test's own event loop, or in a process."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import psutil
import uvicorn

from roost import Endpoint

ROOT = Path(__file__).parents[1]

PLAIN = "websockets-sansio"
FAST = "roost.asgi.uvicorn:Protocol"
DEFLATING = "roost.asgi.uvicorn:DeflateProtocol"
DOOR = "roost.asgi.uvicorn:HttpProtocol"
WEBSOCKETS = PLAIN
"""What serves WebSockets on uvicorn; the fixture `each_path` sets it."""
HTTP = "auto"
"""What serves the rest, and reads the requests of both; so does that."""


@asynccontextmanager
async def run_uvicorn(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve `app` with uvicorn for the duration of the block.

    Args:
        app: The ASGI application; its lifespan runs, too.
        options: Of `uvicorn.Config`, for example `root_path="/api"`.

    Yields:
        The URL of the server, for example `http://127.0.0.1:41233`.

    Raises:
        StartFailed: The lifespan of the application failed to start.
    """
    options = {
        "http": HTTP,
        "ws": WEBSOCKETS,
        "log_config": None,
        "log_level": "warning",
        **options,
    }
    server = _Uvicorn(uvicorn.Config(app, **options))
    listener = _listen()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.started_or_failed.wait()
        if not server.started:
            raise StartFailed
        yield _url(listener)
    finally:
        server.stop.set()
        await serving
        listener.close()


class StartFailed(Exception):
    """A server did not start; the log says why."""


class _Uvicorn(uvicorn.Server):
    """uvicorn tells nobody when it has started, exits if it can't, and looks ten times a second
    whether it should stop: all of that is of no use in a test.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.started_or_failed = asyncio.Event()
        self.stop = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            self.should_exit = True
        self.started_or_failed.set()

    async def main_loop(self) -> None:
        await self.stop.wait()


@asynccontextmanager
async def run_hypercorn(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve `app` with hypercorn for the duration of the block; yields its URL.

    Args:
        app: The ASGI application; its lifespan runs, too.
        options: Of `hypercorn.Config`, for example `root_path="/api"`.
    """
    listener = _listen()
    url = _url(listener)
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]  # hypercorn closes it
    for name, value in options.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield url
    finally:
        stop.set()
        await serving


@asynccontextmanager
async def run_daphne(app: str) -> AsyncIterator[str]:
    """Serve an app with Daphne in a process of its own, without a lifespan; yields the URL.

    Args:
        app: The app as Daphne names it, for example `tests.asgi.daphne_app:app`.
    """
    with _listen() as listener:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), app),
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _url(listener)  # who connects before it has started waits in the backlog
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def run_process(
    app: str, *, log: int | None = None
) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Serve an app in a process of its own; yields the URL and the process.

    Args:
        app: The app as uvicorn names it, for example `examples.interop.app:app`.
        log: Where its stderr goes, for example `subprocess.DEVNULL`; by default to ours.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.serve", app, WEBSOCKETS, HTTP),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        yield url, psutil.Process(process.pid)
    finally:
        with suppress(ProcessLookupError):  # a test may have ended it
            process.terminate()
        await process.wait()


async def settled(endpoint: Endpoint) -> None:
    """Wait until the endpoint has noticed that all clients are gone, and has cleaned up."""
    async with asyncio.timeout(10):
        while endpoint.connection_count:  # noqa: ASYNC110
            await asyncio.sleep(0)  # servers do not tell
        await endpoint.hub.settled()


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
