"""What bare servers do with messages: a dict of rooms, in the format of Phoenix.

Joins and pings are answered, shouts go to everybody. There are no channels, no presence, no limits
and no isolation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

__all__ = ["Rooms"]

Text = TypeVar("Text", str, bytes)
Written = TypeVar("Written", str, bytes, contravariant=True)


class Member(Protocol[Written]):
    """One socket, in the rooms of ``topics``."""

    topics: set[str]

    def write(self, text: Written) -> None: ...


class Rooms(Generic[Text]):
    """Who is where.

    Args:
        encode: Makes of a message what members write.
    """

    def __init__(self, encode: Callable[[Any], Text]) -> None:
        self._encode: Callable[[Any], Text] = encode
        self._members: dict[str, set[Member[Text]]] = {}

    def handle(self, member: Member[Text], text: str | bytes) -> None:
        """Do what a message asks for."""
        join_ref, ref, topic, event, payload = msgspec.json.decode(text)
        if event == "shout":
            shout = self._encode([None, None, topic, event, payload])
            for each in self._members.get(topic, ()):
                each.write(shout)
            return
        response = payload if event == "ping" else {}
        answer = [join_ref, ref, topic, "phx_reply", {"status": "ok", "response": response}]
        member.write(self._encode(answer))
        if event == "phx_join":
            member.topics.add(topic)
            self._members.setdefault(topic, set()).add(member)

    def leave(self, member: Member[Text]) -> None:
        """It is gone."""
        for topic in member.topics:
            self._members[topic].discard(member)
            if not self._members[topic]:
                del self._members[topic]
