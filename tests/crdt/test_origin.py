"""Ids of origins: one life of one node, and the refs of what it tracks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.crdt.entry import Entry
from roost.crdt.incarnation import OriginId
from tests.laws import LAW

nonces = st.integers(0, 2**64 - 1)
seqs = st.integers(1, 2**53)
origins = st.builds(OriginId, st.sampled_from("ab"), st.integers(0, 3), nonces)


@LAW
@given(st.lists(st.tuples(nonces, seqs), unique=True, min_size=2))
def test_refs_are_unique_across_lives(additions):
    """No two additions have the same ref, of whatever life and with whatever number."""
    refs = {OriginId("a", 1, nonce).ref(seq) for nonce, seq in additions}

    assert len(refs) == len(additions)


@LAW
@given(origins, origins)
def test_ids_of_one_name_are_ordered_by_incarnation_then_nonce(one, other):
    """A later life of a node is greater; the nonce decides between equal incarnations."""
    other = OriginId(one.name, other.incarnation, other.nonce)

    assert (one < other) == ((one.incarnation, one.nonce) < (other.incarnation, other.nonce))
    assert (one == other) == ((one.incarnation, one.nonce) == (other.incarnation, other.nonce))


@LAW
@given(origins, seqs)
def test_an_entry_spells_its_ref_as_its_origin_does(origin, seq):
    """The ref of an entry is made of two parts that it holds, and stays what it is in JSON."""
    entry = Entry("room:1", "alice", b"{}", 1, origin.ref_prefix, seq)

    assert entry.ref == origin.ref(seq)
    assert len(origin.ref_prefix) == 11
    assert set(entry.ref) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_an_id_is_a_value():
    """Ids are equal by what they say, can be keys, and never change."""
    origin = OriginId("a", 1, 7)

    assert {origin: 1}[OriginId("a", 1, 7)] == 1
    with pytest.raises(AttributeError):
        origin.incarnation = 2  # type: ignore[misc]


def test_a_nonce_has_64_bits():
    """A nonce that does not fit is refused rather than cut."""
    with pytest.raises(OverflowError):
        OriginId("a", 1, 2**64).ref(1)
