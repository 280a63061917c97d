"""What carries frames between a client and a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

import msgspec

__all__ = ["Connection", "Target", "Transport"]


class Target(msgspec.Struct, frozen=True):
    """Where to connect, at one attempt.

    Args:
        url: With all parameters.
        headers: Of the handshake.
        subprotocols: To be offered.
    """

    url: str
    headers: Mapping[str, str]
    subprotocols: Sequence[str]


class Connection(Protocol):
    """One connection that is open."""

    def frames(self) -> AsyncIterator[str | bytes]:
        """What comes, until the connection ends, for whatever reason."""
        ...

    def why_closed(self) -> str:
        """After that: why, in words."""
        ...

    async def send(self, data: str | bytes) -> None:
        """Write a frame; return when there is room for another one.

        Raises:
            ConnectionError: The connection has ended.
        """
        ...

    async def close(self) -> None:
        """Say goodbye, and wait a moment for the answer."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...


class Transport(Protocol):
    """Opens connections."""

    async def __call__(self, target: Target) -> Connection:
        """Open one.

        Raises:
            ConnectRejected: The server answered with an HTTP status.
            ConnectionError: It was not reached.
        """
        ...
