"""Indexes over entries: by topic and key for readers, by owner for writers.

Hidden entries are not in an index, so reads never filter. Most keys have one entry and most owners
track one, and a dict for each would cost more than the entry itself; so a group is the entry while
it is alone, and a dict once it has company.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from roost.crdt.entry import Entry

__all__ = ["OwnerIndex", "TopicIndex"]

_KeyGroup: TypeAlias = Entry | dict[str, Entry]  # by ref
_OwnerGroup: TypeAlias = Entry | dict[tuple[str, str], Entry]  # by (topic, key)


class _Topic:
    __slots__ = ("count", "groups")

    def __init__(self) -> None:
        self.groups: dict[str, _KeyGroup] = {}
        self.count = 0


class TopicIndex:
    """Topic → key → entries, with counts. All but ``entries`` and ``keys`` is O(1).

    Example:
        >>> index = TopicIndex()
        >>> index.add(Entry("room:1", "alice", b"{}", 1, "r", 1))
        >>> index.count_keys("room:1"), index.count_keys("room:2")
        (1, 0)
    """

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}

    def add(self, entry: Entry) -> None:
        topic = self._topics.get(entry.topic)
        if topic is None:
            topic = self._topics[entry.topic] = _Topic()
        topic.count += 1
        group = topic.groups.get(entry.key)
        if group is None:
            topic.groups[entry.key] = entry
        elif type(group) is dict:
            group[entry.ref] = entry
        else:
            assert isinstance(group, Entry)
            topic.groups[entry.key] = {group.ref: group, entry.ref: entry}

    def remove(self, entry: Entry) -> None:
        topic = self._topics[entry.topic]
        group = topic.groups[entry.key]
        topic.count -= 1
        if type(group) is dict:
            del group[entry.ref]
            if len(group) == 1:
                (topic.groups[entry.key],) = group.values()
        else:
            del topic.groups[entry.key]
            if not topic.groups:
                del self._topics[entry.topic]

    def replace(self, old: Entry, new: Entry) -> None:
        """Put ``new`` where ``old`` was: same topic and key, never absent in between."""
        groups = self._topics[old.topic].groups
        group = groups[old.key]
        if type(group) is dict:
            del group[old.ref]
            group[new.ref] = new
        else:
            groups[old.key] = new

    def entries(self, topic: str) -> Iterator[Entry]:
        """All entries of a topic, key by key."""
        found = self._topics.get(topic)
        if found is None:
            return
        for key in list(found.groups):
            group = found.groups.get(key)
            if isinstance(group, dict):
                yield from tuple(group.values())
            elif group is not None:
                yield group

    def keys(self, topic: str) -> list[str]:
        """The keys of a topic, in the order of their arrival."""
        found = self._topics.get(topic)
        return [] if found is None else list(found.groups)

    def by_key(self, topic: str, key: str) -> tuple[Entry, ...]:
        """The entries of one key, in the order of their arrival."""
        found = self._topics.get(topic)
        group = None if found is None else found.groups.get(key)
        if group is None:
            return ()
        return tuple(group.values()) if isinstance(group, dict) else (group,)

    def topics(self) -> list[str]:
        return list(self._topics)

    def count_keys(self, topic: str) -> int:
        found = self._topics.get(topic)
        return 0 if found is None else len(found.groups)

    def count_entries(self, topic: str) -> int:
        found = self._topics.get(topic)
        return 0 if found is None else found.count


class OwnerIndex:
    """Owner → what it tracks; at most one entry for each (owner, topic, key)."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[int, _OwnerGroup] = {}

    def get(self, owner: int, topic: str, key: str) -> Entry | None:
        group = self._groups.get(owner)
        if group is None:
            return None
        if isinstance(group, dict):
            return group.get((topic, key))
        return group if group.key == key and group.topic == topic else None

    def put(self, entry: Entry) -> None:
        """Add an entry, or replace the one with the same owner, topic and key."""
        group = self._groups.get(entry.owner)
        if group is None:
            self._groups[entry.owner] = entry
        elif isinstance(group, dict):
            group[entry.topic, entry.key] = entry
        elif group.key == entry.key and group.topic == entry.topic:
            self._groups[entry.owner] = entry
        else:
            self._groups[entry.owner] = {
                (group.topic, group.key): group,
                (entry.topic, entry.key): entry,
            }

    def remove(self, entry: Entry) -> None:
        group = self._groups[entry.owner]
        if isinstance(group, dict):
            del group[entry.topic, entry.key]
            if len(group) == 1:
                (self._groups[entry.owner],) = group.values()
        else:
            del self._groups[entry.owner]

    def pop(self, owner: int) -> tuple[Entry, ...]:
        """Remove and return all that an owner tracks."""
        group = self._groups.pop(owner, None)
        if group is None:
            return ()
        return tuple(group.values()) if isinstance(group, dict) else (group,)
