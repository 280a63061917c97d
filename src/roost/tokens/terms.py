"""Erlang's external term format, as far as tokens carry it.

A term is one tag byte and what it says follows; a whole one begins with the version, 131. Read and
written are atoms, integers, floats, binaries, lists, tuples and maps:

=====================  ============================  =============================================
Erlang                 Python                        notes
=====================  ============================  =============================================
``nil, true, false``   ``None``, ``True``, ``False``
other atoms            ``Atom``, a ``str``           at most 255 characters
integer                ``int``                       below 2^2040, which is 255 bytes
float                  ``float``                     finite
binary                 ``str``                       ``bytes`` where it is no UTF-8
list                   ``list``                      proper ones; a charlist is a list of integers
tuple                  ``tuple``
map                    ``dict``                      keys that Python tells apart, and can hash
=====================  ============================  =============================================

All else is refused, functions, processes, references, ports, bitstrings and compressed terms first
of all. Every count is compared with the bytes that are left before anything is made of it, and
containers are at most 64 deep; so the work is proportional to the bytes, whatever they are.

Source: the documentation of Erlang/OTP, "External Term Format".
"""

from __future__ import annotations

import struct
from math import isfinite
from typing import Any, Final, TypeAlias

from roost.exceptions import TermError

__all__ = ["MAX_DEPTH", "Atom", "Term", "decode_term", "encode_term"]

Term: TypeAlias = Any
"""What can be a term: see the table above."""

MAX_DEPTH: Final = 64  # containers inside each other
_MAX_ATOM_LENGTH: Final = 255  # characters, in Erlang
_MAX_INTEGER_SIZE: Final = 255  # bytes: what SMALL_BIG_EXT can say

_VERSION: Final = 131
_NEW_FLOAT, _SMALL_INTEGER, _INTEGER = 70, 97, 98
_ATOM_LATIN1, _SMALL_TUPLE, _LARGE_TUPLE, _NIL, _STRING = 100, 104, 105, 106, 107
_LIST, _BINARY, _SMALL_BIG, _SMALL_ATOM_LATIN1 = 108, 109, 110, 115
_MAP, _ATOM_UTF8, _SMALL_ATOM_UTF8 = 116, 118, 119

_CONSTANTS: Final = {"nil": None, "true": True, "false": False}
_double: Final = struct.Struct(">d")


class Atom(str):
    """An atom of Erlang: text that is equal to a ``str`` of the same, and is written as an atom.

    Keys of maps in Elixir often are atoms; they are found by their text.

    Example:
        >>> data = decode_term(encode_term({Atom("user_id"): 7}))
        >>> data
        {Atom('user_id'): 7}
        >>> data["user_id"]
        7
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({super().__repr__()})"


def decode_term(data: bytes) -> Term:
    """The term that ``data`` is.

    Raises:
        TermError: It is none, or not one of those that can be read.

    Example:
        >>> decode_term(bytes([131, 104, 2, 97, 7, 119, 4]) + b"true")
        (7, True)
    """
    reader = _Reader(data)
    if reader.uint(1) != _VERSION:
        raise TermError("a term begins with its version, 131")
    term = reader.term(0)
    if reader.left():
        raise TermError(f"{reader.left()} bytes are left after the term")
    return term


def encode_term(term: Term) -> bytes:
    """``term`` as bytes, which any Erlang/OTP from 17 on reads.

    Raises:
        TermError: A part of it is nothing that can be written.

    Example:
        >>> encode_term(("alice", 7)).hex(" ")
        '83 68 02 6d 00 00 00 05 61 6c 69 63 65 61 07'
    """
    out = bytearray([_VERSION])
    _write(term, out, 0)
    return bytes(out)


class _Reader:
    """Where we are in the bytes of a term."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left():
            raise TermError(f"a term ends {size - self.left()} bytes too early")
        start, self._at = self._at, self._at + size
        return self._data[start : self._at]

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def count(self, size: int, each: int) -> int:
        """A number of things that follow, each of so many bytes at least."""
        count = self.uint(size)
        if count * each > self.left():
            raise TermError(f"a term ends before its {count} parts do")
        return count

    def term(self, depth: int) -> Term:
        if depth > MAX_DEPTH:
            raise TermError(f"a term is more than {MAX_DEPTH} deep")
        tag = self.uint(1)
        match tag:
            case 97:  # _SMALL_INTEGER
                return self.uint(1)
            case 98:  # _INTEGER
                return int.from_bytes(self.take(4), "big", signed=True)
            case 110:  # _SMALL_BIG
                return self._big()
            case 70:  # _NEW_FLOAT
                return self._float()
            case 109:  # _BINARY
                return self._binary()
            case 119 | 115:  # _SMALL_ATOM_UTF8, _SMALL_ATOM_LATIN1
                return self._atom(1, "utf-8" if tag == _SMALL_ATOM_UTF8 else "latin-1")
            case 118 | 100:  # _ATOM_UTF8, _ATOM_LATIN1
                return self._atom(2, "utf-8" if tag == _ATOM_UTF8 else "latin-1")
            case 106:  # _NIL
                return []
            case 107:  # _STRING
                return list(self.take(self.uint(2)))
            case 108:  # _LIST
                return self._list(depth)
            case 104:  # _SMALL_TUPLE
                return self._tuple(self.count(1, each=1), depth)
            case 105:  # _LARGE_TUPLE
                return self._tuple(self.count(4, each=1), depth)
            case 116:  # _MAP
                return self._map(depth)
            case _:
                raise TermError(f"a term of tag {tag} is not read here")

    def _big(self) -> int:
        size, sign = self.uint(1), self.uint(1)
        if sign > 1:
            raise TermError(f"the sign of an integer is 0 or 1, not {sign}")
        magnitude = int.from_bytes(self.take(size), "little")
        return -magnitude if sign else magnitude

    def _float(self) -> float:
        value: float = _double.unpack(self.take(8))[0]
        if not isfinite(value):
            raise TermError("a float is finite")
        return value

    def _binary(self) -> str | bytes:
        data = self.take(self.uint(4))
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    def _atom(self, size: int, encoding: str) -> Term:
        try:
            name = self.take(self.uint(size)).decode(encoding)
        except UnicodeDecodeError as error:
            raise TermError("an atom is not UTF-8") from error
        if len(name) > _MAX_ATOM_LENGTH:
            raise TermError(f"an atom has {len(name)} characters, more than {_MAX_ATOM_LENGTH}")
        return _CONSTANTS[name] if name in _CONSTANTS else Atom(name)

    def _list(self, depth: int) -> list[Term]:
        items = [self.term(depth + 1) for _ in range(self.count(4, each=1))]
        if self.uint(1) != _NIL:
            raise TermError("a list has a tail")
        return items

    def _tuple(self, count: int, depth: int) -> tuple[Term, ...]:
        return tuple([self.term(depth + 1) for _ in range(count)])

    def _map(self, depth: int) -> dict[Term, Term]:
        count = self.count(4, each=2)
        found: dict[Term, Term] = {}
        for _ in range(count):
            key, value = self.term(depth + 1), self.term(depth + 1)
            try:
                found[key] = value
            except TypeError as error:
                raise TermError("a list, or a map, is the key of a map") from error
        if len(found) != count:
            raise TermError("two keys of a map are the same in Python")
        return found


def _write(term: Term, out: bytearray, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TermError(f"a term is more than {MAX_DEPTH} deep, or contains itself")
    if term is None or term is True or term is False:
        _write_atom("nil" if term is None else str(term).lower(), out)
    elif isinstance(term, int):
        _write_integer(int(term), out)
    elif isinstance(term, float):
        if not isfinite(term):
            raise TermError(f"{term} is no float in Erlang")
        out.append(_NEW_FLOAT)
        out += _double.pack(term)
    elif isinstance(term, Atom):
        _write_atom(term, out)
    elif isinstance(term, (str, bytes)):
        data = _utf8(term) if isinstance(term, str) else term
        _write_head(out, _BINARY, len(data))
        out += data
    elif isinstance(term, (list, tuple)):
        _write_sequence(term, out, depth)
    elif isinstance(term, dict):
        _write_head(out, _MAP, len(term))
        for key, value in term.items():
            _write(key, out, depth + 1)
            _write(value, out, depth + 1)
    else:
        raise TermError(f"a {type(term).__name__} can't be written as a term")


def _write_integer(value: int, out: bytearray) -> None:
    if 0 <= value <= 255:
        out += bytes([_SMALL_INTEGER, value])
    elif -(1 << 31) <= value < 1 << 31:
        out.append(_INTEGER)
        out += value.to_bytes(4, "big", signed=True)
    else:
        size = (abs(value).bit_length() + 7) // 8
        if size > _MAX_INTEGER_SIZE:
            raise TermError(f"an integer of {size} bytes, more than {_MAX_INTEGER_SIZE}")
        out += bytes([_SMALL_BIG, size, value < 0])
        out += abs(value).to_bytes(size, "little")


def _write_atom(name: str, out: bytearray) -> None:
    data = _utf8(name)
    if len(name) > _MAX_ATOM_LENGTH:
        raise TermError(f"an atom has {len(name)} characters, more than {_MAX_ATOM_LENGTH}")
    if len(data) <= 255:
        out += bytes([_SMALL_ATOM_UTF8, len(data)])
    else:
        out.append(_ATOM_UTF8)
        out += len(data).to_bytes(2, "big")
    out += data


def _write_sequence(items: list[Term] | tuple[Term, ...], out: bytearray, depth: int) -> None:
    if isinstance(items, tuple):
        if len(items) <= 255:
            out += bytes([_SMALL_TUPLE, len(items)])
        else:
            _write_head(out, _LARGE_TUPLE, len(items))
    elif items:
        _write_head(out, _LIST, len(items))
    for item in items:
        _write(item, out, depth + 1)
    if isinstance(items, list):
        out.append(_NIL)


def _write_head(out: bytearray, tag: int, count: int) -> None:
    """A tag, and how many things follow."""
    if count >= 1 << 32:
        raise TermError(f"a term of {count} parts")
    out.append(tag)
    out += count.to_bytes(4, "big")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TermError("text with half a surrogate pair is no Unicode text") from error
