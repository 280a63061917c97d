"""Slices and ranges: whoever holds S(r) gets to S(b) by a range (a, b] with a <= r <= b."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.crdt.entry import Entry
from roost.crdt.held import HeldSlice, join_ranges
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from tests.laws import LAW
from tests.tracker.one_node import range_from

ORIGIN = OriginId("a", 1, 7)

State = dict[int, Entry]  # S(n): the live entries by seq.

# A change: add a new entry, or remove or replace the n-th of those that live (modulo their count).
changes = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove", "replace"]), st.integers(0, 9)),
    max_size=12,
)


class History:
    """What an origin did, change by change, with every S(n) and every range as they were."""

    def __init__(self, changes: list[tuple[str, int]], **options: Any) -> None:
        self.slice = Slice(ORIGIN, **options)
        self.states: list[State] = [{}]  # S(0), S(1), ...
        self.removals: list[tuple[int, int]] = []  # (number of the change, seq that it removed)
        self.ranges: dict[tuple[int, int], Range] = {}
        self._note(0)
        self.snapshots = [self.slice.snapshot()]
        for kind, choice in changes:
            self._change(kind, choice)

    @property
    def end(self) -> int:
        return len(self.states) - 1

    def _change(self, kind: str, choice: int) -> None:
        state = dict(self.states[-1])
        seq = len(self.states)
        live = list(state)
        if kind == "add" or not live:
            state[seq] = self.slice.add("room:1", f"user:{choice}", b"{}", owner=choice)
        else:
            chosen = state.pop(live[choice % len(live)])
            self.removals.append((seq, chosen.seq))
            if kind == "remove":
                self.slice.remove(chosen)
            else:
                state[seq] = self.slice.replace(chosen, b'{"n":1}')
        self.states.append(state)
        self.snapshots.append(self.slice.snapshot())
        self._note(seq)

    def _note(self, seq: int) -> None:
        for start in range(seq + 1):
            change = self.slice.range_from(start)
            if change is not None:  # the log has it
                self.ranges[start, seq] = change


def apply(change: Range | Chunk, seq: int, state: State) -> tuple[int, State]:
    """Offer a range to somebody who holds ``state``, and return what it holds afterwards."""
    held = HeldSlice()
    held.take(Chunk(0, None, seq, tuple(state.values())))
    before = {entry.seq: entry for entry in held}
    diff = held.apply(change) if isinstance(change, Range) else held.take(change)
    after = {entry.seq: entry for entry in held}
    if diff is None:
        assert after == before
    else:
        kept = {each: before[each] for each in before if before[each] not in diff.removed}
        assert after == kept | {entry.seq: entry for entry in diff.added}
        assert set(diff.removed) <= set(before.values())
        assert not set(diff.added) & set(before.values())
    return held.seq, after


def triples(end: int) -> Iterator[tuple[int, int, int]]:
    """All 0 <= a <= r <= b <= end."""
    for b in range(end + 1):
        for r in range(b + 1):
            for a in range(r + 1):
                yield a, r, b


# The laws.


@LAW
@given(changes)
def test_a_range_is_right_for_every_receiver_inside_it(changes):
    """The range (a, b] takes a receiver from S(r), for any r in [a, b], to exactly S(b)."""
    history = History(changes)

    for a, r, b in triples(history.end):
        assert apply(history.ranges[a, b], r, history.states[r]) == (b, history.states[b])


@LAW
@given(changes)
def test_nothing_is_cancelled_inside_a_range(changes):
    """A range names each removal in it, also of what was added in it, and only live additions."""
    history = History(changes)

    for (start, end), range_ in history.ranges.items():
        assert (range_.start, range_.end) == (start, end)
        assert list(range_.removed) == [
            removed for seq, removed in history.removals if start < seq <= end
        ]
        assert list(range_.added) == [
            entry for seq, entry in history.states[end].items() if start < seq <= end
        ]


def test_a_receiver_inside_a_range_gets_no_ghost():
    """An entry added and removed within a range leaves whoever saw the addition."""
    mine = Slice(ORIGIN)
    alice = mine.add("room:1", "alice", b"{}", owner=1)
    held = {alice.seq: alice}
    mine.remove(alice)

    assert apply(range_from(mine, 0), 1, held) == (2, {})


@LAW
@given(changes)
def test_adjacent_and_overlapping_ranges_join(changes):
    """(a, b] and (b', c] with a <= b' <= b <= c make a range (a, c] that is as right."""
    history = History(changes)
    c = history.end

    for a, b2, b in triples(c):
        joined = join_ranges(history.ranges[a, b], history.ranges[b2, c])
        for r in range(a, c + 1):
            assert apply(joined, r, history.states[r]) == (c, history.states[c])


@LAW
@given(changes)
def test_a_snapshot_is_the_exact_slice(changes):
    """A snapshot takes any receiver that is behind it to its S(n), whatever it holds."""
    history = History(changes)

    for end, snapshot in enumerate(history.snapshots):
        assert (snapshot.above, snapshot.upto, snapshot.end) == (0, None, end)
        for r in range(end + 1):
            assert apply(snapshot, r, history.states[r]) == (end, history.states[end])


@LAW
@given(changes, st.data())
def test_deliveries_never_leave_the_chain(changes, data):
    """Lost, repeated and disordered ranges keep a receiver on the chain, and it gets to its end."""
    history = History(changes)
    offers: list[Range | Chunk] = [*history.ranges.values(), *history.snapshots]
    seq, state = 0, history.states[0]
    for offer in data.draw(st.lists(st.sampled_from(offers), max_size=20)):
        before = seq
        seq, state = apply(offer, seq, state)
        assert seq >= before
        assert state == history.states[seq]

    for _ in range(history.end):
        for offer in offers:
            seq, state = apply(offer, seq, state)

    assert (seq, state) == (history.end, history.states[-1])


@LAW
@given(changes)
def test_refs_are_unique(changes):
    """Every addition has a ref of its own, the one that was announced."""
    slice_ = Slice(ORIGIN)
    refs = []
    for _, choice in changes:
        announced = slice_.next_ref
        entry = slice_.add("room:1", "alice", b"{}", owner=choice)
        refs.append(entry.ref)
        assert entry.ref == announced
        if choice % 2:
            announced = slice_.next_ref
            refs.append(slice_.replace(entry, b"{}").ref)
            assert refs[-1] == announced

    assert len(set(refs)) == len(refs)


@LAW
@given(changes)
def test_the_slice_itself_is_the_last_state(changes):
    """Number, count and iteration tell the state after the last change."""
    history = History(changes)

    assert history.slice.seq == history.end
    assert len(history.slice) == len(history.states[-1])
    assert {entry.seq: entry for entry in history.slice} == history.states[-1]


# The log.


@LAW
@given(changes, st.integers(0, 4))
def test_a_short_log_has_the_latest_ranges(changes, log_count):
    """Past the log there is no range, and within it the same one as ever."""
    history, whole = History(changes, log_count=log_count), History(changes)

    for (start, end), range_ in whole.ranges.items():
        if end - start <= log_count:
            assert history.ranges[start, end] == range_
        elif end - start > 2 * log_count:
            assert (start, end) not in history.ranges
        else:
            assert history.ranges.get((start, end), range_) == range_


def test_the_log_is_bounded():
    """A thousand changes leave no more than twice the log's count to start from."""
    mine = Slice(ORIGIN, log_count=10)
    alice = mine.add("room:1", "alice", b"{}", owner=1)
    for _ in range(1_000):
        alice = mine.replace(alice, b"{}")

    starts = [start for start in range(mine.seq + 1) if mine.range_from(start) is not None]

    assert 10 < len(starts) <= 21
    assert starts[-1] == mine.seq


def test_there_is_no_range_from_the_future():
    """Somebody who claims more than was made is told no changes."""
    mine = Slice(ORIGIN)
    mine.add("room:1", "alice", b"{}", owner=1)

    assert mine.range_from(2) is None
    assert mine.range_from(0, 2) is None


@LAW
@given(changes, st.integers(0, 6), st.integers(1, 400), st.integers(1, 4))
def test_a_cut_range_is_the_range_to_where_it_ends(changes, start, max_size, max_count):
    """As many changes as fit, and one in any case; those after it go on where it ends."""
    history = History(changes)
    if start >= history.end:
        return

    cut = history.slice.cut(start, max_size=max_size, max_count=max_count)

    assert cut is not None
    assert 1 <= cut.end - start <= max_count
    assert apply(cut, start, history.states[start]) == (cut.end, history.states[cut.end])
    if cut.end - start > 1:
        assert sum(entry.size for entry in cut.added) <= max_size


# Changes.


def test_a_replacement_is_one_change():
    """An update removes and adds under one number, for the same owner, topic and key."""
    mine = Slice(ORIGIN)
    old = mine.add("room:1", "alice", b"{}", owner=1)
    new = mine.replace(old, b'{"n":1}')

    assert mine.seq == 2
    assert new == Entry("room:1", "alice", b'{"n":1}', 1, ORIGIN.ref_prefix, 2)
    assert range_from(mine, 1) == Range(1, 2, (new,), (1,))


def test_what_is_gone_cannot_be_removed_again():
    """Removing or replacing what is not there is an error and no change."""
    mine = Slice(ORIGIN)
    alice = mine.add("room:1", "alice", b"{}", owner=1)
    mine.remove(alice)

    with pytest.raises(KeyError):
        mine.remove(alice)
    with pytest.raises(KeyError):
        mine.replace(alice, b"{}")
    assert (mine.seq, list(mine)) == (2, [])
