"""Messages that come in pieces: whole ones in order, and nothing of what is incomplete."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.pubsub.broker import joiner as module
from roost.pubsub.broker.frames import Piece
from roost.pubsub.broker.joiner import MAX_MESSAGE_SIZE, Joiner
from tests.laws import LAW


def pieces(link: str, message: bytes, number: int = 1, size: int = 3) -> list[Piece]:
    """A message of ``link``, cut."""
    return [
        Piece(link, "alice", number, at, len(message), message[at : at + size])
        for at in range(0, len(message), size)
    ]


@LAW
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.binary(min_size=1, max_size=20)), max_size=8),
    st.data(),
)
def test_whatever_is_lost_what_comes_was_sent(messages, data):
    """With pieces lost, each message arrives whole or not at all, in its sender's order."""
    counters: Counter[str] = Counter()
    joiner = Joiner(counters)
    lossless, arrived = [], []
    for number, (link, message) in enumerate(messages):
        sent = pieces(link, message, number)
        kept = [piece for piece in sent if data.draw(st.booleans()) or data.draw(st.booleans())]
        if kept == sent:
            lossless.append(message)
        arrived += [whole for piece in kept if (whole := joiner.add(piece)) is not None]

    assert arrived == lossless


def test_senders_do_not_disturb_each_other():
    """The pieces of two links may alternate."""
    joiner = Joiner(Counter())
    both = zip(pieces("a", b"of alice"), pieces("b", b"by bob.."), strict=True)

    arrived = [joiner.add(piece) for pair in both for piece in pair]

    assert [whole for whole in arrived if whole is not None] == [b"of alice", b"by bob.."]


@pytest.mark.parametrize(
    "piece",
    [
        Piece("a", "alice", 1, 0, 0, b""),
        Piece("a", "alice", 1, 0, -1, b"x"),
        Piece("a", "alice", 1, 0, MAX_MESSAGE_SIZE + 1, b"x"),
        Piece("a", "alice", 1, 0, 1, b"xy"),
        Piece("a", "alice", 1, 0, 5, b""),
        Piece("a", "alice", 1, 4, 5, b"x"),
    ],
)
def test_a_piece_that_fits_nowhere_is_dropped(piece: Piece):
    """Nothing of it is kept, and the next message arrives."""
    joiner = Joiner(Counter())

    assert joiner.add(piece) is None
    assert [joiner.add(each) for each in pieces("a", b"next", 2)][-1] == b"next"


def test_what_waits_for_its_rest_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Past the bounds whoever began first is dropped, and counted."""
    monkeypatch.setattr(module, "MAX_LINKS", 2)
    counters: Counter[str] = Counter()
    joiner = Joiner(counters)
    begun = {link: pieces(link, b"some text") for link in "abc"}

    for link in "abc":
        joiner.add(begun[link][0])

    assert counters == {"incomplete": 1}
    assert [joiner.add(each) for each in begun["a"][1:]][-1] is None
    assert [joiner.add(each) for each in begun["c"][1:]][-1] == b"some text"
