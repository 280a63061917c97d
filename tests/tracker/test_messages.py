"""What arrives from other nodes is checked once, where it is decoded."""

from __future__ import annotations

import msgspec
import pytest

from roost.crdt.origin import OriginId
from roost.exceptions import InvalidMessage
from roost.tracker.messages import (
    Changes,
    Goodbye,
    Part,
    Row,
    Superseded,
    TrackerMessage,
    Transfer,
    decode_message,
    encode_message,
)
from tests.tracker.one_node import OneNode

ORIGIN = OriginId("a", 1, 7)
REF = ORIGIN.ref(1)


def carried(meta: bytes) -> list[TrackerMessage]:
    """Messages that carry a meta."""
    part = Part(0, 1, 0, 1, (Row("room:1", "alice", meta, 1, 1),), ())
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
        refused(encode_message(message))


@pytest.mark.parametrize(
    "origin", [OriginId("a", 1, -1), OriginId("a", -1, 1), OriginId("a", 2**64 - 1, 1)]
)
def test_an_id_that_no_tracker_makes_is_refused(origin: OriginId):
    """An id whose nonce makes no ref, or above which there is none, is dropped."""
    refused(encode_message(Goodbye(origin)))
    refused(encode_message(Superseded(ORIGIN, origin)))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", msgspec.msgpack.encode([8, "a"])])
def test_bytes_that_are_no_message_are_refused(data: bytes):
    """Whatever arrives, decoding raises nothing else, and a tracker counts it."""
    refused(data)


def refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_message(data)
    node = OneNode()
    node.replication.receive_data(data, 0.0)
    assert node.replication.counters == {"unsound": 1}
