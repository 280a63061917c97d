"""Strict JSON: what is refused is refused where it is given, not at the client.

msgspec is the codec. It is lenient where a wire format shared by every node and browser must not
be: it writes NaN as ``null``, bytes as base64 text, and the keys ``1`` and ``"1"`` side by side.
So values are checked before they are encoded. The check is Python and costs a few times what the
encoding does. Hence payloads are encoded once and travel as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from roost.exceptions import PayloadError

__all__ = ["EncodeHook", "JsonEncoder", "decode_json"]

EncodeHook = Callable[[Any], Any]
"""Turns an object that JSON does not know into a value that it knows, or raises TypeError."""

_ATOMS: Final = frozenset({str, int, bool, type(None)})
_PLAIN_KEYS: Final = frozenset({str, int, float})
_BYTES: Final = (bytes, bytearray, memoryview)
_UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)

_dump: Final = msgspec.json.Encoder().encode

decode_json: Final = msgspec.json.Decoder().decode
"""Decode JSON text or bytes; raises one of ``DECODE_ERRORS``."""

DECODE_ERRORS: Final = (msgspec.DecodeError, ValueError, RecursionError)
"""What ``decode_json`` raises for bytes that are not JSON, not UTF-8, or nested too deeply."""


class JsonEncoder:
    """Encode values as strict JSON in UTF-8.

    Args:
        encode_hook: Called for each object of a type that JSON does not know. Dates, UUIDs,
            decimals, enums, dataclasses, msgspec structs, other mappings than dict, and
            subclasses of str, int and float need none.

    Example:
        >>> JsonEncoder().encode({"online_at": 1})
        b'{"online_at":1}'
        >>> JsonEncoder().encode({"load": float("nan")})
        Traceback (most recent call last):
        ...
        roost.exceptions.PayloadError: nan is not a JSON number
    """

    __slots__ = ("_hook",)

    def __init__(self, encode_hook: EncodeHook | None = None) -> None:
        self._hook = encode_hook

    def encode(self, value: Any) -> bytes:
        """Return ``value`` as JSON bytes.

        Raises:
            PayloadError: The value is not strict JSON; the message says which part.
        """
        return self.dump(self.check(value))

    def check(self, value: Any) -> Any:
        """Return ``value`` if it is strict JSON, else its plain form if it has one.

        Strings that are no Unicode text, and nesting too deep for the codec, are left to ``dump``.

        Raises:
            PayloadError: It has none.
        """
        try:
            if _is_plain(value, set()):
                return value
            plain = msgspec.to_builtins(value, builtin_types=_BYTES, enc_hook=self._convert)
            if _is_plain(plain, set()):
                return plain
        except PayloadError:
            raise
        except _UNENCODABLE as error:
            raise PayloadError(str(error)) from error
        raise AssertionError(f"msgspec left something in {type(value).__name__} that is no JSON")

    def dump(self, value: Any) -> bytes:
        """Return ``value``, already checked, as JSON bytes.

        Raises:
            PayloadError: A string is no Unicode text, or containers are nested too deeply.
        """
        try:
            return _dump(value)
        except _UNENCODABLE as error:
            raise PayloadError(str(error)) from error

    def _convert(self, value: Any) -> Any:
        """A step towards the JSON form of an object whose type msgspec does not know."""
        if isinstance(value, Mapping):
            mapping = dict(value)
            _check_keys(mapping)
            return mapping
        if isinstance(value, msgspec.Raw):
            return _decode_raw(value)
        if isinstance(value, str):
            return "".join((value,))  # not str(value), which may be the same subclass again
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if self._hook is not None:
            return self._hook(value)
        raise TypeError(f"can't encode {type(value).__name__} as JSON")


def _is_plain(value: Any, inside: set[int]) -> bool:
    """Whether ``value`` is made of JSON's own types only; raises for what JSON forbids.

    Args:
        value: Anything.
        inside: Ids of the containers around it: what comes again inside itself is refused at once,
            before the recursion multiplies whatever else is in there.
    """
    if isinstance(value, dict):
        plain = type(value) is dict
        for key in value:
            if type(key) is not str:
                plain = _check_keys(value) and plain
                break
        children: Iterable[Any] = value.values()
    elif isinstance(value, (list, tuple)):
        plain = type(value) is list or type(value) is tuple
        children = value
    else:
        return _is_plain_leaf(value)
    has_containers = False
    for child in children:
        kind = type(child)
        if kind in _ATOMS:
            continue
        if kind is float:  # here and not as a leaf: charts are long lists of them
            if not isfinite(child):
                raise PayloadError(f"{child} is not a JSON number")
            continue
        if not has_containers:
            has_containers = True
            if id(value) in inside:
                raise PayloadError(f"a {type(value).__name__} that contains itself is not JSON")
            inside.add(id(value))
        plain = _is_plain(child, inside) and plain
    if has_containers:
        inside.remove(id(value))
    return plain


def _is_plain_leaf(value: Any) -> bool:
    kind = type(value)
    if kind is float:
        if not isfinite(value):
            raise PayloadError(f"{value} is not a JSON number")
        return True
    if kind is msgspec.Raw:
        _decode_raw(value)
        return True
    if isinstance(value, _BYTES):
        raise PayloadError(
            "bytes can't be inside a JSON payload: make them the whole payload, or text"
        )
    return kind in _ATOMS


def _check_keys(mapping: dict[Any, Any]) -> bool:
    """Whether all keys are strings or numbers; raises for what can't become an object's names."""
    names = set()
    for key in mapping:
        try:
            (name,) = msgspec.to_builtins({key: None}, str_keys=True)
        except (TypeError, ValueError) as error:
            raise PayloadError(f"{key!r} can't be a key of a JSON object") from error
        if isinstance(key, bytes) or (isinstance(key, float) and not isfinite(key)):
            raise PayloadError(f"{key!r} can't be a key of a JSON object")
        names.add(name)
    if len(names) != len(mapping):
        raise PayloadError("two keys of an object are the same once they are strings")
    return all(type(key) in _PLAIN_KEYS for key in mapping)


def _decode_raw(raw: msgspec.Raw) -> Any:
    try:
        return decode_json(raw)
    except DECODE_ERRORS as error:
        raise PayloadError(f"a msgspec.Raw is not JSON: {error}") from error
