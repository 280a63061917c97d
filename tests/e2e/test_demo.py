"""The demo in a real browser: who is here, through everything that happens to tabs and servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from examples.demo import app as demo
from tests.e2e.server import Link, Server
from tests.e2e.tabs import Tabs, picture, reads, shows, speaks

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALICE, BOB = "/?name=Alice", "/?name=Bob"


async def three_tabs(tabs: Tabs, server: Server, link: Link | None = None) -> list[Page]:
    """Open the demo as Alice, as Alice and as Bob; the first one through a link, if given."""
    first = await tabs.open((link or server).url + ALICE)
    return [first, await tabs.open(server.url + ALICE), await tabs.open(server.url + BOB)]


async def is_in_state(tab: Page, state: str) -> None:
    await expect(tab.get_by_role("status")).to_have_text(state)


async def test_every_tab_follows_as_tabs_come_and_go(tabs: Tabs, server: Server):
    """Alice (2) and Bob (1) are shown everywhere, then Alice (1), then Bob alone."""
    first, second, bob = await three_tabs(tabs, server)
    await shows([first, second, bob], "Alice (2)", "Bob (1)")
    await picture("three-tabs", first, second, bob)

    await first.close()
    await shows([second, bob], "Alice (1)", "Bob (1)")
    await picture("one-alice-closed", second, bob)

    await second.close()
    await shows([bob], "Bob (1)")
    await picture("both-alices-closed", bob)

    assert tabs.errors == []


async def test_a_reloaded_tab_is_counted_once(tabs: Tabs, server: Server):
    """A tab that reloads leaves and comes back; the list ends as it was."""
    first, second, bob = everybody = await three_tabs(tabs, server)
    await shows(everybody, "Alice (2)", "Bob (1)")

    await first.reload()
    await bob.reload()
    await is_in_state(first, "Online")
    await is_in_state(bob, "Online")
    await shows(everybody, "Alice (2)", "Bob (1)")

    # Whoever was left behind would still be here now.
    await second.close()
    await shows([first, bob], "Alice (1)", "Bob (1)")
    assert tabs.errors == []


async def test_a_cut_connection_leaves_and_comes_back(tabs: Tabs, server: Server, link: Link):
    """A tab whose connection dies leaves, says that it reconnects, and is back by itself."""
    first, second, bob = everybody = await three_tabs(tabs, server, link)
    await shows(everybody, "Alice (2)", "Bob (1)")

    link.cut()
    await is_in_state(first, "Reconnecting…")
    await shows([second, bob], "Alice (1)", "Bob (1)")
    await picture("connection-cut", first, second, bob)

    link.mend()
    await is_in_state(first, "Online")
    await shows(everybody, "Alice (2)", "Bob (1)")


async def test_what_happened_while_a_tab_was_cut_off_is_shown(
    tabs: Tabs, server: Server, link: Link
):
    """A tab that was cut off shows who came and left meanwhile, once it is back."""
    first, second, bob = await three_tabs(tabs, server, link)
    await shows([first, second, bob], "Alice (2)", "Bob (1)")

    link.cut()
    await is_in_state(first, "Reconnecting…")
    await bob.close()
    carol = await tabs.open(f"{server.url}/?name=Carol")
    await shows([second, carol], "Alice (1)", "Carol (1)")
    await shows([first], "Alice (2)", "Bob (1)")  # as it was when the connection died

    link.mend()
    await shows([first, second, carol], "Alice (2)", "Carol (1)")


async def test_everybody_is_back_after_a_server_restart(tabs: Tabs, server: Server):
    """When the server is killed and started again, all tabs find each other by themselves."""
    everybody = await three_tabs(tabs, server)
    await shows(everybody, "Alice (2)", "Bob (1)")

    await server.kill()
    for tab in everybody:
        await is_in_state(tab, "Reconnecting…")
    await picture("server-killed", *everybody)

    await server.start()
    for tab in everybody:
        await is_in_state(tab, "Online")
    await shows(everybody, "Alice (2)", "Bob (1)")
    await picture("server-restarted", *everybody)

    await everybody.pop(0).close()
    await shows(everybody, "Alice (1)", "Bob (1)")


async def test_a_message_is_read_in_every_tab(tabs: Tabs, server: Server):
    """What one tab says appears in all, in the same order, under the name of who said it."""
    first, second, bob = everybody = await three_tabs(tabs, server)
    await shows(everybody, "Alice (2)", "Bob (1)")

    await speaks(first, "Hello!")
    await reads(everybody, "Hello!")
    await speaks(bob, "Hello, Alice.")
    await reads(everybody, "Hello!", "Hello, Alice.")

    await expect(second.locator("#messages b")).to_have_text(["Alice", "Bob"])
    await picture("chat", *everybody)
    assert tabs.errors == []


async def test_html_is_shown_as_text(tabs: Tabs, server: Server):
    """Markup in names and messages is text in every tab, and nothing in it runs."""
    script = "<img src=x onerror=\"document.title='run'\"><b>bold</b>"
    mallory = await tabs.open(f"{server.url}/?name=<i>Mallory</i>")
    bob = await tabs.open(server.url + BOB)
    await shows([mallory, bob], "<i>Mallory</i> (1)", "Bob (1)")

    await speaks(mallory, script)
    await reads([mallory, bob], script)
    await picture("html", mallory, bob)

    for tab in (mallory, bob):
        await expect(tab.locator("#online i, #messages img, #messages p b")).to_have_count(0)
        assert "roost demo" in await tab.title()
    assert tabs.errors == []


async def test_a_message_that_is_too_long_is_given_back(tabs: Tabs, server: Server):
    """The server refuses a message that is too long; the tab says so and keeps the text."""
    alice = await tabs.open(server.url + ALICE)
    await shows([alice], "Alice (1)")
    field = alice.get_by_label("Message")
    await field.evaluate("field => field.maxLength = 10_000")

    await speaks(alice, "o" * 501)
    await expect(alice.get_by_role("alert")).to_contain_text("longer than 500 characters")
    await expect(field).to_have_value("o" * 501)
    await picture("message-refused", alice)

    await speaks(alice, "Oh.")
    await reads([alice], "Oh.")
    await expect(alice.locator("#message-error")).to_be_empty()


async def test_a_page_without_a_name_asks_for_it(tabs: Tabs, server: Server):
    """The form takes a name, and its owner is in the room under it."""
    tab = await tabs.open(server.url)
    await picture("form", tab)
    await tab.get_by_label("Your name").fill("Alice & Bob")
    await tab.get_by_role("button", name="Enter").click()

    await shows([tab], "Alice & Bob (1)")
    await is_in_state(tab, "Online")
    assert tabs.errors == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [("o" * 41, "The name is longer than 40 characters."), ("__proto__", "keeps for itself")],
)
async def test_a_name_that_is_refused_is_asked_for_again(
    name: str, reason: str, tabs: Tabs, server: Server
):
    """A tab with a name that the server refuses says why, and asks for another one."""
    tab = await tabs.open(f"{server.url}/?name={name}")

    await expect(tab.get_by_role("alert")).to_contain_text(reason)
    await expect(tab.get_by_label("Your name")).to_have_value(name)
    await picture(f"name-refused-{len(name)}", tab)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_its_window(
    scheme: Literal["light", "dark"], browser: Browser, server: Server
):
    """Nothing scrolls sideways or drops out of the window, be it narrow or wide."""
    context = await browser.new_context(color_scheme=scheme)
    tabs = Tabs(context)
    alice, _, bob = await three_tabs(tabs, server)
    await speaks(alice, "Hello! Is somebody here?")
    await speaks(bob, "I am.")
    await reads([alice], "Hello! Is somebody here?", "I am.")
    for width, height in ((1280, 720), (375, 667)):
        await alice.set_viewport_size({"width": width, "height": height})
        await picture(f"window-{width}-{scheme}", alice)

    long_name, long_word = "Bartholomew" * 3, "o" * 200
    await tabs.open(f"{server.url}/?name={long_name}")
    await speaks(bob, long_word)
    await shows([alice], "Alice (2)", f"{long_name} (1)", "Bob (1)")
    await reads([alice], "Hello! Is somebody here?", "I am.", long_word)
    for width, height in ((1280, 720), (640, 480), (320, 568)):
        await alice.set_viewport_size({"width": width, "height": height})
        await expect(alice.get_by_role("button", name="Send")).to_be_in_viewport(ratio=1)
        await expect(alice.locator("#messages li").last).to_be_in_viewport()
        for part in ("html", "#online", "#log"):
            assert await alice.locator(part).evaluate(
                "part => part.scrollWidth <= part.clientWidth"
            )
        await picture(f"window-{width}-long-{scheme}", alice)
    await context.close()


async def test_a_missing_client_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without node_modules, the page says what is missing and how to install it."""
    monkeypatch.setattr(demo, "PHOENIX", tmp_path / "phoenix.mjs")
    transport = httpx.ASGITransport(demo.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/")

    assert response.status_code == 503
    assert "npm ci" in response.text
