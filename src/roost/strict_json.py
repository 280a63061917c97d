"""Strict JSON: what is refused is refused where it is given, not at the client.

msgspec is the codec. It is lenient where a wire format shared by every node and browser must not
be: it writes NaN as ``null``, bytes as base64 text, and the keys ``1`` and ``"1"`` side by side.
So values are checked before they are encoded; the check looks at containers only and costs less
than the encoding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from roost.exceptions import PayloadError

__all__ = ["EncodeHook", "JsonEncoder", "decode_json"]

EncodeHook = Callable[[Any], Any]
"""Turns an object that JSON does not know into a value that it knows, or raises TypeError."""

_ATOMS: Final = frozenset({str, int, bool, type(None)})
_BYTES: Final = (bytes, bytearray, memoryview)

decode_json: Final = msgspec.json.Decoder().decode
"""Decode JSON text or bytes; raises one of ``DECODE_ERRORS``."""

DECODE_ERRORS: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What ``decode_json`` raises for bytes that are not JSON, not UTF-8, or nested too deeply."""


class JsonEncoder:
    """Encode values as strict JSON in UTF-8.

    Args:
        encode_hook: Called for each object of a type that JSON does not know. Dates, UUIDs,
            decimals, enums, dataclasses and msgspec structs need none.

    Example:
        >>> JsonEncoder().encode({"online_at": 1})
        b'{"online_at":1}'
        >>> JsonEncoder().encode({"load": float("nan")})
        Traceback (most recent call last):
        ...
        roost.exceptions.PayloadError: nan is not a JSON number
    """

    __slots__ = ("_dump", "_hook")

    def __init__(self, encode_hook: EncodeHook | None = None) -> None:
        self._hook = encode_hook
        self._dump = msgspec.json.Encoder(enc_hook=encode_hook).encode

    def encode(self, value: Any) -> bytes:
        """Return ``value`` as JSON bytes.

        Raises:
            PayloadError: The value is not strict JSON; the message says which part.
        """
        return self.dump(self.check(value))

    def check(self, value: Any) -> Any:
        """Return ``value`` if it is strict JSON, else its plain form if it has one.

        Raises:
            PayloadError: It has none.
        """
        if _is_plain(value):
            return value
        try:
            plain = msgspec.to_builtins(value, builtin_types=_BYTES, enc_hook=self._hook)
        except (TypeError, ValueError, RecursionError) as error:
            raise PayloadError(str(error)) from error
        if not _is_plain(plain):
            raise PayloadError(f"can't encode {type(value).__name__} as JSON")
        return plain

    def dump(self, value: Any) -> bytes:
        """Return ``value``, already checked, as JSON bytes."""
        try:
            return self._dump(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise PayloadError(str(error)) from error


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is made of JSON's own types only; raises for what JSON forbids.

    A stack instead of recursion: how deep a client nested its payload is not ours to pay for.
    """
    if type(value) in _ATOMS:
        return True
    stack = [value]
    plain = True
    visited = 0
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            for key in item:
                if type(key) is not str:
                    _check_keys(item)
                    break
            stack.extend(child for child in item.values() if type(child) not in _ATOMS)
        elif kind is list or kind is tuple:
            stack.extend(child for child in item if type(child) not in _ATOMS)
        elif kind is float:
            if not math.isfinite(item):
                raise PayloadError(f"{item} is not a JSON number")
        elif kind in _ATOMS:
            pass
        elif isinstance(item, _BYTES):
            raise PayloadError(
                "bytes can't be inside a JSON payload: make them the whole payload, or text"
            )
        elif kind is msgspec.Raw:
            _check_raw(item)
        else:
            plain = False
        visited += 1
        if visited > _MAX_CONTAINERS:
            raise PayloadError(f"more than {_MAX_CONTAINERS} containers, or one inside itself")
    return plain


_MAX_CONTAINERS: Final = 10_000_000  # a bound for what refers to itself, far above any payload


def _check_keys(mapping: dict[Any, Any]) -> None:
    names = set()
    for key in mapping:
        try:
            (name,) = msgspec.to_builtins({key: None}, str_keys=True)
        except (TypeError, ValueError) as error:
            raise PayloadError(f"{key!r} can't be a key of a JSON object") from error
        if isinstance(key, bytes) or type(name) is not str:
            raise PayloadError(f"{key!r} can't be a key of a JSON object")
        names.add(name)
    if len(names) != len(mapping):
        raise PayloadError("two keys of an object are the same once they are strings")


def _check_raw(raw: msgspec.Raw) -> None:
    try:
        decode_json(raw)
    except DECODE_ERRORS as error:
        raise PayloadError(f"a msgspec.Raw is not JSON: {error}") from error
