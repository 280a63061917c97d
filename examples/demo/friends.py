"""Friends: be told when they come online, in whatever place.

Each tab has a task that watches the names that it follows, and tells it what changes. It watches
the presence itself: nothing is asked again and again, and nothing is missed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from examples.demo import checks
from examples.demo.online import online, people
from roost import Channel, Join, JoinRefused, Leave, ReplyError, Snapshot, event

MAX_FRIENDS = 50


class FriendsChannel(Channel):
    """One tab that follows friends."""

    watching: asyncio.Task[None]

    def join(self, topic: str, params: dict[str, Any]) -> None:
        self.assigns["name"] = checks.key(params, "name")
        self.assigns["friends"] = names(params, JoinRefused)

    def after_join(self) -> None:
        # One is online here, too: quietly, and for a while after the tab has closed. Who reloads
        # the page, or goes from one room to another, does not go offline in between.
        online.track(self, self.assigns["name"], {})
        self.watching = self.spawn(self.watch(self.assigns["friends"]))

    @event("follow")
    def follow(self, payload: Any) -> dict[str, Any]:
        friends = names(payload, ReplyError)
        self.watching.cancel()
        self.watching = self.spawn(self.watch(friends))
        return {}

    async def watch(self, friends: list[str]) -> None:
        at: dict[str, Counter[str]] = {}  # name → topics, with the number of tabs in each
        users, seen_at = await people.find(friends), await online.last_seen(friends)
        async with online.watch(friends) as watch:
            async for change in watch:
                match change:
                    case Snapshot(presences):
                        at = {name: Counter() for name in friends}
                        for name, entry in presences.items():
                            at[name].update(entry["topics"])
                        places = {name: self.places(at[name]) for name in presences}
                        self.push("friends", {"places": places, "users": users, "seen_at": seen_at})
                    case Join(topic, name):
                        at[name][topic] += 1
                        self.tell(name, at[name], is_online=True)
                    case Leave(topic, name, is_last=is_last):
                        at[name][topic] -= 1
                        self.tell(name, at[name], is_online=not is_last)

    def tell(self, name: str, topics: Counter[str], *, is_online: bool) -> None:
        payload = {"name": name, "places": self.places(topics), "is_online": is_online}
        self.push("friend", payload)

    def places(self, topics: Counter[str]) -> list[str]:
        return [topic for topic in +topics if topic != self.topic]


def names(payload: Any, refusal: checks.Refusal) -> list[str]:
    """Take the list of friends out of what a client sent."""
    friends = payload.get("friends") if isinstance(payload, dict) else None
    if not isinstance(friends, list):
        raise refusal({"reason": "The friends must be a list of names."})
    if len(friends) > MAX_FRIENDS:
        raise refusal({"reason": f"Nobody can follow more than {MAX_FRIENDS} friends."})
    return [checks.key({"name": friend}, "name", refusal) for friend in friends]
