"""One WebSocket data message, made once and written to any number of connections."""

from __future__ import annotations

from typing import Final

__all__ = ["Frame"]

# The first bytes of a whole, unmasked frame (RFC 6455, 5.2): FIN with the opcode, then the size,
# if it is under 126.
_TEXT: Final = 0x81
_BINARY: Final = 0x82
_SHORT_HEADS: Final = {
    opcode: [bytes([opcode, size]) for size in range(126)] for opcode in (_TEXT, _BINARY)
}


class Frame:
    """A text or binary frame.

    Args:
        data: The bytes of the message; UTF-8 if it is text.
        is_text: Text frame, else binary.
    """

    __slots__ = ("_framed", "_text", "data", "is_text")

    def __init__(self, data: bytes, *, is_text: bool) -> None:
        self.data = data
        self.is_text = is_text
        self._text: str | None = None
        self._framed: bytes | None = None

    @property
    def text(self) -> str:
        """The data as a string, decoded once: plain ASGI takes text as ``str``."""
        if self._text is None:
            self._text = self.data.decode()
        return self._text

    @property
    def framed(self) -> bytes:
        """The bytes on the wire, made once: servers do not mask, so all connections get the same.

        Example:
            >>> Frame(b"hi", is_text=True).framed
            b'\\x81\\x02hi'
        """
        if self._framed is None:
            self._framed = _head(_TEXT if self.is_text else _BINARY, len(self.data)) + self.data
        return self._framed

    def __len__(self) -> int:
        return len(self.data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return self.is_text is other.is_text and self.data == other.data

    def __hash__(self) -> int:
        return hash((self.data, self.is_text))

    def __repr__(self) -> str:
        return f"Frame({self.data!r}, is_text={self.is_text})"


def _head(opcode: int, size: int) -> bytes:
    if size < 126:
        return _SHORT_HEADS[opcode][size]
    if size < 65_536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big")
    return bytes((opcode, 127)) + size.to_bytes(8, "big")
