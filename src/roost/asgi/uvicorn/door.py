"""The front door: an HTTP protocol class for uvicorn that bounds connections from their first byte.

It is the WebSocket protocol that begins with the request itself, so that a WebSocket is one object
from its first byte to its last: the head is parsed once, and nothing is written out for a second
parser. Whatever is no WebSocket goes on to uvicorn's own HTTP protocol (``http``).

How many connections there may be, and how long they may take for a head, says ``admission``.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.server import ServerState

from roost.asgi.uvicorn.admission import Refused
from roost.asgi.uvicorn.handshake import refusal
from roost.asgi.uvicorn.head import BadHead, Head
from roost.asgi.uvicorn.http import BoundedHttpProtocol, takes_websockets
from roost.asgi.uvicorn.protocol import LINGER_DURATION, MAX_DISCARDED_SIZE, Protocol

__all__ = ["HttpProtocol"]

RETRY_AFTER: Final = [(b"retry-after", b"5")]  # seconds
FULL: Final = BadHead(503, "The server is full.")
FULL_ANSWER: Final = refusal(FULL.status, FULL.reason, RETRY_AFTER)
TOO_LATE: Final = BadHead(408, "expected a request head in time")


class HttpProtocol(Protocol):
    """One connection; uvicorn makes it with these arguments.

    Args:
        config, server_state, app_state: As for ``Protocol``.
    """

    __slots__ = ("_address", "_is_lingering", "_takes_websockets")

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._takes_websockets = takes_websockets(config)
        self._address: str | None = None  # that it counts for
        self._is_lingering = False  # refused, and given time to read why

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        try:
            self._address = self._shared.admission.made(self)
        except Refused:
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        admission = self._shared.admission
        admission.lost(self, self._address)
        if self._is_lingering:
            admission.lingered()
        super().connection_lost(exc)

    def head_received(self, head: Head, data: bytes, size: int) -> None:
        admission = self._shared.admission
        admission.waits_no_more(self)
        if not (head.wants_websocket and self._takes_websockets):
            self._hand_over(data)
            return
        if self._address is None:
            try:
                self._address = admission.came_by_proxy(self, head)
            except Refused:
                self._refuse()
                return
        self.open(head, data[size:])

    def reject(self, bad: BadHead, headers: Any = ()) -> None:
        self._shared.admission.waits_no_more(self)
        super().reject(bad, headers)

    def too_late(self) -> None:
        """The head did not come in time."""
        self._shared.admission.note("head_timeout", self.host)
        self._head_reader = None
        self.reject(TOO_LATE)

    def _refuse(self) -> None:
        """It is one too many: say so if there is a file to spare for the time it takes to read."""
        self._head_reader = None
        self._has_ended = True
        self._discardable_size = MAX_DISCARDED_SIZE
        self._transport.write(FULL_ANSWER)
        if self._shared.admission.may_linger():
            self._is_lingering = True
            self.close_after_reading(LINGER_DURATION)
        else:
            self._transport.abort()

    def _hand_over(self, data: bytes) -> None:
        self._head_reader = None
        self._server_state.connections.discard(self)
        http = BoundedHttpProtocol(
            self._config,
            self._server_state,
            self._app_state,
            self._loop,
            shared=self._shared,
            connection=self,
        )
        self._transport.set_protocol(http)
        http.connection_made(self._transport)
        http.begin(data)
