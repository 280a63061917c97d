"""``presence_state`` and ``presence_diff`` of metas that are encoded already."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.crdt.entry import Entry
from roost.naming import RESERVED_KEYS
from roost.wire.presence import (
    encode_diff,
    encode_grouped,
    encode_member,
    encode_object,
    group_by_key,
)
from tests.laws import LAW


def entry(key: str, seq: int) -> Entry:
    return Entry("room:1", key, b'{"phx_ref":"r%x"}' % seq, 1, "r", seq)


ALICE1, BOB, ALICE2 = entry("alice", 1), entry("bob", 2), entry("alice", 3)


def test_a_state_groups_metas_by_key():
    """Keys stand in the order of their first entry, metas in the order given."""
    assert encode_grouped([ALICE1, BOB, ALICE2]) == (
        b'{"alice":{"metas":[{"phx_ref":"r1"},{"phx_ref":"r3"}]},'
        b'"bob":{"metas":[{"phx_ref":"r2"}]}}'
    )


def test_a_diff_has_both_sides():
    """Both sides of a diff are there, even if they are empty."""
    assert encode_diff(encode_grouped([BOB]), encode_grouped([])) == (
        b'{"joins":{"bob":{"metas":[{"phx_ref":"r2"}]}},"leaves":{}}'
    )


def test_members_make_an_object():
    """A state can be joined of members that were kept."""
    members = [encode_member(each.key, [each.meta]) for each in (ALICE1, BOB)]

    assert encode_object(members) == encode_grouped([ALICE1, BOB])
    assert encode_object([]) == b"{}"


@LAW
@given(st.lists(st.text(), max_size=6))
def test_any_text_is_a_key(keys):
    """Whatever a key holds, the payload is JSON that has it."""
    entries = [entry(key, seq) for seq, key in enumerate(keys, 1)]
    state = json.loads(encode_grouped(entries))

    assert list(state) == list(dict.fromkeys(keys))
    assert sum(len(each["metas"]) for each in state.values()) == len(keys)


def test_entries_are_grouped_in_order():
    """Groups keep the order of what they are made of."""
    assert group_by_key(iter([ALICE1, BOB, ALICE2])) == {"alice": [ALICE1, ALICE2], "bob": [BOB]}


@pytest.mark.parametrize("key", ["__proto__", "constructor", "hasOwnProperty", "toString"])
def test_names_of_the_object_prototype_are_forbidden(key):
    """Keys that every JavaScript object seems to have are known."""
    assert key in RESERVED_KEYS
