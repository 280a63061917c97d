"""What the scenes with presences have in common."""

from __future__ import annotations

from typing import Any

from roost import Channel, Endpoint, Presence, Socket
from roost.presence import Lease
from roost.testing import ChannelCase, JoinedCase
from roost.testing.transport import Received
from roost.wire.messages import COUNT, DIFF, STATE, Broadcast, Message

__all__ = ["TOPIC", "Listener", "app", "join", "lease", "told", "told_of"]

TOPIC = "room:1"


class Listener(Channel):
    """Subscribed to its topic, tracks nothing by itself."""


def app(*presences: Presence) -> Endpoint:
    """An endpoint whose clients say in which channel they join."""
    return Endpoint({}, presences=presences)


async def join(
    case: ChannelCase, channel: type[Channel] = Listener, topic: str = TOPIC, **params: Any
) -> JoinedCase:
    """A client of its own, in a channel."""
    return await case.client(Socket()).join(topic, params, channel=channel)


def lease(
    presence: Presence, key: str, topic: str = TOPIC, *, hidden: bool = False, **meta: Any
) -> Lease:
    """Somebody who is there until the lease ends."""
    made = Lease(presence, topic, key)
    presence.track(made, key, meta, topic=topic, hidden=hidden)
    return made


def told(room: JoinedCase) -> list[str]:
    """What a client was told of presences, and no assertion took, in order; it is taken.

    A line is ``+alice +bob -carol`` for a diff, ``state alice bob`` for a state, and ``count 2/3``
    for 2 users with 3 connections. Somebody with several metas is ``bob×2``.
    """
    transport = room.client.transport
    lines = told_of(transport.received)
    transport.received.clear()
    return lines


def told_of(received: list[Received]) -> list[str]:
    """The lines of messages, as ``told`` has them; other messages are left out."""
    lines = []
    for each in received:
        if isinstance(each, Message | Broadcast):
            payload = each.payload
            if each.event == STATE:
                lines.append(" ".join(["state", *_names("", payload)]))
            elif each.event == DIFF:
                lines.append(
                    " ".join(_names("+", payload["joins"]) + _names("-", payload["leaves"]))
                )
            elif each.event == COUNT:
                lines.append(f"count {payload['users']}/{payload['connections']}")
    return lines


def _names(sign: str, presences: Any) -> list[str]:
    counts = {key: len(presences[key]["metas"]) for key in sorted(presences)}
    return [f"{sign}{key}" + (f"×{count}" if count > 1 else "") for key, count in counts.items()]
