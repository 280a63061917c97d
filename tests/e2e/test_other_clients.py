"""Clients that others wrote long ago see the same people as the newest one."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.e2e.server import Server
from tests.e2e.tabs import Tabs, picture, reads, shows, speaks

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("client", ["hand_written", "v1"])
async def test_every_tab_follows_as_tabs_come_and_go(client: str, tabs: Tabs, server: Server):
    """Alice (2) and Bob (1) are shown everywhere, then Alice (1), then Bob alone."""
    page = f"{server.url}/pages/{client}.html"
    first = await tabs.open(f"{page}?name=Alice")
    second = await tabs.open(f"{page}?name=Alice")
    bob = await tabs.open(f"{page}?name=Bob")
    await shows([first, second, bob], "Alice (2)", "Bob (1)")
    await picture(f"{client}-three-tabs", first, second, bob)

    await second.reload()
    await shows([first, second, bob], "Alice (2)", "Bob (1)")

    await first.close()
    await shows([second, bob], "Alice (1)", "Bob (1)")

    await second.close()
    await shows([bob], "Bob (1)")
    assert tabs.errors == []


async def test_the_callbacks_of_a_hand_written_client_tell_tabs_from_people(
    tabs: Tabs, server: Server
):
    """onJoin and onLeave, given in third and fourth place, know who came first and left last."""
    page = f"{server.url}/pages/hand_written.html"
    bob = await tabs.open(f"{page}?name=Bob")
    events = bob.locator("#events li")
    await expect(events).to_have_text(["Bob came"])

    first = await tabs.open(f"{page}?name=Alice")
    await shows([bob], "Alice (1)", "Bob (1)")
    second = await tabs.open(f"{page}?name=Alice")
    await shows([bob], "Alice (2)", "Bob (1)")
    await first.close()
    await shows([bob], "Alice (1)", "Bob (1)")
    await second.close()
    await shows([bob], "Bob (1)")

    await expect(events).to_have_text(
        [
            "Bob came",
            "Alice came",
            "Alice came again, with 1 before",
            "Alice left, with 1 still here",
            "Alice left",
        ]
    )


async def test_a_hand_written_client_survives_a_server_restart(tabs: Tabs, server: Server):
    """When the server is killed and started again, old and new clients find each other."""
    alice = await tabs.open(f"{server.url}/pages/hand_written.html?name=Alice")
    bob = await tabs.open(f"{server.url}/?name=Bob")
    await shows([alice, bob], "Alice (1)", "Bob (1)")

    await server.kill()
    await expect(bob.get_by_role("status")).to_have_text("Reconnecting…")
    await server.start()
    await shows([bob], "Alice (1)", "Bob (1)")
    await bob.close()
    await shows([alice], "Alice (1)")


async def test_clients_of_all_ages_share_a_room(tabs: Tabs, server: Server):
    """A V1 client, a hand-written one and the newest see each other, and each other's words."""
    alice = await tabs.open(f"{server.url}/pages/v1.html?name=Alice")
    bob = await tabs.open(f"{server.url}/pages/hand_written.html?name=Bob")
    carol = await tabs.open(f"{server.url}/?name=Carol")
    await shows([alice, bob, carol], "Alice (1)", "Bob (1)", "Carol (1)")

    await speaks(alice, "Still here.")
    await speaks(carol, "So am I.")
    await reads([alice, carol], "Still here.", "So am I.")
    assert tabs.errors == []
