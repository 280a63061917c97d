"""The client's side of Phoenix's two serializers, on top of the server's in ``wire``.

JSON is the same in both directions, but for V1, where clients say a join_ref. Binary frames are
not: what a client pushes has a ref, and what it receives is a push, a reply or a broadcast.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec

from roost.exceptions import InvalidMessage, UnsupportedPayload
from roost.strict_json import DECODE_ERRORS, JsonEncoder, decode_json
from roost.wire.frame import Frame
from roost.wire.messages import REPLY, Message
from roost.wire.serializers import V2Serializer, encode_binary

__all__ = ["SERIALIZERS", "ClientSerializer", "V1ClientSerializer", "V2ClientSerializer"]

_PUSH, _REPLY, _BROADCAST, _USER_BROADCAST = 0, 1, 2, 4


class ClientSerializer(Protocol):
    """How a client writes one protocol version.

    Attributes:
        version: What it says as ``vsn``.
    """

    version: str

    def encode(self, message: Message) -> Frame:
        """Encode a message, whose payload is a ``JsonPayload`` or bytes.

        Raises:
            LocalProtocolError: This version can't say it.
        """
        ...

    def decode(self, data: str | bytes) -> Message:
        """Decode a text frame (str) or a binary frame (bytes) of the server.

        Raises:
            InvalidMessage: It is no message.
        """
        ...


class V2ClientSerializer:
    """Version 2.0: JSON arrays, and frames of bytes.

    It also reads the frames in which Supabase broadcasts what its users say, as what they are in
    JSON: an event ``broadcast`` with ``{"type", "event", "payload"}``.

    Example:
        >>> from roost.wire.payload import JsonPayload
        >>> v2 = V2ClientSerializer()
        >>> v2.encode(Message("1", "2", "room:1", "shout", JsonPayload(b'{"body":"hi"}'))).text
        '["1","2","room:1","shout",{"body":"hi"}]'
        >>> v2.encode(Message("1", "2", "room:1", "data", b"hi")).data
        b'\\x00\\x01\\x01\\x06\\x0412room:1datahi'
    """

    version = "2.0.0"

    def __init__(self) -> None:
        self._json = V2Serializer(JsonEncoder())

    def encode(self, message: Message) -> Frame:
        if isinstance(message.payload, bytes):
            names = ("join_ref", "ref", "topic", "event")
            fields = [(name, getattr(message, name)) for name in names]
            return encode_binary(_PUSH, fields, message.payload)
        return self._json.encode(message)

    def decode(self, data: str | bytes) -> Message:
        if isinstance(data, str):
            return self._json.decode(data)
        match data[:1]:
            case b"\x00":
                (join_ref, topic, event), rest = _fields(data, 3)
                return Message(join_ref or None, None, topic, event, rest)
            case b"\x01":
                (join_ref, ref, topic, status), rest = _fields(data, 4)
                payload: Any = {"status": status, "response": rest}
                return Message(join_ref or None, ref, topic, REPLY, payload)
            case b"\x02":
                (topic, event), rest = _fields(data, 2)
                return Message(None, None, topic, event, rest)
            case b"\x04":
                (topic, event, _), rest = _fields(data, 3, extra=1)
                payload = {
                    "type": "broadcast",
                    "event": event,
                    "payload": _json(rest) if data[4] else rest,
                }
                return Message(None, None, topic, "broadcast", payload)
        raise InvalidMessage("a binary push, reply or broadcast: 0, 1 or 2", _kind(data))


class V1ClientSerializer:
    """Version 1.0: JSON objects; it can't carry bytes.

    Example:
        >>> from roost.wire.payload import JsonPayload
        >>> v1 = V1ClientSerializer()
        >>> v1.encode(Message("1", "2", "room:1", "shout", JsonPayload(b"{}"))).text
        '{"topic":"room:1","event":"shout","payload":{},"ref":"2","join_ref":"1"}'
    """

    version = "1.0.0"

    def __init__(self) -> None:
        self._encoder = JsonEncoder()

    def encode(self, message: Message) -> Frame:
        if isinstance(message.payload, bytes):
            raise UnsupportedPayload(f"version 1 can't carry bytes (topic {message.topic!r})")
        fields = {
            "topic": message.topic,
            "event": message.event,
            "payload": msgspec.Raw(message.payload.encoded),
            "ref": message.ref,
            "join_ref": message.join_ref,
        }
        return Frame(self._encoder.dump(fields), is_text=True)

    def decode(self, data: str | bytes) -> Message:
        fields = _json(data)
        if type(fields) is not dict:
            raise InvalidMessage("a JSON object (a map)", type(fields).__name__)
        return Message.from_map({"ref": None, **fields})


SERIALIZERS: Final[dict[str, type[ClientSerializer]]] = {
    "1.0.0": V1ClientSerializer,
    "2.0.0": V2ClientSerializer,
}


def _json(data: str | bytes) -> Any:
    try:
        return decode_json(data)
    except DECODE_ERRORS as error:
        raise InvalidMessage("JSON", str(error)) from error


def _kind(data: bytes) -> str:
    return str(data[0]) if data else "nothing"


def _fields(data: bytes, count: int, *, extra: int = 0) -> tuple[list[str], bytes]:
    """The fields of a binary frame, and the rest of it.

    Args:
        data: The frame: its kind, a size for each field, the fields, the rest.
        count: How many fields it has.
        extra: Bytes between the sizes and the fields.
    """
    end = 1 + count + extra
    fields = []
    for size in data[1 : 1 + count]:
        start, end = end, end + size
        fields.append(data[start:end])
    if len(data) < end or len(fields) < count:
        raise InvalidMessage(f"at least {end} bytes of header and fields", f"{len(data)}")
    try:
        return [field.decode() for field in fields], data[end:]
    except UnicodeDecodeError as error:
        raise InvalidMessage("UTF-8 in the fields of a binary frame", str(error)) from error
