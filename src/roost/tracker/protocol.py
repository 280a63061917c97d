"""The tracker of one node, sans I/O: what is tracked here, what is visible, what changed.

Theory of operation. Local operations act on the node's own slice, the only one that this node
writes; several trackers of a node share it, each with entries under its own name. The visible
entries of all origins are in one index; an operation changes slice and index together and leaves an
event. Whoever drives the protocol takes the events after each call and tells the topics
(``roost.tracker.feed``). ``version`` counts the visible changes of this node; it never repeats, so
that a state that was handed out can be compared with a later diff.

An entry belongs to an owner, a number that the driver gives to whatever may end: a channel, a
task, a lease. There is at most one entry for each (owner, topic, key).

A hidden entry is in the slice, and so on every node, but in an index of its own: readers of the
visible one never filter. Nothing that happens to it is an event; showing it is a join, and hiding
it a leave.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from roost.aliases import Meta
from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from roost.crdt.index import OwnerIndex, TopicIndex
from roost.crdt.slice import Slice
from roost.exceptions import AlreadyTracked, LocalProtocolError, NotTracked
from roost.strict_json import JsonEncoder
from roost.tracker.meta import add_refs, decode_meta, encode_meta

__all__ = ["Joined", "Left", "TrackerEvent", "TrackerProtocol", "Updated"]


class Joined(msgspec.Struct, frozen=True, gc=False):
    """An entry became visible.

    Args:
        entry: The entry.
        version: Counts the visible changes of this node.
        is_first: No other entry of its key was visible in its topic.
    """

    entry: Entry
    version: int
    is_first: bool


class Left(msgspec.Struct, frozen=True, gc=False):
    """An entry is no longer visible.

    Args:
        entry: The entry.
        version: Counts the visible changes of this node.
        is_last: No other entry of its key is visible in its topic.
    """

    entry: Entry
    version: int
    is_last: bool


class Updated(msgspec.Struct, frozen=True, gc=False):
    """An entry took the place of another one of the same owner, topic and key."""

    old: Entry
    new: Entry
    version: int


TrackerEvent: TypeAlias = Joined | Left | Updated


class TrackerProtocol:
    """Track presences of one node; every operation but the listings is O(1).

    Args:
        own: The slice of this node.
        name: Which of the node's trackers it is; the same on all nodes.
        encoder: Encodes metas.

    Example:
        >>> tracker = TrackerProtocol(Slice(OriginId("a", 1, 7)))
        >>> ref = tracker.track("room:1", "alice", {"online_at": 1}, owner=1)
        >>> [entry.key for entry in tracker.list("room:1")]
        ['alice']
        >>> tracker.untrack_owner(1)
        1
        >>> [type(event).__name__ for event in tracker.events()]
        ['Joined', 'Left']
    """

    def __init__(self, own: Slice, *, name: str = "", encoder: JsonEncoder | None = None) -> None:
        self.own = own
        self.name = name
        self.version = 0
        self._visible = TopicIndex()
        self._hidden = TopicIndex()
        self._owners = OwnerIndex()
        self._encoder = encoder or JsonEncoder()
        self._events: list[TrackerEvent] = []

    @property
    def origin(self) -> OriginId:
        """The present id of this node."""
        return self.own.origin

    # In: from the application.

    def track(self, topic: str, key: str, meta: Meta, *, owner: int, hidden: bool = False) -> str:
        """Track ``key`` in ``topic`` for ``owner`` and return the new ref.

        Topics and keys are names that were made (``roost.naming``), here as in all that follows.

        Raises:
            AlreadyTracked: The owner tracks this key in this topic; update it instead.
            PayloadError: ``meta`` is not a JSON object, or has over 65,536 bytes.
        """
        encoded = encode_meta(self._encoder, meta)
        # From here on no code of the application runs.
        if self._owners.get(owner, topic, key) is not None:
            raise AlreadyTracked(topic, key)
        own = self.own
        ref = own.next_ref
        entry = own.add(
            topic, key, add_refs(encoded, ref), owner=owner, hidden=hidden, tracker=self.name
        )
        self._owners.put(entry)
        self._appear(entry)
        return ref

    def untrack(self, topic: str, key: str, *, owner: int) -> bool:
        """Stop tracking one presence; False if there was none."""
        entry = self._owners.get(owner, topic, key)
        if entry is None:
            return False
        self._owners.remove(entry)
        self._remove(entry)
        return True

    def untrack_owner(self, owner: int) -> int:
        """Stop tracking all that ``owner`` tracks and return how many presences that were."""
        entries = self._owners.pop(owner)
        for entry in entries:
            self._remove(entry)
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
            PayloadError: The new meta is not a JSON object, or has over 65,536 bytes.
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
        ref = self.own.next_ref
        new = self.own.replace(old, add_refs(encoded, ref, old.ref), hidden=old.hidden)
        self._owners.put(new)
        self._replace(old, new)
        return ref

    def hide(self, topic: str, key: str, *, owner: int) -> str:
        """Take one presence out of the lists, and return its ref, which is new if this changed it.

        Raises:
            NotTracked: The owner does not track this key in this topic.
        """
        return self._set_hidden(topic, key, owner, True)

    def show(self, topic: str, key: str, *, owner: int) -> str:
        """Put one presence into the lists, and return its ref, which is new if this changed it.

        Raises:
            NotTracked: The owner does not track this key in this topic.
        """
        return self._set_hidden(topic, key, owner, False)

    def _set_hidden(self, topic: str, key: str, owner: int, hidden: bool) -> str:
        old = self._owners.get(owner, topic, key)
        if old is None:
            raise NotTracked(topic, key)
        if old.hidden is hidden:
            return old.ref
        ref = self.own.next_ref
        meta = add_refs(encode_meta(self._encoder, decode_meta(old.meta)), ref)
        new = self.own.replace(old, meta, hidden=hidden)
        self._owners.put(new)
        self._disappear(old)
        self._appear(new)
        return ref

    def _remove(self, entry: Entry) -> None:
        self.own.remove(entry)
        self._disappear(entry)

    # In: from the replication.

    def renew(self) -> None:
        """The slice began another life: what is tracked here is tracked anew, under new refs."""
        for old in self._owners.entries():
            meta = encode_meta(self._encoder, decode_meta(old.meta))
            ref = self.own.next_ref
            new = self.own.add(
                old.topic,
                old.key,
                add_refs(meta, ref, old.ref),
                owner=old.owner,
                hidden=old.hidden,
                tracker=self.name,
            )
            self._owners.put(new)
            self._replace(old, new)

    def end(self) -> None:
        """Take what it tracks out of the node's slice; here it stays as it was, to be read."""
        for entry in self._owners.entries():
            self.own.remove(entry)
        self._owners = OwnerIndex()

    def change(self, removed: Collection[Entry], added: Iterable[Entry]) -> None:
        """Entries of another origin went and came, in one step.

        Those of one owner, topic and key are an update, so that readers never see it missing.
        """
        if not removed:
            for new in added:
                self._appear(new)
            return
        successors = {(entry.owner, entry.topic, entry.key): entry for entry in added}
        for old in removed:
            successor = successors.pop((old.owner, old.topic, old.key), None)
            if successor is None:
                self._disappear(old)
            else:
                self._replace(old, successor)
        for new in successors.values():
            self._appear(new)

    def _replace(self, old: Entry, new: Entry) -> None:
        if old.hidden or new.hidden:
            self._disappear(old)
            self._appear(new)
            return
        self._visible.replace(old, new)
        self.version += 1
        self._events.append(Updated(old, new, self.version))

    def _appear(self, entry: Entry) -> None:
        if entry.hidden:
            self._hidden.add(entry)
            return
        is_first = self._visible.add(entry)
        self.version += 1
        self._events.append(Joined(entry, self.version, is_first))

    def _disappear(self, entry: Entry) -> None:
        if entry.hidden:
            self._hidden.remove(entry)
            return
        is_last = self._visible.remove(entry)
        self.version += 1
        self._events.append(Left(entry, self.version, is_last))

    # Out.

    def events(self) -> Sequence[TrackerEvent]:
        """What changed since the last call, in order."""
        events, self._events = self._events, []
        return events

    # Reads.

    def list(self, topic: str) -> Iterator[Entry]:
        """The visible entries of a topic, key by key; O(members of the topic)."""
        return self._visible.of(topic).entries()

    def list_hidden(self, topic: str) -> Iterator[Entry]:
        """The hidden entries of a topic, key by key."""
        return self._hidden.of(topic).entries()

    def list_all(self) -> Iterator[Entry]:
        """The visible entries of all topics."""
        for topic in self._visible.topics():
            yield from self.list(topic)

    def get_by_key(self, topic: str, key: str) -> tuple[Entry, ...]:
        """The visible entries of one key, in the order of their arrival."""
        return self._visible.of(topic).by_key(key)

    def keys(self, topic: str) -> Sequence[str]:
        """The visible keys of a topic, in the order of their arrival."""
        return self._visible.of(topic).keys()

    def has_key(self, topic: str, key: str) -> bool:
        """Whether a key is visible in a topic."""
        return self._visible.of(topic).has_key(key)

    def count_keys(self, topic: str) -> int:
        """How many keys are visible in a topic."""
        return self._visible.of(topic).count_keys

    def count_entries(self, topic: str) -> int:
        """How many presences are visible in a topic."""
        return self._visible.of(topic).count_entries

    def tracked(self, topic: str, key: str, *, owner: int) -> Entry | None:
        """What ``owner`` tracks as ``key`` in ``topic``, hidden or not."""
        return self._owners.get(owner, topic, key)

    def owned(self, owner: int) -> tuple[Entry, ...]:
        """All that ``owner`` tracks, hidden or not."""
        return self._owners.of(owner)
