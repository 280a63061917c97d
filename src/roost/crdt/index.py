"""Indexes over entries: by topic and key for readers, by owner for writers.

Hidden entries are not in an index, so reads never filter. Most keys have one entry and most owners
track one, and a dict for each would cost more than the entry itself; so a group is the entry while
it is alone, and a dict once there are more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

from roost.crdt.entry import Entry

__all__ = ["KeyIndex", "OwnerIndex", "TopicIndex"]

_KeyGroup: TypeAlias = Entry | dict[str, Entry]  # by ref
_OwnerGroup: TypeAlias = Entry | dict[tuple[str, str], Entry]  # by (topic, key)


class KeyIndex:
    """Key → entries, with a count. All but ``entries`` and ``keys`` is O(1).

    Example:
        >>> index = KeyIndex()
        >>> index.add(Entry("room:1", "alice", b"{}", 1, "r", 1))
        True
        >>> index.add(Entry("room:1", "alice", b"{}", 2, "r", 2))
        False
        >>> index.count_keys, index.count_entries
        (1, 2)
    """

    __slots__ = ("_groups", "count_entries")

    def __init__(self) -> None:
        self._groups: dict[str, _KeyGroup] = {}
        self.count_entries = 0

    def add(self, entry: Entry) -> bool:
        """Add an entry; return whether it is the first of its key."""
        groups = self._groups
        self.count_entries += 1
        group = groups.get(entry.key)
        if group is None:
            groups[entry.key] = entry
            return True
        if type(group) is dict:
            group[entry.ref] = entry
        else:
            assert isinstance(group, Entry)
            groups[entry.key] = {group.ref: group, entry.ref: entry}
        return False

    def remove(self, entry: Entry) -> bool:
        """Remove an entry; return whether it was the last of its key."""
        group = self._groups[entry.key]
        self.count_entries -= 1
        if type(group) is not dict:
            del self._groups[entry.key]
            return True
        del group[entry.ref]
        if len(group) == 1:
            (self._groups[entry.key],) = group.values()
        return False

    def replace(self, old: Entry, new: Entry) -> None:
        """Put ``new`` where ``old`` was: same key, never absent in between."""
        group = self._groups[old.key]
        if type(group) is dict:
            del group[old.ref]
            group[new.ref] = new
        else:
            self._groups[old.key] = new

    def entries(self) -> Iterator[Entry]:
        """All entries, key by key."""
        groups = self._groups
        for key in list(groups):
            group = groups.get(key)
            if isinstance(group, dict):
                yield from tuple(group.values())
            elif group is not None:
                yield group

    def by_key(self, key: str) -> tuple[Entry, ...]:
        """The entries of one key, in the order of their arrival."""
        group = self._groups.get(key)
        if group is None:
            return ()
        return tuple(group.values()) if isinstance(group, dict) else (group,)

    def has_key(self, key: str) -> bool:
        return key in self._groups

    def keys(self) -> list[str]:
        """The keys, in the order of their arrival."""
        return list(self._groups)

    @property
    def count_keys(self) -> int:
        return len(self._groups)


class TopicIndex:
    """Topic → key → entries, with counts. All but ``entries`` and ``keys`` is O(1).

    Example:
        >>> index = TopicIndex()
        >>> index.add(Entry("room:1", "alice", b"{}", 1, "r", 1))
        True
        >>> index.of("room:1").count_keys, index.of("room:2").count_keys
        (1, 0)
    """

    __slots__ = ("_topics",)

    def __init__(self) -> None:
        self._topics: dict[str, KeyIndex] = {}

    def add(self, entry: Entry) -> bool:
        """Add an entry; return whether it is the first of its key in its topic."""
        index = self._topics.get(entry.topic)
        if index is None:
            index = self._topics[entry.topic] = KeyIndex()
        return index.add(entry)

    def remove(self, entry: Entry) -> bool:
        """Remove an entry; return whether it was the last of its key in its topic."""
        index = self._topics[entry.topic]
        is_last = index.remove(entry)
        if not index.count_entries:
            del self._topics[entry.topic]
        return is_last

    def replace(self, old: Entry, new: Entry) -> None:
        """Put ``new`` where ``old`` was: same topic and key, never absent in between."""
        self._topics[old.topic].replace(old, new)

    def of(self, topic: str) -> KeyIndex:
        """The index of one topic, to be read; empty if nobody is there."""
        return self._topics.get(topic, _NOBODY)

    def topics(self) -> list[str]:
        return list(self._topics)


_NOBODY: Final = KeyIndex()


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

    def entries(self) -> list[Entry]:
        """All that is tracked, owner by owner."""
        return [entry for owner in self._groups for entry in self.of(owner)]

    def of(self, owner: int) -> tuple[Entry, ...]:
        """All that an owner tracks."""
        group = self._groups.get(owner)
        if group is None:
            return ()
        return tuple(group.values()) if isinstance(group, dict) else (group,)

    def pop(self, owner: int) -> tuple[Entry, ...]:
        """Remove and return all that an owner tracks."""
        entries = self.of(owner)
        self._groups.pop(owner, None)
        return entries
