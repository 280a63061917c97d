"""Ranges and snapshots that arrive in parts."""

from __future__ import annotations

from itertools import chain
from typing import Final, TypeAlias

from roost.crdt.entry import Entry
from roost.crdt.slice import Range
from roost.tracker.messages import Part

__all__ = ["Assembly"]

MAX_COUNT: Final = 8  # things of one origin being assembled; one more drops the one that is stale

_Piece: TypeAlias = tuple[list[Entry], tuple[int, ...]]  # what it adds, what it removes
_Name: TypeAlias = tuple[object, int | None, int, int]  # what it answers, start, end, count


class Assembly:
    """Put the parts of one origin's ranges together; parts of different ones are never mixed.

    Args:
        ref_prefix: Of the origin.
    """

    __slots__ = ("_parts", "_progress_at", "_ref_prefix")

    def __init__(self, ref_prefix: str) -> None:
        self._ref_prefix = ref_prefix
        self._parts: dict[_Name, dict[int, _Piece]] = {}
        self._progress_at: dict[_Name, float] = {}

    def add(self, part: Part, answers: object, now: float) -> Range | None:
        """Take a part; the range once it is whole.

        Args:
            part: The part.
            answers: The request that it is an answer to, and who sent it.
            now: On the protocol's clock.
        """
        if not 0 <= part.index < part.count:
            return None
        if part.count == 1:
            added = tuple(part.entries(self._ref_prefix))
            return Range(part.start, part.end, added, part.removed)
        name = (answers, part.start, part.end, part.count)
        if name not in self._parts and len(self._parts) >= MAX_COUNT:
            self._drop(min(self._progress_at, key=self._progress_at.__getitem__))
        parts = self._parts.setdefault(name, {})
        if part.index not in parts:
            # Made now, part by part, so that the last one does not hold up the caller for all.
            parts[part.index] = part.entries(self._ref_prefix), part.removed
        self._progress_at[name] = now
        if len(parts) < part.count:
            return None
        self._drop(name)
        in_order = [parts[index] for index in range(part.count)]
        return Range(
            part.start,
            part.end,
            tuple(chain.from_iterable(added for added, _ in in_order)),
            tuple(chain.from_iterable(removed for _, removed in in_order)),
        )

    def drop_stale(self, before: float) -> None:
        """Drop what made no progress since ``before``."""
        for name in [name for name, at in self._progress_at.items() if at < before]:
            self._drop(name)

    def __len__(self) -> int:
        return len(self._parts)

    def _drop(self, name: _Name) -> None:
        del self._parts[name]
        del self._progress_at[name]
