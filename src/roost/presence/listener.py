"""What one subscription was told by one presence."""

from __future__ import annotations

from enum import IntEnum

from roost.channels.fastlane import Fastlane
from roost.pubsub.registry import Subscription
from roost.wire.messages import Broadcast

__all__ = ["Listener", "Told", "listener_of"]


class Told(IntEnum):
    """What a client was told of the topic so far."""

    NOTHING = 0
    DIFFS = 1
    """Diffs, but no state yet: it may hold them back until it gets one."""
    STATE = 2


class Listener:
    """What the client behind a subscription was told.

    Attributes:
        told: What it was told.
        held: Diffs that wait for the state that is being made, each with the version that it ends
            at; None if none is being made. What bounds them is the time that a list may take.
    """

    __slots__ = ("held", "told")

    def __init__(self) -> None:
        self.told = Told.NOTHING
        self.held: list[tuple[int, Broadcast]] | None = None

    def is_settled_by_state(self, lane: Fastlane) -> bool:
        """Whether a state makes diffs that end before it superfluous.

        It does not for a client that was told diffs of this subscription only: it applies them
        after the state, and their last word must come after them. If diffs of an earlier channel
        may be among them, the state is sent twice, which settles both.
        """
        return self.told is not Told.DIFFS or lane.was_told_before


def listener_of(subscription: object, presence: object) -> Listener | None:
    """The record of ``presence`` on a channel's subscription; None for other subscribers."""
    if not isinstance(subscription, Subscription):
        return None
    lane = subscription.metadata
    if type(lane) is not Fastlane:
        return None
    listener: Listener | None = lane.notes.get(presence)
    if listener is None:
        listener = lane.notes[presence] = Listener()
    return listener
