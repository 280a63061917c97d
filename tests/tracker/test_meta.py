"""Metas as bytes, with their refs inside."""

import enum
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.exceptions import PayloadError
from roost.strict_json import JsonEncoder
from roost.tracker.meta import MAX_META_SIZE, add_refs, decode_meta, encode_meta
from tests.laws import LAW

ENCODER = JsonEncoder()


class Name(enum.Enum):
    REF = "phx_ref"


metas = st.dictionaries(
    st.text(max_size=3) | st.sampled_from(["phx_ref", "phx_ref_prev", "online_at"]),
    st.integers() | st.text() | st.none() | st.lists(st.booleans()),
    max_size=4,
)


@LAW
@given(metas, st.none() | st.just("F1"))
def test_a_meta_carries_its_own_refs_and_no_others(meta, previous):
    """The bytes are the meta as a JSON object, with refs instead of any that it brought."""
    encoded = add_refs(encode_meta(ENCODER, meta), "F2", previous)

    expected = {name: value for name, value in meta.items() if not name.startswith("phx_ref")}
    expected["phx_ref"] = "F2"
    if previous is not None:
        expected["phx_ref_prev"] = previous
    assert json.loads(encoded) == decode_meta(encoded) == expected
    assert encoded.count(b'"phx_ref":') == 1


def test_the_refs_come_last():
    """A meta is written with its refs behind its own fields."""
    encoded = encode_meta(ENCODER, {"online_at": 1})

    assert add_refs(encoded, "F2") == b'{"online_at":1,"phx_ref":"F2"}'
    assert add_refs(encoded, "F2", "F1") == (b'{"online_at":1,"phx_ref":"F2","phx_ref_prev":"F1"}')
    assert add_refs(encode_meta(ENCODER, {}), "F2") == b'{"phx_ref":"F2"}'


def test_a_ref_in_disguise_is_dropped_too():
    """A key that only becomes phx_ref in JSON is one."""
    assert encode_meta(ENCODER, {Name.REF: "mine"}) == b"{}"  # type: ignore[dict-item]


@pytest.mark.parametrize("meta", [None, [], "alice", 1, b"{}", [("a", 1)]])
def test_a_meta_that_is_no_object_is_refused(meta):
    """Only an object can carry refs."""
    with pytest.raises(PayloadError):
        encode_meta(ENCODER, meta)


def test_a_meta_that_is_too_large_is_refused():
    """Everybody in the topic gets it, in each list and diff."""
    assert len(encode_meta(ENCODER, {"text": "x" * (MAX_META_SIZE - 11)})) == MAX_META_SIZE

    with pytest.raises(PayloadError, match="65,536 bytes, got 65,537"):
        encode_meta(ENCODER, {"text": "x" * (MAX_META_SIZE - 10)})


def test_every_decoding_is_fresh():
    """Who decodes a meta may change what it gets."""
    encoded = add_refs(encode_meta(ENCODER, {"devices": []}), "F1")
    decode_meta(encoded)["devices"].append("phone")

    assert decode_meta(encoded) == {"devices": [], "phx_ref": "F1"}
