"""The tracker of one node, sans I/O: what is tracked here, what is visible, what changed.

Theory of operation. Local operations act on the node's own slice, the only one that this node
writes. The visible entries of all origins are in one index; an operation changes slice and index
together and leaves an event. Whoever drives the protocol takes the events after each call and
tells the topics (``roost.tracker.feed``). ``version`` counts the visible changes of this node; it
never repeats, so that a state that was handed out can be compared with a later diff.

An entry belongs to an owner, a number that the driver gives to whatever may end: a channel, a
task, a lease. There is at most one entry for each (owner, topic, key).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from roost.aliases import Meta
from roost.crdt.entry import Entry
from roost.crdt.index import OwnerIndex, TopicIndex
from roost.crdt.origin import OriginId
from roost.crdt.slice import Slice
from roost.exceptions import AlreadyTracked, InvalidKey, LocalProtocolError, NotTracked
from roost.strict_json import JsonEncoder
from roost.tracker.meta import add_refs, decode_meta, encode_meta

__all__ = ["Joined", "Left", "TrackerEvent", "TrackerProtocol", "Updated"]


class Joined(msgspec.Struct, frozen=True, gc=False):
    """An entry became visible."""

    entry: Entry
    version: int


class Left(msgspec.Struct, frozen=True, gc=False):
    """An entry is no longer visible."""

    entry: Entry
    version: int


class Updated(msgspec.Struct, frozen=True, gc=False):
    """An entry took the place of another one of the same owner, topic and key."""

    old: Entry
    new: Entry
    version: int


TrackerEvent: TypeAlias = Joined | Left | Updated


class TrackerProtocol:
    """Track presences of one node; every operation but the listings is O(1).

    Args:
        origin: Id of this tracker in this life of its node.
        encoder: Encodes metas.

    Example:
        >>> tracker = TrackerProtocol(OriginId("a", 1, 7))
        >>> ref = tracker.track("room:1", "alice", {"online_at": 1}, owner=1)
        >>> [entry.key for entry in tracker.list("room:1")]
        ['alice']
        >>> tracker.untrack_owner(1)
        1
        >>> [type(event).__name__ for event in tracker.events()]
        ['Joined', 'Left']
    """

    def __init__(self, origin: OriginId, *, encoder: JsonEncoder | None = None) -> None:
        self.version = 0
        self._slice = Slice(origin)
        self._visible = TopicIndex()
        self._owners = OwnerIndex()
        self._encoder = encoder or JsonEncoder()
        self._events: list[TrackerEvent] = []

    @property
    def origin(self) -> OriginId:
        return self._slice.origin

    # In: from the application.

    def track(self, topic: str, key: str, meta: Meta, *, owner: int) -> str:
        """Track ``key`` in ``topic`` for ``owner`` and return the new ref.

        Raises:
            AlreadyTracked: The owner tracks this key in this topic; update it instead.
            InvalidKey: ``key`` is not Unicode text, and no client could be told of it.
            PayloadError: ``meta`` is not a JSON object.
        """
        key = _plain_text(key)
        encoded = encode_meta(self._encoder, meta)
        # From here on no code of the application runs.
        if self._owners.get(owner, topic, key) is not None:
            raise AlreadyTracked(topic, key)
        own = self._slice
        ref = own.next_ref
        entry = own.add(topic, key, add_refs(encoded, ref), owner=owner)
        self._owners.put(entry)
        self._visible.add(entry)
        self.version += 1
        self._events.append(Joined(entry, self.version))
        return ref

    def untrack(self, topic: str, key: str, *, owner: int) -> bool:
        """Stop tracking one presence; False if there was none."""
        entry = self._owners.get(owner, topic, key)
        if entry is None:
            return False
        self._owners.remove(entry)
        self._leave(entry)
        return True

    def untrack_owner(self, owner: int) -> int:
        """Stop tracking all that ``owner`` tracks and return how many presences that were."""
        entries = self._owners.pop(owner)
        for entry in entries:
            self._leave(entry)
        return len(entries)

    def update(
        self,
        topic: str,
        key: str,
        meta: Meta | Callable[[dict[str, Any]], Meta],
        *,
        owner: int,
    ) -> str:
        """Replace the meta of one presence and return the new ref.

        Readers never see the key missing. A function gets the present meta with its refs, as JSON
        values, and returns the new one; if it raises, nothing changes.

        Raises:
            NotTracked: The owner does not track this key in this topic.
            PayloadError: The new meta is not a JSON object.
            LocalProtocolError: The function, or an ``encode_hook``, changed the presence itself.
        """
        old = self._owners.get(owner, topic, key)
        if old is None:
            raise NotTracked(topic, key)
        if callable(meta):
            meta = meta(decode_meta(old.meta))
        encoded = encode_meta(self._encoder, meta)
        # From here on no code of the application runs.
        if self._owners.get(owner, topic, key) is not old:
            raise LocalProtocolError(f"the update of {key!r} in {topic!r} changed it on its way")
        own = self._slice
        ref = own.next_ref
        new = own.replace(old, add_refs(encoded, ref, old.ref))
        self._owners.put(new)
        self._visible.replace(old, new)
        self.version += 1
        self._events.append(Updated(old, new, self.version))
        return ref

    def _leave(self, entry: Entry) -> None:
        self._slice.remove(entry)
        self._visible.remove(entry)
        self.version += 1
        self._events.append(Left(entry, self.version))

    # Out.

    def events(self) -> Sequence[TrackerEvent]:
        """What changed since the last call, in order."""
        events, self._events = self._events, []
        return events

    # Reads.

    def list(self, topic: str) -> Iterator[Entry]:
        """The visible entries of a topic, key by key; O(members of the topic)."""
        return self._visible.entries(topic)

    def get_by_key(self, topic: str, key: str) -> tuple[Entry, ...]:
        """The visible entries of one key, in the order of their arrival."""
        return self._visible.by_key(topic, key)

    def keys(self, topic: str) -> Sequence[str]:
        """The visible keys of a topic, in the order of their arrival."""
        return self._visible.keys(topic)

    def count_keys(self, topic: str) -> int:
        """How many keys are visible in a topic."""
        return self._visible.count_keys(topic)

    def count_entries(self, topic: str) -> int:
        """How many presences are visible in a topic."""
        return self._visible.count_entries(topic)

    def tracks(self, topic: str, key: str, *, owner: int) -> bool:
        """Whether ``owner`` tracks ``key`` in ``topic``."""
        return self._owners.get(owner, topic, key) is not None


def _plain_text(key: str) -> str:
    """``key`` as a plain str: no subclass, which would not encode, and no lone surrogate."""
    if type(key) is str and key.isascii():
        return key
    try:
        return key.encode().decode()
    except UnicodeEncodeError as error:
        raise InvalidKey(key) from error
