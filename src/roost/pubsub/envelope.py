"""Messages between nodes as bytes; nothing is ever unpickled.

An envelope is a MessagePack array: format version, topic, name of the dispatcher or nil, then
either ``0, message`` for a message of plain values or ``1, event, is_binary, payload`` for a
broadcast, whose payload travels as the bytes that its origin encoded.

Plain values are those that MessagePack has: None, bool, int of 64 bits, float, str, bytes, and
lists and dicts of them. A tuple arrives as a list, a date as text.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from roost.exceptions import InvalidMessage, PayloadError
from roost.naming import DEFAULT_LIMITS, MAX_NAME_SIZE, NameLimits, is_short
from roost.strict_json import DECODE_ERRORS
from roost.wire.messages import Broadcast
from roost.wire.payload import JsonPayload

__all__ = ["Envelope", "decode_envelope", "encode_envelope"]

FORMAT_VERSION: Final = 1
_PLAIN, _BROADCAST = 0, 1


class Envelope(msgspec.Struct, frozen=True):
    """A message on its way between nodes.

    Args:
        topic: Topic that it is published on.
        dispatcher: Name under which every node knows the dispatcher; None for the default one.
        message: A ``Broadcast`` with an encoded payload, or plain values.
    """

    topic: str
    dispatcher: str | None
    message: Any


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the bytes of an envelope.

    Raises:
        PayloadError: The message is neither a broadcast nor made of plain values.
    """
    message = envelope.message
    match message:
        case Broadcast(_, event, bytes(payload)):
            body: list[Any] = [_BROADCAST, event, True, payload]
        case Broadcast(_, event, JsonPayload() as payload):
            body = [_BROADCAST, event, False, payload.encoded]
        case Broadcast(_, _, payload):
            raise PayloadError(
                f"a Broadcast to other nodes carries bytes or a JsonPayload, got "
                f"{type(payload).__name__}: call endpoint.broadcast, which encodes it"
            )
        case _:
            body = [_PLAIN, message]
    try:
        return _encode([FORMAT_VERSION, envelope.topic, envelope.dispatcher, *body])
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"can't send {type(message).__name__} to other nodes") from error


def decode_envelope(data: bytes, limits: NameLimits = DEFAULT_LIMITS) -> Envelope:
    """Return the envelope; its payload is checked as JSON, since browsers will trust it.

    Args:
        data: The bytes.
        limits: How long its names may be.

    Raises:
        InvalidMessage: The bytes are no envelope, one of another format, or with a name that is
            too long.
    """
    envelope = _decode_envelope(data)
    message = envelope.message
    event = message.event if type(message) is Broadcast else ""
    dispatcher = envelope.dispatcher or ""
    # A character has at most four bytes: nearly all pass by this, without being measured.
    if (
        4 * len(envelope.topic) > limits.max_topic_size
        or 4 * len(event) > limits.max_event_size
        or 4 * len(dispatcher) > MAX_NAME_SIZE
    ):
        _check_name("topic", envelope.topic, limits.max_topic_size)
        _check_name("event", event, limits.max_event_size)
        _check_name("dispatcher", dispatcher, MAX_NAME_SIZE)
    return envelope


def _check_name(kind: str, name: str, max_size: int) -> None:
    if not is_short(name, max_size):
        raise InvalidMessage(f"a name of at most {max_size} bytes as {kind}")


def _decode_envelope(data: bytes) -> Envelope:
    try:
        fields = _decode(data)
        if fields[:1] != [FORMAT_VERSION]:
            raise InvalidMessage(f"an envelope of format {FORMAT_VERSION}", _version(fields))
        match fields[1:]:
            case [str(topic), None | str() as dispatcher, 0, message]:
                return Envelope(topic, dispatcher, message)
            case [str(topic), None | str() as dispatcher, 1, str(event), True, bytes(payload)]:
                return Envelope(topic, dispatcher, Broadcast(topic, event, payload))
            case [str(topic), None | str() as dispatcher, 1, str(event), False, bytes(encoded)]:
                return Envelope(topic, dispatcher, Broadcast(topic, event, _json_object(encoded)))
    except DECODE_ERRORS as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage("an envelope", str(error)) from error
    raise InvalidMessage("topic, dispatcher, and a message or a broadcast in an envelope")


def _version(fields: list[Any]) -> str:
    match fields:
        case [int(version), *_]:
            return f"format {version}"
        case _:
            return "no format version"


def _json_object(encoded: bytes) -> JsonPayload:
    payload = JsonPayload(encoded)
    if not isinstance(payload.decode(), dict):
        raise InvalidMessage("a broadcast's payload to be a JSON object or bytes")
    return payload
