"""A tracker of one size, and its operations, timed in batches that leave the size as it was."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any, Final

from roost.aliases import Meta
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Slice
from roost.tracker.protocol import TrackerProtocol

__all__ = ["LAYOUTS", "OPERATIONS", "Layout", "Population"]

PLAIN: Final = "for comparison: get of a plain dict"
OPERATIONS: Final = (
    "track",
    "update with a map",
    "update with a function",
    "untrack",
    "untrack_owner, per presence",
    "get_by_key",
    "count_keys",
    "count_entries",
    "list, per member",
    PLAIN,
)
META: Final[Meta] = {"online_at": 1795323696}
BATCH_COUNT: Final = 80
"""Operations between two looks at the clock: few beside the smallest size, and no divisor of the
10,000 changes after which the log is trimmed, so that trims fall on track and untrack alike."""


@dataclass(frozen=True)
class Layout:
    """How presences spread; a tenth of the keys have two."""

    title: str
    topic_count: int
    owner_size: int  # presences of each owner


LAYOUTS: Final = (
    Layout("1 topic, one owner per presence", 1, 1),
    Layout("1000 topics, one owner per presence", 1_000, 1),
    Layout("1000 topics, one owner per 100 presences", 1_000, 100),
)


class Population:
    """A tracker with ``size`` presences, and the operations to time on it."""

    def __init__(self, layout: Layout, size: int) -> None:
        self.tracker = TrackerProtocol(Slice(OriginId("a", 1, 7)))
        self._size = size
        self._topics = [f"room:{number}" for number in range(layout.topic_count)]
        self._owner_size = layout.owner_size
        self._owner_count = max(2, size // layout.owner_size)
        self._fresh = size
        self._rng = random.Random(size)
        for number in range(size):
            topic, key, owner = self.place(number)
            self.tracker.track(topic, key, META, owner=owner)
            if number % BATCH_COUNT == 0:
                self.tracker.events()
        self.tracker.events()

    def place(self, number: int) -> tuple[str, str, int]:
        """Topic, key and owner of one presence: of eleven, the last two share a key."""
        block, rest = divmod(number, 11)
        key = block * 10 + min(rest, 9)
        owner = number if self._owner_size == 1 else number % self._owner_count
        return self._topics[key % len(self._topics)], f"user-{key}", owner

    def time_operations(self, operation_count: int) -> dict[str, float]:
        """Return the seconds that each of OPERATIONS took on average."""
        batch_count = max(1, operation_count // BATCH_COUNT)
        seconds = dict.fromkeys(OPERATIONS, 0.0)
        operations = dict.fromkeys(OPERATIONS, batch_count * BATCH_COUNT)
        for _ in range(batch_count):
            track, untrack = self._track_and_untrack()
            seconds["track"] += track
            seconds["untrack"] += untrack
        for name, meta in (("update with a map", META), ("update with a function", _away)):
            seconds[name] = sum(self._update(meta) for _ in range(batch_count))
        for name, read in (
            ("get_by_key", self._get_by_key),
            ("count_keys", self._count_keys),
            ("count_entries", self._count_entries),
            (PLAIN, self._get_of_a_plain_dict),
        ):
            seconds[name] = sum(read() for _ in range(batch_count))
        for name, several in (
            ("untrack_owner, per presence", self._untrack_owner),
            ("list, per member", self._list),
        ):
            seconds[name], operations[name] = several(operation_count)
        return {name: seconds[name] / operations[name] for name in OPERATIONS}

    @cached_property
    def _plain(self) -> dict[str, int]:
        return {self.place(number)[1]: number for number in range(self._size)}

    def _fresh_batch(self) -> list[tuple[str, str, int]]:
        start, self._fresh = self._fresh, self._fresh + BATCH_COUNT
        return [self.place(number) for number in range(start, self._fresh)]

    def _present_batch(self) -> list[tuple[str, str, int]]:
        return [self.place(self._rng.randrange(self._size)) for _ in range(BATCH_COUNT)]

    def _track_and_untrack(self) -> tuple[float, float]:
        tracker, batch = self.tracker, self._fresh_batch()
        start = perf_counter()
        for topic, key, owner in batch:
            tracker.track(topic, key, META, owner=owner)
        tracker.events()
        middle = perf_counter()
        for topic, key, owner in batch:
            tracker.untrack(topic, key, owner=owner)
        tracker.events()
        return middle - start, perf_counter() - middle

    def _untrack_owner(self, operation_count: int) -> tuple[float, int]:
        """Owners leave, a batch of presences at least; who left comes back, untimed."""
        tracker, seconds, count = self.tracker, 0.0, 0
        while count < operation_count:
            gone: dict[tuple[str, str, int], None] = {}  # a set in order
            while len(gone) < min(BATCH_COUNT, self._size // 2):
                owner = self._rng.randrange(min(self._owner_count, self._size))
                numbers = range(owner, self._size, self._owner_count)
                gone.update(dict.fromkeys(map(self.place, numbers)))
            owners = dict.fromkeys(owner for _, _, owner in gone)
            start = perf_counter()
            for owner in owners:
                tracker.untrack_owner(owner)
            tracker.events()
            seconds += perf_counter() - start
            count += len(gone)
            for topic, key, owner in gone:
                tracker.track(topic, key, META, owner=owner)
            tracker.events()
        return seconds, count

    def _update(self, meta: Meta | Callable[[dict[str, Any]], Meta]) -> float:
        tracker, batch = self.tracker, self._present_batch()
        start = perf_counter()
        for topic, key, owner in batch:
            tracker.update(topic, key, meta, owner=owner)
        tracker.events()
        return perf_counter() - start

    def _get_by_key(self) -> float:
        tracker, batch = self.tracker, self._present_batch()
        start = perf_counter()
        for topic, key, _ in batch:
            tracker.get_by_key(topic, key)
        return perf_counter() - start

    def _get_of_a_plain_dict(self) -> float:
        """The same keys without the tracker: how much of a slope is the machine's caches."""
        plain, batch = self._plain, self._present_batch()
        start = perf_counter()
        for _, key, _ in batch:
            plain.get(key)
        return perf_counter() - start

    def _count_keys(self) -> float:
        tracker, batch = self.tracker, self._present_batch()
        start = perf_counter()
        for topic, _, _ in batch:
            tracker.count_keys(topic)
        return perf_counter() - start

    def _count_entries(self) -> float:
        tracker, batch = self.tracker, self._present_batch()
        start = perf_counter()
        for topic, _, _ in batch:
            tracker.count_entries(topic)
        return perf_counter() - start

    def _list(self, operation_count: int) -> tuple[float, int]:
        """Whole topics, until enough members were met."""
        tracker, seconds, count = self.tracker, 0.0, 0
        while count < operation_count:
            topic, _, _ = self.place(self._rng.randrange(self._size))
            members = 0
            start = perf_counter()
            for _ in tracker.list(topic):
                members += 1
            seconds += perf_counter() - start
            if not members:
                raise AssertionError(f"{topic!r} is empty: a batch did not put back what it took")
            count += members
        return seconds, count


def _away(meta: dict[str, Any]) -> dict[str, Any]:
    return {**meta, "status": "away"}
