"""``presence_state`` and ``presence_diff``, joined from metas that are encoded already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from roost.aliases import Presences
from roost.crdt.entry import Entry
from roost.tracker.meta import decode_meta

__all__ = [
    "decode_grouped",
    "encode_bare_diff",
    "encode_count",
    "encode_diff",
    "encode_grouped",
    "encode_member",
    "encode_object",
    "group_by_key",
]

_encode_key = msgspec.json.Encoder().encode


def encode_member(key: str, metas: Iterable[bytes]) -> bytes:
    """One member of a JSON object of presences.

    Example:
        >>> encode_member("alice", [b'{"phx_ref":"F1"}'])
        b'"alice":{"metas":[{"phx_ref":"F1"}]}'
    """
    return b'%b:{"metas":[%b]}' % (_encode_key(key), b",".join(metas))


def encode_object(members: Iterable[bytes]) -> bytes:
    """A JSON object of encoded members."""
    return b"{%b}" % b",".join(members)


def encode_grouped(entries: Iterable[Entry]) -> bytes:
    """Entries grouped by key, as a JSON object."""
    return encode_object(
        encode_member(key, [entry.meta for entry in group])
        for key, group in group_by_key(entries).items()
    )


def encode_bare_diff(joins: Iterable[Entry], leaves: Iterable[Entry]) -> bytes:
    """The payload of a ``presence_diff`` of entries as they are."""
    return encode_diff(encode_grouped(joins), encode_grouped(leaves))


def encode_diff(joins: bytes, leaves: bytes) -> bytes:
    """The payload of a ``presence_diff``; both sides are always there, possibly empty."""
    return b'{"joins":%b,"leaves":%b}' % (joins, leaves)


def encode_count(users: int, connections: int) -> bytes:
    """The payload of a ``presence_count``.

    Example:
        >>> encode_count(2, 3)
        b'{"users":2,"connections":3}'
    """
    return b'{"users":%d,"connections":%d}' % (users, connections)


def decode_grouped(entries: Iterable[Entry]) -> Presences:
    """Entries grouped by key, in values of their own."""
    return {
        key: {"metas": [decode_meta(entry.meta) for entry in group]}
        for key, group in group_by_key(entries).items()
    }


def group_by_key(entries: Iterable[Entry]) -> Mapping[str, list[Entry]]:
    """Entries by key, in the order given."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.key, []).append(entry)
    return groups
