"""Terms of Erlang: what is read and written, and that anything else is refused, quickly."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.exceptions import TermError
from roost.tokens.terms import MAX_DEPTH, Atom, decode_term, encode_term
from tests.laws import LAW
from tests.tokens.erlang import (
    atom,
    binary,
    integer,
    list_,
    map_,
    nil,
    old_atom,
    term,
    tuple_,
)


def new_float(value: float) -> bytes:
    return b"F" + struct.pack(">d", value)


# Each is written as Erlang/OTP 26 writes it, but for the lists of small integers.
TERMS = [
    (0, integer(0)),
    (255, integer(255)),
    (256, integer(256)),
    (-1, integer(-1)),
    (2**31 - 1, integer(2**31 - 1)),
    (-(2**31), integer(-(2**31))),
    (2**31, b"n\x04\x00\x00\x00\x00\x80"),
    (-(2**31) - 1, b"n\x04\x01\x01\x00\x00\x80"),
    (2**2040 - 1, b"n\xff\x00" + b"\xff" * 255),
    (0.0, new_float(0.0)),
    (-1.5, new_float(-1.5)),
    ("", binary(b"")),
    ("ünïcode", binary("ünïcode".encode())),
    (b"\xff\x00", binary(b"\xff\x00")),
    (None, atom("nil")),
    (True, atom("true")),
    (False, atom("false")),
    (Atom("ok"), atom("ok")),
    (Atom("ü" * 127), b"w\xfe" + ("ü" * 127).encode()),
    (Atom("ü" * 255), b"v\x01\xfe" + ("ü" * 255).encode()),
    ([], nil),
    ([1, "a"], list_(integer(1), binary(b"a"))),
    ((), tuple_()),
    ((1,), tuple_(integer(1))),
    ((1,) * 256, b"i\x00\x00\x01\x00" + integer(1) * 256),
    ({}, map_()),
    (
        {"a": 1, Atom("b"): [None]},
        map_((binary(b"a"), integer(1)), (atom("b"), list_(atom("nil")))),
    ),
    (
        {(1, 2): 1.5, 3: {}},
        map_((tuple_(integer(1), integer(2)), new_float(1.5)), (integer(3), map_())),
    ),
]


@pytest.mark.parametrize(("value", "written"), TERMS, ids=lambda each: repr(each)[:30])
def test_terms_are_read_and_written(value: Any, written: bytes):
    """A term is read as the Python value, with its type, and that is written as the term."""
    read = decode_term(term(written))

    assert read == value
    assert type(read) is type(value)
    assert encode_term(value) == term(written)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ([97, 98], b"k\x00\x02ab"),
        (Atom("ok"), old_atom("ok")),
        (Atom("ü"), old_atom("ü")),
        (Atom("ü"), b"s\x01\xfc"),
        (None, old_atom("nil")),
        (7, b"n\x08\x00\x07" + bytes(7)),
        (0, b"n\x00\x00"),
        ((1,), b"i\x00\x00\x00\x01" + integer(1)),
        ([], b"k\x00\x00"),
        ([], b"l\x00\x00\x00\x00j"),
    ],
)
def test_other_forms_are_read(value: Any, written: bytes):
    """Erlang has several forms for some terms, old releases others: all of them are read."""
    assert decode_term(term(written)) == value


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"\x83",
        b"\x82" + integer(1),
        integer(1),
        term(integer(1) + b"\x00"),
        term(b"P\x00\x00\x00\x02x\x9cKd\x00\x00\x00b\x00b"),  # compressed
        term(b"c1.50000000000000000000e+00\x00\x00\x00\x00\x00"),  # a float as text
        term(new_float(math.nan)),
        term(new_float(math.inf)),
        term(b"o\x00\x00\x01\x00\x00" + bytes(256)),  # a large integer
        term(b"n\x01\x02\x01"),
        term(b"M\x00\x00\x00\x01\x04\xf0"),  # a bitstring
        term(b"g" + atom("node@host") + bytes(9)),  # a pid
        term(b"X" + atom("node@host") + bytes(12)),
        term(b"Z\x00\x01" + atom("node@host") + bytes(8)),  # a reference
        term(b"Y" + atom("node@host") + bytes(8)),  # a port
        term(b"p" + bytes(40)),  # a function
        term(b"q" + atom("os") + atom("cmd") + integer(1)),  # an external one
        term(list_(integer(1), tail=integer(2))),  # an improper list
        term(map_((list_(integer(1)), integer(1)))),
        term(map_((map_(), integer(1)))),
        term(map_((tuple_(map_()), integer(1)))),
        term(map_((integer(1), nil), (integer(1), nil))),
        term(map_((integer(1), nil), (new_float(1.0), nil))),  # one key in Python
        term(map_((integer(1), nil), (atom("true"), nil))),
        term(map_((atom("a"), nil), (binary(b"a"), nil))),
        term(b"w\x02\xff\xff"),  # an atom that is no UTF-8
        term(b"v\x01\x00" + b"a" * 256),  # one that is too long
        term(b"d\x01\x00" + b"a" * 256),
    ],
    ids=lambda written: written[:12].hex(),
)
def test_what_is_refused(written: bytes):
    """What can do something, is no term, is ambiguous, or is not needed, is not read."""
    with pytest.raises(TermError):
        decode_term(written)


@pytest.mark.parametrize("tag", range(256))
def test_no_tag_is_a_surprise(tag: int):
    """Whatever follows a tag, it is a term or refused."""
    for tail in (b"", bytes(1), bytes(300), b"\xff" * 300, b"\x01" * 300):
        try:
            decode_term(bytes([131, tag]) + tail)
        except TermError:
            pass


@pytest.mark.parametrize("head", [b"i", b"l", b"t", b"m", b"v", b"d", b"n", b"k", b"h", b"w"])
def test_a_count_is_believed_only_with_what_it_counts(head: bytes):
    """A few bytes that speak of thousands of millions of parts cost nothing."""
    for size in (1, 2, 3, 4, 8):
        with pytest.raises(TermError):
            decode_term(term(head + b"\xff" * size))


def test_the_depth_is_bounded():
    """Containers may be 64 deep, in whatever there is; deeper ones are refused, not a crash."""
    for open_, close in (
        (b"h\x01", b""),
        (b"l\x00\x00\x00\x01", nil),
        (b"t\x00\x00\x00\x01a\x00", b""),
    ):
        for depth in (MAX_DEPTH, MAX_DEPTH + 1, 100_000):
            written = term(open_ * depth + integer(1) + close * depth)
            if depth <= MAX_DEPTH:
                assert decode_term(written)
            else:
                with pytest.raises(TermError, match="deep"):
                    decode_term(written)


def test_what_can_not_be_written():
    """What is no term is named; what contains itself, too."""
    inside: list[Any] = []
    inside.append(inside)
    for value in (
        inside,
        {1, 2},
        object(),
        bytearray(b"a"),
        1j,
        math.inf,
        2**2040,
        -(2**2040),
        Atom("a" * 256),
        "\ud800",
        {"a": object()},
    ):
        with pytest.raises(TermError):
            encode_term(value)


def test_atoms_are_text():
    """They are found by their text, and are told apart by their type."""
    data = decode_term(term(map_((atom("user_id"), atom("alice")))))

    assert data["user_id"] == "alice"
    assert isinstance(data["user_id"], Atom)
    assert repr(data) == "{Atom('user_id'): Atom('alice')}"


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**2040) + 1, 2**2040 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary()
    | st.text(max_size=255).filter(lambda name: name not in ("nil", "true", "false")).map(Atom)
)
keys = st.text() | st.integers(2, 300)
terms = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=20,
)


def as_read(value: Any) -> Any:
    """What a value is once it was a term: bytes that are UTF-8 are text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, (list, tuple)):
        return type(value)(map(as_read, value))
    if isinstance(value, dict):
        return {key: as_read(each) for key, each in value.items()}
    return value


@LAW
@given(terms)
def test_what_is_written_is_read(value: Any):
    """Any value that can be a term comes back as it was."""
    read = decode_term(encode_term(value))

    assert read == as_read(value)
    assert repr(read) == repr(as_read(value))


@LAW
@given(terms, st.data())
def test_fuzz_of_good_terms(value: Any, data: st.DataObject):
    """A term with any bytes changed, cut or added is a term or refused."""
    written = bytearray(encode_term(value))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(written)))
        match data.draw(st.sampled_from(["change", "cut", "add"])):
            case "change" if place < len(written):
                written[place] = data.draw(st.integers(0, 255))
            case "cut":
                del written[place:]
            case _:
                written[place:place] = data.draw(st.binary(max_size=8))
    try:
        again = decode_term(bytes(written))
    except TermError:
        return
    encode_term(again)


@LAW
@given(st.binary(max_size=400))
def test_fuzz_of_any_bytes(content: bytes):
    """Any bytes after the version are a term or refused; what was read can be written."""
    try:
        read = decode_term(term(content))
    except TermError:
        return
    encode_term(read)
