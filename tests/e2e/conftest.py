"""A real Chromium, and servers for its pages."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.e2e.server import Link, Server
from tests.e2e.tabs import Tabs

# Chromium is to load the pages and do nothing else: what it looks up by itself would fail, and
# take its time, on a machine without a way to the internet.
ARGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A Chromium for all tests; each has a window of its own."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium,
            args=ARGS,
            chromium_sandbox=not is_root,  # Chromium refuses to start as root with its sandbox
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(browser: Browser) -> AsyncIterator[Tabs]:
    """A window in which to open tabs."""
    context = await browser.new_context(viewport={"width": 900, "height": 600})
    yield Tabs(context)
    await context.close()


@asynccontextmanager
async def serving(app: str) -> AsyncIterator[Server]:
    """A server that stops in the end, and has logged no error."""
    server = Server(app)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
    assert "Traceback" not in server.log, server.log


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    """The demo, and the pages of older clients beside it."""
    async with serving("tests.e2e.app:app") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def crowded_server() -> AsyncIterator[Server]:
    """The demo, with rooms that four people crowd."""
    async with serving("tests.e2e.crowded_app:app") as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def link(server: Server) -> AsyncIterator[Link]:
    """A way to the server that can be cut."""
    link = Link(server)
    await link.start()
    yield link
    await link.stop()
