"""What the subscribers of one topic are told: joined diffs, sans I/O.

Theory of operation (REPLICATION.md section 6). Changes of a topic are gathered until the driver
takes them as one diff over the versions (start, end]. A diff is right for any receiver that holds
the topic's state at a version inside it, because it names where each ref that it touches stands at
its end: visible refs in ``joins``, others in ``leaves``, never both (clients apply joins, then
leaves, so a ref in both would be lost). A ref that ends as it began is left out, so that nobody
sees a leave without its join; but only if no state was handed out in between, whose receiver may
have seen the ref's other status.
"""

from __future__ import annotations

from typing import Final

import msgspec

from roost.crdt.entry import Entry

__all__ = ["Diff", "TopicFeed"]

MAX_COUNT: Final = 10_000  # refs in one diff; beyond, a fresh state is the shorter message


class Diff(msgspec.Struct, frozen=True):
    """The changes of one topic in the versions (start, end].

    Args:
        start: Version that the previous diff ended at.
        end: Version of the last change in it.
        joins: Entries touched in it that are visible at its end.
        leaves: Entries touched in it that are not.
    """

    start: int
    end: int
    joins: tuple[Entry, ...]
    leaves: tuple[Entry, ...]


class _Touched(msgspec.Struct, gc=False):
    entry: Entry
    was_visible: bool
    is_visible: bool


class TopicFeed:
    """Gather the changes of one topic into diffs.

    Args:
        version: Version before the first change.
        max_count: How many refs the next diff may touch. Past it the feed gathers nothing more and
            says so by ``overflowed``: tell the subscribers the state instead.

    Example:
        >>> feed, alice = TopicFeed(), Entry("room:1", "alice", b"{}", 1, "r", 1)
        >>> feed.join(alice, version=1)
        >>> diff = feed.take()
        >>> diff.start, diff.end, [entry.key for entry in diff.joins], diff.leaves
        (0, 1, ['alice'], ())
    """

    __slots__ = ("_end", "_handed_out", "_max_count", "_start", "_touched", "overflowed")

    def __init__(self, version: int = 0, *, max_count: int = MAX_COUNT) -> None:
        self._start = version
        self._end = version
        self._max_count = max_count
        self.overflowed = False
        self._touched: dict[str, _Touched] = {}
        self._handed_out = False

    @property
    def is_pending(self) -> bool:
        """Whether something changed since the last diff."""
        return self._end > self._start

    def join(self, entry: Entry, version: int) -> None:
        """``entry`` became visible at ``version``."""
        self._touch(entry, version, visible=True)

    def leave(self, entry: Entry, version: int) -> None:
        """``entry`` stopped being visible at ``version``."""
        self._touch(entry, version, visible=False)

    def hand_out(self) -> None:
        """Somebody got the topic's present state."""
        if self.is_pending:
            self._handed_out = True

    def take(self) -> Diff:
        """The diff since the last one; it may be empty, and is after an overflow."""
        keep_all = self._handed_out
        changed = [
            touched
            for touched in self._touched.values()
            if keep_all or touched.was_visible is not touched.is_visible
        ]
        diff = Diff(
            self._start,
            self._end,
            tuple(touched.entry for touched in changed if touched.is_visible),
            tuple(touched.entry for touched in changed if not touched.is_visible),
        )
        self._start = self._end
        self._touched = {}
        self._handed_out = False
        self.overflowed = False
        return diff

    def _touch(self, entry: Entry, version: int, *, visible: bool) -> None:
        self._end = version
        if self.overflowed:
            return
        touched = self._touched.get(entry.ref)
        if touched is not None:
            touched.is_visible = visible
        elif len(self._touched) < self._max_count:
            self._touched[entry.ref] = _Touched(entry, not visible, visible)
        else:
            self._touched = {}
            self.overflowed = True
