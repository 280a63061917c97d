"""Presences *in grace*: their owner has ended, and they stay a while, in case their key returns.

The entry stays as it is, in the slice and in the lists; only its owner is gone. A new owner that
tracks the same key takes the entry over, under the number that the old owner had, so that neither
this node's lists nor any other node see a change.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from roost.crdt.entry import Entry
from roost.tracker.meta import decode_meta

__all__ = ["GracePeriods"]

# Fields of a meta that say when somebody came: who returns has been there since the first time.
_COMING = ("online_at", "phx_ref", "phx_ref_prev")

_encode = msgspec.json.Encoder(order="deterministic").encode


class _Group:
    """The owners that are gone of one key in one topic, from the one that went first.

    When many return together, each takes the first one: OrderedDicts, unlike dicts, do not look for
    it among those that were taken before.
    """

    __slots__ = ("alike", "lasting", "new", "timers")

    def __init__(self) -> None:
        self.timers: OrderedDict[int, asyncio.TimerHandle] = OrderedDict()  # by owner
        self.new: dict[int, None] = {}  # whose metas were not looked at yet: most never are
        self.lasting: dict[int, bytes] = {}  # what lasts of the others' metas
        self.alike: dict[bytes, OrderedDict[int, None]] = {}  # and who has the same

    def remove(self, owner: int) -> None:
        self.timers.pop(owner).cancel()
        self.new.pop(owner, None)
        lasting = self.lasting.pop(owner, None)
        if lasting is not None:
            alike = self.alike[lasting]
            del alike[owner]
            if not alike:
                del self.alike[lasting]


class GracePeriods:
    """Hold presences without owners, each until its grace is over.

    They are known by the numbers of their owners: entries change when the node takes a new id.

    Args:
        tracked: What an owner tracks as a key in a topic: ``(topic, key, owner)`` → entry.
        over: Called when the grace of an entry is over and nobody returned.
    """

    def __init__(
        self,
        tracked: Callable[[str, str, int], Entry | None],
        over: Callable[[str, str, int], None],
    ) -> None:
        self._tracked = tracked
        self._over = over
        self._waiting: dict[tuple[str, str], _Group] = {}

    def add(self, entry: Entry, grace: float) -> None:
        """Hold ``entry`` for ``grace`` seconds."""
        topic, key, owner = entry.topic, entry.key, entry.owner
        loop = asyncio.get_running_loop()
        group = self._waiting.setdefault((topic, key), _Group())
        group.timers[owner] = loop.call_later(grace, self._give_up, topic, key, owner)
        group.new[owner] = None

    def has_any(self, topic: str, key: str) -> bool:
        """Whether a presence of ``key`` is in grace."""
        return (topic, key) in self._waiting

    def take(self, topic: str, key: str, meta: Mapping[str, Any]) -> tuple[Entry, bool]:
        """A key returns: take the entry in grace that resembles it most, or has waited longest.

        Args:
            topic: Where; a presence of the key must be in grace there.
            key: Who.
            meta: What is known of it now, as JSON values.

        Returns:
            The entry, and whether its meta is still right.
        """
        group = self._waiting[topic, key]
        for owner in group.new:
            lasting = _lasting(decode_meta(self._entry(topic, key, owner).meta))
            group.lasting[owner] = lasting
            group.alike.setdefault(lasting, OrderedDict())[owner] = None
        group.new.clear()
        alike = group.alike.get(_lasting(meta))
        owner = next(iter(group.timers if alike is None else alike))
        self._remove(topic, key, owner)
        return self._entry(topic, key, owner), alike is not None

    def stop(self) -> None:
        """Forget all of them."""
        for group in self._waiting.values():
            for timer in group.timers.values():
                timer.cancel()
        self._waiting.clear()

    def _entry(self, topic: str, key: str, owner: int) -> Entry:
        entry = self._tracked(topic, key, owner)
        assert entry is not None, "what waits is tracked"
        return entry

    def _give_up(self, topic: str, key: str, owner: int) -> None:
        self._remove(topic, key, owner)
        self._over(topic, key, owner)

    def _remove(self, topic: str, key: str, owner: int) -> None:
        group = self._waiting[topic, key]
        group.remove(owner)
        if not group.timers:
            del self._waiting[topic, key]


def _lasting(meta: Mapping[str, Any]) -> bytes:
    """What counts in a meta, in a form in which true is not 1."""
    return _encode({name: value for name, value in meta.items() if name not in _COMING})
