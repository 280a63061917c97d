"""The board in a real browser: cursors that move and vanish, notes that all can write."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.e2e.server import Link, Server
from tests.e2e.tabs import Tabs, clicks, picture

pytestmark = pytest.mark.asyncio(loop_scope="session")

ALICE, BOB = "/board?name=Alice", "/board?name=Bob"


async def is_used_by(tab: Page, *people: str) -> None:
    """A tab comes to show that exactly these people are at the board."""
    await expect(tab.locator("#participants li")).to_have_text(people)


async def points(tab: Page, x: float, y: float) -> None:
    """Move the mouse to a place of the board, in fractions of it."""
    box = await tab.locator("#surface").bounding_box()
    assert box is not None
    await tab.bring_to_front()  # in the background nothing is drawn, and so nothing is sent
    await tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


def cursor(tab: Page, name: str) -> Locator:
    return tab.locator(f".cursor[data-name={name}]")


async def is_at(item: Locator, x: float, y: float) -> None:
    """A cursor or a note comes to a place, within a hundredth of the board."""
    await item.page.wait_for_function(
        """([{ dataset }, x, y]) =>
            Math.abs(dataset.x - x) < 0.01 && Math.abs(dataset.y - y) < 0.01""",
        arg=[await item.element_handle(), x, y],
        polling=50,  # milliseconds; no frames are drawn in the background
    )


async def test_cursors_appear_move_and_vanish(tabs: Tabs, server: Server):
    """Each sees where the others point, under their names, until they look elsewhere or leave."""
    alice = await tabs.open(server.url + ALICE)
    bob = await tabs.open(server.url + BOB)
    for tab in (alice, bob):
        await is_used_by(tab, "Alice", "Bob")

    await points(bob, 0.25, 0.5)
    await is_at(cursor(alice, "Bob"), 0.25, 0.5)
    await expect(cursor(alice, "Bob")).to_have_text("Bob")
    await points(bob, 0.75, 0.5)
    await is_at(cursor(alice, "Bob"), 0.75, 0.5)
    await expect(bob.locator(".cursor")).to_have_count(0)  # nobody's own
    await picture("cursor", alice)

    await bob.get_by_role("link", name="Lobby").hover()  # the mouse is off the board
    await expect(cursor(alice, "Bob")).to_have_count(0)
    await points(bob, 0.5, 0.5)
    await expect(cursor(alice, "Bob")).to_have_count(1)
    await bob.close()
    await expect(cursor(alice, "Bob")).to_have_count(0)
    await is_used_by(alice, "Alice", "Bob")  # he may only reload the page
    await is_used_by(alice, "Alice")
    assert tabs.errors == []


async def test_a_reload_keeps_the_participants(tabs: Tabs, server: Server):
    """Who reloads the page stays among the participants: nobody sees a change."""
    alice = await tabs.open(server.url + ALICE)
    bob = await tabs.open(server.url + BOB)
    await is_used_by(alice, "Alice", "Bob")
    await alice.evaluate(
        """() => {
            window.changes = []
            new MutationObserver(changes => window.changes.push(...changes))
                .observe(document.querySelector("#participants"), { childList: true })
        }"""
    )

    await bob.reload()
    await is_used_by(bob, "Alice", "Bob")
    await points(bob, 0.5, 0.5)
    await is_at(cursor(alice, "Bob"), 0.5, 0.5)

    assert await alice.evaluate("window.changes.length") == 0
    await is_used_by(alice, "Alice", "Bob")


async def test_a_finger_points(browser: Browser, tabs: Tabs, server: Server):
    """Touching the board shows the others where."""
    alice = await tabs.open(server.url + ALICE)
    phone = await browser.new_context(viewport={"width": 375, "height": 667}, has_touch=True)
    bob = await Tabs(phone).open(server.url + BOB)
    await is_used_by(alice, "Alice", "Bob")

    box = await bob.locator("#surface").bounding_box()
    assert box is not None
    await bob.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4)

    await is_at(cursor(alice, "Bob"), 0.5, 0.25)
    await phone.close()


async def test_notes_are_shared(tabs: Tabs, server: Server, link: Link):
    """A note is written, moved and removed for all, and those who were cut off catch up."""
    alice = await tabs.open(link.url + ALICE)
    bob = await tabs.open(server.url + BOB)
    await is_used_by(bob, "Alice", "Bob")
    field = alice.get_by_role("textbox", name="Note of Bob")

    await clicks(bob, "button", "Add a note")
    await bob.get_by_role("textbox", name="Note of Bob").fill("<b>Bring cake</b>")
    await expect(field).to_have_value("<b>Bring cake</b>")
    await alice.bring_to_front()
    await field.fill("Bring two cakes")
    await expect(bob.get_by_role("textbox", name="Note of Bob")).to_have_value("Bring two cakes")

    grip = bob.get_by_role("button", name="Note of Bob: drag it")
    await bob.bring_to_front()
    await grip.hover()
    await bob.mouse.down()
    await points(bob, 1, 0)
    await bob.mouse.up()
    await is_at(alice.locator(".note"), 1, 0)
    await grip.press("ArrowLeft")
    await is_at(alice.locator(".note"), 0.97, 0)
    await picture("notes", alice, bob)

    link.cut()
    await expect(alice.get_by_role("status")).to_have_text("Reconnecting…")
    await clicks(bob, "button", "Remove the note of Bob")
    await expect(bob.locator(".note")).to_have_count(0)
    await expect(alice.locator(".note")).to_have_count(1)
    link.mend()
    await expect(alice.locator(".note")).to_have_count(0)


async def test_the_board_fits_its_window(tabs: Tabs, server: Server):
    """Notes, cursors and long names stay on the board, be the window wide or narrow."""
    long_name = "Bartholomew" * 3
    alice = await tabs.open(server.url + ALICE)
    other = await tabs.open(f"{server.url}/board?name={long_name}")
    await is_used_by(alice, "Alice", long_name)
    for _ in range(2):
        await clicks(alice, "button", "Add a note")
    await points(other, 0.99, 0.98)
    await is_at(cursor(alice, long_name), 0.99, 0.98)

    await alice.bring_to_front()
    for width, height in ((1280, 720), (320, 568)):
        await alice.set_viewport_size({"width": width, "height": height})
        await expect(alice.get_by_role("button", name="Add a note")).to_be_in_viewport(ratio=1)
        for number in range(2):
            await expect(alice.locator(".note").nth(number)).to_be_in_viewport(ratio=0.99)
        await expect(cursor(alice, long_name).locator("span")).to_be_in_viewport(ratio=0.99)
        assert await alice.locator("html").evaluate("it => it.scrollWidth <= it.clientWidth")
        await picture(f"board-{width}", alice)
