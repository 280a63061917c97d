"""One message to a channel, on its way."""

from __future__ import annotations

from typing import Protocol

from roost.wire.payload import JsonPayload

__all__ = ["Push", "PushOwner"]


class PushOwner(Protocol):
    """The channel that a push is of."""

    topic: str
    join_ref: str | None

    def was_sent(self, push: Push, /) -> None:
        """A connection took it."""
        ...

    def push_timed_out(self, push: Push, /) -> None:
        """It had its time."""
        ...

    def lost(self, pushes: list[Push], /) -> None:
        """The connection is gone, and did not take these."""
        ...

    def left(self) -> None:
        """The server knows that the channel is left."""
        ...

    def forget(self, push: Push, /) -> None:
        """It is over."""
        ...


class Push:
    """One message to a channel, on its way.

    It is *unsent* until a connection takes it, and goes back to its channel if the connection ends
    before that; then it is *sent*, if a reply is wanted, and over with that.

    Attributes:
        membership: Whose.
        event: What.
        payload: Encoded.
        timeout: Seconds for the reply; None: any time.
        wants_reply: Whether anybody waits for one.
        ref: Once it was sent.
        is_over: Whether nothing is to become of it any more.
    """

    __slots__ = (
        "event",
        "is_over",
        "membership",
        "payload",
        "ref",
        "timeout",
        "wants_reply",
    )

    def __init__(
        self,
        membership: PushOwner,
        event: str,
        payload: JsonPayload | bytes,
        timeout: float | None,
        wants_reply: bool,
    ) -> None:
        self.membership = membership
        self.event = event
        self.payload = payload
        self.timeout = timeout
        self.wants_reply = wants_reply
        self.ref: str | None = None
        self.is_over = False
