"""One tracked presence, as every node holds it."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["SEQ_SIZE", "Entry"]

SEQ_SIZE: Final = 9  # bytes that a seq takes in a message at most
OVERHEAD_SIZE: Final = 40  # bytes at most of an entry's numbers and of what separates its fields


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One presence: who is where, and what is known of them.

    Entries hold only str, int and bytes and stay invisible to the garbage collector; ``bench/``
    measures what a full collection costs with up to a million of them.

    Args:
        topic: Where.
        key: Groups presences, usually a user id.
        meta: A JSON object in UTF-8 that carries its own ``phx_ref``; encoded once, by the origin.
        owner: What the origin's node tracks it for; a number that means something there only.
        ref_prefix: First part of the ref, the same for all entries of one origin.
        seq: Number of the change that added it, second part of the ref.
        hidden: Held by every node, but in nobody's list.
        tracker: Name of the tracker that it belongs to; a node may have several.
    """

    topic: str
    key: str
    meta: bytes
    owner: int
    ref_prefix: str
    seq: int
    hidden: bool = False
    tracker: str = ""

    @property
    def ref(self) -> str:
        """The unique ref, on the wire ``phx_ref``."""
        return f"{self.ref_prefix}{self.seq:x}"

    @property
    def size(self) -> int:
        """About how many bytes it takes in a message, and never fewer than it does."""
        size = OVERHEAD_SIZE + len(self.meta)
        for text in (self.topic, self.key, self.tracker):
            size += len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
        return size
