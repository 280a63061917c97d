"""What changed in one topic since any version that somebody holds, sans I/O.

Theory of operation (docs/replication.md, rule 6.1). A feed is a short log of the changes of a
topic, in the order of their versions. Whoever holds the topic's state at a version v needs what the
changes of (v, now] amount to, and nothing else: refs that are visible now and were not at v join,
refs that were and are not leave. A ref that stands where it stood is left out, so that nobody sees
a leave without its join; and none is on both sides, since clients apply joins, then leaves.

From time to time the driver *takes* what is pending: most receivers then hold what they held
before, brought to the end. The log keeps more than is pending only as long as the driver knows of
somebody who holds less than the others; ``forget`` drops the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from roost.crdt.entry import Entry

__all__ = ["Change", "Diff", "NetChanges", "TopicFeed"]

MAX_COUNT: Final = 10_000  # refs in one diff; beyond, a fresh state is the shorter message
MAX_CHANGES_PER_REF: Final = 4  # in the log, on the average: a ref that comes and goes has many

_version_of = attrgetter("version")


class Change(msgspec.Struct, frozen=True, gc=False):
    """An entry became visible at a version, or stopped being so."""

    version: int
    entry: Entry
    is_visible: bool


class Diff(msgspec.Struct, frozen=True):
    """What changes of one topic amount to, in the versions (start, end].

    Args:
        start: Version that its receiver holds.
        end: Version that it holds then.
        joins: Entries that are visible at the end, and were not at the start.
        leaves: Entries that were visible at the start, and are not at the end.
    """

    start: int
    end: int
    joins: tuple[Entry, ...]
    leaves: tuple[Entry, ...]


class NetChanges:
    """What changes amount to, which are added one by one, the last one first.

    So one walk through a log yields the diffs for all who hold any version in it: each stops later
    than the one before.

    Attributes:
        joins, leaves: Key → ref → entry; the last changes come first.
        touched: The keys of either side that changed, as (is in joins, key), until it is emptied.
    """

    __slots__ = ("_is_visible", "joins", "leaves", "touched")

    def __init__(self) -> None:
        # At the end, by key and ref: two nodes of one id, which part later, give their refs twice.
        self._is_visible: dict[tuple[str, str], bool] = {}
        self.joins: dict[str, dict[str, Entry]] = {}
        self.leaves: dict[str, dict[str, Entry]] = {}
        self.touched: dict[tuple[bool, str], None] = {}

    def add(self, change: Change) -> None:
        """Add the change before those that were added."""
        entry, was_hidden = change.entry, change.is_visible
        ref, key = entry.ref, entry.key
        is_visible = self._is_visible.setdefault((key, ref), change.is_visible)
        side = self.joins if is_visible else self.leaves
        self.touched[is_visible, key] = None
        if is_visible is was_hidden:
            side.setdefault(key, {})[ref] = entry
        elif (group := side.get(key)) is not None:  # it ends as it began
            group.pop(ref, None)
            if not group:
                del side[key]


class TopicFeed:
    """Log the changes of one topic.

    Args:
        version: Version before the first change.
        max_count: How many refs what is pending may touch. Past it the feed logs nothing more and
            says so by ``overflowed``: tell the subscribers the state instead.

    Example:
        >>> feed, alice = TopicFeed(), Entry("room:1", "alice", b"{}", 1, "r", 1)
        >>> feed.join(alice, version=1)
        >>> feed.take()
        1
        >>> [entry.key for entry in feed.diff(0, 1).joins], feed.diff(1, 1).joins
        (['alice'], ())
    """

    __slots__ = ("_changes", "_end", "_max_count", "_refs", "_start", "_taken", "overflowed")

    def __init__(self, version: int = 0, *, max_count: int = MAX_COUNT) -> None:
        self._start = version  # of the log
        self._taken = version
        self._end = version
        self._max_count = max_count
        self._changes: list[Change] = []
        self._refs: set[str] = set()  # touched by what is pending
        self.overflowed = False

    @property
    def is_pending(self) -> bool:
        """Whether something changed since the last ``take``."""
        return self._end > self._taken

    def join(self, entry: Entry, version: int) -> None:
        """``entry`` became visible at ``version``."""
        self._log(entry, version, is_visible=True)

    def leave(self, entry: Entry, version: int) -> None:
        """``entry`` stopped being visible at ``version``."""
        self._log(entry, version, is_visible=False)

    def take(self) -> int:
        """What is pending is about to be told: return the version that it ends at.

        After an overflow there are no changes to be told, for nobody.
        """
        if self.overflowed:
            self.overflowed = False
            self._changes.clear()
            self._start = self._end
        self._refs.clear()
        self._taken = self._end
        return self._end

    def reaches(self, version: int) -> bool:
        """Whether the log has all that was taken since ``version``."""
        return version >= self._start

    def changes(self, start: int, end: int) -> Sequence[Change]:
        """The changes in (start, end]; the log must reach back so far."""
        changes = self._changes
        first = 0 if start == self._start else bisect_right(changes, start, key=_version_of)
        last = len(changes) if end == self._end else bisect_right(changes, end, key=_version_of)
        return changes[first:last]

    def diff(self, start: int, end: int) -> Diff:
        """What the changes in (start, end] amount to, in the order in which they came."""
        net = NetChanges()
        for change in reversed(self.changes(start, end)):
            net.add(change)
        return Diff(start, end, _in_order(net.joins), _in_order(net.leaves))

    def forget(self, version: int) -> None:
        """Nobody holds less than ``version`` any more."""
        if version <= self._start:
            return
        changes = self._changes
        if not changes or changes[-1].version <= version:
            changes.clear()
        else:
            del changes[: bisect_right(changes, version, key=_version_of)]
        self._start = version

    def _log(self, entry: Entry, version: int, *, is_visible: bool) -> None:
        self._end = version
        if self.overflowed:
            return
        self._refs.add(entry.ref)
        max_count = self._max_count
        if len(self._refs) > max_count or len(self._changes) >= max_count * MAX_CHANGES_PER_REF:
            self._overflow()
        else:
            self._changes.append(Change(version, entry, is_visible))

    def _overflow(self) -> None:
        """What was taken is kept, since it may be about to be told."""
        self.overflowed = True
        self._refs.clear()
        del self._changes[bisect_right(self._changes, self._taken, key=_version_of) :]


def _in_order(side: dict[str, dict[str, Entry]]) -> tuple[Entry, ...]:
    return tuple(_entries(reversed(side.values())))


def _entries(groups: Iterable[dict[str, Entry]]) -> Iterable[Entry]:
    for group in groups:
        yield from reversed(group.values())
