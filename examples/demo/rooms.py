"""The rooms: a chat, who is typing, and who is away."""

from __future__ import annotations

import time
from typing import Any

from examples.demo import checks
from examples.demo.online import online
from roost import Channel, JoinRefused, event

ROOMS = ["room:lobby", "room:garden", "room:workshop"]
STATUSES = ["online", "away"]


class RoomChannel(Channel):
    """One tab in a room."""

    def join(self, topic: str, params: dict[str, Any]) -> None:
        if topic not in ROOMS:
            raise JoinRefused({"reason": f"There is no {topic.replace(':', ' ')}."})
        self.assigns["name"] = checks.key(params, "name")
        # Whoever was away before the connection was cut is away when it is back.
        self.assigns["status"] = "away" if params.get("status") == "away" else "online"

    async def after_join(self) -> None:
        status = self.assigns["status"]
        meta = {"online_at": int(time.time()), "status": status}
        await online.enter(self, self.assigns["name"], meta)

    @event("shout")
    def shout(self, payload: Any) -> dict[str, Any]:
        message = checks.text(payload, "message", checks.MAX_MESSAGE_LENGTH)
        self.broadcast("shout", {"name": self.assigns["name"], "message": message})
        return {}

    @event("typing")
    def typing(self, payload: Any) -> None:
        # A broadcast, not a presence: it is over in a moment, costs no query and no list, and
        # those who get it let it end by themselves, even if whoever typed is gone.
        self.broadcast_from("typing", {"name": self.assigns["name"]})

    @event("status")
    def status(self, payload: Any) -> dict[str, Any]:
        # An update, so that nobody sees anybody leave and come back.
        status = checks.choice(payload, "status", STATUSES)
        online.update(self, self.assigns["name"], lambda meta: {**meta, "status": status})
        return {}
