"""Who made a change: the id of one incarnation of a node, which all its trackers share."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import cached_property

import msgspec

__all__ = ["OriginId"]


class OriginId(msgspec.Struct, frozen=True, order=True, dict=True, array_like=True):
    """The id of an origin; the name alone identifies nothing.

    Ids of one name are ordered by (incarnation, nonce), so that a later incarnation of a node
    supersedes an earlier one (docs/replication.md, rule 1.1).

    Args:
        name: Name of the node.
        incarnation: Wall clock when the node started, in microseconds. It only orders incarnations.
        nonce: 64 random bits, drawn after any fork.
    """

    name: str
    incarnation: int
    nonce: int

    @cached_property
    def ref_prefix(self) -> str:
        """What every ref of this origin begins with: eleven characters that spell the nonce."""
        return urlsafe_b64encode(self.nonce.to_bytes(8, "big")).rstrip(b"=").decode()

    def ref(self, seq: int) -> str:
        """The ref (``phx_ref``) of what this origin added at ``seq``; unique across incarnations.

        Example:
            >>> OriginId("a", 1, 0xF00D).ref(255)
            'AAAAAAAA8A0ff'
        """
        return f"{self.ref_prefix}{seq:x}"
