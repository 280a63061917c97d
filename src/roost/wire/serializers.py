"""The two serializers of Phoenix: V1 speaks JSON objects, V2 JSON arrays and binary frames.

Both are described to the byte in Phoenix's ``V1.JSONSerializer`` and ``V2.JSONSerializer``. A
payload that is a ``JsonPayload`` is written as the bytes it holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from roost.exceptions import FieldTooLong, InvalidMessage, PayloadError, UnsupportedPayload
from roost.strict_json import DECODE_ERRORS, JsonEncoder, decode_json
from roost.wire.frame import Frame
from roost.wire.messages import REPLY, Broadcast, Message, Outgoing, Reply
from roost.wire.payload import BYTES, JsonPayload

__all__ = ["Serializer", "V1Serializer", "V2Serializer", "encode_binary", "negotiate"]

_PUSH, _REPLY, _BROADCAST = 0, 1, 2


class Serializer(Protocol):
    """How one protocol version is written.

    Attributes:
        version: First version that it serves; it serves all with the same major and minor number.
    """

    version: str

    def __init__(self, encoder: JsonEncoder) -> None: ...

    def encode(self, message: Outgoing) -> Frame:
        """Encode a push or a reply.

        Raises:
            PayloadError: The payload is not strict JSON, or not an object where one is needed.
            LocalProtocolError: This serializer can't say it.
        """
        ...

    def fastlane(self, broadcast: Broadcast) -> Frame:
        """Encode a broadcast, once for all its receivers; raises as ``encode`` does."""
        ...

    def decode(self, data: str | bytes) -> Message:
        """Decode a text frame (str) or a binary frame (bytes).

        Raises:
            InvalidMessage: It is no message.
        """
        ...


class V2Serializer:
    """Version 2.0: ``[join_ref, ref, topic, event, payload]``, and frames of bytes.

    Example:
        >>> v2 = V2Serializer(JsonEncoder())
        >>> v2.encode(Reply("1", "2", "room:1", "ok", {})).text
        '["1","2","room:1","phx_reply",{"status":"ok","response":{}}]'
        >>> v2.decode('["1","2","room:1","shout",{"body":"hi"}]').event
        'shout'
    """

    version = "2.0.0"

    def __init__(self, encoder: JsonEncoder) -> None:
        self._encoder = encoder

    def encode(self, message: Outgoing) -> Frame:
        if isinstance(message, Reply):
            return self._encode_reply(message)
        payload = message.payload
        if isinstance(payload, BYTES):
            return encode_binary(
                _PUSH,
                (
                    ("join_ref", message.join_ref),
                    ("topic", message.topic),
                    ("event", message.event),
                ),
                payload,
            )
        body = _object(payload, self._encoder)
        return self._text([message.join_ref, message.ref, message.topic, message.event, body])

    def fastlane(self, broadcast: Broadcast) -> Frame:
        payload = broadcast.payload
        if isinstance(payload, BYTES):
            fields = (("topic", broadcast.topic), ("event", broadcast.event))
            return encode_binary(_BROADCAST, fields, payload)
        body = _object(payload, self._encoder)
        return self._text([None, None, broadcast.topic, broadcast.event, body])

    def decode(self, data: str | bytes) -> Message:
        if isinstance(data, bytes):
            return _decode_binary(data)
        fields = _decode_text(data)
        if type(fields) is not list or len(fields) < 5:
            raise InvalidMessage("a JSON array of five elements", _kind(fields))
        return Message.from_fields(*fields[:5])

    def _encode_reply(self, reply: Reply) -> Frame:
        response = reply.response
        if isinstance(response, BYTES):
            return encode_binary(
                _REPLY,
                (
                    ("join_ref", reply.join_ref),
                    ("ref", reply.ref),
                    ("topic", reply.topic),
                    ("status", reply.status),
                ),
                response,
            )
        payload = {"status": reply.status, "response": _value(response, self._encoder)}
        return self._text([reply.join_ref, reply.ref, reply.topic, REPLY, payload])

    def _text(self, fields: list[Any]) -> Frame:
        return Frame(self._encoder.dump(fields), is_text=True)


class V1Serializer:
    """Version 1.0: a JSON object with topic, event, payload and ref; it can't carry bytes.

    Example:
        >>> v1 = V1Serializer(JsonEncoder())
        >>> v1.encode(Reply("1", "2", "room:1", "ok", {})).text
        '{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}'
    """

    version = "1.0.0"

    def __init__(self, encoder: JsonEncoder) -> None:
        self._encoder = encoder

    def encode(self, message: Outgoing) -> Frame:
        if isinstance(message, Reply):
            response = self._json(message.response, message.topic)
            payload: Any = {"status": message.status, "response": response}
            return self._text(message.topic, REPLY, payload, message.ref)
        payload = self._json(message.payload, message.topic)
        return self._text(message.topic, message.event, payload, message.ref)

    def fastlane(self, broadcast: Broadcast) -> Frame:
        payload = self._json(broadcast.payload, broadcast.topic)
        return self._text(broadcast.topic, broadcast.event, payload, None)

    def decode(self, data: str | bytes) -> Message:
        fields = _decode_text(data)  # of a binary frame, too: Phoenix reads JSON there as well
        if type(fields) is not dict:
            raise InvalidMessage("a JSON object (a map)", _kind(fields))
        return Message.from_map(fields)

    def _json(self, payload: Any, topic: str) -> Any:
        if isinstance(payload, BYTES):
            raise UnsupportedPayload(f"version 1 can't carry bytes (topic {topic!r})")
        return _value(payload, self._encoder)

    def _text(self, topic: str, event: str, payload: Any, ref: Any) -> Frame:
        fields = {"topic": topic, "event": event, "payload": payload, "ref": ref}
        return Frame(self._encoder.dump(fields), is_text=True)


_NUMBER: Final = "(0|[1-9][0-9]*)"
_WORD: Final = "[0-9A-Za-z-]+"
# A version as Elixir reads it: no leading zeros; a build after "+", which does not count.
_VERSION: Final = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(\+{_WORD}(\.{_WORD})*)?")


def negotiate(vsn: object, serializers: Sequence[type[Serializer]]) -> type[Serializer] | None:
    """The serializer for a client's ``vsn`` parameter; None means that the client is refused.

    ``vsn`` must be a full version; ``2.0.3`` is served by the serializer of ``2.0.0``, while
    ``2.1.0`` and pre-releases are not (Elixir's ``~> 2.0.0``). The first match wins.

    Example:
        >>> negotiate("2.0.0", [V1Serializer, V2Serializer]).__name__
        'V2Serializer'
        >>> negotiate("2.1.0", [V1Serializer, V2Serializer])
    """
    match = _VERSION.fullmatch(vsn) if isinstance(vsn, str) else None
    if match is None:
        return None
    series = f"{match[1]}.{match[2]}."
    return next((each for each in serializers if each.version.startswith(series)), None)


def _value(value: Any, encoder: JsonEncoder) -> Any:
    return msgspec.Raw(value.encoded) if isinstance(value, JsonPayload) else encoder.check(value)


def _object(payload: Any, encoder: JsonEncoder) -> Any:
    value = _value(payload, encoder)
    if type(value) is dict:
        return value
    if type(value) is msgspec.Raw:
        prepared = payload if isinstance(payload, JsonPayload) else JsonPayload(bytes(value))
        if prepared.is_object:
            return value
    raise PayloadError(f"a payload must be a JSON object or bytes, got {type(payload).__name__}")


def _decode_text(data: str | bytes) -> Any:
    try:
        return decode_json(data)
    except DECODE_ERRORS as error:
        raise InvalidMessage("JSON", str(error)) from error


def _kind(value: object) -> str:
    return type(value).__name__


def encode_binary(
    kind: int, fields: Sequence[tuple[str, Any]], data: bytes | bytearray | memoryview
) -> Frame:
    """A binary frame: its kind, the size of each field, the fields, and the data.

    Raises:
        UnsupportedPayload: A field is neither text nor None.
        FieldTooLong: A field has over 255 bytes.
    """
    header, body = bytearray([kind]), bytearray()
    for name, value in fields:
        if value is not None and not isinstance(value, str):
            raise UnsupportedPayload(
                f"a binary frame carries {name} as a string, got {type(value).__name__}"
            )
        try:
            encoded = b"" if value is None else value.encode()
        except UnicodeEncodeError as error:
            raise UnsupportedPayload(f"{name} is not Unicode text: {error}") from error
        if len(encoded) > FieldTooLong.max_size:
            raise FieldTooLong(name, len(encoded))
        header.append(len(encoded))
        body += encoded
    return Frame(bytes(header + body + data), is_text=False)


def _decode_binary(data: bytes) -> Message:
    if len(data) < 5 or data[0] != _PUSH:
        raise InvalidMessage("a binary push: 0, four lengths, fields, data")
    end = 5
    fields = []
    for size in data[1:5]:
        start, end = end, end + size
        fields.append(data[start:end])
    if end > len(data):
        raise InvalidMessage(f"{end} bytes of header and fields", f"{len(data)}")
    try:
        join_ref, ref, topic, event = (field.decode() for field in fields)
    except UnicodeDecodeError as error:
        raise InvalidMessage("UTF-8 in the fields of a binary push", str(error)) from error
    return Message(join_ref, ref, topic, event, data[end:])
