"""What the channels of a client need of it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from roost.client.inbox import Overflow
from roost.client.membership import Membership
from roost.client.options import Options
from roost.client.push import Push
from roost.exceptions import ConfigurationError
from roost.strict_json import JsonEncoder

__all__ = ["Host", "Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream of messages holds until it is read.

    Args:
        max_queue_count: Messages.
        max_queue_size: Bytes of their frames, together.
        overflow: What is dropped of a stream that is full, and then told by ``MessagesDropped``.
    """

    max_queue_count: int = 1_000
    max_queue_size: int = 16 * 1_048_576
    overflow: Overflow = "drop_oldest"

    def __post_init__(self) -> None:
        if self.max_queue_count < 1 or self.max_queue_size < 1:
            raise ConfigurationError("a stream must hold something: its bounds are at least 1")
        if self.overflow not in ("drop_oldest", "drop_newest"):
            raise ConfigurationError(
                f"overflow must be drop_oldest or drop_newest, got {self.overflow!r}"
            )


class Host(Protocol):
    """The client of some channels.

    Attributes:
        dropped_count: Messages that were read too slowly, so far.
    """

    dropped_count: int

    @property
    def options(self) -> Options:
        """How patient it is."""
        ...

    @property
    def limits(self) -> Limits:
        """What streams of messages hold until they are read."""
        ...

    @property
    def encoder(self) -> JsonEncoder:
        """Of payloads."""
        ...

    def now(self) -> float:
        """The time."""
        ...

    def check_open(self) -> None:
        """Raise if nothing can be said."""
        ...

    def add(self, membership: Membership, channel: Any) -> None:
        """A channel is joining."""
        ...

    def pump(self) -> None:
        """Carry out what the protocol has decided."""
        ...

    async def reply(self, push: Push) -> Any:
        """The response to a push."""
        ...

    async def settled(self, push: Push) -> None:
        """Wait until nothing will become of a push any more."""
        ...
