"""Terms of Erlang written by hand, as the documentation of its external term format has them."""

from __future__ import annotations

import struct

__all__ = ["atom", "binary", "integer", "list_", "map_", "nil", "old_atom", "term", "tuple_"]


def term(content: bytes) -> bytes:
    """A whole term: its version, and what it is."""
    return b"\x83" + content


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"a" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"b" + struct.pack(">i", value)
    size = (abs(value).bit_length() + 7) // 8
    digits = abs(value).to_bytes(size, "little")
    return b"n" + bytes([size, 1 if value < 0 else 0]) + digits


def binary(value: bytes) -> bytes:
    return b"m" + struct.pack(">I", len(value)) + value


def atom(name: str) -> bytes:
    return b"w" + bytes([len(name.encode())]) + name.encode()


def old_atom(name: str) -> bytes:
    """As Erlang/OTP wrote it before 26."""
    return b"d" + struct.pack(">H", len(name)) + name.encode("latin-1")


def tuple_(*items: bytes) -> bytes:
    return b"h" + bytes([len(items)]) + b"".join(items)


nil = b"j"


def list_(*items: bytes, tail: bytes = nil) -> bytes:
    return b"l" + struct.pack(">I", len(items)) + b"".join(items) + tail


def map_(*items: tuple[bytes, bytes]) -> bytes:
    pairs = b"".join(key + value for key, value in items)
    return b"t" + struct.pack(">I", len(items)) + pairs
