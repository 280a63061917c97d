"""Payloads that are encoded once."""

import msgspec
import pytest

from roost.exceptions import PayloadError
from roost.strict_json import JsonEncoder
from roost.wire.payload import JsonPayload, prepare

ENCODER = JsonEncoder()


class User(msgspec.Struct):
    name: str


@pytest.mark.parametrize(
    "payload", [{"name": "alice"}, User("alice"), msgspec.Raw(b' {"name":"alice"}')]
)
def test_an_object_becomes_json(payload):
    """Whatever encodes as a JSON object can be broadcast."""
    prepared = prepare(payload, ENCODER)

    assert isinstance(prepared, JsonPayload)
    assert prepared.is_object
    assert prepared.decode() == {"name": "alice"}


@pytest.mark.parametrize("payload", [b"\x01\xff", bytearray(b"\x01\xff"), memoryview(b"\x01\xff")])
def test_bytes_stay_bytes(payload):
    """Bytes go into binary frames; what was a view of a buffer is a copy."""
    prepared = prepare(payload, ENCODER)

    assert type(prepared) is bytes
    assert prepared == b"\x01\xff"


def test_what_is_encoded_already_is_taken_as_it_is():
    """A prepared payload is not encoded again."""
    payload = JsonPayload(b'{"a": 1}')

    assert prepare(payload, ENCODER) is payload
    assert repr(payload) == "JsonPayload(b'{\"a\": 1}')"


@pytest.mark.parametrize(
    "payload", [None, 1, "text", [], [{}], JsonPayload(b"[]"), msgspec.Raw(b"1")]
)
def test_a_payload_is_an_object_or_bytes(payload):
    """Anything else is refused by its type."""
    with pytest.raises(PayloadError, match=f"JSON object or bytes, got {type(payload).__name__}"):
        prepare(payload, ENCODER)


def test_every_decoding_is_fresh():
    """Who decodes a payload may change what it gets."""
    payload = JsonPayload(b'{"list":[]}')
    payload.decode()["list"].append(1)

    assert payload.decode() == {"list": []}


def test_a_plain_payload_does_not_mind_being_pushed():
    """Nothing is to be pushed once more."""
    payload = JsonPayload(b"{}")

    assert payload.pushed_as(object(), "presence_state") == (("presence_state", payload),)
