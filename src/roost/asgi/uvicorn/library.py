"""What is known of the sans-I/O protocol of ``websockets``, and what is read without it."""

from __future__ import annotations

from typing import Final

from websockets.protocol import Protocol, State

try:
    from websockets.speedups import apply_mask
except ImportError:  # no compiler was there
    from websockets.utils import apply_mask

__all__ = ["dispose", "is_between_messages", "whole_message"]

TEXT: Final = 0x81  # the first byte of a frame that is a whole message
BINARY: Final = 0x82
SHORT: Final = 0x80 + 126  # the second byte of a masked frame below which it is the size
MEDIUM_HEAD_SIZE: Final = 8  # bytes before the data, with a size of two bytes
SHORT_HEAD_SIZE: Final = 6


def whole_message(
    data: bytes | bytearray, start: int, max_size: int | None
) -> tuple[str | bytes, int] | None:
    """The message whose only frame begins at ``start``, and where it ends.

    None if it is something else, or has something wrong: that is for the library to tell.

    Example:
        >>> whole_message(b"\\x81\\x82\\0\\0\\0\\0hi", 0, None)
        ('hi', 8)
    """
    size = len(data) - start
    first = data[start]
    if size < SHORT_HEAD_SIZE or (first != TEXT and first != BINARY):
        return None
    length = data[start + 1]
    if length < SHORT:
        begin = start + SHORT_HEAD_SIZE
        length -= 0x80
        if length < 0:  # is not masked
            return None
    elif length == SHORT and size >= MEDIUM_HEAD_SIZE:
        begin = start + MEDIUM_HEAD_SIZE
        length = data[start + 2] << 8 | data[start + 3]
        if length < 126:
            return None
    else:
        return None
    end = begin + length
    if end > start + size or (max_size is not None and length > max_size):
        return None
    message = apply_mask(data[begin:end], data[begin - 4 : begin])
    if first == BINARY:
        return bytes(message), end
    try:
        return message.decode(), end
    except UnicodeDecodeError:
        return None


def is_between_messages(websocket: Protocol) -> bool:
    """Whether an open connection has nothing to remember of what came, or was sent.

    The parser waits for the first byte of a frame; if a release of the library does so elsewhere,
    this is False, and its object is kept.
    """
    if websocket.state is not State.OPEN or websocket.current_size is not None:
        return False
    waits_in = getattr(websocket.parser, "gi_yieldfrom", None)
    return getattr(waits_in, "__name__", "") == "at_eof"


def dispose(websocket: Protocol) -> None:
    """Let go of the object: its parser knows it, and so does the traceback of an error."""
    websocket.parser.close()
    del websocket.parser
    websocket.parser_exc = None
