"""A node that takes a new id, as it does when others refute its own."""

from __future__ import annotations

from roost import Presence
from roost.crdt.incarnation import OriginId

__all__ = ["renew"]

MAX_NONCE = 2**64 - 1


def renew(online: Presence) -> None:
    """What is tracked is tracked anew, under new refs; the callbacks are told of updates."""
    owned = online._current().owned
    tracker = owned.protocol
    origin = tracker.origin
    tracker.own.renew(OriginId(origin.name, origin.incarnation + 1, origin.nonce + 1 & MAX_NONCE))
    tracker.renew()
    owned._changed()
