"""One WebSocket data message, made once and written to any number of connections."""

from __future__ import annotations

__all__ = ["Frame"]


class Frame:
    """A text or binary frame.

    Args:
        data: The bytes of the message; UTF-8 if it is text.
        is_text: Text frame, else binary.
    """

    __slots__ = ("_text", "data", "is_text")

    def __init__(self, data: bytes, *, is_text: bool) -> None:
        self.data = data
        self.is_text = is_text
        self._text: str | None = None

    @property
    def text(self) -> str:
        """The data as a string, decoded once: plain ASGI takes text as ``str``."""
        if self._text is None:
            self._text = self.data.decode()
        return self._text

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
