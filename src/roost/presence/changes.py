"""What changed, in words for applications: for callbacks and watches.

On the wire a diff has joins and leaves, and an update is one of each. Here the three are distinct.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from roost.aliases import Presences
from roost.tracker.meta import decode_meta
from roost.tracker.protocol import Joined, Left, TrackerEvent, Updated

__all__ = ["Change", "Join", "Leave", "Snapshot", "Update", "change_of"]


class Join(msgspec.Struct, frozen=True):
    """A presence came.

    Args:
        topic: Where.
        key: Who.
        meta: Its meta, with ``phx_ref``.
        is_first: It is the first presence of its key: in the topic, or anywhere for those who
            watch keys.
        version: Counts the visible changes of this node.
        is_local: It is tracked on this node. Callbacks and watches of every node get every change.
            Do where this is true what only one node is to do, such as writing to a database;
            nobody does it for a node that died.
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    is_first: bool
    version: int
    is_local: bool


class Update(msgspec.Struct, frozen=True):
    """A presence has a new meta.

    Args:
        topic: Where.
        key: Who.
        meta: The new one, with ``phx_ref`` and ``phx_ref_prev``.
        old_meta: The one before.
        version: Counts the visible changes of this node.
        is_local: As for ``Join``.
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    old_meta: Mapping[str, Any]
    version: int
    is_local: bool


class Leave(msgspec.Struct, frozen=True):
    """A presence went.

    Args:
        topic: Where.
        key: Who.
        meta: Its last meta.
        is_last: It was the last presence of its key: in the topic, or anywhere for those who
            watch keys.
        version: Counts the visible changes of this node.
        is_local: As for ``Join``.
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    is_last: bool
    version: int
    is_local: bool


class Snapshot(msgspec.Struct, frozen=True):
    """Everybody who is there at one version; the changes that follow have higher ones.

    Args:
        presences: Key → ``{"metas": [...]}``, without ``fetch``. For those who watch keys each also
            has ``topics``: where it is, one for each meta.
        version: Counts the visible changes of this node.
    """

    presences: Presences
    version: int


Change: TypeAlias = Join | Update | Leave


def change_of(event: TrackerEvent, own_prefix: str) -> Change:
    """What an event of the tracker means to an application.

    Args:
        event: The event.
        own_prefix: Begins the refs of what this node tracks.

    Example:
        >>> from roost.crdt.entry import Entry
        >>> alice = Entry("room:1", "alice", b'{"phx_ref":"r1"}', 1, "r", 1)
        >>> change_of(Joined(alice, version=1, is_first=True), "r").meta
        {'phx_ref': 'r1'}
    """
    match event:
        case Joined(entry, version, is_first):
            meta, is_local = decode_meta(entry.meta), entry.ref_prefix == own_prefix
            return Join(entry.topic, entry.key, meta, is_first, version, is_local)
        case Updated(old, new, version):
            meta, is_local = decode_meta(new.meta), new.ref_prefix == own_prefix
            return Update(new.topic, new.key, meta, decode_meta(old.meta), version, is_local)
        case Left(entry, version, is_last):
            meta, is_local = decode_meta(entry.meta), entry.ref_prefix == own_prefix
            return Leave(entry.topic, entry.key, meta, is_last, version, is_local)
        case _:
            raise AssertionError(f"unknown event of the tracker: {event!r}")
