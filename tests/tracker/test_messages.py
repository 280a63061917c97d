"""What arrives from other nodes is checked once, where it is decoded."""

from __future__ import annotations

import msgspec
import pytest

from roost.crdt.origin import OriginId
from roost.tracker.messages import (
    Changes,
    Goodbye,
    Part,
    Superseded,
    TrackerMessage,
    Transfer,
    decode_message,
    encode_message,
)

ORIGIN = OriginId("a", 1, 7)
REF = ORIGIN.ref(1)


def carried(meta: bytes) -> list[TrackerMessage]:
    """Messages that carry a meta."""
    part = Part(0, 1, 0, 1, (("room:1", "alice", meta, 1, 1, False),), ())
    return [Changes(ORIGIN, part), Transfer(OriginId("b", 1, 8), ORIGIN, 1, part)]


def test_a_meta_is_a_json_object_with_its_ref():
    """A meta that carries the ref of its entry is taken as it is."""
    for message in carried(b'{"online_at":1,"phx_ref":"%s"}' % REF.encode()):
        assert decode_message(encode_message(message)) == message


@pytest.mark.parametrize(
    "meta",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"phx_ref":1}',
        b'{"phx_ref":"%s"}' % ORIGIN.ref(2).encode(),
        b'{"phx_ref":"%s","name":"\xff"}' % REF.encode(),
        b'{"phx_ref":"%s","name":"\\ud800"}' % REF.encode(),
        b'{"phx_ref":"%s","n":NaN}' % REF.encode(),
        b'{"phx_ref":"%s","n":%s%s}' % (REF.encode(), b"[" * 10_000, b"]" * 10_000),
    ],
)
def test_a_meta_that_no_client_could_read_is_refused(meta: bytes):
    """What is no JSON object in UTF-8, or carries another ref, reaches neither index nor client."""
    for message in carried(meta):
        assert decode_message(encode_message(message)) is None


@pytest.mark.parametrize(
    "origin", [OriginId("a", 1, -1), OriginId("a", -1, 1), OriginId("a", 2**64 - 1, 1)]
)
def test_an_id_that_no_tracker_makes_is_refused(origin: OriginId):
    """An id whose nonce makes no ref, or above which there is none, is dropped."""
    assert decode_message(encode_message(Goodbye(origin))) is None
    assert decode_message(encode_message(Superseded(ORIGIN, origin))) is None


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([8, "a"])])
def test_bytes_that_are_no_message_are_none(data: bytes):
    """Whatever arrives, decoding does not raise."""
    assert decode_message(data) is None
