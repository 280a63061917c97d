"""The oracle refuses evidence that is spoiled in one place, wherever in a history that is.

Histories that go well are played again, and at one place something else is told, or held, than the
protocol said. There is no spoil that does not matter: each event has a version of its own, so that
even two that could be told in any order were told in one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from unittest.mock import patch

import msgspec
import pytest

from roost.crdt.entry import Entry
from roost.crdt.held import HeldSlice, SliceDiff
from roost.crdt.slice import Range
from roost.testing import Oracle
from roost.testing.simulation import SimulatedNode
from roost.tracker.protocol import Joined, Left, TrackerEvent, TrackerProtocol, Updated
from tests.simulation.histories import draw
from tests.simulation.playing import failure

SEEDS = range(40)

Events = list[TrackerEvent]
Spoil = Callable[[Events, int, Events], Events | None]
"""What is told, where to spoil it, and what was told last, perhaps by another node: what is told
instead, None if this cannot be spoiled so."""


def drop(events: Events, at: int, last: Events) -> Events | None:
    return events[:at] + events[at + 1 :]


def double(events: Events, at: int, last: Events) -> Events | None:
    return [*events[: at + 1], *events[at:]]


def swap(events: Events, at: int, last: Events) -> Events | None:
    if at + 1 == len(events):
        return None
    return [*events[:at], events[at + 1], events[at], *events[at + 2 :]]


def move(events: Events, at: int, last: Events) -> Events | None:
    """What was told last, by whomever, is told here."""
    return [*events[:at], *last[-1:], *events[at:]] if last else None


def change_ref(events: Events, at: int, last: Events) -> Events | None:
    event = events[at]
    spoiled: TrackerEvent
    if isinstance(event, Updated):
        spoiled = msgspec.structs.replace(event, new=_other(event.new))
    else:
        spoiled = msgspec.structs.replace(event, entry=_other(event.entry))
    return [*events[:at], spoiled, *events[at + 1 :]]


def change_side(events: Events, at: int, last: Events) -> Events | None:
    """A join is told as a leave, and a leave as a join."""
    match events[at]:
        case Joined(entry, version, is_first):
            other: TrackerEvent = Left(entry, version, is_first)
        case Left(entry, version, is_last):
            other = Joined(entry, version, is_last)
        case _:
            return None
    return [*events[:at], other, *events[at + 1 :]]


def change_edge(events: Events, at: int, last: Events) -> Events | None:
    """Who is the first, or the last, of a key is told as one of several, and the reverse."""
    match events[at]:
        case Joined(entry, version, is_first):
            other: TrackerEvent = Joined(entry, version, not is_first)
        case Left(entry, version, is_last):
            other = Left(entry, version, not is_last)
        case _:
            return None
    return [*events[:at], other, *events[at + 1 :]]


def halve_update(events: Events, at: int, last: Events) -> Events | None:
    """Of an update only the join is told."""
    event = events[at]
    if not isinstance(event, Updated):
        return None
    return [*events[:at], Joined(event.new, event.version, False), *events[at + 1 :]]


def _other(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, seq=entry.seq + 1_000_000)


def _key(event: TrackerEvent) -> tuple[str, str]:
    entry = event.new if isinstance(event, Updated) else event.entry
    return entry.topic, entry.key


class Spoiler:
    """Stands between all trackers and those who are told.

    Args:
        spoil: How.
        after: How many batches of events are left as they are; the next that can be is spoiled.
        rng: Chooses the place in it.
    """

    def __init__(self, spoil: Spoil | None, after: int, rng: Random) -> None:
        self.batch_count = 0
        self.has_spoiled = False
        self._spoil = spoil
        self._after = after
        self._rng = rng
        self._last: Events = []
        self._events = TrackerProtocol.events

    def __call__(self, tracker: TrackerProtocol) -> Events:
        events = list(self._events(tracker))
        if not events:
            return events
        self.batch_count += 1
        last, self._last = self._last, events
        if self._spoil is None or self.has_spoiled or self.batch_count <= self._after:
            return events
        spoiled = self._spoil(events, self._rng.randrange(len(events)), last)
        if spoiled is None:
            return events
        self.has_spoiled = True
        return spoiled


def play(seed: int, spoiler: Spoiler) -> str | None:
    """What the oracle says to the history of a seed with a spoiler in it."""
    with patch.object(TrackerProtocol, "events", lambda tracker: spoiler(tracker)):
        return failure(draw(seed))


def histories() -> Iterator[tuple[int, int]]:
    """Seeds of histories that go well, and how many batches of events each has."""
    for seed in SEEDS:
        counting = Spoiler(None, 0, Random(seed))
        assert play(seed, counting) is None, f"seed {seed}"
        if counting.batch_count:
            yield seed, counting.batch_count


@pytest.fixture(scope="module")
def recorded() -> list[tuple[int, int]]:
    return list(histories())


@pytest.mark.parametrize(
    "spoil",
    [
        drop,
        double,
        swap,
        move,
        change_ref,
        change_side,
        change_edge,
        halve_update,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_spoiled_events_are_refused(spoil: Spoil, recorded: list[tuple[int, int]]):
    """An event dropped, doubled, swapped, moved or changed, at some place of each history."""
    refused = 0
    for seed, count in recorded:
        rng = Random(f"{spoil.__name__} {seed}")
        spoiler = Spoiler(spoil, rng.randrange(count), rng)
        complaint = play(seed, spoiler)
        if spoiler.has_spoiled:
            assert complaint is not None, f"seed {seed}"
            refused += 1

    assert refused >= 5


class SliceSpoiler:
    """Stands between all nodes and what they hold of others.

    Args:
        what: Of the slice is wrong.
        after: How many ranges are applied as they came.
    """

    def __init__(self, what: str, after: int) -> None:
        self.has_spoiled = False
        self.was_looked_at = False
        self._is_still = lambda: False
        self._spoiled: HeldSlice | None = None
        self._what = what
        self._after = after
        self._apply = HeldSlice.apply

    def __call__(self, held: HeldSlice, change: Range) -> SliceDiff | None:
        found = self._apply(held, change)
        self._after -= 1
        entries = held._entries
        if self._after < 0 and not self.has_spoiled and entries:
            self.has_spoiled, self._spoiled = True, held
            entry = next(iter(entries.values()))
            other = _other(entry)
            match self._what:
                case "lost":
                    del entries[entry.seq]
                    self._is_still = lambda: True
                case "doubled":
                    entries[other.seq] = other
                    self._is_still = lambda: other.seq in entries
                case "changed":
                    entries[entry.seq] = other
                    self._is_still = lambda: entries.get(entry.seq) is other
                case "number":
                    held.seq += 1_000_000
                    self._is_still = lambda: held.seq >= 1_000_000
        return found

    def look(self, oracle: Oracle, node: SimulatedNode) -> None:
        """The oracle looks at what a node holds: what was dropped, or removed, is nobody's.

        It does not where a slice has come in part, or its log was too short to tell. What was lost
        while it came in part may have been removed by its origin since: then nothing is wrong.
        """
        is_held = any(
            peer.held is self._spoiled
            and not peer.held.is_partial
            and (peer.origin, peer.held.seq) not in oracle._unseen
            and frozenset(peer.held) not in oracle._history.get((peer.origin, peer.held.seq), ())
            for peer in node.replication.peers
        )
        if is_held and self._is_still():
            self.was_looked_at = True


@pytest.mark.parametrize("what", ["lost", "doubled", "changed", "number"])
def test_spoiled_slices_are_refused(what: str, recorded: list[tuple[int, int]]):
    """What is held of another node, and is nothing that this had under the number."""
    refused, check_held = 0, Oracle._check_held

    def looked_at(oracle: Oracle, node: SimulatedNode) -> None:
        spoiler.look(oracle, node)
        check_held(oracle, node)

    for seed, _ in recorded:
        spoiler = SliceSpoiler(what, Random(f"{what} {seed}").randrange(20))
        with (
            patch.object(HeldSlice, "apply", lambda held, change, by=spoiler: by(held, change)),
            patch.object(Oracle, "_check_held", looked_at),
        ):
            complaint = failure(draw(seed))
        if spoiler.was_looked_at:
            assert complaint is not None, f"seed {seed}"
            refused += 1

    assert refused >= 5
