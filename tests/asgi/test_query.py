"""Query strings become what Plug makes of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.asgi.handshake.query import parse_query
from roost.exceptions import InvalidMessage


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a", {"a": ""}),
        (b"a=&=b", {"a": "", "": "b"}),
        (b"a=b+c%20d&%C3%A4=%26", {"a": "b c d", "ä": "&"}),
        (b"a;b=1", {"a;b": "1"}),
        (b"user[name]=alice&user[age]=3", {"user": {"name": "alice", "age": "3"}}),
        (b"a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        (b"a%5Bb%5D=1", {"a": {"b": "1"}}),
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[b][]=1&a[b][]=2", {"a": {"b": ["1", "2"]}}),
        (b"a=1&a[b]=2", {"a": {"b": "2"}}),
        (b"a[b]=2&a=1", {"a": "1"}),
        (b"a=1&a[]=2", {"a": ["2"]}),
    ],
)
def test_names_nest_in_brackets_and_a_repeated_one_counts_last(
    query: bytes, params: dict[str, Any]
):
    """Names nest in brackets, empty brackets append, a repeated name counts last."""
    assert parse_query(query) == params


@pytest.mark.parametrize("name", ["[", "]", "[a]", "a[", "a]", "a[b", "a[b]c", "a[b[c]]", "a[b]]"])
def test_names_that_only_look_like_nesting(name: str):
    """They stand for themselves."""
    assert parse_query(f"{name}=1".encode()) == {name: "1"}


def test_a_name_nests_32_levels_at_most():
    """A deeper one stands for itself: nobody builds towers in our memory."""
    deep, too_deep = "a" + "[b]" * 32, "a" + "[b]" * 33

    nested = parse_query(f"{deep}=1".encode())
    for _ in range(32):
        nested = next(iter(nested.values()))
    assert nested == {"b": "1"}
    assert parse_query(f"{too_deep}=1".encode()) == {too_deep: "1"}


@pytest.mark.parametrize("query", [b"a=%FF", b"%FF=1", b"\xc3\xa4=1", b"&".join([b"a"] * 1001)])
def test_queries_that_are_refused(query: bytes):
    """What is not UTF-8, and what is too long, is no query."""
    with pytest.raises(InvalidMessage):
        parse_query(query)


@given(st.binary(max_size=60) | st.text("a[]=&%5BD1", max_size=60).map(str.encode))
def test_any_bytes_are_a_query_or_refused(query: bytes):
    """Whatever is in the URL, nothing else happens."""
    try:
        params = parse_query(query)
    except InvalidMessage:
        return
    assert isinstance(params, dict)
