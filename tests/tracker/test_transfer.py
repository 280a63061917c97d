"""Large slices on their way, over links that lose much, while everything goes on.

Every message is right by itself, so that what was lost is all that is sent once more.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from roost.crdt.held import MAX_GAPS
from roost.crdt.slice import Slice
from roost.tracker import answers, messages
from roost.tracker.answers import MAX_ANSWER_COUNT, PACE
from roost.tracker.messages import (
    MAX_GAP_COUNT,
    Changes,
    ChunkTransfer,
    Goodbye,
    Hello,
    Part,
    Request,
    Row,
    Transfer,
    encode_message,
)
from roost.tracker.node import MIN_PART_SIZE, TURN_SIZE, Room
from roost.tracker.options import ReplicationOptions
from roost.tracker.peer import MAX_AHEAD_COUNT, MAX_MARKS, Peer
from roost.tracker.repair import STALL_DELAYS
from tests.tracker.one_node import OneNode, add, changes, heartbeat, origin
from tests.tracker.transfers import DELAY, ROOM, Linked

OPTIONS = ReplicationOptions()
A, B, C, D = (origin(name) for name in "abcd")
LARGE = (Transfer, ChunkTransfer)


@pytest.fixture(name="small_parts")
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few entries have many chunks."""
    monkeypatch.setattr(messages, "MAX_PART_COUNT", 10)


def filled(names: str, size: int = 5_000, **options: object) -> Linked:
    """Nodes of which the first tracks so many, and the others know and hold nothing yet."""
    link = Linked("a", **options)  # type: ignore[arg-type]
    link["a"].fill(size)
    link.advance(1)
    for name in names[1:]:
        link.start(name)
    return link


# Loss.


@pytest.mark.parametrize(("loss", "seconds"), [(0.0, 1.0), (0.05, 5.0), (0.2, 10.0), (0.5, 40.0)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("small_parts")
def test_what_is_lost_is_all_that_is_sent_again(loss: float, seconds: float, seed: int):
    """A newcomer has it all in time, and the messages are about as many as the loss demands."""
    link = filled("ab", loss=loss, seed=seed)

    link.run(lambda: link["b"].follows(link["a"]), seconds)

    assert link["b"].follows(link["a"])
    needed = 5_000 / 10
    assert needed <= len(link.sent) <= 1.15 * needed / (1 - loss) + 10


@pytest.mark.usefixtures("small_parts")
def test_what_a_request_costs_is_one_answer():
    """Without loss the whole slice takes a request for each so many messages of it."""
    link = filled("ab")

    link.run(lambda: link["b"].follows(link["a"]), 5)

    assert link.count(Request) <= 5_000 / 10 / MAX_ANSWER_COUNT + 2
    numbers = [message.number for _, _, message in link.sent]
    for number in set(numbers):
        assert numbers.count(number) <= MAX_ANSWER_COUNT
        assert [m.is_last for _, _, m in link.sent if m.number == number][-1]
        assert sum(m.is_last for _, _, m in link.sent if m.number == number) == 1


@pytest.mark.usefixtures("small_parts")
def test_a_lost_end_of_an_answer_costs_a_short_wait():
    """What else came of it says that it is under way; what is missing is asked for soon."""
    link = filled("ab", 2_000)
    lost: list[object] = []

    def drops(by: str, to: str, message: object) -> bool:
        if isinstance(message, LARGE) and message.is_last and not lost:
            lost.append(message)
            return True
        return False

    link.drops = drops
    took = link.run(lambda: link["b"].follows(link["a"]), 10)

    assert lost
    assert took < 3 * OPTIONS.repair_delay + STALL_DELAYS * OPTIONS.repair_delay * 1.3
    assert len(link.sent) == 2_000 / 10 + 1


@pytest.mark.usefixtures("small_parts")
def test_a_lost_middle_of_an_answer_is_named_as_a_gap(monkeypatch: pytest.MonkeyPatch):
    """It is asked for with the end of the answer, and nothing else is."""
    monkeypatch.setattr(answers, "RANGE_COUNT", 0)
    link = filled("ab", 200)
    chunks: list[ChunkTransfer] = []

    def drops(by: str, to: str, message: object) -> bool:
        if isinstance(message, ChunkTransfer):
            chunks.append(message)
        return len(chunks) in (4, 7) and message is chunks[-1]

    link.drops = drops
    link.run(lambda: link["b"].follows(link["a"]), 10)

    requests = [m for _, by, _, m in link.all_sent if isinstance(m, Request) and by == "b"]
    lost = [chunks[3], chunks[6]]
    assert [request.gaps for request in requests[1:]] == [
        tuple(sorted((each.above, each.upto) for each in lost))
    ]
    assert len(chunks) == 200 / 10 + 2


# Who else has it.


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_another_holder_goes_on_where_the_origin_was_cut_off(share: float):
    """What came of the origin's answer stays, and the holder is asked for the rest alone."""
    link = filled("ac", 2_000)
    link.run(lambda: link["c"].follows(link["a"]), 5)
    link.sent.clear()
    b = link.start("b")

    def is_cut_off() -> bool:
        peers = [peer for peer in b.replication.peers if peer.origin == A]
        return bool(peers) and len(peers[0].held) >= share * 2_000

    link.run(is_cut_off, 5)
    before = len(b.held_of(link["a"]).held)
    link.drops = lambda by, to, message: {by, to} == {"a", "b"}
    link.run(lambda: b.follows(link["a"]), 20)

    assert b.follows(link["a"])
    by_c = [m for by, to, m in link.sent if (by, to) == ("c", "b")]
    rows = sum(len(m.added) for m in by_c if isinstance(m, ChunkTransfer))
    assert rows <= 2_000 - before


@pytest.mark.usefixtures("small_parts")
def test_a_holder_of_a_part_hands_on_nothing():
    """Whoever has a slice in part would have others miss what it misses."""
    node, theirs = OneNode(), Slice(B)
    for n in range(20):
        add(theirs, f"user:{n}")
    node.hear(Hello(B, 0), Hello(C, 0))
    rows = tuple(Row(ROOM, e.key, e.meta, e.owner, e.seq) for e in list(theirs)[10:])
    node.hear(ChunkTransfer(B, B, 0, False, 10, None, 20, 7, rows))
    assert node.peer(B).held.is_partial  # type: ignore[union-attr]
    node.sent.clear()

    node.hear(Request(C, B, 0, 1, 0, ((0, None),)))
    node.advance(1)

    assert not [each for each in node.sent if isinstance(each.message, LARGE)]


@pytest.mark.usefixtures("small_parts")
def test_a_holder_that_gets_a_later_slice_hands_on_no_mixture():
    """What is left of an answer is dropped: part of what it would say is of another number."""
    link = filled("ab", 100)
    a, b = link["a"], link["b"]
    link.run(lambda: b.follows(a), 5)
    link.deliver("b", Hello(C, 0))
    b.room = Room(size=0)
    link.deliver("b", Request(C, A, 0, 1, 0, ((0, None),)))
    link.deliver("b", ChunkTransfer(A, A, 0, False, 60, None, 500, 7, ()))
    assert b.held_of(a).held.is_partial
    link.sent.clear()

    b.room = Room()
    link.drops = lambda by, to, message: by == "a"
    link.advance(1)

    assert [each for each in link.sent if each[0] == "b"] == []


@pytest.mark.usefixtures("small_parts")
def test_answers_take_turns():
    """Where there is room for one message at a time, each asker gets one after the other."""
    link = Linked("a")
    a = link["a"]
    a.fill(2_000)
    link.advance(1)
    link.deliver("a", Hello(B, 0))
    link.deliver("a", Hello(C, 0))
    a.room = Room(size=0)
    for asker in (B, C):
        link.deliver("a", Request(asker, A, 0, 1))

    a.room = Room(size=1)
    link.advance(10 * PACE)

    targets = [to for _, to, _ in link.sent]
    assert len(targets) >= 8
    assert all(one != other for one, other in pairwise(targets))


@pytest.mark.usefixtures("small_parts")
def test_four_newcomers_at_once_are_whole_at_about_the_same_time():
    """They are whole at about the same time, and each is sent the slice once."""
    link = filled("abcde", 2_000)
    done: dict[str, float] = {}

    def is_done() -> bool:
        for name in "bcde":
            if name not in done and link[name].follows(link["a"]):
                done[name] = link.now
        return len(done) == 4

    link.run(is_done, 20)

    assert len(done) == 4
    assert len(link.sent) <= 4 * 2_000 / 10 + 8
    assert max(done.values()) - min(done.values()) < 1.0


# What goes on meanwhile.


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.usefixtures("small_parts")
def test_an_origin_that_never_rests_is_caught_up_with(loss: float):
    """It changes all the while, faster than its log remembers, and nothing is ever final."""
    link = filled("ab", 1_000, loss=loss, log_count=20)
    a, b = link["a"], link["b"]
    number = 0
    for n in range(400):
        for _ in range(3):
            number += 1
            a.tracker.untrack(ROOM, f"user:{number % 1_000}", owner=number % 1_000)
            a.tracker.track(ROOM, f"user:{number % 1_000}", {"n": n}, owner=number % 1_000)
        link.advance(0.02)
    held = b.held_of(a).held
    here = set(held.entries) & set(a.tracker.own.entries)
    assert len(here) > 0.5 * len(a.tracker.own)

    link.run(lambda: b.follows(a), 30)

    assert b.follows(a)


@pytest.mark.usefixtures("small_parts")
def test_live_changes_are_followed_while_chunks_come():
    """Who joins and leaves meanwhile is shown at once, whatever is still missing."""
    link = filled("ab", 2_000)
    a, b = link["a"], link["b"]
    a.room = Room(size=2_000)  # so that it takes a while
    link.run(lambda: bool(b.shown), 5)
    assert b.held_of(a).held.is_partial

    alice = a.tracker.track(ROOM, "alice", {}, owner=9_999)
    link.advance(OPTIONS.broadcast_period + 2 * DELAY + 0.01)
    assert b.held_of(a).held.is_partial
    assert b.tracker.has_key(ROOM, "alice")

    a.tracker.untrack(ROOM, "alice", owner=9_999)
    link.advance(OPTIONS.broadcast_period + 2 * DELAY + 0.01)
    assert b.held_of(a).held.is_partial
    assert not b.tracker.has_key(ROOM, "alice")
    assert alice not in b.shown


# Room.


@pytest.mark.usefixtures("small_parts")
def test_without_room_nothing_large_is_sent():
    """Live changes still go, a piece for each input; it goes on as soon as there is room."""
    link = filled("ab", 2_000)
    a, b = link["a"], link["b"]
    link.run(lambda: bool(b.shown), 5)
    a.room = Room(size=0)
    link.advance(2 * DELAY)
    before = len(link.sent)

    link.advance(1)
    assert len(link.sent) == before
    a.tracker.track(ROOM, "alice", {}, owner=9_999)
    link.advance(1)
    assert len(link.sent) == before
    assert b.tracker.has_key(ROOM, "alice")
    assert not b.follows(a)

    a.room = Room()
    took = link.run(lambda: b.follows(a), 10)
    assert b.follows(a)
    assert took < 3.0


def test_answers_wait_as_numbers_and_not_as_bytes():
    """However many ask, what is made in one go is bounded."""
    node = OneNode()
    for n in range(3_000):
        node.tracker.track(ROOM, f"user:{n}", {"text": "x" * 500}, owner=n)
    node.advance(1)
    askers = [origin(chr(ord("b") + n)) for n in range(20)]
    node.hear(*(Hello(each, 0) for each in askers))
    node.sent.clear()

    for asker in askers:
        node.hear(Request(asker, A, 0, 1))
        sizes = [len(encode_message(m)) for _, m in node.said(ChunkTransfer)]
        assert sum(sizes) < TURN_SIZE + 100_000


@pytest.mark.parametrize("max_size", [0, 2_048, 4_096, 20_000])
def test_pieces_fit_the_way(max_size: int):
    """What the way carries in one piece is what messages are cut for, in bytes."""
    link = Linked("a")
    a = link["a"]
    a.room = Room(max_size=max_size)
    a.fill(300, "é" * 200)
    link.advance(1)
    b = link.start("b")
    link.run(lambda: b.follows(a), 30)
    assert b.follows(a)

    large = [m for _, _, _, m in link.all_sent if isinstance(m, (*LARGE, Changes))]
    one = len(encode_message(large[-1])) if not large else 600
    bound = max(max_size, MIN_PART_SIZE + 2 * one)
    assert max(len(encode_message(message)) for message in large) <= bound


# Bounds.


def test_answers_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Of too many that wait, the one that waited longest is dropped, and counted."""
    monkeypatch.setattr(answers, "MAX_ANSWERS", 3)
    link = Linked("a")
    a = link["a"]
    a.fill(3_000)
    link.advance(1)
    a.room = Room(size=0)
    for n in range(5):
        asker = origin(chr(ord("b") + n))
        link.deliver("a", Hello(asker, 0))
        link.deliver("a", Request(asker, A, 0, 1))

    assert len(a.replication._answers) == 3
    assert a.replication.counters["busy"] == 2


def test_a_second_request_takes_the_place_of_the_first():
    """Nobody is sent what it no longer waits for."""
    link = Linked("a")
    a = link["a"]
    a.fill(3_000)
    link.advance(1)
    link.deliver("a", Hello(B, 0))
    a.room = Room(size=0)
    for number in range(10):
        link.deliver("a", Request(B, A, 0, number))
    a.room = Room()
    link.advance(1)

    assert {message.number for _, _, message in link.sent} == {9}
    assert len(link.sent) <= MAX_ANSWER_COUNT


def test_an_answer_that_nobody_waits_for_any_more_is_dropped():
    """Without room for so long it ends by itself."""
    link = Linked("a")
    a = link["a"]
    a.fill(3_000)
    link.advance(1)
    link.deliver("a", Hello(B, 0))
    a.room = Room(size=0)
    link.deliver("a", Request(B, A, 0, 1))
    link.advance(2 * OPTIONS.max_request_timeout + 1)

    a.room = Room()
    link.advance(1)

    assert link.sent == []


def test_a_request_names_a_bounded_number_of_gaps():
    """The next one names the others: the last are filled first."""
    node = OneNode()
    node.hear(Hello(B, 0))
    for n in range(300, 0, -2):
        node.hear(ChunkTransfer(B, B, 0, False, n - 1, n, 1_000, 7, ()))
    held = node.peer(B).held  # type: ignore[union-attr]
    assert len(held.gaps) == 151
    node.sent.clear()
    node.advance(1, Hello(B, 0))

    requests = [request for _, request in node.said(Request)]
    assert {len(request.gaps) for request in requests} == {MAX_GAP_COUNT}
    assert requests[0].gaps == tuple(held.gaps[-MAX_GAP_COUNT:])


def test_what_a_receiver_keeps_is_bounded():
    """Whatever comes: gaps, marks, and what waits beyond a gap."""
    node = OneNode()
    node.hear(Hello(B, 0))
    for n in range(4_000, 0, -2):
        node.hear(ChunkTransfer(B, B, 0, False, n - 1, n, 9_000 + n, n, ()))
        node.hear(Changes(B, Part(20_000 + n, 20_000 + n + 1, (), (), (n, n + 1)), 0))
    peer = node.peer(B)
    assert isinstance(peer, Peer)

    assert len(peer.held.gaps) <= MAX_GAPS
    assert len(peer.ahead) <= MAX_AHEAD_COUNT
    assert len(peer.marks) <= MAX_MARKS


# Who means harm. A node of the cluster is trusted in what it says of itself, but it breaks nobody.

STRANGE_GAPS = {
    "out of order": ((50, 60), (10, 20), (30, 40)),
    "negative": ((-10, -5), (-1, None)),
    "huge": ((2**62, 2**63),),
    "backwards": ((60, 50), (5, 5)),
    "the same many times": ((0, None),) * 1_000,
    "very many": tuple((n, n + 1) for n in range(100_000)),
}


@pytest.mark.parametrize("gaps", STRANGE_GAPS.values(), ids=STRANGE_GAPS)
@pytest.mark.parametrize("known", [(0, 0), (-5, 2**63), (9, 3)])
@pytest.mark.parametrize("whose", ["own", "held"])
def test_a_strange_request_costs_no_more_than_another(
    gaps: tuple[tuple[int, int | None], ...], known: tuple[int, int], whose: str
):
    """It gets an answer of bounded length, and everybody else is served as before."""
    link = filled("abd", 100)
    link.run(lambda: link["b"].follows(link["a"]), 5)
    member = link["a"] if whose == "own" else link["b"]
    link.deliver(member.name, Hello(C, 0))
    seq = link["a"].tracker.own.seq
    link.sent.clear()

    point = link["b"].held_of(link["a"]).mark
    link.deliver(member.name, Request(C, A, seq, 1, point, gaps, known))
    link.advance(1)

    sent = [message for _, to, message in link.sent if to == "c"]
    assert 0 < len(sent) <= MAX_ANSWER_COUNT
    assert link["a"].replication.origin == A
    fresh = link.start("e")
    link.run(lambda: fresh.follows(link["a"]), 5)
    assert fresh.follows(link["a"])


STRANGE_CHUNKS = {
    "rows outside": {"above": 2, "upto": 4, "end": 20, "rows": (1, 3, 9)},
    "backwards": {"above": 4, "upto": 2, "end": 20, "rows": (3,)},
    "negative": {"above": -9, "upto": -3, "end": 20, "rows": ()},
    "of nothing": {"above": 0, "upto": 0, "end": 20, "rows": ()},
    "an end before the beginning": {"above": 0, "upto": None, "end": -1, "rows": (1,)},
    "kept that is not there": {"above": 0, "upto": None, "end": 20, "rows": (), "kept": (5, 6)},
    "kept twice": {"above": 0, "upto": None, "end": 20, "rows": (), "kept": (1, 1, 1)},
    "another check": {"above": 0, "upto": None, "end": 20, "rows": (), "kept": (1,), "check": 9},
    "rows beyond the end": {"above": 0, "upto": None, "end": 20, "rows": (500,)},
    "one row twice": {"above": 0, "upto": None, "end": 20, "rows": (3, 3)},
}


@pytest.mark.parametrize("strange", STRANGE_CHUNKS.values(), ids=STRANGE_CHUNKS)
def test_a_strange_chunk_breaks_nobody(strange: dict[str, object]):
    """Nobody of it is shown under another origin, and what comes afterwards is right."""
    node, theirs = OneNode(), Slice(B)
    for n in range(20):
        add(theirs, f"user:{n}")
    other = Slice(C)
    add(other, "carol")
    node.hear(heartbeat(Slice(B)), changes(theirs, 19), heartbeat(other), changes(other))
    rows = tuple(
        Row(ROOM, "mallory", b'{"phx_ref":"%s"}' % B.ref(seq).encode(), 1, seq)
        for seq in strange["rows"]  # type: ignore[attr-defined]
    )
    message = ChunkTransfer(
        C,
        B,
        1,
        True,
        strange["above"],  # type: ignore[arg-type]
        strange["upto"],  # type: ignore[arg-type]
        strange["end"],  # type: ignore[arg-type]
        0,
        rows,
        strange.get("kept", ()),  # type: ignore[arg-type]
        strange.get("check", 0),  # type: ignore[arg-type]
    )

    node.replication.receive_data(encode_message(message), node.now)
    node.advance(2, heartbeat(theirs), heartbeat(other))

    assert [e.key for e in node.peer(C).held] == ["carol"]  # type: ignore[union-attr]
    assert all(e.ref_prefix == B.ref_prefix for e in node.peer(B).held)  # type: ignore[union-attr]
    request = node.said(Request)
    assert request or node.peer(B).held.seq == 20  # type: ignore[union-attr]


def test_an_end_far_ahead_ends_with_another_id_of_its_origin():
    """Somebody lied about a slice: what was never made is asked for until its origin hears it."""
    link = filled("abc", 100)
    link.run(lambda: all(link[name].follows(link["a"]) for name in "bc"), 5)

    link.deliver("b", ChunkTransfer(C, A, 1, True, 0, None, 2**40, 7, ()))
    link.run(lambda: link["a"].replication.origin != A, 30)
    link.run(lambda: all(link[name].follows(link["a"]) for name in "bc"), 30)

    assert all(link[name].follows(link["a"]) for name in "bc")


def test_who_lies_of_what_it_knows_is_sent_numbers():
    """It gets what it asked for, and nobody else is harmed."""
    link = filled("ab", 100)
    link.deliver("a", Hello(C, 0))
    link.sent.clear()
    link.deliver("a", Request(C, A, 0, 1, 12345, ((0, None),), (0, 100)))
    link.advance(1)

    assert not [message for _, to, message in link.sent if to == "c"]  # a clone: another id
    assert link["a"].replication.origin > A


def test_a_goodbye_ends_what_is_on_its_way():
    """Nothing more is sent of or to whoever is gone, and nothing of it is shown."""
    link = filled("ab", 3_000)
    a, b = link["a"], link["b"]
    a.room = Room(size=2_000)
    link.run(lambda: bool(b.shown), 5)

    a.replication.close(link.now)
    link.deliver("b", Goodbye(A))
    link.advance(5)

    assert b.shown == set()
    assert [peer for peer in b.replication.peers if peer.origin == A] == []
