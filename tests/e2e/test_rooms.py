"""The rooms in a real browser: notices, who types, who is away, and going from room to room."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.e2e.server import Link, Server
from tests.e2e.tabs import Tabs, clicks, person, picture, reads, shows, speaks

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def notes(tab: Page, *notices: str) -> None:
    """A tab comes to show exactly these notices among its messages."""
    await expect(tab.locator("#messages .notice")).to_have_text(notices)


async def looks(tab: Page, name: str, about: str) -> None:
    """A tab comes to say this of a person, below the name."""
    await expect(person(tab, name).locator(".who")).to_have_attribute("data-about", about)


async def test_notices_tell_people_from_tabs(tabs: Tabs, server: Server):
    """Bob joined, Bob left: said of the first tab and of the last, not of those between."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    await shows([alice], "Alice (1)")

    first = await tabs.open(f"{server.url}/?name=Bob")
    second = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, first, second], "Alice (1)", "Bob (2)")
    await first.close()
    await shows([alice], "Alice (1)", "Bob (1)")
    await notes(alice, "Bob joined")

    await second.close()
    await shows([alice], "Alice (1)")
    await notes(alice, "Bob joined", "Bob left")
    assert tabs.errors == []


async def test_a_reload_is_no_news(tabs: Tabs, server: Server):
    """Who reloads the page has not left, and finds no notices of those who were there."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    await bob.reload()
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await speaks(bob, "Here I am again.")
    await reads([alice], "Here I am again.")

    await notes(alice, "Bob joined")
    await notes(bob)


async def test_a_cut_of_ones_own_is_no_news(tabs: Tabs, server: Server, link: Link):
    """A tab that was cut off does not report who came back with it, or came meanwhile."""
    alice = await tabs.open(f"{link.url}/?name=Alice")
    bob = await tabs.open(f"{link.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    link.cut()
    await expect(alice.get_by_role("status")).to_have_text("Reconnecting…")
    carol = await tabs.open(f"{server.url}/?name=Carol")
    link.mend()
    await shows([alice, bob, carol], "Alice (1)", "Bob (1)", "Carol (1)")

    await notes(alice, "Bob joined")
    await notes(bob)


async def test_who_is_typing_is_shown_for_a_while(tabs: Tabs, server: Server):
    """Who types is named until the message comes, or until nothing more is typed."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    await alice.clock.install()
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    typing = alice.locator("#typing")

    await bob.get_by_label("Message").press_sequentially("I was about to")
    await expect(typing).to_have_text("Bob is typing…")
    await expect(bob.locator("#typing")).to_be_empty()
    await picture("typing", alice)
    await alice.clock.fast_forward(3_000)  # milliseconds
    await expect(typing).to_be_empty()

    await speaks(bob, "Hello!")
    await bob.get_by_label("Message").press_sequentially("And")
    await expect(typing).to_have_text("Bob is typing…")
    await speaks(bob, "And good night.")
    await expect(typing).to_be_empty()
    assert tabs.errors == []


async def test_going_away_is_not_leaving(tabs: Tabs, server: Server):
    """Who goes away is shown as away, counts as before, and no notice is made of it."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await looks(alice, "Bob", "moderator")

    await clicks(bob, "button", "Show me as away")
    await looks(alice, "Bob", "moderator · away")
    await looks(bob, "Bob", "you · moderator · away")
    await picture("away", alice, bob)
    other = await tabs.open(f"{server.url}/?name=Bob")
    await looks(alice, "Bob", "moderator")  # on one of two devices he is there
    await shows([alice], "Alice (1)", "Bob (2)")
    await other.close()
    await looks(alice, "Bob", "moderator · away")

    await clicks(bob, "button", "Show me as away")
    await looks(alice, "Bob", "moderator")
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await notes(alice, "Bob joined")
    assert tabs.errors == []


async def test_a_hidden_page_is_away(tabs: Tabs, server: Server):
    """Who looks at something else for a while is away, and is back on return."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await bob.clock.install()
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    hide = """isHidden => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true })
        document.dispatchEvent(new Event("visibilitychange"))
    }"""

    await bob.evaluate(hide, True)
    await bob.clock.fast_forward(3_000)  # milliseconds
    await looks(alice, "Bob", "moderator · away")

    await bob.evaluate(hide, False)
    await looks(alice, "Bob", "moderator")
    await notes(alice, "Bob joined")


async def test_people_are_shown_with_role_and_portrait(tabs: Tabs, server: Server):
    """Who is known has a role and a picture that loads; guests have their initials."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    await tabs.open(f"{server.url}/?name=Mad+Hatter")
    await shows([alice], "Alice (1)", "Mad Hatter (1)")
    await looks(alice, "Alice", "you · host")
    await looks(alice, "Mad Hatter", "guest")

    portrait = person(alice, "Alice").locator(".portrait")
    image = await portrait.evaluate(
        """async ({ style }) => {
            const image = new Image()
            image.src = style.backgroundImage.slice(5, -2)
            await image.decode()
            return image.naturalWidth
        }"""
    )
    assert image > 0
    initials = person(alice, "Mad Hatter").locator(".portrait")
    await expect(initials).to_have_attribute("data-initials", "MH")
    assert tabs.errors == []


async def test_a_crowd_is_counted(tabs: Tabs, crowded_server: Server):
    """A room with too many people shows their number, then again who they are: that is no news."""
    alice = await tabs.open(f"{crowded_server.url}/?name=Alice")
    await alice.clock.install()
    bob = await tabs.open(f"{crowded_server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    others = [await tabs.open(f"{crowded_server.url}/?name={name}") for name in ("Carol", "Dave")]
    for tab in (alice, *others):
        await expect(tab.locator("#crowd")).to_have_text("4 people")
        await expect(tab.locator("#online")).to_be_hidden()
    await speaks(bob, "So many!")
    await reads([alice], "So many!")

    await alice.clock.fast_forward(10_000)  # milliseconds; it is a crowd for a while
    for tab in others:
        await tab.close()
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await expect(alice.locator("#crowd")).to_be_hidden()
    await notes(alice, "Bob joined", "Carol joined")
    assert tabs.errors == []


async def test_going_from_room_to_room(tabs: Tabs, server: Server):
    """Who goes to another room leaves the one before; each room has a chat of its own."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    await clicks(alice, "link", "Garden")
    await shows([alice], "Alice (1)")
    await shows([bob], "Bob (1)")
    carol = await tabs.open(f"{server.url}/?name=Carol&room=garden")
    await shows([alice, carol], "Alice (1)", "Carol (1)")
    await speaks(carol, "What a fine garden.")
    await reads([alice], "What a fine garden.")
    await reads([bob])

    await alice.go_back()
    await shows([alice, bob], "Alice (1)", "Bob (1)")
    await shows([carol], "Carol (1)")
    await expect(alice.get_by_role("heading", name="Lobby")).to_be_visible()
    assert tabs.errors == []
