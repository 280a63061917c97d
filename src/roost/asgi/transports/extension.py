"""The scope extension ``roost.websocket``: what a server that offers it does for an application.

An ASGI application cannot see the transport: each message costs it an event, a queue and a task
that waits, and each write a coroutine. A server that offers the extension lets it take a WebSocket
over, once it is accepted:

    taken = scope["extensions"]["roost.websocket"]["take"](receiver, max_size)

From then on messages come by call, those that wait already within this one, and bytes that are
framed already go straight to the transport.
RFC 6455 stays the server's work: it checks what comes, answers pings and closes, and tells the
receiver of messages, and by pings and pongs that the client is there. The application's coroutine
may return before the connection ends, and so should it: a task with the calls of all middleware,
waiting for nothing, takes kilobytes.

Extensions survive mounts and middleware that copy the scope. What is written this way bypasses
middleware that wraps ``send``, and what comes bypasses middleware that wraps ``receive``. What
middleware does after its call of the application it does while the connection is open.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from roost.asgi.types import Scope

__all__ = ["EXTENSION", "Receiver", "Take", "TakenWebSocket", "server_counters", "take_from"]

EXTENSION: Final = "roost.websocket"


class Receiver(Protocol):
    """The application's end of a WebSocket that it took over."""

    def message_received(self, data: str | bytes) -> None:
        """A message came: text as ``str``. None comes after ``connection_lost``."""
        ...

    def sign_of_life_received(self) -> None:
        """A ping or a pong came: nothing is to be done about it, but the client is there."""
        ...

    def pause_writing(self) -> None:
        """The client reads too slowly: what is written from now on will be held."""
        ...

    def resume_writing(self) -> None:
        """All that was written has been taken over by the system."""
        ...

    def connection_closing(self) -> None:
        """A close frame will be sent, by whatever cause: now is the last chance to write."""
        ...

    def connection_lost(self, code: int, reason: str) -> None:
        """The connection is gone; the close code and reason, 1005 if there was no close."""
        ...

    def server_ending(self) -> None:
        """The server ends: close soon, or be closed (1012)."""
        ...


class TakenWebSocket(Protocol):
    """The server's end of a WebSocket that was taken over."""

    def write(self, framed: bytes) -> None:
        """Send whole frames, unmasked; the server does not look at them."""
        ...

    def close(self, code: int) -> None:
        """Send a close frame, and close the connection when the client has answered it."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Take(Protocol):
    """What takes a WebSocket over."""

    def __call__(self, receiver: Receiver, max_size: int | None = None, /) -> TakenWebSocket:
        """Take it over, once it is accepted.

        Args:
            receiver: Is told from now on.
            max_size: Bytes of a message, after decompression; None for the server's own bound. A
                larger one closes the connection (1009), and no more than that is kept of it.
        """
        ...


def take_from(scope: Scope) -> Take | None:
    """What takes the WebSocket of ``scope`` over; None if the server can't do that."""
    extension = (scope.get("extensions") or {}).get(EXTENSION)
    take: Take | None = extension and extension["take"]
    return take


def server_counters(scope: Scope) -> Counter[str] | None:
    """What the server of ``scope`` refused: reason → how often; None if it does not tell."""
    extension = (scope.get("extensions") or {}).get(EXTENSION)
    counters: Counter[str] | None = extension and extension.get("counters")
    return counters
