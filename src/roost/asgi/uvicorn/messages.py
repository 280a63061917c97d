"""From data frames to messages."""

from __future__ import annotations

import codecs

from websockets.frames import Frame, Opcode

__all__ = ["Messages"]


class Messages:
    """Put the messages of one connection together from their frames.

    Text is checked as each fragment comes, so that bad text ends the connection at once, and not
    when the message is whole (RFC 6455, 8.1).

    Example:
        >>> messages = Messages()
        >>> messages.add(Frame(Opcode.TEXT, "é".encode()[:1], fin=False))
        >>> messages.add(Frame(Opcode.CONT, "é".encode()[1:]))
        'é'
    """

    __slots__ = ("_data", "_decoder")

    def __init__(self) -> None:
        self._data: bytearray | None = None  # of a message that has not come whole
        self._decoder: codecs.IncrementalDecoder | None = None  # if it is text

    def add(self, frame: Frame) -> str | bytes | None:
        """The message that ``frame`` completes, if it does.

        Raises:
            UnicodeDecodeError: The text is not UTF-8.
        """
        data = bytes(frame.data)
        is_text = frame.opcode is Opcode.TEXT
        if frame.opcode is not Opcode.CONT:
            if frame.fin:
                return data.decode() if is_text else data
            self._data = bytearray()
            self._decoder = codecs.getincrementaldecoder("utf-8")() if is_text else None
        assert self._data is not None, "the library lets no continuation pass without a start"
        self._data += data
        if self._decoder is not None:
            self._decoder.decode(data, frame.fin)
        if not frame.fin:
            return None
        message = bytes(self._data) if self._decoder is None else self._data.decode()
        self._data = self._decoder = None
        return message
