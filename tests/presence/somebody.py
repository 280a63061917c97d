"""Somebody who is there until the test says otherwise."""

from __future__ import annotations

from typing import Any

from roost.presence import Lease
from roost.presence.base import TrackerBase

__all__ = ["TOPIC", "somebody"]

TOPIC = "room:1"


def somebody(tracking: TrackerBase[Any], key: str, topic: str = TOPIC, **meta: Any) -> Lease:
    """Track ``key`` until the lease that is returned ends."""
    lease = Lease(tracking, topic, key)
    tracking.track(lease, key, meta, topic=topic)
    return lease
