"""Tabs of one room on different nodes: they show what tabs on one node show."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.e2e.tabs import Tabs, picture, reads, shows, speaks
from tests.engines import NatsServer, RedisServer, free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
TIMEOUT = 30.0  # seconds to start, and to stop


class Served:
    """Uvicorn with the demo on a free port; one process, or some workers."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.port = free_port()
        self._arguments = arguments
        self._environ = {**os.environ, **environ}
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", *self._arguments),
            *("--port", str(self.port), "--log-level", "warning"),
            cwd=ROOT,
            env=self._environ,
        )
        await comes_true(self._answers)

    async def stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), TIMEOUT)
        except TimeoutError:
            process.kill()
            raise

    def workers(self) -> list[psutil.Process]:
        """The processes that serve, as the operating system sees them."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    def connection_count(self, worker: psutil.Process) -> int:
        """How many connections of clients a worker holds."""
        return sum(
            connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == self.port
            for connection in worker.net_connections("tcp")
        )

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            assert self._process is not None
            assert self._process.returncode is None, "it ended"
            return False
        writer.close()
        return True


async def comes_true(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells of; it may be a coroutine function."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            answer = condition()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(*servers: Served) -> AsyncIterator[None]:
    """Servers that run for the duration of the block."""
    try:
        for server in servers:
            await server.start()
        yield
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


@asynccontextmanager
async def halted(*processes: psutil.Process) -> AsyncIterator[None]:
    """Processes that do nothing during the block; short enough for nobody to mind."""
    try:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


async def follows(first: Page, second: Page, bob: Page, name: str) -> None:
    """The scenario of three tabs: Alice twice and Bob, whose tabs close one after the other."""
    everybody = [first, second, bob]
    await shows(everybody, "Alice (2)", "Bob (1)")
    await picture(name, *everybody)
    await speaks(bob, "Hello, Alice.")
    await reads(everybody, "Hello, Alice.")

    await first.close()
    await shows([second, bob], "Alice (1)", "Bob (1)")

    await second.close()
    await shows([bob], "Bob (1)")


@pytest_asyncio.fixture(loop_scope="session")
async def windows(browser: Browser) -> AsyncIterator[list[Tabs]]:
    """Three windows of one browser that share nothing."""
    contexts = [await browser.new_context(viewport={"width": 900, "height": 600}) for _ in "abc"]
    yield [Tabs(context) for context in contexts]
    for context in contexts:
        await context.close()


async def test_tabs_on_different_workers_of_one_machine(windows: list[Tabs]):
    """With three workers and nothing configured, three tabs on three workers see each other."""
    options = ("--workers", "3", "--timeout-worker-healthcheck", "60")  # we halt them
    server = Served("examples.demo.app:app", *options)
    async with serving(server):
        await comes_true(lambda: len(server.workers()) == 3)
        workers = server.workers()
        pages = []
        for worker, window, name in zip(workers, windows, ("Alice", "Alice", "Bob"), strict=True):
            async with halted(*(other for other in workers if other is not worker)):
                # In a window of its own, a page takes no connection over from another one.
                page = await window.open(f"{server.url}/?name={name}")
                await expect(page.get_by_role("status")).to_have_text("Online")
            pages.append(page)
        assert all(server.connection_count(worker) for worker in workers)

        await follows(pages[0], pages[1], pages[2], "workers")
        assert [window.errors for window in windows] == [[], [], []]


@pytest_asyncio.fixture(loop_scope="session", params=["zenoh", "redis", "nats"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """An engine, and the URL that leads to it."""
    if request.param == "zenoh":
        yield "zenoh", f"zenoh://127.0.0.1:{free_port()}"
        return
    engine = RedisServer(tmp_path) if request.param == "redis" else NatsServer(tmp_path)
    with engine:
        yield request.param, f"{request.param}://127.0.0.1:{engine.port}"


async def test_tabs_on_different_nodes(tabs: Tabs, cluster: tuple[str, str]):
    """Three tabs on three nodes see each other through any engine."""
    engine, url = cluster
    servers = [Served("tests.e2e.node_app:app", CLUSTER=url) for _ in range(3)]
    async with serving(*servers):
        pages = [
            await tabs.open(f"{server.url}/?name={name}")
            for server, name in zip(servers, ("Alice", "Alice", "Bob"), strict=True)
        ]

        await follows(pages[0], pages[1], pages[2], f"nodes-{engine}")
        assert tabs.errors == []
