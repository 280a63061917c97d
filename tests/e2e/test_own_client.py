"""The demo on roost's own client, which an import map puts in place of phoenix."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.e2e.conftest import serving
from tests.e2e.server import Server
from tests.e2e.tabs import Tabs, shows

# What the demo does on phoenix it does here: these tests run again, on the server below.
from tests.e2e.test_demo import (  # noqa: F401
    test_a_cut_connection_leaves_and_comes_back,
    test_a_message_is_read_in_every_tab,
    test_a_message_that_is_too_long_is_given_back,
    test_a_reloaded_tab_is_counted_once,
    test_every_tab_follows_as_tabs_come_and_go,
    test_everybody_is_back_after_a_server_restart,
    test_what_happened_while_a_tab_was_cut_off_is_shown,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def server() -> AsyncIterator[Server]:
    """The demo on roost's own client."""
    async with serving("tests.e2e.own_client_app:app") as server:
        yield server


async def loaded(tab: Page) -> list[str]:
    """The scripts that a page has loaded."""
    names = "performance.getEntriesByType('resource').map(each => new URL(each.name).pathname)"
    return list(await tab.evaluate(names))


async def test_the_pages_load_no_other_client(tabs: Tabs, server: Server):
    """The page runs on our modules, and phoenix is not even loaded."""
    alice = await tabs.open(server.url + "/?name=Alice")
    await shows([alice], "Alice (1)")
    scripts = await loaded(alice)

    assert "/client/socket.js" in scripts
    assert "/phoenix.mjs" not in scripts
    assert tabs.errors == []


async def test_a_tab_that_comes_back_is_counted_once(tabs: Tabs, server: Server):
    """A tab leaves with its page, and is there again when somebody goes back to it."""
    alice = await tabs.open(server.url + "/?name=Alice")
    bob = await tabs.open(server.url + "/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await alice.goto("about:blank")
    await shows([bob], "Bob (1)")
    await alice.go_back()

    await shows([alice, bob], "Alice (1)", "Bob (1)")
