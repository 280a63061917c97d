"""Presence: who is here. The asyncio shell around the tracker, and what applications subclass."""

from roost.presence.changes import Join, Leave, Snapshot, Update
from roost.presence.following.watch import Watch
from roost.presence.last_seen import LastSeenStore, SqliteLastSeen
from roost.presence.notifying.presence_list import PresenceList
from roost.presence.owners.owner import Lease, Owner
from roost.presence.policy import Policy
from roost.presence.presence import Presence
from roost.presence.track_joins import TrackJoins
from roost.presence.tracker import Tracker

__all__ = [
    "Join",
    "LastSeenStore",
    "Lease",
    "Leave",
    "Owner",
    "Policy",
    "Presence",
    "PresenceList",
    "Snapshot",
    "SqliteLastSeen",
    "TrackJoins",
    "Tracker",
    "Update",
    "Watch",
]
