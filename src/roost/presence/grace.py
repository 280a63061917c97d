"""Presences that outlive their owners for a while, in case somebody returns.

The entry stays as it is, in the slice and in the lists; only its owner is gone. Who returns takes
it over under the number that its owner had, so that neither this node's lists nor any other node
see a change. The timers are the only sign of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from roost.crdt.entry import Entry
from roost.tracker.meta import decode_meta

__all__ = ["Lingering"]

# Fields of a meta that say when somebody came: who returns has been there since the first time.
_COMING = ("online_at", "phx_ref", "phx_ref_prev")

_encode = msgspec.json.Encoder(order="deterministic").encode


class Lingering:
    """Hold presences without owners, each until its grace is over.

    Args:
        over: Called when the grace of an entry is over and nobody returned.
    """

    def __init__(self, over: Callable[[Entry], None]) -> None:
        self._over = over
        self._waiting: dict[tuple[str, str], dict[int, tuple[Entry, asyncio.TimerHandle]]] = {}

    def add(self, entry: Entry, grace: float) -> None:
        """Hold ``entry`` for ``grace`` seconds."""
        timer = asyncio.get_running_loop().call_later(grace, self._give_up, entry)
        self._waiting.setdefault((entry.topic, entry.key), {})[entry.owner] = (entry, timer)

    def waits(self, topic: str, key: str) -> bool:
        """Whether a presence of ``key`` waits for somebody to return."""
        return (topic, key) in self._waiting

    def take(self, topic: str, key: str, meta: Mapping[str, Any]) -> tuple[Entry, bool]:
        """Somebody returns: hand over the entry that resembles it most, or has waited longest.

        Args:
            topic: Where; somebody must wait there.
            key: Who.
            meta: What is known of it now, as JSON values.

        Returns:
            The entry, and whether its meta is still right.
        """
        group = self._waiting[topic, key]
        lasting = _lasting(meta)
        for entry, _ in group.values():
            if _lasting(decode_meta(entry.meta)) == lasting:
                return self._remove(entry), True
        return self._remove(next(iter(group.values()))[0]), False

    def stop(self) -> None:
        """Forget them all."""
        for group in self._waiting.values():
            for _, timer in group.values():
                timer.cancel()
        self._waiting.clear()

    def _give_up(self, entry: Entry) -> None:
        self._over(self._remove(entry))

    def _remove(self, entry: Entry) -> Entry:
        group = self._waiting[entry.topic, entry.key]
        _, timer = group.pop(entry.owner)
        timer.cancel()
        if not group:
            del self._waiting[entry.topic, entry.key]
        return entry


def _lasting(meta: Mapping[str, Any]) -> bytes:
    """What counts in a meta, in a form in which true is not 1."""
    return _encode({name: value for name, value in meta.items() if name not in _COMING})
