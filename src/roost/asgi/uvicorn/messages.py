"""From data frames to messages."""

from __future__ import annotations

import codecs

from websockets.frames import Frame, Opcode

__all__ = ["Messages", "TooBig"]


class TooBig(Exception):
    """A message is larger than may be."""


class Messages:
    """Put a message of one connection together from its frames.

    Text is checked as each fragment comes, so that bad text ends the connection at once, and not
    when the message is whole (RFC 6455, 8.1). What came is held once, as it will be handed over.

    Args:
        max_size: Bytes of the message; None for any number.

    Example:
        >>> messages = Messages(100)
        >>> messages.add(Frame(Opcode.TEXT, "é".encode()[:1], fin=False))
        >>> messages.add(Frame(Opcode.CONT, "é".encode()[1:]))
        'é'
    """

    __slots__ = ("_data", "_decoder", "_max_size")

    def __init__(self, max_size: int | None) -> None:
        self._max_size = max_size
        self._data = bytearray()
        self._decoder: codecs.IncrementalDecoder | None = None  # if it is text

    def add(self, frame: Frame) -> str | bytes | None:
        """The message that ``frame`` completes, if it does.

        Raises:
            UnicodeDecodeError: The text is not UTF-8.
            TooBig: It is.
        """
        if frame.opcode is Opcode.TEXT:
            self._decoder = codecs.getincrementaldecoder("utf-8")()
        size = len(self._data) + len(frame.data)
        if self._max_size is not None and size > self._max_size:
            raise TooBig(f"a message is over {self._max_size} bytes")
        if self._decoder is not None:
            self._decoder.decode(frame.data, frame.fin)
        self._data += frame.data
        if not frame.fin:
            return None
        data, self._data = self._data, bytearray()
        return bytes(data) if self._decoder is None else data.decode()
