"""What nodes send each other through an engine in the middle.

An engine hands the same bytes to everybody who listens, the sender among them, and keeps to itself
who sent them. So each frame begins with the sender: the id of its link, by which a node knows its
own echo (a name would not do: two nodes of one name must hear each other), and its node's name.

A frame is a MessagePack array that begins with the format version; what begins in another way comes
from a stranger. One frame carries all that one sender had for one address at that time.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from roost.naming import is_short

__all__ = ["Hello", "Messages", "Piece", "decode_frame", "encode_frame"]


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    link: str
    node_name: str


class Hello(_Frame, frozen=True, tag="roost.1.hello"):
    """Here I am; whoever hears this answers with a frame of its own, to my link."""


class Messages(_Frame, frozen=True, tag="roost.1"):
    """What was published, in order; without messages it only says that the sender is there."""

    messages: list[bytes]


class Piece(_Frame, frozen=True, tag="roost.1.piece"):
    """A piece of a message that is too large for the engine; the next ones follow at once.

    Args:
        number: Of the message, counted by its sender.
        at: Where it begins in the message; 0 is the first.
        size: Bytes of the whole message.
        data: Its bytes.
    """

    number: int
    at: int
    size: int
    data: bytes


encode_frame = msgspec.msgpack.Encoder().encode

_decode: Callable[[bytes], Hello | Messages | Piece] = msgspec.msgpack.Decoder(
    Hello | Messages | Piece
).decode


def decode_frame(data: bytes) -> Hello | Messages | Piece | None:
    """Return the frame; None if these bytes are none.

    Example:
        >>> decode_frame(encode_frame(Messages("6f1c", "alice", [b"hello"])))
        Messages(link='6f1c', node_name='alice', messages=[b'hello'])
        >>> decode_frame(b"a stranger")
    """
    try:
        frame = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return frame if is_short(frame.link) and is_short(frame.node_name) else None
