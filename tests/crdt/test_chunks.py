"""Chunks: a slice comes in any number of them, in any order, cut at different numbers.

Until all of it is there it is held in part, and never taken for the slice of any number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from roost.crdt import held as held_module
from roost.crdt.cutter import Cutter, checksum
from roost.crdt.entry import Entry
from roost.crdt.held import HeldSlice
from roost.crdt.origin import OriginId
from roost.crdt.slice import Chunk, Range, Slice
from tests.crdt.test_slice import History, changes
from tests.laws import LAW

ORIGIN = OriginId("a", 1, 7)
NOTHING: Final = (0, 0)
WHOLE: Final = (0, None)
LARGE: Final = 1 << 30


class Receiver:
    """Whoever holds the slice of another, and shows what it is told of.

    Attributes:
        held: What it holds.
        shown: What the differences that it was told of add up to.
        row_count: Entries that came with all their content.
    """

    def __init__(self, history: History | None = None) -> None:
        self.held = HeldSlice()
        self.shown: dict[int, Entry] = {}
        self.row_count = 0
        self._history = history

    def hear(self, *offers: Range | Chunk, starts_over: bool = False) -> None:
        """Something arrives; whatever it is, what is held stays one of the slices there were."""
        for offer in offers:
            before = self.held.seq
            self.row_count += len(offer.added)
            if isinstance(offer, Range):
                diff = self.held.apply(offer)
            else:
                diff = self.held.take(offer, starts_over=starts_over)
            if diff is not None:
                for entry in diff.removed:
                    assert self.shown.pop(entry.seq) == entry
                for entry in diff.added:
                    assert entry.seq not in self.shown, "a join of what is shown"
                    self.shown[entry.seq] = entry
            assert self.shown == self.held.entries
            assert self.held.seq >= before
            self._check()

    def _check(self) -> None:
        held, history = self.held, self._history
        if history is None:
            return
        if not held.is_partial:
            assert held.entries == history.states[held.seq]
        # What it claims to know is here, as far as it is still there.
        low, high = held.known
        last = history.states[-1]
        assert {seq for seq in last if low < seq <= high} <= set(held.entries)


def cut(
    state: dict[int, Entry],
    end: int,
    gap: tuple[int, int | None] = WHOLE,
    *,
    known: tuple[int, int] = NOTHING,
    max_size: int = LARGE,
    max_count: int = 1_000,
) -> Chunk:
    """The upper end of a gap, as somebody who holds S(end) says it."""
    return Cutter(state).cut(*gap, end=end, known=known, max_size=max_size, max_count=max_count)


def cut_all(
    state: dict[int, Entry],
    end: int,
    gaps: Sequence[tuple[int, int | None]] = (WHOLE,),
    *,
    known: tuple[int, int] = NOTHING,
    max_count: int = 1_000,
) -> list[Chunk]:
    """All chunks that fill the gaps, as they are sent: the latest entries first."""
    chunks = []
    for gap in reversed(gaps):
        above, upto = gap
        while True:
            chunks.append(cut(state, end, (above, upto), known=known, max_count=max_count))
            if chunks[-1].above == above:
                break
            upto = chunks[-1].above
    return chunks


def entries(count: int) -> dict[int, Entry]:
    """S(count): so many additions, and nothing else."""
    mine = Slice(ORIGIN)
    return {
        entry.seq: entry
        for entry in [mine.add("room:1", f"user:{n}", b"{}", owner=n) for n in range(count)]
    }


# The laws.


@LAW
@given(changes, st.data())
def test_whatever_comes_is_no_slice_that_never_was(changes, data):
    """Chunks and ranges of any numbers, doubled, lost and in any order; then the rest comes.

    They are cut by different holders, with different sizes, for what the receiver had said at any
    time that it lacks and knows.
    """
    history = History(changes)
    end = history.end
    bob = Receiver(history)
    said: list[tuple[tuple[int, int | None], tuple[int, int]]] = [(WHOLE, NOTHING)]
    on_their_way: list[Range | Chunk] = []
    numbers = st.integers(0, end)
    for _ in range(data.draw(st.integers(0, 12))):
        match data.draw(st.sampled_from(["range", "chunk", "chunk", "chunk", "again"])):
            case "range":
                a, b = sorted((data.draw(numbers), data.draw(numbers)))
                offer: Range | Chunk = history.ranges[a, b]
            case "chunk":
                gap, known = data.draw(st.sampled_from(said))
                n = data.draw(numbers)
                offer = cut(
                    history.states[n],
                    n,
                    gap,
                    known=known if known[1] <= n else NOTHING,
                    max_count=data.draw(st.integers(1, 4)),
                )
            case _:
                if not on_their_way:
                    continue
                offer = data.draw(st.sampled_from(on_their_way))
        on_their_way.append(offer)
        if data.draw(st.integers(0, 3)):  # else it is late, or lost
            bob.hear(offer, starts_over=data.draw(st.booleans()))
            said += [(gap, bob.held.known) for gap in (WHOLE, *bob.held.gaps)]

    for _ in range(3):
        reaches = data.draw(st.booleans())  # the log of the origin, from where the receiver is
        if reaches:
            bob.hear(history.ranges[bob.held.at, end])
        gaps = bob.held.gaps if reaches else [WHOLE]
        sizes = data.draw(st.integers(1, 4))
        for chunk in cut_all(history.states[end], end, gaps, known=bob.held.known, max_count=sizes):
            bob.hear(chunk, starts_over=not reaches)

    assert bob.held.seq == end
    assert bob.held.entries == history.states[end]
    assert not bob.held.is_partial


@LAW
@given(changes, st.data())
def test_a_chunk_has_all_of_its_interval_and_no_more(changes, data):
    """One cutter goes along with the slice, whatever changes between two of its chunks."""
    mine = Slice(ORIGIN)
    cutter = Cutter(mine.entries)
    for kind, choice in changes:
        live = list(mine)
        if kind == "add" or not live:
            mine.add("room:1", f"user:{choice}", b"{}", owner=choice)
        elif kind == "remove":
            mine.remove(live[choice % len(live)])
        else:
            mine.replace(live[choice % len(live)], b"{}")
        if data.draw(st.booleans()):
            above = data.draw(st.integers(0, mine.seq))
            upto = data.draw(st.none() | st.integers(above + 1, mine.seq + 2))
            low = data.draw(st.integers(0, mine.seq))
            known = (low, data.draw(st.integers(low, mine.seq)))
            size, count = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 4))

            chunk = cutter.cut(
                above, upto, end=mine.seq, known=known, max_size=size, max_count=count
            )

            assert above <= chunk.above
            assert (chunk.upto, chunk.end) == (upto, mine.seq)
            named = sorted([*(entry.seq for entry in chunk.added), *chunk.kept])
            assert named == [
                entry.seq
                for entry in mine
                if chunk.above < entry.seq and (upto is None or entry.seq <= upto)
            ]
            assert set(chunk.kept) == {seq for seq in named if known[0] < seq <= known[1]}
            assert all(mine.entries[entry.seq] is entry for entry in chunk.added)
            assert chunk.check == checksum([mine.entries[seq] for seq in chunk.kept])
            assert len(named) <= count
            assert len(named) == 1 or sum(each.size for each in chunk.added) <= size


@LAW
@given(changes, st.integers(0, 12), st.integers(1, 4))
def test_who_lost_what_it_claimed_to_know_recovers(changes, lost, size):
    """Or has it with another content: then nothing is taken for known until all is there."""
    history = History(changes)
    end, state = history.end, history.states[-1]
    middle = end // 2
    bob = Receiver()
    there = list(history.states[middle].values())
    wrong = (
        [
            Entry(each.topic, each.key, b'{"of":"a clone"}', 1, each.ref_prefix, each.seq)
            for each in there[lost % len(there) :]
            if there
        ]
        if there
        else []
    )
    bob.hear(Chunk(0, None, middle, tuple(there[: lost % len(there)] if there else ())))
    bob.hear(*(Chunk(0, None, middle, tuple(wrong)),) if not bob.held.seq else ())

    for _ in range(3):
        for chunk in cut_all(
            state, end, bob.held.gaps or [WHOLE], known=bob.held.known, max_count=size
        ):
            bob.hear(chunk, starts_over=True)

    assert bob.held.seq == end
    assert bob.held.entries == state


# The rules, one by one.


def test_chunks_are_bounded_in_bytes_and_not_in_characters():
    """A name of wide characters counts as what it takes in a message."""
    mine = Slice(ORIGIN)
    for n in range(4):
        mine.add("é" * 500, "é" * 500, b"{}", owner=n)
    plain = Slice(ORIGIN)
    for n in range(4):
        plain.add("e" * 500, "e" * 500, b"{}", owner=n)

    for theirs, count in ((mine, 2), (plain, 4)):
        chunk = cut(dict(theirs.entries), 4, max_size=4_300)
        assert len(chunk.added) == count


@pytest.mark.parametrize("field", ["topic", "key", "meta", "tracker"])
def test_all_texts_count_in_the_size_of_a_chunk(field: str):
    """Whichever of them is long, fewer entries fit."""
    long = b"x" * 1_000 if field == "meta" else "x" * 1_000
    short = [Entry("t", "k", b"{}", n, "r", n) for n in range(1, 5)]
    state = {entry.seq: replace(entry, **{field: long}) for entry in short}

    assert len(cut({entry.seq: entry for entry in short}, 4, max_size=2_400).added) == 4
    assert len(cut(state, 4, max_size=2_400).added) == 2


def test_what_is_larger_than_a_chunk_has_one_of_its_own():
    """There is no entry that cannot be handed on."""
    state = {n: Entry("room:1", "alice", b"x" * 5_000, n, "r", n) for n in (1, 2)}

    chunks = [cut(state, 2, max_size=10), cut(state, 2, (0, 1), max_size=10)]

    assert [len(chunk.added) for chunk in chunks] == [1, 1]
    assert [(chunk.above, chunk.upto) for chunk in chunks] == [(1, None), (0, 1)]


def test_chunks_come_from_the_end():
    """The latest entries come first, so that the receiver can follow the changes meanwhile."""
    chunks = cut_all(entries(5), 5, max_count=2)

    assert [(each.above, each.upto, len(each.added)) for each in chunks] == [
        (3, None, 2),
        (1, 3, 2),
        (0, 1, 1),
    ]


def test_an_empty_slice_is_one_chunk():
    """That there is nothing is something to say."""
    bob = Receiver()
    bob.hear(Range(0, 1, tuple(entries(1).values()), ()))

    bob.hear(*cut_all({}, 2))

    assert (bob.held.seq, len(bob.held)) == (2, 0)


def test_gaps_are_what_has_not_come():
    """Chunks in any order leave gaps, and the last gap that is filled makes the slice whole."""
    bob = Receiver()
    state = entries(6)
    first, second, third = cut_all(state, 6, max_count=2)

    bob.hear(second)
    assert bob.held.gaps == [(0, 2), (4, None)]
    assert (bob.held.is_partial, bob.held.seq, bob.held.at) == (True, 0, 6)

    bob.hear(third, third)
    assert bob.held.gaps == [(4, None)]

    bob.hear(first)
    assert (bob.held.is_partial, bob.held.seq, list(bob.held.gaps)) == (False, 6, [])
    assert bob.held.entries == state


def test_what_a_chunk_does_not_name_is_gone():
    """Of what was held from before, only what a chunk covers is judged by it."""
    bob = Receiver()
    before = entries(4)
    bob.hear(Chunk(0, None, 4, tuple(before.values())))
    after = {seq: before[seq] for seq in (1, 4)}
    upper, lower = cut_all(after, 20, max_count=1)

    bob.hear(upper)
    assert set(bob.held.entries) == {1, 4}  # 2 and 3 are above the first entry there is
    bob.hear(lower)

    assert bob.held.entries == after


def test_changes_go_on_while_chunks_come():
    """Ranges are applied to what came, and the removals among them to what comes later."""
    mine = Slice(ORIGIN)
    alice, _, carol, dave = (
        mine.add("room:1", key, b"{}", owner=1) for key in ("alice", "bob", "carol", "dave")
    )
    bob = Receiver()
    first, second = cut_all(dict(mine.entries), 4, max_count=2)
    bob.hear(first)

    mine.remove(alice)
    mine.remove(carol)
    erin = mine.add("room:1", "erin", b"{}", owner=1)
    change = mine.range_from(4)
    assert change is not None
    bob.hear(change)
    assert list(bob.held) == [dave, erin]
    assert bob.held.at == 7

    bob.hear(second)  # alice is in it, who has left
    assert bob.held.seq == 7
    assert bob.held.entries == mine.entries


def test_a_chunk_of_a_later_number_waits_for_the_changes():
    """What was removed before it, ranges are going to remove; until then nothing is whole."""
    mine = Slice(ORIGIN)
    alice, carol = (mine.add("room:1", key, b"{}", owner=1) for key in ("alice", "carol"))
    bob = Receiver()
    first, _ = cut_all(dict(mine.entries), 2, max_count=1)
    bob.hear(first)
    mine.remove(carol)
    dave = mine.add("room:1", "dave", b"{}", owner=1)

    bob.hear(cut(dict(mine.entries), 4, (0, 1)))
    assert list(bob.held) == [carol, alice]
    assert (bob.held.is_partial, bob.held.at, bob.held.newest) == (True, 2, 4)

    change = mine.range_from(2)
    assert change is not None
    bob.hear(change)
    assert not bob.held.is_partial
    assert list(bob.held) == [alice, dave]


def test_what_a_later_chunk_brought_does_not_join_twice():
    """A range that leads to the number of that chunk names it as well."""
    mine = Slice(ORIGIN)
    for key in ("alice", "carol"):
        mine.add("room:1", key, b"{}", owner=1)
    middle = cut(dict(mine.entries), 2, (0, 1))
    mine.add("room:1", "dave", b"{}", owner=1)
    change = mine.range_from(2)
    assert change is not None
    bob = Receiver()

    bob.hear(middle, cut(dict(mine.entries), 3, (1, None)), change)

    assert bob.held.seq == 3
    assert bob.held.entries == mine.entries


def test_an_earlier_chunk_is_taken_as_far_as_removals_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
):
    """Those of many changes ago are forgotten, and no chunk from before them is right."""
    monkeypatch.setattr(held_module, "MAX_RECENT_COUNT", 2)
    mine = Slice(ORIGIN)
    for n in range(4):
        mine.add("room:1", f"user:{n}", b"{}", owner=1)
    state = dict(mine.entries)
    bob = Receiver()
    bob.hear(cut(state, 4, max_count=1))
    for n in range(3):
        mine.remove(state[n + 1])
        change = mine.range_from(4 + n)
        assert change is not None
        bob.hear(change)
    assert (bob.held.at, bob.held.floor) == (7, 5)

    bob.hear(cut(state, 4, (0, 3)))
    assert bob.held.gaps == [(0, 3)]

    bob.hear(Chunk(0, 3, 5, (state[2], state[3])))
    assert bob.held.seq == 7
    assert bob.held.entries == mine.entries


def test_removals_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Many in few ranges are forgotten as well."""
    monkeypatch.setattr(held_module, "MAX_RECENT_REMOVED", 3)
    bob = Receiver()
    bob.hear(cut(entries(2), 2, max_count=1))

    bob.hear(Range(2, 10, (), tuple(range(3, 7))))

    assert bob.held.floor == 10


def test_gaps_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """A chunk that would leave too many is dropped; it is asked for again."""
    monkeypatch.setattr(held_module, "MAX_GAPS", 3)
    state = entries(20)
    bob = Receiver()
    for seq in range(2, 20, 2):
        bob.hear(cut(state, 20, (seq - 1, seq)))
        assert len(bob.held.gaps) <= 3

    bob.hear(*cut_all(state, 20, bob.held.gaps))
    assert bob.held.entries == state


# What is known.


def test_what_the_receiver_has_is_only_named():
    """Those who stay cost a number each, and those who are new what they are."""
    before = entries(100)
    bob = Receiver()
    bob.hear(Chunk(0, None, 100, tuple(before.values())))
    bob.row_count = 0
    after = {seq: entry for seq, entry in entries(110).items() if seq % 2}

    for chunk in cut_all(after, 200, known=bob.held.known, max_count=7):
        bob.hear(chunk)

    assert bob.held.entries == after
    assert bob.row_count == 5


@pytest.mark.parametrize("is_there", [False, True])
def test_what_is_named_and_not_here_is_not_taken(is_there: bool):
    """Or is here with another content: nothing changes, and nothing is taken for known any more."""
    here = entries(2)
    if is_there:
        here[2] = Entry("room:1", "alice", b'{"of":"a clone"}', 1, here[2].ref_prefix, 2)
    else:
        del here[2]
    bob = Receiver()
    bob.hear(Chunk(0, None, 2, tuple(here.values())))
    assert bob.held.known == (0, 2)

    bob.hear(cut(entries(2), 5, known=bob.held.known))
    assert (bob.held.seq, bob.held.entries) == (2, here)
    assert bob.held.known == NOTHING

    bob.hear(Chunk(0, None, 5, (entries(2)[1],)))
    assert bob.held.known == (0, 5)


def test_a_late_chunk_that_names_who_left_since_says_nothing_of_what_is_known():
    """Ranges have removed what it names: that is no sign of a clone, and it is asked for again."""
    state = entries(3)
    bob = Receiver()
    bob.hear(Chunk(0, None, 3, tuple(state.values())))
    late = cut(state, 10, (0, 2), known=bob.held.known)
    assert sorted(late.kept) == [1, 2]

    bob.hear(cut(state, 10, (2, None)), Range(10, 11, (), (1,)), late)
    assert bob.held.gaps == [(0, 2)]
    assert bob.held.known == (0, 11)

    del state[1]
    bob.hear(cut(state, 11, (0, 2), known=bob.held.known))
    assert bob.held.entries == state
    assert bob.held.seq == 11


def test_a_transfer_that_starts_over_keeps_what_came():
    """The log no longer reaches what came so far: it costs what is missing, and numbers."""
    state = entries(1_000)
    bob = Receiver()
    bob.hear(*cut_all(state, 1_000, max_count=100)[:7])
    assert len(bob.held) == bob.row_count == 700
    bob.row_count = 0
    later = {seq: entry for seq, entry in entries(1_010).items() if seq % 10}

    first, *_ = cut_all(later, 50_000, known=bob.held.known, max_count=50)
    bob.hear(first, starts_over=True)
    for chunk in cut_all(later, 50_000, bob.held.gaps, known=bob.held.known, max_count=50):
        bob.hear(chunk, starts_over=True)

    assert bob.held.seq == 50_000
    assert bob.held.entries == later
    assert bob.row_count == sum(seq <= 300 or seq > 1_000 for seq in later)


def test_what_was_held_before_is_known_in_the_gaps():
    """And what came above them, too, as soon as both meet: only one interval can be named."""
    before, state = entries(300), entries(1_000)
    bob = Receiver()
    bob.hear(Chunk(0, None, 300, tuple(before.values())))
    said = []
    for chunk in cut_all(state, 1_000, known=bob.held.known, max_count=200)[:4]:
        bob.hear(chunk)
        said.append(bob.held.known)

    assert said == [(0, 300), (0, 300), (0, 300), (0, 1_000)]


def test_a_later_chunk_does_not_start_over_by_itself():
    """Only the answer to what was asked for last does; others fill gaps."""
    state = entries(6)
    bob = Receiver()
    bob.hear(cut(state, 6, max_count=2))

    bob.hear(cut(state, 9, (1, 4)), cut(state, 9, max_count=1))
    assert bob.held.at == 6
    assert bob.held.gaps == [(0, 1)]

    bob.hear(cut(state, 9, max_count=1), starts_over=True)
    assert bob.held.at == 9
    assert bob.held.gaps == [(0, 5)]


# What no node sends.


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(3, 1, 9, (entries(2)[2],)),
        Chunk(5, 5, 9, ()),
        Chunk(-5, -1, 9, ()),
        Chunk(0, 0, 9, ()),
        Chunk(0, None, -9, ()),
    ],
    ids=str,
)
def test_a_chunk_of_nothing_changes_nothing_that_is_held(chunk: Chunk):
    """Whatever its numbers are, and the true slice comes after it."""
    bob = Receiver()
    bob.hear(Range(0, 2, tuple(entries(2).values()), ()), chunk)
    assert bob.held.entries == entries(2)

    bob.hear(*cut_all(entries(4), 20), starts_over=True)
    assert bob.held.entries == entries(4)


def test_rows_outside_of_the_interval_are_passed_over():
    """A chunk is judged by its bounds, and what it has beyond them is in another chunk."""
    bob = Receiver()
    state = entries(6)

    bob.hear(Chunk(2, 4, 6, tuple(state.values())))

    assert set(bob.held.entries) == {3, 4}
