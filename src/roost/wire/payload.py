"""Payloads that were encoded once and are written many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from roost.exceptions import PayloadError
from roost.strict_json import JsonEncoder, decode_json

__all__ = ["BYTES", "JsonPayload", "keep", "prepare"]

BYTES: Final = (bytes, bytearray, memoryview)
"""Payloads that go into binary frames."""


class JsonPayload:
    """A JSON payload that is bytes already; every serializer writes these bytes as they are.

    Args:
        encoded: JSON in UTF-8.
    """

    __slots__ = ("_encoded",)

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded

    @property
    def encoded(self) -> bytes:
        """The JSON bytes."""
        return self._encoded

    @property
    def is_object(self) -> bool:
        """Whether it is a JSON object."""
        return self.encoded.lstrip().startswith(b"{")

    def decode(self) -> Any:
        """The payload as Python values, made anew for each caller, who may change them."""
        return decode_json(self.encoded)

    def pushed_as(self, subscription: object, event: str) -> Sequence[tuple[str, JsonPayload]]:
        """What is sent when a channel pushes this payload as ``event``: events and payloads.

        A list of presences keeps here which state of its topic the subscription holds.
        """
        return ((event, self),)

    def is_news_to(self, subscription: object) -> bool:
        """Whether a channel that intercepted this payload may still push it to its client.

        A diff of presences is none to who holds a state that has it already.
        """
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encoded!r})"


def keep(payload: Any) -> JsonPayload | bytes:
    """Make a payload that was decoded small: a client's megabyte may decode to twenty.

    Example:
        >>> keep({"since": 7})
        JsonPayload(b'{"since":7}')
    """
    if isinstance(payload, bytes):
        return payload
    if type(payload) is dict and not payload:  # of most joins: all of them share one
        return _NOTHING
    return JsonPayload(_encoder.dump(payload))


_NOTHING: Final = JsonPayload(b"{}")
_encoder: Final = JsonEncoder()


def prepare(payload: Any, encoder: JsonEncoder) -> JsonPayload | bytes:
    """Encode the payload of a broadcast: an object as JSON, bytes as they are.

    Raises:
        PayloadError: Neither a JSON object nor bytes.
    """
    if isinstance(payload, JsonPayload):
        prepared = payload
    elif isinstance(payload, BYTES):
        return bytes(payload)
    else:
        prepared = JsonPayload(encoder.encode(payload))
    if not prepared.is_object:
        raise PayloadError(
            f"a payload must be a JSON object or bytes, got {type(payload).__name__}"
        )
    return prepared
