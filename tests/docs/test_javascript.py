"""docs/javascript.md: its page runs on the client, and does what it says it does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.docs.guide import ROOT, Guide
from tests.e2e.tabs import Tabs
from tests.servers import run_uvicorn

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = Guide("javascript.md")
SECTIONS = ["A page", "Await, or listen", "Counts", "Who and where", "Connections"]


async def test_the_page(tabs: Tabs, folder: Path):
    """All code of the page is one program: it joins, awaits, reads, counts, and sees who left."""
    static = folder / "static"
    shutil.copytree(ROOT / "clients" / "js", static / "roost")
    (static / "index.html").write_text(GUIDE.code("html", "A page"))
    (static / "app.js").write_text(GUIDE.code("js", *SECTIONS))
    async with run_uvicorn(GUIDE.run().app) as url:
        alice = await tabs.open(f"{url}/?name=alice")
        log = alice.locator("#log li")
        await expect(log).to_have_text(
            ["joined room:lobby", "error: say something", "alice: hello"]
        )
        await expect(alice.locator("main")).to_have_text("alice (active)")

        bob = await tabs.open(f"{url}/?name=bob")
        await expect(alice.locator("main")).to_have_text("alice (active), bob (active)")
        await expect(alice.locator("#count")).to_have_text("2 people, 2 tabs")
        await expect(alice).to_have_title("alice, bob")
        await expect(log.last).to_have_text("bob: hello")

        await bob.close()
        await expect(alice.locator("main")).to_have_text("alice (active)")
        await expect(log.last).to_have_text("bob left")
        await expect(alice.locator("#count")).to_have_text("1 people, 1 tabs")
        assert tabs.errors == []
