"""Client frames made by hand, and server frames cut out of chunks (RFC 6455).

A client has to mask its frames, but may choose the key: with zeros the payload stays as it is.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Final

__all__ = ["CLOSE", "PING", "TEXT", "FrameReader", "ProtocolError", "frame", "upgrade_request"]

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_ZERO_KEY: Final = bytes(4)


class ProtocolError(Exception):
    """The server sent what no scenario can go on with."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Make a client's frame.

    Example:
        >>> frame(b"hi").hex()
        '8182000000006869'
    """
    size = len(payload)
    if size < 126:
        header = bytes((_FINAL | opcode, _MASKED | size))
    elif size < 1 << 16:
        header = bytes((_FINAL | opcode, _MASKED | 126)) + size.to_bytes(2)
    else:
        header = bytes((_FINAL | opcode, _MASKED | 127)) + size.to_bytes(8)
    return header + _ZERO_KEY + payload


def upgrade_request(host: str, target: str) -> bytes:
    """The request that asks for a WebSocket, without compression."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class FrameReader:
    """Cuts chunks into messages; fragments are joined.

    Example:
        >>> reader = FrameReader()
        >>> list(reader.feed(bytes.fromhex("8102") + b"h")), list(reader.feed(b"i"))
        ([], [(1, b'hi')])
    """

    __slots__ = ("_fragments", "_opcode", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._opcode = 0  # of the message whose fragments are being gathered
        self._fragments: list[bytes] = []

    @property
    def is_between_frames(self) -> bool:
        """Nothing of a message is held."""
        return not self._rest and not self._fragments

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each message that is whole now; consume all of it."""
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        end, at = len(data), 0
        while end - at >= 2:
            first, size = data[at], data[at + 1]
            start = at + 2
            if size == 126:
                start += 2
                size = int.from_bytes(data[at + 2 : start])
            elif size == 127:
                start += 8
                size = int.from_bytes(data[at + 2 : start])
            elif size & _MASKED:
                raise ProtocolError("the server masks its frames")
            if end < start + size:
                break
            payload = data[start : start + size]
            at = start + size
            if first & _FINAL and first & 0xF:
                yield first & 0xF, payload
            else:
                yield from self._join(first, payload)
        self._rest = data[at:]

    def _join(self, first: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
        self._opcode = first & 0xF or self._opcode
        self._fragments.append(payload)
        if first & _FINAL:
            whole = b"".join(self._fragments)
            self._fragments.clear()
            yield self._opcode, whole
