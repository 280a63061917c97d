"""Who people are: a table of those who are known, in SQLite.

SQLite waits for the disk, so its queries run in a thread, and the loop goes on meanwhile. What an
application has in PostgreSQL behind an async driver needs no thread, and looks the same.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import zlib
from collections.abc import Iterable
from threading import Lock
from typing import Any
from urllib.parse import quote

from examples.demo.avatars import bird

# Name, role, and what bird: the hues of feathers and beak, the crest.
KNOWN = [
    ("Alice", "host", (168, 40, 1)),
    ("Bob", "moderator", (214, 30, 2)),
    ("Carol", "moderator", (330, 45, 3)),
    ("Dave", "member", (28, 12, 0)),
    ("Erin", "member", (262, 40, 1)),
    ("Frank", "member", (96, 35, 0)),
    ("Grace", "member", (352, 30, 2)),
    ("Heidi", "member", (190, 20, 3)),
    ("Ivan", "member", (48, 15, 1)),
    ("Judy", "member", (290, 48, 0)),
]


class People:
    """The table of people; those who are not in it are guests.

    Attributes:
        connection: To the database; here one in memory, seeded anew with each process.
    """

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._lock = Lock()  # one query at a time, from whichever thread
        with self.connection:
            self.connection.execute(
                "CREATE TABLE people (name TEXT PRIMARY KEY COLLATE NOCASE, "
                "role TEXT NOT NULL, hue INTEGER NOT NULL, portrait TEXT NOT NULL)"
            )
            self.connection.executemany(
                "INSERT INTO people VALUES (?, ?, ?, ?)",
                [(name, role, look[0], bird(*look)) for name, role, look in KNOWN],
            )

    async def find(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Name → role, hue and avatar of each of these people, in one query."""
        wanted = list(names)
        # Each name comes back as it was asked for, "alice" as "alice".
        rows = await self._query(
            "SELECT wanted.value, role, hue, people.name FROM json_each(?) AS wanted "
            "JOIN people ON people.name = wanted.value COLLATE NOCASE",
            json.dumps(wanted),
        )
        known = {
            name: {"role": role, "hue": hue, "avatar": f"/avatars/{quote(known_as)}.svg"}
            for name, role, hue, known_as in rows
        }
        return {name: known.get(name) or guest(name) for name in wanted}

    async def portrait(self, name: str) -> str | None:
        """The portrait of a person as SVG; None for guests."""
        rows = await self._query("SELECT portrait FROM people WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    async def _query(self, statement: str, *values: str) -> list[Any]:
        return await asyncio.to_thread(self._query_now, statement, values)

    def _query_now(self, statement: str, values: tuple[str, ...]) -> list[Any]:
        with self._lock:
            return self.connection.execute(statement, values).fetchall()


def guest(name: str) -> dict[str, Any]:
    """Somebody unknown: the page draws the initials, in a colour that comes from the name."""
    return {"role": "guest", "hue": zlib.crc32(name.encode()) % 360, "avatar": None}
