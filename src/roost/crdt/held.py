"""The slice of another origin, as far as it is known here.

Theory of operation (docs/replication.md, rule 1). Nobody but the origin makes a number. A range (a,
b] moves a holder of S(r) with a ≤ r ≤ b to S(b). What would lead back, or over a gap, changes
nothing. So deliveries in any order, repeated or lost, never leave the chain and never go backwards.

A slice that no range leads to comes in chunks, each of which is applied when it comes. Meanwhile it
is held *in part*: between some seqs it is that of a later number, in the gaps between them still
that of ``seq``::

    whole at seq --a chunk of a later number--> in part --the last gap is filled--> whole

The chunks may be cut at different numbers. Ranges that begin at the number of the first one are
right for it, and move it to their end, ``at``; they bring all entries that came since. A chunk of a
later number than ``at`` lacks only what such ranges are going to remove; to one of an earlier
number, the removals since are applied. So with all gaps filled, and ``at`` as far as the latest
chunk, what is held is exactly S(at).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from roost.crdt.cutter import checksum
from roost.crdt.entry import Entry
from roost.crdt.slice import Chunk, Range

__all__ = ["Gap", "HeldSlice", "SliceDiff", "join_ranges"]

MAX_RECENT_COUNT: Final = 1_000  # ranges since a slice is held in part; of older ones no chunk is
MAX_RECENT_REMOVED: Final = 20_000  # removals in them
MAX_GAPS: Final = 1_000  # so many chunks may be missing between others; more are dropped

Gap = tuple[int, int | None]
"""(above, upto): the seqs in (above, upto], to the end if ``upto`` is None."""


class SliceDiff(msgspec.Struct, frozen=True):
    """The exact difference of a slice before and after a step.

    Args:
        removed: Entries that are no longer in it.
        added: Entries that are new in it.
    """

    removed: tuple[Entry, ...]
    added: tuple[Entry, ...]


class _Partial:
    """How far a slice is that comes in chunks.

    Attributes:
        at: The number that what came so far is brought to by ranges.
        began_at: The number of its first chunk.
        newest: The latest number that a chunk was cut at.
        gaps: What has not come, in order.
        unchecked: Seqs of the entries in the gaps, in order: chunks say whether they are there.
        recent: The end and the removals of each range since, contiguous up to ``at``.
        floor: The number that those begin at.
        removed_count: How many removals they have.
        known: As in ``HeldSlice``.
    """

    __slots__ = (
        "at",
        "began_at",
        "floor",
        "gaps",
        "known",
        "newest",
        "recent",
        "removed_count",
        "unchecked",
    )

    def __init__(self, end: int, unchecked: list[int], known: tuple[int, int]) -> None:
        self.at = self.newest = self.floor = self.began_at = end
        self.known = known
        self.gaps: list[Gap] = [(0, None)]
        self.unchecked = unchecked
        self.recent: deque[tuple[int, tuple[int, ...]]] = deque()
        self.removed_count = 0

    def note(self, change: Range) -> None:
        """A range was applied."""
        self.at = change.end
        self.recent.append((change.end, change.removed))
        self.removed_count += len(change.removed)
        while len(self.recent) > MAX_RECENT_COUNT or self.removed_count > MAX_RECENT_REMOVED:
            self.floor, removed = self.recent.popleft()
            self.removed_count -= len(removed)

    def removed_since(self, end: int) -> set[int]:
        """The removals after ``end``, which is not below ``floor``."""
        return {seq for at, removed in self.recent if at > end for seq in removed}

    def fill(self, above: int, upto: int | None) -> list[Gap]:
        """Fill the gaps in (above, upto]; return what was missing there."""
        filled: list[Gap] = []
        left: list[Gap] = []
        for low, high in self.gaps:
            common = max(low, above), _lower(high, upto)
            if common[1] is not None and common[1] <= common[0]:
                left.append((low, high))
                continue
            filled.append(common)
            if low < common[0]:
                left.append((low, common[0]))
            if common[1] is not None and (high is None or common[1] < high):
                left.append((common[1], high))
        if len(left) > MAX_GAPS:
            return []
        self.gaps = left
        return filled

    @property
    def covered(self) -> tuple[int, int]:
        """What came above all gaps."""
        upto = self.gaps[-1][1] if self.gaps else 0
        return (0, 0) if upto is None else (upto, self.at)

    def take_unchecked(self, gap: Gap) -> list[int]:
        """The entries in a gap that is filled now."""
        above, upto = gap
        first = bisect_right(self.unchecked, above)
        last = len(self.unchecked) if upto is None else bisect_right(self.unchecked, upto)
        taken = self.unchecked[first:last]
        del self.unchecked[first:last]
        return taken


class HeldSlice:
    """S(seq) of another origin, or what came so far of a later one.

    Attributes:
        seq: The number that is held whole; while a later one comes, the last that was.

    Example:
        >>> from roost.crdt.incarnation import OriginId
        >>> from roost.crdt.slice import Slice
        >>> theirs, held = Slice(OriginId("b", 1, 7)), HeldSlice()
        >>> alice = theirs.add("room:1", "alice", b"{}", owner=1)
        >>> held.apply(theirs.range_from(0)).added == (alice,)
        True
        >>> held.seq
        1
        >>> HeldSlice().take(theirs.snapshot()).added == (alice,)
        True
    """

    __slots__ = ("_entries", "_is_distrusted", "_partial", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self._is_distrusted = False  # something was to be here, and was not
        self._entries: dict[int, Entry] = {}
        self._partial: _Partial | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def entries(self) -> Mapping[int, Entry]:
        """What is held, by seq."""
        return self._entries

    @property
    def is_partial(self) -> bool:
        """Whether a later slice has come in part."""
        return self._partial is not None

    @property
    def at(self) -> int:
        """The number that the next range begins at."""
        return self.seq if self._partial is None else self._partial.at

    @property
    def began_at(self) -> int:
        """The number of the first chunk of a later slice; ``seq`` if none came."""
        return self.seq if self._partial is None else self._partial.began_at

    @property
    def floor(self) -> int:
        """The lowest number that a chunk may be of."""
        return self.seq if self._partial is None else self._partial.floor

    @property
    def newest(self) -> int:
        """The latest number that anything held is of."""
        return self.seq if self._partial is None else self._partial.newest

    @property
    def gaps(self) -> Sequence[Gap]:
        """What has not come of a later slice, in order."""
        return () if self._partial is None else self._partial.gaps

    @property
    def known(self) -> tuple[int, int]:
        """(a, b): those with seqs in (a, b] that are still live are here, as far as is known."""
        if self._is_distrusted:
            return 0, 0
        return (0, self.seq) if self._partial is None else self._partial.known

    def reaches(self, change: Range) -> bool:
        """Whether ``change`` begins at or below what is held: there is no gap before it."""
        return change.start <= self.at

    def contradicts(self, chunk: Chunk) -> bool:
        """Whether an entry that is held has another content than in a chunk.

        Then two have made changes under one id, and neither is the later of the other.
        """
        entries = self._entries
        return any(entries.get(entry.seq, entry) != entry for entry in chunk.added)

    def apply(self, change: Range) -> SliceDiff | None:
        """Take a range in one step.

        Returns:
            What it changed; None if it leads nowhere: it is old, or there is a gap before it.
        """
        at, partial = self.at, self._partial
        if change.end <= at or not self.reaches(change):
            return None
        entries = self._entries
        taken = [entries.pop(seq, None) for seq in change.removed]
        removed = tuple([entry for entry in taken if entry is not None])
        added = change.added
        if partial is not None:  # chunks of later numbers may have brought some of it
            added = tuple([e for e in added if e.seq > at and e.seq not in entries])
        elif change.start != at and entries:  # else nothing of it can be here
            added = tuple([entry for entry in added if entry.seq > at])
        for entry in added:
            entries[entry.seq] = entry
        if partial is None:
            self.seq = change.end
        else:
            partial.note(change)
            self._finish(partial)
        return SliceDiff(removed, added)

    def take(self, chunk: Chunk, *, starts_over: bool = False) -> SliceDiff | None:
        """Take a chunk.

        Args:
            chunk: Of a slice that no range leads to.
            starts_over: No range leads to it from what came so far, either: what is held is known
                to that chunk's sender, and all of it is to be looked at once more.

        Returns:
            What it changed; None if it leads nowhere: it is old, or what it names is not here.
        """
        partial = self._partial
        is_begun = partial is not None and not (starts_over and chunk.upto is None)
        if not is_begun and chunk.end > self.at:
            if not self._has(chunk):
                return None
            partial = self._partial = self._begin(chunk.end, partial)
        elif partial is None or chunk.end < partial.floor or not self._has(chunk):
            return None
        gone = partial.removed_since(chunk.end) if chunk.end < partial.at else set()
        filled = partial.fill(chunk.above, chunk.upto)
        if not filled:
            return None
        entries = self._entries
        named = {entry.seq for entry in chunk.added}
        named.update(chunk.kept)
        named -= gone
        removed = [
            entry
            for gap in filled
            for seq in partial.take_unchecked(gap)
            if seq not in named and (entry := entries.pop(seq, None)) is not None
        ]
        added = [
            entry
            for above, upto in filled  # nearly always one
            for entry in chunk.added
            if above < entry.seq
            and (upto is None or entry.seq <= upto)
            and entry.seq not in entries
            and entry.seq not in gone
        ]
        for entry in added:
            entries[entry.seq] = entry
        partial.newest = max(partial.newest, chunk.end)
        self._finish(partial)
        return SliceDiff(tuple(removed), tuple(added))

    def _begin(self, end: int, before: _Partial | None) -> _Partial:
        """Begin to take a slice in chunks of a number, in place of those that came before.

        If some of those were cut later, what they brought beyond that number is not for the new
        ones to judge: the ranges up to there say what became of it.
        """
        known = self.known
        if before is not None:
            known = max(known, before.covered, key=_width)
        begun = _Partial(end, sorted([seq for seq in self._entries if seq <= end]), known)
        if before is not None:
            begun.newest = max(end, before.newest)
        return begun

    def snapshot(self) -> Chunk:
        """All of it, at its present number; it is whole."""
        assert self._partial is None, "what is held in part is no slice"
        return Chunk(0, None, self.seq, tuple(self._entries.values()))

    def _has(self, chunk: Chunk) -> bool:
        """Whether all that a chunk only names is here; if not, nothing is taken for known."""
        if not chunk.kept:
            return True
        held = [self._entries.get(seq) for seq in chunk.kept]
        here = [entry for entry in held if entry is not None]
        if len(here) == len(held) and checksum(here) == chunk.check:
            return True
        if chunk.end >= self.at:  # else ranges may have removed some since
            self._is_distrusted = True
        return False

    def _finish(self, partial: _Partial) -> None:
        if not partial.gaps and partial.at >= partial.newest:
            self.seq, self._partial = partial.at, None
            self._is_distrusted = False


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _width(interval: tuple[int, int]) -> int:
    return interval[1] - interval[0]


def join_ranges(first: Range, second: Range) -> Range:
    """One range for two that chain: ``first.start ≤ second.start ≤ first.end ≤ second.end``.

    Raises:
        ValueError: They do not chain.
    """
    if not first.start <= second.start <= first.end <= second.end:
        raise ValueError(
            f"({first.start}, {first.end}] and ({second.start}, {second.end}] do not chain"
        )
    removed = sorted({*first.removed, *second.removed})
    gone = set(second.removed)
    added = {entry.seq: entry for entry in first.added if entry.seq not in gone}
    added |= {entry.seq: entry for entry in second.added}
    return Range(
        first.start,
        second.end,
        tuple(added[seq] for seq in sorted(added)),
        tuple(removed),
    )
