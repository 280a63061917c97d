"""What the protocol of a client hands over to whoever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from roost.client.exceptions import ClientError
from roost.client.mirror import Change
from roost.wire.messages import Message

if TYPE_CHECKING:
    from roost.client.line import Push
    from roost.client.membership import Membership

__all__ = [
    "Connect",
    "Disconnect",
    "Ended",
    "Event",
    "JoinFailed",
    "Joined",
    "Malformed",
    "ParamsNeeded",
    "PresenceChanged",
    "PushFailed",
    "Received",
    "Replied",
    "State",
    "StateChanged",
]

State: TypeAlias = Literal["closed", "waiting", "connecting", "open"]
"""Of the connection: not wanted; lost, and to be tried again; being opened; there."""


class Connect(msgspec.Struct, frozen=True):
    """Open a connection, with parameters and a token of this moment."""


class Disconnect(msgspec.Struct, frozen=True):
    """End the connection.

    Args:
        is_dead: Nobody seems to be at the other end: do not wait for it.
    """

    is_dead: bool


class StateChanged(msgspec.Struct, frozen=True):
    """The connection is in another state.

    Args:
        state: The new one.
        reason: In words, if it was lost.
        error: Why the client has given up, if it is closed for that.
    """

    state: State
    reason: str = ""
    error: ClientError | None = None


class ParamsNeeded(msgspec.Struct, frozen=True):
    """Ask for the parameters of a join, and hand them to ``Membership.provide``.

    Args:
        membership: Whose.
        attempt: To be handed back with them.
    """

    membership: Membership
    attempt: int


class Joined(msgspec.Struct, frozen=True):
    """A join was accepted.

    Args:
        membership: Which.
        response: What the server said.
        is_rejoin: Whether it had been joined before; what was broadcast in between is missed.
    """

    membership: Membership
    response: Any
    is_rejoin: bool


class JoinFailed(msgspec.Struct, frozen=True):
    """The first join of a channel failed; it is over."""

    membership: Membership
    error: ClientError


class Ended(msgspec.Struct, frozen=True):
    """A channel that was joined is over.

    Args:
        membership: Which.
        error: Why, unless it was left, or ended by the server as it should.
        dropped_count: Messages that waited to be sent and never will.
    """

    membership: Membership
    error: ClientError | None
    dropped_count: int


class Received(msgspec.Struct, frozen=True):
    """A push or broadcast came.

    Args:
        membership: For whom.
        message: What.
        size: Bytes or characters of its frame.
    """

    membership: Membership
    message: Message
    size: int


class PresenceChanged(msgspec.Struct, frozen=True):
    """The mirror of a channel took something, even if that changed nothing."""

    membership: Membership
    changes: list[Change]


class Replied(msgspec.Struct, frozen=True):
    """A push was answered with the status ``"ok"``."""

    push: Push
    response: Any


class PushFailed(msgspec.Struct, frozen=True):
    """A push was not answered, or with another status."""

    push: Push
    error: ClientError


class Malformed(msgspec.Struct, frozen=True):
    """Something came that can't be understood, and was skipped."""

    error: Exception


Event: TypeAlias = (
    Connect
    | Disconnect
    | StateChanged
    | ParamsNeeded
    | Joined
    | JoinFailed
    | Ended
    | Received
    | PresenceChanged
    | Replied
    | PushFailed
    | Malformed
)
