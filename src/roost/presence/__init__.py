"""Presence: who is here. The asyncio shell around the tracker, and what applications subclass."""

from roost.presence.listing import PresenceList
from roost.presence.owner import Lease, Owner
from roost.presence.presence import Presence

__all__ = ["Lease", "Owner", "Presence", "PresenceList"]
