"""Cutting a slice into chunks, the latest entries first.

The latest come first since what changes in a slice while it is handed on has higher seqs than all
that is there: a receiver that has its end can follow the changes, and fills in the rest.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from zlib import crc32

from roost.crdt.entry import SEQ_SIZE, Entry
from roost.crdt.slice import Chunk

__all__ = ["Cutter", "checksum"]


def checksum(entries: Iterable[Entry]) -> int:
    """One number for entries, in their order; nobody is kept from forging it.

    It is of all that an entry has but its seq, which goes with it: two nodes of one id give equal
    refs, and so equal metas, to different presences.
    """
    check = 0
    for entry in entries:
        names = f"{entry.topic}\0{entry.key}\0{entry.tracker}\0{entry.owner}\0{entry.hidden:d}"
        check = crc32(entry.meta, crc32(names.encode(errors="surrogatepass"), check))
    return check


class Cutter:
    """Cuts chunks of one slice, which may change in between.

    To put a slice in order is one step, which takes 30 ms for a million entries. So a cutter keeps
    the order, 8 bytes for an entry, for as long as entries come with later seqs only; once others
    came, take a new one.

    Args:
        entries: The entries of the slice, by seq: not a copy.

    Example:
        >>> entries = {n: Entry("room:1", f"user:{n}", b"{}", n, "r", n) for n in (1, 2, 3)}
        >>> cutter = Cutter(entries)
        >>> chunk = cutter.cut(0, None, end=3, known=(0, 2), max_size=1_000, max_count=2)
        >>> chunk.above, [entry.key for entry in chunk.added], chunk.kept
        (1, ['user:3'], (2,))
    """

    __slots__ = ("_entries", "_order", "_ordered_at")

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self._order: list[int] = []
        self._ordered_at = 0  # the number of the slice then

    def __len__(self) -> int:
        """How many seqs are remembered, of entries that are gone as well."""
        return len(self._order)

    def cut(
        self,
        above: int,
        upto: int | None,
        *,
        end: int,
        known: tuple[int, int],
        max_size: int,
        max_count: int,
    ) -> Chunk:
        """Cut the upper part of (above, upto], as much as fits.

        Args:
            above: Where the chunk may end at the lowest.
            upto: Where it begins; None: with the last entry there is.
            end: The present number of the slice.
            known: (a, b): of entries with seqs in (a, b] only these are named.
            max_size: Bytes of its entries, the first of them excluded.
            max_count: Entries.
        """
        entries = self._entries
        if upto is None or upto > self._ordered_at:
            self._order_upto(end)
        order = self._order
        at = len(order) if upto is None else bisect_right(order, upto)
        added: list[Entry] = []
        kept: list[int] = []
        known_above, known_upto = known
        size = count = 0
        lowest = above
        while at and (seq := order[at - 1]) > above:
            entry = entries.get(seq)
            if entry is not None:
                if known_above < seq <= known_upto:
                    size += SEQ_SIZE
                    is_known = True
                else:
                    size += entry.size
                    is_known = False
                if count and (size > max_size or count >= max_count):
                    lowest = seq
                    break
                count += 1
                if is_known:
                    kept.append(seq)
                else:
                    added.append(entry)
            at -= 1
        check = checksum([entries[seq] for seq in kept])
        return Chunk(lowest, upto, end, tuple(added), tuple(kept), check)

    def _order_upto(self, end: int) -> None:
        """Entries may have come at this end; elsewhere they can only have gone."""
        entries, order = self._entries, self._order
        since = range(self._ordered_at + 1, end + 1)
        if order and len(order) + len(since) <= 2 * len(entries):
            order += [seq for seq in since if seq in entries]
        else:  # or too much of it is gone
            self._order = sorted(entries)
        self._ordered_at = end
