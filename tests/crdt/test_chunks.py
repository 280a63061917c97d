"""Slices that come in chunks: whatever is lost, doubled or late, what is whole is exactly S(n)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.crdt import held as held_module
from roost.crdt.cutter import Cutter, checksum
from roost.crdt.entry import Entry
from roost.crdt.held import Gap, HeldSlice
from roost.crdt.incarnation import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from tests.laws import LAW
from tests.tracker.one_node import range_from

ORIGIN = OriginId("a", 1, 7)


def add(theirs: Slice, key: str, meta: bytes = b"{}") -> Entry:
    return theirs.add("room:1", key, meta, owner=theirs.seq)


def filled(count: int) -> Slice:
    """A slice of so many entries."""
    theirs = Slice(ORIGIN)
    for number in range(count):
        add(theirs, f"user:{number}")
    return theirs


def cut(
    theirs: Slice, gap: Gap = (0, None), *, known: tuple[int, int] = (0, 0), max_count: int = 100
) -> Chunk:
    """The upper part of a gap, of what there is now."""
    return Cutter(theirs.entries).cut(
        *gap, end=theirs.seq, known=known, max_size=10_000, max_count=max_count
    )


def seqs(held: HeldSlice) -> list[int]:
    return sorted(entry.seq for entry in held)


# The law.


@LAW
@given(st.data())
def test_whatever_comes_what_is_whole_is_exact(data: Any):
    """An origin changes while chunks of any size, ranges and copies of both come, or are lost.

    At each step: what claims to be S(n) is S(n), and n never goes back. Once nothing is lost any
    more, each chunk answers what is missing, and the slice is whole and the latest.
    """
    theirs, held = Slice(ORIGIN), HeldSlice()
    states: dict[int, set[Entry]] = {0: set()}
    sent: list[Any] = []
    cutters = [Cutter(theirs.entries), Cutter(theirs.entries)]

    def change() -> None:
        live = list(theirs)
        kind = data.draw(st.sampled_from(["add", "add", "remove", "replace"]))
        if kind == "add" or not live:
            add(theirs, "alice")
        elif kind == "remove":
            theirs.remove(data.draw(st.sampled_from(live)))
        else:
            theirs.replace(data.draw(st.sampled_from(live)), b'{"n":1}')
        states[theirs.seq] = set(theirs)

    def take(message: Any, starts_over: bool = False) -> None:
        before, seq = set(held), held.seq
        if isinstance(message, Chunk):
            diff = held.take(message, starts_over=starts_over)
        else:
            diff = held.apply(message)
        if diff is not None:
            assert set(held) == before - set(diff.removed) | set(diff.added)
            assert not before & set(diff.added)
        assert held.seq >= seq
        if not held.is_partial:
            assert set(held) == states[held.seq]

    def chunk() -> Chunk:
        gaps: list[Gap] = list(held.gaps) or [(0, None)]
        cutter: Cutter = data.draw(st.sampled_from(cutters))
        known = data.draw(st.sampled_from([held.known, (0, 0)]))
        count = data.draw(st.integers(1, 4))
        gap = data.draw(st.sampled_from(gaps))
        return cutter.cut(*gap, end=theirs.seq, known=known, max_size=10_000, max_count=count)

    for _ in range(data.draw(st.integers(0, 25))):
        match data.draw(st.sampled_from(["change", "chunk", "range", "old", "over"])):
            case "change":
                change()
            case "chunk":
                sent.append(chunk())
            case "over":
                sent.append(
                    cutters[0].cut(
                        0, None, end=theirs.seq, known=held.known, max_size=10_000, max_count=2
                    )
                )
                take(sent[-1], starts_over=True)
                continue
            case "range":
                start = data.draw(st.integers(0, theirs.seq))
                sent.append(range_from(theirs, start))
            case _:
                pass
        if sent and data.draw(st.booleans()):
            take(data.draw(st.sampled_from(sent)))

    add(theirs, "last")
    states[theirs.seq] = set(theirs)
    for _ in range(100):
        if held.seq == theirs.seq:
            break
        if held.is_partial:
            take(range_from(theirs, held.at))
            for gap in list(held.gaps):
                take(cut(theirs, gap))
        else:
            take(cut(theirs, known=held.known))
    assert (held.seq, set(held)) == (theirs.seq, set(theirs))


# What follows from it, one by one.


def test_a_newcomer_fills_its_gaps_in_any_order():
    """Each chunk is shown when it comes; the slice is whole with the last one."""
    theirs, held = filled(9), HeldSlice()
    top = cut(theirs, max_count=3)
    middle = cut(theirs, (0, top.above), max_count=3)
    bottom = cut(theirs, (0, middle.above), max_count=3)

    held.take(bottom)
    assert (held.seq, held.is_partial, seqs(held)) == (0, True, [1, 2, 3])
    held.take(top)
    assert held.gaps == [(3, 6)]
    held.take(middle)

    assert (held.seq, held.is_partial, seqs(held)) == (9, False, list(range(1, 10)))


def test_changes_between_chunks_are_kept():
    """What came and what left meanwhile is so in what is whole, without another chunk."""
    theirs, held = filled(6), HeldSlice()
    held.take(cut(theirs, max_count=3))
    start = theirs.seq
    theirs.remove(next(entry for entry in theirs if entry.seq == 5))
    add(theirs, "late")

    held.apply(range_from(theirs, start))
    held.take(cut(theirs, *held.gaps))

    assert (held.seq, set(held)) == (theirs.seq, set(theirs))


def test_an_early_chunk_brings_nobody_back():
    """It was cut before somebody left, and comes after that was told."""
    theirs, held = filled(6), HeldSlice()
    top = cut(theirs, max_count=3)
    held.take(top)
    early = cut(theirs, (0, top.above))
    start = theirs.seq
    theirs.remove(next(entry for entry in theirs if entry.seq == 2))
    held.apply(range_from(theirs, start))

    held.take(early)

    assert seqs(held) == [1, 3, 4, 5, 6]
    assert held.seq == theirs.seq


def test_a_slice_is_whole_at_the_number_of_its_latest_chunk():
    """A later chunk lacks somebody who left, of whom the other chunks do not know yet."""
    theirs, held = filled(6), HeldSlice()
    held.take(cut(theirs, max_count=3))
    start = theirs.seq
    theirs.remove(next(entry for entry in theirs if entry.seq == 5))

    held.take(cut(theirs, *held.gaps))
    assert (held.seq, held.is_partial, held.gaps) == (0, True, [])

    held.apply(range_from(theirs, start))
    assert (held.seq, set(held)) == (theirs.seq, set(theirs))


def test_what_a_later_chunk_brought_does_not_join_twice():
    """A range that leads to the number of that chunk names it as well."""
    theirs, held = filled(2), HeldSlice()
    held.take(cut(theirs, (0, 1)))
    add(theirs, "dave")
    held.take(cut(theirs, (1, None)))

    diff = held.apply(range_from(theirs, 2))

    assert diff is not None
    assert (diff.added, diff.removed) == ((), ())
    assert held.seq == 3
    assert set(held) == set(theirs)


def test_what_is_known_is_only_named():
    """Who was away for long is sent what is new, and the numbers of the rest."""
    theirs, held = filled(5), HeldSlice()
    held.take(theirs.snapshot())
    alice = add(theirs, "alice")
    theirs.remove(next(iter(theirs)))

    chunk = cut(theirs, known=held.known)
    diff = held.take(chunk)

    assert (chunk.added, chunk.kept) == ((alice,), (5, 4, 3, 2))
    assert diff is not None
    assert ([entry.seq for entry in diff.removed], diff.added) == ([1], (alice,))
    assert (held.seq, set(held)) == (theirs.seq, set(theirs))


def test_what_is_known_with_another_content_is_sent():
    """A clone has other entries under the same seqs: then nothing is taken for known."""
    theirs, held, clone = filled(3), HeldSlice(), Slice(ORIGIN)
    for _ in range(3):
        add(clone, "somebody else", b'{"n":1}')
    held.take(clone.snapshot())
    add(theirs, "alice")

    assert held.known == (0, 3)
    assert held.take(cut(theirs, known=held.known)) is None
    assert (held.known, held.seq) == ((0, 0), 3)
    assert held.contradicts(cut(theirs, known=held.known))


@pytest.mark.parametrize(
    "other",
    [
        {"topic": "room:2"},
        {"key": "dave"},
        {"meta": b"[]"},
        {"owner": 7},
        {"hidden": True},
        {"tracker": "Other"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_an_entry_counts_as_known_only_if_all_of_it_is_the_same(other: dict[str, Any]):
    """Two nodes of one id give one ref to two presences, until one of them takes another id."""
    entry = Entry("room:1", "alice", b"{}", 1, "ref", 1)

    assert checksum([entry]) != checksum([msgspec.structs.replace(entry, **other)])


def test_what_should_be_known_and_is_not_is_sent():
    """A chunk that names what is not here changes nothing, and the next one brings it."""
    theirs, held = filled(3), HeldSlice()
    entries = tuple(theirs)
    lost = Chunk(0, None, 3, entries[:1], kept=(3, 2), check=checksum(entries[:0:-1]))

    assert held.take(lost) is None
    held.take(cut(theirs, known=held.known))

    assert set(held) == set(theirs)


def test_an_older_answer_judges_nobody_who_came_after_it():
    """A slice is begun once more by what another holder has, which is behind what came already."""
    theirs, held = filled(2), HeldSlice()
    held.take(cut(theirs, (0, 1)))
    add(theirs, "carol")
    older = cut(theirs)
    dave = add(theirs, "dave")
    held.take(cut(theirs, (1, None)))

    diff = held.take(older, starts_over=True)

    assert diff is not None
    assert diff.removed == ()
    assert (dave in set(held), held.at, held.is_partial) == (True, 3, True)
    held.apply(range_from(theirs, 3))
    assert (held.seq, set(held)) == (theirs.seq, set(theirs))


def test_a_slice_that_is_begun_once_more_costs_its_numbers():
    """No range leads on from what came: all is looked at again, and little is sent again."""
    theirs, held = filled(9), HeldSlice()
    held.take(cut(theirs, max_count=6))
    for _ in range(3):
        add(theirs, "new")

    again = cut(theirs, known=(3, 9))
    assert held.take(cut(theirs, max_count=1), starts_over=True) is not None
    assert held.known == (3, 9)
    assert held.gaps == [(0, 11)]
    rest = cut(theirs, (0, 11), known=held.known)
    held.take(rest)

    assert [entry.seq for entry in again.added] == [12, 11, 10, 3, 2, 1]
    assert [entry.seq for entry in rest.added] == [11, 10, 3, 2, 1]
    assert (held.seq, set(held)) == (12, set(theirs))


def test_a_cutter_sees_what_came_meanwhile():
    """It keeps the order of what there was; what came since is cut all the same."""
    theirs = filled(3)
    cutter = Cutter(theirs.entries)
    options: dict[str, Any] = {"known": (0, 0), "max_size": 10_000, "max_count": 10}
    cutter.cut(0, None, end=3, **options)
    add(theirs, "late")

    for gap in ((0, None), (0, 4)):
        chunk = cutter.cut(*gap, end=4, **options)
        assert [entry.seq for entry in chunk.added] == [4, 3, 2, 1]


class Walked(dict[int, Entry]):
    """Entries that count how often all of them are walked through."""

    walk_count = 0

    def __iter__(self) -> Iterator[int]:
        self.walk_count += 1
        return super().__iter__()


def test_a_slice_is_walked_once_however_often_it_is_cut():
    """To cut from the end again costs what came since; the order of the rest is known."""
    theirs = filled(100)
    entries = Walked(theirs.entries)
    cutter = Cutter(entries)
    for _ in range(50):
        late = add(theirs, "late")
        entries[late.seq] = late
        chunk = cutter.cut(0, None, end=late.seq, known=(0, 0), max_size=10_000, max_count=2)
        assert [entry.seq for entry in chunk.added] == [late.seq, late.seq - 1]

    assert entries.walk_count == 1


def test_what_a_cutter_remembers_is_bounded():
    """What is gone from a slice is forgotten in time: a slice is walked when half of it is gone."""
    theirs = Slice(ORIGIN)
    entries = Walked()
    cutter = Cutter(entries)
    for n in range(1_000):
        entries.pop(n - 10, None)
        late = add(theirs, "late")
        entries[late.seq] = late
        cutter.cut(0, None, end=late.seq, known=(0, 0), max_size=10_000, max_count=2)

    assert len(cutter) <= 2 * len(entries)
    assert entries.walk_count < 150


def test_a_chunk_is_bounded_in_bytes_and_has_one_entry_in_any_case():
    """Bytes count, not characters; what is larger than the bound goes alone."""
    theirs = Slice(ORIGIN)
    for key in ("a", "é" * 400, "b" * 800, "c"):
        add(theirs, key)
    sizes = []
    gap: Gap = (0, None)
    while gap != (0, 0):
        chunk = Cutter(theirs.entries).cut(*gap, end=4, known=(0, 0), max_size=500, max_count=10)
        sizes.append(len(chunk.added))
        gap = (0, chunk.above)

    assert sizes == [1, 1, 1, 1]


# Bounds, and what is known.


def test_gaps_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """A chunk that would leave too many is dropped; it is asked for again."""
    monkeypatch.setattr(held_module, "MAX_GAPS", 3)
    theirs, held = filled(20), HeldSlice()
    for seq in range(2, 20, 2):
        held.take(cut(theirs, (seq - 1, seq)))
        assert len(held.gaps) <= 3

    while held.is_partial:
        held.take(cut(theirs, held.gaps[-1]))
    assert set(held) == set(theirs)


def test_removals_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Many in few ranges are forgotten, too: no earlier chunk is taken any more."""
    monkeypatch.setattr(held_module, "MAX_RECENT_REMOVED", 3)
    held = HeldSlice()
    held.take(cut(filled(2), max_count=1))

    held.apply(Range(2, 10, (), (3, 4, 5, 6)))

    assert held.floor == 10


def test_who_lacks_what_was_named_knows_nothing_until_it_is_whole():
    """What should be here and is not is a reason to take nothing else for known."""
    theirs, held = filled(2), HeldSlice()
    held.take(Chunk(0, None, 2, (theirs.entries[1],)))
    add(theirs, "carol")
    assert held.known == (0, 2)

    assert held.take(cut(theirs, known=held.known)) is None
    assert held.known == (0, 0)

    held.take(Chunk(0, None, 3, tuple(theirs)))
    assert held.known == (0, 3)


def test_a_late_chunk_that_names_who_left_since_says_nothing_of_what_is_known():
    """Ranges have removed whom it names."""
    theirs, held = filled(3), HeldSlice()
    held.take(cut(theirs))
    late, upper = (
        Cutter(theirs.entries).cut(*gap, end=10, known=held.known, max_size=10_000, max_count=100)
        for gap in ((0, 2), (2, None))
    )
    assert sorted(late.kept) == [1, 2]
    held.take(upper)
    held.apply(Range(10, 11, (), (1,)))

    assert held.take(late) is None
    assert held.known == (0, 3)
