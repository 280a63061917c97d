"""The tracker with its owners: it knows them as numbers; here they are objects that end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from roost.aliases import Meta
from roost.crdt.entry import Entry
from roost.presence.owners.grace import GracePeriods
from roost.presence.owners.owner import Owner
from roost.pubsub.pubsub import PubSub
from roost.strict_json import decode_json
from roost.tracker.meta import encode_meta
from roost.tracker.protocol import TrackerEvent

__all__ = ["OwnedTracker"]

NOBODY = 0  # no owner has this number: who owns nothing gets the tracker's own errors


class OwnedTracker:
    """Track presences for owners, and let them leave when their owners end.

    Args:
        pubsub: Running.
        name: The tracker's; the same on all nodes.
        changed: Called with the events of each change, at once; it must not raise.
        grace_of: How many seconds the presences of a topic outlive their owners.

    Attributes:
        protocol: The tracker itself, to be read.
    """

    def __init__(
        self,
        pubsub: PubSub,
        name: str,
        changed: Callable[[Sequence[TrackerEvent]], None],
        grace_of: Callable[[str], float] = lambda topic: 0.0,
    ) -> None:
        self._replicator = pubsub.replicator
        self.protocol = self._replicator.add(name, pubsub.encoder, changed)
        self._pubsub = pubsub
        self._notify = changed
        self._grace_of = grace_of
        self._numbers: dict[Owner, int] = {}
        self._last_number = NOBODY
        # What owners took over from others that ended: the entry keeps its number.
        self._taken_over: dict[Owner, dict[tuple[str, str], int]] = {}
        self._graces = GracePeriods(self._held_entry, self._grace_over)

    def start(self) -> None:
        """Show what other nodes have."""
        self._replicator.begin(self.protocol)

    # Changing.

    def track(self, owner: Owner, topic: str, key: str, meta: Meta, *, hidden: bool = False) -> str:
        if not hidden and self._graces.has_any(topic, key):
            # An encode_hook runs in here, and may do anything: what follows looks again.
            meta = decode_json(encode_meta(self._pubsub.encoder, meta))
        self._register(owner)
        if not hidden and self._graces.has_any(topic, key) and not self.tracks(owner, topic, key):
            return self._return(owner, topic, key, meta)
        registered, number = self._numbers[owner], self._number_of(owner, topic, key)
        ref = self.protocol.track(topic, key, meta, owner=number, hidden=hidden)
        if self._numbers.get(owner) != registered:  # the encode_hook ended it
            self.protocol.untrack(topic, key, owner=number)
        self._changed()
        return ref

    def _return(self, owner: Owner, topic: str, key: str, meta: Meta) -> str:
        entry, is_right = self._graces.take(topic, key, meta)
        self._taken_over.setdefault(owner, {})[topic, key] = entry.owner
        return entry.ref if is_right else self.update(owner, topic, key, meta)

    def untrack(self, owner: Owner, topic: str, key: str) -> None:
        self.protocol.untrack(topic, key, owner=self._number_of(owner, topic, key))
        self._taken_over.get(owner, {}).pop((topic, key), None)
        self._changed()

    def untrack_all(self, owner: Owner) -> None:
        """Let all presences of an owner leave, at once."""
        for entry in self._entries_of(owner):
            self.protocol.untrack(entry.topic, entry.key, owner=entry.owner)
        self._changed()

    def update(
        self, owner: Owner, topic: str, key: str, meta: Meta | Callable[[dict[str, Any]], Meta]
    ) -> str:
        number = self._number_of(owner, topic, key)
        ref = self.protocol.update(topic, key, meta, owner=number)
        self._changed()
        return ref

    def hide(self, owner: Owner, topic: str, key: str) -> str:
        ref = self.protocol.hide(topic, key, owner=self._number_of(owner, topic, key))
        self._changed()
        return ref

    def show(self, owner: Owner, topic: str, key: str) -> str:
        ref = self.protocol.show(topic, key, owner=self._number_of(owner, topic, key))
        self._changed()
        return ref

    def _changed(self) -> None:
        events = self.protocol.events()
        if events:
            self._notify(events)
        self._replicator.changed()

    # Owners.

    def tracked(self, owner: Owner, topic: str, key: str) -> Entry | None:
        """What ``owner`` tracks as ``key`` in ``topic``."""
        return self.protocol.tracked(topic, key, owner=self._number_of(owner, topic, key))

    def tracks(self, owner: Owner, topic: str, key: str) -> bool:
        """Whether ``owner`` tracks ``key`` in ``topic``."""
        return self.tracked(owner, topic, key) is not None

    def _register(self, owner: Owner) -> None:
        if owner not in self._numbers:
            owner.add_done_callback(self._owner_ended)
            self._last_number += 1
            self._numbers[owner] = self._last_number

    def _number_of(self, owner: Owner, topic: str, key: str) -> int:
        """The number under which ``owner`` has ``key`` in ``topic``."""
        if self._taken_over:
            number = self._taken_over.get(owner, {}).get((topic, key))
            if number is not None:
                return number
        return self._numbers.get(owner, NOBODY)

    def _entries_of(self, owner: Owner) -> list[Entry]:
        entries = list(self.protocol.owned(self._numbers.get(owner, NOBODY)))
        for (topic, key), number in self._taken_over.get(owner, {}).items():
            entry = self.protocol.tracked(topic, key, owner=number)
            if entry is not None:
                entries.append(entry)
        return entries

    def _owner_ended(self, owner: Owner) -> None:
        if owner in self._numbers:  # else the run has ended
            self._pubsub.call_soon(partial(self._release, owner))  # a lease ends in any thread

    def _release(self, owner: Owner) -> None:
        if owner not in self._numbers:
            return  # the run has ended on the way here
        for entry in self._entries_of(owner):
            grace = 0.0 if entry.hidden else self._grace_of(entry.topic)
            if grace:
                self._graces.add(entry, grace)
            else:
                self.protocol.untrack(entry.topic, entry.key, owner=entry.owner)
        del self._numbers[owner]
        self._taken_over.pop(owner, None)
        self._changed()

    def _grace_over(self, topic: str, key: str, number: int) -> None:
        self.protocol.untrack(topic, key, owner=number)
        self._changed()

    def _held_entry(self, topic: str, key: str, number: int) -> Entry | None:
        return self.protocol.tracked(topic, key, owner=number)

    def stop(self) -> None:
        """Forget all owners, and let go of what they track."""
        self._replicator.remove(self.protocol)
        self._graces.stop()
        self._numbers.clear()
        self._taken_over.clear()
