"""Who is where, and what the page shows of them."""

from __future__ import annotations

from examples.demo.people import People
from roost import Policy, Presence
from roost.aliases import Presences
from roost.presence.last_seen import SqliteLastSeen


class Online(Presence):
    """People by name, in the rooms and at the board."""

    policies = {
        "room:*": Policy(counts_above=1_000),  # a crowd gets a number, no list
        "board:*": Policy(leave_grace=3.0),  # who reloads the page has never left
        "friends:me": Policy(announce=False, leave_grace=3.0),  # only watched; see friends.py
    }
    last_seen_store = SqliteLastSeen(":memory:")  # a file, in an application that is not seeded

    async def fetch(self, topic: str, presences: Presences) -> Presences:
        """Add role and avatar: one query for all who came and left, or for a whole list."""
        found = await people.find(presences)
        return {name: {**entry, "user": found[name]} for name, entry in presences.items()}


people = People()
online = Online()
