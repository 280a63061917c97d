"""Requests that are no WebSockets: uvicorn's own HTTP protocol, with bounds before it.

uvicorn parses with httptools, which keeps a header until it is whole and copies it with each piece
that comes: whoever sends one header without an end, in small pieces, takes time that grows with its
square. Here a head is gathered first, within the bounds of ``head``, and fed at once. The parser is
also bounded in what it may take without getting on: trailers, the extensions of chunks, and a head
that came behind another request in one piece.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from roost.asgi.uvicorn.handshake import refusal
from roost.asgi.uvicorn.head import MAX_HEAD_SIZE, BadHead, Head, HeadReader
from roost.asgi.uvicorn.protocol import Protocol
from roost.asgi.uvicorn.shared import Shared

__all__ = ["BoundedHttpProtocol", "takes_websockets"]

UPGRADE_TOO_EARLY: Final = "expected an upgrade when the answers to earlier requests are there"


def takes_websockets(config: Config) -> bool:
    """Whether the server's WebSockets are ours."""
    kind = config.ws_protocol_class
    return isinstance(kind, type) and issubclass(kind, Protocol)


class BoundedHttpProtocol(HttpToolsProtocol):
    """A connection whose first request is no WebSocket.

    Args:
        config, server_state, app_state, loop: As uvicorn gives them.
        shared: By the connections of the server.
        connection: What the connection was before, which is told of its end.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
        *,
        shared: Shared,
        connection: asyncio.Protocol,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._shared = shared
        self._connection = connection
        self._reader: HeadReader | None = None  # between two requests: gathers the next head
        self._is_in_head = False  # httptools has a part of one
        self._is_between = False  # two requests
        self._stuck_size = 0  # bytes since the parser got on
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def begin(self, data: bytes) -> None:
        """The first head is whole: it begins ``data``."""
        self._feed(data)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._reader is None:
            self._feed(data)
            return
        self._unset_keepalive_if_required()
        try:
            received = self._reader.receive(data)
        except BadHead as bad:
            self._refuse(bad)
            return
        if received is None:
            self._expect_head()
            return
        head, data, size = received
        self._reader = None
        if head.wants_websocket and takes_websockets(self.config):
            self._upgrade(head, data[size:])
        else:
            self._feed(data)

    def handle_websocket_upgrade(self) -> None:
        """An upgrade came behind another request, in one piece with it."""
        if not takes_websockets(self.config):
            super().handle_websocket_upgrade()
            return
        method = self.parser.get_method()
        version = self.parser.get_http_version().encode("ascii")
        headers = [(name, value.strip()) for name, value in self.headers]
        self._upgrade(Head(method, self.url, version, headers, dict(headers)), b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)
        self._connection.connection_lost(exc)

    # What the parser says.

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stuck_size = 0
        self._expect_no_head()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._stuck_size = 0

    def on_body(self, body: bytes) -> None:
        self._stuck_size = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._stuck_size = 0
        self._is_between = True
        super().on_message_complete()

    # How.

    def _feed(self, data: bytes) -> None:
        self._stuck_size += len(data)
        self._is_between = False
        super().data_received(data)
        if self.transport.is_closing() or self.parser is None:
            return
        if self._stuck_size > MAX_HEAD_SIZE + len(data):
            self._refuse(BadHead(431, "expected less before the body, or after it"))
        elif self._is_in_head:
            self._expect_head()
        elif self._is_between:
            self._reader = HeadReader()

    def _expect_head(self) -> None:
        if self._head_timer is None:
            timeout = self._shared.admission.bounds.head_timeout
            self._head_timer = self.loop.call_later(timeout, self._too_late)

    def _expect_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_late(self) -> None:
        self._shared.admission.note("head_timeout", self.client and self.client[0])
        self._answer(BadHead(408, "expected a request head in time"))

    def _refuse(self, bad: BadHead) -> None:
        self._shared.admission.note("bad_head", self.client and self.client[0])
        self._answer(bad)

    def _answer(self, bad: BadHead) -> None:
        """Answer and close; while an earlier answer is under way, just close."""
        self._is_refused = True
        self._expect_no_head()
        if self.cycle is None or self.cycle.response_complete:
            headers = self.server_state.default_headers
            self.transport.write(refusal(bad.status, bad.reason, headers))
        self.transport.close()

    def _upgrade(self, head: Head, rest: bytes) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(BadHead(400, UPGRADE_TOO_EARLY))
            return
        self._expect_no_head()
        connection = self._connection
        assert isinstance(connection, Protocol), "it was one before its first request"
        self.parser = self.cycle = None  # type: ignore[assignment]  # which refer to each other
        self.connections.discard(self)
        self.server_state.connections.add(connection)  # type: ignore[arg-type]
        self.transport.set_protocol(connection)
        connection.open(head, rest)
