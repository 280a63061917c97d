"""Browser tabs, what they show, and pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playwright.async_api import BrowserContext, Locator, Page, expect

__all__ = ["Tabs", "clicks", "person", "picture", "reads", "shows", "speaks"]

PICTURES = Path(__file__).parent / "screenshots"

expect.set_options(timeout=15_000)  # milliseconds


class Tabs:
    """The tabs of one browser window, with the errors of their consoles.

    Attributes:
        errors: What the pages logged as an error, or threw and did not catch.
    """

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self._context = context

    async def open(self, url: str) -> Page:
        page = await self._context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        await page.goto(url)
        return page


async def shows(tabs: Sequence[Page], *people: str) -> None:
    """Every tab comes to show exactly these people, such as ``Alice (2)``."""
    for tab in tabs:
        await expect(tab.locator("#online li")).to_have_text(people)


def person(tab: Page, name: str) -> Locator:
    """The row of one person in the list of those who are here."""
    return tab.locator("#online li").filter(has=tab.get_by_text(name, exact=True))


async def clicks(tab: Page, role: Literal["button", "link"], name: str) -> None:
    """Click a button or a link in one tab."""
    await tab.bring_to_front()  # in the background Chromium draws, and clicks, once a second
    await tab.get_by_role(role, name=name).click()


async def speaks(tab: Page, message: str) -> None:
    """Write a message in one tab."""
    await tab.get_by_label("Message").fill(message)
    await clicks(tab, "button", "Send")


async def reads(tabs: Sequence[Page], *messages: str) -> None:
    """Every tab comes to show exactly these messages, in this order."""
    for tab in tabs:
        await expect(tab.locator("#messages p")).to_have_text(messages)


async def picture(name: str, *tabs: Page) -> None:
    """Save what the tabs look like: ``screenshots/<name>-1.png`` and so on."""
    for number, tab in enumerate(tabs, 1):
        await tab.bring_to_front()
        await tab.screenshot(path=PICTURES / f"{name}-{number}.png")
