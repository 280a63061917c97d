"""Messages between nodes: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import Broadcast
from roost.exceptions import InvalidMessage, PayloadError
from roost.naming import NameLimits
from roost.pubsub.envelope import Envelope, decode_envelope, encode_envelope
from roost.strict_json import JsonEncoder
from roost.wire.payload import JsonPayload

names = st.text(max_size=20)
dispatchers = st.none() | names
atoms = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
)
plain_values = st.recursive(
    atoms,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(names, values, max_size=4),
    max_leaves=10,
)
json_atoms = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
json_objects = st.dictionaries(names, json_atoms | st.lists(json_atoms, max_size=4), max_size=4)

pack = msgspec.msgpack.encode


@given(names, dispatchers, plain_values)
def test_plain_values_come_out_as_they_went_in(topic: str, dispatcher: str | None, message: Any):
    """A message of plain values is the same on the other node."""
    envelope = Envelope(topic, dispatcher, message)
    assert decode_envelope(encode_envelope(envelope)) == envelope


@given(names, names, dispatchers, json_objects)
def test_a_broadcast_keeps_the_bytes_of_its_payload(
    topic: str, event: str, dispatcher: str | None, payload: dict[str, Any]
):
    """A payload is encoded at its origin only: the other node has the same bytes."""
    encoded = JsonEncoder().encode(payload)
    broadcast = Broadcast(topic, event, JsonPayload(encoded))

    envelope = decode_envelope(encode_envelope(Envelope(topic, dispatcher, broadcast)))

    assert (envelope.topic, envelope.dispatcher) == (topic, dispatcher)
    assert (envelope.message.topic, envelope.message.event) == (topic, event)
    assert envelope.message.payload.encoded == encoded


@given(names, names, st.binary(max_size=50))
def test_a_broadcast_of_bytes(topic: str, event: str, payload: bytes):
    """Bytes stay bytes, whatever they look like."""
    broadcast = Broadcast(topic, event, payload)
    envelope = decode_envelope(encode_envelope(Envelope(topic, "fastlane", broadcast)))
    assert envelope.message == broadcast


anything = st.binary(max_size=100) | st.lists(plain_values, max_size=8).map(
    lambda rest: pack([1, *rest])
)


@given(anything)
def test_any_bytes_are_an_envelope_or_are_refused(data: bytes):
    """Whatever a node sends, nothing but InvalidMessage is raised."""
    with contextlib.suppress(InvalidMessage):
        decode_envelope(data)


REFUSED = {
    "nothing": (b"", "an envelope"),
    "no MessagePack": (b"\xc1", "an envelope"),
    "no array": (pack({"topic": "room:1"}), "an envelope"),
    "truncated": (pack([1, "room:1", None, 0, "hello"])[:-1], "an envelope"),
    "empty": (pack([]), "no format version"),
    "another format": (pack([2, "room:1", None, 0, "hello"]), "format 2"),
    "a version that is none": (pack(["1", "room:1", None, 0, "hello"]), "no format version"),
    "a topic that is no string": (pack([1, 7, None, 0, "hello"]), "topic"),
    "a dispatcher that is no name": (pack([1, "room:1", 7, 0, "hello"]), "dispatcher"),
    "an unknown kind": (pack([1, "room:1", None, 2, "hello"]), "a message or a broadcast"),
    "too few fields": (pack([1, "room:1", None, 0]), "a message or a broadcast"),
    "too many fields": (pack([1, "room:1", None, 0, 1, 2]), "a message or a broadcast"),
    "an event that is no string": (pack([1, "room:1", None, 1, 7, False, b"{}"]), "broadcast"),
    "a payload that is no bytes": (pack([1, "room:1", None, 1, "shout", False, "{}"]), "broadcast"),
    "invalid JSON": (
        pack(
            [1, "room:1", None, 1, "shout", False, b'{"a":'],
        ),
        "an envelope",
    ),
    "NaN": (pack([1, "room:1", None, 1, "shout", False, b'{"a":NaN}']), "an envelope"),
    "two objects": (pack([1, "room:1", None, 1, "shout", False, b"{}{}"]), "an envelope"),
    "invalid UTF-8": (pack([1, "room:1", None, 1, "shout", False, b'{"a":"\xff"}']), "utf-8"),
    "JSON, but no object": (pack([1, "room:1", None, 1, "shout", False, b"[1]"]), "a JSON object"),
    "an empty payload": (pack([1, "room:1", None, 1, "shout", False, b""]), "an envelope"),
    "deep nesting": (b"\x91" * 100_000 + b"\xc0", "an envelope"),
    "deep JSON": (
        pack([1, "room:1", None, 1, "shout", False, b'{"a":' * 100_000 + b"1" + b"}" * 100_000]),
        "an envelope",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_envelope_is_refused(data: bytes, reason: str):
    """What another node sent is checked where it is decoded; the error says what is wrong."""
    with pytest.raises(InvalidMessage, match=reason):
        decode_envelope(data)


LOOP: list[Any] = []
LOOP.append(LOOP)

UNSENDABLE = {
    "an object": object(),
    "a large integer": 2**64,
    "a lone surrogate": "\ud800",
    "a list inside itself": LOOP,
    "a broadcast that nobody encoded": Broadcast("room:1", "shout", {"body": "hi"}),
}


@pytest.mark.parametrize("message", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_cant_be_sent_raises_where_it_is_given(message: object):
    """Nothing is pickled: what is no plain value is a mistake of the caller."""
    with pytest.raises(PayloadError):
        encode_envelope(Envelope("room:1", None, message))


@pytest.mark.parametrize("letter", ["x", "é", "🐦"])
def test_names_of_other_nodes_are_bounded(letter: str):
    """Neither a topic nor an event nor a dispatcher is longer than this node lets them be."""
    limits = NameLimits(max_topic_size=64, max_event_size=128)
    size = len(letter.encode())
    topic, event, dispatcher = letter * (64 // size), letter * (128 // size), letter * (255 // size)
    broadcast = Broadcast(topic, event, b"")
    envelope = Envelope(topic, dispatcher, broadcast)
    assert decode_envelope(encode_envelope(envelope), limits) == envelope

    for too_long in (
        Envelope(topic + letter, dispatcher, broadcast),
        Envelope(topic + letter, dispatcher, "hello"),
        Envelope(topic, dispatcher + letter, "hello"),
        Envelope(topic, dispatcher, Broadcast(topic, event + letter, b"")),
    ):
        with pytest.raises(InvalidMessage, match="of at most"):
            decode_envelope(encode_envelope(too_long), limits)
