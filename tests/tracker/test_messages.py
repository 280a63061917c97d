"""What arrives from other nodes is checked once, where it is decoded."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from roost.crdt.incarnation import OriginId
from roost.exceptions import InvalidMessage
from roost.naming import NameLimits
from roost.tracker.messages import (
    Alive,
    Changes,
    ChunkTransfer,
    Digest,
    Goodbye,
    Heartbeat,
    Hello,
    Part,
    Probe,
    Request,
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
    rows = (Row("room:1", "alice", meta, 1, 1),)
    part = Part(0, 1, rows, ())
    other = OriginId("b", 1, 8)
    return [
        Changes(ORIGIN, part, 1),
        Transfer(other, ORIGIN, 1, (part,), True),
        ChunkTransfer(other, ORIGIN, 1, True, 0, None, 1, 0, rows),
    ]


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


def meta(seq: int) -> bytes:
    return b'{"phx_ref":"%s"}' % ORIGIN.ref(seq).encode()


BAD_ROWS = {
    "a name of the object prototype": Row("room:1", "__proto__", meta(2), 1, 2),
    "a key that is too long": Row("room:1", "k" * 1_025, meta(2), 1, 2),
    "a key of 5 MB": Row("room:1", "k" * 5_000_000, meta(2), 1, 2),
    "a key of wide characters": Row("room:1", "é" * 513, meta(2), 1, 2),
    "a topic that is too long": Row("t" * 1_025, "bob", meta(2), 1, 2),
    "a tracker that is too long": Row("room:1", "bob", meta(2), 1, 2, False, "x" * 256),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_with_a_bad_name_costs_itself(bad: Row):
    """The others of its message are taken, and the origin is not asked for it again."""
    rows = (Row("room:1", "alice", meta(1), 1, 1), bad, Row("room:1", "carol", meta(3), 1, 3))
    marks, good = (5, 6), (rows[0], rows[2])
    part, rest = Part(0, 3, rows, (), marks), Part(0, 3, good, (), marks)
    for message, left in (
        (Changes(ORIGIN, part, 3), Changes(ORIGIN, rest, 3)),
        (
            Transfer(ORIGIN, ORIGIN, 1, (part,), True),
            Transfer(ORIGIN, ORIGIN, 1, (rest,), True),
        ),
        (
            ChunkTransfer(ORIGIN, ORIGIN, 1, True, 0, None, 3, 6, rows, (4,), 7),
            ChunkTransfer(ORIGIN, ORIGIN, 1, True, 0, None, 3, 6, good, (4,), 7),
        ),
    ):
        counters: Counter[str] = Counter()

        assert decode_message(encode_message(message), counters=counters) == left
        assert counters == {"unsound_row": 1}

    node = OneNode()
    node.replication.receive_data(encode_message(Changes(OriginId("b", 1, 7), part, 3)), 0.0)
    assert node.tracker.keys("room:1") == ["alice", "carol"]
    assert node.replication.peers[0].held.seq == 3
    assert node.replication.counters == {"unsound_row": 1}


def test_names_as_long_as_the_limits_are_taken():
    """They are counted in bytes, and may be others than the default."""
    limits = NameLimits(max_topic_size=2_048, max_key_size=64)
    row = Row("é" * 1_024, "k" * 64, meta(1), 1, 1, False, "x" * 255)
    message = Changes(ORIGIN, Part(0, 1, (row,), ()), 1)

    assert decode_message(encode_message(message), limits=limits) == message


LONG = "n" * 273


@pytest.mark.parametrize(
    "message",
    [
        Goodbye(OriginId(LONG, 1, 7)),
        Hello(ORIGIN, 1, link=LONG),
        Heartbeat(ORIGIN, 1, 1, link=LONG),
        Digest(ORIGIN, ((OriginId(LONG, 1, 7), 1),)),
        Digest(ORIGIN, (), (OriginId(LONG, 1, 7),)),
        Request(ORIGIN, OriginId(LONG, 1, 7), 0, 1),
        Probe(ORIGIN, OriginId(LONG, 1, 7), 1),
        Probe(ORIGIN, ORIGIN, 1, LONG),
        Alive(ORIGIN, LONG, 1, 1),
        Superseded(ORIGIN, OriginId(LONG, 1, 7)),
        Transfer(ORIGIN, OriginId(LONG, 1, 7), 1, (), True),
        ChunkTransfer(ORIGIN, OriginId(LONG, 1, 7), 1, True, 0, None, 0, 0, ()),
    ],
    ids=lambda message: f"{type(message).__name__} {hash(repr(message)) % 1000}",
)
def test_names_of_nodes_and_links_are_bounded(message: TrackerMessage):
    """A node remembers them, and asks others for them."""
    refused(encode_message(message))


def refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        decode_message(data)
    node = OneNode()
    node.replication.receive_data(data, 0.0)
    assert node.replication.counters == {"unsound": 1}
