"""The payloads of ``presence_diff`` for all who hold different versions of a topic."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from roost.aliases import Presences
from roost.channels.application import Contained
from roost.crdt.entry import Entry
from roost.strict_json import JsonEncoder
from roost.tracker.feed import Change, NetChanges
from roost.tracker.meta import decode_meta
from roost.wire.presence import encode_diff, encode_member, encode_object

__all__ = ["AsTracked", "Fetched", "MemberEncoder", "encode_diffs"]

_encode_key = msgspec.json.Encoder().encode


class MemberEncoder(Protocol):
    """Encodes one member of one side of a diff."""

    def __call__(self, key: str, entries: Sequence[Entry], /) -> bytes | None:
        """``"key":entry``; None if there is nothing to be shown of it."""
        ...


class AsTracked:
    """Members as they were tracked."""

    def __call__(self, key: str, entries: Sequence[Entry], /) -> bytes:
        return encode_member(key, [entry.meta for entry in entries])


class Fetched:
    """Members as ``fetch`` returned them.

    Args:
        presences: What it returned.
        asked: The refs that it was asked for; others are shown as they were tracked.
        encoder: Encodes what it added.
        contained: A block of ``fetch``'s, which returned them.

    Raises:
        Failed: When called, if what ``fetch`` added is no JSON, or an ``encode_hook`` raises.
    """

    def __init__(
        self,
        presences: Presences,
        asked: Collection[str],
        encoder: JsonEncoder,
        contained: Contained,
    ) -> None:
        self._presences = presences
        self._asked = asked
        self._encoder = encoder
        self._contained = contained

    def __call__(self, key: str, entries: Sequence[Entry], /) -> bytes | None:
        with self._contained:
            return self._encode(key, entries)

    def _encode(self, key: str, entries: Sequence[Entry]) -> bytes | None:
        fetched = self._presences.get(key, {})
        by_ref = {meta["phx_ref"]: meta for meta in fetched.get("metas", ())}
        metas: list[Any] = []
        for entry in entries:
            ref = entry.ref
            if ref in by_ref:
                metas.append(by_ref[ref])
            elif ref not in self._asked:
                metas.append(decode_meta(entry.meta))
        if not metas:
            return None
        return b"%b:%b" % (_encode_key(key), self._encoder.encode({**fetched, "metas": metas}))


def encode_diffs(
    changes: Sequence[Change], versions: Sequence[int], encode: MemberEncoder
) -> Iterator[tuple[int, bytes | None]]:
    """What each of ``versions`` needs to be brought to the end of ``changes``.

    A member is encoded anew only where it differs from that of the version before, so that a
    thousand who came one after the other cost little more than one.

    Args:
        changes: All after the lowest of the versions.
        versions: From the highest to the lowest.
        encode: Encodes one member.

    Yields:
        Version and payload; None if nothing is to be sent.
    """
    net = NetChanges()
    joins: dict[str, bytes] = {}  # members, in the reverse of their order
    leaves: dict[str, bytes] = {}
    position = len(changes)
    for version in versions:
        while position and changes[position - 1].version > version:
            position -= 1
            net.add(changes[position])
        for is_join, key in net.touched:
            group = (net.joins if is_join else net.leaves).get(key)
            members = joins if is_join else leaves
            member = None if group is None else encode(key, list(reversed(group.values())))
            if member is None:
                members.pop(key, None)
            else:
                members[key] = member
        net.touched.clear()
        if joins or leaves:
            yield version, encode_diff(_object(joins), _object(leaves))
        else:
            yield version, None


def _object(members: dict[str, bytes]) -> bytes:
    return encode_object(reversed(members.values()))
