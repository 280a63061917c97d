"""What changed, in words for applications: for callbacks and watches.

On the wire a diff has joins and leaves, and an update is one of each. Here they are told apart.
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
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    is_first: bool
    version: int


class Update(msgspec.Struct, frozen=True):
    """A presence has a new meta.

    Args:
        topic: Where.
        key: Who.
        meta: The new one, with ``phx_ref`` and ``phx_ref_prev``.
        old_meta: The one before.
        version: Counts the visible changes of this node.
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    old_meta: Mapping[str, Any]
    version: int


class Leave(msgspec.Struct, frozen=True):
    """A presence went.

    Args:
        topic: Where.
        key: Who.
        meta: Its last meta.
        is_last: It was the last presence of its key: in the topic, or anywhere for those who
            watch keys.
        version: Counts the visible changes of this node.
    """

    topic: str
    key: str
    meta: Mapping[str, Any]
    is_last: bool
    version: int


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


def change_of(event: TrackerEvent) -> Change:
    """What an event of the tracker means to an application.

    Example:
        >>> from roost.crdt.entry import Entry
        >>> alice = Entry("room:1", "alice", b'{"phx_ref":"r1"}', 1, "r", 1)
        >>> change_of(Joined(alice, version=1, is_first=True)).meta
        {'phx_ref': 'r1'}
    """
    match event:
        case Joined(entry, version, is_first):
            return Join(entry.topic, entry.key, decode_meta(entry.meta), is_first, version)
        case Updated(old, new, version):
            return Update(new.topic, new.key, decode_meta(new.meta), decode_meta(old.meta), version)
        case Left(entry, version, is_last):
            return Leave(entry.topic, entry.key, decode_meta(entry.meta), is_last, version)
        case _:
            raise AssertionError(f"unknown event of the tracker: {event!r}")
