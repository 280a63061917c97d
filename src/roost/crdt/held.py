"""The slice of another origin, as far as it is known here.

Theory of operation (REPLICATION.md section 1). Nobody but the origin makes a number, and every
slice held anywhere is S(n) for some n. A range (a, b] moves a holder of S(r) with a ≤ r ≤ b to
S(b); a snapshot moves anybody below it. What would lead back, or over a gap, changes nothing. So
deliveries in any order, repeated or lost, never leave the chain and never go backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from roost.crdt.entry import Entry
from roost.crdt.slice import Range

__all__ = ["HeldSlice", "SliceDiff", "join_ranges"]


class SliceDiff(msgspec.Struct, frozen=True):
    """The exact difference of a slice before and after a step.

    Args:
        removed: Entries that are no longer in it.
        added: Entries that are new in it.
    """

    removed: tuple[Entry, ...]
    added: tuple[Entry, ...]


class HeldSlice:
    """S(seq) of another origin.

    Example:
        >>> from roost.crdt.origin import OriginId
        >>> from roost.crdt.slice import Slice
        >>> theirs, held = Slice(OriginId("b", 1, 7)), HeldSlice()
        >>> alice = theirs.add("room:1", "alice", b"{}", owner=1)
        >>> held.apply(theirs.range_from(0)).added == (alice,)
        True
        >>> held.seq
        1
    """

    __slots__ = ("_entries", "seq")

    def __init__(self) -> None:
        self.seq = 0
        self._entries: dict[int, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def reaches(self, change: Range) -> bool:
        """Whether ``change`` begins at or below what is held: there is no gap before it."""
        return change.start is None or change.start <= self.seq

    def contradicts(self, snapshot: Range) -> bool:
        """Whether what is held has another content than a snapshot under the same number.

        Then two have made changes under one id, and neither is the later of the other.
        """
        entries = self._entries
        return any(entries.get(entry.seq, entry) != entry for entry in snapshot.added)

    def apply(self, change: Range) -> SliceDiff | None:
        """Take a range or a snapshot in one step.

        Returns:
            What it changed; None if it leads nowhere: it is old, or there is a gap before it.
        """
        if change.end <= self.seq or not self.reaches(change):
            return None
        entries = self._entries
        gone: Iterable[int] = change.removed
        if change.start is None:
            named = {entry.seq for entry in change.added}
            gone = [seq for seq in entries if seq not in named]
        taken = [entries.pop(seq, None) for seq in gone]
        removed = tuple([entry for entry in taken if entry is not None])
        added = change.added
        if change.start != self.seq and entries:  # else nothing of it can be here
            added = tuple([entry for entry in added if entry.seq not in entries])
        for entry in added:
            entries[entry.seq] = entry
        self.seq = change.end
        return SliceDiff(removed, added)

    def snapshot(self) -> Range:
        """The exact slice at its present number."""
        return Range(None, self.seq, tuple(self._entries.values()), ())


def join_ranges(first: Range, second: Range) -> Range:
    """One range for two that chain: ``first.start ≤ second.start ≤ first.end ≤ second.end``.

    Raises:
        ValueError: They do not chain.
    """
    if first.start is None or second.start is None:
        raise ValueError("a snapshot is no range: apply it, and then the range")
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
