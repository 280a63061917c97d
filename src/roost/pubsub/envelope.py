"""Messages between nodes as bytes; nothing is ever unpickled.

An envelope is a MessagePack array: format version, topic, name of the dispatcher or nil, then
either ``[0, message]`` for a message of JSON values or ``[1, event, is_binary, payload]`` for a
broadcast, whose payload travels as the bytes that its origin encoded.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from roost.exceptions import InvalidMessage, PayloadError
from roost.strict_json import DECODE_ERRORS, decode_json
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
        message: A ``Broadcast`` with an encoded payload, or JSON values.
    """

    topic: str
    dispatcher: str | None
    message: Any


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the bytes of an envelope.

    Raises:
        PayloadError: The message is neither a broadcast nor made of JSON values.
    """
    message = envelope.message
    if isinstance(message, Broadcast):
        payload = message.payload
        is_binary = isinstance(payload, bytes)
        data = payload if is_binary else payload.encoded
        body: list[Any] = [_BROADCAST, message.event, is_binary, data]
    else:
        body = [_PLAIN, message]
    try:
        return _encode([FORMAT_VERSION, envelope.topic, envelope.dispatcher, *body])
    except (TypeError, ValueError, OverflowError) as error:
        raise PayloadError(f"can't send {type(message).__name__} to other nodes") from error


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope; its payload is checked as JSON, since browsers will trust it.

    Raises:
        InvalidMessage: The bytes are no envelope, or one of another format.
    """
    try:
        match _decode(data):
            case [1, str(topic), None | str() as dispatcher, 0, message]:
                return Envelope(topic, dispatcher, message)
            case [1, str(topic), None | str() as dispatcher, 1, str(event), is_binary, bytes(body)]:
                if not is_binary:
                    decode_json(body)
                payload = body if is_binary else JsonPayload(body)
                return Envelope(topic, dispatcher, Broadcast(topic, event, payload))
            case [version, *_]:
                raise InvalidMessage("an envelope of format 1", f"format {version!r}")
            case _:
                raise InvalidMessage("an envelope", "an empty array")
    except DECODE_ERRORS as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage("an envelope", str(error)) from error
