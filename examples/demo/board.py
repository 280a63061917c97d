"""The board: notes that everybody can write and move, and everybody's cursor.

Where a cursor is concerns nobody a moment later: it is broadcast, and no part of the presence.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from examples.demo import checks
from examples.demo.online import online, people
from roost import Channel, ReplyError, event

MAX_NOTES = 40
MAX_NOTE_LENGTH = 200  # characters

notes: dict[int, dict[str, Any]] = {}  # by id; in a real application, a table
note_ids = count(1)
cursor_ids = count(1)


class BoardChannel(Channel):
    """One tab at the board. Places are fractions of the board's width and height."""

    async def join(self, topic: str, params: dict[str, Any]) -> None:
        name = checks.key(params, "name")
        self.assigns["author"] = {"name": name, "hue": (await people.find([name]))[name]["hue"]}

    async def after_join(self) -> None:
        self.assigns["cursor"] = {"id": next(cursor_ids)}
        self.push("notes", {"notes": list(notes.values())})
        await online.enter(self, self.assigns["author"]["name"])

    @event("point")
    def point(self, payload: Any) -> None:
        place = {"x": checks.fraction(payload, "x"), "y": checks.fraction(payload, "y")}
        self.broadcast_from("point", self.assigns["cursor"] | self.assigns["author"] | place)

    @event("unpoint")
    def unpoint(self, payload: Any) -> None:
        self.broadcast_from("unpoint", self.assigns["cursor"])

    def terminate(self, reason: str | BaseException) -> None:
        if "cursor" in self.assigns:  # it was at the board, and not refused
            self.broadcast("unpoint", self.assigns["cursor"])

    @event("add")
    def add(self, payload: Any) -> dict[str, Any]:
        if len(notes) >= MAX_NOTES:
            raise ReplyError({"reason": f"There are {MAX_NOTES} notes already: remove one."})
        place = {"x": checks.fraction(payload, "x"), "y": checks.fraction(payload, "y")}
        note: dict[str, Any] = {"id": next(note_ids), "text": ""}
        note |= self.assigns["author"] | place
        notes[note["id"]] = note
        self.broadcast_from("note", note)
        return note

    @event("move")
    def move(self, payload: Any) -> None:
        note = find(payload)
        note |= {"x": checks.fraction(payload, "x"), "y": checks.fraction(payload, "y")}
        self.broadcast_from("note", note)

    @event("write")
    def write(self, payload: Any) -> dict[str, Any]:
        note = find(payload)
        note["text"] = checks.text(payload, "text", MAX_NOTE_LENGTH, may_be_empty=True)
        self.broadcast_from("note", note)
        return {}

    @event("remove")
    def remove(self, payload: Any) -> dict[str, Any]:
        note = find(payload)
        del notes[note["id"]]
        self.broadcast_from("remove", {"id": note["id"]})
        return {}


def find(payload: Any) -> dict[str, Any]:
    id = payload.get("id") if isinstance(payload, dict) else None
    note = notes.get(id) if isinstance(id, int) else None
    if note is None:
        raise ReplyError({"reason": "Somebody has removed this note."})
    return note
