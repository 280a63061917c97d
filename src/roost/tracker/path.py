"""The points of this node's history that others may hold (docs/replication.md, rule 1.7).

A number alone does not name a slice. A node may be copied with its id and all that it knows (a
virtual machine that is cloned, or goes on from an old image), and each of the two makes changes of
its own under the same numbers. So each broadcast draws 64 random bits, the *mark* of the number
that it leads to. A number and its mark are a point of one history only, and whoever meets one that
is not of this history has proof that somebody else speaks under the id of this node.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

from roost.crdt.slice import LOG_COUNT

__all__ = ["MAX_POINTS", "NO_MARK", "Path"]

MAX_POINTS: Final = LOG_COUNT  # as far back as ranges are cut; there are at most twice as many
NO_MARK: Final = 0  # of the beginning, and of what nodes say that know no marks: it fits any


class Path:
    """The latest points of this node's history, in order.

    Example:
        >>> path = Path()
        >>> path.add(3, 77)
        >>> path.judge(3, 77), path.judge(3, 78), path.judge(2, 77)
        (True, False, False)
    """

    def __init__(self) -> None:
        self._seqs = [0]
        self._marks = [NO_MARK]

    def __len__(self) -> int:
        return len(self._seqs)

    @property
    def mark(self) -> int:
        """The mark of the last point."""
        return self._marks[-1]

    def add(self, seq: int, mark: int) -> None:
        """A broadcast leads to ``seq``, which is above all before."""
        self._seqs.append(seq)
        self._marks.append(mark)
        if len(self._seqs) > 2 * MAX_POINTS:  # dropped in halves: O(1) for each broadcast
            del self._seqs[:-MAX_POINTS]
            del self._marks[:-MAX_POINTS]

    def mark_of(self, seq: int) -> int:
        """The mark of a number; ``NO_MARK`` if it has none, or is too long ago."""
        at = bisect_left(self._seqs, seq)
        is_there = at < len(self._seqs) and self._seqs[at] == seq
        return self._marks[at] if is_there else NO_MARK

    def points_after(self, seq: int) -> list[tuple[int, int]]:
        """The points beyond that of ``seq``, with the marks of their numbers, in order."""
        at = bisect_right(self._seqs, seq)
        return list(zip(self._seqs[at:], self._marks[at:], strict=True))

    def judge(self, seq: int, mark: int) -> bool | None:
        """Whether a point is one of this history; None if that is too long ago to tell."""
        if mark == NO_MARK:
            return True
        at = bisect_left(self._seqs, seq)
        if at < len(self._seqs) and self._seqs[at] == seq:
            return self._marks[at] == mark
        return None if at == 0 else False
