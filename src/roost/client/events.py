"""What a client's protocol says of its connection and pushes; ``membership`` has the rest."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from roost.client.exceptions import ClientError
from roost.client.push import Push

__all__ = [
    "Connect",
    "Disconnect",
    "Malformed",
    "PushFailed",
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
