"""The pages of the guides, in a real Chromium, with the official client from npm."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles

from roost import Endpoint
from tests.docs.guide import Guide
from tests.e2e.tabs import Tabs
from tests.servers import run_uvicorn

pytestmark = pytest.mark.asyncio(loop_scope="session")

PRESENCE = Guide("presence.md")


def write_page(guide: Guide, folder: Path, *sections: str) -> None:
    """Put the page of a guide into `static`, with the scripts of some sections."""
    static = folder / "static"
    (static / "index.html").write_text(PRESENCE.code("html", "The client"))
    (static / "app.js").write_text(guide.code("js", *sections))


async def shows(tabs: list[Page], *lines: str) -> None:
    """Every tab comes to show these lines."""
    for tab in tabs:
        await expect(tab.locator("main div")).to_have_text(lines)


async def test_alice_twice_and_bob(tabs: Tabs, folder: Path):
    """Three tabs show Alice (count: 2) and Bob (count: 1), and follow as Alice's are closed."""
    write_page(PRESENCE, folder, "The client", "Who joined, who left")
    async with run_uvicorn(PRESENCE.run(until="The client").app) as url:
        bob = await tabs.open(f"{url}/?name=Bob")
        await shows([bob], "Bob (count: 1)")
        first = await tabs.open(f"{url}/?name=Alice")
        second = await tabs.open(f"{url}/?name=Alice")
        for tab in (first, second):
            await expect(tab.locator("main")).to_contain_text("Alice (count: 2)")
            await expect(tab.locator("main")).to_contain_text("Bob (count: 1)")
        await shows([bob], "Bob (count: 1)", "Alice (count: 2)")

        await first.close()
        await shows([bob], "Bob (count: 1)", "Alice (count: 1)")

        await second.close()
        await shows([bob], "Bob (count: 1)")
        await expect(bob.locator("#log li")).to_have_text(
            ["Bob joined", "Alice joined", "Alice left"]
        )
        assert tabs.errors == []


async def test_names_are_shown_as_text(tabs: Tabs, folder: Path):
    """A name that is HTML is shown as it was written, and nothing of it is run."""
    write_page(PRESENCE, folder, "The client")
    async with run_uvicorn(PRESENCE.run(until="The client").app) as url:
        mallory = await tabs.open(f"{url}/?name=%3Cimg src=x onerror=alert(1)%3E")
        await shows([mallory], "<img src=x onerror=alert(1)> (count: 1)")
        assert tabs.errors == []


async def test_the_page_of_the_chat_says_who_joined_spoke_is_away_and_left(
    tabs: Tabs, folder: Path
):
    """The page of the chat says who joined, what they say, that they are away, and who left."""
    write_page(PRESENCE, folder, "A chat", "Away and back")
    guide = PRESENCE.run(until="Away and back")

    class ChatSocket(guide.ChatSocket):  # type: ignore[misc, name-defined]
        channels = {"chat:*": guide.StatusChannel}

    endpoint = Endpoint({"/": ChatSocket}, presences=[guide.online])
    pages = StaticFiles(directory="static", html=True)
    routes = [Mount("/socket", endpoint), Mount("/", pages)]
    async with run_uvicorn(Starlette(lifespan=endpoint.lifespan, routes=routes)) as url:
        bob = await tabs.open(f"{url}/?user_id=2&username=bob")
        log = bob.locator("#log li")
        await expect(log).to_have_text(["User joined: bob", "bob: hello"])
        alice = await tabs.open(f"{url}/?user_id=1&username=alice")
        await expect(bob.locator("main")).to_have_text("alice: online, bob: online")

        await alice.evaluate(
            """() => {
                Object.defineProperty(document, "hidden", { value: true })
                document.dispatchEvent(new Event("visibilitychange"))
            }"""
        )
        await expect(bob.locator("main")).to_have_text("alice: away, bob: online")
        await alice.close()

        await expect(bob.locator("main")).to_have_text("bob: online")
        alices = ["User joined: alice", "alice: hello", "User left: alice"]
        await expect(log).to_have_text(["User joined: bob", "bob: hello", *alices])
        assert tabs.errors == []


async def test_a_list_kept_by_hand(tabs: Tabs, folder: Path):
    """The code of older tutorials shows the same people, and tells who came and went."""
    write_page(PRESENCE, folder, "If you have older code")
    said: list[str] = []
    async with run_uvicorn(PRESENCE.run(until="A chat").app) as url:
        bob = await tabs.open(f"{url}/?user_id=2&username=bob")
        await expect(bob.locator("main")).to_have_text("2")
        bob.on("console", lambda message: said.append(message.text))
        alice = await tabs.open(f"{url}/?user_id=1&username=alice")
        await expect(bob.locator("main")).to_have_text("1, 2")
        await alice.close()
        await expect(bob.locator("main")).to_have_text("2")
        assert said == ["User joined: alice", "User left: alice"]
        assert tabs.errors == []


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("safety.md", "A token instead of a name"),
        ("sessions.md", "Log in, and be present"),
        ("tokens.md", "Log in, and connect"),
    ],
)
async def test_whoever_logs_in_is_listed(name: str, section: str, tabs: Tabs, folder: Path):
    """The page gets its token, or its session, and the list has the user that it is for."""
    guide = Guide(name)
    write_page(guide, folder, section)
    app = guide.run().app
    app.mount("/", StaticFiles(directory="static", html=True))
    async with run_uvicorn(app) as url:
        alice = await tabs.open(url)
        await expect(alice.locator("main")).to_have_text("alice")
        assert tabs.errors == []


async def test_the_page_shows_the_user(tabs: Tabs, folder: Path):
    """It shows the name that fetch added to the entry, and the key of who is unknown."""
    guide = Guide("who-is-this.md")
    write_page(guide, folder, "One query for all")
    async with run_uvicorn(with_pages(guide.run().endpoint)) as url:
        alice = await tabs.open(f"{url}/?user_id=1")
        await expect(alice.locator("main")).to_have_text("Alice (1)")
        stranger = await tabs.open(f"{url}/?user_id=9")
        await expect(alice.locator("main")).to_have_text("Alice (1), 9 (1)")
        await expect(stranger.locator("main")).to_contain_text("Alice (1)")
        assert tabs.errors == []


async def test_a_page_counts_its_browsers(tabs: Tabs, folder: Path):
    """Two tabs of one browser are one, by the id that it keeps; the page follows the number."""
    guide = Guide("counting.md")
    write_page(guide, folder, "Who is counted")
    module = guide.run(until="Tell the count on connect and disconnect")
    async with run_uvicorn(with_pages(module.endpoint)) as url:
        first = await tabs.open(url)
        second = await tabs.open(url)
        for tab in (first, second):
            await expect(tab.locator("main")).to_have_text("1 online")
        assert module.summary("page:home") == "1 people with 2 tabs"
        await first.evaluate("localStorage.browserId = 'another'")
        await second.reload()
        await expect(first.locator("main")).to_have_text("2 online")
        await second.close()
        await expect(first.locator("main")).to_have_text("1 online")
        assert tabs.errors == []


async def test_visitors_without_names(tabs: Tabs, folder: Path):
    """The page shows the numbers that it is told, and that is all that it is told."""
    guide = Guide("counting.md")
    write_page(guide, folder, "Visitors without names")
    async with run_uvicorn(with_pages(guide.run().public_endpoint)) as url:
        first = await tabs.open(url)
        await expect(first.locator("main")).to_have_text("1 visitors, 1 tabs")
        await tabs.open(url)
        await expect(first.locator("main")).to_have_text("2 visitors, 2 tabs")
        assert tabs.errors == []


async def test_a_crowd_is_a_number(tabs: Tabs, folder: Path):
    """The page goes over to a number when there are too many, and back to names."""
    guide = Guide("big-rooms.md")
    write_page(guide, folder, "A number instead of a list")
    module = guide.run()
    online, topic = module.online, "concert:1"
    async with run_uvicorn(with_pages(module.endpoint)) as url:
        alice = await tabs.open(f"{url}/?user_id=alice")
        await expect(alice.locator("main")).to_have_text("alice")
        async with online.lease(topic, "0") as crowd:
            for number in range(1, 1000):
                online.track(crowd, number, {}, topic=topic)
            await expect(alice.locator("main")).to_have_text("1001 people")
            for number in range(2, 1000):
                online.untrack(crowd, number, topic=topic)
            await expect(alice.locator("main")).to_have_text("0, 1, alice")
        await expect(alice.locator("main")).to_have_text("alice")
        assert tabs.errors == []


def with_pages(endpoint: Endpoint) -> Starlette:
    """An application that serves the page beside the socket."""
    pages = StaticFiles(directory="static", html=True)
    routes = [WebSocketRoute("/{path:path}", endpoint), Mount("/", pages)]
    return Starlette(lifespan=endpoint.lifespan, routes=routes)
