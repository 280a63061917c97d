"""Friends and visitors in a real browser: who is here beyond the room that one is in."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.server import Server
from tests.e2e.tabs import Tabs, clicks, person, picture, shows

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def follows(tab: Page, *friends: str) -> None:
    """A tab comes to show exactly these friends and where they are."""
    await expect(tab.locator("#friend-list li")).to_have_text(friends)


async def hears(tab: Page, news: str) -> None:
    """A tab comes to tell this, and nothing else; then it is dismissed."""
    await expect(tab.locator(".toast")).to_have_text([news])
    await picture("toast", tab)
    await clicks(tab, "button", "Dismiss")
    await expect(tab.locator(".toast")).to_have_count(0)


async def test_a_friend_who_comes_online_in_another_room_is_announced(tabs: Tabs, server: Server):
    """Whoever starred Bob hears when he goes offline and comes online, and sees where he is."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    await clicks(alice, "button", "Tell me when Bob comes online")
    await follows(alice, "Bob in the lobby")
    await clicks(bob, "link", "Garden")
    await follows(alice, "Bob in the garden")
    await bob.reload()
    await expect(bob.get_by_role("status")).to_have_text("Online")
    await clicks(bob, "link", "Board")
    await follows(alice, "Bob at the board")
    assert await alice.locator(".toast").count() == 0

    await bob.close()
    await hears(alice, "Bob went offline")
    await follows(alice, "Bob was here just now")
    await tabs.open(f"{server.url}/?name=Bob&room=workshop")
    await hears(alice, "Bob came online in the workshop")
    await follows(alice, "Bob in the workshop")
    assert tabs.errors == []


async def test_friends_are_remembered(tabs: Tabs, server: Server):
    """Stars outlive a reload, hold in every tab of their owner, and can be taken back."""
    alice = await tabs.open(f"{server.url}/?name=Alice")
    other = await tabs.open(f"{server.url}/?name=Alice&room=garden")
    await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice], "Alice (1)", "Bob (1)")
    await clicks(alice, "button", "Tell me when Bob comes online")
    await follows(other, "Bob in the lobby")

    await alice.reload()
    await follows(alice, "Bob in the lobby")
    star = person(alice, "Bob").get_by_role("button")
    await expect(star).to_have_attribute("aria-pressed", "true")

    await alice.bring_to_front()
    await star.click()
    await expect(star).to_have_attribute("aria-pressed", "false")
    await follows(alice)
    await follows(other)


async def test_visitors_are_counted_by_browser(tabs: Tabs, browser: Browser, server: Server):
    """Each browser counts once, with a name or without, and no longer when its tabs are closed."""
    nameless = await tabs.open(server.url)
    visitors = nameless.locator("#visitors")
    await expect(visitors).to_have_text("1 visitor")
    alice = await tabs.open(f"{server.url}/?name=Alice")
    await expect(alice.locator("#visitors")).to_have_text("1 visitor")

    window = await browser.new_context()
    elsewhere = Tabs(window)
    board = await elsewhere.open(f"{server.url}/board?name=Bob")
    await elsewhere.open(server.url)
    for tab in (nameless, alice, board):
        await expect(tab.locator("#visitors")).to_have_text("2 visitors")

    await window.close()
    await expect(visitors).to_have_text("1 visitor")
    assert tabs.errors == elsewhere.errors == []
