"""What one origin tracks at one number, and the numbered changes that led there.

Theory of operation (docs/replication.md, rule 1). An origin is the only writer of its slice. Its
changes are numbered 1, 2, 3 …; S(n) is the slice after the n-th. A change adds one entry, removes
one, or does both at once (an update). The log keeps the latest changes, bounded, and cuts *ranges*
from them: a range (a, b] names every entry added in it that is live at b, and every removal in it.
Whoever holds any S(r) with a ≤ r ≤ b reaches S(b) by dropping the named refs it holds and adding
the named entries it lacks. Nothing is cancelled inside a range: with an addition and its removal
both left out, a receiver that had seen the addition would keep a ghost that no number shows.

A *chunk* is the slice between two seqs: it names every entry of S(n) whose own seq is above one and
up to the other. Entries never change, and each has the seq of the change that added it, so a chunk
is right by itself, whatever becomes of the chunks beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from roost.crdt.entry import SEQ_SIZE, Entry
from roost.crdt.incarnation import OriginId

__all__ = ["Chunk", "Range", "Slice"]

LOG_COUNT: Final = 10_000  # changes: Phoenix's largest delta generation


class Range(msgspec.Struct, frozen=True):
    """The changes of one origin in (start, end].

    Args:
        start: Receivers at this seq or above, up to ``end``, may apply it.
        end: Where they are afterwards.
        added: Entries added in it and live at ``end``, in order.
        removed: Seqs of the entries removed in it, in order, added within it or not.
    """

    start: int
    end: int
    added: tuple[Entry, ...]
    removed: tuple[int, ...]

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message, and never fewer than it does."""
        return sum([entry.size for entry in self.added]) + SEQ_SIZE * len(self.removed)


class Chunk(msgspec.Struct, frozen=True):
    """The entries of S(end) whose seqs are in (above, upto]; there are no others there.

    Args:
        above: All of its entries have higher seqs.
        upto: None of its entries has a higher seq; None: it has the last ones.
        end: The number of the slice that it is cut from.
        added: Its entries.
        kept: The seqs of more of its entries, which the receiver has said that it has.
        check: Checksum of those, in that order; see ``checksum``.
    """

    above: int
    upto: int | None
    end: int
    added: tuple[Entry, ...]
    kept: tuple[int, ...] = ()
    check: int = 0

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message, and never fewer than it does."""
        return sum([entry.size for entry in self.added]) + SEQ_SIZE * len(self.kept)


class _Change(msgspec.Struct, frozen=True, gc=False):
    """One numbered change; no tuple, which the garbage collector would have to look at."""

    added: Entry | None
    removed: int  # the seq of the entry removed; 0 for none


class Slice:
    """The entries of one origin, held where they are made.

    Args:
        origin: Whose slice it is.
        log_count: How many changes the log holds at least, once there were as many; it holds at
            most twice as many.

    Example:
        >>> mine = Slice(OriginId("a", 1, 7))
        >>> alice = mine.add("room:1", "alice", b"{}", owner=1)
        >>> mine.remove(alice)
        >>> mine.seq, list(mine), mine.range_from(0).removed
        (2, [], (1,))
    """

    __slots__ = ("_entries", "_log", "_log_count", "_log_start", "_ref_prefix", "origin", "seq")

    def __init__(self, origin: OriginId, *, log_count: int = LOG_COUNT) -> None:
        self._log_count = log_count
        self.renew(origin)

    def renew(self, origin: OriginId) -> None:
        """Begin under another id, with nothing tracked and no changes."""
        self.origin = origin
        self._ref_prefix = origin.ref_prefix
        self.seq = 0
        self._entries: dict[int, Entry] = {}
        # The change with number n is at n - _log_start - 1.
        self._log: list[_Change] = []
        self._log_start = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def next_ref(self) -> str:
        """The ref that the next addition will have."""
        return f"{self._ref_prefix}{self.seq + 1:x}"

    def add(
        self,
        topic: str,
        key: str,
        meta: bytes,
        *,
        owner: int,
        hidden: bool = False,
        tracker: str = "",
    ) -> Entry:
        """Add an entry; ``meta`` carries ``next_ref``."""
        entry = Entry(topic, key, meta, owner, self._ref_prefix, self.seq + 1, hidden, tracker)
        self._change(entry, 0)
        self._entries[entry.seq] = entry
        return entry

    def remove(self, entry: Entry) -> None:
        """Remove an entry of this slice; KeyError if it is not there."""
        del self._entries[entry.seq]
        self._change(None, entry.seq)

    def replace(self, old: Entry, meta: bytes, *, hidden: bool = False) -> Entry:
        """Remove an entry and add its successor under one number; KeyError if it is not there."""
        del self._entries[old.seq]
        new = Entry(
            old.topic,
            old.key,
            meta,
            old.owner,
            old.ref_prefix,
            self.seq + 1,
            hidden,
            old.tracker,
        )
        self._change(new, old.seq)
        self._entries[new.seq] = new
        return new

    @property
    def entries(self) -> Mapping[int, Entry]:
        """Its entries by seq, in this order; they are those of the present number."""
        return self._entries

    def reaches(self, start: int) -> bool:
        """Whether the log reaches back to ``start``, and the slice as far."""
        return self._log_start <= start <= self.seq

    def range_from(self, start: int, end: int | None = None) -> Range | None:
        """The changes in (start, end], by default all after ``start``.

        Returns:
            None if the log does not reach back to ``start``.
        """
        if end is None:
            end = self.seq
        if not (self.reaches(start) and start <= end <= self.seq):
            return None
        changes = self._log[start - self._log_start : end - self._log_start]
        removed = tuple([each.removed for each in changes if each.removed])
        gone = set(removed)
        added = [each.added for each in changes if each.added is not None]
        return Range(start, end, tuple([each for each in added if each.seq not in gone]), removed)

    def cut(self, start: int, *, max_size: int, max_count: int) -> Range | None:
        """The changes after ``start``, as many as fit, and at least one.

        Args:
            start: Where the range begins; it is below the present number.
            max_size: Bytes of what it adds and removes, those of its first change excluded.
            max_count: Changes.

        Returns:
            None if the log does not reach back to ``start``.
        """
        if not self._log_start <= start < self.seq:
            return None
        log, first = self._log, start - self._log_start
        last = min(first + max_count, len(log))
        size = 0
        for at in range(first, last):
            added = log[at].added
            size += SEQ_SIZE if added is None else SEQ_SIZE + added.size
            if size > max_size and at > first:
                last = at
                break
        return self.range_from(start, self._log_start + last)

    def snapshot(self) -> Chunk:
        """All of it, at its present number."""
        return Chunk(0, None, self.seq, tuple(self._entries.values()))

    def _change(self, added: Entry | None, removed: int) -> None:
        self.seq += 1
        self._log.append(_Change(added, removed))
        if len(self._log) > 2 * self._log_count:  # dropped in halves: O(1) for each change
            dropped = len(self._log) - self._log_count
            del self._log[:dropped]
            self._log_start += dropped
