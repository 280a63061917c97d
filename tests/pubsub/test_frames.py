"""What nodes send each other through an engine in the middle."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.pubsub.broker.frames import Hello, Messages, decode_frame, encode_frame

short = st.text(max_size=63)  # 255 bytes at most


@given(short, short, st.lists(st.binary()))
def test_a_frame_arrives_as_it_was(link: str, node_name: str, messages: list[bytes]):
    """Decoding returns what was encoded."""
    for frame in (Messages(link, node_name, messages), Hello(link, node_name)):
        assert decode_frame(encode_frame(frame)) == frame


@given(st.binary())
def test_any_bytes_can_be_decoded(data: bytes):
    """Bytes of a stranger are no frame, and never an error."""
    decode_frame(data)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["roost.2", "6f1c", "alice", []],
        ["roost.1", "6f1c", "alice"],
        ["roost.1", "6f1c", 7, []],
        ["roost.1", "6f1c", "alice", ["text"]],
        ["roost.1.hello", "6f1c"],
        {"roost.1": 1},
    ],
    ids=str,
)
def test_what_is_no_frame(fields: object):
    """Another version, missing fields and other types are not taken for a frame."""
    assert decode_frame(msgspec.msgpack.encode(fields)) is None


def test_a_later_version_may_add_fields():
    """More fields at the end are ignored, so that nodes of two versions hear each other."""
    data = msgspec.msgpack.encode(["roost.1", "6f1c", "alice", [b"hello"], "new"])

    assert decode_frame(data) == Messages("6f1c", "alice", [b"hello"])


@pytest.mark.parametrize(
    "name", ["n" * 256, "é" * 128, "n" * 5_000_000], ids=["256", "wide", "5 MB"]
)
def test_names_that_are_too_long(name: str):
    """What is remembered of links and nodes is bounded in bytes."""
    assert decode_frame(encode_frame(Messages(name, "alice", []))) is None
    assert decode_frame(encode_frame(Hello("6f1c", name))) is None
    assert decode_frame(encode_frame(Hello("n" * 255, "é" * 127))) is not None
